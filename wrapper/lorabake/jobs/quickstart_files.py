"""What a first try needs apart from the run itself: space, images, a random base model, a recipe, final messages."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lorabake.analysis.draft_concepts import Answers
from lorabake.errors import MachineError, ResourceError, SetupError
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around, make_draft
from lorabake.recipe.editor_schema import write_recipe_schema
from lorabake.recipe.writing import write_recipe
from lorabake.trainer.packages import script_environment
from lorabake.util import locks, resources
from lorabake.util.files import disk_error, exists, is_folder, read_bytes, replace_bytes
from lorabake.util.process import capture_output
from lorabake_schemas.base import StrictModel
from lorabake_schemas.families.registry import DEFAULT_FAMILY, get_family, list_family_names
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.pin import PackageLock

Tell = Callable[[Message], None]

QUICKSTART_STEPS = 16
RECIPE, IMAGES = "recipe.toml", "images"
BASE_MARKER = "random-base.json"
GIB = 2**30
BASE_TIMEOUT_S = (
    1800.0  # writing a base takes 17 s (SD1.5) to 40 s (SDXL) on two cores; this is for a machine in trouble
)
IGNORED_RULES = {
    "G1.2": "fifteen drawn images are enough to see every step of it",
    "G5.2": "a minute of training, to see that it works here",
}


@dataclass(frozen=True, slots=True)
class ResourceNeeds:
    """What it takes, in bytes. ``disk_bytes`` is for the quickstart's own folder, ``trainer_bytes`` for the trainer.

    The trainer's share and the download are 0 when it is installed already.
    """

    memory_bytes: int
    disk_bytes: int
    download_bytes: int = 0
    trainer_bytes: int = 0


def resource_needs(family: Family, lock: PackageLock | None = None, *, rehearsal: bool = False) -> ResourceNeeds:
    """``lock`` is what still has to be installed, None for nothing. A rehearsal makes no base and loads no model."""
    if rehearsal:
        return ResourceNeeds(memory_bytes=GIB // 2, disk_bytes=10_000_000)
    download, disk = (lock.download_bytes, lock.disk_bytes) if lock else (0, 0)
    needs = get_family(family).quickstart
    return ResourceNeeds(needs.memory_bytes, needs.disk_bytes, download, disk)


def start_message(family: Family, what: ResourceNeeds, folder: Path) -> Message:
    """What it will need, printed before it starts."""
    room = msg(
        "{memory} of memory and {disk} of disk space in {folder}",
        memory=_format_size(what.memory_bytes),
        disk=_format_size(what.disk_bytes),
        folder=folder,
    )
    if what.download_bytes:
        room = msg(
            "{room}, plus a download of {download} and {disk} of disk space for the trainer",
            room=room,
            download=_format_size(what.download_bytes),
            disk=_format_size(what.trainer_bytes),
        )
    return msg(
        "A real training of {steps} steps ({family}, {time} on two CPU cores) needs {room}.",
        steps=QUICKSTART_STEPS,
        family=family,
        time=get_family(family).quickstart.duration,
        room=room,
    )


def _format_size(size: int) -> Message:
    if size >= 100_000_000:
        return msg("{size:.1f} GB", size=size / 1e9)
    return msg("{size} MB", size=max(1, round(size / 1e6)))


def check_resources(what: ResourceNeeds, folder: Path, memory: int | None, disk: int) -> None:
    """Raise ResourceError if memory or disk space is too small.

    ``memory`` is what a new process can use now, in bytes, None if the system does not report it. ``disk`` is the free
    space at ``folder``. An existing base model counts as free space.
    """
    taken = sum(file.stat().st_size for file in folder.glob("base-*/**/*") if file.is_file())
    if disk + taken < what.disk_bytes:
        raise ResourceError(
            msg(
                "not enough disk space in {folder}: the quickstart needs {needed}, but only {free} is free",
                folder=folder,
                needed=_format_size(what.disk_bytes),
                free=_format_size(disk),
            ),
            msg("free some space, or choose a folder on another disk with --folder"),
        )
    if memory is not None and memory < what.memory_bytes:
        raise ResourceError(
            msg(
                "not enough memory: the quickstart needs {needed}, but only {free} is free",
                needed=_format_size(what.memory_bytes),
                free=_format_size(memory),
            ),
            msg(
                "close other programs; sd15 needs the least memory, and a rehearsal (lorabake run RECIPE "
                "--rehearse) almost none"
            ),
        )


QUICKSTART_HEAD = (
    "Made by `lorabake quickstart`: a first training, on drawn images and a base model of random weights.",
    f"Every step is real, but the finished LoRA cannot draw anything. `lorabake plan {RECIPE}` shows every setting.",
)
# In place of what init writes.
QUICKSTART_COMMENTS: dict[tuple[str | int, ...], str] = {
    ("base", "model"): "yours: a .safetensors file, a diffusers folder or a hub id",
    ("base", "tokenizer_cache_dir"): "leave it out: sd-scripts then fetches the real one",
    ("concept", 0, "images"): "images, with a .txt of tags next to each",
    ("network", "network_dim"): "small and quick; leave it out for the guide's value",
    ("train", "resolution"): "leave it out with real images to use the guide's value for this family",
    ("train", "max_train_steps"): "leave it out to use the guide's number of exposures per image",
    ("ignore", 0): "Advice that does not matter for a trial. Remove these when you use your own images.",
}


def quickstart_recipe(family: Family) -> str:
    """What init writes for the sample images and the base model of random weights, and what makes it quick."""
    base = f"base-{family}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample_images(folder / IMAGES)
        order = InitOrder(folder / IMAGES, folder / RECIPE, folder)
        draft = make_draft(order, look_around(order, ScanOptions()), Answers(model=base, family=family))
    least = get_family(family).guide.least_resolution
    small = {"G4.61": f"64 pixels are quick, even with a model made for {least}"} if least else {}
    content = draft.content | {
        "base": draft.content["base"] | {"tokenizer_cache_dir": f"{base}/tokenizers"},
        "network": {"network_dim": 8},
        "train": draft.content["train"] | {"resolution": 64, "max_train_steps": QUICKSTART_STEPS},
        "ignore": [{"rule": rule, "reason": reason} for rule, reason in (IGNORED_RULES | small).items()],
    }
    return write_recipe(content, QUICKSTART_HEAD, {**draft.comments, **QUICKSTART_COMMENTS})


@dataclass(frozen=True, slots=True)
class QuickstartFiles:
    """A folder that is ready to run. ``edited``: the user has changed the recipe in it."""

    recipe: Path
    edited: bool


def write_quickstart_files(
    folder: Path, family: Family, python: Path | None, env: Mapping[str, str], tell: Tell
) -> QuickstartFiles:
    """Make the images, base model and recipe that are missing in ``folder``; ``python`` is the trainer's.

    Without ``python`` there will be a rehearsal, which needs no base model. Safe to run twice, and to interrupt: intact
    images, an intact base model and an edited recipe stay. Raises MachineError and SetupError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        busy = msg("waiting for another quickstart in the same folder")
        with locks.hold_lock(folder / ".lock", lambda other: tell(other.describe_wait(busy))):
            write_sample_images(folder / IMAGES)
            if python is not None:
                make_base(folder / f"base-{family}", family, python, env, tell)
            prepared = _write_recipe(folder / RECIPE, family)
            write_recipe_schema(folder)
    except OSError as error:
        raise disk_error(
            error,
            msg("cannot write to {folder}: {why}", folder=folder, why=error.strerror or str(error)),
            msg("choose another folder with --folder"),
        ) from error
    if prepared.edited:
        tell(msg("{path} was edited, so it is left unchanged", path=prepared.recipe))
    return prepared


