"""OneTrainer's learning rates, schedulers and optimizers as sd-scripts has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabake.exchange.convert import to_number, to_text
from lorabake.exchange.one_trainer.keys import REPLACED_OPTIMIZERS, TECHNICAL_ARGUMENTS
from lorabake.exchange.optimizers import find_optimizer, list_arguments
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.exchange.one_trainer.config import Config


def read_rates(config: Config, encoders: tuple[str, ...]) -> None:
    """One rate, and one for each part that has its own; a part that is not trained has 0."""
    scale, scaled = _find_rate_scale(config)
    rate = config.number("learning_rate") or 0.0
    config.give("learning_rate", _multiply(rate, scale), "learning_rate", *scaled)
    trained = [_is_trained(config, part) for part in encoders]
    switches = [f"{part}.train" for part in encoders]
    if not any(trained):
        config.give("network_train_unet_only", True, *switches)
    else:
        rates = [_find_rate(config, part, rate) if on else 0.0 for part, on in zip(encoders, trained, strict=True)]
        if any(found != rate for found in rates) or config.has("text_encoder.learning_rate"):
            value = tuple(_multiply(found, scale) for found in rates)
            names = [f"{part}.learning_rate" for part in encoders]
            config.give("text_encoder_lr", value, *names, *switches, *scaled)
    if not config.switch("unet.train"):
        config.give("network_train_text_encoder_only", True, "unet.train")
    elif config.number("unet.learning_rate") is not None:
        config.give("unet_lr", _multiply(_find_rate(config, "unet", rate), scale), "unet.learning_rate", *scaled)
    config.same("unet.train", *switches)
    config.drop(msg("this part is not trained"), *(f"{part}.learning_rate" for part in encoders))
    _read_stops(config, ("unet", *encoders))


def _find_rate_scale(config: Config) -> tuple[float, tuple[str, ...]]:
    """OneTrainer multiplies the rate by the square root of the batch, the accumulation or both."""
    batch, steps = (config.number(name) or 1 for name in ("batch_size", "gradient_accumulation_steps"))
    chosen = config.text("learning_rate_scaler")
    factors = {"BATCH": batch, "GLOBAL_BATCH": batch, "GRADIENT_ACCUMULATION": steps}
    factor = factors.get(chosen, batch * steps if chosen in {"BOTH", "GLOBAL_BOTH"} else 1)
    config.same("learning_rate_scaler") if factor == 1 else None
    return max(factor, 0) ** 0.5, () if factor == 1 else ("learning_rate_scaler",)


def _is_trained(config: Config, part: str) -> bool:
    """The oldest versions had one switch and one rate for both text encoders of SDXL."""
    return config.switch("text_encoder.train" if _is_single(config, part) else f"{part}.train")


def _is_single(config: Config, part: str) -> bool:
    is_flat = config.names.get("text_encoder.train") == "train_text_encoder"
    return part == "text_encoder_2" and is_flat and not any(name.startswith(part) for name in config.names)


def _find_rate(config: Config, part: str, rate: float) -> float:
    own = config.number(f"{'text_encoder' if _is_single(config, part) else part}.learning_rate")
    return rate if own is None else own


def _read_stops(config: Config, parts: tuple[str, ...]) -> None:
    """A part may stop earlier than the run, which no option of sd-scripts does."""
    epochs = config.number("epochs") or 0
    for part in parts:
        after, unit = f"{part}.stop_training_after", f"{part}.stop_training_after_unit"
        limit = config.number(after)
        never = not limit or config.text(unit) == "NEVER" or (config.text(unit) == "EPOCH" and limit >= epochs)
        if never or not config.switch(f"{part}.train"):
            config.drop(msg("it is not reached"), after, unit)
        config.drop(msg("sd-scripts cannot stop one part earlier; it trains to the end"), after, unit)


def read_schedule(config: Config) -> None:
    """Warm-up above 1 is in steps of images, up to 1 a share of the run (create_lr_scheduler)."""
    chosen = config.text("learning_rate_scheduler")
    lowest = config.number("learning_rate_min_factor") or 0.0
    cycles = config.number("learning_rate_cycles") or 1
    warmup = config.number("learning_rate_warmup_steps") or 0
    steps = config.number("gradient_accumulation_steps") or 1
    key = "learning_rate_scheduler"
    if "SCHEDULE_FREE" in config.text("optimizer.optimizer"):
        why = msg("a schedule-free optimizer has no scheduler, and its own warm-up")
        config.give("lr_scheduler", "constant", key, repair=why if chosen != "CONSTANT" else None)
        config.drop(why, "learning_rate_cycles", "learning_rate_min_factor")
        return
    if warmup > 1:
        config.give("lr_warmup_steps", int(warmup / max(steps, 1)), "learning_rate_warmup_steps")
    else:
        config.give("lr_warmup_steps", float(warmup) if warmup < 1 else 0.999, "learning_rate_warmup_steps")
    _read_curve(config, chosen, lowest, cycles, warmed=warmup > 0)
    config.drop(msg("the scheduler has no cycles"), "learning_rate_cycles")
    config.drop(msg("this scheduler of sd-scripts always goes down to 0"), *["learning_rate_min_factor"] * (lowest > 0))
    config.same("learning_rate_min_factor")


def _read_curve(config: Config, chosen: str, lowest: float, cycles: float, *, warmed: bool) -> None:
    key = "learning_rate_scheduler"
    match chosen:
        case "COSINE" if 0 < lowest < 1:
            config.give("lr_scheduler", "cosine_with_min_lr", key)
            config.give("lr_scheduler_min_lr_ratio", lowest, "learning_rate_min_factor")
        case "COSINE" | "LINEAR" | "ADAFACTOR":
            config.give("lr_scheduler", chosen.lower(), key)
        case "COSINE_WITH_RESTARTS":
            config.give("lr_scheduler", "cosine", key)
            config.give("lr_scheduler_args", (f"num_cycles={cycles}",), "learning_rate_cycles", key)
        case "COSINE_WITH_HARD_RESTARTS":
            config.give("lr_scheduler", "cosine_with_restarts", key)
            config.give("lr_scheduler_num_cycles", max(1, round(cycles)), "learning_rate_cycles")
        case "REX":
            why = msg("sd-scripts has no REX scheduler; polynomial with power 0.2 has nearly the same curve")
            config.give("lr_scheduler", "polynomial", key, repair=why)
            config.give("lr_scheduler_power", 0.2, key, repair=why)
        case "CUSTOM":
            _read_custom_scheduler(config)
        case _:
            config.give("lr_scheduler", "constant_with_warmup" if warmed else "constant", key)


def _read_custom_scheduler(config: Config) -> None:
    config.give(
        "lr_scheduler_type",
        config.text("custom_learning_rate_scheduler"),
        "custom_learning_rate_scheduler",
        "learning_rate_scheduler",
    )
    arguments: list[str] = []
    keys: list[str] = []
    for key in config.ledger.list_open("scheduler_params["):
        if key.endswith("].key"):
            value = key.removesuffix("key") + "value"
            keys += [key, value]
            arguments.append(f"{to_text(config.ledger.get(key))}={to_text(config.ledger.get(value))}")
    if any("%" in argument for argument in arguments):
        config.ledger.drop(msg("it depends on the number of steps; write train.lr_scheduler_args by hand"), *keys)
    elif arguments:
        config.ledger.give("lr_scheduler_args", tuple(arguments), *keys)


def read_optimizer(config: Config) -> None:
    """The optimizer under the trainer's name, and those of its arguments that it has there."""
    chosen = config.text("optimizer.optimizer")
    name = REPLACED_OPTIMIZERS.get(chosen, chosen.replace("_", ""))
    if chosen == "ADAMW_8BIT" and config.switch("optimizer.is_paged"):
        name = "PagedAdamW8bit"
    if chosen == "SGD" and config.switch("optimizer.nesterov"):
        name = "SGDNesterov"
    found = find_optimizer(name)
    repair = msg("the trainer has no optimizer of this name; write one that it has") if found is None else None
    if chosen.endswith("_ADV") and found is not None:
        repair = msg("{name} is OneTrainer's own variant of {found}", name=chosen, found=found)
    config.give("optimizer_type", found or chosen, "optimizer.optimizer", repair=repair)
    known = list_arguments(found) if found else frozenset[str]()
    given = _list_optimizer_arguments(config, known)
    if given:
        config.give(
            "optimizer_args",
            tuple(f"{name}={value}" for name, (value, _) in given.items()),
            *(name for _, names in given.values() for name in names),
        )
    names = [name for name in config.names if name.startswith("optimizer.")]
    config.drop(msg("it concerns speed and memory only"), *(name for name in names if name[10:] in TECHNICAL_ARGUMENTS))
    config.drop(msg("the optimizer of the trainer has no such argument"), *names)
    others = [name for name in config.names if name.startswith("optimizer_defaults.")]
    config.drop(msg("a setting of an optimizer that is not chosen"), *others)


def _list_optimizer_arguments(config: Config, known: frozenset[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Arguments by name, each with its text and the keys that it comes from."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    start = "optimizer."
    for single, parts in (("betas", ("beta1", "beta2", "beta3")), ("eps", ("eps", "eps2"))):
        numbers = {start + part: config.number(start + part) for part in parts if config.has(start + part)}
        usable = {name: number for name, number in numbers.items() if number is not None}
        if single in known and ((single == "eps" and len(usable) == 1) or len(usable) >= 2):
            values = list(usable.values())
            text = str(values[0]) if len(values) == 1 else "(" + ",".join(map(str, values)) + ")"
            found[single] = (text, tuple(usable))
    for name in config.names:
        argument = name.removeprefix(start)
        if name == argument or argument not in known or argument in found or argument in TECHNICAL_ARGUMENTS:
            continue
        value = config.get(name)
        if (isinstance(value, bool | int | float) and to_number(value) is not None) or isinstance(value, bool):
            found[argument] = (str(value), (name,))
    return found


def _multiply(rate: float, scale: float) -> float:
    return rate if scale == 1 else float(f"{rate * scale:.6g}")
