"""The state of a run: every combination of record, lock, claim and host."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from ended_runs import record as ended_record
from lorabake.runs.finalize import KILLED_CODE, complete_record
from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import ActiveRun, lock_path
from lorabake.runs.record import read_record, write_record
from lorabake.runs.status import IN_PROGRESS, RunEvidence, judge_state, list_statuses, read_state, summarize_run
from lorabake.runs.stop_request import StopMode, request_stop
from lorabake.util.locks import try_lock
from lorabake.util.owners import LockOwner, current_owner, serialize_owner
from lorabake.util.process_guard import flock
from lorabake_schemas.record import Record, RunStatus
from lorabake_schemas.run_status import RunState, StatusReport

HERE = Path("run")
OWNER = LockOwner("host", 7)
ACTIVE = {
    "nothing": None,
    "supervised": ActiveRun(HERE, OWNER, is_supervised=True),
    "supervised elsewhere, by its lock": ActiveRun(HERE, OWNER, is_supervised=True, certain=False),
    "guarded": ActiveRun(HERE, OWNER, (), is_guarded=True),
    "guarded with trainer": ActiveRun(HERE, OWNER, (8, 9), is_guarded=True),
    "trainer alone": ActiveRun(HERE, OWNER, (8, 9)),
    "log is open": ActiveRun(HERE, OWNER),
    "claimed elsewhere": ActiveRun(HERE, OWNER, certain=False),
}
UNPROVEN = {"supervised elsewhere, by its lock", "claimed elsewhere"}
TRAINER_LIVES = {"guarded with trainer", "trainer alone", "log is open"}


def expected(status: RunStatus, alive: str, code: str | None, stopping: bool) -> RunState:
    """What a person who sees all of it would say."""
    if status == "finished" or status == "inputs-changed":  # noqa: PLR1714 - narrows the type
        return status
    if status == "started" and alive in UNPROVEN:
        return "elsewhere"
    if status == "started" and alive == "guarded":
        return "stopping"
    if (status == "started" and alive == "supervised") or alive in TRAINER_LIVES or alive == "supervised":
        return "stopping" if stopping or alive == "guarded with trainer" else "running"
    if status == "started":
        return "died"
    return "died" if status == "interrupted" and code == KILLED_CODE else status


@pytest.mark.parametrize(
    ("status", "alive", "code", "stopping"),
    [*product(get_args(RunStatus), ACTIVE, (None, "stopped", KILLED_CODE), (False, True))],
)
def test_every_combination(status: RunStatus, alive: str, code: str | None, stopping: bool) -> None:
    found = judge_state(RunEvidence(ACTIVE[alive], status, code, stopping))
    assert found == expected(status, alive, code, stopping)
    assert (found in IN_PROGRESS) == (found in {"running", "stopping", "elsewhere"})


def made(folder: Path, status: str = "started", outcome: dict[str, Any] | None = None, **changes: Any) -> RunPaths:
    """A run folder of the run "x" in its own place."""
    root = folder / "x-001"
    (root / "logs").mkdir(parents=True)
    (root / "output").mkdir()
    paths = RunPaths(root)
    paths.log.touch()
    write_record(paths, record(paths, status, outcome, **changes))
    return paths


def record(paths: RunPaths, status: str = "started", outcome: dict[str, Any] | None = None, **changes: Any) -> Record:
    changed = {"cwd": str(paths.root), "started": "2026-01-31T09:30:00.000Z", "planned_steps": 100, **changes}
    return ended_record(status, outcome).model_copy(update=changed)


def claim(paths: RunPaths, owner: LockOwner, *, folder: int | None = None) -> None:
    inode = paths.root.stat().st_ino if folder is None else folder
    paths.running.write_bytes(serialize_owner(owner, folder=inode, mark="no process has it", trainer=0))


def gone() -> LockOwner:
    """A process of this host that has ended."""
    return replace(current_owner("x"), started="1", pid=os.getpid())


ELSEWHERE = LockOwner("other", 7, boot="another boot", space="s", started="1", use="x")


def test_nothing_alive_and_no_end_means_died(tmp_path: Path) -> None:
    assert read_state(made(tmp_path)) == "died"


def test_a_lock_that_is_held_means_running(tmp_path: Path) -> None:
    paths = made(tmp_path)
    with try_lock(lock_path(tmp_path, "x"), "x-001") as busy:
        assert busy is None
        assert read_state(paths) == "running"
        found = summarize_run(paths, record(paths), "x-001")
        assert (found.supervised, found.supervisor, found.host) == (True, os.getpid(), current_owner().host)
    assert read_state(paths) == "died"


def test_the_lock_of_another_run_of_that_name_proves_nothing(tmp_path: Path) -> None:
    paths = made(tmp_path)
    with try_lock(lock_path(tmp_path, "x"), "x-002"):
        assert read_state(paths) == "died"


def test_a_lock_of_another_host_is_elsewhere(tmp_path: Path) -> None:
    paths = made(tmp_path)
    lock_path(tmp_path, "x").write_bytes(serialize_owner(replace(ELSEWHERE, use="x-001")))
    assert read_state(paths) == "elsewhere"
    assert summarize_run(paths, record(paths), "x-001").host == "other"


def test_a_claim_of_another_host_is_elsewhere(tmp_path: Path) -> None:
    paths = made(tmp_path)
    claim(paths, ELSEWHERE)
    assert read_state(paths) == "elsewhere"


def test_a_claim_of_an_ended_process_is_nothing(tmp_path: Path) -> None:
    paths = made(tmp_path)
    claim(paths, gone())
    assert read_state(paths) == "died"
    assert summarize_run(paths, record(paths), "x-001").host == current_owner().host


def test_a_claim_in_a_copy_is_nothing(tmp_path: Path) -> None:
    paths = made(tmp_path)
    claim(paths, ELSEWHERE, folder=1)
    assert read_state(paths) == "died"


def test_a_living_guard_after_its_lorabake_is_stopping(tmp_path: Path) -> None:
    paths = made(tmp_path)
    claim(paths, current_owner("x"))
    assert read_state(paths) == "stopping"
    write_record(paths, record(paths, "failed", {"code": "crashed", "message": "it crashed"}))
    assert read_state(paths) == "failed"


def test_an_open_log_means_that_the_trainer_lives(tmp_path: Path) -> None:
    paths = made(tmp_path)
    with paths.log.open("ab") as log:
        assert flock(log.fileno())
        assert read_state(paths) == "running"
        found = summarize_run(paths, record(paths), "x-001")
        assert (found.supervised, found.supervisor) == (False, None)
    assert read_state(paths) == "died"


def test_what_is_measured_is_shown_while_it_is_in_progress(tmp_path: Path) -> None:
    gpu = {"uuid": "GPU-a", "name": "A10", "used_mib": 3, "total_mib": 8, "temperature": None}
    metrics = {"event": "metrics", "learning_rates": {"unet": "nan"}, "d": 2e-5, "gpus": [gpu]}
    paths = made(tmp_path)
    paths.events.write_text(json.dumps({"time": "2026-01-31T09:30:00.000Z", **metrics}) + "\n")
    with try_lock(lock_path(tmp_path, "x"), paths.root.name):
        shown = summarize_run(paths, record(paths), "x")
    assert (shown.learning_rates, shown.d, [each.model_dump() for each in shown.gpus]) == ({"unet": "nan"}, 2e-5, [gpu])
    assert StatusReport.model_validate_json(StatusReport(runs=(shown,)).model_dump_json()).runs == (shown,)
    over = summarize_run(paths, record(paths), "x")
    assert (over.state, over.learning_rates, over.d, over.gpus) == ("died", {}, None, ())


def test_a_stop_that_is_under_way(tmp_path: Path) -> None:
    paths = made(tmp_path)
    event = {"time": "2026-01-31T09:31:00.000Z", "event": "stopping", "signal": "SIGTERM"}
    paths.events.write_text(json.dumps(event) + "\n")
    with try_lock(lock_path(tmp_path, "x"), "x-001"):
        assert summarize_run(paths, record(paths), "x-001", brief=True).state == "stopping"
        with paths.events.open("a") as events:
            for number in range(500):
                step = {"event": "step", "step": number, "total": 500, "loss_average": None, "loss_current": None}
                events.write(json.dumps({"time": event["time"], **step}) + "\n")
        assert read_state(paths) == "stopping"


@pytest.mark.parametrize(
    ("mode", "state", "waits"),
    [("soon", "stopping", None), ("now", "stopping", None), ("after-epoch", "running", "after-epoch")],
)
def test_a_stop_that_was_asked_for(tmp_path: Path, mode: StopMode, state: str, waits: str | None) -> None:
    paths = made(tmp_path)
    request_stop(paths, mode)
    with try_lock(lock_path(tmp_path, "x"), "x-001"):
        found = summarize_run(paths, record(paths), "x-001", brief=True)
    assert (found.state, found.stop_after) == (state, waits)
    assert read_state(paths) == "died"


def test_the_end_of_a_killed_run_is_written_by_whoever_reads_it_next(tmp_path: Path) -> None:
    paths = made(tmp_path)
    paths.log.write_bytes(b"steps:   5%|#   | 5/100 [00:05<01:35,  1.00s/it, avr_loss=0.1]\r")
    report = list_statuses([(paths.root, "x-001")])
    assert [(each.state, each.step, each.code) for each in report.runs] == [("died", 5, KILLED_CODE)]
    assert json.loads(paths.record.read_text())["status"] == "interrupted"
    assert read_state(paths) == "died"


@pytest.mark.parametrize("by_lock", [False, True])
@pytest.mark.parametrize(
    ("boot", "words"), [(None, "killed or crashed on"), ("an older one", "was restarted or lost power")]
)
def test_where_a_run_died_and_whether_that_host_was_restarted(
    tmp_path: Path, boot: str | None, words: str, by_lock: bool
) -> None:
    """Known from what its guard has left, or its supervisor."""
    paths = made(tmp_path)
    owner = gone() if boot is None else replace(gone(), boot=boot)
    if by_lock:
        lock_path(tmp_path, "x").write_bytes(serialize_owner(replace(owner, use=paths.root.name)))
    else:
        claim(paths, owner)
    outcome = complete_record(paths, read_record(paths.record)).outcome
    assert outcome is not None
    assert words in outcome.message
    assert owner.host in outcome.message
    assert (outcome.hint is None) == (boot is not None)


def test_nothing_is_written_into_a_copy(tmp_path: Path) -> None:
    paths = made(tmp_path, cwd="/somewhere/else")
    before = paths.record.read_bytes()
    assert [each.state for each in list_statuses([(paths.root, "x-001")]).runs] == ["died"]
    assert paths.record.read_bytes() == before


def test_the_finished_lora_and_the_verdict(tmp_path: Path) -> None:
    files = [{"name": f"output/{name}", "sha256": "0", "size": 1} for name in ("x-000001.safetensors", "x.safetensors")]
    outcome = {"code": "trained", "message": "trained", "steps": 100, "outputs": files}
    paths = made(tmp_path, "finished", outcome, ended="2026-01-31T10:30:00.000Z")
    found = list_statuses([(paths.root, "x-001")]).runs[0]
    assert (found.state, found.step, found.lora) == ("finished", 100, "output/x.safetensors")
    assert (found.ended, found.phase, found.seconds_left) == ("2026-01-31T10:30:00.000Z", None, None)


def test_an_unreadable_record_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    paths = made(tmp_path)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "record.json").write_text("{")
    report = list_statuses([(bad, "bad"), (paths.root, "x-001")])
    assert (len(report.runs), report.unreadable) == (1, (str(bad),))


def test_the_newest_run_comes_first(tmp_path: Path) -> None:
    roots = list[tuple[Path, str]]()
    for number, day in enumerate(("03", "05", "04")):
        paths = made(tmp_path / str(number), "failed", None, started=f"2026-01-{day}T00:00:00.000Z")
        roots.append((paths.root, day))
    assert [each.name for each in list_statuses(roots).runs] == ["05", "04", "03"]


def test_reading_a_state_changes_nothing(tmp_path: Path) -> None:
    paths = made(tmp_path)
    claim(paths, gone())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    time.sleep(0.01)
    read_state(paths)
    summarize_run(paths, record(paths), "x-001")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_owner_is_described_by_all_its_fields() -> None:
    """What these tests write is what a process writes."""
    assert set(asdict(current_owner("x"))) == set(json.loads(serialize_owner(ELSEWHERE)))
