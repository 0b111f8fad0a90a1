"""Writes the pages of output under docs/: what the commands really say of a shipped recipe and pictures made here.

``python docs/make_pages.py`` writes them, ``--check`` fails when one is out of date. The machine is a made-up one, so
that the pages are the same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import click
from PIL import Image

from lorabake import resources
from lorabake.examine import Examination, examine
from lorabake.explain import find, subject_of
from lorabake.planning.difference import difference
from lorabake.render.book import markdown
from lorabake.render.difference import difference_text
from lorabake.render.explain import explained
from lorabake.render.github import github
from lorabake.render.page import Page
from lorabake.render.plan import plan_page
from lorabake.render.report import concise, full
from lorabake.speech import speech_in
from lorabake_schemas.machine import Gpu, MachineFacts

DOCS = Path(__file__).resolve().parent
RECIPE, NAME = "object-sd15-prodigy", "hamburger.toml"
MACHINE = MachineFacts(
    system="Linux", cpus=16, memory_bytes=64 << 30, gpus=(Gpu(name="NVIDIA GeForce RTX 3060", memory_mib=12288),)
)
SCREEN, PIPE = Page(width=80), Page()
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
    return {
        DOCS / "check.md": check, DOCS / "plan.md": plan, DOCS / "explain.md": explain_page(),
        DOCS / "rules.md": markdown(),
    }  # fmt: skip


def examined(name: str) -> Examination:
    return examine(Path(name), MACHINE)


def make_project(folder: Path) -> None:
    """The shipped recipe as it is, with the model and the pictures that it names."""
    text = resources.recipe_text(RECIPE)
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
    """Token and class first, then what is in the picture."""
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
    """What goes wrong in real folders, a little of each."""
    pictures = folder / "datasets" / "hamburger"
    (pictures / "burger_03.txt").write_bytes(b"")
    (pictures / "burger_08.txt").unlink()
    (pictures / "burger_11.txt").write_text("food, hmbrgrlora, plate, from above", encoding="utf-8")
    (pictures / "burger_14.png").rename(pictures / "burger_14.tiff")
    (pictures / "burger_20.png").write_bytes((pictures / "burger_19.png").read_bytes())
    Image.new("RGB", (200, 180), (9, 9, 9)).save(pictures / "burger_25.png")
    with (folder / NAME).open("a", encoding="utf-8") as recipe:
        recipe.write('learning_rate = 1e-4\n\n[[waive]]\nrule = "G1.2"\nreason = "the thirtieth burger was eaten"\n')


def check_page(found: Examination) -> str:
    head = """# What `lorabake check` says

The shipped recipe `object-sd15-prodigy`, with thirty pictures in which a few things are wrong, on a terminal of 80
columns. Nothing is trained, and nothing in the folder is changed. Errors are what sd-scripts would stop at, or train
otherwise than asked without a word; warnings are what the guide advises against."""
    pipe = """In a pipe every finding is one line, to grep and to sort:"""
    ci = """In a workflow on GitHub, `--output-format github` puts every finding beside its line of the recipe:"""
    rest = """`--json` prints the same for programs, as `schemas/check.schema.json` says; `--strict` lets warnings fail,
`--deep` decodes every picture, `--lang pt_BR` says it in Portuguese:"""
    return paged(
        head,
        block(f"lorabake check {NAME}", full(found, SCREEN)),
        pipe,
        block(f"lorabake check {NAME} | head -3", "\n".join(concise(found, PIPE).splitlines()[:3])),
        ci,
        block(
            f"lorabake check {NAME} --output-format github | head -2",
            "\n".join(github(found, PIPE, Path.cwd()).splitlines()[:2]),
        ),
        rest,
        block(
            f"lorabake check {NAME} --lang pt_BR | head -3",
            "\n".join(concise(found, Page(speech_in("pt_BR"))).splitlines()[:3]),
        ),
    )


def plan_page_text(found: Examination, other: Examination) -> str:
    head = """# What `lorabake plan` says

The shipped recipe `object-sd15-prodigy` with thirty pictures, on a machine with an RTX 3060. The recipe names a model,
a token, a class, a folder and an optimizer; all else comes from the guide (`G4.70`: `lorabake explain G4.70`), from
what sd-scripts needs to do as asked (`S16`), or from the machine."""
    diff = """`--diff` holds two recipes beside each other and shows only what differs; here the same recipe with
`optimizer = "AdamW8bit"`. `--json` prints either for programs."""
    (_, one), (_, two) = found.planned(), other.planned()
    differing = difference_text(difference(one, two, (NAME, "adamw.toml")), SCREEN)
    return paged(
        head,
        block(f"lorabake plan {NAME}", plan_page(found, SCREEN)),
        diff,
        block(f"lorabake plan {NAME} --diff adamw.toml", differing),
    )


def explain_page() -> str:
    head = """# What `lorabake explain` says

Every rule of the guide and every trap of sd-scripts has an id. A finding names it, a plan names it beside the value,
and `explain` says what is behind it: what the guide says, what is true, and what lorabake makes of it. The whole book,
with a count of what is implemented, is in [rules.md](rules.md) (`lorabake explain --all`)."""
    setting = """Asked about a setting, it first shows the value that lorabake would write, and for whom:"""
    optimizer = """Asked about an optimizer, an algorithm, a kind or a family, it shows what that decides:"""
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
    return explained(topic, find(topic), subject_of(topic), SCREEN)


def block(command: str, output: str) -> str:
    return f"```console\n$ {command}\n{click.unstyle(output)}\n```"


def paged(*parts: str) -> str:
    made_by = "<!-- made by docs/make_pages.py from what the program really says: do not edit -->"
    return "\n\n".join([made_by, *parts]) + "\n"


if __name__ == "__main__":
    main()
