"""The rows of `lorabake inspect`: names and values of one group after the other, as a file's report has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from lorabake.commands.output.layout import TextLayout
from lorabake.lora.training_comment import parse_own_comment
from lorabake_schemas.inspection import Inspection, LoraNetwork, MetadataGroup, MetadataValue, RankCount
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg

Row = tuple[str, str]
MAX_ROW_ITEMS = 40  # blocks or ranks of one row
PART_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "te": msg("text encoder"),
        "te1": msg("text encoder 1"),
        "te2": msg("text encoder 2"),
        "te3": msg("text encoder 3"),
        "unet": msg("UNet"),
    }
)
ABOUT_ORDER = (
    "title", "author", "description", "license", "tags", "usage_hint", "trigger_phrase", "merged_from", "date",
    "architecture", "resolution", "prediction_type",
)  # fmt: skip
# What says nothing unless another value does.
REQUIRED_VALUES: Mapping[str, str] = MappingProxyType(
    {
        "huber_c": "huber", "huber_schedule": "huber", "huber_scale": "huber",
        "multires_noise_discount": "multires_noise_iterations",
    }
)  # fmt: skip


def iter_about_rows(file: Inspection) -> Iterator[Row]:
    """modelspec's words, those that say the most first, then the recipe's own comment."""
    order = {name: number for number, name in enumerate(ABOUT_ORDER)}
    shown = sorted(file.about.items(), key=lambda each: (order.get(each[0], len(order)), each[0]))
    for name, value in shown:
        if name not in {"sai_model_spec", "implementation"}:
            yield name, msg("a picture") if value.startswith("data:") else value
    if file.comment and (own := parse_own_comment(file.comment)):
        yield "comment", own
    if file.digest:
        yield "digest", file.digest


def list_group_rows(group: MetadataGroup, file: Inspection, page: TextLayout) -> list[Row]:
    rows: list[Row] = []
    if group == "network" and file.network:
        rows += _iter_network_rows(file.network, page)
    if group == "base":
        rows += _iter_base_rows(file)
    if group == "saving":
        rows += _iter_saving_rows(file, page)
    return rows + [
        (value.name, _format_value(value)) for value in file.values if value.group == group and _is_shown(value, file)
    ]


def _is_shown(value: MetadataValue, file: Inspection) -> bool:
    """Whether a value is worth a line: not what is off, nor what belongs to something that is off."""
    if value.value is False or value.value == 0:
        return False
    needed = REQUIRED_VALUES.get(value.name)
    return needed is None or any(
        each.name == needed or (each.name == "loss_type" and needed in str(each.value)) for each in file.values
    )


def _format_value(value: MetadataValue) -> str:
    return "true" if value.value is True else str(value.value)


def _iter_network_rows(network: LoraNetwork, page: TextLayout) -> Iterator[Row]:
    algorithms = join_list([literal(f"{name} {count}") for name, count in network.algorithms.items()])
    yield page(msg("modules")), page(algorithms)
    for part in network.parts:
        where = ", ".join(_merge_ranges(part.blocks)[:MAX_ROW_ITEMS])
        yield (
            page(PART_LABELS.get(part.name, literal(part.name))),
            page(nmsg(part.modules, "{n} module in {where}", "{n} modules in {where}", where=where)),
        )
    ranks = [_describe_rank(each) for each in network.ranks[:MAX_ROW_ITEMS]]
    if ranks:
        yield page(msg("dim")), page(join_list(ranks))
    alphas = [
        msg("{alpha} in {n}", alpha=alpha, n=count) for alpha, count in list(network.alphas.items())[:MAX_ROW_ITEMS]
    ]
    if alphas:
        yield page(msg("alpha")), page(join_list(alphas))


def _describe_rank(each: RankCount) -> Message:
    if each.conv:
        return nmsg(each.modules, "{rank} in {n} convolution", "{rank} in {n} convolutions", rank=each.rank)
    return nmsg(each.modules, "{rank} in {n} layer", "{rank} in {n} layers", rank=each.rank)


def _merge_ranges(blocks: Iterable[str]) -> list[str]:
    """``down_blocks.0-2`` for three that follow each other."""
    runs: list[tuple[str, int, int]] = []
    for block in blocks:
        name, _, digits = block.partition(".")
        number = int(digits or -1)
        if runs and number >= 0 and (runs[-1][0], runs[-1][2] + 1) == (name, number):
            runs[-1] = (name, runs[-1][1], number)
        else:
            runs.append((name, number, number))
    return [
        name if first < 0 else f"{name}.{first}" if first == last else f"{name}.{first}-{last}"
        for name, first, last in runs
    ]


def _iter_base_rows(file: Inspection) -> Iterator[Row]:
    base = file.base
    if base is None:
        return
    if base.name:
        yield "sd_model_name", base.name
    if base.version:
        yield "base_model_version", base.version
    if base.sha256:
        yield "new_sd_model_hash", msg("{hash} (SHA-256 of the file)", hash=base.sha256)
    if base.short_hash and not base.is_folder:
        yield (
            "sd_model_hash",
            msg("{hash} (of 64 KiB after the first MiB: how older programs name a model)", hash=base.short_hash),
        )
    if base.is_folder:
        yield "sd_model_hash", msg("none: the base was a folder, which sd-scripts does not hash")
    if base.vae:
        yield "vae_name", base.vae
    if base.vae_sha256:
        yield "new_vae_hash", base.vae_sha256


INTEGRITY_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "same": msg("the tensors are those that were saved (sshs_model_hash)"),
        "changed": msg("the tensors are not those that were saved (sshs_model_hash)"),
        "no-hash": msg("no hash of them was saved"),
        "not-comparable": msg("unknown: LyCORIS hashes them in an order that the file does not keep"),
        "not-read": msg("not read, as the file is large: --deep does"),
    }
)


def _iter_saving_rows(file: Inspection, page: TextLayout) -> Iterator[Row]:
    if file.started:
        yield "training_started_at", file.started
    if file.finished:
        took = msg("{time}, after {minutes:.1f} minutes", time=file.finished, minutes=(file.seconds or 0) / 60)
        yield "training_finished_at", page(took) if file.seconds else file.finished
    if file.integrity and file.kind == "lora":
        yield page(msg("tensors")), page(INTEGRITY_LABELS[file.integrity.verdict])
        if file.integrity.not_finite == ():
            yield page(msg("numbers")), page(msg("every one is finite"))
    if file.integrity and file.integrity.file:
        yield "SHA-256", file.integrity.file
