"""For every test: signals as they should be, and the real trainer, installed once and kept between sessions."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.trainer import install as trainers
from lorabake.util import process, resources
from ordinary import ordinary_user

ROOT = Path(__file__).parents[1]

# What a machine can lack through no fault of lorabake's; any other failure to install is a failed test.
_CANNOT_BE_HAD = ("cannot fetch sd-scripts from", "git was not found", "not enough disk", "pip cannot reach")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the files of test_wording.py again.")


def pytest_configure() -> None:
    """Signals as a terminal leaves them: `nohup` and `&` hand on ignored ones, and so would our children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def ordinary() -> Generator[None]:
    """Permissions count in this test, for root as well."""
    with ordinary_user():
        yield


@pytest.fixture(scope="session")
def trainer() -> trainers.Trainer:
    """The pinned sd-scripts with its own Python, in LORABAKE_TEST_HOME or .test-cache/."""
    env = process.read_environment()
    home = Path(env.get("LORABAKE_TEST_HOME") or ROOT / ".test-cache").absolute()
    try:
        return trainers.ensure_installed(resources.load_pin(), home, "auto", env, print)
    except SetupError as error:
        if error.message.startswith(_CANNOT_BE_HAD):
            pytest.skip(f"no real trainer: {error.message} ({error.hint})")
        raise
