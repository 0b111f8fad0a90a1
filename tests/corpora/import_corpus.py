"""Import every file of a folder, and compare what the recipe compiles to with what the file trains, key by key.

    python tests/corpora/import_corpus.py FOLDER [--faithful] [--verbose]

Each file that lorabake recognizes is imported; its recipe is loaded, planned with made-up images and compiled. Every
option of the compiled train TOML, and every option that the file has, is compared: one that differs has to be in the
report, else it is silent. Prints a table; exits 1 if anything differs silently, or a recipe is none.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lorabake.errors import LorabakeError
from lorabake.exchange.draft import describe_config, read_values
from lorabake.exchange.folders import find_folders
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.import_file import format_imported_recipe
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.stand_ins import list_stand_ins, make_facts, plan_recipe, read_recipe
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.exchange.trained import (
    DATASET_NAMES,
    NEUTRAL_VALUES,
    TrainerFacts,
    describe_plan,
    iter_differences,
    list_origins,
    read_arguments,
)
from lorabake.planning.compile import TRAIN_FILE, compile_plan
from lorabake.util import resources
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.options import DATASET_LEVELS

SKIPPED = ("output_dir", "logging_dir", "output_name", "resolution", "sample_prompts", "pretrained_model_name_or_path")
# An option that another one stands for.
STANDS_FOR = {
    "unet_lr": ("learning_rate",),
    "text_encoder_lr": ("learning_rate",),
    "sdpa": ("xformers", "mem_eff_attn"),
    "xformers": ("sdpa", "mem_eff_attn"),
    "max_train_epochs": ("max_train_steps",),
    "max_train_steps": ("max_train_epochs",),
    "optimizer_type": ("use_8bit_adam", "use_lion_optimizer"),
    "learning_rate": ("unet_lr", "text_encoder_lr"),
    "masked_loss": ("conditioning_data_dir", "alpha_mask"),
    "v2": ("family",),
}


def main(folder: Path, *, faithful: bool, verbose: bool) -> int:
    total = Counter[str]()
    print(f"{'':<62}{'format':<22}{'keys':>5}{'same':>6}{'expl.':>6}{'silent':>7}{'rules':>6}")
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and ".git" not in each.parts):
        try:
            source = Source(path=path, content=b"")
            config = read_foreign_file(source)
            config = replace(config, datasets=find_folders(config, source, []))
        except LorabakeError as error:
            total["refused"] += 1
            print(f"{path.name[:60]:<62}refused: {error.message}"[:160])
            continue
        try:
            made = make_recipe(config, source, faithful=faithful)
            counts, silent = compare(made, config, faithful=faithful)
        except LorabakeError as error:
            total["failed"] += 1
            print(f"{path.name[:60]:<62}FAILED: {error.message}"[:160])
            continue
        total["imported"] += 1
        total["silent"] += counts["silent"]
        row = f"{path.name[:60]:<62}{config.format:<22}{len(made.report.keys):>5}"
        print(f"{row}{counts['same']:>6}{counts['explained']:>6}{counts['silent']:>7}{counts['rules']:>6}")
        for line in silent:
            print(f"    silent: {line}")
        if verbose:
            print(format_imported_recipe(made, ENGLISH))
    print(", ".join(f"{count} {name}" for name, count in total.items()))
    return 1 if total["silent"] or total["failed"] else 0


def compare(made: ImportedRecipe, config: ForeignConfig, *, faithful: bool) -> tuple[Counter[str], list[str]]:
    """How many options are the same, differ with a line in the report, and differ without one."""
    content: dict[str, Any] = tomllib.loads(format_imported_recipe(made, ENGLISH))
    recipe, findings = read_recipe(content)
    assert recipe is not None, [each.message for each in findings]
    snapshot, family = resources.load_snapshot(), get_family(str(recipe.base.family))
    options = snapshot.of(family.script)
    trainer = TrainerFacts({each.name: each for each in options}, snapshot.dataset, snapshot.signatures, family)
    stand_in = list_stand_ins(content)[0]
    plan = plan_recipe(recipe, stand_in, trainer)
    if plan is None:
        return Counter({"silent": 1}), ["sd-scripts' own arithmetic stops at it"]
    compiled = tomllib.loads(compile_plan(plan, options, snapshot.dataset).fill({})[TRAIN_FILE].decode())
    situation = RuleContext(
        recipe, stand_in.base, make_facts(recipe), stand_in.machine, options, plan, signatures=snapshot.signatures
    )
    counts, silent = Counter({"rules": len(list(collect_findings(situation)))}), list[str]()
    wanted = describe_config(config, trainer, faithful=faithful)
    differs = iter_differences(wanted, describe_plan(plan, trainer))
    idle = {*wanted.idle, *(each.name for each in options if each.name.startswith("sample_") and not recipe.sample)}
    of_images = {name for level in DATASET_LEVELS for name in snapshot.dataset.at(level)}
    of_images |= DATASET_NAMES.keys()
    source = {name: found.value for name, found in read_values(config.options, faithful=faithful).items()}
    defaults = {each.name: each.default for each in options}
    named = named_options(made)
    for name in sorted((compiled.keys() | source.keys()) & defaults.keys() - {*SKIPPED, *of_images}):
        ours = plain(name, compiled.get(name, defaults[name]))
        theirs = plain(name, source.get(name, defaults[name]))
        if ours == theirs or (name in idle and name not in compiled):
            counts["same"] += 1
        elif {name, *STANDS_FOR.get(name, ())} & named or not config.complete:
            counts["explained"] += 1
        else:
            counts["silent"] += 1
            silent.append(f"{name}: {theirs!r} in the file, {ours!r} compiled")
    for name, at, theirs, ours in differs:  # options of folders, from whichever level sd-scripts takes them
        if at is None or name in {"image_dir", "metadata_file", "conditioning_data_dir", "resolution"}:
            continue
        explained = {name, *list_origins(name)} & named or not config.complete
        counts["explained" if explained else "silent"] += 1
        if not explained:
            silent.append(f"{name} of folder {at}: {theirs!r} in the file, {ours!r} compiled")
    return counts, silent


def plain(name: str, value: object) -> object:
    """Lists of arguments without their order, off and absent as one."""
    if name in {"network_args", "optimizer_args", "lr_scheduler_args"}:
        return sorted((key, str(item)) for key, item in read_arguments(value).items())
    if isinstance(value, list | tuple):
        return [float(item) if isinstance(item, int) else item for item in cast("Sequence[object]", value)]
    return None if value in (None, False, "", NEUTRAL_VALUES.get(name)) else value


def named_options(made: ImportedRecipe) -> set[str]:
    """The options that the report has a line for."""

    def names() -> Iterator[str]:
        for line in (*made.report.keys, *made.report.added, *made.report.missing):
            yield line.key.lstrip("-").rpartition(".")[2]
            yield from (part.rpartition(".")[2] for part in (line.to or "").split(", "))

    found = set(names())
    keys: Mapping[str, str] = {"type": "network_module", "optimizer": "optimizer_type", "attention": "xformers",
                               "class": "class_tokens"}  # fmt: skip
    arguments = {"conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "factor", "preset", "type"}
    found |= {keys[name] for name in found & keys.keys()}
    return found | ({"network_args"} if found & arguments else set())


if __name__ == "__main__":
    flags = {flag for flag in sys.argv[1:] if flag.startswith("--")}
    (where,) = (argument for argument in sys.argv[1:] if not argument.startswith("--"))
    sys.exit(main(Path(where), faithful="--faithful" in flags, verbose="--verbose" in flags))
