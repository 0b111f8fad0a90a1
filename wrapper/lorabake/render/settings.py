"""Settings as people think of them: the group an sd-scripts option belongs to, its value and source in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Literal

import click

from lorabake.render.page import Page, cells, dim, padded, wrapped
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin, Plan, Setting, Source
from lorabake_schemas.words import Said, say, visible

Group = Literal["model", "network", "optimizer", "data", "saving", "machine", "kohya"]
GROUPS: Mapping[Group, Said] = MappingProxyType(
    {
        "model": say("Model"),
        "network": say("Network"),
        "optimizer": say("Optimizer and schedule"),
        "data": say("Pictures and captions"),
        "saving": say("Saving"),
        "machine": say("Machine"),
        "kohya": say("Further options of sd-scripts"),
    }
)
OPTIONS: Mapping[Group, tuple[str, ...]] = MappingProxyType(
    {
        "model": (
            "pretrained_model_name_or_path", "vae", "tokenizer_cache_dir", "v2", "v_parameterization",
            "zero_terminal_snr", "clip_skip", "max_token_length", "no_half_vae",
        ),
        "network": (
            "network_module", "network_dim", "network_alpha", "network_args", "network_dropout",
            "network_train_unet_only", "network_weights", "scale_weight_norms",
        ),
        "optimizer": (
            "optimizer_type", "optimizer_args", "learning_rate", "unet_lr", "text_encoder_lr", "lr_scheduler",
            "lr_warmup_steps", "lr_scheduler_num_cycles", "max_train_epochs", "max_train_steps",
            "gradient_accumulation_steps", "min_snr_gamma", "debiased_estimation_loss", "noise_offset",
            "prior_loss_weight", "max_grad_norm", "seed",
        ),
        "data": ("resolution",),
        "saving": (
            "output_name", "output_dir", "save_model_as", "save_precision", "save_every_n_epochs",
            "save_every_n_steps", "save_last_n_epochs", "save_last_n_steps", "save_state", "save_state_on_train_end",
            "logging_dir", "log_with", "sample_prompts", "sample_every_n_epochs", "sample_every_n_steps",
            "sample_at_first", "sample_sampler",
        ),
        "machine": (
            "mixed_precision", "xformers", "sdpa", "gradient_checkpointing", "cache_latents", "cache_latents_to_disk",
            "max_data_loader_n_workers", "persistent_data_loader_workers",
        ),
    }
)  # fmt: skip
_PLACE: Mapping[str, Group] = MappingProxyType(
    {option: group for group, options in OPTIONS.items() for option in options}
)
ORIGINS: Mapping[Origin, Said] = MappingProxyType(
    {
        Origin.RECIPE: say("recipe"),
        Origin.GUIDE: say("guide"),
        Origin.SD_SCRIPTS: say("sd-scripts"),
        Origin.MACHINE: say("machine"),
        Origin.LORABAKE: say("lorabake"),
    }
)
COLOURS: Mapping[Origin, str | None] = MappingProxyType(
    {
        Origin.RECIPE: "green",
        Origin.GUIDE: "cyan",
        Origin.SD_SCRIPTS: "magenta",
        Origin.MACHINE: "yellow",
        Origin.LORABAKE: None,
    }
)
WIDEST_VALUE = 30
ROOM_FOR_WHY = 24
NARROWEST = 12  # of values, and of why, on a terminal that is too narrow for all
GAPS = 6


def group_of(option: str) -> Group:
    """What is not in the table came through ``[kohya]``, apart from metadata, which is kept with the file."""
    return "saving" if option.startswith("metadata_") else _PLACE.get(option, "kohya")


def in_group(settings: Iterable[Setting], group: Group) -> tuple[Setting, ...]:
    """The settings of a group, in the order of its table."""
    found = [setting for setting in settings if group_of(setting.option) == group]
    order = {option: number for number, option in enumerate(OPTIONS.get(group, ()))}
    return tuple(sorted(found, key=lambda setting: order.get(setting.option, len(order))))


def widths(plan: Plan, page: Page) -> tuple[int, int]:
    """How wide the columns of options and values are, for the whole plan, so that there is room to say why."""
    every = [*plan.train, *plan.dataset, *chain.from_iterable(subset.settings for subset in plan.subsets)]
    option = max(cells(visible(setting.option)) for setting in every)
    most = WIDEST_VALUE if page.columns is None else page.columns - option - GAPS - ROOM_FOR_WHY
    most = max(min(most, WIDEST_VALUE), NARROWEST)
    shown = [cells(value) for setting in every for value in _stacked(setting.value)]
    return option, max((wide for wide in shown if wide <= most), default=most)


def lines(settings: Sequence[Setting], columns: tuple[int, int], page: Page) -> Iterable[str]:
    """Option, value and source in columns; on a terminal a list stands one below the other, and what is too long goes
    on below."""
    for setting in settings:
        yield from _wide(setting, columns, page) if page.columns is None else _fitted(setting, columns, page)


def _wide(setting: Setting, columns: tuple[int, int], page: Page) -> Iterable[str]:
    value = padded(_painted(value_text(setting.value), setting.source), columns[1])
    yield f"  {padded(visible(setting.option), columns[0])}  {value}  {source_text(setting.source, page)}".rstrip()


def _fitted(setting: Setting, columns: tuple[int, int], page: Page) -> Iterable[str]:
    values = list(_stacked(setting.value)) or [""]
    why = _why_lines(setting.source, columns, page)
    if any(cells(value) > columns[1] for value in values):
        rest = [f"    {_painted(value, setting.source)}" for value in values]
        values = [""]
    else:
        rest = []
    for number in range(max(len(values), len(why))):
        option = visible(setting.option) if number == 0 else ""
        value = _painted(values[number], setting.source) if number < len(values) else ""
        because = why[number] if number < len(why) else ""
        yield f"  {padded(option, columns[0])}  {padded(value, columns[1])}  {because}".rstrip()
    yield from rest


def _why_lines(source: Source, columns: tuple[int, int], page: Page) -> list[str]:
    room = (page.columns or 0) - sum(columns) - GAPS
    name, why = _named(source, page), page(source.why)
    if not why:
        return [_coloured(part, source) for part in wrapped(name, max(room, NARROWEST))]
    first, *more = wrapped(f"{name}: {why}", max(room, NARROWEST))
    head = _coloured(name, source) + dim(first[len(name) :]) if first.startswith(name) else dim(first)
    return [head, *map(dim, more)]


def value_text(value: OptionValue) -> str:
    """On one line."""
    return " ".join(_stacked(value))


def _stacked(value: OptionValue) -> Iterable[str]:
    if isinstance(value, bool):
        return (str(value).lower(),)
    return tuple(visible(str(each)) for each in (value if isinstance(value, tuple) else (value,)))


def source_text(source: Source, page: Page) -> str:
    """``recipe``, ``G4.52: why``, ``machine: why``."""
    why = dim(f": {page(source.why)}") if source.why else ""
    return f"{_coloured(_named(source, page), source)}{why}"


def _named(source: Source, page: Page) -> str:
    name = "" if source.origin in (Origin.GUIDE, Origin.SD_SCRIPTS) and source.rule else page(ORIGINS[source.origin])
    return " ".join(part for part in (name, visible(source.rule)) if part)


def _painted(value: str, source: Source) -> str:
    return click.style(value, bold=True) if source.origin is Origin.RECIPE else value


def _coloured(name: str, source: Source) -> str:
    return click.style(name, fg=COLOURS[source.origin]) if COLOURS[source.origin] else dim(name)


__all__ = [
    "GROUPS",
    "OPTIONS",
    "Group",
    "group_of",
    "in_group",
    "lines",
    "source_text",
    "value_text",
    "widths",
]
