"""TOML files of LoRA_Easy_Training_Scripts (derrian-distro's, and the fork of 67372a).

The window saves a table for each of its groups: ``[general_args.args]`` are options of the training script,
``[general_args.dataset_args]`` those of the dataset, ``[[subsets]]`` the folders. Its backend (utils/validation.py)
leaves out whatever is zero, empty or false, chooses the network module by the network's arguments, and computes steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.convert import list_script_options, to_argument, to_number, to_numbers, to_switch, to_text
from lorabake.exchange.foreign import UNSET, ForeignConfig, ForeignDataset, ForeignSubset, Given, Unset
from lorabake.exchange.ledger import NO_NUMBER, Ledger
from lorabake.exchange.optimizers import find_optimizer
from lorabake.exchange.reading import find_toml_line, flatten, make_error, parse_toml_table
from lorabake_schemas.families.registry import DEFAULT_FAMILY, get_family, list_families
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

FORMAT = "easy-training-scripts"
PROGRAM = msg("LoRA_Easy_Training_Scripts")
# Groups for what is not a LoRA for Stable Diffusion: the backend starts another script.
_OTHER_MODELS = {"flux_args": msg("Flux"), "anima_args": msg("Anima")}
_BLOCK_ARGUMENTS = (
    "down_lr_weight", "up_lr_weight", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"
)  # fmt: skip
# A zero that means something else than the option's default.
_ZERO_MATTERS = ("text_encoder_lr", "unet_lr", "seed")
_WINDOW = msg("only the window of LoRA_Easy_Training_Scripts uses it")
_FORK = msg("an option of this program's own version of sd-scripts; kohya's has no such option")
_UNKNOWN = msg("neither this program nor sd-scripts has such an option")
_UNREAD = msg("the program reads only what is under args and dataset_args, so it has no effect")
_NO_TRAINING = msg("it is for textual inversion, not for a LoRA")
_LOST_ZERO = msg("the program leaves zeros out, so sd-scripts would have used its default")
_WINDOW_KEYS = (
    "saving_args.args.easy_name", "saving_args.args.save_toml", "saving_args.args.save_toml_location",
    "saving_args.args.tag_occurrence", "saving_args.args.tag_file_location", "logging_args.args.run_name_mode",
    "logging_args.args.log_prefix_mode", "logging_args.args.run_name",
)  # fmt: skip
_FORK_KEYS = frozenset((
    "flow_model", "flow_use_ot", "flow_timestep_distribution", "flow_uniform_static_ratio", "flow_logit_mean",
    "flow_logit_std", "contrastive_flow_matching", "cfm_lambda", "vae_custom_scale", "vae_custom_shift",
    "vae_reflection", "zero_cond_dropout", "zero_lr_warmup", "protected_tags_file", "multires_training",
    "random_crop_padding_percent", "gamma_aug", "gamma_aug_range", "gamma_aug_rate", "shuffle_caption_sigma",
    "target_image_dir", "is_val", "split_mode", "train_blocks", "split_qkv", "unsloth_offload_checkpointing",
))  # fmt: skip


def read_easy(source: Source) -> ForeignConfig:
    """Raises RecipeError for a damaged file, another kind of training, and other models than Stable Diffusion's."""
    text, table = parse_toml_table(source)
    _refuse_others(source, text, table)
    ledger = Ledger(flatten(source, table))
    ledger.drop_empty_and_secret()
    _fill_in_name(ledger)
    ledger.drop(_WINDOW, *_WINDOW_KEYS, *(key for key in ledger.list_open() if key.startswith("train_mode")))
    switches = {f"general_args.args.{family.name}": family for family in list_families()}
    family = next((switches[key] for key in switches if to_switch(ledger.get(key))), get_family(DEFAULT_FAMILY))
    ledger.drop(msg("it chooses the training script, as the base model does here"), *switches)
    _read_network(ledger)
    _read_optimizer(ledger)
    _read_schedule(ledger)
    _read_launch(ledger)
    dataset = _read_dataset(ledger, table.get("subsets", []))
    _read_rest(ledger)
    return ForeignConfig(
        format=FORMAT,
        program=PROGRAM,
        script=family.script,
        name=_text_of(ledger, "output_name"),
        options=ledger.options,
        launch=ledger.launch,
        datasets=(dataset,) if dataset.subsets else (),
        keys=tuple(ledger.lines),
    )


