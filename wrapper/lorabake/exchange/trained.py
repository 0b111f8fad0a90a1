"""What a training does, by sd-scripts' options: two descriptions are equal if the same is trained in both.

Lines are TU library/train_util.py, CU library/config_util.py and LY lycoris/kohya.py at the pin.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from lorabake.planning.settings_network import ALPHA_IGNORED_BY, IA3_PRESET_FILE, RANK_IGNORED_BY
from lorabake_schemas.base import OptionValue
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.partners import NEVER_READ, OPTION_PARTNERS, Condition, Partner
from lorabake_schemas.options import DATASET_LEVELS, DatasetOptions, Option
from lorabake_schemas.plan import Plan
from lorabake_schemas.sd_scripts import OPTIMIZERS, is_lycoris, is_schedule_free
from lorabake_schemas.signatures import Signatures, find_optimizer_path
from lorabake_schemas.values import parse_argument

Values = Mapping[str, OptionValue]
Blocks = Sequence[tuple[Values, Sequence[Values]]]
Unmet = tuple[Partner, Condition | None]

# Options of the train file that are the dataset's under another name (CU:262).
DATASET_NAMES = {"train_batch_size": "batch_size", "dataset_repeats": "num_repeats"}
# Where a run's files are, and what only a screen shows.
FILE_OPTIONS = frozenset(
    (
        "config_file", "dataset_config", "output_config", "output_dir", "output_name", "logging_dir", "train_data_dir",
        "reg_data_dir", "in_json", "console_log_level", "console_log_file", "console_log_simple", "wandb_api_key",
        "huggingface_token", "learning_rate", "caption_extention",
    )
)  # fmt: skip
# Values that do the same as sd-scripts does without the option.
NEUTRAL_VALUES: Mapping[str, OptionValue] = {
    "max_token_length": 75, "clip_skip": 1, "min_timestep": 0, "max_timestep": 1000, "min_snr_gamma": 0,
    "noise_offset": 0, "multires_noise_iterations": 0, "ip_noise_gamma": 0, "adaptive_noise_scale": 0,
    "scale_weight_norms": 0, "network_dropout": 0, "v_pred_like_loss": 0, "save_precision": "float",
    "caption_separator": ",",
}  # fmt: skip
DEFAULT_RANK = 4  # networks/lora.py:426, LY:68
ATTENTION = ("mem_eff_attn", "xformers", "sdpa")  # the first one acts (TU:3363)
_OWN = (
    "optimizer_type", "use_8bit_adam", "use_lion_optimizer", "optimizer_args", "unet_lr", "text_encoder_lr",
    "network_module", "network_dim", "network_alpha", "network_args", "lr_scheduler_args", "max_train_steps",
    "log_with", "sample_prompts", *ATTENTION,
)  # fmt: skip


class TrainerFacts(NamedTuple):
    """What sd-scripts knows, and the family that it trains."""

    options: Mapping[str, Option]
    dataset: DatasetOptions
    signatures: Signatures
    family: ModelFamily


@dataclass(frozen=True, slots=True)
class Training:
    """What differs from sd-scripts' defaults and has an effect. ``train`` are options of the script, arguments as
    "network_args.conv_dim"; ``images`` those of each folder at each resolution. ``idle`` are options without effect.
    """

    train: Mapping[str, object]
    images: tuple[Mapping[str, object], ...]
    idle: Mapping[str, Unmet | None] = field(default_factory=dict["str", "Unmet | None"], compare=False)


def describe_plan(plan: Plan, trainer: TrainerFacts) -> Training:
    """What a plan trains."""
    train = {setting.option: setting.value for setting in plan.train}
    blocks = [
        (
            {setting.option: setting.value for setting in block.settings},
            [{setting.option: setting.value for setting in part.settings} for part in block.subsets],
        )
        for block in plan.datasets
    ]
    launch = {"num_processes": plan.launch.num_processes, "gpu_ids": plan.launch.gpu_ids}
    named = {f"launch.{name}": value for name, value in launch.items() if value not in {None, 1}}
    found = describe_training(train, blocks, trainer)
    return Training({**found.train, **named}, found.images, found.idle)


def describe_training(train: Values, blocks: Blocks, trainer: TrainerFacts) -> Training:
    """What these options train; ``blocks`` are the datasets with their subsets. None of them has None as a value."""
    defaults = {name: option.default for name, option in trainer.options.items() if option.default is not None}
    given: dict[str, OptionValue] = {name: value for name, value in {**defaults, **train}.items() if value != ""}
    facts = _collect_facts(given, blocks, trainer)
    scope = ChainMap[str, object](facts, {**given})
    of_images = _list_image_options(trainer.dataset)
    idle: dict[str, Unmet | None] = {}
    kept = dict[str, object]()
    for name, value in given.items():
        if name in FILE_OPTIONS or name in _OWN or DATASET_NAMES.get(name, name) in of_images:
            continue
        if _is_off(name, value, defaults):
            continue
        if (found := find_idle(name, scope)) is not None:
            idle[name] = found[0]
        else:
            kept[name] = value
    kept |= _describe_optimizer(given, facts, trainer)
    kept |= _describe_network(given, trainer)
    if "max_train_epochs" not in kept:
        kept["max_train_steps"] = given.get("max_train_steps", 0)
    if given.get("log_with") in {"wandb", "all"}:
        kept["log_with"] = "wandb"
    if given.get("sample_prompts"):
        kept["sample_prompts"] = True
    attention = next((name for name in ATTENTION if given.get(name)), None)
    if attention:
        kept["attention"] = attention
    images = tuple(
        sorted(
            (_describe_images(part, block, given, facts, trainer, idle) for block, parts in blocks for part in parts),
            key=lambda each: [str(each.get(name)) for name in ("is_reg", "image_dir", "metadata_file", "resolution")],
        )
    )
    return Training(kept, images, idle)


def list_origins(name: str) -> tuple[str, ...]:
    """The options of sd-scripts that a name in a Training comes from."""
    own = name.partition(".")[0]
    return {
        "attention": ATTENTION,
        "optimizer_type": ("optimizer_type", "use_8bit_adam", "use_lion_optimizer"),
        "network_type": ("network_module", "network_args"),
        "unet_lr": ("unet_lr", "learning_rate"),
        "text_encoder_lr": ("text_encoder_lr", "learning_rate"),
        "batch_size": ("batch_size", "train_batch_size"),
        "num_repeats": ("num_repeats", "dataset_repeats"),
        "max_train_steps": ("max_train_steps", "max_train_epochs"),
        "max_train_epochs": ("max_train_epochs", "max_train_steps"),
    }.get(own, (own,))


def _list_image_options(dataset: DatasetOptions) -> frozenset[str]:
    return frozenset(name for level in DATASET_LEVELS for name in dataset.at(level))


def _is_off(name: str, value: object, defaults: Mapping[str, object]) -> bool:
    return value is None or value is False or value == defaults.get(name) or value == NEUTRAL_VALUES.get(name, None)


def find_idle(option: str, scope: Mapping[str, object]) -> tuple[Unmet | None] | None:
    """Why an option has no effect (None within: sd-scripts never reads it); None where it acts, or stops sd-scripts."""
    if option in NEVER_READ:
        return (None,)
    for partner in OPTION_PARTNERS.get(option, ()):
        if partner.stops:
            continue
        met: Callable[[Condition], bool] = lambda each: each.is_met(cast("OptionValue | None", scope.get(each.option)))  # noqa: E731
        if partner.needs and not any(map(met, partner.needs)):
            return ((partner, None),)
        if blocked := next(filter(met, partner.blocked), None):
            return ((partner, blocked),)
    return None


def _collect_facts(given: Values, blocks: Blocks, trainer: TrainerFacts) -> dict[str, object]:
    """Those of the table of partners, and whether any folder has what some options of the run need."""
    optimizer = read_optimizer(given)
    arguments = read_arguments(given.get("optimizer_args"))
    relative = bool(arguments.get("relative_step", True)) or bool(arguments.get("warmup_init", False))
    own_rate = optimizer == "Adafactor" and relative
    found: dict[str, object] = {
        "own_rate": own_rate,
        "own_schedule": is_schedule_free(optimizer) or (own_rate and given.get("lr_scheduler") != "adafactor"),
        "several_gpus": True,
        "family_without_use": "clip_skip" in trainer.family.ignored_options,
        "safetensors_model": str(given.get("pretrained_model_name_or_path", "")).endswith(".safetensors"),
    }
    for table in (each for block, parts in blocks for each in (block, *parts)):
        found |= {name: value for name, value in table.items() if value and name in _OF_SOME_FOLDER}
    return found


_OF_SOME_FOLDER = ("is_reg", "alpha_mask", "conditioning_data_dir", "metadata_file", "validation_split")


def read_optimizer(given: Values) -> str:
    """sd-scripts' name for it, AdamW without one (TU:4846)."""
    if given.get("use_8bit_adam"):
        return "AdamW8bit"
    if given.get("use_lion_optimizer"):
        return "Lion"
    named = str(given.get("optimizer_type") or "AdamW")
    return next((name for name in OPTIMIZERS if name.lower() == named.lower()), named)


