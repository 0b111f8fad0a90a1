"""Loads a recipe file (or a shipped one by name) into a Recipe, or every finding that prevents that."""

from __future__ import annotations

import hashlib
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from lorabake.errors import RecipeError
from lorabake.recipe.foreign import START_SIZE, ForeignKind, recognize, recognize_bytes, recognize_table, recognize_text
from lorabake.recipe.overrides import Override, apply_overrides, make_override, resolve_override
from lorabake.recipe.paths import find_windows_path
from lorabake.recipe.prompt_file import PromptFileError, read_prompt_file
from lorabake.recipe.syntax import make_syntax_finding, toml_error_finding
from lorabake.recipe.validation import fill_required_keys, find_field, findings_from_errors, guess_key
from lorabake.util import files
from lorabake.util.files import exists
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.recipe import Recipe, find_written_place, lift_keys
from lorabake_schemas.unjudged import PartialTable
from lorabake_schemas.values import PathReader

Raw = dict[str, Any]
MAX_BYTES = 1 << 20
PROMPTS_KEY = ("sample", "prompts")


@dataclass(frozen=True)
class LoadedRecipe:
    """A loaded recipe. ``recipe`` is None if the file has shape errors; ``salvage`` is then the recipe without the
    faulty keys (see ``unjudged``), so that the rest can be judged. ``content`` is what a run folder gets, with the
    ``overrides`` and the prompts of a file in it; ``source`` is the file's own where that is another. ``on_disk``:
    whether the file at ``path`` has it, without the overrides.
    """

    path: Path
    content: bytes
    recipe: Recipe | None
    salvage: Recipe | None
    findings: tuple[Finding, ...]
    overrides: tuple[Override, ...] = ()
    source: bytes = b""
    on_disk: bool = True

    def find_override(self, where: Sequence[str | int]) -> Override | None:
        """The one that the value at ``where`` comes from."""
        where = find_written_place(where, {each.key for each in self.overrides})
        return next((each for each in reversed(self.overrides) if each.covers(where)), None)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def folder(self) -> Path:
        """What the recipe's paths are relative to."""
        return self.path.parent


def load_recipe(
    path: Path, content: bytes | None = None, overrides: Sequence[Override] = (), home: str | None = None
) -> LoadedRecipe:
    """Read and validate; ``content`` is taken as if it lay at ``path``, and ``home`` is what ~ means in a path.

    Raises RecipeError when the file cannot be read at all, or has no place for one of the ``overrides``.
    """
    if content is not None:
        return replace(_load_content(path, content, overrides, home), on_disk=_has_content(path, content))
    if (other := _recognize_file(path)) is not None:
        return LoadedRecipe(path, b"", None, None, (_make_foreign_finding(other, path),))
    return _load_content(path, _read_file(path), overrides, home)


def _recognize_file(path: Path) -> ForeignKind | None:
    """What a file is that is not text; None where it cannot be read, too."""
    try:
        with files.open_file(path) as file:
            return recognize_bytes(file.read(START_SIZE))
    except (OSError, ValueError):
        return None


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return _read_file(path) == content
    except RecipeError:
        return False


def _load_content(path: Path, content: bytes, overrides: Sequence[Override], home: str | None) -> LoadedRecipe:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        said = msg("byte {number} is not UTF-8", number=error.start)
        found = make_syntax_finding(said, msg("save the file as UTF-8"), line, None)
        return LoadedRecipe(path, content, None, None, (found,))
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _foreign_finding(recognize_text(text), path) or toml_error_finding(error, text)
        return LoadedRecipe(path, content, None, None, (found,))
    except (RecursionError, ValueError):  # brackets within brackets without end; a number of thousands of digits
        said = msg("not a valid recipe: a list or a number in it is too long")
        found = make_syntax_finding(said, msg("remove it"), None, None)
        return LoadedRecipe(path, content, None, None, (found,))
    if foreign := _foreign_finding(recognize_table(raw), path):
        return LoadedRecipe(path, content, None, None, (foreign,))
    if not overrides:
        return _validate(path, content, raw, home)
    overrides = [resolve_override(override, raw) for override in overrides]
    text, raw = apply_overrides(text, raw, overrides)
    return replace(_validate(path, text.encode(), raw, home), overrides=tuple(overrides), source=content)


