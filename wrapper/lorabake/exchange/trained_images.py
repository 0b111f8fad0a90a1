"""The images that the user names, compared with those that a trainer counted, and what both show of the captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lorabake.analysis.caption_summary import CaptionSummary, find_trigger, summarize_captions
from lorabake.analysis.draft_base import choose_styles
from lorabake.analysis.draft_concepts import Answers, draft_concepts
from lorabake.exchange.draft import KeyPath
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.exchange.report import write_path
from lorabake.inputs import clip_tokens
from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_captions
from lorabake.inputs.image_tree import FoundDataset, FoundFolder
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionProblem, FolderFacts
from lorabake_schemas.guide.caption_settings import NO_CAPTION_EXTENSION
from lorabake_schemas.guide.folder_names import FolderName
from lorabake_schemas.guide.tags import split_tags
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import Message, literal, msg, nmsg, shorten_list

_MOST_TAGS = 4  # in a line
_MAX_WORD = 100  # characters of a token that is guessed
_WILDCARD = frozenset("{}|")


class Remark(NamedTuple):
    """What has to be checked about the folder ``images`` of a concept: its key, the value there, and why."""

    images: OptionValue
    key: str
    value: str
    why: Message


class _Folder(NamedTuple):
    """A folder of training images with what is known of it; ``facts`` only of one that the user named."""

    part: ForeignSubset
    facts: FolderFacts | None

    def get(self, option: str) -> OptionValue | None:
        given = self.part.options.get(option)
        return given.value if given and isinstance(given.value, str | int | float | tuple) else None

    def remark(self, key: str, value: str, why: Message) -> Remark:
        return Remark(self.get("image_dir") or "", key, value, why)


def complete_images(
    config: ForeignConfig, source: Source, *, faithful: bool
) -> tuple[ForeignConfig, tuple[Remark, ...]]:
    """With a token where the source has none and the captions show one (not if ``faithful``: images without a caption
    would get it as theirs), and without captions where the training had none; and what has to be checked about that."""
    remarks = list[Remark]()
    datasets = list[ForeignDataset]()
    for block in config.datasets:
        subsets = list[ForeignSubset]()
        for part in block.subsets:
            found = part if part.is_reg else _complete(_look_at(part, source), remarks, guesses=not faithful)
            subsets.append(found)
        datasets.append(replace(block, subsets=tuple(subsets)))
    return replace(config, datasets=tuple(datasets)), tuple(dict.fromkeys(remarks))


def name_remarks(remarks: Sequence[Remark], concepts: Sequence[Mapping[str, Any]]) -> Iterator[ImportedKey]:
    """Lines for the keys of the concepts as the recipe has them."""
    for images, key, value, why in remarks:
        at = next((at for at, each in enumerate(concepts) if each.get("images") == images), 0)
        path = write_path(("concept", at, key))
        yield ImportedKey(key=path, value=value, fate="unknown", to=path, why=why)


def find_sentences(content: Mapping[str, Any], folder: Path) -> list[KeyPath]:
    """The keys of tags that are "natural", as `init` concludes from the captions of images that are on this machine;
    relative paths of the recipe are seen from ``folder``."""
    summaries = [_summarize(each, content, folder) for each in content["concept"]]
    natural = [summary.natural for summary in summaries]
    model = str(content.get("base", {}).get("model", ""))
    if all(natural) and choose_styles(model, {summary.style for summary in summaries}) == ("natural",):
        return [("base", "tags")]
    return [("concept", at, "tags") for at, is_natural in enumerate(natural) if is_natural]


def _summarize(concept: Mapping[str, Any], content: Mapping[str, Any], folder: Path) -> CaptionSummary:
    if concept.get("captions") == "none" or "metadata_file" in concept:
        return CaptionSummary()
    shared = content.get("captions", {})
    extension, wildcard = (concept.get(key, shared.get(key)) for key in ("caption_extension", "enable_wildcard"))
    asked = ImageFolder(folder / str(concept["images"]), str(extension or CAPTION_EXTENSION), wildcard=wildcard is True)
    (facts,) = scan_captions([asked], ScanOptions())
    return summarize_captions(facts, clip_tokens.is_known_word)


def _look_at(part: ForeignSubset, source: Source) -> _Folder:
    known = _Folder(part, None)
    place = known.get("image_dir")
    if source.images is None or not isinstance(place, str) or not Path(place).is_relative_to(source.images):
        return known
    extension = known.get("caption_extension")
    asked = ImageFolder(
        Path(place),
        extension if isinstance(extension, str) and extension else CAPTION_EXTENSION,
        wildcard=known.get("enable_wildcard") is True,
    )
    (facts,) = scan_captions([asked], ScanOptions())
    return _Folder(part, facts if facts.images else None)


def _complete(folder: _Folder, remarks: list[Remark], *, guesses: bool) -> ForeignSubset:
    part = folder.part
    options = dict(part.options)
    if "metadata_file" in options:
        return part
    if guesses and "class_tokens" not in options and (found := _find_words(folder)):
        words, why = found
        options["class_tokens"] = Given(value=words, keys=())
        token, _, class_ = words.partition(",")
        remarks.append(folder.remark("token", token, why))
        if class_:
            remarks.append(folder.remark("class", class_.strip(), why))
    if _had_no_captions(folder) and "caption_extension" not in options:
        if folder.facts and any(image.caption.text for image in folder.facts.images):
            why = msg("the LoRA was trained without captions, but this folder has some, which are used")
            remarks.append(folder.remark("captions", "", why))
        else:
            options["caption_extension"] = Given(value=NO_CAPTION_EXTENSION, keys=())
            why = msg("the LoRA was trained without captions, by the counts of its tags")
            remarks.append(folder.remark("captions", "none", why))
    difference = _compare(folder, folder.facts) if folder.facts else None
    if difference is not None:
        remarks.append(folder.remark("images", Path(str(folder.get("image_dir"))).name, difference))
    return replace(part, options=options)


def _find_words(folder: _Folder) -> tuple[str, Message] | None:
    """Token and class as class_tokens, and where they are from: the prefix of all captions, else the captions that are
    here, else those that were counted."""
    prefix = CaptionSummary(front=tuple(split_tags(str(folder.get("caption_prefix") or ""))))
    if token := _find_token(prefix, at_start=True):
        return join_words(token), msg("a guess, by caption_prefix")
    if folder.facts:
        summary = summarize_captions(folder.facts, clip_tokens.is_known_word)
        if token := _find_token(summary, at_start=True):
            words = join_words(token, _find_class(folder.facts, token))
            return words, msg("a guess, by the captions in this folder")
    counted = folder.part.counted
    if counted and counted.tags is not None and counted.images > 1:
        shared = tuple(tag for tag, count in counted.tags.items() if count == counted.images)
        at_start = shared[:1] == tuple(counted.tags)[:1]  # sd-scripts counts tags as it meets them
        if token := _find_token(CaptionSummary(front=shared), at_start=at_start):
            return join_words(token), msg("a guess, by the tags that all captions of the training had")
    return None


def _find_token(summary: CaptionSummary, *, at_start: bool) -> str | None:
    """As ``init`` finds it, but what all captions start with may also be a word that CLIP knows."""
    first = replace(summary, front=summary.front[:1], words=())
    found = find_trigger(first, lambda _word: False) if at_start else None
    found = found or find_trigger(summary, clip_tokens.is_known_word)
    usable = found and found.isprintable() and len(found) <= _MAX_WORD and not _WILDCARD & set(found)
    return found if usable else None


def _find_class(facts: FolderFacts, token: str) -> str | None:
    """What follows the token in all captions, if it is a class."""
    path = Path(facts.path)
    found = FoundDataset(path, (FoundFolder(path, FolderName(), facts),), (), Counter())
    (draft,) = draft_concepts(found, Answers(token=token), clip_tokens.is_known_word)
    return draft.class_


def join_words(token: str, class_: str | None = None) -> str:
    """As class_tokens: with a comma where a space in the token would end it."""
    return f"{token}, {class_}" if class_ else f"{token}," if " " in token else token


def _had_no_captions(folder: _Folder) -> bool:
    """sd-scripts counts the class tokens as the caption of an image that has none (TU:1990-2003)."""
    counted = folder.part.counted
    if counted is None or counted.tags is None:
        return False
    return counted.tags == _count_tags([str(folder.get("class_tokens") or "")] * counted.images)


def _count_tags(captions: Sequence[str]) -> Counter[str]:
    """As sd-scripts does (TU:800)."""
    return Counter(tag.strip().lower() for text in captions for tag in text.split(",") if tag.strip())


def _compare(folder: _Folder, facts: FolderFacts) -> Message | None:
    """What differs from the folder that was trained on: its images and repeats, else its tags."""
    counted, here = folder.part.counted, len(facts.images)
    if counted is None:
        return None
    repeats = folder.get("num_repeats") or 1
    if repeats != counted.repeats or not counted.images <= here <= counted.images + counted.spare:
        said = nmsg(
            counted.images,
            'the LoRA was trained on {n} image of "{name}" (num_repeats {repeats}); '
            "this folder has {here} (num_repeats {own})",
            'the LoRA was trained on {n} images of "{name}" (num_repeats {repeats}); '
            "this folder has {here} (num_repeats {own})",
            name=literal(counted.name), repeats=counted.repeats, here=here, own=str(repeats),
        )  # fmt: skip
        return said if counted.tags is None else msg("{said}, so their tags were not compared", said=said)
    captions = [image.caption for image in facts.images]
    same_kind = any(each.text for each in captions) and not _had_no_captions(folder)
    if counted.tags is None or counted.spare or folder.get("enable_wildcard") or not same_kind:
        return None
    bare = str(folder.get("class_tokens") or "")
    texts = [bare if each.problem is CaptionProblem.MISSING else each.text for each in captions]
    before, now = Counter(counted.tags), _count_tags(texts)
    changed = [tag for tag in {**before, **now} if before[tag] != now[tag]]
    if not changed:
        return None
    shown = shorten_list(changed, _MOST_TAGS, literal)
    return msg("as many images as the LoRA was trained on, but the counts of these tags differ: {tags}", tags=shown)
