"""A recipe from a LoRA: what its metadata has about the training, and what its tensors show of the network.

The file may be a stranger's. Nothing in it is followed: of a path only the last name is used, and a value that is not
what a trainer writes is left out with a line. Only the header and the alphas are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.exchange.base_search import FoundBase, describe_search, find_base_model, hash_file, is_model_folder
from lorabake.exchange.convert import show_value
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source, Unset
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.lora_file.datasets import PLACEHOLDER_FOLDER, TAGS, Trained, clean_path, read_datasets
from lorabake.exchange.lora_file.metadata import normalize, read_options
from lorabake.exchange.lora_file.own_config import read_own_config
from lorabake.exchange.reading import make_error
from lorabake.exchange.trained_images import join_words
from lorabake.inputs.base_model import looks_like_hub_id
from lorabake.inputs.continued_lora import describe_lora
from lorabake.lora.inspect import KIND_DESCRIPTIONS
from lorabake.lora.metadata import (
    as_count,
    as_table,
    iter_tables,
    parse_base_model,
    parse_digest,
    parse_family,
    parse_json_value,
)
from lorabake.lora.network import detect_file_kind, detect_lora_family, list_lora_modules
from lorabake.lora.weights import read_scalars
from lorabake.runs.index import iter_runs_with_digest, read_index
from lorabake.util.files import is_file, open_file, reason
from lorabake.util.safetensors import HeaderError, SafetensorsHeader, can_run_code, parse_header
from lorabake_schemas.families.model_family import LoraFamily, ModelFamily
from lorabake_schemas.families.registry import list_families
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.machine import ContinuedLora
from lorabake_schemas.messages import Message, escape_undecodable, join_list, literal, msg
from lorabake_schemas.sd_scripts import get_network_module, is_lycoris

if TYPE_CHECKING:
    from lorabake_schemas.base import OptionValue
    from lorabake_schemas.inspection import BaseModelInfo

FORMAT = "lora"
TENSORS = "tensors"  # the key of what no metadata has
_MAX_KEYS = 1000  # of a real LoRA, a hundred
_MAX_TEXT = 16 << 20  # characters of a value: the tags of ten thousand images have a tenth of it
_MAX_TENSORS = 50_000  # of the largest LoRA, ten thousand
_PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "float"}
_CHECKED_BY_RANK = frozenset({"lora", "locon"})  # others have no rank in a module that is smaller than it
_RESIZED = re.compile(r"dimension is resized from (\d{1,9}) to ")
# What no LoRA has, apart from images and captions. Those of folders are in one that was trained without a dataset
# configuration.
_RECORDED_BY_FLAGS = frozenset(
    {"captions.caption_dropout_rate", "captions.caption_tag_dropout_rate", "train.bucket_no_upscale"}
)
_UNRECORDED = (
    "sample.prompts", "train.lr_scheduler_type", "train.attention", "train.cache_latents_to_disk",
    "train.max_data_loader_n_workers", "train.no_half_vae", "save.save_every_n_epochs", "save.save_every_n_steps",
    "network.network_weights", "concept.masks", "base.tokenizer_cache_dir",
    "captions.caption_extension", *_RECORDED_BY_FLAGS,
)  # fmt: skip
_TEXTS = ("title", "description", "author", "license", "tags", "usage_hint", "trigger_phrase")
_SCHEDULER_KEYS = {
    "cosine_with_restarts": "train.lr_scheduler_num_cycles", "polynomial": "kohya.lr_scheduler_power",
    "cosine_with_min_lr": "kohya.lr_scheduler_min_lr_ratio", "warmup_stable_decay": "kohya.lr_decay_steps",
}  # fmt: skip
_BASE = "pretrained_model_name_or_path"
_SD_MODULE = re.compile(
    r"(?:lora|oft|lycoris)_(?:te|unet_(?:down_blocks|up_blocks|mid_block|input_blocks|middle_block|output_blocks)_)"
)


@dataclass(frozen=True, slots=True)
class LoraContent:
    """The file: its header, its network by its tensors, the family of its base model if that can be trained."""

    header: SafetensorsHeader
    network: ContinuedLora
    family: ModelFamily | None

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata


def read_lora_file(source: Source) -> ForeignConfig:
    """Raises RecipeError for a file that is not a LoRA which sd-scripts could have made for a known family."""
    content = _open_lora(source)
    metadata = {
        escape_undecodable(key): escape_undecodable(text[:_MAX_TEXT])
        for key, text in list(content.metadata.items())[:_MAX_KEYS]
    }
    ledger, missing = Ledger(normalize(metadata)), list[ImportedKey]()
    own = read_own_config(source, ledger, metadata)
    _take_base(ledger, source, own.base if own else parse_base_model(metadata), missing)
    trained = _read_ai_toolkit(ledger, metadata) or read_datasets(ledger, metadata)
    read_options(ledger, metadata)
    if own is None:
        _take_network(ledger, content, missing)
    ledger.drop_empty_and_secret()
    ledger.settle_rest(msg("no trainer that is known here writes it"))
    if len(content.metadata) > _MAX_KEYS:
        missing.append(_miss("metadata", msg("only the first {n} keys of the metadata were read", n=_MAX_KEYS)))
    if own is not None:
        return own.complete(ledger, tuple(missing), source)
    missing[:0] = _find_run(source, metadata)
    missing.extend(_list_unknowable(ledger, trained, source))
    name = metadata.get("ss_output_name")
    return ForeignConfig(
        format=FORMAT,
        program=_name_program(metadata),
        script=content.family.script if content.family else None,
        name=name if name and name != "None" else source.path.stem,
        options=ledger.options,
        launch=ledger.launch,
        datasets=trained.datasets,
        keys=tuple(ledger.lines),
        missing=tuple(missing),
        complete=False,
    )


def _miss(key: str, why: Message, value: str = "") -> ImportedKey:
    return ImportedKey(key=key, value=value, fate="unknown", to=key, why=why)


def _find_run(source: Source, metadata: Mapping[str, str]) -> Iterator[ImportedKey]:
    """The run of lorabake that made the file, if it is still on this machine."""
    digest = parse_digest(metadata.get("ss_training_comment", ""))
    if digest is None or source.runs is None:
        return
    run = next(iter_runs_with_digest(read_index(source.runs), digest), None)
    if run is not None:
        why = msg("{run} made this LoRA; its recipe.toml is the recipe, and nothing in it is lost", run=run)
        yield ImportedKey(key="recipe", fate="unknown", why=why)


def _open_lora(source: Source) -> LoraContent:
    try:
        if can_run_code(source.path):
            why = msg("it is a torch checkpoint (pickle), which can run code, so lorabake does not load it")
            fix = msg("import the .safetensors file of the same LoRA")
            raise make_error(source, why, fix=fix)
        with open_file(source.path) as file:
            header = parse_header(file)
            if len(header.tensors) > _MAX_TENSORS:
                raise make_error(source, msg("it has {n} tensors, which no LoRA has", n=len(header.tensors)))
            scalars = read_scalars(file, header, [name for name in header.tensors if name.endswith(".alpha")])
    except HeaderError as error:
        raise make_error(source, error.why) from error
    except OSError as error:
        raise make_error(source, reason(error)) from error
    _require_lora(source, header)
    network = describe_lora(source.path.name, header, scalars)
    assert network is not None  # a file of this kind has modules  # noqa: S101
    return LoraContent(header, network, _require_family(source, header))


def _require_lora(source: Source, header: SafetensorsHeader) -> None:
    kind = detect_file_kind(header.shapes)
    if kind == "lora":
        return
    why = KIND_DESCRIPTIONS[kind]
    if kind == "checkpoint":
        fix = msg("a base model is named in a recipe as base.model; `lorabake init` writes a recipe for your images")
    elif kind == "other-lora":
        fix = msg("convert it to sd-scripts' tensor names, or import the configuration it was trained with")
    else:
        fix = msg("`lorabake inspect FILE` describes it")
    raise make_error(source, msg("it is {what}", what=why), fix=fix)


def _require_family(source: Source, header: SafetensorsHeader) -> ModelFamily | None:
    """By the tensors, else by the metadata. None where neither shows which of them it is."""
    found: LoraFamily | None = detect_lora_family(list_lora_modules(header.shapes))
    like_ours = found is not None or any(_SD_MODULE.match(name) for name in header.shapes)
    if found is None and like_ours:
        found = parse_family(header.metadata)
    if isinstance(found, ModelFamily):
        return found
    supported = join_list([family.label for family in list_families()])
    fix = msg("lorabake trains on {families}", families=supported)
    if found is not None:
        raise make_error(source, msg("it is a LoRA for {family}", family=found.label), fix=fix)
    if not like_ours:
        raise make_error(source, msg("it is a LoRA for a model that lorabake does not train"), fix=fix)
    return None


def _name_program(metadata: Mapping[str, str]) -> Message:
    if "ot_revision" in metadata or "ot_branch" in metadata:
        return literal("OneTrainer")
    if _is_ai_toolkit(metadata):
        return literal("ai-toolkit")
    if "ss_network_module" in metadata or "ss_learning_rate" in metadata:
        return literal("sd-scripts")
    return msg("an unknown trainer")


def _is_ai_toolkit(metadata: Mapping[str, str]) -> bool:
    return "ai-toolkit" in metadata.get("software", "") or "training_info" in metadata


def _read_ai_toolkit(ledger: Ledger, metadata: Mapping[str, str]) -> Trained | None:
    """It writes the step and the epoch of the file, and of its settings only the trigger word, as the one tag of a
    folder ``1_WORD`` (its BaseSDTrainProcess.py:387-415). None without that word."""
    if not _is_ai_toolkit(metadata):
        return None
    info = parse_json_value(metadata, "training_info")
    steps = as_count(as_table(info).get("step"))
    if steps and steps > 0:
        said = msg("the step at which the file was saved; the training may have been longer")
        ledger.give("max_train_steps", steps, "training_info", repair=said)
    ledger.note("result", msg("about the program"), "software", "training_info", "version", "name")
    for name, tags in iter_tables(parse_json_value(metadata, TAGS)):
        token = escape_undecodable(name.removeprefix("1_")).strip()
        if list(tags.items()) == [(name.removeprefix("1_"), 1)] and token.isprintable():
            options = {"image_dir": Given(value=PLACEHOLDER_FOLDER, keys=())}
            ledger.give("class_tokens", join_words(token), TAGS, into=options)
            return Trained((ForeignDataset(options={}, subsets=(ForeignSubset(options=options),)),), by_flags=False)
    return None


def _take_base(ledger: Ledger, source: Source, base: BaseModelInfo | None, missing: list[ImportedKey]) -> None:
    """The checkpoint by name and hash: what --model names, or what is in that folder or next to the LoRA."""
    hashes = ("ss_sd_model_hash", "ss_new_sd_model_hash")
    if base is not None and base.is_folder:
        ledger.note("result", msg("the base model was a folder, which has no hash"), *hashes)
    _take_model_name(ledger, "ss_sd_model_name", _BASE)
    _take_model_name(ledger, "ss_vae_name", "vae")
    ledger.note("result", msg("the hash of the VAE"), "ss_vae_hash", "ss_new_vae_hash")
    if base is None:
        ledger.note("result", msg("not a hash"), *hashes)  # to_recipe reports that there is no model
        return
    found = _find_base(source, base)
    if found is None:
        if base.name is not None and looks_like_hub_id(base.name):
            ledger.note(
                "result",
                msg("the hash of the base model, which was not compared: it is a name on Hugging Face"),
                *hashes,
            )
            return
        if source.model is None:
            why = msg(
                "not found next to the LoRA by name or hash; --model FILE names it, --model FOLDER searches a folder"
            )
        else:
            why = describe_search(source.model)
        missing.append(_miss("base.model", why, base.name or ""))
        ledger.note("result", msg("not compared: the base model was not found"), *hashes)
        return
    ledger.options[_BASE] = Given(
        value=str(found.path),
        keys=("ss_sd_model_name",),
        written=str(ledger.get("ss_sd_model_name") or ""),
    )
    ledger.settle("ss_sd_model_name")
    if not found.sure:
        missing.append(_miss("base.model", found.how, found.path.name))
    ledger.note("result", found.how, *hashes)


def _find_base(source: Source, base: BaseModelInfo) -> FoundBase | None:
    named = source.model
    if named is None:
        return find_base_model(base, [source.path.parent])
    if is_model_folder(named):
        return FoundBase(named, msg("named by --model, but not verified: a folder has no hash"), False)
    if not is_file(named):
        return find_base_model(base, [named], smallest=0)
    if base.sha256 is None:
        return FoundBase(named, msg("named by --model, but not verified: the metadata has no hash"), False)
    if hash_file(named) == base.sha256:
        return FoundBase(named, msg("named by --model; its SHA-256 is the recorded one"), True)
    return FoundBase(named, msg("named by --model; another checkpoint than the one that was trained on"), False)


def _take_model_name(ledger: Ledger, key: str, option: str) -> None:
    """A hub id as it is; of anything else only the last name, since a path is another machine's, or a trap."""
    text = ledger.get(key)
    if not isinstance(text, str) or not text:
        return
    if looks_like_hub_id(text) and ".." not in text:
        ledger.give(option, text, key)
        return
    name, repair = clean_path(text)
    if name is None:
        ledger.note("dropped", repair, key)
    else:
        ledger.give(option, name, key, repair=repair)


