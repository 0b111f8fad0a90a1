"""Kills the processes of a run at random moments, one or two or more at a time, and asks lorabake for its state.

``PYTHONPATH=tests:tests/unit:tests/integration:tests/real python tests/faults/kill_subsets.py --kills 300`` starts
`lorabake run` that often on a stand-in for sd-scripts, sends SIGKILL, SIGHUP or SIGTERM to its terminal, supervisor,
guards, launcher or trainer, and prints a table. With ``--real`` it trains with the pinned sd-scripts and the base model
in LORABAKE_TEST_HOME. It exits with 1 if anything was wrong: a state that is not the true one for more than 5 s, a
process that is left running, a second trainer, a hidden file that is left, an exit code, or a run that `resume` does
not complete. With ``--errno ENOLCK`` the file system has no flock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from signal import Signals
from typing import Any

import without_flock
from chain import POLL_S, ROLES, Chain, Look, World, make_fake_world
from launch_runner import request

from fake_sd_scripts import weight
from lorabake.errors import BusyError, LorabakeError, MachineError
from lorabake.jobs.control import stop_run
from lorabake.jobs.resume.prepare import prepare_resume
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.index import find_run
from lorabake.runs.status import summarize_run
from lorabake.util.locks import try_lock

KILL, HUP, TERM = signal.SIGKILL, signal.SIGHUP, signal.SIGTERM
Hits = Mapping[str, Signals]  # what was sent to each role that lived
SUPERVISORS = ("supervisor", "guard", "second guard")
SUBSETS = [
    *((role,) for role in ROLES),
    *combinations(ROLES, 2),
    SUPERVISORS,  # the trainer is alone then
    ROLES,
]
PATIENCE_S = 900.0  # for a training on a machine that is busy with other things
STATUS_S = 5.0  # within which a state has to be the true one
VIEWER_S = 30.0
EXIT_CODES = {"finished": 0, "failed": 4, "interrupted": 130, "died": 130}


@dataclass
class Kill:
    """One kill and what came of it; ``before`` is the state of a run that was being resumed."""

    number: int
    subset: tuple[str, ...]
    hits: dict[str, Signals] = field(default_factory=dict[str, Signals])
    before: str = ""
    told: str = ""
    slowest_s: float = 0.0
    resumed: bool = False
    faults: list[str] = field(default_factory=list[str])

    @property
    def signals(self) -> str:
        return ", ".join(f"{role} {number.name}" for role, number in self.hits.items()) or "nobody"


def choose_signals(subset: Iterable[str], dice: random.Random) -> dict[str, Signals]:
    subset = list(subset)
    if len(subset) > 2:
        return dict.fromkeys(subset, KILL)
    return {role: dice.choice((KILL, HUP, TERM)) for role in subset}


def strike(chain: Chain, wanted: Hits, dice: random.Random) -> dict[str, Signals]:
    """Send the signals at a random moment between start and end, most often while it trains; to whom they went."""
    if dice.random() < 0.15:
        time.sleep(dice.uniform(0.0, chain.world.start_s))
        if hits := send(chain, wanted, dice):
            return hits
    wait_for_the_moment(chain, {*wanted, "supervisor"}, dice.randint(-3, chain.world.steps), dice.random())
    return send(chain, wanted, dice)


def wait_for_the_moment(chain: Chain, roles: set[str], step: int, share: float) -> None:
    """Until these processes live, and then a part of the time of loading, of a step, or of saving and judging."""
    world = chain.world
    chain.until(lambda look: all(look.of(role) for role in roles) or not look.of(*ROLES), PATIENCE_S)
    if step <= 0:
        time.sleep(share * world.load_s)
        return
    chain.until(lambda look: chain.step >= step or look.is_over, PATIENCE_S)
    time.sleep(share * world.step_s * (4 if step == world.steps else 1))


def send(chain: Chain, wanted: Hits, dice: random.Random) -> dict[str, Signals]:
    """Send them in a random order, at once or one soon after the other; to whom they went.

    From then on a trainer that is to be stopped is so slow that it would be noticed if it was not.
    """
    if expected_ends(wanted, chain) != {"finished"}:
        chain.slow.touch()
    gap = dice.choice((0.0, 0.0, dice.uniform(0.0, 0.3)))
    hits, look = dict[str, Signals](), chain.look()
    for role in dice.sample(sorted(wanted), len(wanted)):
        if hits and gap:
            time.sleep(gap)
            look = chain.look()
        for pid in look.of(role):
            with suppress(ProcessLookupError):
                os.kill(pid, wanted[role])
                hits[role] = wanted[role]
    if expected_ends(hits, chain) == {"finished"}:
        chain.slow.unlink(missing_ok=True)
    return hits


def expected_ends(hits: Hits, chain: Chain) -> set[str]:
    """How a run may end after these signals. It is not known which of two came first."""
    ends = set[str]()
    if hits.get("supervisor") == KILL:
        ends.add("died")
    if TERM in {hits.get("viewer"), hits.get("supervisor")}:
        ends.add("interrupted")
    if {"launcher", "trainer"} & hits.keys() or hits.get("guard") in {KILL, TERM}:
        ends.add("failed")
    return ends | {"finished"} if chain.has_saved or not ends else ends


def read_status(chain: Chain) -> dict[str, Any] | None:
    """What `lorabake status --json` shows of the run; None if there is none."""
    try:
        found = find_run(chain.root, chain.root.parent)
    except MachineError:
        return None
    shown: dict[str, Any] = summarize_run(found.paths, found.record, found.name).model_dump(mode="json")
    return shown


def find_wrong(told: Mapping[str, Any] | None, look: Look, kill: Kill, chain: Chain) -> str | None:
    """What is not true in a status, if anything."""
    if told is None:
        return "no run, though it has a record" if chain.has_begun else None
    ends = expected_ends(kill.hits, chain)
    ends |= {kill.before} if kill.before and not chain.log else set()  # it had not yet been resumed
    right = set[str]() if look.trains else set(ends)
    if not look.is_over:
        right |= {"running"} if ends == {"finished"} or not look.of("supervisor", "guard") else {"running", "stopping"}
    if told["state"] not in right:
        return f"{told['state']}, true: {sorted(right)}"
    if look.is_over and told["state"] != "finished" and not kill.before and told["step"] != chain.step:
        return f"step {told['step']}, but the log has {chain.step}"
    if look.trains and not look.of(*SUPERVISORS) and kill.hits.get("second guard") != KILL:
        return "the trainer is left alone"
    return find_wrong_process(told, look) if look.trains else None


def find_wrong_process(told: Mapping[str, Any], look: Look) -> str | None:
    """Which process is not the one that a status shows of a run that trains."""
    supervised = bool(look.of("supervisor"))
    if told["supervised"] is not supervised or (supervised and told["supervisor"] not in look.of("supervisor")):
        return f"supervised by {told['supervisor']}, true: {sorted(look.of('supervisor'))}"
    if not look.of("launcher", "trainer") <= set(told["trainer"]):
        return f"trainer {told['trainer']}, true: {sorted(look.of('launcher', 'trainer'))}"
    return None


def watch_to_the_end(chain: Chain, kill: Kill) -> None:
    """Ask for the status until the run is over and its status is the true one, which it has to be 5 s after anything
    changed. Answers that were given while something changed are not judged."""
    seen, changed, end = None, time.monotonic(), time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        look = chain.look()
        if look != seen:
            seen, changed = look, time.monotonic()
        asked = time.monotonic()
        told = read_status(chain)
        if chain.look() == look:
            wrong = find_wrong(told, look, kill, chain)
            if wrong is None and look.is_over and not look.of("viewer"):
                kill.told = "not begun" if told is None else told["state"]
                return
            if wrong is not None:
                kill.slowest_s = max(kill.slowest_s, asked - changed)
            if asked - changed > STATUS_S and wrong is not None:
                kill.faults.append(f"after {asked - changed:.1f} s told as {wrong}")
                return
            if look.is_over and asked - changed > VIEWER_S:
                kill.faults.append(f"the terminal still waits after {asked - changed:.0f} s")
                return
        if look.of("trainer") and not look.of(*SUPERVISORS) and kill.hits.get("second guard") == KILL:
            kill.faults += while_it_is_alone(chain)
        time.sleep(POLL_S)
    kill.faults.append(f"still running: {chain.look().roles}")


def while_it_is_alone(chain: Chain) -> list[str]:
    """Only the trainer is still running: no other one starts, and `lorabake stop` ends it."""
    faults = list[str]()
    found = find_run(chain.root, chain.root.parent)
    for refused in (
        lambda: prepare_resume(found),
        lambda: launch_run(
            request(chain.root.with_name("y-002"), "--steps", "1", name=chain.world.name), lambda _: None
        ),
        lambda: stop_run(found, "now"),
    ):
        try:
            refused()
        except BusyError:
            continue
        except LorabakeError as error:
            if chain.look().of("trainer"):
                faults.append(f"refused for another reason: {error.message}")
            continue
        if chain.look().of("trainer"):
            faults.append("a second trainer could have been started")
    return faults


def judge_viewer(chain: Chain, kill: Kill) -> None:
    """The exit code of the terminal."""
    sent = kill.hits.get("viewer")
    assert chain.viewer is not None
    code = chain.viewer.wait()
    right = {EXIT_CODES[kill.told]} if kill.told in EXIT_CODES else set(range(1, 256)) | {-TERM, -HUP}
    if sent == KILL:
        right = {-KILL}
    elif sent is not None:  # once the run is over it only prints
        right |= {129, -HUP} if sent == HUP else {-TERM}
    if code not in right and kill.told:
        kill.faults.append(f"exit code {code}, right: {sorted(right)}")


def judge_command(chain: Chain, kill: Kill) -> None:
    """`lorabake status` itself, and that it does not contradict itself."""
    done = chain.ask("status", str(chain.root), "--json")
    if kill.told == "not begun":
        if done.returncode != 1:
            kill.faults.append(f"status of a run that was not begun: {done.returncode}, {done.stderr}")
        return
    shown = json.loads(done.stdout)["runs"][0]["state"] if done.returncode == 0 else done.stderr
    if shown != kill.told:
        kill.faults.append(f"`lorabake status`: {shown}, before: {kill.told}")


def is_whole(state: Path) -> bool:
    """Whether a state of the stand-in, or of sd-scripts, was written to its end."""
    try:
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
            with zipfile.ZipFile(state / name) as file:
                if file.testzip() is not None:
                    return False
    except (OSError, zipfile.BadZipFile):
        return False
    return (state / "model.safetensors").exists() and (state / "train_state.json").exists()


def judge_resume(chain: Chain, kill: Kill, dice: random.Random) -> None:
    """`resume` trains the rest, if there is a state, to as many steps as in one piece. Sometimes it is killed, too."""
    states = [path for path in chain.root.glob("output/*-state") if is_whole(path)]
    resumable = bool(states) or (chain.has_saved and kill.told != "failed")
    with chain.start("resume", str(chain.root)) as viewer:
        if resumable and dice.random() < 0.2:
            again = Kill(kill.number, kill.subset, before=kill.told)
            again.hits = strike(chain, choose_signals(kill.subset, dice), dice)
            watch_to_the_end(chain, again)
            kill.faults += [f"resumed, {again.signals}: {fault}" for fault in again.faults]
            kill.slowest_s = max(kill.slowest_s, again.slowest_s)
        viewer.wait()
    for _ in range(2):
        told = read_status(chain)
        if not resumable or (told is not None and told["state"] == "finished"):
            break
        with chain.start("resume", str(chain.root)) as viewer:
            viewer.wait()
    told = read_status(chain) or {}
    final = chain.root / "output" / f"{chain.world.name}.safetensors"
    kill.resumed = resumable
    if resumable and (told.get("state") != "finished" or told.get("step") != chain.world.steps or not final.exists()):
        words = (chain.root.parent / "terminal").read_text("utf-8", "replace")[-2000:]
        kill.faults.append(
            f"resumed from one of {len(states)} states: {told.get('state')}, {told.get('message')}\n{words}"
        )
    elif resumable and not chain.world.is_real and weight(final) != chain.world.steps:
        kill.faults.append(f"the LoRA has {weight(final)} steps")


def judge_files(chain: Chain, kill: Kill) -> list[str]:
    """Nothing hidden is left, but for the lock of a process that was killed before it made the run folder: the next one
    takes it.
    """
    lock = chain.root.parent / f".{chain.world.name}.lock"
    if kill.told == "not begun" and lock.exists():
        with try_lock(lock) as busy:
            if busy is not None:
                return [f"the lock of a process that has ended is held: {busy}"]
    hidden = [path.name for path in (*chain.root.parent.glob(".*"), *chain.root.rglob(".*"))]
    return [f"left lying: {hidden}"] if hidden else []


def carry_out(kill: Kill, world: World, folder: Path, dice: random.Random, share: float) -> None:
    """One run, one kill, and everything that is asked afterwards; ``share`` of the runs are resumed."""
    chain = Chain(world, folder / f"{world.name}-001")
    wanted = choose_signals(kill.subset, dice)
    chain.start("run", "recipe.toml", "--run-dir", str(chain.root))
    kill.hits = strike(chain, wanted, dice)
    watch_to_the_end(chain, kill)
    if not kill.faults:
        judge_viewer(chain, kill)
        judge_command(chain, kill)
    chain.until(lambda look: not look.of(*ROLES, "other"), STATUS_S)
    if left := chain.look().roles:
        kill.faults.append(f"left running: {left}")
    elif kill.told not in {"finished", "not begun"} and dice.random() < share:
        judge_resume(chain, kill, dice)
    kill.faults += [f"a second trainer: {pid} beside {others}" for pid, *others in chain.second_trainers()]
    kill.faults += judge_files(chain, kill)
    for pid in chain.look().of(*ROLES, "other"):
        with suppress(ProcessLookupError):
            os.kill(pid, KILL)


def format_table(kills: list[Kill]) -> str:
    lines = ["| signaled | kills | signals | told | resumed | slowest | wrong |", "|---|--:|---|---|--:|--:|--:|"]
    for subset in SUBSETS:
        these = [kill for kill in kills if kill.subset == subset]
        if not these:
            continue
        signals = Counter(number.name for kill in these for number in kill.hits.values())
        states = Counter(kill.told for kill in these)
        wrong, slowest = sum(bool(kill.faults) for kill in these), max(kill.slowest_s for kill in these)
        resumed = sum(kill.resumed for kill in these)
        counts = [", ".join(f"{name} {count}" for name, count in sorted(each.items())) for each in (signals, states)]
        lines.append(
            f"| {' + '.join(subset) if len(subset) < 6 else 'all'} | {len(these)} | {counts[0]} | {counts[1]} "
            f"| {resumed} | {slowest:.2f} s | {wrong} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--errno", default="", help="what flock fails with, such as ENOLCK")
    parser.add_argument("--real", action="store_true", help="train with the pinned sd-scripts")
    parser.add_argument("--resumed", type=float, default=1.0, help="the share of runs that are resumed afterwards")
    asked = parser.parse_args(argv)
    os.environ[without_flock.ERRNO] = asked.errno
    without_flock.patched()
    dice, kills, began = random.Random(asked.seed), list[Kill](), time.monotonic()  # noqa: S311 - the same kills again
    subsets = dice.sample(SUBSETS, len(SUBSETS))
    with tempfile.TemporaryDirectory() as name:
        if asked.real:
            from real_world import make_real_world

            world = make_real_world(Path(name) / "world")
        else:
            world = make_fake_world(Path(name) / "world")
        missed = 0
        while len(kills) < asked.kills:
            kill = Kill(len(kills), subsets[len(kills) % len(subsets)])
            with tempfile.TemporaryDirectory(dir=name) as folder:
                carry_out(kill, world, Path(folder), dice, asked.resumed)
            sys.stderr.write(f"kill {kill.number}, {kill.signals}: {kill.told}\n")
            sys.stderr.writelines(f"  WRONG: {fault}\n" for fault in kill.faults)
            if kill.hits or kill.faults:
                kills.append(kill)
            else:
                missed += 1
    wrong, slowest = sum(bool(kill.faults) for kill in kills), max(kill.slowest_s for kill in kills)
    sys.stdout.write(
        f"{format_table(kills)}\n\n{len(kills)} kills in {time.monotonic() - began:.0f} s, "
        f"{wrong} with something wrong; status right within {slowest:.2f} s; "
        f"{sum(kill.resumed for kill in kills)} resumed to the last step; {missed} more came too late\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
