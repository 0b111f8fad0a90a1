"""Everything that a file of another program says, as a recipe that leaves nothing to a default.

Each value keeps where it comes from, so that the report can name it; ``to_recipe`` then removes what lorabake would do
anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, Given, Options, Unset
from lorabake.exchange.trained import (
    DATASET_NAMES,
    DEFAULT_RANK,
    FILE_OPTIONS,
    NEUTRAL_VALUES,
    TrainerFacts,
    Training,
    describe_training,
    read_arguments,
    read_network,
    read_optimizer,
    read_size,
)
from lorabake.planning.settings_network import CONVOLUTION_ALGORITHMS
from lorabake.planning.settings_optimizer import ADAM_ARGUMENTS, ADAPTIVE_ARGUMENTS, TAKE_ADAPTIVE_ARGUMENTS
from lorabake_schemas.base import OptionValue
from lorabake_schemas.guide.caption_settings import NO_CAPTION_EXTENSION
from lorabake_schemas.guide.rules.extra_options import find_refusal
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import OTHER_PLACES, Concept, Regularization
from lorabake_schemas.recipe_keys import find_option_key
from lorabake_schemas.sd_scripts import ADAM_OPTIMIZERS, RANK_DROPOUT_ALGORITHMS, is_lycoris
from lorabake_schemas.secrets import copy_without_secrets, has_secret, is_secret
from lorabake_schemas.signatures import find_optimizer_path

KeyPath = tuple[str | int, ...]
# What a recipe cannot leave to chance or to sd-scripts: where the source is silent, lorabake's own value stays.
OWN_OPTIONS = frozenset(
    (
        "xformers", "sdpa", "mem_eff_attn", "seed", "save_every_n_epochs", "metadata_trigger_phrase",
        "sample_every_n_epochs", "log_with", "validation_seed",
    )
)  # fmt: skip
# Where a recipe has an option of the dataset for all folders.
BLOCK_KEYS = {
    "batch_size": "train_batch_size", "enable_bucket": "enable_bucket", "bucket_no_upscale": "bucket_no_upscale",
    "min_bucket_reso": "min_bucket_reso", "max_bucket_reso": "max_bucket_reso",
    "bucket_reso_steps": "bucket_reso_steps",
}  # fmt: skip
BLOCK_DEFAULTS: Mapping[str, OptionValue] = {
    "batch_size": 1, "enable_bucket": False, "bucket_no_upscale": False, "min_bucket_reso": 256,
    "max_bucket_reso": 1024, "bucket_reso_steps": 64,
}  # fmt: skip
LISTED_KEYS = ("batch_size", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
# What a folder has where sd-scripts is not told, as far as lorabake would do something else.
FOLDER_DEFAULTS: Mapping[str, OptionValue] = {
    "num_repeats": 1, "caption_extension": ".caption", "shuffle_caption": False, "keep_tokens": 0, "flip_aug": False,
}  # fmt: skip
FOLDER_KEYS = {"conditioning_data_dir": "masks"}  # others have the option's own name
_RECIPE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]+')
PLACEHOLDER_MODEL, PLACEHOLDER_IMAGES = "models/base-model.safetensors", "images"
# What a recipe needs, for a value that is not copied.
_PLACEHOLDERS = {"name": "lora", "model": PLACEHOLDER_MODEL, "images": PLACEHOLDER_IMAGES, "class": "class"}
ARGUMENT_KEYS = {
    str(place[2]): str(key[1]) for key, place in OTHER_PLACES.items() if key[0] == "network" and key[1] != "type"
}
MAX_FOLDERS = 300  # at all resolutions together: a recipe of more is planned for minutes
LAUNCH_KEYS = ("num_processes", "gpu_ids", "num_cpu_threads_per_process", "main_process_port")


class Found(NamedTuple):
    """The value that sd-scripts finds for an option, and where it is from: None is its own default."""

    value: OptionValue
    given: Given | None = None


@dataclass(slots=True)
class Draft:
    """A recipe's content, with the sources of each key by its path; ``wanted`` is what the file trains.

    ``values`` are the options of the script, ``unsaid`` those that only some folders have and no recipe can say so.
    ``secrets`` are the keys whose value, or a part of it, is not copied.
    """

    content: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[KeyPath, list[Given]] = field(default_factory=dict[KeyPath, list[Given]])
    defaults: set[KeyPath] = field(default_factory=set[KeyPath])
    values: dict[str, Found] = field(default_factory=dict[str, Found])
    wanted: Training = field(default_factory=lambda: Training({}, ()))
    secrets: list[KeyPath] = field(default_factory=list[KeyPath])

    def put(self, path: KeyPath, value: object, *sources: Given | None) -> None:
        """Set a key, unless it or its value is a secret; without a source it is sd-scripts' default."""
        if is_secret(str(path[-1])):
            return
        if has_secret(value):
            self.secrets.append(path)
            value = copy_without_secrets(value) or _PLACEHOLDERS.get(str(path[-1]))
            if value is None:
                return
        holder: Any = self.content
        for at, part in enumerate(path[:-1]):
            following = path[at + 1]
            if isinstance(part, int):
                while len(holder) <= part:
                    holder.append({})
                holder = holder[part]
            else:
                holder = holder.setdefault(part, [] if isinstance(following, int) else {})
        holder[path[-1]] = list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value
        given = [source for source in sources if source is not None]
        self.origins.setdefault(path, []).extend(given)
        if not given:
            self.defaults.add(path)