def _take_network(ledger: Ledger, content: LoraContent, missing: list[ImportedKey]) -> None:
    """What the tensors show, where the metadata has nothing or something else."""
    network = content.network
    _take_network_type(ledger, content)
    _take_rank(ledger, network, missing)
    algorithm = _find_argument(ledger, "algo")
    is_plain = _get(ledger, "network_module") == "networks.lora" and not _get(ledger, "network_args")
    alpha = _get(ledger, "network_alpha")
    if network.alphas and (alpha is None or (is_plain and alpha not in network.alphas)):
        _give_tensors(ledger, "network_alpha", network.alphas[0], "ss_network_alpha", alpha)
    if not network.text_encoder:
        _note_of_tensors(ledger, "network_train_unet_only", True)
    elif not any(module.model == "unet" for module in list_lora_modules(content.header.shapes)):
        _note_of_tensors(ledger, "network_train_text_encoder_only", True)
    elif algorithm or _get(ledger, "network_module"):
        _note_of_tensors(ledger, "network_train_unet_only", False)
    formats = {tensor.dtype for tensor in content.header.tensors.values()}
    precision = next((name for dtype, name in _PRECISIONS.items() if formats == {dtype}), None)
    if precision:
        _note_of_tensors(ledger, "save_precision", precision)