def read_arguments(value: object) -> dict[str, object]:
    """A list of "name=value" as sd-scripts evaluates it."""
    if not isinstance(value, tuple | list):
        return {}
    pairs = (str(item).partition("=") for item in cast("Sequence[object]", value))
    return {name.strip(): parse_argument(text.strip()) for name, _, text in pairs}


def _describe_optimizer(given: Values, facts: Mapping[str, object], trainer: TrainerFacts) -> dict[str, object]:
    """The optimizer, its arguments that differ from those of its class, and the rates of both parts."""
    name = read_optimizer(given)
    path = find_optimizer_path(name, trainer.signatures) or name
    signature = trainer.signatures.find_optimizer(path)
    known = {each.name: each.default for each in signature.parameters} if signature else {}
    arguments = read_arguments(given.get("optimizer_args"))
    found: dict[str, object] = {"optimizer_type": path}
    found |= {
        f"optimizer_args.{key}": value
        for key, value in arguments.items()
        if key not in known or _freeze(known[key]) != _freeze(value)
    }
    if not facts["own_schedule"]:
        scheduled = read_arguments(given.get("lr_scheduler_args"))
        found |= {f"lr_scheduler_args.{key}": value for key, value in scheduled.items()}
    if facts["own_rate"]:
        return found
    main, text = given.get("learning_rate"), given.get("text_encoder_lr")
    text = text[0] if isinstance(text, tuple) and text else text
    if not given.get("network_train_text_encoder_only"):
        found["unet_lr"] = given.get("unet_lr", main)
    if not given.get("network_train_unet_only"):
        found["text_encoder_lr"] = main if text is None or isinstance(text, tuple) else text
    return found


