"""What a finding says to write is written: then the finding disappears, and no new error appears.

Followed are the findings of every rule's own cases, and those of recipes on disk: the shipped ones, some as people
write them (advised_recipes.toml), and each of these with one or two more keys.
"""

from __future__ import annotations

import copy
import importlib
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import tomli_w
from pydantic import ValidationError

from lora_files import Wanted, shapes_of
from lora_files import write as write_lora
from lorabake.analysis.check import check_recipe
from lorabake.errors import RecipeError
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.recipe import Recipe
from situations import GPU, RECIPE, Fires, plan_of, project, write_base, write_pictures

HERE = Path(__file__).parent
FIRES: list[Fires] = [
    each
    for module in sorted(HERE.glob("test_guide_*.py"))
    for each in getattr(importlib.import_module(module.stem), "FIRES", [])
]
OF_FILES = {"G4.9", "G3.3.none"}  # whose advice has the folder read again, which takes a disk
OF_TEXTS = {"S48"}  # of which only a part is to be removed
VALUE = r'("[^"]*"|\[[^\]]*\]|\{[^}]*\}|true|false|-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w-])'
SETS = re.compile(
    r"(?:(?:write|add|set|and) |(?<=\d), )(\w+) = " + VALUE + r"(?: under (?:this |each )?\[+([\w.]+)\]+)?"
)
MOVES = re.compile(r"^(?:use|write it as|did you mean) `?(\w+(?:\.\w+)+)`?|^write it (under \[network\.args\])")
WRITES = re.compile(
    r"^write " + VALUE + r"(?: (?:or|to) \d+| or less| or more|, or remove it| to mean.*| unless.*|[:;].*)?$"
)
MEANT = re.compile(r'^did you mean ["`]?(\w+)["`]?\?$')
TAKES_OUT = re.compile(r"remove (this line|\w+)")
ALTERNATIVES = re.compile(r"under \[\w+\], or (?!remove)|\d, or (?!remove)")
REMOVES = re.compile(r"remove (?:it|the line|this line)\b")
REMOVES_KEYS = re.compile(r"remove (\w+(?: and \w+_\w+)?)(?: = |;|,|$| to use)")
Raw = dict[str, Any]
Where = tuple[str | int, ...]


def table_of(raw: Raw, where: Where) -> Any:
    inside: Any = raw
    for part in where:
        inside = inside[part] if isinstance(part, int) else inside.setdefault(part, {})
    if len(where) != 1:
        return inside
    return cast("list[object]", inside)[0] if isinstance(inside, list) else inside


def locate(table: str, where: Where) -> Where:
    """A table that a finding names, for the concept that it speaks of."""
    if table in {"concept", "regularization"}:
        return where[:2] if where[0] == table else (table,)
    return tuple(table.split("."))


def put(raw: Raw, table: Where, key: str | int, text: str) -> None:
    table_of(raw, table)[key] = tomllib.loads(f"x = {text}")["x"]


def remedies(finding: Finding, raw: Raw) -> list[Raw]:
    """The recipe as each alternative of the advice would have it; none where it takes a person to follow it."""
    where = tuple(finding.where)
    found: list[Raw] = []
    for change in (*iter_settings(str(finding.fix), where), *iter_moves(str(finding.fix), where)):
        done = copy.deepcopy(raw)
        change(done)
        found.append(done)
        if finding.rule == "S1" and where[0] == "kohya":  # what is not allowed there is replaced
            table_of(done, where[:-1]).pop(where[-1], None)
    if finding.rule not in OF_TEXTS and where[-1] != "images":
        without = [remove_keys(keys, raw, where) for keys in iter_removed(str(finding.fix), where)]
        found += [each for each in without if each is not None]
    return found


def iter_settings(fix: str, where: Where) -> Iterator[Callable[[Raw], None]]:
    """Values to write: all of them together, or each alone."""
    sets = [each for each in SETS.finditer(fix) if "..." not in each[2]]
    tables = [locate(each[3], where) if each[3] else where[:-1] for each in sets]

    def write_all(raw: Raw) -> None:
        for each, table in zip(sets, tables, strict=True):
            put(raw, table, each[1], each[2])
        for out in TAKES_OUT.findall(fix):
            table_of(raw, where[:-1]).pop(str(where[-1]) if out == "this line" else out, None)

    if sets and (" and " in fix or (len(sets) > 1 and ", or remove them" in fix)) and not ALTERNATIVES.search(fix):
        yield write_all
    else:
        yield from (
            partial(put, table=table, key=each[1], text=each[2]) for each, table in zip(sets, tables, strict=True)
        )
    if written := WRITES.match(fix):
        yield partial(put, table=where[:-1], key=where[-1], text=written[1])


