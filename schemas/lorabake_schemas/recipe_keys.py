"""The keys of a recipe by all their names: what each means, what people call it, which option it becomes."""

import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from lorabake_schemas.messages import Message, msg
from lorabake_schemas.recipe import Recipe

# The option of sd-scripts that a key becomes, where it has another name.
OPTION_BY_KEY: Mapping[str, str] = MappingProxyType(
    {
        "name": "output_name",
        "base.model": "pretrained_model_name_or_path",
        "base.family": "v2",
        "base.v_prediction": "v_parameterization",
        "concept.token": "class_tokens",
        "concept.class": "class_tokens",
        "concept.outfit": "class_tokens",
        "concept.images": "image_dir",
        "concept.masks": "conditioning_data_dir",
        "concept.captions": "caption_extension",
        "regularization.class": "class_tokens",
        "regularization.images": "image_dir",
        "network.type": "network_module",
        "network.args": "network_args",
        "train.optimizer": "optimizer_type",
        "train.exposures": "max_train_epochs",
        "train.train_batch_size": "batch_size",
        "train.resolutions": "resolution",
        "train.attention": "xformers",
        "save.runs": "output_dir",
        "sample.prompts": "sample_prompts",
        "metadata.author": "metadata_author",
        "metadata.title": "metadata_title",
        "metadata.description": "metadata_description",
        "metadata.license": "metadata_license",
        "metadata.tags": "metadata_tags",
        "metadata.usage_hint": "metadata_usage_hint",
        "metadata.trigger_phrase": "metadata_trigger_phrase",
        "metadata.comment": "training_comment",
    }
)
# Keys that become no option: lorabake itself acts on them.
OWN_KEYS = frozenset(
    {
        "kind",
        "base.tags",
        "base.native_resolution",
        "concept.asymmetric",
        "concept.tags",
        "captions.tagging",
        "launch.deterministic",
        "watch.nan_steps",
        "watch.stall_seconds",
        "watch.loss_jump",
        "watch.disk_space",
        "ignore.rule",
        "ignore.reason",
        "kohya",
    }
)
TABLE_ARRAYS = ("concept", "regularization", "ignore")  # tables that may be there several times
# Their keys are mostly options.
OPTION_TABLES = ("base", "network", "train", "captions", "save", "sample", "validation", "log", "launch")


class RecipeKey(NamedTuple):
    """``name`` with its table (train.seed), the ``option`` of sd-scripts or of the network that it becomes, and its
    choices if there are only a few.
    """

    name: str
    option: str
    description: str
    choices: tuple[str, ...]


@cache
def list_recipe_keys() -> Mapping[str, RecipeKey]:
    """Every key by its name, in the schema's order; a table comes before its keys."""
    found: dict[str, RecipeKey] = {}
    for name, field in _fields(Recipe).items():
        found[name] = _make_key(name, field)
        if table := unwrap_model(field.annotation):
            found |= {f"{name}.{key}": _make_key(f"{name}.{key}", inner) for key, inner in _fields(table).items()}
    return found


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def unwrap_model(annotation: Any) -> type[BaseModel] | None:
    """The table that a field contains, once or several times."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := unwrap_model(part))), None)


def _make_key(name: str, field: Any) -> RecipeKey:
    option = OPTION_BY_KEY.get(name, name.rpartition(".")[2])
    table = unwrap_model(field.annotation)
    description = field.description or (table.__doc__ if table else "") or ""
    return RecipeKey(name, option, description, _list_choices(field.annotation))


def _list_choices(annotation: Any) -> tuple[str, ...]:
    """The choices of a Literal, alone or together with None."""
    kinds = (annotation, *get_args(annotation))
    return next((tuple(map(str, get_args(kind))) for kind in kinds if get_origin(kind) is Literal), ())


@cache
def _list_options() -> Mapping[str, str]:
    keys = [key for key in list_recipe_keys().values() if not key.name.startswith(("concept.", "regularization."))]
    named = {key.option: key.name for key in reversed(keys) if key.name in OPTION_BY_KEY}
    return named | {key.name.partition(".")[2]: key.name for key in keys if key.name.partition(".")[0] in OPTION_TABLES}


def find_option_key(option: str) -> str | None:
    """Where a recipe itself has a key for this option of sd-scripts, for all concepts."""
    return _list_options().get(option)


# Keys of a concept or a regularization set that have another name than their option.
FIELD_BY_OPTION = {"image_dir": "images", "class_tokens": "class_", "conditioning_data_dir": "masks"}
KeyPath = tuple[str | int, ...]


def locate_option(option: str, recipe: Recipe | None, owner: KeyPath = ()) -> KeyPath:
    """Where a recipe has this option, also when this one leaves it out; ``owner`` is a concept or a regularization."""
    if recipe is not None and option in recipe.kohya:
        return "kohya", option
    if owner and recipe is not None:
        part = recipe.concept[int(owner[1])] if owner[0] == "concept" else recipe.regularization[int(owner[1])]
        field = FIELD_BY_OPTION.get(option, option)
        if getattr(part, field, None) is not None:
            return (*owner, field.rstrip("_"))
    key = find_option_key(option)
    return tuple(key.split(".")) if key else owner


@cache
def load_key_table() -> dict[str, dict[str, str]]:
    """guide/glossary/keys.toml as it is."""
    text = (files("lorabake_schemas.guide") / "glossary" / "keys.toml").read_bytes().decode("utf-8")
    return tomllib.loads(text)


@cache
def list_key_names() -> Mapping[str, str]:
    """What people call a key, as ``normalize_name`` writes it, with the key; sd-scripts' names are among them."""
    loaded, own = load_key_table(), {name.rpartition(".")[2] for name in list_recipe_keys()}
    options = {option: key for key, option in OPTION_BY_KEY.items() if option not in own}
    names = [*options.items(), *((name, key) for key, given in loaded["names"].items() for name in given.split(","))]
    return {normalize_name(name): key for name, key in names}


