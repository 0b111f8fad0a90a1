"""OneTrainer's concepts and samples: in the configuration, or in JSON files next to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, cast

from lorabake.exchange.convert import to_switch, to_text, to_whole
from lorabake.exchange.foreign import ForeignSubset, Given
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.one_trainer.keys import SAMPLERS, UNKNOWN
from lorabake.exchange.reading import flatten, refuse_lost_text
from lorabake.exchange.repeated_keys import list_repeated_keys
from lorabake.recipe.foreign import decode_text
from lorabake.util import files
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.exchange.foreign import Source

Sizes = tuple[tuple[tuple[int, int], tuple[str, ...]], ...]
_OFF = msg("the concept is switched off")
_SAME = msg("as in sd-scripts")
_AUGMENT = msg("sd-scripts has no such change of images")
_VARIANTS = msg("OneTrainer keeps several variants in its cache; sd-scripts varies captions in each epoch")
_CAPTIONS = msg("sd-scripts has no such change of captions")
_LABEL = msg("OneTrainer's name for the folder; write the trigger word as token under [[concept]]")
_OWN_FOLDERS = (("training_concepts",), ("training_samples",))  # next to training_presets, the configurations' own
_LIMIT = 8 << 20  # bytes of a file of concepts or samples


@dataclass(frozen=True, slots=True)
class Concepts:
    """Folders by the resolution that they have to themselves, None for that of the configuration."""

    by_resolution: tuple[tuple[Sizes | None, tuple[ForeignSubset, ...]], ...]


def read_concepts(source: Source, inner: object, file_name: str, key: str, ledger: Ledger) -> Concepts:
    """The concepts of a configuration, whose ``key`` names their file, and their lines in its ``ledger``."""
    listed = _find_list(source, "concepts", inner, file_name, key, ledger)
    _note_damaged(source, "concepts", inner, ledger)
    if listed is None:
        said = msg("the file of concepts is not next to the configuration; put it there, or add them by hand")
        ledger.lines.append(ImportedKey(key="concepts", fate="dropped", why=said))
        return Concepts(())
    groups: dict[Sizes | None, list[ForeignSubset]] = {}
    for index, concept in enumerate(listed):
        if not isinstance(concept, dict):
            continue
        own = Ledger(flatten(source, {f"concepts[{index}]": concept}))
        own.drop_empty_and_secret()
        read = _Concept(own, f"concepts[{index}].")
        subset = read.read()
        if subset is not None:
            groups.setdefault(read.find_own_sizes(), []).append(subset)
        own.settle_rest(UNKNOWN)
        ledger.lines += own.lines
    return Concepts(tuple((sizes, tuple(subsets)) for sizes, subsets in groups.items()))


def _note_damaged(source: Source, name: str, value: object, ledger: Ledger) -> None:
    """Lines for what should be a list of tables and is not, in whole or in part."""
    values = flatten(source, {name: value}) if value is not None else {}
    items = enumerate(cast("list[object]", value)) if isinstance(value, list) else ()
    starts = tuple(f"{name}[{index}]" for index, item in items if isinstance(item, dict))
    own = Ledger({key: part for key, part in values.items() if key.partition(".")[0] not in starts})
    own.drop_empty_and_secret()
    own.drop(msg("it has no keys"), *own.list_open())
    ledger.lines += own.lines


def _find_list(
    source: Source, name: str, inner: object, file_name: str, key: str, ledger: Ledger
) -> list[object] | None:
    """The list in the configuration, else that of the file that its ``key`` names, and the line of that key."""
    if isinstance(inner, list):
        ledger.drop(msg("the configuration has its own list, so this file was not read"), key)
        return cast("list[object]", inner)
    for path in _list_places(source.path, file_name):
        try:
            own = replace(source, path=path, content=files.read_bytes(path, _LIMIT))
            refuse_lost_text(own, decode_text(own.content))
            found = files.parse_json(decode_text(own.content))
        except (OSError, ValueError):
            continue
        if isinstance(found, list):
            ledger.drop(msg("it names a file that is read with the configuration"), key)
            ledger.lines += list_repeated_keys(own, "one-trainer", name)
            return cast("list[object]", found)
    ledger.drop(msg("the file was not read: it is not next to the configuration, or contains no list"), key)
    return None


def _list_places(config: Path, file_name: str) -> list[Path]:
    """Where a file is that the configuration names: next to it, below its folder, or in OneTrainer's own folder for it.

    An absolute path is of another machine, and a file may come from a stranger: nothing else is opened.
    """
    named = PureWindowsPath(file_name)  # both kinds of slashes
    if not named.name or ".." in named.parts:
        return []
    places = [config.parent / named.name]
    if not named.anchor:
        places.append(config.parent.joinpath(*named.parts))
        if named.parts[:-1] in _OWN_FOLDERS:
            places.append(config.parent.parent.joinpath(*named.parts))
    return places


class _Concept:
    """One concept: a folder with its captions and changes."""

    def __init__(self, ledger: Ledger, start: str) -> None:
        self.ledger = ledger
        self.start = start
        self.options: dict[str, Given] = {}

    def key(self, name: str) -> str:
        return self.start + name

    def switch(self, name: str, *, default: bool = False) -> bool:
        value = to_switch(self.ledger.get(self.key(name)))
        return default if value is None else value

    def text(self, name: str) -> str:
        return to_text(self.ledger.get(self.key(name))) or ""

    def number(self, name: str, default: float) -> float:
        found = self.ledger.read_number(self.key(name))
        return default if found is None else found

    def drop(self, why: Message, *names: str) -> None:
        self.ledger.drop(why, *map(self.key, names))

    def same(self, *names: str) -> None:
        self.ledger.note("default", _SAME, *map(self.key, names))

    def give(self, option: str, value: bool | int | float | str, *names: str, repair: Message | None = None) -> None:
        keys = tuple(key for name in names if self.ledger.has(key := self.key(name)))
        self.ledger.give(option, value, *keys, repair=repair, into=self.options)

    def read(self) -> ForeignSubset | None:
        """The folder; None if nothing is trained on it."""
        if not self.switch("enabled", default=True):
            self.ledger.drop(_OFF, *self.ledger.list_open(self.start))
            return None
        kind = self.text("type") or ("VALIDATION" if self.switch("validation_concept") else "STANDARD")
        if kind != "STANDARD":
            why = msg("sd-scripts has no concepts of the kind {kind}", kind=kind)
            self.ledger.drop(why, *self.ledger.list_open(self.start))
            return None
        self.same("enabled", "type", "validation_concept")
        self.drop(_LABEL, "name")
        self.give("image_dir", self.text("path"), "path")
        if self.switch("include_subdirectories"):
            why = msg("sd-scripts does not look into subfolders; write a [[concept]] for each of them")
            self.drop(why, "include_subdirectories")
        self.same("include_subdirectories")
        self._read_repeats()
        self._read_captions()
        self._read_images()
        self.drop(msg("sd-scripts has one seed for everything"), "seed")
        self.drop(_VARIANTS, "image_variations", "text_variations")
        self.drop(msg("a count of images that OneTrainer keeps"), *self._list_names("concept_stats"), "__version")
        if self.number("loss_weight", 1) != 1:
            self.drop(msg("sd-scripts has no weight for a folder; num_repeats is the nearest"), "loss_weight")
        self.same("loss_weight")
        return ForeignSubset(options=self.options)

    def _list_names(self, table: str) -> list[str]:
        return [key.removeprefix(self.start) for key in self.ledger.list_open(self.key(table))]

    def _read_repeats(self) -> None:
        """Repeats, or a number of images for each epoch, which depends on how many there are."""
        name = "balancing" if self.ledger.has(self.key("balancing")) else "repeats"
        amount = self.number(name, 1)
        if self.text("balancing_strategy") == "SAMPLES":
            why = msg("OneTrainer draws this many images for each epoch; write num_repeats under [[concept]] by hand")
            self.give("num_repeats", 1, name, "balancing_strategy", repair=why)
            return
        whole = max(1, int(amount + 0.5)) if 0 <= amount < 1e6 else 1
        rounded = msg("sd-scripts repeats images a whole number of times")
        self.give("num_repeats", whole, name, repair=None if whole == amount else rounded)
        self.same("balancing_strategy")

    def _read_captions(self) -> None:
        source = self.text("text.prompt_source") or "sample"
        if source == "sample":
            self.give("caption_extension", ".txt", "text.prompt_source")
        elif source == "filename":
            self.drop(
                msg("sd-scripts has no captions from file names; write them into text files"), "text.prompt_source"
            )
        else:
            why = msg("sd-scripts has no captions from one list of prompts; write a text file for each image")
            self.drop(why, "text.prompt_source", "text.prompt_path")
        self.drop(msg("captions are in a text file next to each image"), "text.prompt_path")
        shuffled = self.switch("text.enable_tag_shuffling")
        dropout = self.number("text.tag_dropout_probability", 0) if self.switch("text.tag_dropout_enable") else 0
        mode = self.text("text.tag_dropout_mode") or "FULL"
        self.give("shuffle_caption", shuffled, "text.enable_tag_shuffling")
        if 0 < dropout <= 1:
            option = "caption_dropout_rate" if mode == "FULL" else "caption_tag_dropout_rate"
            self.give(
                option, dropout, "text.tag_dropout_probability", "text.tag_dropout_enable", "text.tag_dropout_mode"
            )
        if shuffled or dropout:
            self.give("keep_tokens", int(self.number("text.keep_tags_count", 1)), "text.keep_tags_count")
            if (mark := self.text("text.tag_delimiter")) not in {"", ","}:
                self.give("caption_separator", mark, "text.tag_delimiter")
        self.drop(msg("tags are neither shuffled nor dropped"), "text.keep_tags_count")
        tags = ("text.tag_dropout_enable", "text.tag_dropout_mode", "text.tag_dropout_probability")
        self.same("text.tag_delimiter", *tags)
        self.drop(_CAPTIONS, *self._list_names("text"))

    def _read_images(self) -> None:
        if self.switch("image.enable_random_flip"):
            self.give("flip_aug", True, "image.enable_random_flip")
        self.same("image.enable_random_flip")
        if not self.switch("image.enable_resolution_override"):
            self.drop(msg("the concept has the resolution of the configuration"), "image.resolution_override")
            self.same("image.enable_resolution_override")
        crop = "image.enable_crop_jitter"
        self.drop(msg("sd-scripts crops the middle of an image, unless latents are not cached"), crop)
        for name in self._list_names("image"):
            if not name.endswith(("resolution_override", "__version")):
                value = self.ledger.get(self.key(name))
                is_on = to_switch(self.ledger.get(self.key(_find_switch(name)))) or to_switch(value)
                self.ledger.note("dropped" if is_on else "default", _AUGMENT if is_on else _SAME, self.key(name))
        self.drop(msg("the version of the file"), "image.__version", "text.__version")

    def find_own_sizes(self) -> Sizes | None:
        """The resolutions that only this concept has."""
        names = ("image.resolution_override", "image.enable_resolution_override")
        if not self.switch(names[1]):
            return None
        sizes = parse_resolutions(self.text(names[0]))
        if not sizes:
            self.drop(msg("not a resolution"), *names)
            return None
        self.ledger.settle(*map(self.key, names))
        return tuple((size, tuple(map(self.key, names))) for size in sizes)


def _find_switch(name: str) -> str:
    """The switch of an image change that a strength belongs to."""
    change = name.rpartition(".")[2].removesuffix("_max_strength").removesuffix("_max_angle")
    return f"image.enable_{change}"


def parse_resolutions(text: str) -> tuple[tuple[int, int], ...]:
    """ "512", "512,768" and "512x768" as OneTrainer reads them: a size for each comma; empty if one is not a size."""
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        numbers = [to_whole(number) for number in part.lower().split("x")]
        sides = [number for number in numbers if number and 0 < number < 100_000]
        if len(sides) != len(numbers) or len(sides) > 2:
            return ()
        found.append((sides[0], sides[-1]))
    return tuple(found)


def read_samples(
    source: Source, inner: object, file_name: str, key: str, ledger: Ledger
) -> tuple[tuple[str, ...], str | None]:
    """Prompts as sd-scripts has them, one in a line with its settings, and the first one's sampler."""
    lines: list[str] = []
    sampler: str | None = None
    listed = _find_list(source, "samples", inner, file_name, key, ledger)
    _note_damaged(source, "samples", inner, ledger)
    for index, sample in enumerate(listed or []):
        if not isinstance(sample, dict):
            continue
        own = Ledger(flatten(source, {f"samples[{index}]": sample}))
        own.drop_empty_and_secret()
        line = _write_prompt(own, f"samples[{index}].")
        if line is not None:
            lines.append(line)
            sampler = sampler or SAMPLERS.get(to_text(own.get(f"samples[{index}].noise_scheduler")) or "")
            own.note("computed", None, f"samples[{index}].noise_scheduler", to="sample.sample_sampler")
        own.drop(msg("sd-scripts' prompts have no such setting"), *own.list_open())
        ledger.lines += own.lines
    return tuple(lines), sampler


def _write_prompt(own: Ledger, start: str) -> str | None:
    prompt = " ".join((to_text(own.get(start + "prompt")) or "").split())
    if to_switch(own.get(start + "enabled")) is False or not prompt:
        own.drop(msg("the sample is switched off, or has no prompt"), *own.list_open(start))
        return None
    marks = [("n", "negative_prompt"), ("w", "width"), ("h", "height"), ("s", "diffusion_steps"), ("l", "cfg_scale")]
    if not to_switch(own.get(start + "random_seed")):
        marks.append(("d", "seed"))
    for mark, name in marks:
        value = " ".join((to_text(own.get(start + name)) or "").split())
        prompt += f" --{mark} {value}" if value else ""
    names = ("prompt", *(name for _, name in marks), "random_seed", "enabled")
    own.note("computed", msg("one line of sample.prompts"), *(start + name for name in names), to="sample.prompts")
    return prompt
