"""A recipe file (or the name of a shipped one) to a Recipe, or to every finding that stands in its way."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from lorabake import files
from lorabake.errors import RecipeError
from lorabake.reading.shape import field_at, meant_key, shape_findings, with_required
from lorabake.reading.syntax import no_toml, syntax_finding
from lorabake_schemas.findings import Finding
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.unjudged import Partial
from lorabake_schemas.words import say

Raw = dict[str, Any]
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe as read. ``recipe`` is None when the file has shape errors; ``salvage`` then is what is left of it
    when the faulty keys are taken out (see ``unjudged``), so that the rest can be judged."""

    path: Path
    content: bytes
    recipe: Recipe | None
    salvage: Recipe | None
    findings: tuple[Finding, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def folder(self) -> Path:
        """What the recipe's paths are relative to."""
        return self.path.parent


def load(path: Path, content: bytes | None = None) -> LoadedRecipe:
    """Read and validate; ``content`` is taken as if it lay at ``path``. Raises RecipeError when the file cannot be read
    at all."""
    content = _read(path) if content is None else content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        said = say("byte {number} is not UTF-8", number=error.start)
        found = syntax_finding(said, say("save the file as UTF-8"), line, None)
        return LoadedRecipe(path, content, None, None, (found,))
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return LoadedRecipe(path, content, None, None, (no_toml(error, text),))
    except (RecursionError, ValueError):  # brackets within brackets without end; a number of thousands of digits
        said = say("this is no recipe: a list or a number in it goes on without end")
        found = syntax_finding(said, say("take it out"), None, None)
        return LoadedRecipe(path, content, None, None, (found,))
    return _validated(path, content, raw)


def _read(path: Path) -> bytes:
    try:
        return files.read_bytes(path, MAX_BYTES)
    except FileNotFoundError as error:
        hint = say("`lorabake recipes list` shows the shipped ones, `lorabake recipes copy NAME` gives you one to edit")
        raise RecipeError(say("there is no recipe {path}", path=path), hint=hint) from error
    except OSError as error:
        if files.is_folder(path):
            raise RecipeError(say("{path} is a folder; name the recipe file in it", path=path)) from error
        raise RecipeError(say("cannot read {path}: {why}", path=path, why=files.reason(error))) from error
    except ValueError as error:  # characters that no file name has
        raise RecipeError(say("cannot read {path}: {why}", path=path, why=str(error))) from error


def _validated(path: Path, content: bytes, raw: Raw) -> LoadedRecipe:
    try:
        return LoadedRecipe(path, content, Recipe.model_validate(raw), None, ())
    except ValidationError as error:
        details = error.errors(include_url=False)
    findings = shape_findings(details, raw)
    return LoadedRecipe(path, content, None, _salvage(raw, findings), tuple(findings))


def _salvage(raw: Raw, findings: Sequence[Finding]) -> Recipe | None:
    """The recipe without its faulty keys, of which it gives no answer; None when too little is left."""
    wrong = {field_at(finding.where, raw) for finding in findings}
    rest: object = raw
    for where in wrong:
        rest = _without(rest, where)
    try:
        recipe = Recipe.model_validate(with_required(cast("Raw", rest)))
        recipe = recipe.model_copy(deep=True)  # tables that are left out are one object for all recipes
    except (ValidationError, AttributeError, TypeError):
        return None
    for where in wrong:
        _forget(recipe, where)
    for finding in findings:
        if finding.rule == "unknown-key":
            for key in _meant_keys(finding.where, raw):
                _forget(recipe, key, unset=True)
    return recipe


def _meant_keys(where: Sequence[str | int], raw: Raw) -> list[tuple[str, ...]]:
    """The keys that may have been meant by an unknown one: of a table each that is in it."""
    meant, value = meant_key(tuple(where)), cast("Any", raw)
    for part in where:
        value = value[part]
    return [(*meant, key) for key in cast("Raw", value)] if isinstance(value, dict) and meant else [meant]


def _forget(part: object, where: Sequence[str | int], *, unset: bool = False) -> None:
    """Take the key out, so that asking for it raises UnjudgedError; of a list without an index in all its entries.

    ``unset``: only where nothing is given for it.
    """
    if not where:
        return
    head, tail = where[0], where[1:]
    if isinstance(part, tuple):
        entries = cast("tuple[object, ...]", part)
        each = entries[head : head + 1] if isinstance(head, int) else entries
        for entry in each:
            _forget(entry, tail if isinstance(head, int) else where, unset=unset)
    elif isinstance(part, BaseModel):
        fields = {field.alias or name: name for name, field in type(part).model_fields.items()}
        name = fields.get(str(head), "")
        given = vars(part)
        value: object = given.get(name)
        if tail and isinstance(value, dict):
            known = value.wrong if isinstance(value, Partial) else frozenset[str]()
            given[name] = Partial(cast("dict[str, object]", value), known | {str(tail[0])})
        elif tail and isinstance(value, BaseModel | tuple):
            _forget(cast("object", value), tail, unset=unset)
        elif not tail and not (unset and value):
            given.pop(name, None)


def _without(value: object, where: Sequence[str | int]) -> object:
    if not where:
        return value
    head, tail = where[0], where[1:]
    if isinstance(value, list):
        return [_without(v, tail) if at == head else v for at, v in enumerate(cast("list[object]", value))]
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return {k: _without(v, tail) if k == head else v for k, v in table.items() if tail or k != head}
    return value


def with_lines(findings: Sequence[Finding], content: bytes) -> tuple[Finding, ...]:
    """The findings with line and column filled in, in the file's order (those about the whole file first)."""
    from lorabake.reading.positions import key_positions, locate

    if not any(finding.where for finding in findings):
        return tuple(findings)
    positions = key_positions(content.decode("utf-8-sig", "replace"))
    placed: list[Finding] = []
    for finding in findings:
        spot = None if finding.line else locate(positions, finding.where)
        placed.append(finding.model_copy(update={"line": spot[0], "column": spot[1]}) if spot else finding)
    return tuple(sorted(placed, key=lambda finding: finding.line or 0))


__all__ = ["LoadedRecipe", "load", "with_lines"]
