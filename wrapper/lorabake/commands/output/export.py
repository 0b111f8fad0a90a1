"""The report of an export."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lorabake.commands.output.layout import TextLayout, bold
from lorabake_schemas.export_report import ExportedKey, ExportReport
from lorabake_schemas.messages import Message, msg


def format_export_report(report: ExportReport, layout: TextLayout) -> str:
    """The files, how to start the training, and what it does not have."""
    lines = [layout(msg("wrote {path}", path=str(Path(report.folder) / name))) for name in report.files]
    if report.command:
        lines += ["", bold(layout(msg("To train it, set SD_SCRIPTS to the folder of sd-scripts and run:")))]
        lines.append(f"  {layout(shlex.join(['sh', str(Path(report.folder) / 'train.sh')]))}")
    else:
        lines += ["", layout(msg("Open {file} in the LoRA tab of the GUI.", file=report.files[0]))]
    lines += _format_keys(msg('In "Additional parameters":'), report.carried, layout)
    lines += _format_keys(msg("Chosen for this machine (set it in the recipe to override):"), report.chosen, layout)
    lines += _format_keys(msg("Not in the export:"), report.lost, layout)
    return "\n".join(lines)


def _format_keys(title: Message, keys: Sequence[ExportedKey], layout: TextLayout) -> list[str]:
    if not keys:
        return []
    lines = ["", bold(layout(title))]
    for each in keys:
        shown = f"{each.key} = {each.value}" if each.value else each.key
        lines.append(f"  {layout(shown)}  ({layout(each.why)})")
    return lines