def find_key(name: str) -> str | None:
    """The key that people mean by another name (Network Rank), None for a name that is nobody's."""
    return list_key_names().get(normalize_name(name))


def suggest_key(key: str, table: str = "") -> Message:
    """What to write instead of a name that means ``key``; within its own ``table`` a key goes without the table."""
    first, _, name = key.rpartition(".")
    if key == "kohya":
        return msg("write each of these options under [kohya], under its own name")
    if key in TABLE_ARRAYS:
        table_array = f"[[{key}]]"
        return msg("use `{key}`", key=table_array)
    return msg("use `{key}`", key=name if first == table else key)


def suggest_network_argument(name: str, network: str, types: Sequence[str]) -> Message:
    """What to write for an argument of networks, by the recipe's network.type and the ``types`` that take it."""
    if network in types:
        argument = f"network.args.{name}"
        return msg("use `{key}`", key=argument)
    return msg("remove it; networks with this argument: {names}", names=", ".join(types))


def find_missing_feature(name: str) -> tuple[Message, Message] | None:
    """What to say, and what to write, for a name of other programs that no key of a recipe means."""
    return _MISSING_FEATURES.get(normalize_name(name))


def normalize_name(name: str) -> str:
    """Without case, accents, blanks and punctuation, which people do not care about in a name."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(sign for sign in plain if sign.isalnum())


_STOP_TEXT_ENCODER = (
    msg("sd-scripts' LoRA scripts cannot stop training the text encoder during a run"),
    msg(
        "remove it; network.network_train_unet_only = true leaves the text encoder out of the whole run, and a lower "
        "train.text_encoder_lr trains it less"
    ),
)
_TRAIN_TEXT_ENCODER = (
    msg("the text encoder is trained by default, without a switch"),
    _STOP_TEXT_ENCODER[1],
)
_SECRET = msg("a secret must not be in a recipe, because the run folder gets a copy of it")
_WANDB_KEY = (_SECRET, msg("remove it, and set WANDB_API_KEY in the environment"))
_HUB_TOKEN = (_SECRET, msg("remove it, and set HF_TOKEN in the environment"))
_MISSING_FEATURES: Mapping[str, tuple[Message, Message]] = MappingProxyType(
    dict.fromkeys(
        ("stoptextencodertraining", "stoptextencodertrainingpct", "stopte", "stopteoftotalsteps", "stoptextencoder"),
        _STOP_TEXT_ENCODER,
    )
    | dict.fromkeys(("trainte", "traintextencoder", "traintextencoders", "networktrainte"), _TRAIN_TEXT_ENCODER)
    | {"wandbapikey": _WANDB_KEY, "huggingfacetoken": _HUB_TOKEN}
)
