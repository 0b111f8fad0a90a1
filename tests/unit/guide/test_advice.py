"""What a finding says to write is written: then the finding is gone, and no error has come in its place."""

from __future__ import annotations

import copy
import importlib
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lorabake.errors import RecipeError
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.recipe import Recipe
from situations import Fires, plan_of

HERE = Path(__file__).parent
FIRES: list[Fires] = [
    each
    for module in sorted(HERE.glob("test_guide_*.py"))
    for each in getattr(importlib.import_module(module.stem), "FIRES", [])
]
OF_FILES = {"G4.9"}  # whose advice names a folder, which a situation without a disk has not
VALUE = r'("[^"]*"|\[[^\]]*\]|\{[^}]*\}|true|false|-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w-])'
SETS = re.compile(r"(?:write|add|set|and) (\w+) = " + VALUE + r"(?: under \[(\w+)\])?")
WRITES = re.compile(r"^write " + VALUE + r"(?: or less| or more|, or remove it| unless.*|[:;].*)?$")
MEANT = re.compile(r'^did you mean "?(\w+)"?\?$')
TAKES_OUT = re.compile(r"remove (this line|\w+)")
ALTERNATIVES = re.compile(r"under \[\w+\], or (?!remove)|\d, or (?!remove)")
REMOVES = re.compile(r"remove (?:it|the line|this line)\b")
Raw = dict[str, Any]


def has_item(table: Any, key: str | int) -> bool:
    return isinstance(key, int) or key in table


def table_of(raw: Raw, where: tuple[str | int, ...]) -> Any:
    inside: Any = raw
    for part in where:
        inside = inside[part] if isinstance(part, int) else inside.setdefault(part, {})
    return inside


def remedies(finding: Finding, raw: Raw) -> list[Raw]:
    """The recipe as each alternative of the advice would have it; none where it takes a person to follow it."""
    fix, where = str(finding.fix), tuple(finding.where)
    found: list[Raw] = []
    sets = [each for each in SETS.finditer(fix) if "..." not in each[2]]
    together = " and " in fix and not ALTERNATIVES.search(fix)
    done = copy.deepcopy(raw)
    for each in sets:
        done = done if together else copy.deepcopy(raw)
        table_of(done, (each[3],) if each[3] else where[:-1])[each[1]] = tomllib.loads(f"x = {each[2]}")["x"]
        if not together:
            found.append(done)
    if sets and together:
        for out in TAKES_OUT.findall(fix):
            table_of(done, where[:-1]).pop(str(where[-1]) if out == "this line" else out, None)
        found.append(done)
    if written := WRITES.match(fix):
        done = copy.deepcopy(raw)
        table_of(done, where[:-1])[where[-1]] = tomllib.loads(f"x = {written[1]}")["x"]
        found.append(done)
    if meant := MEANT.match(fix):
        done = copy.deepcopy(raw)
        inside = table_of(done, where[:-1])
        if '"' in fix:
            inside[str(where[-1])] = meant[1]
        else:
            inside[meant[1]] = inside.pop(str(where[-1]))
        found.append(done)
    if (
        not (together and sets)
        and REMOVES.search(fix)
        and where[-1] != "images"
        and has_item(table_of(copy.deepcopy(raw), where[:-1]), where[-1])
    ):
        done = copy.deepcopy(raw)
        del table_of(done, where[:-1])[where[-1]]
        found.append(done)
    return found


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
