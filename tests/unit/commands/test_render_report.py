"""Findings as groups for a terminal, as lines for grep, as JSON, as GitHub's annotations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest

from languages import Backwards
from lorabake.analysis.check import AppliedIgnore, CheckResult, check_recipe
from lorabake.commands.output.findings import (
    SEVERITY_COLORS,
    findings_to_json,
    format_brief,
    format_concise,
    format_full,
    format_github,
    format_report,
    sort_findings,
)
from lorabake.commands.output.layout import TextLayout
from lorabake.recipe.load import LoadedRecipe
from lorabake.recipe.overrides import Override
from lorabake.util.i18n import Translator
from lorabake_schemas.check_report import CheckReport
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal, msg, shorten_list
from situations import CPU, GPU, concept, project, recipe

PIPE, SCREEN = TextLayout(), TextLayout(width=80)


def plain(text: str) -> str:
    return click.unstyle(text)


def finding(**more: object) -> Finding:
    fields: dict[str, object] = {"rule": "S27", "severity": Severity.ERROR, "message": "what", "fix": "do"}
    return Finding.model_validate(fields | more)


def examined(*findings: Finding, concepts: int = 1, ignored: tuple[AppliedIgnore, ...] = ()) -> CheckResult:
    of = recipe(concepts=[concept(f"t{n}", f"pics{n}") for n in range(concepts)])
    loaded = LoadedRecipe(Path("r.toml"), b"", of, None, ())
    return CheckResult(loaded, of, None, DatasetFacts(), CPU, None, findings, ignored)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"where": ("train", "unet_lr"), "line": 7}, "r.toml:7: error[S27] train.unet_lr: what; do"),
        ({"where": ("concept", 0, "images"), "line": 3}, "r.toml:3: error[S27] concept#1.images: what; do"),
        ({"where": ("concept", 1, "images"), "line": 3}, "r.toml:3: error[S27] concept#2.images: what; do"),
        ({"where": ("ignore", 0)}, "r.toml: error[S27] ignore#1: what; do"),
        ({"where": ("sample", "prompts", 1)}, "r.toml: error[S27] sample.prompts#2: what; do"),
        ({"where": ("train",)}, "r.toml: error[S27] train: what; do"),
        ({"severity": Severity.HINT, "line": 1}, "r.toml:1: hint[S27] what; do"),
        ({"message": "two\nlines"}, "r.toml: error[S27] two\\nlines; do"),
        ({"message": "a\x1b[2Jb"}, "r.toml: error[S27] a\\x1b[2Jb; do"),
    ],
)
def test_a_finding_in_one_line(more: dict[str, object], line: str) -> None:
    assert plain(format_concise(examined(finding(**more), concepts=2), PIPE)).splitlines()[0] == line


def test_where_there_is_one_concept_it_has_no_number() -> None:
    found = examined(finding(where=("concept", 0, "images")))
    assert "error[S27] concept.images: what; do" in plain(format_concise(found, PIPE))


def test_colour_is_by_severity() -> None:
    heads = {format_concise(examined(finding(severity=severity)), PIPE).split("[S27]")[0] for severity in Severity}
    assert len(heads) == len(set(SEVERITY_COLORS.values())) == 3


def test_errors_come_first_and_the_dataset_before_the_settings() -> None:
    found = examined(
        finding(severity=Severity.WARNING, where=("train", "seed"), message="1"),
        finding(severity=Severity.WARNING, where=("concept", 0), message="2"),
        finding(where=("base", "model"), message="3"),
        finding(where=("captions", "keep_tokens"), message="4"),
        finding(where=("concept", 0), message="5"),
    )
    assert [line.split(": ")[2][0] for line in plain(format_concise(found, PIPE)).splitlines()[:-1]] == list("45321")
    said = plain(format_full(found, SCREEN))
    assert [said.index(f"    {n}\n") for n in "45321"] == sorted(said.index(f"    {n}\n") for n in "45321")
    assert [f["message"] for f in json.loads(findings_to_json(found))["findings"]] == list("45321")


def test_a_long_list_is_complete_in_json_and_the_report_says_so() -> None:
    names = [f"{number}.txt" for number in range(9)]
    said = msg("{n} captions: {names}", n=9, names=shorten_list(names, 3, literal))
    found = examined(finding(message=said))
    assert "8.txt" not in format_concise(found, PIPE)
    assert format_concise(found, PIPE).endswith("--json shows complete lists")
    assert json.loads(findings_to_json(found))["findings"][0]["message"] == f"9 captions: {', '.join(names)}"
    assert "--json" not in format_concise(examined(finding()), PIPE)


def test_findings_of_one_severity_are_sorted_by_line() -> None:
    found = examined(
        finding(where=("train", "seed"), message="1"),
        finding(where=("train", "seed"), message="2", line=9),
        finding(where=("base", "model"), message="3", line=4),
        finding(where=("train", "seed"), message="4", line=9),
        finding(where=("concept", 0), message="5", line=20),
        finding(where=("captions",), message="6", line=12),
    )
    assert [each.message for each in sort_findings(found.findings)] == list("653241")


def test_commands_that_go_on_tell_warnings_and_count_hints(tmp_path: Path) -> None:
    text = "flip_aug = true\n[train]\nmax_train_steps = 100\n"
    found = check_recipe(project(tmp_path, text), GPU)
    severities = [each.severity for each in found.findings]
    assert (Severity.ERROR in severities, Severity.WARNING in severities, Severity.HINT in severities) == (0, 1, 1)
    path = found.loaded.path
    *warnings, last = plain(format_brief(found, PIPE)).splitlines()
    assert len(warnings) == severities.count(Severity.WARNING)
    assert all(" warning[" in line for line in warnings)
    number = severities.count(Severity.HINT)
    assert last.startswith(f"{path}: {number} hint")
    assert f"`lorabake check {path}`" in last
    override = Override("metadata.comment=a b", ("metadata", "comment"), '"a b"')
    typed = replace(found, loaded=replace(found.loaded, overrides=(override,)))
    assert f"`lorabake check {path} --set 'metadata.comment=a b'`" in plain(format_brief(typed, PIPE))
    deep = replace(found, deep=True, snapshot=found.snapshot.model_copy(update={"commit": "e" * 40}))
    assert f"`lorabake check {path} --commit {'e' * 40} --deep`" in plain(format_brief(deep, PIPE))
    screen = plain(format_brief(found, SCREEN))
    assert screen.splitlines()[0] == str(path)
    assert not re.search(r"^\d+ hint", plain(format_brief(found, TextLayout(width=500))), re.MULTILINE)
    assert format_brief(examined(finding()), PIPE) == format_report(examined(finding()), PIPE)
    only = replace(found, findings=tuple(each for each in found.findings if each.severity is Severity.HINT))
    assert len(plain(format_brief(only, PIPE)).splitlines()) == 1
    assert format_brief(replace(found, findings=()), PIPE) == ""


def test_hints_are_shown_where_no_command_would_show_them(tmp_path: Path) -> None:
    """Of a run's recipe, which the file in its place may no longer be."""
    path = project(tmp_path, "flip_aug = true\n[train]\nmax_train_steps = 100\n")
    content = path.read_bytes()
    assert check_recipe(path, GPU, content=content).loaded.on_disk
    path.write_bytes(content + b"# edited")
    found = check_recipe(path, GPU, content=content)
    text = plain(format_brief(found, PIPE))
    assert "`lorabake check" not in text
    assert len(text.splitlines()) == len(found.findings)
    path.unlink()
    assert not check_recipe(path, GPU, content=content).loaded.on_disk