def _text_of(ledger: Ledger, option: str) -> str | None:
    given = ledger.options.get(option)
    return given.value if given is not None and isinstance(given.value, str) else None


def _refuse_others(source: Source, text: str, table: dict[str, Any]) -> None:
    groups = [name for name in table if name.endswith("_args")]
    if not groups and "subsets" not in table:
        raise make_error(source, msg("it has none of the tables of {program}", program=PROGRAM))
    for name in ("train_mode", *groups):
        if name in table and not isinstance(table[name], dict):
            line = find_toml_line(text, name)
            raise make_error(source, msg("{key} is not a table", key=name), line, msg("write [{key}]", key=name))
    subsets = table.get("subsets", [])
    if not isinstance(subsets, list) or not all(isinstance(item, dict) for item in cast("list[object]", subsets)):
        line = find_toml_line(text, "subsets")
        raise make_error(source, msg("{key} is not a list of tables", key="subsets"), line, msg("write [[subsets]]"))
    for name, model in _OTHER_MODELS.items():
        if cast("dict[str, object]", table.get(name) or {}).get("args"):
            line = find_toml_line(text, name)
            raise make_error(source, msg("it trains {model}, which lorabake cannot", model=model), line)
    mode = cast("dict[str, object]", table.get("train_mode") or {}).get("train_mode", "lora")
    if mode != "lora":
        line = find_toml_line(text, "train_mode")
        raise make_error(source, msg("it trains {model}, which lorabake cannot", model=to_text(mode) or "?"), line)


def _read_network(ledger: Ledger) -> None:
    """The network's arguments, and the module that follows from them (validate_args)."""
    start = "network_args.args.network_args."
    keys = ledger.list_open(start)
    names = {key.removeprefix(start): key for key in keys}
    fa = "network_args.args.fa"
    module, why = "networks.lora", ("",)
    if to_switch(ledger.get(fa)):
        module, why = "networks.lora_fa", (fa,)
    if "algo" in names:
        module, why = "lycoris.kohya", (names["algo"],)
    elif "unit" in names:
        module, why = "networks.dylora", (names["unit"],)
    arguments = tuple(text for name, key in names.items() if (text := _format_network_argument(ledger, name, key)))
    if arguments:
        ledger.give("network_args", arguments, *keys)
    ledger.give("network_module", module, *filter(None, why))
    ledger.note("off", None, fa)


def _format_network_argument(ledger: Ledger, name: str, key: str) -> str | None:
    value = ledger.get(key)
    if name in _BLOCK_ARGUMENTS:
        numbers = to_numbers(value)
        if numbers is None:
            ledger.drop(NO_NUMBER, key)
            return None
        return f"{name}={','.join(str(number) for number in numbers)}"
    return f"{name}={to_argument(value)}"


def _read_optimizer(ledger: Ledger) -> None:
    start = "optimizer_args.args.optimizer_args."
    keys = ledger.list_open(start)
    if keys:
        arguments = tuple(f"{key.removeprefix(start)}={to_argument(ledger.get(key))}" for key in keys)
        ledger.give("optimizer_args", arguments, *keys)
    key = "optimizer_args.args.optimizer_type"
    name = to_text(ledger.get(key))
    if name is None:
        return
    found = find_optimizer(name)
    repair = None
    if found is None:
        found, repair = name, msg("the trainer has no optimizer of this name; write one that it has")
    elif found.lower() != name.lower():
        repair = msg("the trainer has {name} as {found}", name=name, found=found)
    ledger.give("optimizer_type", found, key, repair=repair)