def pick_value(given: Given, *, faithful: bool) -> OptionValue | None:
    """What the recipe is made of; None leaves the option out."""
    value = given.trained if faithful and given.trained is not None else given.value
    return None if isinstance(value, Unset) else value


def read_values(options: Options, *, faithful: bool) -> dict[str, Found]:
    """Those that have a value."""
    picked = {name: (pick_value(given, faithful=faithful), given) for name, given in options.items()}
    return {name: Found(value, given) for name, (value, given) in picked.items() if value is not None}


class Folder(NamedTuple):
    """A folder of images at one resolution, with what sd-scripts finds for it."""

    values: Mapping[str, Found]
    is_reg: bool
    dataset: int


def build_draft(config: ForeignConfig, trainer: TrainerFacts, *, faithful: bool) -> Draft:
    """``config`` has datasets, and a family that ``trainer`` knows."""
    draft = Draft(values=read_values(config.options, faithful=faithful))
    folders = _list_folders(config, draft.values, faithful=faithful)
    draft.wanted = describe_config(config, trainer, faithful=faithful)
    _put_base(draft, trainer)
    _put_network(draft, complete=config.complete)
    _put_optimizer(draft, trainer, complete=config.complete)
    _put_options(draft, trainer, complete=config.complete)
    _put_folders(draft, folders, trainer, complete=config.complete and config.knows_images)
    _put_samples(draft, config)
    for name, found in read_values(config.launch, faithful=faithful).items():
        if name in LAUNCH_KEYS:
            draft.put(("launch", name), found.value, found.given)
    return draft


def describe_config(config: ForeignConfig, trainer: TrainerFacts, *, faithful: bool) -> Training:
    """What a file trains, its datasets as they are."""
    plain = {name: found.value for name, found in read_values(config.options, faithful=faithful).items()}
    blocks = [
        (
            {name: found.value for name, found in read_values(block.options, faithful=faithful).items()},
            [
                {name: found.value for name, found in read_values(part.options, faithful=faithful).items()}
                | ({"is_reg": True} if part.is_reg else {})
                for part in block.subsets
            ],
        )
        for block in config.datasets
    ]
    found = describe_training(plain, blocks, trainer)
    launch = read_values(config.launch, faithful=faithful)
    named = {f"launch.{name}": launch[name].value for name in ("num_processes", "gpu_ids") if name in launch}
    return Training(
        {**found.train, **{name: value for name, value in named.items() if value != 1}}, found.images, found.idle
    )


def _list_folders(config: ForeignConfig, values: Mapping[str, Found], *, faithful: bool) -> list[Folder]:
    """Each subset with what it finds: its own value, else the dataset's, else the script's."""
    of_script = {DATASET_NAMES.get(name, name): found for name, found in values.items()}
    folders: list[Folder] = []
    for at, block in enumerate(config.datasets):
        of_block = read_values(block.options, faithful=faithful)
        for part in block.subsets:
            own = read_values(part.options, faithful=faithful)
            folders.append(Folder({**of_script, **of_block, **own}, part.is_reg, at))
    if len(folders) > MAX_FOLDERS:
        said = msg(
            "it has {count} folders of images; lorabake imports at most {most}", count=len(folders), most=MAX_FOLDERS
        )
        raise RecipeError(said, hint=msg("leave some of its folders out, and import it again"))
    return folders


