"""The image of a run in the README: what the renderers print for made-up events, as an SVG (by rich)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.findings import format_brief
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.progress import watch_progress
from lorabake.commands.output.runs import format_run_outcome
from lorabake_schemas.events import Epoch, ModelLoaded, ProgressEvent, RunTotals, Saving, Started, Step
from lorabake_schemas.messages import msg
from lorabake_schemas.record import Outcome, OutputFile, Record

COLUMNS = 104
SECONDS_PER_STEP = 0.41
CONTROL = re.compile(r"\r|\x1b\[2K|\x1b\[1A|\x1b\[\?25[lh]")
# rich's own template loads a font from the web
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "Fira Code", Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # noqa: E501


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def draw_run(found: CheckResult, record: Record, root: Path, recipe: str) -> str:
    """A run of ``found``'s recipe as a terminal shows it when it is over."""
    _, plan = found.planned()
    counts = plan.forecast
    lora = OutputFile(name=f"output/{plan.name}.safetensors", sha256="0" * 64, size=37_865_472)
    said = msg("trained {steps} steps and saved {file} ({known})", steps=counts.steps, file=lora.name, known=FINITE)
    outcome = Outcome(code="trained", message=said, steps=counts.steps, outputs=(lora,))
    ended = record.model_copy(update={"status": "finished", "outcome": outcome})
    layout = TextLayout(width=COLUMNS)
    shown = [
        f"{click.style('$', dim=True)} lorabake run {recipe}",
        format_brief(found, layout),
        *watched(counts.steps, counts.epochs, counts.batches_per_epoch, counts.train_samples, plan.name),
        format_run_outcome(ended, root, layout),
    ]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi("\n".join(shown)))
    svg = console.export_svg(title="lorabake", theme=MONOKAI, code_format=FORMAT, unique_id="run")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


FINITE = msg("all values are finite")


def watched(steps: int, epochs: int, batches: int, samples: int, name: str) -> list[str]:
    """The lines that stay, and the bar as it is at the end."""
    ticks = iter(SECONDS_PER_STEP * number for number in range(10 * steps))
    terminal = Terminal()
    os.environ["COLUMNS"] = str(COLUMNS)  # rich asks for it
    with watch_progress(terminal, steps, clock=lambda: next(ticks)) as show:
        for event in events(steps, epochs, batches, samples, name):
            show(event)
    parts = [part.strip("\n") for part in CONTROL.split(terminal.getvalue())]
    lines = [line for part in parts for line in part.split("\n") if line.strip()]
    bars, losses = ([line for line in lines if mark in line] for mark in ("━", "average loss"))
    return [
        *dict.fromkeys(line for line in lines if line not in {*bars, *losses}),
        bars[-1].rstrip(),
        losses[-1].rstrip(),
    ]


def events(steps: int, epochs: int, batches: int, samples: int, name: str) -> Iterator[ProgressEvent]:
    yield Started("cuda")
    yield ModelLoaded()
    yield RunTotals(train_samples=samples, batches_per_epoch=batches, epochs=epochs, steps=steps)
    for step in range(1, steps + 1):
        if (step - 1) % batches == 0:
            yield Epoch((step - 1) // batches + 1, epochs)
        loss = 0.081 + 0.06 / (1 + step / 90)
        yield Step(step, steps, loss_average=loss, loss_current=loss)
    yield Saving(f"output/{name}.safetensors")
