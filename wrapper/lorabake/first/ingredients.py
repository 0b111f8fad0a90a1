"""What a first try needs, apart from the run itself: room, pictures, a base of random weights, a recipe, last words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lorabake import locks, resources
from lorabake.errors import MachineError, SetupError
from lorabake.files import exists, read_bytes
from lorabake.first import pictures
from lorabake.process import capture
from lorabake.trainer.requirements import script_environment
from lorabake_schemas.base import StrictModel
from lorabake_schemas.machine import Family
from lorabake_schemas.pin import Lock
from lorabake_schemas.words import Said, quoted, say

Tell = Callable[[Said], None]

STEPS = 16
RECIPE, PICTURES = "recipe.toml", "pictures"
MARK = "random-base.json"
GIB = 2**30
MAKING_S = 1800.0  # writing a base takes 17 s (SD1.5) to 40 s (SDXL) on two cores; this is for a machine in trouble
# Measured with the pinned trainer on the CPU at 64 px, fp32, Prodigy: its processes held 7.0 and 12.1 GiB at most
# (sd-scripts holds two whole UNets while it converts that of SD1.5). Disk: the base and some runs.
MEMORY: Mapping[Family, int] = {"sd15": 15 * GIB // 2, "sd2": 15 * GIB // 2, "sdxl": 14 * GIB}
DISK: Mapping[Family, int] = {"sd15": 2_000_000_000, "sd2": 2_000_000_000, "sdxl": 5_900_000_000}
MINUTES: Mapping[Family, Said] = {
    "sd15": say("a minute or two"),
    "sd2": say("a minute or two"),
    "sdxl": say("about five minutes"),
}
WAIVED = {
    "G1.2": "fifteen drawn pictures are enough to see every step of it",
    "G5.2": "a minute of training, to see that it works here",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What it takes, in bytes. ``disk_bytes`` is for the quickstart's own folder, ``trainer_bytes`` for the trainer.

    The trainer's share and the download are 0 when it is installed already.
    """

    memory_bytes: int
    disk_bytes: int
    download_bytes: int = 0
    trainer_bytes: int = 0