def test_on_a_terminal_the_file_is_named_once_and_the_fix_has_its_own_line() -> None:
    long = "word " * 30
    found = examined(finding(where=("train", "seed"), line=4, message=long), finding(severity=Severity.HINT, fix=long))
    rows = plain(format_full(found, SCREEN)).splitlines()
    assert rows[:6] == ["r.toml", "", "1 error", "", "  train.seed  line 4  S27", "    " + ("word " * 15).strip()]
    assert rows[7] == "    → do"
    assert rows[9:12] == ["1 hint", "", "  S27"]
    assert rows[-2:] == [
        "r.toml: 1 error, no warnings, 1 hint; fix these first; the remaining checks run",
        "after that",
    ]
    assert max(map(len, rows)) <= 80
    assert sum("r.toml" in row for row in rows) == 2
    assert plain(format_full(found, TextLayout(width=80, arrow="->"))).splitlines()[7] == "    -> do"


@pytest.mark.parametrize("width", [40, 80, 132, 300])
def test_every_line_fits_the_terminal(width: int, tmp_path: Path) -> None:
    text = "flip_aug = true\nasymmetric = true\n[network]\nnetwork_dim = 128\n"
    found = check_recipe(project(tmp_path, text), GPU)
    rows = plain(format_full(found, TextLayout(width=width))).splitlines()
    path = str(found.loaded.path)
    assert [row for row in rows if len(row) > width and path not in row] == []


def test_a_page_with_a_width_is_a_terminal() -> None:
    found = examined(finding())
    assert format_report(found, PIPE) == format_concise(found, PIPE)
    assert format_report(found, SCREEN) == format_full(found, SCREEN)