def iter_moves(fix: str, where: Where) -> Iterator[Callable[[Raw], None]]:
    """Another key for the value, or the name that was meant."""
    own, meant, moved = str(where[-1]), MEANT.match(fix), MOVES.match(fix)
    if meant and '"' in fix:
        yield partial(put, table=where[:-1], key=own, text=f'"{meant[1]}"')
    elif meant or moved:
        path = (moved[1] or f"network.args.{own}").split(".") if moved else [str(meant and meant[1])]
        table = locate(".".join(path[:-1]), where) if moved else where[:-1]

        def move(raw: Raw) -> None:
            value = table_of(raw, where[:-1]).pop(where[-1])
            table_of(raw, table)[path[-1]] = value

        yield move


def iter_removed(fix: str, where: Where) -> list[tuple[str | int, ...]]:
    """The keys to remove in each alternative, next to the one that is at fault."""
    if SETS.search(fix) and " and remove" in fix:
        return []  # iter_settings did
    keys = [tuple(each.split(" and ")) for each in REMOVES_KEYS.findall(fix) if each not in {"it", "the", "this"}]
    return [*([where[-1:]] if REMOVES.search(fix) else []), *keys]


def remove_keys(keys: tuple[str | int, ...], raw: Raw, where: Where) -> Raw | None:
    """None if the recipe has none of these keys, because a default is meant or another table."""
    done = copy.deepcopy(raw)
    table = table_of(done, where[:-1])
    there = [key for key in keys if isinstance(key, int) or key in table]
    for key in there:
        del table[key]
    return done if there else None


def judged(situation: RuleContext, recipe: Recipe) -> list[Finding]:
    """Every finding, of the rules with a plan, too, where one can be made."""
    bare = replace(situation, recipe=recipe, plan=None)
    found = list(collect_findings(bare))
    try:
        plan = plan_of(recipe, situation.dataset, situation.base, situation.machine)
    except (RecipeError, ValueError, IndexError, StopIteration):
        return found
    return [*found, *collect_findings(replace(bare, plan=plan))]


def places(found: list[Finding], severity: Severity | None = None) -> set[tuple[str, str]]:
    return {(each.rule, each.key) for each in found if severity in {None, each.severity}}


def followed() -> list[tuple[str, RuleContext, Finding, Raw]]:
    every: list[tuple[str, RuleContext, Finding, Raw]] = []
    for rule, situation, key, _ in FIRES:
        raw = situation.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
        if rule in OF_FILES:
            continue
        mine = [each for each in judged(situation, situation.recipe) if each.rule == rule and each.key == key]
        every += [(rule, situation, each, done) for each in mine[:1] for done in remedies(each, raw)]
    return every


def test_what_is_advised_helps() -> None:
    every, wrong = followed(), list[str]()
    for rule, situation, finding, raw in every:
        before = judged(situation, situation.recipe)
        try:
            after = judged(situation, Recipe.model_validate(raw))
        except ValidationError as error:
            wrong.append(f"{rule} {finding.key}: {finding.fix}: {error}")
            continue
        new = places(after, Severity.ERROR) - places(before, Severity.ERROR)
        still = {each.message for each in after if (each.rule, each.key) == (rule, finding.key)}
        if new or finding.message in still:
            wrong.append(f"{rule} {finding.key}: {finding.message}; {finding.fix}: {sorted(new) or 'still there'}")
    assert len({rule for rule, *_ in every}) > 40
    assert not wrong, "\n".join(wrong)


