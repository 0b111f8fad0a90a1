"""Builders that the unit tests share: recipes, facts about images, situations for rules, projects on disk."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from PIL import Image

from lorabake.analysis.check import ATTENTION_NOT_PROBED
from lorabake.planning.resolve import resolve_plan
from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.defaults import list_leading_tags, resolve_family
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import list_rules
from lorabake_schemas.machine import AttentionProbe, BaseFacts, Family, Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.plan import Plan, Setting, Source, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import FileDigest

CPU = MachineFacts(system="Linux", cpus=4, memory_bytes=16 << 30)
GPU = MachineFacts(system="Linux", cpus=16, memory_bytes=64 << 30, gpus=(Gpu(name="RTX 3060", memory_mib=12288),))
XFORMERS = AttentionProbe(xformers=True, reason=literal("it ran"))
TOKEN, CLASS = "hmbrgrlora", "food"
RECORDED: dict[str, Any] = {  # what every record has besides, for those whose tests are about something else
    "recipe_text": "",
    "recipe_place": "../../recipe.toml",
    "digest": "d" * 64,
    "inputs_file": FileDigest(name="inputs.json", sha256="a" * 64, size=1),
    "plan_file": FileDigest(name="plan.json", sha256="b" * 64, size=1),
}


def torch_zip(inside: str = "archive/data.pkl") -> bytes:
    """What torch.save writes, as far as its outside goes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(inside, b"\x80\x02}q\x00.")
    return made.getvalue()


TORCH_ZIP = torch_zip()
TORCH_OLD = b"\x80\x02\x8a\n" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b".\x80\x02M\xe9\x03."


def recipe(
    *,
    kind: str = "object",
    base: Mapping[str, Any] | None = None,
    concept: Mapping[str, Any] | None = None,
    concepts: Sequence[Mapping[str, Any]] | None = None,
    **tables: Any,
) -> Recipe:
    """A small valid recipe (SD1.5, one object); ``base`` and ``concept`` add to it, ``concepts`` replaces it."""
    one = {"token": TOKEN, "class": CLASS, "images": "pics"} | dict(concept or {})
    raw = {"name": TOKEN, "kind": kind, "base": {"model": "base.safetensors", "family": "sd15"} | dict(base or {})}
    return Recipe.model_validate(raw | {"concept": list(concepts or [one])} | tables)


def concept(token: str | None, images: str, **more: Any) -> dict[str, Any]:
    table = {"token": token, "class": CLASS, "images": images} | more
    return {key: value for key, value in table.items() if value is not None}


# What is to be seen: a view, a place, a light and a thing that every board has.
VIEWS, PLACES = ("close-up", "profile", "action pose"), ("beach", "forest", "street", "snow", "mountain")
LIGHTS, THINGS = ("sunset", "rain", "fog", "night"), ("bench", "lamp", "bicycle", "kite", "ladder", "piano", "mirror")


def seen(number: int) -> str:
    """The rest of a well-made caption, another one for each number below 420."""
    return ", ".join(words[number % len(words)] for words in (VIEWS, PLACES, LIGHTS, THINGS))


def folder(
    path: str = "pics",
    count: int = 30,
    *,
    size: tuple[int, int] = (768, 768),
    caption: str = f"{TOKEN}, {CLASS}",
    problem: CaptionProblem | None = None,
    **more: Any,
) -> FolderFacts:
    """``count`` images of one size and ``problem``; ``caption`` is what each caption starts with."""
    texts = [CaptionFacts(f"{caption}, {seen(i)}" if caption else "", problem) for i in range(count)]
    images = tuple(ImageFacts(f"{i:03}.png", *size, mode="RGB", caption=text) for i, text in enumerate(texts))
    fields: dict[str, Any] = {"images": images} | more
    return FolderFacts(path, **fields)


def dataset(*folders: FolderFacts, regularization: Sequence[FolderFacts] = ()) -> DatasetFacts:
    return DatasetFacts(folders or (folder(),), tuple(regularization))


def base_facts(family: Family | None = "sd15", **more: Any) -> BaseFacts:
    fields: dict[str, Any] = {"kind": "file", "family": family} | more
    return BaseFacts(**fields)