def _put_base(draft: Draft, trainer: TrainerFacts) -> None:
    values = draft.values
    for option, key in (("pretrained_model_name_or_path", "model"), ("vae", "vae"), ("tokenizer_cache_dir",) * 2):
        if option in values and values[option].value:
            draft.put(("base", key), values[option].value, values[option].given)
    draft.put(("base", "family"), trainer.family.name, *(values[name].given for name in ("v2",) if name in values))
    for option, key in (("v_parameterization", "v_prediction"), ("zero_terminal_snr",) * 2):
        if option in values:
            draft.put(("base", key), values[option].value, values[option].given)


def _put_network(draft: Draft, *, complete: bool) -> None:
    values = draft.values
    plain = {name: found.value for name, found in values.items()}
    network, arguments = read_network(plain)
    module, given = values.get("network_module"), values.get("network_args")
    from_args = given.given if given else None
    draft.put(("network", "type"), network or "lora", module.given if module else None, from_args if network else None)
    rank, alpha = values.get("network_dim"), values.get("network_alpha")
    if rank or complete:
        draft.put(("network", "network_dim"), rank.value if rank else DEFAULT_RANK, rank and rank.given)
    rank_value = rank.value if rank else DEFAULT_RANK
    alpha_value = (alpha.value if alpha else 1) or rank_value
    if alpha or complete:
        draft.put(("network", "network_alpha"), alpha_value, alpha and alpha.given)
    if "conv_alpha" in arguments and not arguments["conv_alpha"]:  # 0 means the rank (networks/lora.py), or alpha (LY)
        own = arguments.get("conv_dim") or rank_value
        arguments["conv_alpha"] = alpha_value if is_lycoris(network) else own
    for name, value in arguments.items():
        key = ARGUMENT_KEYS.get(name)
        path = ("network", key) if key else ("network", "args", name)
        draft.put(path, _fit_argument(name, value), from_args)
    if complete and is_lycoris(network):
        added: dict[str, object] = {}
        if network in CONVOLUTION_ALGORITHMS:
            added |= {"conv_dim": rank_value, "conv_alpha": alpha_value}
        if network in RANK_DROPOUT_ALGORITHMS:
            added["rank_dropout"] = 0
        for name, value in added.items():
            if name not in arguments:
                draft.put(("network", name), value)


def _fit_argument(name: str, value: object) -> object:
    """Whole numbers for ranks, however they are written."""
    whole = name in {"conv_dim", "factor", "block_size"} and isinstance(value, float) and value.is_integer()
    return int(value) if whole and isinstance(value, float) else value


def _put_optimizer(draft: Draft, trainer: TrainerFacts, *, complete: bool) -> None:
    values = draft.values
    named = [values[name].given for name in ("optimizer_type", "use_8bit_adam", "use_lion_optimizer") if name in values]
    if named or complete:
        name = read_optimizer({option: found.value for option, found in values.items()})
        draft.put(("train", "optimizer"), name, *named)
        _put_optimizer_arguments(draft, name, trainer, complete=complete)
    _put_rates(draft, complete=complete)
    scheduled = values.get("lr_scheduler_args")
    if scheduled and scheduled.value:
        draft.put(("train", "lr_scheduler_args"), _make_table(read_arguments(scheduled.value)), scheduled.given)


def _put_optimizer_arguments(draft: Draft, optimizer: str, trainer: TrainerFacts, *, complete: bool) -> None:
    """The source's, and in place of each that the guide would add the default of the class. An empty table is none."""
    given = draft.values.get("optimizer_args")
    arguments = read_arguments(given.value) if given else {}
    if not arguments and (given or not complete):
        return
    signature = trainer.signatures.find_optimizer(find_optimizer_path(optimizer, trainer.signatures) or optimizer)
    known = {each.name: each.default for each in signature.parameters} if signature else {}
    adaptive = optimizer in TAKE_ADAPTIVE_ARGUMENTS
    texts = ADAPTIVE_ARGUMENTS if adaptive else ADAM_ARGUMENTS if optimizer in ADAM_OPTIMIZERS else ()
    for key in (text.partition("=")[0] for text in texts if arguments):
        if key not in arguments and known.get(key) is not None:
            arguments[key] = known[key]
    draft.put(("train", "optimizer_args"), _make_table(arguments), given and given.given)