def _read_schedule(ledger: Ledger) -> None:
    """The scheduler, its arguments, and the warm-up, which is a share of all steps."""
    base = "optimizer_args.args."
    kind, named, cycles = (base + name for name in ("lr_scheduler_type", "lr_scheduler", "lr_scheduler_num_cycles"))
    start = base + "lr_scheduler_args."
    arguments = {key.removeprefix(start): key for key in ledger.list_open(start)}
    scheduler = (to_text(ledger.get(kind)) or to_text(ledger.get(named)) or "").lower()
    keys = tuple(key for key in (kind, named) if ledger.has(key))
    if "rex" in scheduler:
        _replace_rex(ledger, keys, arguments, cycles)
    elif "cosineannealing" in scheduler.replace("_", "") or "cawr" in scheduler:
        _replace_cosine(ledger, keys, arguments, cycles)
    else:
        if arguments:
            texts = tuple(f"{name}={to_argument(ledger.get(key))}" for name, key in arguments.items())
            ledger.give("lr_scheduler_args", texts, *arguments.values())
        if ledger.has(named):
            ledger.give("lr_scheduler", scheduler.replace(" ", "_") if not ledger.has(kind) else "cosine", named)
    _read_warmup(ledger, base + "warmup_ratio")


def _replace_rex(ledger: Ledger, keys: tuple[str, ...], arguments: dict[str, str], cycles: str) -> None:
    """The curve of REX, (1 - p) / (1 - 0.9 p), is within 0.06 of (1 - p) ^ 0.2 until the last twentieth of a run."""
    why = msg("sd-scripts has no REX scheduler; polynomial with power 0.2 has nearly the same curve")
    ledger.give("lr_scheduler", "polynomial", *keys, repair=why)
    ledger.give("lr_scheduler_power", 0.2, *keys, repair=why)
    ledger.drop(msg("the scheduler that is used instead of REX has no such argument"), *arguments.values())
    ledger.drop(msg("the scheduler that is used instead of REX has no restarts"), cycles)


def _replace_cosine(ledger: Ledger, keys: tuple[str, ...], arguments: dict[str, str], cycles: str) -> None:
    """CosineAnnealingWarmRestarts of this program, with a lowest rate and a factor for each restart."""
    rounds = to_number(ledger.get(cycles)) or 1
    lowest = to_number(ledger.get(arguments.get("min_lr", "")))
    rate = to_number(ledger.get("optimizer_args.args.learning_rate"))
    own = msg("the class is this program's own; this is the scheduler of sd-scripts that does the same")
    if rounds > 1:
        ledger.give("lr_scheduler", "cosine_with_restarts", *keys, repair=own)
        ledger.give("lr_scheduler_num_cycles", int(rounds), cycles)
        ledger.drop(msg("restarts of sd-scripts always go down to 0 and up to the full rate"), *arguments.values())
        return
    ledger.drop(msg("there is one cycle only"), cycles)
    if lowest and rate:
        ledger.give("lr_scheduler", "cosine_with_min_lr", *keys, repair=own)
        ratio = float(f"{lowest / rate:.6g}")
        ledger.give("lr_scheduler_min_lr_ratio", ratio, arguments["min_lr"], "optimizer_args.args.learning_rate")
        ledger.take_option("optimizer_args.args.learning_rate", "learning_rate")
    else:
        ledger.give("lr_scheduler", "cosine", *keys, repair=own)
    ledger.drop(msg("it changes the restarts, and there is one cycle only"), *arguments.values())


def _read_warmup(ledger: Ledger, key: str) -> None:
    ratio = to_number(ledger.get(key))
    if ratio is None:
        ledger.note("dropped", NO_NUMBER, key)
    elif 0 <= ratio < 1:
        ledger.give("lr_warmup_steps", float(ratio), key)
    else:
        ledger.drop(msg("a share of all steps has to be below 1"), key)


def _fill_in_name(ledger: Ledger) -> None:
    """The window writes its name for a run in place of ${replace}."""
    name = to_text(ledger.get("saving_args.args.easy_name")) or ""
    for key in ("output_dir", "output_name", "resume"):
        full = f"saving_args.args.{key}"
        text = to_text(ledger.get(full))
        if text and "${replace}" in text:
            ledger.give(key, text.replace("${replace}", name), full, "saving_args.args.easy_name")
    prefix = to_text(ledger.get("logging_args.args.log_prefix"))
    if prefix and "${replace}" in prefix:
        full = "logging_args.args.log_prefix"
        ledger.give("log_prefix", prefix.replace("${replace}", name), full, "saving_args.args.easy_name")


