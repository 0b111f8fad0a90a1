"""What is otherwise in a trainer, and on a machine, than when a run began. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import TrainerRecord
from lorabake_schemas.verification import Change, Difference
from lorabake_schemas.words import Said, joined, quoted, say, told

SHOWN = 12  # of a commit
NAMED = 5  # edited files that are named in one message


def trainer_drift(
    then: TrainerRecord, now: TrainerRecord | None, edited: Sequence[str] = (), patched: Sequence[str] = ()
) -> tuple[Difference, ...]:
    """Every difference; ``now`` is None when the trainer is not there any more, ``edited`` are the files of its
    checkout that are not as in its commit, ``patched`` those of its packages that are not as they were installed. A
    rehearsal's stand-in is lorabake itself: none."""
    if then.kind == "rehearsal":
        return ()
    if now is None:
        return (_found("sd-scripts", "gone", _not_there(then), then.commit, None),)
    return (*_checkout(then, now, edited), *_python(then, now), *_packages(then, now), *_patched(patched))


def _found(name: str, change: Change, message: Said, was: str | None, now: str | None) -> Difference:
    return Difference(what="trainer", name=name, change=change, message=message, was=was, now=now)


def _not_there(then: TrainerRecord) -> Said:
    """The pin's can be installed again, the user's own has to be found."""
    if then.kind == "own":
        return say("the sd-scripts of this run is not at {folder} any more", folder=then.checkout or "")
    commit = (then.commit or "")[:SHOWN]
    return say("the trainer of this run is not installed any more (sd-scripts {commit})", commit=commit)


def _checkout(then: TrainerRecord, now: TrainerRecord, edited: Sequence[str]) -> Iterator[Difference]:
    if now.commit is None and then.tree is not None and then.tree == now.tree:
        return  # git has nothing to say, and every file is the same
    if then.commit != now.commit:
        was, here = _commit(then), _commit(now)
        message = say("sd-scripts is at commit {now} now, the run had {was}", now=here, was=was)
        yield _found("sd-scripts", "changed", message, then.commit, now.commit)
    elif then.tree is not None and now.tree != then.tree:
        yield _found("sd-scripts", "changed", _edited(edited, was_clean=then.clean is True), then.tree, now.tree)


def _commit(trainer: TrainerRecord) -> Said:
    return quoted(trainer.commit[:SHOWN]) if trainer.commit else say("an unknown one")


def _edited(names: Sequence[str], *, was_clean: bool) -> Said:
    if not names:
        return say("files of sd-scripts changed after the run")
    shown = joined(map(quoted, names[:NAMED]))
    if len(names) > NAMED:
        shown = told(len(names) - NAMED, "{some} and {n} more", "{some} and {n} more", some=shown)
    if was_clean:
        return say("files of sd-scripts were edited after the run: {files}", files=shown)
    return say("files of sd-scripts changed after the run; those not as in its commit: {files}", files=shown)


def _python(then: TrainerRecord, now: TrainerRecord) -> Iterator[Difference]:
    """By its minor version: a patch of Python trains the same."""
    was, here = then.python_version, now.python_version
    if was is None or was == here:
        return
    if not here:
        message = say("the trainer's Python does not start any more: {python}", python=now.python)
        yield _found("python", "gone", message, was, None)
    elif was.split(".")[:2] != here.split(".")[:2]:
        message = say("Python {was} is now {now} in the trainer", was=was, now=here)
        yield _found("python", "changed", message, was, here)


def _packages(then: TrainerRecord, now: TrainerRecord) -> Iterator[Difference]:
    if not then.packages or now.python_version == "":
        return
    for name in sorted({*then.packages, *now.packages}):
        was, here = then.packages.get(name), now.packages.get(name)
        if was == here:
            continue
        if here is None:
            message = say("{package} {was} is not in the trainer any more", package=name, was=was or "")
            yield _found(name, "gone", message, was, None)
        elif was is None:
            message = say("{package} {now} was added to the trainer", package=name, now=here)
            yield _found(name, "added", message, None, here)
        else:
            message = say("{package} {was} is now {now} in the trainer", package=name, was=was, now=here)
            yield _found(name, "changed", message, was, here)


def _patched(names: Sequence[str]) -> Iterator[Difference]:
    if names:
        shown = joined(map(quoted, names[:NAMED]))
        if len(names) > NAMED:
            shown = told(len(names) - NAMED, "{some} and {n} more", "{some} and {n} more", some=shown)
        message = say("files of the trainer's packages changed since it was installed: {files}", files=shown)
        yield _found("packages", "changed", message, None, None)


def trainer_remarks(then: TrainerRecord, now: TrainerRecord | None) -> tuple[Said, ...]:
    """What changes nothing about the result and is worth knowing."""
    found: list[Said] = []
    if now is None or then.kind == "rehearsal":
        return ()
    was, here = then.python_version, now.python_version
    if was and here and was != here and was.split(".")[:2] == here.split(".")[:2]:
        found.append(say("Python {was} is now {now} in the trainer, which trains the same", was=was, now=here))
    if then.checkout != now.checkout:
        found.append(say("the trainer lies in {folder} now", folder=now.checkout or ""))
    return tuple(found)


def machine_remarks(then: MachineFacts, now: MachineFacts) -> tuple[Said, ...]:
    """What this machine has otherwise than the one that trained: it changes no file, but may change the last digits of
    a training done again."""
    pairs = (
        (say("system"), f"{then.system} {then.release}".strip(), f"{now.system} {now.release}".strip(), then.release),
        (say("CPU"), then.processor or then.architecture, now.processor or now.architecture, then.architecture),
        (say("GPU"), _gpus(then), _gpus(now), "known"),
        (say("driver"), _drivers(then), _drivers(now), _drivers(then)),
    )
    return tuple(
        say("this machine: {what} {now}; the run had {was}", what=what, now=here or say("none"), was=was or say("none"))
        for what, was, here, known in pairs
        if known and was != here
    )


def variable_remarks(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[Said, ...]:
    """Environment variables by which numbers are added up or rounded in another way."""
    return tuple(
        say(
            "{name} is {now} here; the run had {was}",
            name=name,
            now=quoted(now[name]) if name in now else say("not set"),
            was=quoted(then[name]) if name in then else say("none"),
        )
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )


def _gpus(machine: MachineFacts) -> str:
    return ", ".join(gpu.name for gpu in machine.gpus)


def _drivers(machine: MachineFacts) -> str:
    return ", ".join(dict.fromkeys(gpu.driver for gpu in machine.gpus if gpu.driver))


__all__ = ["machine_remarks", "trainer_drift", "trainer_remarks", "variable_remarks"]
