"""What became of every key of another program's file, and of what it leaves to its program."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from lorabake.exchange.draft import (
    ARGUMENT_KEYS,
    BLOCK_DEFAULTS,
    FOLDER_DEFAULTS,
    LAUNCH_KEYS,
    Draft,
    KeyPath,
    pick_value,
)
from lorabake.exchange.foreign import ForeignConfig, Given, Unset
from lorabake.exchange.simplify import Raw, get_value
from lorabake.exchange.trained import (
    DATASET_NAMES,
    NEUTRAL_IMAGE_VALUES,
    NEUTRAL_VALUES,
    TrainerFacts,
    Training,
    Unmet,
    iter_differences,
    list_origins,
    read_arguments,
)
from lorabake_schemas.guide.partners import FACTS
from lorabake_schemas.guide.rules.extra_options import find_refusal
from lorabake_schemas.import_report import ImportedKey, KeyFate
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.options import DATASET_LEVELS
from lorabake_schemas.recipe_keys import find_missing_feature, find_option_key
from lorabake_schemas.secrets import has_secret, is_secret
from lorabake_schemas.values import format_value

# What is a file or a folder of a run, which a run folder has in its own place.
_RUN_FILES: Mapping[str, Message] = {
    "output_dir": msg("a run writes to its run folder"),
    "logging_dir": msg("a run writes to its run folder"),
    "config_file": msg("lorabake generates this file"),
    "dataset_config": msg("read; it became [[concept]]"),
    "train_data_dir": msg("read; it became [[concept]]"),
    "reg_data_dir": msg("read; it became [[regularization]]"),
    "in_json": msg("read; it became metadata_file under [[concept]]"),
    "mem_eff_attn": msg("an old attention implementation; lorabake chooses xformers or sdpa"),
    "log_with": msg("TensorBoard logs are always in the run folder"),
    "learning_rate": msg("no effect: unet_lr and text_encoder_lr replace it"),
    "max_train_steps": msg("no effect: max_train_epochs replaces it"),
}
_REPLACED_BY: Mapping[str, frozenset[str]] = {
    "learning_rate": frozenset({"unet_lr", "text_encoder_lr"}), "max_train_steps": frozenset({"max_train_epochs"}),
}  # fmt: skip
_NO_PROMPTS = msg("no effect without sample prompts")
_NOT_FOR_REGULARIZATION = msg("a recipe cannot set this for regularization images")
_NOT_TAKEN = msg("the network or the optimizer of the recipe does not take it")
_NOT_FOR_FOLDERS = msg("a recipe has no key for this option of single folders")


# What every recipe has, whatever its source.
BASICS: tuple[KeyPath, ...] = (("name",), ("kind",), ("base", "family"), ("base", "model"), ("network", "type"))


_OFF = frozenset({"", "0", "0.0", "false", "none", "[]", "{}"})  # values as the report shows them
# Options that follow another one where they are left out.
_FOLLOWED = {
    "unet_lr": "learning_rate", "text_encoder_lr": "learning_rate", "network_alpha": "network_dim",
    "save_precision": "mixed_precision",
}  # fmt: skip
ARGUMENT_TABLES = {"network_args": "network", "optimizer_args": "train"}


class Outcome(NamedTuple):
    """A recipe that was made of a draft: its final content, what no recipe can have, and what it trains."""

    content: Raw
    refused: Mapping[KeyPath, Message]
    trained: Training | None


class Difference(NamedTuple):
    """What the recipe trains with instead, of which images, and whether these are regularization images."""

    value: object
    at: int | None
    is_reg: bool


class Known(NamedTuple):
    """All that a line depends on."""

    draft: Draft
    outcome: Outcome
    trainer: TrainerFacts
    differences: Mapping[str, Difference]
    all_differences: Mapping[str, Difference]


def report_keys(config: ForeignConfig, draft: Draft, outcome: Outcome, trainer: TrainerFacts) -> Iterator[ImportedKey]:
    """A line for each key of the source, in its order. One that is read twice is reported where it became a key."""
    lines = [*_report_options(config, draft, outcome, trainer), *config.keys]
    used = {line.key for line in lines if line.to is not None}
    written = {str(path[-1]): path for path in list_defaults(draft, outcome)}
    for line in dict.fromkeys(lines):
        is_off = line.value.lower() in _OFF
        path = written.get(line.key.lstrip("-").rpartition(".")[2])
        if line.fate not in {"default", "off"}:
            yield line
        elif is_off and line.value and path and _format(get_value(outcome.content, path)).lower() in _OFF:
            yield line.model_copy(update={"fate": "taken", "to": write_path(path)})
        elif line.key not in used:
            yield line.model_copy(update={"fate": "off"}) if is_off else line


def _report_options(
    config: ForeignConfig, draft: Draft, outcome: Outcome, trainer: TrainerFacts
) -> Iterator[ImportedKey]:
    places = _list_places(draft)
    known = Known(draft, outcome, trainer, *_find_differences(draft, outcome))
    levels: list[tuple[str, Mapping[str, Given]]] = [("train", config.options)]
    for block in config.datasets:
        levels += [("images", block.options), *(("images", part.options) for part in block.subsets)]
    levels.append(("launch", config.launch))
    seen: set[int] = set()
    for level, options in levels:
        for option, given in options.items():
            if id(given) in seen or not given.keys:
                continue
            seen.add(id(given))
            line = _judge(level, option, given, places.get(id(given), []), known)
            yield from _spread(line, given, option)
            if option in ARGUMENT_TABLES and line.to is not None:
                yield from _report_arguments(option, given, known)


def _report_arguments(option: str, given: Given, known: Known) -> Iterator[ImportedKey]:
    """A line for each argument of a list of which only others are in the recipe."""
    refused = {str(path[-1]): why for path, why in known.outcome.refused.items() if path[0] == ARGUMENT_TABLES[option]}
    for name, value in read_arguments(pick_value(given, faithful=False)).items():
        paths = list_argument_paths(option, name)
        if name == "algo" or any(_has_value(known.outcome.content, path) for path in paths):
            continue
        why = next((refused[str(path[-1])] for path in paths if str(path[-1]) in refused), None)
        if why is None and (found := known.all_differences.get(f"{option}.{name}")):
            why = _explain_difference(found) if found.value is not None else _NOT_TAKEN
        secret = is_secret(name) or has_secret(value)
        shown, why = ("", SECRET) if secret else (_format(value), why)
        fate: KeyFate = "default" if why is None else "dropped"
        yield ImportedKey(key=f"{given.keys[0]} {name}", value=shown, fate=fate, why=why)


def _has_value(content: Raw, path: KeyPath) -> bool:
    """Whether the recipe has the key, an argument of an optimizer also where its table is a list of texts."""
    table = get_value(content, path[:-1])
    if isinstance(table, list):
        return any(str(each).partition("=")[0] == path[-1] for each in cast("list[object]", table))
    return isinstance(table, dict) and path[-1] in table


def _spread(line: ImportedKey, given: Given, option: str) -> Iterator[ImportedKey]:
    """The same line for each key of the source, without the value of a secret."""
    secret, written = is_secret(option), given.written
    whole = isinstance(written, Mapping)  # of several keys: what was trained is of no single one
    trained = None if given.trained is None or whole or secret else _format(given.trained)
    for key in given.keys:
        text = written.get(key) if isinstance(written, Mapping) else written
        shown = "" if secret else _format(given.value if text is None else text)
        yield ImportedKey(key=key, value=shown, fate=line.fate, to=line.to, why=line.why, trained=trained)


def _judge(level: str, option: str, given: Given, places: Sequence[KeyPath], known: Known) -> ImportedKey:
    outcome = known.outcome
    final = [path for path in places if get_value(outcome.content, path) is not None]
    refused = next((outcome.refused[path] for path in places if path in outcome.refused), None)
    if is_secret(option) or (not final and has_secret(given.value)):
        missing = find_missing_feature(option)
        said = join_list(missing, "; ") if missing else SECRET
        return ImportedKey(key=option, fate="dropped", why=said)
    if final and refused is None:
        return ImportedKey(key=option, fate=_name_fate(given, final, outcome), to=_join(final), why=given.repair)
    why = refused or _explain_absence(level, option, given, known.draft, known.trainer)
    if why is None and option in known.differences:
        why = _explain_difference(known.differences[option])
    fate: KeyFate = "default" if why is None else "dropped"
    if fate == "dropped" and why is _UNKNOWN:
        fate = "unknown"
    if given.repair is not None and fate == "default":
        fate, why = "repaired", given.repair
    followed = known.draft.values.get(_FOLLOWED.get(option, ""))
    if fate == "default" and followed and followed.value == given.value:
        why = msg("the same as {partner}, which it follows", partner=_FOLLOWED[option])
    return ImportedKey(key=option, fate=fate, why=why)


def _name_fate(given: Given, final: Sequence[KeyPath], outcome: Outcome) -> KeyFate:
    if given.repair is not None:
        return "repaired"
    name = "".join(given.keys).lstrip("-").rpartition(".")[2]
    if len(final) > 1 or len(given.keys) > 1:
        return "computed"
    value = get_value(outcome.content, final[0])
    plain = tuple(cast("Sequence[object]", value)) if isinstance(value, list) else value
    if plain != given.value or (given.written is not None and given.written != _format(given.value)):
        return "computed"
    return "taken" if name == final[0][-1] else "renamed"


def _explain_absence(level: str, option: str, given: Given, draft: Draft, trainer: TrainerFacts) -> Message | None:
    """Why nothing in the recipe comes from it; None if that is what lorabake does anyway."""
    name = DATASET_NAMES.get(option, option)
    of_images = any(name in trainer.dataset.at(each) for each in DATASET_LEVELS)
    value = pick_value(given, faithful=False)
    idle = draft.wanted.idle
    unused = of_images and draft.wanted.images and not any(name in each for each in draft.wanted.images)
    refusal = find_refusal(option)
    neutral = value is None or value is False or value == _get_neutral(option, level, trainer)
    in_use = option == "log_with" and value in {"wandb", "all"}
    replaced = _REPLACED_BY.get(option, frozenset()) <= draft.values.keys()
    checks: tuple[tuple[bool, Message | None], ...] = (
        (level == "launch", _explain_launch(option)),
        (option.startswith("sample_") and "sample" not in draft.content, _NO_PROMPTS),
        (option not in trainer.options and not of_images, _describe_unknown(option)),
        (neutral, None),
        (name in idle and bool(unused or not of_images), describe_idle(idle.get(name))),
        (option in _RUN_FILES and not in_use and replaced, _RUN_FILES.get(option)),
        (bool(unused), msg("no effect with the other settings")),
        (refusal is not None and not _has_key(option), refusal[0] if refusal else None),
    )
    return next((why for holds, why in checks if holds), None)


_UNKNOWN = msg("not an option of this version of sd-scripts")
SECRET = msg("a secret is not copied")


def _describe_unknown(option: str) -> Message:
    missing = find_missing_feature(option)
    return missing[0] if missing else _UNKNOWN


def _has_key(option: str) -> bool:
    return find_option_key(option) is not None or option in {"use_8bit_adam", "use_lion_optimizer", "flip_aug"}


def _get_neutral(option: str, level: str, trainer: TrainerFacts) -> object:
    if level == "images":
        defaults = {**NEUTRAL_IMAGE_VALUES, **BLOCK_DEFAULTS, **FOLDER_DEFAULTS}
        return defaults.get(option)
    known = trainer.options.get(option)
    return NEUTRAL_VALUES.get(option, known.default if known else None)


def _explain_launch(option: str) -> Message | None:
    if option in LAUNCH_KEYS:
        return None
    if option == "mixed_precision":
        return msg("no effect: the script's own mixed_precision decides")
    return msg("lorabake starts accelerate itself")


def describe_idle(unmet: Unmet | None) -> Message:
    """Why an option has no effect."""
    if unmet is None:
        return msg("sd-scripts does not use it for a LoRA")
    partner, cause = unmet
    if cause is not None:
        return msg("no effect with {partner}", partner=_name_option(cause.option))
    names = join_list([_name_option(each.option) for each in partner.needs])
    return msg("no effect without {partner}", partner=names)


def _name_option(option: str) -> Message:
    return FACTS[option][0] if option in FACTS else literal(option)


def _explain_difference(found: Difference) -> Message:
    if found.at is not None:
        return _NOT_FOR_REGULARIZATION if found.is_reg else _NOT_FOR_FOLDERS
    return msg("a recipe has no key for this; lorabake trains with {value}", value=_format(found.value) or "-")


def _find_differences(draft: Draft, outcome: Outcome) -> tuple[dict[str, Difference], dict[str, Difference]]:
    """By option of sd-scripts, and by full name, such as network_args.preset."""
    found: dict[str, Difference] = {}
    named: dict[str, Difference] = {}
    if outcome.trained is None:
        return found, named
    for name, at, _, value in iter_differences(draft.wanted, outcome.trained):
        reg = at is not None and at < len(draft.wanted.images) and bool(draft.wanted.images[at].get("is_reg"))
        named[name] = Difference(value, at, reg)
        for option in list_origins(name):
            found.setdefault(option, Difference(value, at, reg))
    return found, named


def list_argument_paths(option: str, name: str) -> tuple[KeyPath, ...]:
    """Where a recipe has an argument of a network or an optimizer."""
    if option == "optimizer_args":
        return (("train", "optimizer_args", name),)
    key = ARGUMENT_KEYS.get(name)
    return ((("network", key),) if key else ()) + (("network", "args", name),)


def _report_argument_defaults(draft: Draft, outcome: Outcome) -> Iterator[ImportedKey]:
    """Arguments of the optimizer that are written since lorabake would choose others."""
    given = draft.values.get("optimizer_args")
    said = read_arguments(given.value) if given else {}
    table = get_value(outcome.content, ("train", "optimizer_args"))
    for name, value in cast("Raw", table).items() if said and isinstance(table, dict) else ():
        if name not in said:
            why = msg("the optimizer's default, which is not lorabake's")
            yield ImportedKey(key=name, value=_format(value), fate="taken", to="train.optimizer_args", why=why)


def list_defaults(draft: Draft, outcome: Outcome) -> list[KeyPath]:
    """Keys of the recipe that are sd-scripts' defaults."""
    found = [path for path in draft.defaults if not draft.origins.get(path) and path not in BASICS]
    return sorted((path for path in found if get_value(outcome.content, path) is not None), key=str)


