"""A file of another program, as its reader understands it, to a recipe that trains the same, and a report."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from lorabake.errors import RecipeError
from lorabake.exchange.base_search import describe_search, find_base_model, is_model_folder, list_models
from lorabake.exchange.draft import (
    PLACEHOLDER_MODEL,
    Draft,
    KeyPath,
    build_draft,
    clean_name,
    read_values,
)
from lorabake.exchange.folders import find_folders
from lorabake.exchange.foreign import UNSET, ForeignConfig, Source
from lorabake.exchange.reading import make_error
from lorabake.exchange.report import BASICS, SECRET, Outcome, report_added, report_keys, write_path
from lorabake.exchange.simplify import Raw, get_value, remove_refused, simplify
from lorabake.exchange.stand_ins import list_stand_ins, train_on
from lorabake.exchange.trained import TrainerFacts
from lorabake.exchange.trained_images import complete_images, find_sentences, name_remarks
from lorabake.inputs.base_model import inspect_base_model
from lorabake.util import resources
from lorabake.util.files import is_folder
from lorabake_schemas.base import OptionValue
from lorabake_schemas.families.known_models import guess_family
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.families.registry import DEFAULT_FAMILY, find_family_of_run, get_family, list_families
from lorabake_schemas.import_report import ImportedKey, ImportReport
from lorabake_schemas.inspection import BaseModelInfo
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.values import format_value

_MAX_NAMES = 4  # keys in a line
# Files that only scripts for FLUX, SD3, Lumina, HunyuanImage and Anima take (library/*_train_utils.py).
_FILES_OF_OTHER_MODELS = ("t5xxl", "clip_l", "clip_g", "ae", "gemma2", "qwen3", "byt5")
_STYLE_NAMES = re.compile(r"style|artist|estilo", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImportedRecipe:
    """A recipe's content for ``write_recipe``, with its comments, and the report."""

    content: Raw
    head: tuple[Message, ...]
    comments: Mapping[KeyPath, Message]
    report: ImportReport


def make_recipe(config: ForeignConfig, source: Source, *, faithful: bool = False) -> ImportedRecipe:
    """The shortest recipe that trains what ``config`` trains; ``faithful`` takes what its program would really do.

    Raises RecipeError for one that trains another kind of model.
    """
    _refuse_other_models(config, source)
    missing = list(config.missing)
    family = _find_family(config, source, missing)
    snapshot = resources.load_snapshot()
    options = {option.name: option for option in snapshot.of(family.script)}
    trainer = TrainerFacts(options, snapshot.dataset, snapshot.signatures, family)
    config = replace(config, datasets=find_folders(config, source, missing))
    config, remarks = complete_images(config, source, faithful=faithful)
    if config.complete and "network_module" not in config.options:
        why = msg("the source does not name a network")
        missing.append(ImportedKey(key="network.type", value="lora", fate="unknown", to="network.type", why=why))
    config = _note_samples(config)
    draft = build_draft(config, trainer, faithful=faithful)
    missing += name_remarks(remarks, draft.content["concept"])
    missing += _note_own_text(draft, source, {name for line in missing for name in line.key.split(", ")})
    _put_basics(draft, config, source, missing)
    sentences = find_sentences(draft.content, source.path.parent)
    for path in sentences:
        draft.put(path, "natural")
        key, why = write_path(path), msg("a guess, by the captions in this folder")
        missing.append(ImportedKey(key=key, value="natural", fate="unknown", to=key, why=why))
    if any(path[0] == "regularization" and path[-1] == "class" for path in draft.defaults):
        why = msg("the source does not name it; it is the caption of images that have none")
        key = "regularization.class"
        missing.append(ImportedKey(key=key, value="class", fate="unknown", to=key, why=why))
    for path in dict.fromkeys(draft.secrets):
        key = write_path(path)
        missing.append(ImportedKey(key=key, fate="dropped", to=key, why=SECRET))
    refused = remove_refused(draft)
    continued = "network_weights" in draft.content.get("network", {})
    kept = [path for path in draft.origins if path in sentences or _is_kept(path, draft, continued=continued)]
    content = simplify(draft.content, trainer, draft.defaults, kept)
    trained = train_on(content, list_stand_ins(content), trainer)
    outcome = Outcome(content, refused, trained[0] if trained else None)
    typed = list_typed(draft, source)
    open_ends = {line.to for line in missing}
    placeholders = {path for path in draft.origins if write_path(path) in open_ends}
    keys = tuple(report_keys(config, draft, outcome, trainer))
    named = {line.to for line in keys}
    typed_or_named = typed | placeholders | {path for path in draft.defaults if write_path(path) in named}
    report = ImportReport(
        source=str(source.path),
        format=config.format,
        faithful=faithful,
        keys=keys,
        added=tuple(report_added(config, draft, outcome, typed_or_named)) if config.complete else (),
        missing=tuple(missing),
    )
    head = _write_head(config, source, missing)
    return ImportedRecipe(content, head, _comment_keys(draft, content, missing, typed), report)


