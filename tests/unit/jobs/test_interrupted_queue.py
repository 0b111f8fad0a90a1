"""Several recipes, where one of them is interrupted before its training begins."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lorabake.jobs import queue, run


def test_an_interrupt_while_a_run_is_prepared_ends_the_queue_with_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Path] = []

    def prepare(order: run.RunRequest, *_: object) -> run.PreparedRun:
        prepared.append(order.recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "prepare_run", prepare)
    orders = [run.RunRequest(Path(name)) for name in ("a.toml", "b.toml")]
    before = signal.getsignal(signal.SIGHUP)
    try:
        results = list(queue.run_queue(orders, {}, print, print))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [(each.state, each.code) for each in results] == [("interrupted", 130), ("not-started", 130)]
    assert prepared == [Path("a.toml")]
