"""Whether xformers' attention works on this machine's GPU, tried for real and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lorabake.trainer import packages, venv
from lorabake.util import machine, resources
from lorabake.util.process import capture_output
from lorabake_schemas.machine import AttentionProbe, Precision
from lorabake_schemas.messages import msg

_PROBES_ADAPTER = TypeAdapter(dict[str, AttentionProbe])


def probe_xformers(python: Path, precision: Precision, env: Mapping[str, str], kept: Path | None) -> AttentionProbe:
    """Run probe_attention.py with the trainer's Python, once for each GPU, driver and precision.

    ``kept`` is the file that remembers the answers, None to remember nothing. A probe that crashes is a no that is not
    remembered.
    """
    gpus = machine.detect_machine(env).gpus
    if not gpus:
        return AttentionProbe.without_gpu()
    known = _read_probes(kept)
    key = f"{gpus[0].name}, driver {gpus[0].driver}, {precision}"
    if key in known:
        return known[key]
    with resources.trainer_script("probe_attention.py") as script:
        argv = [str(python), str(script), precision]
        done = capture_output(argv, env=packages.script_environment(env), timeout=300)
    answer = venv.parse_last_json(done.stdout)
    if answer is None:
        reason = msg("the xformers test exited with code {code}", code=done.returncode)
        return AttentionProbe(xformers=False, reason=reason)
    found = AttentionProbe.model_validate(answer)
    if kept is not None:
        with suppress(OSError):  # a store that cannot be written still trains
            kept.write_bytes(_PROBES_ADAPTER.dump_json(known | {key: found}, indent=1))
    return found


def _read_probes(kept: Path | None) -> dict[str, AttentionProbe]:
    try:
        return _PROBES_ADAPTER.validate_json(kept.read_bytes()) if kept is not None else {}
    except (OSError, ValidationError):
        return {}
