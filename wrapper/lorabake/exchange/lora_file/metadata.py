"""What a trainer wrote into a LoRA about its training, as options of sd-scripts.

Every key is one that train_network.py writes at the pin (:1003-1221) or wrote in an older version; a file may come from
anybody, so a value that is not what sd-scripts would have written is left out, with a line.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping

from lorabake.exchange.convert import list_script_options, to_argument, to_number, to_numbers, to_whole
from lorabake.exchange.foreign import UNSET, Given
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.trained import NEUTRAL_VALUES
from lorabake.lora.metadata import as_table, parse_digest, parse_json_value, parse_own_comment
from lorabake_schemas.families.registry import list_families
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.recipe_keys import find_option_key
from lorabake_schemas.sd_scripts import OPTIMIZER_CLASSES

OPTION_BY_KEY = {"ss_debiased_estimation": "debiased_estimation_loss"}
# Those of the command line: a dataset configuration has its own, and these are its defaults only.
FALLBACKS = ("ss_caption_dropout_rate", "ss_caption_dropout_every_n_epochs", "ss_caption_tag_dropout_rate")
_RESULT = msg("a result of the training, not a setting")
_COUNT = msg("follows from the images, their repeats and the batch size")
_OF_FILE = msg("describes the file, not the training")
_FALLBACK = msg("the dataset configuration can have another value, which is not in a LoRA")
_FAMILY = msg("the family of the base model, which is read from the tensors")
# Keys that are no settings, by why.
NOTED: Mapping[str, Message] = (
    dict.fromkeys(("ss_session_id", "ss_training_started_at", "ss_training_finished_at"), _RESULT)
    | dict.fromkeys(
        (
            "ss_num_train_images", "ss_num_reg_images", "ss_num_validation_images", "ss_num_batches_per_epoch",
            "ss_total_batch_size",
        ),
        _COUNT,
    )
    | dict.fromkeys(
        (
            "sshs_model_hash", "sshs_legacy_hash", "format", "modelspec.sai_model_spec", "modelspec.implementation",
            "modelspec.implementation_version", "modelspec.date", "modelspec.hash_sha256", "modelspec.thumbnail",
            "modelspec.architecture", "modelspec.resolution", "modelspec.encoder_layer", "modelspec.merged_from",
            "modelspec.is_negative_embedding", "modelspec.unet_dtype", "modelspec.vae_dtype", "modelspec.preprocessor",
        ),
        _OF_FILE,
    )
    | {"ss_base_model_version": _FAMILY}
)  # fmt: skip
ABOUT = tuple(
    f"modelspec.{name}"
    for name in ("title", "author", "description", "license", "tags", "usage_hint", "trigger_phrase")
)
_CALL = re.compile(r"([A-Za-z_][\w.]{0,200})(?:\((.*)\))?", re.DOTALL)
_ARGUMENT = re.compile(r",(?=[A-Za-z_]\w*=)")
_MAX_ARGUMENTS = 100
_OLD_LOCON = "locon.locon_kohya"


def read_options(ledger: Ledger, metadata: Mapping[str, str]) -> None:
    """The options of the training script; what the dataset and the base model take is settled before."""
    _read_optimizer(ledger)
    _read_rates(ledger)
    _read_length(ledger)
    _read_network(ledger, metadata)
    _read_about(ledger)
    _read_comment(ledger)
    _read_commit(ledger)
    for key, why in NOTED.items():
        ledger.note("result", why, key)
    if ledger.has("ss_datasets"):
        for key in FALLBACKS:
            if to_number(ledger.get(key)) == 0:
                ledger.drop(_FALLBACK, key)
    for key in ledger.list_open("ss_"):
        take_recorded(ledger, key)


def take_recorded(ledger: Ledger, key: str, option: str | None = None) -> None:
    """A key that is named like its option. None is what sd-scripts itself does without it, which a recipe has to say
    where lorabake would do something else."""
    option = option or OPTION_BY_KEY.get(key, key.removeprefix("ss_"))
    if option not in list_script_options() or option in ledger.options:
        return
    if ledger.get(key) is None:
        ledger.settle(key)
        value = NEUTRAL_VALUES.get(option, UNSET) if find_option_key(option) else UNSET
        ledger.options[option] = Given(value=value, keys=(key,), written="None")
    else:
        ledger.take_option(key, option)


def normalize(metadata: Mapping[str, str]) -> dict[str, object]:
    """The values as Python had them: None for the text "None"."""
    return {key: None if text == "None" else text for key, text in metadata.items()}


def _read_optimizer(ledger: Ledger) -> None:
    """``torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))``: class and arguments (train_util.py:5192)."""
    text = ledger.get("ss_optimizer")
    found = _CALL.fullmatch(text) if isinstance(text, str) else None
    if not found:
        if text:
            ledger.drop(msg("not the optimizer that sd-scripts writes here"), "ss_optimizer")
        return
    arguments = [part for part in _ARGUMENT.split(found[2] or "") if "=" in part][:_MAX_ARGUMENTS]
    given = dict(part.split("=", 1) for part in arguments)
    ledger.give("optimizer_type", _name_optimizer(found[1], given), "ss_optimizer")
    if given:
        listed = tuple(f"{name}={_as_literal(value)}" for name, value in given.items())
        ledger.give("optimizer_args", listed, "ss_optimizer")


def _name_optimizer(path: str, arguments: Mapping[str, str]) -> str:
    """sd-scripts' own name where it has one: of a class of the same package."""
    if path.startswith("torch.optim.") and path.endswith(".SGD"):
        return "SGDNesterov" if "momentum" in arguments and "nesterov" not in arguments else "SGD"
    package, class_name = path.partition(".")[0], path.rpartition(".")[2]
    for name, place in OPTIMIZER_CLASSES.items():
        if (place.partition(".")[0], place.rpartition(".")[2]) == (package, class_name):
            return name
    return class_name if path.startswith("torch.optim.") else path


