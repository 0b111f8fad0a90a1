"""What a run will do, as a person reads it: steps, buckets, how often each picture is seen, files, time."""

from __future__ import annotations

from collections.abc import Iterable

from lorabake.render.page import Page, bold, table
from lorabake.render.report import size
from lorabake_schemas.plan import Forecast, Plan
from lorabake_schemas.words import say, told


def forecast_lines(plan: Plan, page: Page) -> list[str]:
    """The forecast: steps first, then concepts, buckets and files."""
    counted = plan.forecast
    parts = [bold(page(say("Forecast"))), *_steps(counted, page), "", *_shares(counted, page), ""]
    return [*parts, *_buckets(counted, page), "", *_files(counted, page)]


def _steps(counted: Forecast, page: Page) -> Iterable[str]:
    yield from page.paragraph(size(counted), first="  ")
    each = say(
        "{batches} and {steps} an epoch, warm-up over the first {n}",
        batches=told(counted.batches_per_epoch, "{n} batch", "{n} batches"),
        steps=told(counted.steps_per_epoch, "{n} step", "{n} steps"),
        n=counted.warmup_steps,
    )
    yield from page.paragraph(each, first="  ")


def _shares(counted: Forecast, page: Page) -> list[str]:
    head = tuple(page(w) for w in (say("concept"), say("pictures"), say("repeats"), say("an epoch"), say("each seen")))
    rows = [
        (
            page(say("{class_} (regularisation)", class_=share.title)) if share.is_reg else share.title,
            str(share.images),
            str(share.num_repeats),
            str(share.samples_per_epoch),
            page(say("{times:.3g} times", times=share.exposures)),
        )
        for share in counted.shares
    ]
    return table([head, *rows], numbers=(1, 2, 3, 4))


def _buckets(counted: Forecast, page: Page) -> list[str]:
    head = tuple(page(words) for words in (say("bucket"), say("samples"), say("batches")))
    rows = [(f"{b.width}x{b.height}", str(b.samples), str(b.batches)) for b in counted.buckets]
    return table([head, *rows], numbers=(1, 2))


def _files(counted: Forecast, page: Page) -> list[str]:
    names = ", ".join(save.file for save in counted.saves)
    said = told(len(counted.saves), "{n} file: {names}", "{n} files: {names}", names=names)
    return page.paragraph(said, first="  ")


__all__ = ["forecast_lines"]