def test_nothing_to_say_is_one_line() -> None:
    assert format_full(examined(), SCREEN) == "r.toml: no errors, no warnings, no hints"


def test_a_report_sums_up(tmp_path: Path) -> None:
    path = project(tmp_path, "flip_aug = true\nasymmetric = true\n[network]\nnetwork_dim = 128\n")
    rows = plain(format_concise(check_recipe(path, GPU), PIPE)).splitlines()
    assert [row.split(" ")[1].split("[")[0] for row in rows[:-1]] == ["error", "warning", "warning"]
    rest = "; fix these first; the remaining checks run after that"
    assert rows[-1] == f"{path}: 1 error, 2 warnings, no hints{rest}"


def test_a_good_report_tells_the_size_of_the_run(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=30)
    assert plain(format_report(check_recipe(path, GPU), PIPE)) == (
        f"{path}: no errors, no warnings, no hints; 30 samples per epoch, 100 epochs, 3000 steps"
    )


def test_ignored_findings_are_shown_with_their_reason(tmp_path: Path) -> None:
    path = project(tmp_path, '[[ignore]]\nrule = "G1.2"\nreason = "only a trial"\n')
    found = check_recipe(path, GPU)
    rows = plain(format_concise(found, PIPE)).splitlines()
    assert rows[0].endswith("(ignored: only a trial)")
    assert rows[-1].startswith(f"{path}: no errors, no warnings, no hints, 1 ignored; ")
    rows = plain(format_full(found, SCREEN)).splitlines()
    assert rows[2] == "1 ignored"
    assert "    ignored because: only a trial" in rows


def test_another_language_is_spoken_in_every_form() -> None:
    page = TextLayout(Translator("xx", Backwards()), 80)
    found = examined(finding(message=msg("what"), fix=msg("do"), line=3))
    assert "~what; ~do" in plain(format_concise(found, page))
    assert "~1 error\n\n  ~line 3  S27\n    ~what\n    → ~do\n" in plain(format_full(found, page))
    assert "::~what%0A~do" in format_github(found, page, Path("/"))
    assert '"message": "what"' in findings_to_json(found)


def test_json_is_what_the_schema_says(tmp_path: Path) -> None:
    path = project(tmp_path, '[network]\nnetwork_dim = 128\n[[ignore]]\nrule = "G1.2"\nreason = "only a trial"\n')
    table = json.loads(findings_to_json(check_recipe(path, GPU)))
    assert list(table) == ["version", "recipe", "findings", "ignored", "forecast"]
    assert table["version"] == 1
    assert [(f["rule"], f["where"], f["line"]) for f in table["findings"]] == [
        ("G4.71", ["network", "network_dim"], 14)
    ]
    assert table["ignored"][0]["reason"] == "only a trial"
    assert table["forecast"]["steps"] == 300
    assert CheckReport.model_validate_json(json.dumps(table)).forecast is not None


def test_json_without_a_plan(tmp_path: Path) -> None:
    table = json.loads(findings_to_json(check_recipe(project(tmp_path, "oops\n"), GPU)))
    assert table["forecast"] is None
    assert table["findings"][0]["rule"] == "toml-syntax"


def test_github_shows_every_finding_beside_its_line() -> None:
    found = examined(
        finding(where=("train", "seed"), line=4, column=9, message="100% wrong, really", fix="a: b"),
        finding(severity=Severity.WARNING, rule="G1.1", message="two\r\nlines"),
        finding(severity=Severity.HINT, where=("base", "a,b:c%"), line=1),
        ignored=(AppliedIgnore(finding(message="ignored"), "because"),),
    )
    assert format_github(found, PIPE, Path("/work")).splitlines() == [
        "::error file=r.toml,line=4,col=9,title=lorabake S27 train.seed::100%25 wrong, really%0Aa: b",
        "::warning file=r.toml,title=lorabake G1.1::two\\r\\nlines%0Ado",
        "::notice file=r.toml,line=1,title=lorabake S27 base.a%2Cb%3Ac%25::what%0Ado",
        "r.toml: 1 error, 1 warning, 1 hint, 1 ignored; fix these first; the remaining checks run after that",
    ]


@pytest.mark.parametrize(
    ("path", "file"),
    [("r.toml", "r.toml"), ("/here/a b/r.toml", "a b/r.toml"), ("/there/r,1.toml", "/there/r%2C1.toml")],
)
def test_github_wants_paths_from_where_it_stands(path: str, file: str) -> None:
    found = examined(finding())
    loaded = LoadedRecipe(Path(path), b"", found.recipe, None, ())
    moved = CheckResult(loaded, found.recipe, None, DatasetFacts(), CPU, None, found.findings)
    assert f" file={file},title" in format_github(moved, PIPE, Path("/here"))
