"""Settings as people think of them: the group an sd-scripts option belongs to, its value and source in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Literal

import click

from lorabake.commands.output.layout import TextLayout, count_cells, dim, pad_text, wrap_text
from lorabake_schemas.base import OptionValue
from lorabake_schemas.messages import Message, escape_invisible, msg
from lorabake_schemas.plan import Origin, Plan, Setting, Source

SettingGroup = Literal["model", "network", "optimizer", "data", "saving", "machine", "kohya"]
GROUP_LABELS: Mapping[SettingGroup, Message] = MappingProxyType(
    {
        "model": msg("Model"),
        "network": msg("Network"),
        "optimizer": msg("Optimizer and schedule"),
        "data": msg("Images and captions"),
        "saving": msg("Saving"),
        "machine": msg("Machine"),
        "kohya": msg("Other sd-scripts options"),
    }
)
OPTIONS_BY_GROUP: Mapping[SettingGroup, tuple[str, ...]] = MappingProxyType(
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
_GROUP_BY_OPTION: Mapping[str, SettingGroup] = MappingProxyType(
    {option: group for group, options in OPTIONS_BY_GROUP.items() for option in options}
)
ORIGIN_LABELS: Mapping[Origin, Message] = MappingProxyType(
    {
        Origin.RECIPE: msg("recipe"),
        Origin.GUIDE: msg("guide"),
        Origin.SD_SCRIPTS: msg("sd-scripts"),
        Origin.MACHINE: msg("machine"),
        Origin.LORABAKE: msg("lorabake"),
    }
)
ORIGIN_COLORS: Mapping[Origin, str | None] = MappingProxyType(
    {
        Origin.RECIPE: "green",
        Origin.GUIDE: "cyan",
        Origin.SD_SCRIPTS: "magenta",
        Origin.MACHINE: "yellow",
        Origin.LORABAKE: None,
    }
)
MAX_VALUE_WIDTH = 30
MIN_REASON_WIDTH = 24
MIN_COLUMN_WIDTH = 12  # of values, and of why, on a terminal that is too narrow for all
GAP_WIDTH = 6


def find_group(option: str) -> SettingGroup:
    """What is not in the table came through ``[kohya]``, apart from metadata, which is kept with the file."""
    return "saving" if option.startswith("metadata_") else _GROUP_BY_OPTION.get(option, "kohya")


def select_group(settings: Iterable[Setting], group: SettingGroup) -> tuple[Setting, ...]:
    """The settings of a group, in the order of its table."""
    found = [setting for setting in settings if find_group(setting.option) == group]
    order = {option: number for number, option in enumerate(OPTIONS_BY_GROUP.get(group, ()))}
    return tuple(sorted(found, key=lambda setting: order.get(setting.option, len(order))))


def measure_columns(plan: Plan, page: TextLayout) -> tuple[int, int]:
    """How wide the columns of options and values are, for the whole plan, so that there is room to say why."""
    every = [*plan.train, *plan.dataset, *chain.from_iterable(subset.settings for subset in plan.subsets)]
    option = max(count_cells(escape_invisible(setting.option)) for setting in every)
    most = MAX_VALUE_WIDTH if page.columns is None else page.columns - option - GAP_WIDTH - MIN_REASON_WIDTH
    most = max(min(most, MAX_VALUE_WIDTH), MIN_COLUMN_WIDTH)
    shown = [count_cells(value) for setting in every for value in _split_value(setting.value)]
    return option, max((wide for wide in shown if wide <= most), default=most)


def iter_setting_lines(settings: Sequence[Setting], columns: tuple[int, int], page: TextLayout) -> Iterable[str]:
    """Option, value and source in columns; on a terminal a list stands one below the other, and what is too long goes
    on below."""
    for setting in settings:
        yield from (
            _iter_unwrapped_lines(setting, columns, page)
            if page.columns is None
            else _iter_wrapped_lines(setting, columns, page)
        )


def _iter_unwrapped_lines(setting: Setting, columns: tuple[int, int], page: TextLayout) -> Iterable[str]:
    value = pad_text(_style_value(format_setting_value(setting.value), setting.source), columns[1])
    option = pad_text(escape_invisible(setting.option), columns[0])
    yield f"  {option}  {value}  {format_source(setting.source, page)}".rstrip()


def _iter_wrapped_lines(setting: Setting, columns: tuple[int, int], page: TextLayout) -> Iterable[str]:
    values = list(_split_value(setting.value)) or [""]
    why = _reason_lines(setting.source, columns, page)
    if any(count_cells(value) > columns[1] for value in values):
        rest = [f"    {_style_value(value, setting.source)}" for value in values]
        values = [""]
    else:
        rest = []
    for number in range(max(len(values), len(why))):
        option = escape_invisible(setting.option) if number == 0 else ""
        value = _style_value(values[number], setting.source) if number < len(values) else ""
        because = why[number] if number < len(why) else ""
        yield f"  {pad_text(option, columns[0])}  {pad_text(value, columns[1])}  {because}".rstrip()
    yield from rest


def _reason_lines(source: Source, columns: tuple[int, int], page: TextLayout) -> list[str]:
    room = (page.columns or 0) - sum(columns) - GAP_WIDTH
    name, why = _source_name(source, page), page(source.why)
    if not why:
        return [_style_source(part, source) for part in wrap_text(name, max(room, MIN_COLUMN_WIDTH))]
    first, *more = wrap_text(f"{name}: {why}", max(room, MIN_COLUMN_WIDTH))
    head = _style_source(name, source) + dim(first[len(name) :]) if first.startswith(name) else dim(first)
    return [head, *map(dim, more)]


def format_setting_value(value: OptionValue) -> str:
    """On one line."""
    return " ".join(_split_value(value))


def _split_value(value: OptionValue) -> Iterable[str]:
    if isinstance(value, bool):
        return (str(value).lower(),)
    return tuple(escape_invisible(str(each)) for each in (value if isinstance(value, tuple) else (value,)))


def format_source(source: Source, page: TextLayout) -> str:
    """``recipe``, ``G4.52: why``, ``machine: why``."""
    why = dim(f": {page(source.why)}") if source.why else ""
    return f"{_style_source(_source_name(source, page), source)}{why}"


def _source_name(source: Source, page: TextLayout) -> str:
    name = (
        "" if source.origin in (Origin.GUIDE, Origin.SD_SCRIPTS) and source.rule else page(ORIGIN_LABELS[source.origin])
    )
    return " ".join(part for part in (name, escape_invisible(source.rule)) if part)


def _style_value(value: str, source: Source) -> str:
    return click.style(value, bold=True) if source.origin is Origin.RECIPE else value


def _style_source(name: str, source: Source) -> str:
    return click.style(name, fg=ORIGIN_COLORS[source.origin]) if ORIGIN_COLORS[source.origin] else dim(name)
