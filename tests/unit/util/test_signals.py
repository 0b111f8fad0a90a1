"""Signals that ask to stop while nothing is watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from lorabake.util.signals import end_at_stop_signals, forward_stop_signals, interrupt_at_stop_signals

STOPPED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


@pytest.mark.parametrize("number", STOPPED)
def test_a_stop_signal_is_an_interrupt(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupt_at_stop_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before is signal.SIG_DFL


def test_an_ignored_one_stays_ignored_and_a_watched_command_gets_its_own() -> None:
    reasons: list[str] = []

    class Running:
        def stop(self, reason: str) -> None:
            reasons.append(reason)

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with interrupt_at_stop_signals():
            os.kill(os.getpid(), signal.SIGUSR2)
            with forward_stop_signals() as bind:
                bind(Running())
                os.kill(os.getpid(), signal.SIGUSR1)
            assert reasons == ["SIGUSR1"]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGUSR1)
            end_at_stop_signals()
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@pytest.mark.parametrize("number", STOPPED)
def test_a_command_exits_as_an_interrupted_one(number: int) -> None:
    code = (
        "import os, sys; from lorabake import cli; from lorabake.runs import index;"
        f"index.list_runs = lambda *_, **__: os.kill(os.getpid(), {int(number)});"
        "sys.argv = ['lorabake', 'ls']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (130, b"")
