"""A clean little training set, and ways to spoil it, each with one fault that a dataset can have.

Every picture is drawn by number alone, so that the same code gives the same set; no two of them look alike.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 32
SIZES = ((768, 768), (640, 896), (896, 640), (832, 704), (704, 832))
ANGLES = ("from side", "from below", "close-up", "wide shot", "from above", "portrait", "profile", "low angle")
PLACES = (("beach", "ocean"), ("cliff", "grass"), ("harbor", "pier"), ("snow", "mountain"), ("street", "building"))
LIGHTS = ("sunset", "night", "overcast", "sunlight", "fog", "rain", "moonlight")
THINGS = ("bird", "bench", "fence", "tree", "flag", "bicycle", "lamp", "stairs", "path", "rock", "flower")
RECIPE = """\
name = "lumtower"
kind = "object"

[base]
model = "base.safetensors"
family = "sd15"
tags = "{tags}"
native_resolution = 768

[[concept]]
token = "lumtower"
class = "lighthouse"
images = "{images}"
{concept}
{more}
"""


@dataclass(frozen=True)
class Fault:
    """One way to spoil the clean set in a project folder.

    ``rule`` is the id that has to be found, ``says`` words of its message; ``also`` ids that come with it because the
    fault has more than one side. ``tags``, ``images``, ``concept`` and ``more`` are for its recipe, ``deep`` says
    whether it takes ``check --deep`` to see it.
    """

    name: str
    rule: str
    says: str
    spoil: Callable[[Path], None]
    also: frozenset[str] = field(default_factory=frozenset[str])
    tags: str = "danbooru"
    images: str = "pictures"
    concept: str = ""
    more: str = ""
    deep: bool = False


def picture(number: int, size: tuple[int, int] | None = None) -> Image.Image:
    """Coarse colored squares that depend on the number: a small file, unlike any other image."""
    dice = random.Random(number)  # noqa: S311 - the same picture every time
    blocks = Image.frombytes("RGB", (8, 8), dice.randbytes(192))
    return blocks.resize(size or SIZES[number % len(SIZES)], Image.Resampling.NEAREST)


def caption(number: int) -> str:
    """Token, class, a composition tag and some of what there is to see."""
    seen = (*PLACES[number % 5], LIGHTS[number % 7], THINGS[number % 11], THINGS[(number * 3 + 5) % 11])
    return ", ".join(dict.fromkeys(("lumtower", "lighthouse", ANGLES[number % 8], *seen)))


def write(project: Path) -> None:
    """The clean set, its recipe, and a base model as far as its header goes."""
    add(project / "pictures", range(COUNT))
    base(project / "base.safetensors")


def add(folder: Path, numbers: range, *, words: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number).save(folder / f"{number:02}.png")
        if words:
            (folder / f"{number:02}.txt").write_text(caption(number), "utf-8")


def base(path: Path) -> None:
    """The least that is known for an SD 1.5 checkpoint: two of its tensors."""
    shape = {"dtype": "F16", "shape": [320, 768], "data_offsets": [0, 491520]}
    ids = {"dtype": "I64", "shape": [1], "data_offsets": [491520, 491528]}
    header = json.dumps(
        {
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": shape,
            "cond_stage_model.transformer.text_model.embeddings.position_ids": ids,
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(491528))


def recipe(fault: Fault | None = None) -> str:
    fault = fault or Fault("", "", "", lambda _project: None)
    return RECIPE.format(tags=fault.tags, images=fault.images, concept=fault.concept, more=fault.more)


def encoded(number: int, kind: str, **how: object) -> bytes:
    """The bytes of a picture in another format."""
    into = io.BytesIO()
    picture(number).save(into, format=kind, **how)
    return into.getvalue()


# What each fault does to the project: small verbs, so that the table reads as a list.


def rewrite(name: str, data: bytes | str, folder: str = "pictures") -> Callable[[Path], None]:
    """Change the content of a file in the set, or add a file."""

    def spoil(project: Path) -> None:
        (project / folder / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def captions(change: Callable[[int, list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the tags of every caption, given the picture's number and its tags."""

    def spoil(project: Path) -> None:
        for number in range(COUNT):
            path = project / "pictures" / f"{number:02}.txt"
            path.write_text(", ".join(change(number, path.read_text("utf-8").split(", "))), "utf-8")

    return spoil


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        target = project / "pictures" / new
        target.parent.mkdir(exist_ok=True)
        (project / "pictures" / old).rename(target)

    return spoil


