"""A small training with the pinned sd-scripts on the CPU, whose processes are killed."""

from __future__ import annotations

from pathlib import Path

from chain import World
from test_resumed import Project

from lorabake.util.environment import make_child_env, read_environment


def make_real_world(folder: Path) -> World:
    """SD1.5 at 64 px; trainer and base model are in LORABAKE_TEST_HOME, where the tests in tests/real put them.

    One thread: two wait for each other all the time where others use the machine, too.
    """
    home = Path(read_environment()["LORABAKE_TEST_HOME"]).absolute()
    folder.mkdir()
    Project(
        folder,
        home / "bases" / "sd15",
        home,
        {"max_train_steps": 8},
        several=False,
        launch={"num_cpu_threads_per_process": 1},
    )
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(home))
    return World("lum", folder, env, (), steps=8, start_s=15.0, load_s=25.0, step_s=2.0, is_real=True)
