"""Whether xformers' attention works on this machine's GPU, tried for real and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lorabake import resources
from lorabake.process import capture
from lorabake.reading import machine
from lorabake.trainer import requirements, venv
from lorabake_schemas.machine import AttentionProbe, Precision
from lorabake_schemas.words import say

_PROBES = TypeAdapter(dict[str, AttentionProbe])


def probe(python: Path, precision: Precision, env: Mapping[str, str], kept: Path | None) -> AttentionProbe:
    """Run probe_attention.py with the trainer's Python, once for each GPU, driver and precision.

    ``kept`` is the file that remembers the answers, None to remember nothing. A probe that crashes is a no that is not
    remembered.
    """
    gpus = machine.facts(env).gpus
    if not gpus:
        return AttentionProbe.without_gpu()
    known = _read(kept)
    key = f"{gpus[0].name}, driver {gpus[0].driver}, {precision}"
    if key in known:
        return known[key]
    with resources.trainer_side("probe_attention.py") as script:
        argv = [str(python), str(script), precision]
        done = capture(argv, env=requirements.script_environment(env), timeout=300)
    answer = venv.last_json(done.stdout)
    if answer is None:
        reason = say("the probe of xformers ended with {code}", code=done.returncode)
        return AttentionProbe(xformers=False, reason=reason)
    found = AttentionProbe.model_validate(answer)
    if kept is not None:
        with suppress(OSError):  # a store that cannot be written still trains
            kept.write_bytes(_PROBES.dump_json(known | {key: found}, indent=1))
    return found


def _read(kept: Path | None) -> dict[str, AttentionProbe]:
    try:
        return _PROBES.validate_json(kept.read_bytes()) if kept is not None else {}
    except (OSError, ValidationError):
        return {}


__all__ = ["probe"]
