"""For every test: signals and the Hugging Face Hub's switches as usual, and the real trainer, installed once."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.trainer import install as trainers
from lorabake.util import resources
from lorabake.util.environment import read_environment
from ordinary import ordinary_user

ROOT = Path(__file__).parents[1]

# What a machine can lack through no fault of lorabake's; any other failure to install is a failed test.
_CANNOT_BE_HAD = ("cannot fetch sd-scripts from", "git was not found", "not enough disk", "pip cannot reach")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the files of test_wording.py again.")


def pytest_configure() -> None:
    """Signals as a terminal leaves them: `nohup` and `&` hand on ignored ones, and so would our children.

    Whoever runs the tests may work offline, which findings report; tests that train say so themselves.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.pop(switch, None)


@pytest.fixture
def ordinary() -> Generator[None]:
    """Permissions count in this test, for root as well."""
    with ordinary_user():
        yield


@pytest.fixture(scope="session")
def trainer() -> trainers.Trainer:
    """The pinned sd-scripts with its own Python, in LORABAKE_TEST_HOME or .test-cache/."""
    env = read_environment()
    home = Path(env.get("LORABAKE_TEST_HOME") or ROOT / ".test-cache").absolute()
    try:
        return trainers.ensure_installed(resources.load_pin(), home, "auto", env, print)
    except SetupError as error:
        if error.message.startswith(_CANNOT_BE_HAD):
            pytest.skip(f"no real trainer: {error.message} ({error.hint})")
        raise
