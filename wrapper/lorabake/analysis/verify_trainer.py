"""What is otherwise in a trainer, and on a machine, than when a run began. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.record import TrainerRecord
from lorabake_schemas.verification import FileChange, VerifyDifference

DIGITS_SHOWN = 12  # of a commit
FILES_SHOWN = 5  # edited files that are named in one message


def changed_trainer(
    then: TrainerRecord, now: TrainerRecord | None, edited: Sequence[str] = (), patched: Sequence[str] = ()
) -> tuple[VerifyDifference, ...]:
    """Every difference; ``now`` is None when the trainer is not there any more, ``edited`` are the files of its
    checkout that are not as in its commit, ``patched`` those of its packages that are not as they were installed. A
    rehearsal's stand-in is lorabake itself: none."""
    if then.kind == "rehearsal":
        return ()
    if now is None:
        return (_make_difference("sd-scripts", "gone", _missing_trainer_message(then), then.commit, None),)
    return (
        *_diff_checkout(then, now, edited),
        *_diff_python(then, now),
        *_diff_packages(then, now),
        *_diff_package_files(patched),
    )


def _make_difference(
    name: str, change: FileChange, message: Message, was: str | None, now: str | None
) -> VerifyDifference:
    return VerifyDifference(what="trainer", name=name, change=change, message=message, was=was, now=now)


def _missing_trainer_message(then: TrainerRecord) -> Message:
    """The pin's can be installed again, the user's own has to be found."""
    if then.kind == "own":
        return msg("the sd-scripts of this run was not found in {folder}", folder=then.checkout or "")
    commit = (then.commit or "")[:DIGITS_SHOWN]
    return msg("the trainer of this run is not installed (sd-scripts {commit})", commit=commit)


def _diff_checkout(then: TrainerRecord, now: TrainerRecord, edited: Sequence[str]) -> Iterator[VerifyDifference]:
    if now.commit is None and then.tree is not None and then.tree == now.tree:
        return  # git has nothing to say, and every file is the same
    if then.commit != now.commit:
        was, here = _format_commit(then), _format_commit(now)
        message = msg("sd-scripts is now at {now}, but the run used {was}", now=here, was=was)
        yield _make_difference("sd-scripts", "changed", message, then.commit, now.commit)
    elif then.tree is not None and now.tree != then.tree:
        yield _make_difference(
            "sd-scripts", "changed", _edited_files_message(edited, was_clean=then.clean is True), then.tree, now.tree
        )


def _format_commit(trainer: TrainerRecord) -> Message:
    return literal(trainer.commit[:DIGITS_SHOWN]) if trainer.commit else msg("an unknown commit")


def _edited_files_message(names: Sequence[str], *, was_clean: bool) -> Message:
    if not names:
        return msg("sd-scripts files changed after the run")
    shown = join_list(map(literal, names[:FILES_SHOWN]))
    if len(names) > FILES_SHOWN:
        shown = msg("{some} and {n} more", n=len(names) - FILES_SHOWN, some=shown)
    if was_clean:
        return msg("sd-scripts files were edited after the run: {files}", files=shown)
    return msg("sd-scripts files changed after the run; files that differ from its commit: {files}", files=shown)


def _diff_python(then: TrainerRecord, now: TrainerRecord) -> Iterator[VerifyDifference]:
    """By its minor version: a patch of Python trains the same."""
    was, here = then.python_version, now.python_version
    if was is None or was == here:
        return
    if not here:
        message = msg("the trainer's Python does not start: {python}", python=now.python)
        yield _make_difference("python", "gone", message, was, None)
    elif was.split(".")[:2] != here.split(".")[:2]:
        message = msg("the trainer's Python changed from {was} to {now}", was=was, now=here)
        yield _make_difference("python", "changed", message, was, here)


def _diff_packages(then: TrainerRecord, now: TrainerRecord) -> Iterator[VerifyDifference]:
    if not then.packages or now.python_version == "":
        return
    for name in sorted({*then.packages, *now.packages}):
        was, here = then.packages.get(name), now.packages.get(name)
        if was == here:
            continue
        if here is None:
            message = msg("{package} {was} was removed from the trainer", package=name, was=was or "")
            yield _make_difference(name, "gone", message, was, None)
        elif was is None:
            message = msg("{package} {now} was added to the trainer", package=name, now=here)
            yield _make_difference(name, "added", message, None, here)
        else:
            message = msg("{package} in the trainer changed from {was} to {now}", package=name, was=was, now=here)
            yield _make_difference(name, "changed", message, was, here)


def _diff_package_files(names: Sequence[str]) -> Iterator[VerifyDifference]:
    if names:
        shown = join_list(map(literal, names[:FILES_SHOWN]))
        if len(names) > FILES_SHOWN:
            shown = msg("{some} and {n} more", n=len(names) - FILES_SHOWN, some=shown)
        message = msg("files of the trainer's packages changed after it was installed: {files}", files=shown)
        yield _make_difference("packages", "changed", message, None, None)


def trainer_remarks(then: TrainerRecord, now: TrainerRecord | None) -> tuple[Message, ...]:
    """What changes nothing about the result and is worth knowing."""
    found: list[Message] = []
    if now is None or then.kind == "rehearsal":
        return ()
    was, here = then.python_version, now.python_version
    if was and here and was != here and was.split(".")[:2] == here.split(".")[:2]:
        found.append(
            msg("the trainer's Python changed from {was} to {now}, which does not affect training", was=was, now=here)
        )
    if then.checkout != now.checkout:
        found.append(msg("the trainer is now in {folder}", folder=now.checkout or ""))
    return tuple(found)


def machine_remarks(then: MachineFacts, now: MachineFacts) -> tuple[Message, ...]:
    """What this machine has otherwise than the one that trained: it changes no file, but may change the last digits of
    a training done again."""
    pairs = (
        (msg("system"), f"{then.system} {then.release}".strip(), f"{now.system} {now.release}".strip(), then.release),
        (msg("CPU"), then.processor or then.architecture, now.processor or now.architecture, then.architecture),
        (msg("GPU"), _gpu_names(then), _gpu_names(now), "known"),
        (msg("driver"), _driver_versions(then), _driver_versions(now), _driver_versions(then)),
    )
    return tuple(
        msg(
            "{what}: {now} on this machine, {was} in the run",
            what=what,
            now=here or msg("none"),
            was=was or msg("none"),
        )
        for what, was, here, known in pairs
        if known and was != here
    )


def variable_remarks(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[Message, ...]:
    """Environment variables by which numbers are added up or rounded in another way."""
    return tuple(
        msg(
            "{name}: {now} on this machine, {was} in the run",
            name=name,
            now=literal(now[name]) if name in now else msg("not set"),
            was=literal(then[name]) if name in then else msg("none"),
        )
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )


def _gpu_names(machine: MachineFacts) -> str:
    return ", ".join(gpu.name for gpu in machine.gpus)


def _driver_versions(machine: MachineFacts) -> str:
    return ", ".join(dict.fromkeys(gpu.driver for gpu in machine.gpus if gpu.driver))