def _write_prompts(content: bytes, raw: Raw, prompts: Sequence[str]) -> bytes:
    """The recipe's text with its prompts in place of the file that has them: a run folder has all of its recipe."""
    text, _ = apply_overrides(content.decode("utf-8-sig"), raw, [make_override(PROMPTS_KEY, list(prompts))])
    return text.encode()


def _foreign_finding(what: ForeignKind | None, path: Path) -> Finding | None:
    return None if what is None else _make_foreign_finding(what, path)


def _make_foreign_finding(what: ForeignKind, path: Path) -> Finding:
    said = msg("this is {what}, not a recipe of lorabake", what=what.label)
    return Finding(rule="foreign-file", severity=Severity.ERROR, message=said, fix=advise_foreign(what, path))


def advise_foreign(what: ForeignKind, path: Path) -> Message:
    """What to do with a file that is not a recipe."""
    if what.fix is not None:
        return what.fix
    if what.name:
        return msg("make a recipe of it: `{command}`", command=shlex.join(["lorabake", "import", str(path)]))
    return msg("write a recipe: `lorabake recipes copy NAME` gives one to start from, docs/recipe.md names its keys")


def find_importable(path: Path) -> ForeignKind | None:
    """What a text is that `lorabake import` reads; None for any other file."""
    try:
        found = recognize(_read_file(path))
    except RecipeError:
        return None
    return found if found is not None and found.name else None


def _read_file(path: Path) -> bytes:
    try:
        return files.read_bytes(path, MAX_BYTES)
    except FileNotFoundError as error:
        hint = msg(
            "`lorabake recipes list` lists the shipped recipes; `lorabake recipes copy NAME` copies one for you to edit"
        )
        raise RecipeError(msg("recipe not found: {path}", path=path), hint=hint) from error
    except OSError as error:
        if files.is_folder(path):
            raise RecipeError(
                msg("{path} is a folder, not a recipe", path=path), hint=_advise_for_folder(path)
            ) from error
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=files.reason(error))) from error
    except ValueError as error:  # characters that no file name has
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=str(error))) from error


def _advise_for_folder(folder: Path) -> Message:
    """Recipes in it, else how a recipe names the folder itself."""
    names = sorted(each.name for each in folder.glob("*.toml"))
    if names:
        return msg("pass a recipe file in it: {names}", names=shorten_list(names, 5, literal))
    return msg("pass a recipe; `lorabake init {folder}` writes one for a folder of images", folder=folder)


def _validate(path: Path, content: bytes, raw: Raw, home: str | None) -> LoadedRecipe:
    def exists_here(name: str) -> bool:
        return exists(path.parent / name)

    reader = PathReader(home, exists_here, partial(find_windows_path, folder=path.parent))
    written = raw
    raw, source, unread = _with_prompts(lift_keys(raw), path.parent, reader)
    try:
        recipe = Recipe.model_validate(raw, context=reader)
        if not unread and source and recipe.sample:
            whole = _write_prompts(content, written, recipe.sample.prompts)
            return LoadedRecipe(path, whole, recipe, None, (), source=content)
        if not unread:
            return LoadedRecipe(path, content, recipe, None, ())
        findings = list[Finding]()
    except ValidationError as error:
        findings = findings_from_errors(error.errors(include_url=False), raw)
    findings = [*unread, *(_in_prompt_file(finding, source) if source else finding for finding in findings)]
    return LoadedRecipe(path, content, None, _salvage_recipe(raw, findings, reader), tuple(findings))


def _with_prompts(raw: Raw, folder: Path, reader: PathReader) -> tuple[Raw, str, list[Finding]]:
    """The recipe with the prompts of the file that it names, the file's name, and what is wrong with the file."""
    sample = raw.get("sample")
    name = cast("Raw", sample).get("prompts") if isinstance(sample, dict) else None
    if not isinstance(name, str) or not name.strip():
        return raw, "", []
    where = reader.home + name[1:] if reader.home and name.startswith("~/") else name
    try:
        lines, found = read_prompt_file(folder / where), list[Finding]()
    except PromptFileError as error:
        fix = msg("write the path of a .txt, .toml or .json file, or a list of prompts")
        lines, found = (
            [name],
            [Finding(rule="wrong-file", severity=Severity.ERROR, where=PROMPTS_KEY, message=error.why, fix=fix)],
        )
    return raw | {"sample": cast("Raw", sample) | {"prompts": lines}}, name, found