def _is_kept(path: KeyPath, draft: Draft, *, continued: bool) -> bool:
    """Keys whose default depends on what no stand-in shows: the number of images, or the LoRA to continue from."""
    if not draft.origins[path]:
        return False
    several = len(draft.content.get("concept", ())) > 1
    return (
        path == ("save", "save_every_n_epochs")
        or (path[0] == "concept" and path[-1] == "num_repeats" and several)
        or (continued and path[0] == "network")
    )


def _refuse_other_models(config: ForeignConfig, source: Source) -> None:
    given = {name: found.value for name, found in config.options.items()}
    network = resources.load_snapshot().signatures.networks.get(str(given.get("network_module", "")))
    shown = [name for name in _FILES_OF_OTHER_MODELS if given.get(name)]
    if network is not None and not network.sd:
        shown.insert(0, "network_module")
    if shown:
        setting = f"{shown[0]} = {format_value(given[shown[0]])}"
        said = msg("{setting} trains a model other than Stable Diffusion 1.5, 2 and SDXL", setting=setting)
        raise make_error(source, said)


def _find_family(config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> ModelFamily:
    """By the script and its options, the model's file or name, without one the source's, else by the size of the
    images."""
    values = {name: found.value for name, found in read_values(config.options, faithful=False).items()}
    run = find_family_of_run([config.script or ""], values)
    if config.script is not None or run.script_options:
        return run
    model = str(source.model or values.get("pretrained_model_name_or_path", ""))
    known = inspect_base_model(model, source.path.parent, None).family if model else None
    if known:
        return get_family(known)
    named = guess_family(model or source.path.stem)
    family = get_family(named) if named else _guess_family_of_options(values, config)
    why = msg("the source does not name the script; the family is a guess")
    missing.append(ImportedKey(key="base.family", value=family.name, fate="unknown", to="base.family", why=why))
    return family


def _guess_family_of_options(values: Mapping[str, OptionValue], config: ForeignConfig) -> ModelFamily:
    """That of the only script with these options, else the one whose usual size is next below that of the images."""
    scripts = {
        script: {option.name for option in options} for script, options in resources.load_snapshot().scripts.items()
    }
    used = {name for name, value in values.items() if value not in {False, ""}}
    able = [script for script, names in scripts.items() if used & set().union(*scripts.values()) <= names]
    families = [each for each in list_families() if not each.script_options]
    if len(able) == 1:
        return next(each for each in families if each.script == able[0])
    written = [str(values.get("resolution", ""))]
    written += [str(block.options["resolution"].value) for block in config.datasets if "resolution" in block.options]
    side = max((int(number) for text in written for number in re.findall(r"[0-9]{2,5}", text)), default=0)
    default = get_family(DEFAULT_FAMILY)
    fitting = [each for each in families if each.guide.resolution.value <= side]
    return max(fitting, key=lambda each: each.guide.resolution.value, default=default)


def _note_samples(config: ForeignConfig) -> ForeignConfig:
    """Prompts without an interval make no samples in sd-scripts."""
    prompts = config.options.get("sample_prompts")
    times = (config.options.get(f"sample_{when}") for when in ("every_n_epochs", "every_n_steps", "at_first"))
    asked = any(each and each.value and each.value is not UNSET for each in times)
    if prompts is None or prompts.repair or asked or not config.complete:
        return config
    why = msg("without an interval it made no samples; the recipe makes them as often as a LoRA is saved")
    return replace(config, options={**config.options, "sample_prompts": replace(prompts, repair=why)})


def _put_basics(draft: Draft, config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> None:
    named = draft.values.get("output_name")
    name = clean_name(str(named.value) if named and named.value else config.name or source.path.stem)
    draft.put(("name",), name, named and named.given)
    text = " ".join(str(each.get("class", "")) + " " + str(each.get("token", "")) for each in draft.content["concept"])
    kind = "style" if _STYLE_NAMES.search(f"{text} {name}") else "character"
    draft.put(("kind",), kind)
    assumed = msg("no other program has it; change it if something else is trained")
    missing.append(ImportedKey(key="kind", value=kind, fate="unknown", to="kind", why=assumed))
    if source.model is not None and not _is_searched(source.model, draft, missing):
        given = draft.values.get("pretrained_model_name_or_path")
        draft.put(("base", "model"), str(source.model), given and given.given)
    elif not get_value(draft.content, ("base", "model")):
        draft.put(("base", "model"), PLACEHOLDER_MODEL)
        why = msg("the source does not name the base model")
        missing.append(ImportedKey(key="base.model", value=PLACEHOLDER_MODEL, fate="unknown", to="base.model", why=why))


def _is_searched(place: Path, draft: Draft, missing: list[ImportedKey]) -> bool:
    """Whether the user named a folder of models in which the reader, or this, finds the one that the file names."""
    named = str(get_value(draft.content, ("base", "model")) or "")
    if not is_folder(place) or is_model_folder(place):
        return False
    if named and Path(named).is_relative_to(place):
        return True
    if named and (found := find_base_model(BaseModelInfo(name=named), [place], smallest=0)):
        draft.put(("base", "model"), str(found.path))
        return True
    if not named and (models := list_models(place)):
        draft.put(("base", "model"), str(_choose_only(models, place)))
        why = msg("the source does not name the base model; this is the only one in {folder}", folder=str(place))
        missing[:] = [line for line in missing if line.to != "base.model"]
        missing.append(ImportedKey(key="base.model", value=str(models[0]), fate="unknown", to="base.model", why=why))
        return True
    if not named:
        draft.put(("base", "model"), PLACEHOLDER_MODEL)
    if not any(line.to == "base.model" for line in missing):
        value, why = named or PLACEHOLDER_MODEL, describe_search(place)
        missing.append(ImportedKey(key="base.model", value=value, fate="unknown", to="base.model", why=why))
    return True


def _choose_only(found: Sequence[Path], place: Path) -> Path:
    """Raises RecipeError for several models, of which the source names none."""
    if len(found) > 1:
        names = shorten_list(found, _MAX_NAMES, lambda path: literal(path.name))
        said = msg(
            "the source does not name the base model, and {folder} contains several: {names}",
            folder=str(place),
            names=names,
        )
        raise RecipeError(said, hint=msg("pass one of them: --model FILE"))
    return found[0]


# Text that its author wrote for the images of the source.
_OWN_TEXT = {
    "sample": ("prompts",),
    "captions": ("caption_prefix", "caption_suffix"),
    "concept": ("caption_prefix", "caption_suffix"),
    "metadata": ("title", "description", "tags", "usage_hint", "trigger_phrase", "comment"),
}


def _note_own_text(draft: Draft, source: Source, listed: Collection[str]) -> Iterator[ImportedKey]:
    """What is taken over although the user named other images: it may contain the trigger word of the old ones.

    ``listed`` are the keys that have a line already.
    """
    why = msg("written for the images of the source; it may contain their trigger word")
    for path, origins in draft.origins.items() if source.images is not None else ():
        if path[-1] in _OWN_TEXT.get(str(path[0]), ()) and any(given.keys for given in origins):
            key, value = write_path(path), get_value(draft.content, path)
            if key in listed:
                continue
            yield ImportedKey(key=key, value=str(value), fate="unknown", to=key, why=why)


def _write_head(config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> tuple[Message, ...]:
    name = PureWindowsPath(source.path.name).name
    head = [msg("Imported by `lorabake import` from {file} ({program}).", file=name, program=config.program)]
    open_ends = [each for each in missing if each.key != "kind"]
    if open_ends:
        head.append(msg("Fill in or check:"))
        head += [msg("  {key}: {why}", key=shorten_names(each.key), why=each.why or literal("")) for each in open_ends]
    return tuple(head)


def shorten_names(names: str) -> Message:
    """The first of a list of keys, and how many more there are."""
    listed = names.split(", ")
    if len(listed) <= _MAX_NAMES:
        return literal(names)
    shown = literal(", ".join(listed[:_MAX_NAMES]))
    return msg("{names} (and {n} more)", names=shown, n=len(listed) - _MAX_NAMES)


def list_typed(draft: Draft, source: Source) -> frozenset[KeyPath]:
    """The keys that the command line gave and the source does not have."""
    found: set[KeyPath] = set()
    for path in (*draft.origins, *draft.defaults):
        of_images = path[0] == "concept" and path[-1] in {"images", "token", "class", "num_repeats"}
        given = source.images is not None if of_images else path == ("base", "model") and source.model is not None
        if given and not any(each.keys for each in draft.origins.get(path, ())):
            found.add(path)
    return frozenset(found)


def _comment_keys(
    draft: Draft, content: Raw, missing: list[ImportedKey], typed: frozenset[KeyPath]
) -> dict[KeyPath, Message]:
    """Why a value is there that the source does not have."""
    comments: dict[KeyPath, Message] = {}
    keys = {key for line in missing if line.to for key in line.key.split(", ")}
    for path in (*draft.origins, *draft.defaults):
        if get_value(content, path) is None:
            continue
        if path == ("kind",):
            comments[path] = msg("character, style, object, clothing, concept or outfits")
        elif write_path(path) in keys or (path in typed and path[-1] in {"images", "model"}):
            comments[path] = msg("check this")
        elif path in draft.defaults and not draft.origins.get(path) and path not in BASICS:
            comments[path] = msg("sd-scripts' default")
    return comments