def read_network(given: Values) -> tuple[str, dict[str, object]]:
    """network.type, and the arguments apart from algo."""
    module, arguments = str(given.get("network_module") or ""), read_arguments(given.get("network_args"))
    if module == "lycoris.kohya":
        algo = str(arguments.pop("algo", "") or "lora").lower()
        return ("locon" if algo == "lora" else algo), arguments
    return ("lora" if module == "networks.lora" else module), arguments


def _describe_network(given: Values, trainer: TrainerFacts) -> dict[str, object]:
    network, arguments = read_network(given)
    rank = given.get("network_dim") or DEFAULT_RANK
    alpha = given.get("network_alpha") or rank
    found: dict[str, object] = {"network_type": network}
    if network not in RANK_IGNORED_BY:
        found["network_dim"] = rank
    if network not in ALPHA_IGNORED_BY:
        found["network_alpha"] = alpha
    if is_lycoris(network):
        arguments = _describe_lycoris({"conv_dim": rank, "conv_alpha": alpha, **arguments}, network, trainer)
        neutral: Mapping[str, object] = {"factor": -1, "block_size": 4}
    else:
        if not arguments.get("conv_dim"):
            arguments.pop("conv_dim", None)
            arguments.pop("conv_alpha", None)
        elif arguments.get("conv_alpha") == 1:
            del arguments["conv_alpha"]
        neutral = {"unit": 1}  # networks.dylora
    for name, value in arguments.items():
        kept = name in {"conv_dim", "conv_alpha"} or (value and value != neutral.get(name))
        if kept:
            found[f"network_args.{name}"] = _freeze(value)
    return found