def needs(family: Family, lock: Lock | None = None, *, rehearsal: bool = False) -> Needs:
    """``lock`` is what still has to be installed, None for nothing. A rehearsal makes no base and loads no model."""
    if rehearsal:
        return Needs(memory_bytes=GIB // 2, disk_bytes=10_000_000)
    download, disk = (lock.download_bytes, lock.disk_bytes) if lock else (0, 0)
    return Needs(MEMORY[family], DISK[family], download, disk)


def announcement(family: Family, what: Needs, folder: Path) -> Said:
    """What will be taken, said before it is taken."""
    room = say(
        "{memory} of memory, {disk} of disk in {folder}",
        memory=_gb(what.memory_bytes),
        disk=_gb(what.disk_bytes),
        folder=folder,
    )
    if what.download_bytes:
        room = say(
            "{room}, and for the trainer a download of {download} and {disk} of disk",
            room=room,
            download=_gb(what.download_bytes),
            disk=_gb(what.trainer_bytes),
        )
    return say(
        "A real training of {steps} steps ({family}, {time} on two CPU cores) needs {room}.",
        steps=STEPS,
        family=family,
        time=MINUTES[family],
        room=room,
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 100_000_000 else f"{max(1, round(size / 1e6))} MB"


def check_room(what: Needs, folder: Path, memory: int | None, disk: int) -> None:
    """Raise MachineError when there is less than is needed.

    ``memory`` is what a new process can take now, in bytes, None where the system does not say; ``disk`` is what is
    free where ``folder`` will be. A base that is there already counts as free.
    """
    taken = sum(file.stat().st_size for file in folder.glob("base-*/**/*") if file.is_file())
    if disk + taken < what.disk_bytes:
        raise MachineError(
            say(
                "not enough disk in {folder}: the quickstart needs {needed}, {free} are free",
                folder=folder,
                needed=_gb(what.disk_bytes),
                free=_gb(disk),
            ),
            say("free some space, or name a folder on another disk with --folder"),
        )
    if memory is not None and memory < what.memory_bytes:
        raise MachineError(
            say(
                "not enough memory: the quickstart needs {needed}, {free} are free",
                needed=_gb(what.memory_bytes),
                free=_gb(memory),
            ),
            say(
                "close other programs; sd15 needs the least, and a rehearsal (lorabake run RECIPE --rehearse) next to "
                "none"
            ),
        )


def recipe_text(family: Family) -> str:
    """A recipe for somebody to read, edit and make their own."""
    subject = pictures.LIGHTHOUSE
    model = f'model  = "base-{family}"'.ljust(32)
    rules = {
        **WAIVED,
        **({"G4.61": "64 pixels are quick, even with a model made for 1024"} if family == "sdxl" else {}),
    }
    waived = "\n".join(f'[[waive]]\nrule = "{rule}"\nreason = "{reason}"\n' for rule, reason in rules.items())
    return f"""\
# Made by `lorabake quickstart`: a first training, on drawn pictures and a base model of random weights.
# It is real in every step, but what comes out can draw nothing. `lorabake plan {RECIPE}` shows every setting.

name = "{subject.token}"
kind = "object"                 # character, style, object, clothing, concept or outfits

[base]
{model}# yours: a .safetensors file, a diffusers folder or a hub id
family = "{family}"
tags   = "danbooru"             # the kind of tags it knows: e621, danbooru or natural
tokenizer_cache_dir = "base-{family}/tokenizers"   # leave it out: sd-scripts then fetches the real one

[[concept]]
token  = "{subject.token}"        # a word that the model does not know yet
class  = "{subject.class_}"           # what it is, in a word that the model knows
images = "{PICTURES}"             # pictures, and a .txt of tags beside each

[network]
network_dim = 8                 # small and quick; leave it out for the guide's value

[train]
optimizer       = "Prodigy"     # finds the learning rate by itself
resolution      = 64            # leave it out with real pictures: the guide's value for this family is taken
max_train_steps = {STEPS}            # leave it out: the guide's number of looks at each picture is taken

# Advice that is no use to a trial. Take these out with your own pictures: you will want to know.
{waived}"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder that is ready to run. ``edited`` when the recipe in it is the user's own by now."""

    recipe: Path
    edited: bool


def prepare(folder: Path, family: Family, python: Path | None, env: Mapping[str, str], tell: Tell) -> Prepared:
    """Make whatever of pictures, base and recipe is missing in ``folder``; ``python`` is the trainer's.

    Without ``python`` there will be a rehearsal, which needs no base. Safe to run twice, and to interrupt: whole
    pictures, a whole base and an edited recipe stay. Raises MachineError and SetupError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        busy = say("waiting for another quickstart in the same folder")
        with locks.held(folder / ".lock", lambda other: tell(other.waiting(busy))):
            pictures.draw(folder / PICTURES)
            if python is not None:
                make_base(folder / f"base-{family}", family, python, env, tell)
            prepared = _write_recipe(folder / RECIPE, family)
    except OSError as error:
        raise MachineError(
            say("cannot write to {folder}: {why}", folder=folder, why=error.strerror or str(error)),
            say("name another folder with --folder"),
        ) from error
    if prepared.edited:
        tell(say("{path} was edited and stays as it is", path=prepared.recipe))
    return prepared


def _write_recipe(file: Path, family: Family) -> Prepared:
    """A recipe that an earlier quickstart wrote is replaced, also one for another family; any other stays."""
    ours = {recipe_text(each).encode() for each in MEMORY}
    if exists(file) and read_bytes(file) not in ours:
        return Prepared(file, edited=True)
    aside = file.with_name(file.name + ".part")
    aside.write_text(recipe_text(family), encoding="utf-8", newline="\n")
    aside.replace(file)
    return Prepared(file, edited=False)


class _Mark(StrictModel):
    """What random_base.py writes last: its arguments, and the size in bytes of every file of a whole base."""

    random: bool
    seed: int
    family: Family
    v_prediction: bool
    zero_terminal_snr: bool
    full_size: bool
    files: dict[str, int]


def is_whole(base: Path) -> bool:
    """Whether a base of random weights is there with every file at its full size."""
    try:
        mark = _Mark.model_validate_json(read_bytes(base / MARK))
        return all((base / name).stat().st_size == size for name, size in mark.files.items())
    except (OSError, ValidationError):
        return False


def make_base(base: Path, family: Family, python: Path, env: Mapping[str, str], tell: Tell, *options: str) -> None:
    """Write a base of random weights with the trainer's ``python``, unless a whole one is there.

    ``options`` are random_base.py's own. Raises MachineError where something else has the name, SetupError when the
    script fails.
    """
    if is_whole(base):
        tell(say("using the base model in {folder}", folder=base))
        return
    if exists(base) and not exists(base / MARK):
        said = say("{path} is in the way and is not a base of ours", path=base)
        raise MachineError(said, say("move it, or name another folder"))
    for left_over in base.parent.glob(f".{base.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    size = _gb(DISK[family])
    tell(say("making a base model of random weights ({family}, {size}): half a minute or so", family=family, size=size))
    with resources.trainer_side("random_base.py") as script:
        argv = [str(python), str(script), str(base), "--family", family, *options]
        done = capture(argv, env=script_environment(env), timeout=MAKING_S)
    if not done.ok:
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), None)
        said = say("the base model could not be made: {words}", words=last or say("it said nothing"))
        raise SetupError(said, say("try again, or look at the disk"))


def farewell(
    recipe: Path, family: Family, lora: Path | None, why_rehearsed: Said | None = None, program: str = "lorabake"
) -> tuple[Said, ...]:
    """The last lines: where the LoRA is and what to do next, or that nothing was trained and what would change that.

    ``why_rehearsed`` goes on after "but": "the trainer could not be fetched". ``program`` is what a person types to
    start lorabake here.
    """
    if lora is None:
        return (
            say("The rehearsal went well, but {why}.", why=why_rehearsed or say("there is no trainer here")),
            say("Once that is mended: {command}", command=f"{program} quickstart{_flags(recipe, family)}"),
            say("This was a rehearsal: nothing was trained, and there is no LoRA."),
        )
    copy = f"{program} recipes copy object-{family}-prodigy mine.toml"
    return (
        say("The LoRA: {path}", path=lora),
        say("It was really trained, but on random weights, so it can draw nothing yet. Now with your own pictures:"),
        say("  {command}   then change model, token and images in it", command=copy),
        quoted(f"  {program} check mine.toml"),
        quoted(f"  {program} run mine.toml"),
    )


def _flags(recipe: Path, family: Family) -> str:
    """What has to be said again to get the same quickstart."""
    folder = "" if recipe.parent == Path("quickstart") else f" --folder {_quoted(recipe.parent)}"
    return folder + ("" if family == "sd15" else f" --family {family}")


def _quoted(path: Path) -> str:
    """As a shell takes it."""
    text = str(path)
    return json.dumps(text) if " " in text else text


__all__ = [
    "MARK",
    "STEPS",
    "Needs",
    "Prepared",
    "announcement",
    "check_room",
    "farewell",
    "is_whole",
    "make_base",
    "needs",
    "prepare",
    "recipe_text",
]
