"""Why a repetition would not be one, and where the recipe of a run lay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.repeat_check import RepeatCheck, describe_changes, read_run_recipe
from lorabake.errors import MachineError
from lorabake.jobs.run import next_run_dir
from lorabake.planning.digest import compute_run_digest
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import FileDigest, Input, Inputs, Record, TrainerRecord
from situations import RECORDED, plan_of, recipe

TRAINER = TrainerRecord(
    kind="own", commit="c" * 40, tree="t", python="/p/python", python_version="3.11.9", packages={"torch": "2.13.0"}
)
PICTURES = Input(role="concept", name="pics", place="../../pics", kind="folder", files=(
    FileDigest(name="1.png", sha256="a" * 64, size=3),
))  # fmt: skip
PLAN = plan_of(recipe(train={"seed": 7}))


def record(**changes: Any) -> Record:
    content = b"name = 'x'\n"
    return Record(
        lorabake="0.0.1", name="x", rehearsal=False, status="finished", started="2026-01-31T09:30:00.000Z",
        recipe=digest_bytes(content, "recipe.toml"), compiled=(), seed=7, trainer=TRAINER,
        machine=MachineFacts(system="Linux", cpus=2, memory_bytes=1), argv=(), cwd="/r", environment={},
        planned_steps=4, inputs=(PICTURES.digest(),), **RECORDED,
    ).model_copy(update=changes)  # fmt: skip


def request(
    plan: Plan = PLAN, trainer: TrainerRecord = TRAINER, digest: str = "d" * 64, *inputs: Input
) -> LaunchRequest:
    return LaunchRequest(
        root=Path("/r"), files={}, plan=plan, argv=(), env={}, trainer=trainer,
        machine=MachineFacts(system="Linux", cpus=2, memory_bytes=1), recipe_place="../recipe.toml",
        provenance=Provenance(Inputs(inputs=inputs or (PICTURES,)), digest),
    )  # fmt: skip


def test_an_equal_digest_is_a_repetition() -> None:
    made = RepeatCheck(record(), PLAN).checked(request())
    assert (made.rerun_of, tuple(made.drift)) == ("d" * 64, ())


def test_another_digest_is_refused_unless_that_is_allowed() -> None:
    other = request(plan_of(recipe(train={"seed": 8})), digest="e" * 64)
    with pytest.raises(MachineError, match="this would not repeat x: seed would be 8 instead of 7"):
        RepeatCheck(record(), PLAN).checked(other)
    made = RepeatCheck(record(), PLAN, allowed=True).checked(other)
    assert made.rerun_of == "d" * 64
    assert tuple(made.drift) == ("seed would be 8 instead of 7",)


CACHES = Input(role="caches", name="pics", place="../../pics", kind="folder", endings=(), files=(
    FileDigest(name="1_0064x0064_sd.npz", sha256="b" * 64, size=3),
))  # fmt: skip
HUB = Input(role="base", name="a/b", place="a/b", kind="hub")
FETCHED = HUB.model_copy(update={"files": (FileDigest(name="x.safetensors", sha256="c" * 64, size=9),)})


def digested(*inputs: Input) -> str:
    return compute_run_digest({"train.toml": "ff"}, tuple(each.digest() for each in inputs), TRAINER, PLAN.launch)


def made(*inputs: Input) -> LaunchRequest:
    provenance = Provenance(Inputs(inputs=inputs), digested(*inputs), {"train.toml": "ff"})
    return replace(request(), provenance=provenance)


def run(*inputs: Input) -> Record:
    return record(digest=digested(*inputs), inputs=tuple(each.digest() for each in inputs))


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ((PICTURES,), (PICTURES, CACHES), ["the caches differ"]),
        ((PICTURES, CACHES), (PICTURES,), ["the caches differ"]),
        ((HUB, PICTURES), (FETCHED, PICTURES), ["a/b was downloaded by x itself"]),
        ((HUB, PICTURES), (FETCHED, PICTURES, CACHES), ["a/b was downloaded by x itself", "the caches differ"]),
    ],
)
def test_what_the_run_left_behind_is_no_reason_to_refuse(
    then: tuple[Input, ...], now: tuple[Input, ...], words: list[str]
) -> None:
    again = RepeatCheck(run(*then), PLAN).checked(made(*now))
    assert len(again.drift) == len(words)
    assert all(said.startswith(start) for said, start in zip(again.drift, words, strict=True))


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ((PICTURES,), (PICTURES.model_copy(update={"files": CACHES.files}), CACHES)),
        ((PICTURES,), (PICTURES, HUB, CACHES)),
        ((PICTURES, HUB), (PICTURES, CACHES)),
        ((FETCHED,), (HUB,)),
    ],
)
def test_anything_else_that_changed_beside_is(then: tuple[Input, ...], now: tuple[Input, ...]) -> None:
    with pytest.raises(MachineError, match="would not repeat x"):
        RepeatCheck(run(*then), PLAN).checked(made(*now))


def test_what_was_known_before_is_what_is_recorded() -> None:
    made = RepeatCheck(record(), PLAN, (literal("a caption changed"),), allowed=True).checked(request(digest="e" * 64))
    assert tuple(made.drift) == ("a caption changed",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (request(trainer=TRAINER.model_copy(update={"commit": "d" * 40})), "sd-scripts has changed"),
        (request(trainer=TRAINER.model_copy(update={"tree": "u"})), "sd-scripts has changed"),
        (
            request(trainer=TRAINER.model_copy(update={"packages": {"torch": "2.14.0"}})),
            "the trainer's Python or packages have changed",
        ),
        (
            request(PLAN, TRAINER, "e" * 64, PICTURES.model_copy(update={"files": ()})),
            "images, captions, models or caches have changed",
        ),
        (
            request(PLAN.model_copy(update={"launch": PLAN.launch.model_copy(update={"cpu": True})})),
            "cpu would be True instead of False",
        ),
    ],
)
def test_each_reason_by_itself(changed: LaunchRequest, words: str) -> None:
    assert describe_changes(record(), PLAN, changed) == (words,)


def test_there_is_always_a_reason() -> None:
    (newer,) = describe_changes(record(), PLAN, request())
    assert newer.startswith("lorabake ")
    assert newer.endswith("than 0.0.1 did")
    from lorabake import __version__

    (unknown,) = describe_changes(record(lorabake=__version__), None, request())
    assert unknown == "lorabake now compiles the recipe differently"


def found(root: Path, **changes: Any) -> FoundRun:
    return FoundRun(RunPaths(root), record(**changes), root.name)


def test_where_a_recipe_lay_follows_the_run_folder(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "x-001"
    root.mkdir(parents=True)
    run = found(root, recipe_text="name = 'x'\n", recipe_place="../../my recipe.toml")
    assert read_run_recipe(run) == (tmp_path / "my recipe.toml", b"name = 'x'\n")
    absolute = found(root, recipe_text="name = 'x'\n", recipe_place="/elsewhere/my.toml")
    assert read_run_recipe(absolute)[0] == Path("/elsewhere/my.toml")


def test_the_copy_counts_when_the_record_has_no_text_and_only_unedited(tmp_path: Path) -> None:
    run = found(tmp_path, recipe_place="../my.toml")
    with pytest.raises(MachineError, match="was not found in its record"):
        read_run_recipe(run)
    (tmp_path / "recipe.toml").write_bytes(b"name = 'x'\n")
    assert read_run_recipe(run)[1] == b"name = 'x'\n"
    (tmp_path / "recipe.toml").write_bytes(b"name = 'y'\n")
    with pytest.raises(MachineError, match="was not found in its record"):
        read_run_recipe(run)


def test_the_next_folder_is_above_all_that_are_there(tmp_path: Path) -> None:
    assert next_run_dir(tmp_path / "none", "x").name == "x-001"
    for name in ("x-002", "x-010", "y-099", "x-rehearsal-050", "x-11-old"):
        (tmp_path / name).mkdir()
    assert next_run_dir(tmp_path, "x") == tmp_path / "x-011"
    assert next_run_dir(tmp_path, "x-rehearsal").name == "x-rehearsal-051"