def _make_table(arguments: Mapping[str, object]) -> object:
    """Arguments as TOML; with a None among them as sd-scripts' list, since TOML has none."""
    if None in arguments.values():
        return [f"{key}={value!r}" for key, value in arguments.items()]
    return {
        key: list(cast("Sequence[object]", value)) if isinstance(value, tuple) else value
        for key, value in arguments.items()
    }


def _put_rates(draft: Draft, *, complete: bool) -> None:
    values = draft.values
    main, unet, text = (values.get(name) for name in ("learning_rate", "unet_lr", "text_encoder_lr"))
    if unet:
        draft.put(("train", "unet_lr"), unet.value, unet.given)
    if text and text.value != ():
        rates = text.value if isinstance(text.value, tuple) else (text.value,)
        draft.put(("train", "text_encoder_lr"), rates[0], text.given)
    if main and main.value:
        draft.put(("train", "learning_rate"), main.value, main.given)
    elif complete and not (unet and text):
        draft.put(("train", "learning_rate"), 2e-6)


_DONE = frozenset(
    (
        "pretrained_model_name_or_path", "vae", "tokenizer_cache_dir", "v2", "v_parameterization", "zero_terminal_snr",
        "network_module", "network_dim", "network_alpha", "network_args", "optimizer_type", "use_8bit_adam",
        "use_lion_optimizer", "optimizer_args", "lr_scheduler_args", "learning_rate", "unet_lr", "text_encoder_lr",
        "xformers", "sdpa", "mem_eff_attn", "log_with", "sample_prompts", "sample_every_n_epochs",
        "sample_every_n_steps", "sample_at_first", "sample_sampler", "resolution",
    )
)  # fmt: skip


def _put_options(draft: Draft, trainer: TrainerFacts, *, complete: bool) -> None:
    """Every other option under its key, or under [kohya]."""
    values, of_images = draft.values, {*BLOCK_KEYS, *Concept.model_fields, "batch_size", "num_repeats"}
    replaced = {"max_train_steps"} if "max_train_epochs" in values else set[str]()  # train_network.py:799
    for name, option in trainer.options.items():
        found = values.get(name)
        if name in replaced or name in _DONE or name in FILE_OPTIONS or DATASET_NAMES.get(name, name) in of_images:
            continue
        key = find_option_key(name)
        if found is None:
            value = NEUTRAL_VALUES.get(name, option.default)
            if complete and key is not None and value is not None and name not in OWN_OPTIONS:
                draft.put(tuple(key.split(".")), value)
        elif key is not None:
            draft.put(tuple(key.split(".")), found.value, found.given)
        elif find_refusal(name) is None and found.value != option.default and found.value is not False:
            draft.put(("kohya", name), found.value, found.given)
    attention = next((name for name in ("xformers", "sdpa") if name in values and values[name].value), None)
    if attention:
        draft.put(("train", "attention"), attention, values[attention].given)
    log = values.get("log_with")
    if log and log.value in {"wandb", "all"}:
        draft.put(("log", "log_with"), "wandb", log.given)


def _put_samples(draft: Draft, config: ForeignConfig) -> None:
    """Without prompts sd-scripts makes no samples, whatever else is set."""
    named = draft.values.get("sample_prompts")
    if config.prompts:
        draft.put(("sample", "prompts"), list(config.prompts), named and named.given)
        draft.defaults.discard(("sample", "prompts"))  # sd-scripts has none
    elif named and named.value:
        draft.put(("sample", "prompts"), named.value, named.given)
    else:
        return
    for name in ("sample_every_n_epochs", "sample_every_n_steps", "sample_at_first", "sample_sampler"):
        found = draft.values.get(name)
        if found and found.value not in {0, ""}:
            draft.put(("sample", name), found.value, found.given)


