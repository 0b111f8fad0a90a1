"""The rows of `lorabake inspect`: names and values of one group after the other, as a file's report has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from lorabake.planning.provenance import given_in
from lorabake.render.page import Page
from lorabake_schemas.inspection import Group, Inspection, Network, Rank, Value
from lorabake_schemas.words import Said, joined, quoted, say, told

Row = tuple[str, str]
MOST = 40  # blocks or ranks of one row
PARTS: Mapping[str, Said] = MappingProxyType(
    {
        "te": say("text encoder"),
        "te1": say("text encoder 1"),
        "te2": say("text encoder 2"),
        "te3": say("text encoder 3"),
        "unet": say("UNet"),
    }
)
ABOUT = (
    "title", "author", "description", "license", "tags", "usage_hint", "trigger_phrase", "merged_from", "date",
    "architecture", "resolution", "prediction_type",
)  # fmt: skip
# What says nothing unless another value does.
ONLY_WITH: Mapping[str, str] = MappingProxyType(
    {
        "huber_c": "huber", "huber_schedule": "huber", "huber_scale": "huber",
        "multires_noise_discount": "multires_noise_iterations",
    }
)  # fmt: skip


def about(file: Inspection) -> Iterator[Row]:
    """modelspec's words, those that say the most first, then the recipe's own comment."""
    order = {name: number for number, name in enumerate(ABOUT)}
    shown = sorted(file.about.items(), key=lambda each: (order.get(each[0], len(order)), each[0]))
    for name, value in shown:
        if name not in {"sai_model_spec", "implementation"}:
            yield name, say("a picture") if value.startswith("data:") else value
    if file.comment and (own := given_in(file.comment)):
        yield "comment", own
    if file.digest:
        yield "digest", file.digest


def rows_of(group: Group, file: Inspection, page: Page) -> list[Row]:
    rows: list[Row] = []
    if group == "network" and file.network:
        rows += _network(file.network, page)
    if group == "base":
        rows += _base(file)
    if group == "saving":
        rows += _saved(file, page)
    return rows + [(value.name, _text(value)) for value in file.values if value.group == group and _says(value, file)]


def _says(value: Value, file: Inspection) -> bool:
    """Whether a value is worth a line: not what is off, nor what belongs to something that is off."""
    if value.value is False or value.value == 0:
        return False
    needed = ONLY_WITH.get(value.name)
    return needed is None or any(
        each.name == needed or (each.name == "loss_type" and needed in str(each.value)) for each in file.values
    )


def _text(value: Value) -> str:
    return "true" if value.value is True else str(value.value)


def _network(network: Network, page: Page) -> Iterator[Row]:
    algorithms = joined([quoted(f"{name} {count}") for name, count in network.algorithms.items()])
    yield page(say("modules")), page(algorithms)
    for part in network.parts:
        where = ", ".join(_ranges(part.blocks)[:MOST])
        yield (
            page(PARTS.get(part.name, quoted(part.name))),
            page(told(part.modules, "{n} module in {where}", "{n} modules in {where}", where=where)),
        )
    ranks = [_rank(each) for each in network.ranks[:MOST]]
    if ranks:
        yield page(say("dim")), page(joined(ranks))
    alphas = [say("{alpha} in {n}", alpha=alpha, n=count) for alpha, count in list(network.alphas.items())[:MOST]]
    if alphas:
        yield page(say("alpha")), page(joined(alphas))


def _rank(each: Rank) -> Said:
    if each.conv:
        return told(each.modules, "{rank} in {n} convolution", "{rank} in {n} convolutions", rank=each.rank)
    return told(each.modules, "{rank} in {n} layer", "{rank} in {n} layers", rank=each.rank)


def _ranges(blocks: Iterable[str]) -> list[str]:
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


def _base(file: Inspection) -> Iterator[Row]:
    base = file.base
    if base is None:
        return
    if base.name:
        yield "sd_model_name", base.name
    if base.version:
        yield "base_model_version", base.version
    if base.sha256:
        yield "new_sd_model_hash", say("{hash} (SHA-256 of the file)", hash=base.sha256)
    if base.short_hash and not base.is_folder:
        yield (
            "sd_model_hash",
            say("{hash} (of 64 KiB after the first MiB: how older programs name a model)", hash=base.short_hash),
        )
    if base.is_folder:
        yield "sd_model_hash", say("none: the base was a folder, which sd-scripts does not hash")
    if base.vae:
        yield "vae_name", base.vae
    if base.vae_sha256:
        yield "new_vae_hash", base.vae_sha256


VERDICTS: Mapping[str, Said] = MappingProxyType(
    {
        "same": say("the tensors are those that were saved (sshs_model_hash)"),
        "changed": say("the tensors are not those that were saved (sshs_model_hash)"),
        "no-hash": say("no hash of them was saved"),
        "not-comparable": say("unknown: LyCORIS hashes them in an order that the file does not keep"),
        "not-read": say("not read, as the file is large: --deep does"),
    }
)


def _saved(file: Inspection, page: Page) -> Iterator[Row]:
    if file.started:
        yield "training_started_at", file.started
    if file.finished:
        took = say("{time}, after {minutes:.1f} minutes", time=file.finished, minutes=(file.seconds or 0) / 60)
        yield "training_finished_at", page(took) if file.seconds else file.finished
    if file.integrity and file.kind == "lora":
        yield page(say("tensors")), page(VERDICTS[file.integrity.verdict])
        if file.integrity.not_finite == ():
            yield page(say("numbers")), page(say("every one is finite"))
    if file.integrity and file.integrity.file:
        yield "SHA-256", file.integrity.file


__all__ = ["Row", "about", "rows_of"]
