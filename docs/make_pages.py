"""Writes the pages of output under docs/, from the real output of the commands on a shipped recipe and test images.

``python docs/make_pages.py`` writes them; ``--check`` fails when one is out of date. The machine is made up, so the
pages are the same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from make_bring import bring_pages
from make_options import options_page
from make_picture import draw_run
from make_recipe import recipe_page
from PIL import Image

from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.diff import DiffOperand, diff_plans, diff_runs
from lorabake.analysis.explain import explain
from lorabake.analysis.verify import verify_run
from lorabake.analysis.verify_trainer import changed_trainer
from lorabake.commands.output.diff import format_plan_diff
from lorabake.commands.output.explain import format_book, format_explanation
from lorabake.commands.output.findings import format_concise, format_full, format_github
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.plan import format_plan_page
from lorabake.commands.output.verify import format_verification
from lorabake.inputs.manifest import hash_inputs
from lorabake.jobs import start_record
from lorabake.runs.command import planned_argv, trainer_env
from lorabake.runs.folder import RunPaths, create_run_folder
from lorabake.runs.index import FoundRun
from lorabake.runs.launch_request import LaunchRequest, build_initial_files, new_record
from lorabake.runs.record import write_record
from lorabake.trainer.environment import CurrentTrainer
from lorabake.util import resources
from lorabake.util.hashing import FileHasher, digest_bytes
from lorabake.util.i18n import load_translator
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import msg
from lorabake_schemas.record import Input, Outcome, OutputFile, TrainerRecord
from lorabake_schemas.verification import ComparedCounts

DOCS = Path(__file__).resolve().parent
RECIPE, NAME = "object-sd15-prodigy", "hamburger.toml"
MACHINE = MachineFacts(
    system="Linux", cpus=16, memory_bytes=64 << 30, gpus=(Gpu(name="NVIDIA GeForce RTX 3060", memory_mib=12288),)
)
SCREEN, PIPE = TextLayout(width=80), TextLayout()
SIZES = ((768, 768), (896, 704), (704, 896), (832, 832), (960, 640), (768, 1024))
PLACES = ("plate", "wooden table", "picnic blanket", "tray", "counter")
LIGHTS = ("daylight", "inside", "evening", "bright light", "window")
SIDES = ("lettuce, tomato", "cheese, pickles", "fries, drink", "onion rings", "sesame bun, sauce")
VIEWS = ("close-up", "high-angle view", "side view", "three-quarter view")


def main() -> None:
    """Write, or with --check compare."""
    made = pages()
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)} (make docs)" if stale else 0)
    for path in stale:
        path.write_text(made[path], encoding="utf-8", newline="\n")
        sys.stdout.write(f"wrote {path.name}\n")


def pages() -> dict[Path, str]:
    """Every page by its path."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        here = Path(folder)
        make_project(here)
        spoil(here)
        check = check_page(examined(NAME))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_project(Path(folder))
        plan = plan_page_text(examined(NAME), examined("adamw.toml"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_project(Path(folder))
        runs = runs_page(Path(folder))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_project(Path(folder))
        run, _ = made_run(NAME, Path(folder) / "runs" / "hmbrgrlora-001")
        images = Path("datasets/hamburger")
        (images / "burger_20.png").write_bytes((images / "burger_19.png").read_bytes())
        (images / "burger_11.txt").write_text("food, hmbrgrlora, plate, from above", encoding="utf-8")
        picture = draw_run(examined(NAME), run.record, Path("runs/hmbrgrlora-001"), NAME)
    return {
        DOCS / "run.svg": picture,
        DOCS / "runs.md": runs, DOCS / "check.md": check, DOCS / "plan.md": plan, DOCS / "explain.md": explain_page(),
        DOCS / "rules.md": format_book(), DOCS / "recipe.md": paged(recipe_page()),
        DOCS / "options.md": paged(options_page()), **bring_pages(),
    }  # fmt: skip


def examined(name: str) -> CheckResult:
    return check_recipe(Path(name), MACHINE)


def make_project(folder: Path) -> None:
    """The unchanged shipped recipe, with the model and the images that it names."""
    text = resources.read_recipe_text(RECIPE)
    (folder / NAME).write_text(text, encoding="utf-8")
    (folder / "adamw.toml").write_text(text.replace('"Prodigy"', '"AdamW8bit"'), encoding="utf-8")
    write_model(folder / "models" / "fluffyrock.safetensors")
    pictures = folder / "datasets" / "hamburger"
    pictures.mkdir(parents=True)
    for number in range(30):
        colour = (40 + 7 * number, 200 - 5 * number, 60 + 3 * number)
        Image.new("RGB", SIZES[number % len(SIZES)], colour).save(pictures / f"burger_{number:02}.png")
        (pictures / f"burger_{number:02}.txt").write_text(caption(number), encoding="utf-8")


def caption(number: int) -> str:
    """Token and class first, then what is in the image."""
    words = [PLACES[number % 5], LIGHTS[number // 2 % 5], SIDES[number // 3 % 5], VIEWS[number % 4]]
    extra = ["napkin", "glass"] if number % 3 else ["hand", "holding food"]
    return ", ".join(["hmbrgrlora", "food", *words, *extra])


def write_model(path: Path) -> None:
    """The header of an SD1.5 checkpoint over two tiny tensors: only headers are read."""
    layer = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    shapes = {"cond_stage_model.transformer.a": [1], layer: [1, 768]}
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[-1]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    told = json.dumps(header).encode()
    path.parent.mkdir(parents=True)
    path.write_bytes(len(told).to_bytes(8, "little") + told + bytes(end))


def spoil(folder: Path) -> None:
    """Typical faults of real folders."""
    pictures = folder / "datasets" / "hamburger"
    (pictures / "burger_03.txt").write_bytes(b"")
    (pictures / "burger_08.txt").unlink()
    (pictures / "burger_11.txt").write_text("food, hmbrgrlora, plate, from above", encoding="utf-8")
    (pictures / "burger_14.png").rename(pictures / "burger_14.tiff")
    (pictures / "burger_20.png").write_bytes((pictures / "burger_19.png").read_bytes())
    Image.new("RGB", (200, 180), (9, 9, 9)).save(pictures / "burger_25.png")
    with (folder / NAME).open("a", encoding="utf-8") as recipe:
        recipe.write('learning_rate = 1e-4\n\n[[ignore]]\nrule = "G1.2"\nreason = "the thirtieth burger was eaten"\n')


def check_page(found: CheckResult) -> str:
    head = """# The output of `lorabake check`

The shipped recipe `object-sd15-prodigy` with thirty images, in which a few things are wrong, on a terminal of 80
columns. `check` does not train and does not change the folder. Errors are what would stop sd-scripts, or make it
silently train something else. Warnings are what the guide advises against."""
    pipe = """In a pipe every finding is one line, for grep and sort:"""
    ci = """In a workflow on GitHub, `--output-format github` shows every finding at its line of the recipe:"""
    rest = """`--json` prints the same for programs, in the format of `schemas/check.schema.json`. `--strict` makes
warnings fail, `--deep` decodes every image, and `--lang pt_BR` prints Portuguese:"""
    return paged(
        head,
        block(f"lorabake check {NAME}", format_full(found, SCREEN)),
        pipe,
        block(f"lorabake check {NAME} | head -3", "\n".join(format_concise(found, PIPE).splitlines()[:3])),
        ci,
        block(
            f"lorabake check {NAME} --output-format github | head -2",
            "\n".join(format_github(found, PIPE, Path.cwd()).splitlines()[:2]),
        ),
        rest,
        block(
            f"lorabake check {NAME} --lang pt_BR | head -3",
            "\n".join(format_concise(found, TextLayout(load_translator("pt_BR"))).splitlines()[:3]),
        ),
    )


def plan_page_text(found: CheckResult, other: CheckResult) -> str:
    head = """# The output of `lorabake plan`

The shipped recipe `object-sd15-prodigy` with thirty images, on a machine with an RTX 3060. The recipe sets a model, a
token, a class, a folder and an optimizer. Everything else comes from the guide (`G4.70`: `lorabake explain G4.70`),
from what sd-scripts requires (`S16`), or from the machine."""
    diff = """`--diff` compares two recipes and shows only what differs; here the same recipe with
`optimizer = "AdamW8bit"`. `--json` prints both outputs for programs."""
    (_, one), (_, two) = found.planned(), other.planned()
    differing = format_plan_diff(diff_plans(one, two, (NAME, "adamw.toml")), SCREEN)
    return paged(
        head,
        block(f"lorabake plan {NAME}", format_plan_page(found, SCREEN)),
        diff,
        block(f"lorabake plan {NAME} --diff adamw.toml", differing),
    )


def made_run(recipe: str, root: Path, **otherwise: object) -> tuple[FoundRun, tuple[Input, ...]]:
    """A run folder like that of a training, without the training."""
    examination = examined(recipe)
    here = hash_inputs(start_record.manifest_spec(examination, root, {}, weights=True), FileHasher(None))
    here = here.model_copy(update={"inputs": tuple(each for each in here.inputs if each.role != "tokenizer")})
    request = as_trained(start_record.rehearsal_request(examination, root, here, {}))
    create_run_folder(RunPaths(root), build_initial_files(request))
    lora = digest_bytes(recipe.encode(), "output/hmbrgrlora.safetensors")
    (root / lora.name).write_text(recipe, encoding="utf-8")
    steps = examination.planned()[1].forecast.steps
    outcome = Outcome(code="trained", message=msg("trained"), steps=steps, outputs=(OutputFile(**lora.model_dump()),))
    ended: dict[str, object] = {"rehearsal": False, "status": "finished", "outcome": outcome}
    record = new_record(request).model_copy(update=ended)
    write_record(RunPaths(root), record)
    name = root.relative_to(Path.cwd()).as_posix()
    return FoundRun(RunPaths(root), record.model_copy(update=otherwise), name), here.inputs


def as_trained(request: LaunchRequest) -> LaunchRequest:
    """A rehearsal's request with the command of a training."""
    digest = request.provenance.digest
    python, checkout, launch = Path(request.trainer.python), Path(), request.plan.launch
    env = trainer_env({}, python=python, checkout=checkout, launch=launch)
    return replace(request, argv=planned_argv(request.plan, digest, python, checkout), env=env)


def spoil_run(folder: Path, root: Path) -> None:
    """Typical changes to a project after a run."""
    pictures, recipe = folder / "datasets" / "hamburger", root / "recipe.toml"
    model = folder / "models" / "fluffyrock.safetensors"
    (pictures / "burger_12.txt").write_text("hmbrgrlora, food, another caption", encoding="utf-8")
    (pictures / "burger_03.png").unlink()
    (pictures / "burger_03.txt").unlink()
    Image.new("RGB", (768, 768), (1, 2, 3)).save(pictures / "burger_30.png")
    (pictures / "burger_30.txt").write_text(caption(30), encoding="utf-8")
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace('"Prodigy"', '"AdamW8bit"'), encoding="utf-8")
    model.write_bytes(model.read_bytes()[:-1] + b"2")  # a different number in its last tensor


def runs_page(folder: Path) -> str:
    head = """# The output of `lorabake verify` and `lorabake diff`

Every run folder records the SHA-256 of everything that the run used and produced: recipe, compiled files, each image
and caption, the models, every file of sd-scripts and the LoRA. It also records the version of every package. `verify`
hashes all of it again and lists what has changed. It changes nothing, and ignores extra files next to the LoRA or in
the dataset that the training does not read. It exits with 0 if everything is identical, and with 1 if not."""
    root = folder / "runs" / "hmbrgrlora-001"
    run, before = made_run(NAME, root)
    spoil_run(folder, root)
    found = verify_run(run, {}, FileHasher(None), MACHINE)
    then = TrainerRecord(kind="pin", python="python", packages={"accelerate": "1.6.0"})
    bumped = then.model_copy(update={"packages": {"accelerate": "1.6.1"}})
    told: dict[str, object] = {
        "differences": (*found.differences, *changed_trainer(then, CurrentTrainer(bumped))),
        "compared": ComparedCounts(files=69, size=2_148_000_000, packages=61),
    }
    between = """RUN is a run folder, its `record.json`, or the name of a run under `./runs` or next to a recipe. A file
whose size and modification time (in nanoseconds) have not changed is not read again; `--no-cache` reads every byte.
`--json` prints the same for programs, in the format of `schemas/verify.schema.json`, with both digests of each file.
`resume` and `rerun` check data, models and trainer first, and refuse with this list.

`diff` compares two runs, two recipes, or one of each, and shows only what differs:"""
    gpu = Gpu(name="NVIDIA GeForce RTX 4090", memory_mib=24564)
    later = made_run(
        "adamw.toml", root.with_name("hmbrgrlora-002"), machine=MACHINE.model_copy(update={"gpus": (gpu,)})
    )
    sides = [
        DiffOperand(each.name, examined(recipe).planned()[1], listed, each.record.model_copy(update=took))
        for (each, listed), recipe, took in (
            ((run, before), NAME, {"started": "2026-01-31T09:00:00Z", "ended": "2026-01-31T09:21:00Z"}),
            (later, "adamw.toml", {"started": "2026-01-31T10:00:00Z", "ended": "2026-01-31T10:10:40Z"}),
        )
    ]
    rest = """Equal digests mean that settings, data, models, trainer and launch were the same, even with other
paths or on another machine. Only the results can then differ; [The same run again](repeating.md) explains why.
`--json` prints it for programs, in the format of `schemas/diff.schema.json`. The exit code is 0 if the two could be
compared."""
    return paged(
        head,
        block("lorabake verify hmbrgrlora-001", format_verification(found.model_copy(update=told), SCREEN)),
        between,
        block("lorabake diff hmbrgrlora-001 hmbrgrlora-002", format_plan_diff(diff_runs(*sides), SCREEN)),
        rest,
    )


def explain_page() -> str:
    head = """# The output of `lorabake explain`

Every rule of the guide and every trap of sd-scripts has an id. A finding shows it, and a plan shows it next to the
value. `explain` shows what the guide recommends, what sd-scripts really does, and what lorabake makes of it. The
complete book, with a count of what is implemented, is in [rules.md](rules.md) (`lorabake explain --all`)."""
    setting = """For a setting, it first shows the value that lorabake would write in each case:"""
    optimizer = """For an optimizer, an algorithm, a kind or a family, it shows what that decides:"""
    return paged(
        head,
        *(block(f"lorabake explain {topic}", said(topic)) for topic in ("G4.90", "S16")),
        setting,
        block("lorabake explain network_dim", said("network_dim")),
        optimizer,
        block("lorabake explain AdamW8bit", said("AdamW8bit")),
        block("lorabake explain style", said("style")),
    )


def said(topic: str) -> str:
    return format_explanation(explain(topic), SCREEN)


def block(command: str, output: str) -> str:
    return f"```console\n$ {command}\n{click.unstyle(output)}\n```"


def paged(*parts: str) -> str:
    made_by = "<!-- made by docs/make_pages.py from the real output of lorabake: do not edit -->"
    return "\n\n".join([made_by, *parts]) + "\n"


if __name__ == "__main__":
    main()