def report_added(
    config: ForeignConfig, draft: Draft, outcome: Outcome, elsewhere: Collection[KeyPath]
) -> Iterator[ImportedKey]:
    """Keys that the source does not have, and what lorabake sets where the source is silent; not what the user
    typed or has to fill in, which are ``elsewhere``.
    """
    if ("name",) in draft.defaults and "output_name" not in config.options:
        why = msg("from the name of the file")
        yield ImportedKey(key="output_name", value=str(outcome.content["name"]), fate="computed", to="name", why=why)
    for path in list_defaults(draft, outcome):
        if path not in elsewhere:
            why, value = msg("sd-scripts' default, which is not lorabake's"), get_value(outcome.content, path)
            yield ImportedKey(key=str(path[-1]), value=_format(value), fate="taken", to=_join([path]), why=why)
    for path, sources in sorted(draft.origins.items(), key=lambda each: str(each[0])):
        value = get_value(outcome.content, path)
        if value is not None and path not in elsewhere and sources and all(not given.keys for given in sources):
            why = msg("the default of {program}, which is not lorabake's", program=config.program)
            yield ImportedKey(key=str(path[-1]), value=_format(value), fate="taken", to=_join([path]), why=why)
    yield from _report_argument_defaults(draft, outcome)
    yield from _report_own_values(config, draft, outcome)


