"""A recipe with several mistakes: all of them in one report, and none that another one causes."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from test_mutated_recipes import RICH

from lorabake.analysis.check import CheckResult, check_recipe
from lorabake_schemas.findings import Severity
from situations import GPU, RECIPE, project, write_pictures

Where = tuple[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    project(folder)
    write_pictures(folder / "other")
    (folder / "pics" / "001.txt").write_bytes(b"")
    return folder


def examined(home: Path, text: str) -> CheckResult:
    return check_recipe(home / "recipe.toml", GPU, content=text.encode())


def errors(home: Path, text: str) -> set[Where]:
    return {(finding.rule, finding.key) for finding in examined(home, text).errors}


EMPTY_CAPTION = ("S12", "concept[0].images")  # of the project itself
SEVERAL: list[tuple[str, str, set[Where]]] = [
    # mistakes of shape, under [kohya] and in files
    ('[train]\nseed = "x"\n[kohya]\nhuber_x = 1.0\n', "", {("wrong-type", "train.seed"), ("S1", "kohya.huber_x")}),
    ("[train]\nlr = 1.0\n[kohya]\nmin_timestep = 'a'\nloss_type = 'l3'\n", "", {
        ("unknown-key", "train.lr"), ("S1", "kohya.min_timestep"), ("S1", "kohya.loss_type")}),
    ("[kohya]\nhuber_c = 1979-05-27\nhuber_x = 1.0\nnetwork_dim = 3\n", "", {
        ("wrong-type", "kohya.huber_c"), ("S1", "kohya.huber_x"), ("S1", "kohya.network_dim")}),
    ('[network]\nnetwork_dim = "a"\nnetwork_weights = "no.safetensors"\n[base]\nvae = "no.pt"\n', "base", {
        ("wrong-type", "network.network_dim"), ("missing-file", "network.network_weights"),
        ("missing-file", "base.vae")}),
    ('[[concept]]\ntoken = "b"\nimages = "nowhere"\nnum_repeats = 0\n', "", {
        ("out-of-range", "concept[1].num_repeats"), ("G4.9", "concept[1].images")}),
    ('[[concept]]\ntoken = "b"\n[train]\nmax_train_epochs = 2\nexposures = 3\n', "", {
        ("missing-key", "concept[1].images"), ("G4.36", "train.exposures")}),
    # mistakes that would cause others: only the first is reported
    ('[train]\noptimizer = "Prodgy"\nlearning_rate = 1e-4\n', "", {("GC.12.class", "train.optimizer")}),
    ('[train]\noptimizr = "AdamW"\nlearning_rate = 1e-4\n', "", {("unknown-key", "train.optimizr")}),
    ('[trian]\noptimizer = "AdamW"\n[train]\nlearning_rate = 1e-4\n', "", {("unknown-key", "trian")}),
    ('[train]\nbucket_reso_steps = "32"\nresolution = 736\n', "", {("wrong-type", "train.bucket_reso_steps")}),
    ("[train]\nresolution = 7\nmax_bucket_reso = 512\n", "", {("out-of-range", "train.resolution")}),
    ('[network]\ntype = "lokon"\nconv_dim = 4\nfactor = 3\n', "", {("S37.type", "network.type")}),
    ("[train]\nnoise_ofset = 0.1\n[kohya]\nadaptive_noise_scale = 0.1\n", "", {("unknown-key", "train.noise_ofset")}),
    ('[captions]\ncaption_extension = "txt"\n', "", {("out-of-range", "captions.caption_extension")}),
    ('[kohya]\nlr_scheduler_args = 1979-05-27\nlr_scheduler_type = "StepLR"\n', "", {
        ("wrong-type", "train.lr_scheduler_args")}),
]  # fmt: skip


@pytest.mark.parametrize(("more", "table", "expected"), SEVERAL, ids=[" ".join(more.split()) for more, _, _ in SEVERAL])
def test_all_in_one_report_and_no_follow_up(home: Path, more: str, table: str, expected: set[Where]) -> None:
    text = RECIPE
    if table:
        more, _, lines = more.partition(f"[{table}]\n")
        text = text.replace(f"[{table}]\n", f"[{table}]\n{lines}")
    assert errors(home, text + more) - {EMPTY_CAPTION} == expected


def test_a_family_that_is_not_known_hides_no_other_mistake(home: Path) -> None:
    text = RECIPE.replace('family = "sd15"', 'family = "sd1.5"') + "[kohya]\nhuber_x = 1.0\n"
    assert errors(home, text) == {("bad-choice", "base.family"), ("S1", "kohya.huber_x"), EMPTY_CAPTION}


def test_a_ignore_counts_in_a_faulty_recipe_too(home: Path) -> None:
    ignored = examined(home, RECIPE + '[[ignore]]\nrule = "G1.2"\nreason = "a trial"\n[train]\nseed = "x"\n')
    assert "G1.2" not in {finding.rule for finding in ignored.findings}
    assert [each.finding.rule for each in ignored.ignored] == ["G1.2"]


def leaves(raw: dict[str, Any], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for key, value in raw.items():
        if isinstance(value, dict):
            found += [(*path, key), *leaves(cast("dict[str, Any]", value), (*path, key))]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found += [(*path, key), *leaves(cast("dict[str, Any]", value[0]), (*path, key, 0))]
        else:
            found.append((*path, key))
    return found


@pytest.mark.parametrize("wrong", [1979, "a date", "unknown"])
def test_no_broken_key_causes_a_finding_elsewhere(home: Path, wrong: object) -> None:
    """Each key of a large recipe broken, removed and misspelled: no finding that the intact recipe does not have."""
    raw = tomllib.loads(RICH + '[[regularization]]\nclass = "food"\nimages = "other"\n')
    whole = {(finding.rule, finding.key) for finding in examined(home, tomli_w.dumps(raw)).findings}
    for path in leaves(raw):
        broken = copy.deepcopy(raw)
        inside: Any = broken
        for part in path[:-1]:
            inside = inside[part]
        if wrong == "unknown":
            inside[path[-1][:-1] + "_"] = inside.pop(path[-1])
        else:
            inside[path[-1]] = tomllib.loads("x = 1979-05-27")["x"]
            if wrong == 1979:
                inside[path[-1]] = [[]]
        found = examined(home, tomli_w.dumps(broken)).findings
        shape = {"wrong-type", "unknown-key", "missing-key", "bad-choice", "out-of-range"}
        if "kohya" in path or "optimizer_args" in path:
            shape |= {"S1", "GC.12"}  # which know these keys in place of the schema
        extra = {(f.rule, f.key) for f in found if f.rule not in shape} - whole
        assert not extra, path
        assert any(finding.rule in shape and finding.severity is Severity.ERROR for finding in found), path
