"""For every test: signals and the Hugging Face Hub's switches as usual; the real trainer and bases, made once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.jobs import quickstart_files
from lorabake.trainer import install as trainers
from lorabake.util import locks, machine, resources
from lorabake.util.environment import read_environment
from lorabake_schemas.machine import Family
from ordinary import ordinary_user

ROOT = Path(__file__).parents[1]
MakeBase = Callable[..., Path]

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
def cache() -> Path:
    """Where the trainer and the bases are kept between sessions."""
    folder = Path(read_environment().get("LORABAKE_TEST_HOME") or ROOT / ".test-cache").absolute()
    (folder / "bases").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def trainer(cache: Path) -> trainers.Trainer:
    """The pinned sd-scripts with its own Python, in LORABAKE_TEST_HOME or .test-cache/."""
    try:
        return trainers.ensure_installed(resources.load_pin(), cache, "auto", read_environment(), print)
    except SetupError as error:
        if error.message.startswith(_CANNOT_BE_HAD):
            pytest.skip(f"no real trainer: {error.message} ({error.hint})")
        raise


@pytest.fixture(scope="session")
def make_base(cache: Path, trainer: trainers.Trainer) -> MakeBase:
    """Makes the base ``name`` of a family when it is first asked for; ``options`` are those of random_base.py. Skips
    the test where memory is too small for so many ``trainings`` with it at a time."""

    def made(family: Family, name: str | None = None, *options: str, trainings: int = 0) -> Path:
        folder = cache / "bases" / (name or family)
        with locks.hold_lock(cache / "bases" / ".lock", lambda _: print("waiting for another session's base")):
            quickstart_files.make_base(folder, family, trainer.python, read_environment(), print, *options)
        wanted = trainings * quickstart_files.resource_needs(family).memory_bytes
        if (free := machine.get_available_memory()) is not None and free < wanted:
            pytest.skip(f"training needs {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")
        return folder

    return made


@pytest.fixture(scope="session")
def base(make_base: MakeBase) -> Path:
    """That of SD1.5; skips the test where memory is too small to train it."""
    return make_base("sd15", trainings=1)