def check_folder(folder: Path) -> None:
    """Raise MachineError for a folder with files that no quickstart made: its own would get between them."""
    images = folder / IMAGES
    if not is_folder(folder) or any(exists(images / name) for name in resources.read_sample_images()):
        return
    empty = is_folder(images) and not any(images.iterdir())
    if foreign := {entry.name for entry in folder.iterdir()} - {".lock", IMAGES if empty else ".lock"}:
        said = msg(
            "{folder} is not empty ({names}) and was not made by a quickstart",
            folder=folder,
            names=shorten_list(sorted(foreign), 3, literal),
        )
        raise MachineError(said, msg("choose a new or empty folder with --folder; nothing was written"))


def write_sample_images(folder: Path) -> None:
    """Copy the shipped images and captions. A file that exists stays: its caption may have been edited."""
    folder.mkdir(exist_ok=True)
    for name, content in resources.read_sample_images().items():
        if not exists(folder / name):
            replace_bytes(folder / name, content)


def _write_recipe(file: Path, family: Family) -> QuickstartFiles:
    """A recipe that an earlier quickstart wrote is replaced, also one for another family; any other stays."""
    wanted = quickstart_recipe(family).encode()
    before = read_bytes(file) if exists(file) else wanted
    others = (quickstart_recipe(each).encode() for each in list_family_names() if each != family)
    if before != wanted and before not in others:
        return QuickstartFiles(file, edited=True)
    replace_bytes(file, wanted)
    return QuickstartFiles(file, edited=False)


