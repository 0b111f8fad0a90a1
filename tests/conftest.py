"""What every test may count on, however the tests were started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Signals as a terminal leaves them: `nohup` and `&` hand on ignored ones, and so would our children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
