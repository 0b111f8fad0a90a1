"""Findings, plans and lists as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from lorabake import render, resources
from lorabake.examine import examine
from lorabake.trainer.install import Trainer, TrainerStatus
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import Record
from situations import CPU, GPU, plan_of, project, recipe


def plain(text: str) -> str:
    return click.unstyle(text)


def finding(**more: object) -> Finding:
    fields: dict[str, object] = {"rule": "S27", "severity": Severity.ERROR, "message": "what", "fix": "do"}
    return Finding.model_validate(fields | more)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"where": ("train", "unet_lr"), "line": 7}, "r.toml:7: error[S27] train.unet_lr: what; do"),
        ({"where": ("concept", 1, "images"), "line": 3}, "r.toml:3: error[S27] concept[1].images: what; do"),
        ({"where": ("train",)}, "r.toml: error[S27] train: what; do"),
        ({"severity": Severity.HINT, "line": 1}, "r.toml:1: hint[S27] what; do"),
    ],
)
def test_a_finding_in_one_line(more: dict[str, object], line: str) -> None:
    assert plain(render.finding_line(finding(**more), Path("r.toml"))) == line


def test_colour_is_by_severity() -> None:
    lines = {s: render.finding_line(finding(severity=s), Path("r")) for s in Severity}
    assert len({line.split("[", 2)[1] for line in lines.values()}) == 3


def test_a_report_has_errors_first_and_sums_up(tmp_path: Path) -> None:
    path = project(tmp_path, "flip_aug = true\nasymmetric = true\n[network]\nnetwork_dim = 128\n")
    rows = plain(render.report(examine(path, GPU))).splitlines()
    assert [row.split(" ")[1].split("[")[0] for row in rows[:-1]] == ["error", "warning", "warning"]
    assert rows[-1] == f"{path}: 1 error, 2 warnings, no hints"


def test_a_good_report_tells_the_size_of_the_run(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=30)
    assert plain(render.report(examine(path, GPU))) == (
        f"{path}: no errors, no warnings, no hints; 30 samples an epoch, 100 epochs, 3000 steps"
    )


def test_waived_findings_are_shown_with_their_reason(tmp_path: Path) -> None:
    path = project(tmp_path, '[[waive]]\nrule = "G1.2"\nreason = "only a trial"\n')
    rows = plain(render.report(examine(path, GPU))).splitlines()
    assert rows[0].endswith("(waived: only a trial)")
    assert rows[-1].startswith(f"{path}: no errors, no warnings, no hints, 1 waived; ")


def test_a_report_as_json_has_everything(tmp_path: Path) -> None:
    path = project(tmp_path, '[network]\nnetwork_dim = 128\n[[waive]]\nrule = "G1.2"\nreason = "only a trial"\n')
    table = json.loads(render.report_json(examine(path, GPU)))
    assert list(table) == ["version", "recipe", "findings", "waived", "forecast"]
    assert table["version"] == 1
    assert [(f["rule"], f["where"], f["line"]) for f in table["findings"]] == [
        ("G4.71", ["network", "network_dim"], 14)
    ]
    assert table["waived"][0]["reason"] == "only a trial"
    assert table["forecast"]["steps"] == 300


def test_a_report_as_json_without_a_plan(tmp_path: Path) -> None:
    table = json.loads(render.report_json(examine(project(tmp_path, "oops\n"), GPU)))
    assert table["forecast"] is None
    assert table["findings"][0]["rule"] == "toml-syntax"


def test_a_plan_names_every_setting_with_its_source() -> None:
    plan = plan_of(recipe(regularisation=[{"class": "food", "images": "reg"}], train={"seed": 7}))
    text = plain(render.plan_text(plan))
    rows = {row.split()[0]: row.split() for row in text.splitlines() if row.startswith("  ")}
    for setting in (*plan.train, *plan.dataset):
        assert setting.option in rows
    assert rows["seed"][1:] == ["7", "recipe"]
    assert rows["network_dim"][1:] == ["32", "G4.70"]
    assert rows["enable_bucket"][1] == "true"
    assert "concept hmbrgrlora (30 pictures)" in text
    assert "regularisation food (30 pictures)" in text
    assert text.splitlines()[0] == "hmbrgrlora: train_network.py, sd15"


def test_a_forecast_counts_samples_buckets_and_files() -> None:
    rows = "\n".join(render.forecast_lines(plan_of(recipe(train={"max_train_epochs": 2})).forecast))
    text = plain(rows)
    assert "30 samples an epoch, 2 epochs, 60 steps" in text
    assert "768x768 (30)" in text
    assert "hmbrgrlora-000001.safetensors, hmbrgrlora.safetensors" in text
    assert "30 pictures x 1" in text


def test_one_of_a_thing_is_not_many() -> None:
    text = plain("\n".join(render.forecast_lines(plan_of(recipe(train={"max_train_epochs": 1})).forecast)))
    assert "1 epoch, " in text


def test_a_plan_as_json_reads_back() -> None:
    plan = plan_of(recipe())
    assert Plan.model_validate_json(render.plan_json(plan)) == plan


def test_the_list_of_recipes_says_what_each_is_for() -> None:
    texts = {name: resources.recipe_text(name) for name in resources.recipe_names()}
    rows = render.recipe_list(texts).splitlines()
    assert [row.split()[0] for row in rows] == list(resources.recipe_names())
    assert all(len(row.split(maxsplit=1)[1]) > 15 and "#" not in row for row in rows)


def record(status: str, outcome: dict[str, object] | None) -> Record:
    digest = {"name": "recipe.toml", "sha256": "0", "size": 1}
    fields: dict[str, object] = {
        "lorabake": "0", "name": "x", "rehearsal": False, "status": status, "started": "now", "recipe": digest,
        "compiled": [], "seed": 1, "trainer": {"kind": "pin", "python": "py"}, "machine": CPU.model_dump(), "argv": [],
        "cwd": "/", "environment": {}, "planned_steps": 3, "outcome": outcome,
    }  # fmt: skip
    return Record.model_validate(fields)


def test_a_good_end_names_the_file() -> None:
    file = {"name": "output/x.safetensors", "sha256": "0", "size": 12_300_000}
    text = plain(render.ending(record("finished", {"code": "ok", "message": "trained", "outputs": [file]}), Path("r")))
    assert text.splitlines() == [
        "done: trained", "  r/output/x.safetensors (12.3 MB)", "  everything about this run: r",
    ]  # fmt: skip


def test_a_bad_end_shows_the_trainers_last_words() -> None:
    words = [f"line {number}" for number in range(40)]
    outcome: dict[str, object] = {"code": "died", "message": "it died", "hint": "more memory", "last_words": words}
    rows = plain(render.ending(record("failed", outcome), Path("r"))).splitlines()
    assert rows[0] == "failed: it died"
    assert rows[1:-2] == [f"  line {number}" for number in range(40 - render.LAST_WORDS, 40)]
    assert rows[-2:] == ["  more memory", "  everything about this run: r"]
    assert render.ending(record("started", None), Path("r")) == "x: started"


TRAINER = Trainer("pin", Path("sd"), Path("py"), "0123456789abcdef", "cpu", "0", {"torch": "2.13.0"})


def test_trainers() -> None:
    assert render.trainer_line(TRAINER) == "sd-scripts 0123456789ab, cpu packages (torch 2.13.0): sd"
    own = Trainer("own", Path("sd"), Path("py"), None, None, None, {})
    assert render.trainer_line(own).startswith("sd-scripts of an unknown commit,")
    assert render.trainer_line(own).endswith(", own packages (torch ?): sd")
    status = TrainerStatus(Path("h"), "url", "abc", "3.11", TRAINER, (TRAINER,))
    assert render.trainer_status(status, as_json=False).splitlines()[1].startswith("in use: sd-scripts")
    table = json.loads(render.trainer_status(status, as_json=True))
    assert (table["version"], table["commit"], table["in_use"]["lock"]) == (1, "abc", "cpu")
    none = TrainerStatus(Path("h"), "url", "abc", "3.11", None, ())
    assert "not installed" in render.trainer_status(none, as_json=False)
    assert json.loads(render.trainer_status(none, as_json=True))["in_use"] is None


def test_files_that_were_written() -> None:
    assert render.written((Path("a"), Path("b")), as_json=False) == "wrote a\nwrote b"
    assert json.loads(render.written((Path("a"),), as_json=True)) == {"version": 1, "written": ["a"]}
    assert render.copied(Path("my.toml")).endswith("`lorabake check my.toml`")