class _BaseMarker(StrictModel):
    """What random_base.py writes last: its arguments, and the size in bytes of every file of a complete base model."""

    random: bool
    seed: int
    family: Family
    v_prediction: bool
    zero_terminal_snr: bool
    full_size: bool
    files: dict[str, int]


def is_complete_base(base: Path) -> bool:
    """Whether a base model of random weights exists with every file at its full size."""
    try:
        mark = _BaseMarker.model_validate_json(read_bytes(base / BASE_MARKER))
        return all((base / name).stat().st_size == size for name, size in mark.files.items())
    except (OSError, ValidationError):
        return False


def make_base(base: Path, family: Family, python: Path, env: Mapping[str, str], tell: Tell, *options: str) -> None:
    """Write a base model of random weights with the trainer's ``python``, unless a complete one exists.

    ``options`` are random_base.py's own. Raises MachineError if something else has the name, SetupError if the script
    fails.
    """
    if is_complete_base(base):
        tell(msg("using the base model in {folder}", folder=base))
        return
    if exists(base) and not exists(base / BASE_MARKER):
        said = msg("{path} already exists and was not created by lorabake", path=base)
        raise MachineError(said, msg("move it, or choose another folder"))
    for left_over in base.parent.glob(f".{base.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    size = _format_size(get_family(family).quickstart.disk_bytes)
    tell(
        msg(
            "creating a base model with random weights ({family}, {size}), which takes about half a minute",
            family=family,
            size=size,
        )
    )
    with resources.trainer_script("random_base.py") as script:
        argv = [str(python), str(script), str(base), "--family", family, *options]
        done = capture_output(argv, env=script_environment(env), timeout=BASE_TIMEOUT_S)
    if not done.ok:
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), None)
        said = msg("the base model could not be created: {words}", words=last or msg("no error message"))
        raise SetupError(said, msg("try again, or check the disk"))


def final_message(
    recipe: Path, family: Family, lora: Path | None, why_rehearsed: Message | None = None, program: str = "lorabake"
) -> tuple[Message, ...]:
    """The last lines: where the LoRA is and what to do next, or that nothing was trained and what would change that.

    ``why_rehearsed`` is the text after "but": "the trainer could not be fetched". ``program`` is the command that
    starts lorabake here.
    """
    if lora is None:
        command = f"{program} quickstart{_quickstart_flags(recipe, family)}"
        return (
            msg("The rehearsal succeeded, but {why}.", why=why_rehearsed or msg("the trainer is not installed")),
            msg("Once that is fixed, run: {command}", command=command),
            msg("This was a rehearsal. Nothing was trained, and no LoRA was created."),
        )
    command = f"{program} init IMAGES -o mine.toml"
    return (
        msg("LoRA: {path}", path=lora),
        msg(
            "The training was real, but the base model has random weights, so the LoRA cannot draw "
            "anything yet. Now train with your own images:"
        ),
        msg("  {command}   writes a recipe for the folder IMAGES, and checks it", command=command),
        literal(f"  {program} run mine.toml"),
    )


def _quickstart_flags(recipe: Path, family: Family) -> str:
    """The options that repeat the same quickstart."""
    folder = "" if recipe.parent == Path("quickstart") else f" --folder {_quote_path(recipe.parent)}"
    return folder + ("" if family == DEFAULT_FAMILY else f" --family {family}")


def _quote_path(path: Path) -> str:
    """As a shell takes it."""
    text = str(path)
    return json.dumps(text) if " " in text else text
