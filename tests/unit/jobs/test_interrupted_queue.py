"""Several recipes, where one of them is interrupted before its training begins."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lorabake.errors import MachineError
from lorabake.jobs import queue, run
from lorabake_schemas.messages import msg


@pytest.mark.parametrize(
    ("interrupted", "first", "looked_at"), [("a", "interrupted", ["b", "a"]), ("b", "not-started", ["b"])]
)
def test_an_interrupt_while_a_run_is_prepared_ends_the_queue_with_its_table(
    monkeypatch: pytest.MonkeyPatch, interrupted: str, first: str, looked_at: list[str]
) -> None:
    """The later recipes are looked at for errors before the first one is prepared."""
    prepared: list[str] = []

    def prepare(order: run.RunRequest, *_: object) -> run.PreparedRun:
        prepared.append(order.recipe.stem)
        if order.recipe.stem == interrupted:
            raise KeyboardInterrupt
        raise MachineError(msg("not now"))

    monkeypatch.setattr(run, "prepare_run", prepare)
    orders = [run.RunRequest(Path(name)) for name in ("a.toml", "b.toml")]
    before = signal.getsignal(signal.SIGHUP)
    try:
        results = list(queue.run_queue(orders, {}, print, print))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [(each.state, each.code) for each in results] == [(first, 130), ("not-started", 130)]
    assert prepared == looked_at