def _report_own_values(config: ForeignConfig, draft: Draft, outcome: Outcome) -> Iterator[ImportedKey]:
    if outcome.trained is None:
        return
    said = {*config.options, *(name for block in config.datasets for name in block.options)}
    said |= {name for block in config.datasets for part in block.subsets for name in part.options}
    if "log_with" not in said:
        yield ImportedKey(key="log_with", value="tensorboard", fate="default", why=_RUN_FILES["log_with"])
    seen: set[str] = set()
    for name, _, _, value in iter_differences(draft.wanted, outcome.trained):
        silent = not said & {name, *list_origins(name)}
        if silent and value is not None and name not in seen and not name.startswith("launch."):
            seen.add(name)
            why = msg("lorabake's own value; the source has none")
            yield ImportedKey(key=name, value=_format(value), fate="default", why=why)


def _list_places(draft: Draft) -> dict[int, list[KeyPath]]:
    """The keys that come from each value of the source."""
    found: dict[int, list[KeyPath]] = {}
    for path, sources in draft.origins.items():
        for given in sources:
            found.setdefault(id(given), []).append(path)
    return found


def _join(paths: Iterable[KeyPath]) -> str:
    return ", ".join(dict.fromkeys(write_path(path) for path in paths))


def write_path(path: KeyPath) -> str:
    """As findings name a key: concept#2.token."""
    text = ""
    for part in path:
        text += f"#{part + 1}" if isinstance(part, int) else f".{part}" if text else part
    return text.replace("#1.", ".") if "#1." in text else text


def _format(value: object) -> str:
    if isinstance(value, Unset) or value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return ", ".join(f"{key}={_format(item)}" for key, item in table.items()) or "{}"
    return format_value(value)