# --- recipes on disk ----------------------------------------------------------------------------------------------
SEED, PAIRS = 20261128, 40
KEYS: tuple[tuple[str, str, Any], ...] = (
    ("train", "optimizer", "Prodigy"), ("train", "optimizer", "AdamW8bit"), ("train", "optimizer", "Adafactor"),
    ("train", "optimizer", "DAdaptSGD"), ("train", "optimizer", "Lion"), ("train", "optimizer", "AdamWScheduleFree"),
    ("train", "learning_rate", 1e-4), ("train", "learning_rate", 1.0), ("train", "unet_lr", 0.0),
    ("train", "text_encoder_lr", 0.0), ("train", "text_encoder_lr", 0.5), ("train", "lr_scheduler", "constant"),
    ("train", "lr_scheduler", "cosine_with_min_lr"), ("train", "lr_scheduler", "warmup_stable_decay"),
    ("train", "lr_scheduler", "polynomial"), ("train", "lr_scheduler", "piecewise_constant"),
    ("train", "lr_warmup_steps", 0.1), ("train", "lr_warmup_steps", 99999), ("train", "max_train_epochs", 3),
    ("train", "max_train_steps", 20000), ("train", "resolution", 1024), ("train", "resolution", 700),
    ("train", "max_bucket_reso", 448), ("train", "min_bucket_reso", 1024), ("train", "enable_bucket", False),
    ("train", "cache_latents", False), ("train", "cache_latents_to_disk", True), ("train", "min_snr_gamma", 5.0),
    ("train", "max_data_loader_n_workers", 0), ("train", "persistent_data_loader_workers", True),
    ("train", "train_batch_size", 8), ("train", "noise_offset", 0.05), ("train", "prior_loss_weight", 0.5),
    ("network", "type", "lokr"), ("network", "type", "dylora"), ("network", "type", "ia3"), ("network", "type", "full"),
    ("network", "network_dim", 100), ("network", "network_dim", 30), ("network", "network_alpha", 64.0),
    ("network", "conv_dim", 32), ("network", "conv_alpha", 4.0), ("network", "dora_wd", True),
    ("network", "factor", 5000), ("network", "network_dropout", 0.1), ("network", "rank_dropout", 0.1),
    ("network", "scale_weight_norms", 2.0), ("network", "network_train_unet_only", True),
    ("save", "save_every_n_epochs", 9999), ("save", "save_precision", "float"), ("save", "save_model_as", "ckpt"),
    ("save", "save_last_n_steps", 10), ("launch", "deterministic", True), ("launch", "num_processes", 2),
    ("captions", "caption_extension", ".caption"), ("captions", "caption_prefix", "a"),
    ("captions", "caption_dropout_rate", 0.2), ("captions", "keep_tokens", 9), ("captions", "shuffle_caption", False),
    ("base", "v_prediction", True), ("base", "zero_terminal_snr", True), ("base", "clip_skip", 2),
    ("base", "tags", "natural"), ("base", "family", "sdxl"), ("sample", "prompts", ["a --ar 1:2"]),
    ("sample", "sample_every_n_steps", 50), ("validation", "validation_split", 0.01),
    ("kohya", "color_aug", True), ("kohya", "random_crop", True), ("kohya", "full_fp16", True),
    ("kohya", "fp8_base", True), ("kohya", "multires_noise_discount", 0.3), ("kohya", "huber_c", 0.2),
    ("kohya", "adaptive_noise_scale", 0.01), ("kohya", "token_warmup_step", 0.2), ("kohya", "xformers", True),
    ("kohya", "dim_from_weights", True), ("kohya", "lr_scheduler_type", "ReduceLROnPlateau"),
    ("kohya", "lr_scheduler_type", "StepLR"), ("kohya", "lr_decay_steps", 100.0), ("kohya", "dynamo_backend", "eager"),
    ("kohya", "vae_batch_size", 0), ("kohya", "min_timestep", 900), ("kohya", "max_timestep", 100),
    ("kohya", "cache_text_encoder_outputs", True), ("kohya", "v_pred_like_loss", 0.5), ("kohya", "network_dim", 8),
    ("kohya", "train_batch_size", 2), ("kohya", "multires_noise_iteration", 6), ("kohya", "save_n_epoch_ratio", 2),
    ("concept", "flip_aug", True), ("concept", "asymmetric", True), ("concept", "outfit", "armor"),
    ("concept", "num_repeats", 50), ("concept", "keep_tokens", 7), ("concept", "masks", "pics"),
    ("concept", "token", "armor"), ("concept", "token", "masterpiece"), ("concept", "captions", "none"),
    ("regularization", "class", "hmbrgrlora"), ("regularization", "num_repeats", 5),
)  # fmt: skip
SHIPPED = sorted((HERE.parents[2] / "recipes").glob("*.toml"))
OWN = tomllib.loads((HERE / "advised_recipes.toml").read_text("utf-8"))["recipe"]
CLEAN = tomllib.loads(RECIPE)