def _put_folders(draft: Draft, folders: Sequence[Folder], trainer: TrainerFacts, *, complete: bool) -> None:
    sizes = [read_size(each.values["resolution"].value) if "resolution" in each.values else None for each in folders]
    several = _find_common_resolutions(folders, sizes)
    if several is not None:
        draft.put(("train", "resolutions"), [_write_size(size) for size, _ in several], *_list_sources(folders))
        kept = [each for each in folders if each.dataset == several[0][1] or _is_only_here(each, folders, several)]
    else:
        kept = list(folders)
    different = len({size for size in sizes if size is not None}) > 1 and several is None
    if several is None and not different and sizes and sizes[0] is not None:
        draft.put(("train", "resolution"), _write_size(sizes[0]), folders[0].values["resolution"].given)
    _put_block_options(draft, folders, several, complete=complete)
    for number, folder in enumerate(each for each in kept if not each.is_reg):
        _put_folder(draft, ("concept", number), folder, own_size=different, complete=complete)
    for number, folder in enumerate(each for each in kept if each.is_reg):
        own = different or (several is not None and _is_only_here(folder, folders, several))
        _put_folder(draft, ("regularization", number), folder, own_size=own, complete=complete)
    _put_common_options(draft, folders, trainer)
    _hoist_caption_keys(draft)


def _identify(folder: Folder) -> tuple[object, ...]:
    """A folder apart from the resolution that it is trained at."""
    own = {name: found.value for name, found in folder.values.items() if name not in {*BLOCK_KEYS, "resolution"}}
    return (folder.is_reg, *sorted((name, repr(value)) for name, value in own.items()))


def _find_common_resolutions(
    folders: Sequence[Folder], sizes: Sequence[object]
) -> list[tuple[tuple[int, int], int]] | None:
    """The resolutions, each with its dataset, if all training images are trained at each of several."""
    found: dict[object, int] = {}
    groups: dict[int, list[tuple[object, ...]]] = {}
    for folder, size in zip(folders, sizes, strict=True):
        if not folder.is_reg:
            groups.setdefault(folder.dataset, []).append(_identify(folder))
            if not isinstance(size, tuple) or found.setdefault(cast("object", size), folder.dataset) != folder.dataset:
                return None
    alike = len({tuple(sorted(each, key=repr)) for each in groups.values()}) == 1
    if len(groups) < 2 or not alike or len(found) != len(groups):
        return None
    return [(cast("tuple[int, int]", size), at) for size, at in found.items()]


def _is_only_here(folder: Folder, folders: Sequence[Folder], several: Sequence[tuple[object, int]]) -> bool:
    """Whether a regularization folder is in some of the datasets and not in all."""
    same = [each for each in folders if each.is_reg and _identify(each) == _identify(folder)]
    return folder.is_reg and len(same) < len(several)


def _list_sources(folders: Iterable[Folder]) -> list[Given]:
    found = [each.values["resolution"].given for each in folders if "resolution" in each.values]
    return [given for at, given in enumerate(found) if given is not None and given not in found[:at]]


def _write_size(size: object) -> object:
    if isinstance(size, tuple):
        width, height = cast("tuple[int, int]", size)
        return width if width == height else [width, height]
    return size


def _put_block_options(
    draft: Draft, folders: Sequence[Folder], several: Sequence[tuple[object, int]] | None, *, complete: bool
) -> None:
    """What belongs to a dataset: once, or in a list with a value for each resolution."""
    firsts = [next(each for each in folders if each.dataset == at and not each.is_reg) for _, at in several or ()]
    firsts = firsts or list(folders)
    for name, key in BLOCK_KEYS.items():
        found = [each.values.get(name) for each in firsts]
        if not any(found) and not complete:
            continue
        values = [each.value if each else BLOCK_DEFAULTS[name] for each in found]
        sources = [each.given for each in found if each]
        if len(set(values)) > 1 and several and name in LISTED_KEYS:
            draft.put(("train", key), values, *sources)
        elif len(set(values)) == 1:
            draft.put(("train", key), values[0], *sources)