def _take_network_type(ledger: Ledger, content: LoraContent) -> None:
    """Module and arguments by the tensors, of a file whose metadata has none, or one that is not of sd-scripts."""
    kind, module = content.network.type, str(_get(ledger, "network_module") or "")
    if kind is None or module == "lycoris.kohya" or module.startswith("networks."):
        return
    if module:
        said = msg("not a module of sd-scripts; {network} by the tensors", network=kind)
        ledger.give("network_module", get_network_module(kind), "ss_network_module", repair=said)
    else:
        _note_of_tensors(ledger, "network_module", get_network_module(kind))
    if _get(ledger, "network_args") is not None:
        return
    arguments = {"algo": kind} if is_lycoris(kind) else {}
    if content.network.conv_ranks:
        arguments["conv_dim"] = str(content.network.conv_ranks[0])
        if content.network.conv_alphas:
            arguments["conv_alpha"] = f"{content.network.conv_alphas[0]:g}"
    names = {name.partition(".")[2] for name in content.header.tensors}
    arguments |= {"dora_wd": "True"} if "dora_scale" in names else {}
    arguments |= {"use_tucker": "True"} if {"lora_mid.weight", "hada_t1", "lokr_t2"} & names else {}
    arguments |= {"train_norm": "True"} if "w_norm" in names else {}
    if arguments:
        listed = tuple(f"{name}={value}" for name, value in arguments.items())
        _note_of_tensors(ledger, "network_args", listed)