def removed(*patterns: str) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        for pattern in patterns:
            for path in sorted((project / "pictures").glob(pattern)):
                path.unlink()

    return spoil


def both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        for step in steps:
            step(project)

    return spoil


def resized(name: str, size: tuple[int, int]) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        picture(int(name[:2]), size).save(project / "pictures" / name)

    return spoil


def into_subfolder(name: str) -> Callable[[Path], None]:
    """The complete set in a subfolder."""

    def spoil(project: Path) -> None:
        (project / "pictures").rename(project / "moved")
        (project / "pictures").mkdir()
        (project / "moved").rename(project / "pictures" / name)

    return spoil


def emptied(project: Path) -> None:
    for path in (project / "pictures").iterdir():
        path.unlink()


def gone(project: Path) -> None:
    emptied(project)
    (project / "pictures").rmdir()


def converted(ending: str, kind: str) -> Callable[[Path], None]:
    """Every picture in a format that sd-scripts does not look for."""

    def spoil(project: Path) -> None:
        for number in range(COUNT):
            (project / "pictures" / f"{number:02}.png").unlink()
            picture(number, (64, 64)).save(project / "pictures" / f"{number:02}{ending}", kind)

    return spoil


def cut_short(name: str, kind: str, share: float) -> Callable[[Path], None]:
    """An incomplete download: the image's header is intact, its end is missing."""

    def spoil(project: Path) -> None:
        number = int(name[:2])
        (project / "pictures" / f"{number:02}.png").unlink()
        data = encoded(number, kind)
        (project / "pictures" / name).write_bytes(data[: int(len(data) * share)])

    return spoil


def garbled(project: Path) -> None:
    """One wrong byte in the middle of the image data; length and end are right."""
    path = project / "pictures" / "07.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def transparent(project: Path) -> None:
    image = picture(7).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(project / "pictures" / "07.png")


def turned(project: Path) -> None:
    """As phones store an upright photo: sideways, with an EXIF orientation."""
    image = picture(7, (896, 640))
    exif = Image.Exif()
    exif[0x0112] = 6
    (project / "pictures" / "07.png").unlink()
    image.save(project / "pictures" / "07.jpg", exif=exif, quality=95)


def nearly_the_same(project: Path) -> None:
    """The same image, a little smaller and compressed differently."""
    image = picture(3)
    width, height = image.size
    (project / "pictures" / "07.png").unlink()
    image.resize((width - 16, height - 16)).save(project / "pictures" / "07.jpg", quality=80)


def dangling(project: Path) -> None:
    (project / "pictures" / "07.png").unlink()
    (project / "pictures" / "07.png").symlink_to("nowhere.png")


def a_folder(project: Path) -> None:
    (project / "pictures" / "07.png").unlink()
    (project / "pictures" / "07.png").mkdir()


def bomb(project: Path) -> None:
    """A tiny file that unfolds to more pixels than Pillow will open."""
    Image.new("1", (20_000, 20_000)).save(project / "pictures" / "07.png")


def regularised(project: Path) -> None:
    """A regularization set without images of the training set."""
    add(project / "regularization", range(60, 92), words=False)


def few(project: Path) -> None:
    removed(*(f"{number:02}.*" for number in range(8, COUNT)))(project)


def second_concept(numbers: range) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        add(project / "other", numbers)
        for path in (project / "other").glob("*.txt"):
            text = path.read_text("utf-8").replace("lumtower, lighthouse", "lumboat, boat")
            path.write_text(text, "utf-8")

    return spoil


def old_latents(suffix: str, size: str) -> Callable[[Path], None]:
    """What a training at another resolution, or of another program, has left."""
    arrays = {"latents": np.zeros((4, 64, 64), np.float32), "original_size": np.array((1, 1)), "crop_ltrb": np.zeros(4)}
    into = io.BytesIO()
    np.savez(into, **arrays)  # type: ignore[arg-type]
    return rewrite(f"07_{size}{suffix}.npz", into.getvalue())


def repeated_by_name(project: Path) -> None:
    (project / "pictures").rename(project / "10_lumtower")


ON_DISK = "[train]\ncache_latents_to_disk = true"
REGULARIZATION = '[[regularization]]\nclass = "lighthouse"\nimages = "regularization"'
SECOND = '[[concept]]\ntoken = "lumboat"\nclass = "boat"\nimages = "{images}"'
NOOKS = (
    "brickwork",
    "staircase",
    "gallery",
    "railing",
    "lantern room",
    "foundation",
    "doorway",
    "chimney",
    "courtyard",
    "windowsill",
    "cornerstone",
    "parapet",
    "buttress",
    "cupola",
    "archway",
    "balustrade",
    "cobblestones",
    "harbour wall",
)
LONG = "lumtower, lighthouse, from side, " + ", ".join(
    f"weathered and moss covered old {place} seen through drifting fog" for place in NOOKS
)