def _put_folder(draft: Draft, path: KeyPath, folder: Folder, *, own_size: bool, complete: bool) -> None:
    model = Regularization if folder.is_reg else Concept
    values = folder.values
    token, class_ = split_class_tokens(values.get("class_tokens"))
    source = values["class_tokens"].given if "class_tokens" in values else None
    if folder.is_reg:
        draft.put((*path, "class"), " ".join(word for word in (token, class_) if word) or "class", source)
    else:
        for key, word in (("token", token), ("class", class_)):
            if word:
                draft.put((*path, key), word, source)
    images = values.get("image_dir")
    draft.put((*path, "images"), images.value if images else PLACEHOLDER_IMAGES, images and images.given)
    if own_size and "resolution" in values:
        size = _write_size(read_size(values["resolution"].value))
        draft.put((*path, "resolution"), size, values["resolution"].given)
    for name in FOLDER_DEFAULTS if complete else ():
        if name in model.model_fields and name not in values and not (folder.is_reg and name in _OFF_FOR_REG):
            draft.put((*path, name), FOLDER_DEFAULTS[name])
    for name, found in values.items():
        key = FOLDER_KEYS.get(name, name)
        if name == "caption_extension" and found.value == NO_CAPTION_EXTENSION and not folder.is_reg:
            draft.put((*path, "captions"), "none", found.given)
        elif key in model.model_fields and key not in {"images", "resolution", "token", "class_", "captions", "tags"}:
            draft.put((*path, key), found.value, found.given)


_OFF_FOR_REG = ("shuffle_caption", "keep_tokens", "flip_aug")


def split_class_tokens(found: Found | None) -> tuple[str, str]:
    """Token and class of "sks girl" or "sks, girl"; a single word is the token."""
    text = " ".join(str(found.value).split()) if found else ""
    if "," in text:
        token, _, class_ = text.rpartition(",")
        return token.strip(" ,"), class_.strip(" ,")
    token, _, class_ = text.partition(" ")
    return ("", text) if token.lower() in _ARTICLES and class_ else (token, class_)


_ARTICLES = ("a", "an", "the")  # "a cat" is a class without a token


def _put_common_options(draft: Draft, folders: Sequence[Folder], trainer: TrainerFacts) -> None:
    """Options of folders without a key, which apply to all folders at once: under [kohya]."""
    known = {name for level in ("datasets", "subsets") for name in trainer.dataset.at(cast("Any", level))}
    for name in sorted(known - {*BLOCK_KEYS, *Concept.model_fields, *FOLDER_KEYS, "resolution", "image_dir", "is_reg"}):
        found = [each.values.get(name) for each in folders]
        first = found[0] if found else None
        if first is None or any(each is None or each.value != first.value for each in found):
            continue
        option, key = trainer.options.get(name), find_option_key(name)
        if key is not None:
            draft.put(tuple(key.split(".")), first.value, first.given)
        elif option is not None and find_refusal(name) is None and first.value not in {option.default, False}:
            value = first.value
            if isinstance(value, tuple) and option.takes_text:
                value = ",".join(map(str, value))
            draft.put(("kohya", name), value, first.given)


def _hoist_caption_keys(draft: Draft) -> None:
    """What all concepts have in common goes under [captions]."""
    concepts = cast("list[dict[str, Any]]", draft.content.get("concept", []))
    names = dict.fromkeys(name for each in concepts for name in each if find_option_key(name) == f"captions.{name}")
    for name in names:
        values = [each.get(name) for each in concepts]
        if values[0] is None or any(value != values[0] or type(value) is not type(values[0]) for value in values):
            continue
        paths = [("concept", at, name) for at in range(len(concepts))]
        sources = [given for path in paths for given in draft.origins.pop(path, [])]
        for each, path in zip(concepts, paths, strict=True):
            del each[name]
            draft.defaults.discard(path)
        draft.put(("captions", name), values[0], *[g for at, g in enumerate(sources) if g not in sources[:at]])


def iter_leaf_paths(content: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of a recipe; tables of arguments count as one value, [network.args] and [kohya] as a table."""
    for name, value in content.items():
        path = (*prefix, name)
        if isinstance(value, dict) and name not in {"optimizer_args", "lr_scheduler_args"}:
            yield from iter_leaf_paths(cast("dict[str, Any]", value), path)
        elif isinstance(value, list) and name in {"concept", "regularization"}:
            for at, each in enumerate(cast("list[dict[str, Any]]", value)):
                yield from iter_leaf_paths(each, (*path, at))
        else:
            yield path


def clean_name(text: str) -> str:
    """A name that a file can have."""
    name = _RECIPE_NAME.sub("-", text).strip().strip(".").encode()[:120].decode("utf-8", "ignore")
    return name.strip() or "lora"