def plan_of(
    of: Recipe,
    pictures: DatasetFacts | None = None,
    base: BaseFacts | None = None,
    machine: MachineFacts = GPU,
    attention: AttentionProbe = ATTENTION_NOT_PROBED,
) -> Plan:
    """The plan; without facts, thirty images per concept and regularization set, and a base model of its family."""
    facts = (base or base_facts(of.base.family), pictures or pictures_for(of))
    return resolve_plan(of, *facts, machine, attention, resources.load_snapshot().signatures)


def pictures_for(of: Recipe, count: int = 30) -> DatasetFacts:
    return DatasetFacts(
        tuple(folder(part.images, count, caption=", ".join(list_leading_tags(part))) for part in of.concept),
        tuple(folder(part.images, count) for part in of.regularization),
    )


def situation(
    of: Recipe | None = None,
    pictures: DatasetFacts | None = None,
    base: BaseFacts | None = None,
    machine: MachineFacts = GPU,
    **more: Any,
) -> RuleContext:
    """Everything is good by default."""
    chosen = of or recipe()
    facts = base or base_facts(chosen.base.family or "sd15")
    options = resources.load_script_options(resolve_family(chosen, facts).script)
    more = {"signatures": resources.load_snapshot().signatures} | more
    return RuleContext(chosen, facts, pictures or pictures_for(chosen), machine, options, **more)


def values(settings: Sequence[Setting]) -> dict[str, OptionValue]:
    found = {setting.option: setting.value for setting in settings}
    assert len(found) == len(settings), "an option twice"
    return found


def sources(settings: Sequence[Setting]) -> dict[str, Source]:
    return {setting.option: setting.source for setting in settings}


def subset(plan: Plan, index: int = 0) -> dict[str, OptionValue]:
    part: SubsetPlan = plan.subsets[index]
    return values(part.settings)


def write_base(path: Path, family: Family = "sd15") -> Path:
    """A checkpoint of two tiny tensors that names its family as a real one would."""
    text, width = f"{get_family(family).text_encoder_prefix}a", get_family(family).context_width
    path.parent.mkdir(parents=True, exist_ok=True)
    layer = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    header = {
        text: {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
        layer: {"dtype": "F16", "shape": [1, width], "data_offsets": [2, 2 + 2 * width]},
    }
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + bytes(2 + 2 * width))
    return path


@cache
def one_colour(size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    """The bytes of a PNG."""
    into = io.BytesIO()
    Image.new("RGB", size, colour).save(into, "PNG")
    return into.getvalue()


def write_pictures(
    where: Path, count: int = 3, *, caption: str | None = f"{TOKEN}, {CLASS}", size: tuple[int, int] = (768, 768)
) -> Path:
    where.mkdir(parents=True, exist_ok=True)
    shade = crc32(where.name.encode())  # so that no two folders hold the same pictures
    for index in range(count):
        colour = (index % 256, shade & 0xFF, shade >> 8 & 0xFF)
        (where / f"{index:03}.png").write_bytes(one_colour(size, colour))
        if caption is not None:
            (where / f"{index:03}.txt").write_text(f"{caption}, {seen(index)}" if caption else "", encoding="utf-8")
    return where


RECIPE = f"""\
name = "{TOKEN}"
kind = "object"

[base]
model = "base.safetensors"
family = "sd15"
tags = "e621"

[[concept]]
token = "{TOKEN}"
class = "{CLASS}"
images = "pics"
"""


def project(root: Path, more: str = "", *, text: str = RECIPE, pictures: int = 3) -> Path:
    """A recipe with its base model and its images; ``more`` is added at its end. Returns the recipe's path."""
    write_base(root / "base.safetensors")
    write_pictures(root / "pics", pictures)
    path = root / "recipe.toml"
    path.write_text(text + more, encoding="utf-8")
    return path


# A rule's id, a situation in which it speaks, the recipe key it points at, and the severity it gives.
Fires = tuple[str, RuleContext, str, str]
# A rule's id and a situation that is nearly one of its own, in which it must stay silent.
Misses = tuple[str, RuleContext]


def spoken(identity: str, of: RuleContext) -> list[Finding]:
    """The messages of one rule."""
    found = [rule for rule in list_rules() if rule.id == identity]
    assert len(found) == 1, f"{identity} is registered {len(found)} times"
    return list(found[0].findings(of))


def topic(module: str) -> set[str]:
    """The ids of the rules in one topic module."""
    return {rule.id for rule in list_rules() if rule.check.__module__ == f"lorabake_schemas.guide.rules.{module}"}