def with_key(raw: Raw, table: str, key: str, value: Any) -> Raw:
    done = copy.deepcopy(raw)
    if table == "regularization":
        done.setdefault(table, [{"class": "food", "images": "reg"}])
    inside = done.setdefault(table, {})
    (inside[0] if isinstance(inside, list) else inside)[key] = value
    return done


def corpus() -> Iterator[tuple[str, Raw]]:
    """Recipes whose folders are those of ``write_world``."""
    dice = random.Random(SEED)  # noqa: S311 - the same recipes every time
    shipped = [(path.stem, adapt(tomllib.loads(path.read_text("utf-8")))) for path in SHIPPED]
    own = [(each["kind"], CLEAN | {key: value for key, value in each.items() if key != "kind"}) for each in OWN]
    yield from (*shipped, *own)
    for table, key, value in KEYS:
        yield f"{table}.{key} = {value}", with_key(CLEAN, table, key, value)
        name, raw = dice.choice(shipped)
        yield f"{name} with {table}.{key} = {value}", with_key(raw, table, key, value)
    for _ in range(PAIRS):
        one, two = dice.sample(KEYS, 2)
        yield f"{one} and {two}", with_key(with_key(CLEAN, *one), *two)


def adapt(raw: Raw) -> Raw:
    """A shipped recipe with folders and files that are here."""
    raw["base"]["model"] = f"{raw['base'].get('family', 'sd15')}.safetensors"
    for number, part in enumerate(raw["concept"]):
        part["images"] = "pics" if not number else f"more{number}"
    for part in raw.get("regularization", ()):
        part["images"] = "reg"
    if raw.get("network", {}).get("network_weights"):
        raw["network"]["network_weights"] = "lora.safetensors"
    return raw


def write_world(root: Path) -> Path:
    path = project(root, pictures=12)
    for family in ("sd15", "sdxl", "sd2"):
        write_base(root / f"{family}.safetensors", family)
    for name in ("more", "more1", "more2", "more3", "reg"):
        write_pictures(root / name, 4)
    write_pictures(root / "bare", 4, caption=None)
    for image in write_pictures(root / "sentences", 4, caption=None).glob("*.png"):
        image.with_suffix(".caption").write_text("a hmbrgrlora food on a plate", "utf-8")
    write_lora(root / "lora.safetensors", shapes_of(Wanted("", 4, None), "sd15"))
    return path


def follow(raw: Raw, judge: Callable[[Raw], list[Finding]], done: set[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with the advice about a recipe; ``done`` is what was followed already."""
    before = judge(raw)
    errors = places(before, Severity.ERROR)
    for finding in before:
        if (finding.rule, str(finding.fix)) in done or any(key != finding.key for _, key in errors):
            continue  # another error may hide what comes next
        try:
            after = [(each, judge(each)) for each in remedies(finding, raw)]
        except (KeyError, IndexError, TypeError) as error:
            yield f"cannot be followed: {finding.rule} {finding.key}: {finding.fix}: {error!r}"
            continue
        for _, found in after:
            done.add((finding.rule, str(finding.fix)))
            new = places(found, Severity.ERROR) - errors
            still = {each.message for each in found if (each.rule, each.key) == (finding.rule, finding.key)}
            if new or finding.message in still:
                yield f"{finding.rule} {finding.key}: {finding.message}; {finding.fix}: {sorted(new) or 'still there'}"


def test_what_is_advised_about_recipes_on_disk_helps(tmp_path: Path) -> None:
    path, wrong, done = write_world(tmp_path), list[str](), set[tuple[str, str]]()

    def judge(raw: Raw) -> list[Finding]:
        return list(check_recipe(path, GPU, content=tomli_w.dumps(raw).encode()).findings)

    for name, raw in corpus():
        wrong += [f"{name}: {each}" for each in follow(raw, judge, done)]
    assert len({rule for rule, _ in done}) > 45
    assert not wrong, "\n".join(wrong)