def _as_literal(text: str) -> str:
    """sd-scripts wrote ``str`` of each value, and reads a Python literal."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return repr(text)
    return text


def _read_rates(ledger: Ledger) -> None:
    scheduler = ledger.get("ss_lr_scheduler")
    if isinstance(scheduler, str) and scheduler.startswith("adafactor:"):  # TU:4915: Adafactor with relative_step
        rate = to_number(scheduler.partition(":")[2])
        said = msg("sd-scripts writes the learning rate of Adafactor with relative_step here")
        ledger.give("lr_scheduler", "adafactor", "ss_lr_scheduler", repair=said)
        if rate is not None:
            ledger.give("learning_rate", rate, "ss_lr_scheduler", repair=said)
        ledger.drop(said, "ss_learning_rate", "ss_unet_lr", "ss_text_encoder_lr")
    text = ledger.get("ss_text_encoder_lr")
    if isinstance(text, str):
        rates = to_numbers(text.strip("[]"))  # a list with several text encoders
        if rates is None:
            ledger.drop(msg("not a number, so it is left out"), "ss_text_encoder_lr")
        else:
            ledger.give("text_encoder_lr", rates[0] if len(set(rates)) == 1 else rates, "ss_text_encoder_lr")


def _read_length(ledger: Ledger) -> None:
    """max_train_steps is written for every run; where it is a number of whole epochs, these were probably meant."""
    steps, epochs, batches = (
        to_whole(ledger.get(f"ss_{name}")) for name in ("max_train_steps", "num_epochs", "num_batches_per_epoch")
    )
    accumulated = to_whole(ledger.get("ss_gradient_accumulation_steps")) or 1
    at = to_whole(ledger.get("ss_steps"))
    if not steps or steps < 0:
        ledger.note("unknown", msg("not a number, so it is left out"), "ss_max_train_steps")
    elif epochs and batches and accumulated > 0 and steps == epochs * math.ceil(batches / accumulated):
        ledger.give("max_train_epochs", epochs, "ss_num_epochs", "ss_max_train_steps")
    else:
        ledger.give("max_train_steps", steps, "ss_max_train_steps")
    ledger.note("result", _COUNT, "ss_num_epochs")
    if at and steps and at < steps:
        said = msg(
            "the file was saved at step {step} of {steps}; the recipe is that of all steps", step=at, steps=steps
        )
        ledger.drop(said, "ss_steps", "ss_epoch")
    ledger.note("result", _RESULT, "ss_steps", "ss_epoch")
    size, total = (to_whole(ledger.get(f"ss_{name}")) for name in ("batch_size_per_device", "total_batch_size"))
    if size and total and size > 0 and accumulated > 0 and total > size * accumulated:
        processes, rest = divmod(total, size * accumulated)
        if not rest:
            ledger.give("num_processes", processes, "ss_total_batch_size", into=ledger.launch)


def _read_network(ledger: Ledger, metadata: Mapping[str, str]) -> None:
    given = as_table(parse_json_value(metadata, "ss_network_args"))
    arguments = {
        escape_undecodable(name): escape_undecodable(to_argument(value))
        for name, value in list(given.items())[:_MAX_ARGUMENTS]
        if value not in (None, "", "None") and isinstance(value, str | int | float)
    }
    if to_number(arguments.get("dropout")) == to_number(ledger.get("ss_network_dropout")):
        arguments.pop("dropout", None)  # sd-scripts adds network_dropout (train_network.py:676)
    module = ledger.get("ss_network_module")
    if module == _OLD_LOCON:
        said = msg("the first version of LoCon, which LyCORIS replaced")
        ledger.give("network_module", "lycoris.kohya", "ss_network_module", repair=said)
        arguments.setdefault("algo", "locon")
    if "preset" in arguments and arguments["preset"] in {family.full_preset_file for family in list_families()}:
        arguments["preset"] = "full"  # lorabake's own file for it (S35)
    if arguments:
        ledger.give("network_args", tuple(f"{name}={value}" for name, value in arguments.items()), "ss_network_args")
    elif metadata.get("ss_network_args"):
        ledger.drop(msg("not the JSON that sd-scripts writes here"), "ss_network_args")


def _read_about(ledger: Ledger) -> None:
    """ModelSpec's keys that a person writes; a title that is the file's name is sd-scripts' default."""
    if ledger.get("modelspec.title") == ledger.get("ss_output_name"):
        ledger.note("default", msg("the name of the LoRA"), "modelspec.title")
    for key in [key for key in ABOUT if key in ledger.list_open()]:
        ledger.take_text(key, key.replace("modelspec.", "metadata_"))
    range_ = ledger.get("modelspec.timestep_range")
    ends = to_numbers(range_) if isinstance(range_, str) else None
    if ends and len(ends) == 2:
        ledger.give("min_timestep", int(ends[0]), "modelspec.timestep_range")
        ledger.give("max_timestep", int(ends[1]), "modelspec.timestep_range")
    prediction = ledger.get("modelspec.prediction_type")
    if prediction in ("v", "epsilon"):
        ledger.give("v_parameterization", prediction == "v", "modelspec.prediction_type")


def _read_comment(ledger: Ledger) -> None:
    text = ledger.get("ss_training_comment")
    if not isinstance(text, str):
        return
    own, digest = parse_own_comment(text), parse_digest(text)
    if own:
        ledger.give("training_comment", own, "ss_training_comment")
    elif digest:
        ledger.note(
            "result",
            msg("the digest of the run, which `lorabake inspect` finds if it still exists"),
            "ss_training_comment",
        )


def _read_commit(ledger: Ledger) -> None:
    if ledger.has("ss_sd_scripts_commit_hash"):
        said = msg("the version of sd-scripts; `lorabake run --commit` trains with another one than the pinned")
        ledger.drop(said, "ss_sd_scripts_commit_hash")