FAULTS = (
    # folders
    Fault("folder-missing", "G4.9", "does not exist", gone),
    Fault("folder-empty", "G4.9", "no images", emptied),
    Fault("one-level-too-high", "G4.9", "they are in 10_lumtower", into_subfolder("10_lumtower")),
    Fault("only-sub-folders", "G4.9", "does not look into", into_subfolder("day")),
    Fault("only-unknown-formats", "G4.9", "reads none", converted(".tiff", "TIFF")),
    Fault("sub-folder-beside", "G4.9.subfolders", "more", both(
        renamed("30.png", "more/30.png"), renamed("30.txt", "more/30.txt"))),
    Fault("same-folder-twice", "S14", "already", lambda _project: None, more=SECOND.format(images="./pictures"),
          also=frozenset({"G3.10"})),
    Fault("repeats-in-a-name", "G4.9.repeats", "has no effect", repeated_by_name, images="10_lumtower"),
    # pictures that do not open, or not whole
    Fault("not-a-picture", "G2.2", "not an image", rewrite("07.png", "this is text\n" * 50)),
    Fault("empty-picture", "G2.2", "empty", rewrite("07.png", b"")),
    Fault("folder-with-a-picture's-name", "G2.2", "a folder", a_folder),
    Fault("link-to-nothing", "G2.2", "link", dangling),
    Fault("too-many-pixels", "G2.2", "too many pixels", bomb),
    Fault("png-cut-short", "G2.2", "cut", cut_short("07.png", "PNG", 0.6)),
    Fault("jpeg-cut-short", "G2.2", "cut", cut_short("07.jpg", "JPEG", 0.6)),
    Fault("webp-cut-short", "G2.2", "cut", cut_short("07.webp", "WEBP", 0.6)),
    Fault("bmp-cut-short", "G2.2", "cut", cut_short("07.bmp", "BMP", 0.6)),
    Fault("damaged-inside", "G2.2", "", garbled, deep=True),
    # pictures that sd-scripts does not see
    Fault("ending-in-mixed-case", "G2.3", "skips", renamed("07.png", "07.Png")),
    Fault("unknown-format-among-others", "G2.3", "skips", rewrite("40.gif", b"GIF89a")),
    # pictures that train otherwise than they look
    Fault("wrong-ending", "G2.3.content", "07.jpg", renamed("07.png", "07.jpg")),
    Fault("transparent", "G2.4", "transparen", transparent),
    Fault("turned-by-exif", "G2.2.turned", "07.jpg", turned),
    Fault("too-small", "G2.16", "07.png", resized("07.png", (200, 200))),
    Fault("panorama", "G2.10", "07.png", resized("07.png", (3000, 400))),
    Fault("twice-the-same", "G1.9", "03.png = 07.png", rewrite("07.png", encoded(3, "PNG"))),
    Fault("nearly-the-same", "G1.9", "similar images", nearly_the_same, deep=True),
    Fault("one-stem-twice", "S12.stem", "differ only in their extension", rewrite("07.jpg", encoded(50, "JPEG"))),
    # latents that another training left
    Fault("old-latents-on-disk", "S19", "1 image has a latent cache", old_latents("_sd", "0896x0640"), more=ON_DISK),
    Fault("old-latents-of-another-size", "S19.sizes", "squeezed", old_latents("_sd", "0512x0512")),
    # how many
    Fault("too-few", "G1.2", "8 images", few),
    Fault("unbalanced", "G6.16", "6 images", second_concept(range(60, 66)), more=SECOND.format(images="other")),
    # regularization
    Fault("the-subject-among-regularization", "G35.6", "60.png = 03.png", both(
        regularised, rewrite("60.png", encoded(3, "PNG"), "regularization")), more=REGULARIZATION),
    Fault("captions-among-regularization", "G35.4", "caption", both(
        regularised, rewrite("60.txt", "lighthouse, from side", "regularization")), more=REGULARIZATION),
    # caption files
    Fault("no-captions", "G3.3", "no image in pictures", removed("*.txt")),
    Fault("caption-missing", "G3.3", "07.png", removed("07.txt")),
    Fault("caption-empty", "S12", "empty", rewrite("07.txt", b"")),
    Fault("caption-not-utf8", "S12", "UTF-8", rewrite("07.txt", "lumtower, lighthouse, façade".encode("latin-1"))),
    Fault("caption-with-a-mark", "S12", "byte order mark", rewrite("07.txt", b"\xef\xbb\xbf" + caption(7).encode())),
    Fault("caption-blank", "S12", "blank", rewrite("07.txt", "\n" + caption(7))),
    Fault("caption-of-spaces", "S12", "only spaces", rewrite("07.txt", "  \n \n")),
    Fault("caption-of-numbers", "S12", "no words", rewrite("07.txt", "0 0.51 0.4 0.2 0.3\n1 0.2 0.2 0.1 0.1\n")),
    Fault("caption-with-more-lines", "S12", "line", rewrite("07.txt", caption(7) + "\na second thought")),
    Fault("caption-of-another-picture", "S12.borrowed", "uses lum.txt", both(
        renamed("07.png", "lum_a_b_c_7.png"), renamed("07.txt", "lum.txt"))),
    Fault("captions-of-two-kinds", "G3.3.other", ".caption", rewrite("07.caption", "another caption")),
    Fault("caption-ending-in-capitals", "G3.3.other", "07.TXT", renamed("07.txt", "07.TXT")),
    Fault("caption-without-a-picture", "G3.3.orphans", "90.txt", rewrite("90.txt", caption(7))),
    Fault("caption-too-long", "G3.3.tokens", "token", rewrite("07.txt", LONG)),
    # what the captions say
    Fault("semicolons", "S17.commas", "between", captions(lambda _n, tags: ["; ".join(tags)])),
    Fault("no-commas", "S17.commas", "space", captions(lambda _n, tags: [" ".join(tags)])),
    Fault("token-not-in-front", "G3.10", "lumtower", captions(lambda _n, tags: [tags[1], tags[0], *tags[2:]])),
    Fault("class-missing", "G3.12", "lighthouse", captions(lambda n, tags: tags if n % 4 else [tags[0], *tags[2:]])),
    Fault("outfit-missing", "G6.17", "raincoat", lambda _project: None, concept='outfit = "raincoat"'),
    Fault("tag-in-every-picture", "G3.15", "lens flare", captions(lambda _n, tags: [*tags, "lens flare"])),
    Fault("too-many-tags", "G5.10", "tags", captions(lambda n, tags: [*tags, *(f"thing {n} {i}" for i in range(24))])),
    Fault("single-tags", "G5.15", "lumtower", captions(lambda _n, tags: tags[:1]), also=frozenset({"G3.12"})),
    Fault("tags-that-imply-each-other", "G3.21", "dog", captions(lambda n, tags: (
        [*tags, "german shepherd", "dog"] if n % 3 == 0 else tags))),
    Fault("portuguese", "G3.6.portuguese", "fundo branco", captions(lambda n, tags: (
        [*tags, "fundo branco"] if n % 3 == 0 else tags))),
    Fault("words-with-accents", "G3.6.accents", "look Portuguese", captions(lambda n, tags: (
        [*tags, "coraçãozinho"] if n == 7 else tags))),
    Fault("prompt-syntax", "G5.11.prompts", "(red circle:1.2)", captions(lambda n, tags: (
        [*tags, "(red circle:1.2)"] if n == 7 else tags))),
    Fault("praise", "G5.11", "score_9", captions(lambda n, tags: [*tags, "score_9"] if n == 7 else tags)),
    Fault("two-vocabularies", "GC.27", "anthro", captions(lambda n, tags: (
        [*tags, "anthro", "feral"] if n % 3 == 0 else [*tags, "1girl", "solo focus"]))),
    Fault("wrong-vocabulary", "G3.6", "danbooru", captions(lambda n, tags: [*tags, "1girl"] if n % 3 == 0 else tags),
          tags="e621"),
    Fault("several-subjects", "G1.18", "2girls", captions(lambda n, tags: [*tags, "2girls"] if n % 2 else tags)),
    Fault("text-and-marks", "G2.14", "watermark", captions(lambda n, tags: [*tags, "watermark"] if n % 2 else tags)),
    Fault("sheet-half-tagged", "G2.12", "reference sheet", captions(lambda n, tags: (
        [*tags, "reference sheet"] if n == 7 else tags))),
    Fault("no-composition", "G3.16", "composition", captions(lambda _n, tags: [*tags[:2], *tags[3:]])),
    Fault("tag-twice", "G3.18.twice", "repeats", captions(lambda n, tags: [*tags, tags[3]] if n == 7 else tags)),
)  # fmt: skip