def _read_launch(ledger: Ledger) -> None:
    """The fork starts several processes with accelerate."""
    base = "accelerate_args.args."
    if to_switch(ledger.get(base + "enabled")):
        ledger.take_whole(base + "num_processes", "num_processes", into=ledger.launch)
        ledger.take_whole(base + "main_process_port", "main_process_port", into=ledger.launch)
        ledger.drop(msg("it turns on the options that follow it"), base + "enabled")
    ledger.drop(msg("training on several GPUs is off"), *ledger.list_open(base))


def _read_dataset(ledger: Ledger, subsets: list[object]) -> ForeignDataset:
    shared: dict[str, Given] = {}
    for key in ledger.list_open():
        group, _, rest = key.partition(".")
        if rest.startswith("dataset_args.") and group != "subsets":
            _take_dataset_key(ledger, key, rest.removeprefix("dataset_args."), shared)
    found: list[ForeignSubset] = []
    for index in range(len(subsets)):
        options: dict[str, Given] = {}
        start = f"subsets[{index}]."
        is_reg = to_switch(ledger.get(start + "is_reg")) is True
        if is_reg:
            ledger.note("computed", None, start + "is_reg", to="regularization")
        for key in ledger.list_open(start):
            _take_dataset_key(ledger, key, key.removeprefix(start), options)
        found.append(ForeignSubset(options=options, is_reg=is_reg))
    if not found:
        _give_without_folders(ledger, shared)
    return ForeignDataset(options=shared, subsets=tuple(found))


def _give_without_folders(ledger: Ledger, shared: dict[str, Given]) -> None:
    """What all folders share, as options of the training script: a file may have no folder yet."""
    for name, given in shared.items():
        option = "train_batch_size" if name == "batch_size" else name
        value = ",".join(map(str, given.value)) if isinstance(given.value, tuple) else given.value
        if not isinstance(value, Unset):
            ledger.give(option, value, *given.keys)


def _take_dataset_key(ledger: Ledger, key: str, name: str, into: dict[str, Given]) -> None:
    if name == "name":
        ledger.drop(_WINDOW, key)
    elif ledger.get(key) is False or name == "is_reg":
        ledger.note("off", None, key)
    elif name in _FORK_KEYS:
        ledger.drop(_FORK, key)
    elif name == "max_token_length":
        ledger.take_option(key, name)
    elif not ledger.take_dataset_key(key, name, into=into):
        ledger.note("unknown", _UNKNOWN, key)


def _read_rest(ledger: Ledger) -> None:
    for key in ledger.list_open():
        group, _, rest = key.partition(".")
        name = rest.removeprefix("args.")
        if group == "textual_inversion_args":
            ledger.drop(_NO_TRAINING, key)
        elif group == "edm_loss_args":
            ledger.drop(_FORK, key)
        elif not group.endswith("_args"):
            ledger.note("unknown", _UNKNOWN, key)
        elif name == rest:
            ledger.drop(_UNREAD, key)
        else:
            _take_option(ledger, key, name)


def _take_option(ledger: Ledger, key: str, name: str) -> None:
    value = ledger.get(key)
    option = list_script_options().get(name)
    if option is None:
        ledger.note("dropped" if name in _FORK_KEYS else "unknown", _FORK if name in _FORK_KEYS else _UNKNOWN, key)
    elif value is False or (isinstance(value, str) and value.lower() == "false"):
        ledger.note("off", None, key)
    elif to_number(value) == 0 and (option.default not in (None, 0, False) or name in _ZERO_MATTERS):
        ledger.take_option(key, name)
        if (given := ledger.options.get(name)) is not None:
            ledger.options[name] = Given(value=given.value, keys=given.keys, repair=_LOST_ZERO, trained=UNSET)
    else:
        ledger.take_option(key, name)