def _describe_lycoris(arguments: dict[str, object], network: str, trainer: TrainerFacts) -> dict[str, object]:
    """Without what the algorithm ignores, and with one name for each preset."""
    if arguments.get("preset") in {"full", trainer.family.full_preset_file}:
        arguments.pop("preset", None)
    if arguments.get("preset") == IA3_PRESET_FILE:
        arguments["preset"] = "ia3"
    if network in RANK_IGNORED_BY and arguments["conv_dim"]:  # only whether convolutions are trained
        arguments["conv_dim"] = DEFAULT_RANK
    if network in ALPHA_IGNORED_BY:
        arguments.pop("conv_alpha")
    return arguments


def _describe_images(
    part: Values,
    block: Values,
    given: Values,
    facts: Mapping[str, object],
    trainer: TrainerFacts,
    idle: dict[str, Unmet | None],
) -> Mapping[str, object]:
    """What sd-scripts finds for a folder: its own value, else the dataset's, else the train file's (CU:455). Adds to
    ``idle``."""
    from_train = {DATASET_NAMES.get(name, name): value for name, value in given.items()}
    of_run = {name: value for name, value in facts.items() if name not in _OF_SOME_FOLDER}
    scope = ChainMap[str, object](dict(part), dict(block), {**of_run, **from_train})
    found = dict[str, object]()
    for name in sorted(_list_image_options(trainer.dataset)):
        value = scope.get(name)
        if name in NEUTRAL_IMAGE_VALUES and value == NEUTRAL_IMAGE_VALUES[name]:
            continue
        if name == "resolution":
            found[name] = read_size(value)
        elif name == "class_tokens":
            found[name] = " ".join(str(value or "").replace(",", " ").split())
        elif value in (None, False, ""):
            continue
        elif (cause := find_idle(name, scope)) is not None:
            idle[name] = cause[0]
        else:
            found[name] = _freeze(value)
    return {name: value for name, value in found.items() if value not in (None, "")}


# sd-scripts' own values where a dataset leaves an option out.
NEUTRAL_IMAGE_VALUES: Mapping[str, object] = {
    "num_repeats": 1, "batch_size": 1, "keep_tokens": 0, "caption_dropout_rate": 0,
    "caption_dropout_every_n_epochs": 0, "caption_tag_dropout_rate": 0, "token_warmup_min": 1, "token_warmup_step": 0,
    "validation_split": 0, "caption_separator": ",", "network_multiplier": 1.0, "is_reg": False,
}  # fmt: skip


def read_size(value: object) -> object:
    """512, "512", "512,768" and (512, 768) as two sides; anything else as it is."""
    sides = value.split(",") if isinstance(value, str) else value
    sides = [sides] if isinstance(sides, int) else sides
    if not isinstance(sides, list | tuple):
        return value
    items = cast("Sequence[object]", sides)
    try:
        numbers = [int(str(item).strip()) for item in items]
    except ValueError:
        return value
    return (numbers[0], numbers[-1]) if len(numbers) in {1, 2} else value


def _freeze(value: object) -> object:
    return tuple(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else value


def iter_differences(wanted: Training, found: Training) -> Iterator[tuple[str, int | None, object, object]]:
    """Each name that differs, with the place among the images, what was wanted and what was found."""
    for name in sorted(wanted.train.keys() | found.train.keys()):
        if wanted.train.get(name) != found.train.get(name):
            yield name, None, wanted.train.get(name), found.train.get(name)
    for at in range(max(len(wanted.images), len(found.images))):
        one: Mapping[str, object] = wanted.images[at] if at < len(wanted.images) else {}
        two: Mapping[str, object] = found.images[at] if at < len(found.images) else {}
        for name in sorted(one.keys() | two.keys()):
            if one.get(name) != two.get(name):
                yield name, at, one.get(name), two.get(name)
