"""Two runs, or a run and a recipe: what is compared, and what is not because it is unknown."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lorabake.analysis.diff import DiffOperand, diff_runs
from lorabake.commands.output.diff import format_plan_diff
from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.check_report import PlanDifference, ValueDifference
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import TimeEstimate
from lorabake_schemas.record import FileDigest, Input, InputRole, Outcome, OutputFile, Record, TrainerRecord
from situations import RECORDED, plan_of, recipe

PLAN = plan_of(recipe())
MACHINE = MachineFacts(system="Linux", cpus=4, memory_bytes=8 << 30, release="6.1", processor="EPYC")
TRAINER = TrainerRecord(
    kind="pin", commit="aa", tree="t1", python="p", python_version="3.11.4", packages={"torch": "2"}
)
LORA = OutputFile(name="output/x.safetensors", sha256="aa", size=1)
STATE = OutputFile(name="output/x-state/optimizer.bin", sha256="bb", size=1)


def record(**values: object) -> Record:
    whole = Record(
        lorabake="1",
        name="x",
        rehearsal=False,
        status="finished",
        started="2026-01-31T09:30:00.000Z",
        ended="2026-01-31T09:31:00.400Z",
        recipe=LORA,
        compiled=(),
        seed=1,
        trainer=TRAINER,
        machine=MACHINE,
        argv=(),
        cwd="/",
        environment={},
        planned_steps=4,
        outcome=Outcome(code="trained", message=msg("well"), steps=4, outputs=(LORA, STATE)),
        **(RECORDED | {"digest": "dd"}),  # pyright: ignore[reportArgumentType]
    )
    return whole.model_copy(update=values)


def between(one: Record | None, other: Record | None) -> PlanDifference:
    return diff_runs(DiffOperand("a", PLAN, (), one), DiffOperand("b", PLAN, (), other))


def values(parts: Sequence[ValueDifference] | None) -> list[tuple[str, str | None, str | None]]:
    assert parts is not None
    return [(each.name, each.here, each.there) for each in parts]


def one_file(role: InputRole, name: str, content: str) -> Input:
    file = FileDigest(name=name, sha256=content, size=1)
    return Input(role=role, name=name, place=name, kind="file", files=(file,))


def folder(*files: str, index: int = 0, role: InputRole = "concept") -> Input:
    listed = tuple(FileDigest(name=name, sha256=f"of {name}", size=1) for name in files)
    return Input(role=role, index=index, name="pics", place="../pics", kind="folder", endings=(".png",), files=listed)


def data(here: tuple[Input, ...] | None, there: tuple[Input, ...] | None, **ours: object) -> object:
    found = diff_runs(DiffOperand("a", PLAN, here, record(**ours)), DiffOperand("b", PLAN, there, record())).data
    return None if found is None else [(e.what, e.index, e.name, e.name_there, e.here, e.there) for e in found]


def test_a_run_beside_itself() -> None:
    found = between(record(), record())
    assert found.same
    assert (found.data, found.trainer, found.machine, found.outcome) == ((), (), (), ())
    assert found.digests == ("dd", "dd")


def test_longer_is_not_other() -> None:
    found = between(record(), record(ended="2026-01-31T09:32:00.000Z"))
    assert values(found.outcome) == [("took", "60 s", "120 s")]
    assert found.same


def test_how_it_ended_and_what_it_made() -> None:
    failed = Outcome(
        code="not-finite", message=msg("badly"), steps=3, outputs=(LORA.model_copy(update={"sha256": "ff"}),)
    )
    found = between(record(), record(status="failed", outcome=failed))
    assert values(found.outcome) == [
        ("status", "finished", "failed"),
        ("verdict", "trained", "not-finite"),
        ("steps", "4", "3"),
        ("output/x.safetensors", "aa", "ff"),
    ]
    assert not found.same
    running = between(record(), record(status="started", outcome=None, ended=None))
    assert ("took", "60 s", None) in values(running.outcome)


def test_another_trainer() -> None:
    other = TRAINER.model_copy(update={"tree": "t2", "packages": {"torch": "3", "apex": "1"}})
    assert values(between(record(), record(trainer=other, lorabake="2")).trainer) == [
        ("files of sd-scripts", "t1", "t2"),
        ("torch", "2", "3"),
        ("lorabake", "1", "2"),
        ("apex", None, "1"),
    ]
    commit = other.model_copy(update={"commit": "bb", "packages": {"torch": "2"}})
    assert values(between(record(), record(trainer=commit)).trainer) == [("sd-scripts", "aa", "bb")]


def test_variables_that_differ() -> None:
    here = {"COLUMNS": "200", "GIT_CEILING_DIRECTORIES": "/a", "CUDA_VISIBLE_DEVICES": "", "MKL_CBWR": "AUTO"}
    there = {"COLUMNS": "80", "GIT_CEILING_DIRECTORIES": "/b", "NVIDIA_TF32_OVERRIDE": "1"}
    found = between(record(environment=here), record(environment=there))
    assert values(found.machine) == [("NVIDIA_TF32_OVERRIDE", None, "1")]
    assert not found.same


def test_another_machine() -> None:
    gpu = Gpu(name="RTX 3060", memory_mib=1, driver="570.2")
    other = MACHINE.model_copy(update={"gpus": (gpu, gpu), "cpus": 16, "memory_bytes": 32 << 30})
    assert values(between(record(), record(machine=other)).machine) == [
        ("CPUs", "4", "16"),
        ("memory", "8 GiB", "32 GiB"),
        ("GPU", None, "RTX 3060, RTX 3060"),
        ("driver", None, "570.2"),
    ]


def test_a_recipe_has_no_trainer_and_no_outcome_and_a_rehearsal_no_trainer() -> None:
    found = between(record(), None)
    assert (found.trainer, found.machine, found.outcome, found.digests) == (None,) * 4
    rehearsed = between(record(), record(rehearsal=True))
    assert rehearsed.trainer is None
    assert rehearsed.outcome == ()


def test_inputs_that_are_not_known_are_not_compared() -> None:
    assert data(None, (folder("1.png"),)) is None


def test_a_model_is_the_same_by_any_name() -> None:
    assert data((one_file("base", "a", "x"),), (one_file("base", "b", "x"),)) == []
    assert data((one_file("base", "a", "x"),), (one_file("base", "b", "y"),)) == [("base", 0, "a", "b", "x", "y")]
    assert data((), (one_file("vae", "v", "y"),)) == [("vae", 0, "v", None, None, "y")]
    hub = Input(role="base", name="org/model", place="org/model", kind="hub")
    assert data((hub,), (one_file("base", "a", "x"),)) == [("base", 0, "org/model", "a", None, "x")]


def test_images_folder_by_folder() -> None:
    here = (folder("1.png", "2.png"), folder("1.png", index=1))
    there = (folder("1.png", "3.png"),)
    assert data(here, there) == [
        ("concept", 0, "2.png", None, "of 2.png", None),
        ("concept", 0, "3.png", None, None, "of 3.png"),
        ("concept", 1, "pics", None, here[1].digest().sha256, None),
    ]


def test_models_are_not_held_against_a_rehearsal() -> None:
    assert data((folder("1.png"),), (one_file("base", "a", "x"), folder("1.png")), rehearsal=True) == []


def test_how_long_a_recipe_was_thought_to_take_is_no_difference_to_a_run() -> None:
    """It depends on the runs that were known at the time, not on the two."""
    timing = TimeEstimate(step_low=1, step_high=2, low=147.9039993, high=373.4560013, runs=("r",), steps_measured=9)
    timed = PLAN.model_copy(update={"forecast": PLAN.forecast.model_copy(update={"timing": timing})})
    for one, other in ((record(), None), (None, record()), (record(), record())):
        assert diff_runs(DiffOperand("a", timed, (), one), DiffOperand("b", PLAN, (), other)).forecast == ()
    both = diff_runs(DiffOperand("a", timed, ()), DiffOperand("b", PLAN, ()))
    assert {each.name for each in both.forecast} == {"seconds_low", "seconds_high"}
    text = click.unstyle(format_plan_diff(both, TextLayout()))
    assert [row.split()[-3:] for row in text.splitlines() if " min " in row] == [
        ["2:28", "min", "-"],
        ["6:13", "min", "-"],
    ]