def _in_prompt_file(finding: Finding, source: str) -> Finding:
    """About a prompt of a file: which one."""
    if finding.where[:2] != PROMPTS_KEY or len(finding.where) < 3 or not isinstance(finding.where[2], int):
        return finding
    said = msg("{file}, prompt {n}: {problem}", file=source, n=finding.where[2] + 1, problem=finding.message)
    return finding.model_copy(update={"where": PROMPTS_KEY, "message": said})


def _salvage_recipe(raw: Raw, findings: Sequence[Finding], reader: PathReader) -> Recipe | None:
    """The recipe without its faulty keys, of which it gives no answer; None when too little is left."""
    wrong = {find_field(finding.where, raw) for finding in findings}
    rest: object = raw
    for where in wrong:
        rest = _without_key(rest, where)
    try:
        recipe = Recipe.model_validate(fill_required_keys(cast("Raw", rest)), context=reader)
        recipe = recipe.model_copy(deep=True)  # tables that are left out are one object for all recipes
    except (ValidationError, AttributeError, TypeError):
        return None
    for where in wrong:
        _remove_field(recipe, where)
    for finding in findings:
        if finding.rule == "unknown-key":
            for key in _guess_keys(finding.where, raw):
                _remove_field(recipe, key, unset=True)
    return recipe


def _guess_keys(where: Sequence[str | int], raw: Raw) -> list[tuple[str, ...]]:
    """The keys that may have been meant by an unknown one: of a table each that is in it."""
    meant, value = guess_key(tuple(where)), cast("Any", raw)
    for part in where:
        value = value[part]
    return [(*meant, key) for key in cast("Raw", value)] if isinstance(value, dict) and meant else [meant]


def _remove_field(part: object, where: Sequence[str | int], *, unset: bool = False) -> None:
    """Remove the key, so that reading it raises UnjudgedError; of a list without an index in all its entries.

    ``unset``: only if it has no value.
    """
    if not where:
        return
    head, tail = where[0], where[1:]
    if isinstance(part, tuple):
        entries = cast("tuple[object, ...]", part)
        each = entries[head : head + 1] if isinstance(head, int) else entries
        for entry in each:
            _remove_field(entry, tail if isinstance(head, int) else where, unset=unset)
    elif isinstance(part, BaseModel):
        fields = {field.alias or name: name for name, field in type(part).model_fields.items()}
        name = fields.get(str(head), "")
        given = vars(part)
        value: object = given.get(name)
        if tail and isinstance(value, dict):
            known = value.wrong if isinstance(value, PartialTable) else frozenset[str]()
            given[name] = PartialTable(cast("dict[str, object]", value), known | {str(tail[0])})
        elif tail and isinstance(value, BaseModel | tuple):
            _remove_field(cast("object", value), tail, unset=unset)
        elif not tail and not (unset and value):
            given.pop(name, None)


def _without_key(value: object, where: Sequence[str | int]) -> object:
    if not where:
        return value
    head, tail = where[0], where[1:]
    if isinstance(value, list):
        return [_without_key(v, tail) if at == head else v for at, v in enumerate(cast("list[object]", value))]
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return {k: _without_key(v, tail) if k == head else v for k, v in table.items() if tail or k != head}
    return value


def with_positions(findings: Sequence[Finding], loaded: LoadedRecipe) -> tuple[Finding, ...]:
    """The findings with line and column filled in, in the file's order (those about the file itself first)."""
    from lorabake.recipe.positions import find_key_positions, find_position

    if not any(finding.where for finding in findings):
        return tuple(findings)
    positions = find_key_positions((loaded.source or loaded.content).decode("utf-8-sig", "replace"))
    placed: list[Finding] = []
    for finding in findings:
        elsewhere = finding.line or loaded.find_override(finding.where)
        spot = None if elsewhere else find_position(positions, find_written_place(finding.where, positions))
        placed.append(finding.model_copy(update={"line": spot[0], "column": spot[1]}) if spot else finding)
    return tuple(sorted(placed, key=lambda finding: finding.line or 0))
