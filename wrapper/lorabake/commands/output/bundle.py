"""What is in an archive for a bug report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout, format_file_size
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.runs.bundle.archive import Bundle


def format_bundle(made: Bundle, path: Path, layout: TextLayout, *, as_json: bool) -> str:
    """The file, what it contains, and what to look at before it is sent."""
    if as_json:
        table = {"version": 1, "written": str(path), "files": dict(made.files), "replaced": dict(made.replaced)}
        return json.dumps(table, indent=2)
    lines = [layout(msg("wrote {path}", path=str(path)))]
    lines += [layout(msg("  {name} ({size})", name=name, size=format_file_size(n))) for name, n in made.files.items()]
    said = msg(
        "left out: images, captions, samples, weights and states; private texts that were replaced: {n}",
        n=sum(made.replaced.values()),
    )
    return "\n".join([*lines, *layout.paragraph(said), *layout.paragraph(msg("look into it before you send it"))])