def _take_rank(ledger: Ledger, network: ContinuedLora, missing: list[ImportedKey]) -> None:
    rank, algorithm = _get(ledger, "network_dim"), _find_argument(ledger, "algo") or "lora"
    blocks = _find_argument(ledger, "block_dims") is not None
    comparable = algorithm in _CHECKED_BY_RANK and not blocks
    if network.ranks and (rank is None or (comparable and rank not in network.ranks)):
        _give_tensors(ledger, "network_dim", network.ranks[0], "ss_network_dim", rank)
    comment = ledger.get("ss_training_comment")
    if isinstance(comment, str) and (found := _RESIZED.search(comment)):
        why = msg("the LoRA was resized after the training, in which it was {n}", n=int(found[1]))
        missing.append(_miss("network.network_dim", why))


def _give_tensors(ledger: Ledger, option: str, value: OptionValue, key: str, other: OptionValue | None) -> None:
    """A value of the tensors in place of that of the metadata."""
    if other is None and not ledger.has(key):
        _note_of_tensors(ledger, option, value)
        return
    said = msg("{one} in the metadata, but {other} in the tensors", one=str(ledger.get(key))[:80], other=str(value))
    ledger.give(option, value, key, repair=said)


def _note_of_tensors(ledger: Ledger, option: str, value: OptionValue) -> None:
    """An option that only the tensors show, with its name, since they have no keys."""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else show_value(value)
    text = f"{option}={shown}"
    before = ledger.options.get(option)  # None in the metadata
    written = {TENSORS: text} | dict.fromkeys(before.keys, "None") if before else text
    ledger.options[option] = Given(value=value, keys=(TENSORS, *(before.keys if before else ())), written=written)


def _get(ledger: Ledger, option: str) -> OptionValue | None:
    given = ledger.options.get(option)
    return None if given is None or isinstance(given.value, Unset) else given.value


def _find_argument(ledger: Ledger, name: str) -> str | None:
    given = _get(ledger, "network_args")
    listed = given if isinstance(given, tuple) else ()
    return next((str(each).partition("=")[2] for each in listed if str(each).startswith(f"{name}=")), None)


def _has_token(part: ForeignSubset) -> bool:
    given = part.options.get("class_tokens")
    return given is not None and not isinstance(given.value, Unset)


def _list_unknowable(ledger: Ledger, trained: Trained, source: Source) -> Iterator[ImportedKey]:
    """What a LoRA cannot contain, whoever made it, with what the recipe has instead."""
    concepts = [part for dataset in trained.datasets for part in dataset.subsets if not part.is_reg]
    if source.images is None and concepts:  # else to_recipe reports that there are none
        yield _miss("concept.images", msg("a LoRA has the names of its folders only; --images FOLDER names the place"))
    texts = [f"metadata.{name}" for name in _TEXTS if _get(ledger, f"metadata_{name}")]
    named = any(_has_token(part) for part in concepts)
    if source.images is not None and named:
        why = msg("for other images change token and class together")
        if texts:
            why = msg("for other images change token and class together, and the texts about the LoRA")
        yield _miss(", ".join(["concept.token", "concept.class", *texts]), why)
    elif texts:
        yield _miss(", ".join(texts), msg("the texts about this LoRA, which the new one gets, too"))
    if _get(ledger, "learning_rate") is None and _get(ledger, "optimizer_type") is None:
        yield _miss("train", msg("the metadata has no settings of the training; they are lorabake's defaults"))
        return
    keys = [key for key in _UNRECORDED if not (trained.by_flags and key in _RECORDED_BY_FLAGS)]
    scheduler = _get(ledger, "lr_scheduler")
    keys += [key for name, key in _SCHEDULER_KEYS.items() if scheduler == name]
    said = msg("no LoRA has these keys, so they are lorabake's defaults")
    yield ImportedKey(key=", ".join(sorted(keys)), fate="unknown", why=said)
