"""Brings the catalogues of translations up to date with the sentences in the source (`make catalogues`).

    python wrapper/catalogues.py            writes every .po and .mo below lorabake/locale
    python wrapper/catalogues.py --check    says what is out of date or not translated yet, and writes nothing

What is gone from the source goes from the catalogues; what is new comes without a translation, or, marked fuzzy, with
that of a sentence much like it. No dates, line numbers or names of files: same sentences, same bytes.
"""

from __future__ import annotations

import ast
import io
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

HERE = Path(__file__).parent
LOCALE = HERE / "lorabake" / "locale"
ROOTS = (HERE / "lorabake", HERE.parent / "schemas" / "lorabake_schemas")
LANGUAGES = ("en", "pt_BR")
# The plural forms of both languages: "1 image" has its own, "0 images" has not. They are stated here because Babel's
# table changes between its versions, and because CLDR's Portuguese ("0 imagem") is not how Brazilians speak.
PLURAL_FORMS = "nplurals=2; plural=(n != 1);"
HEADER = (
    "Content-Transfer-Encoding: 8bit",
    "Content-Type: text/plain; charset=UTF-8",
    "Language: {language}",
    "MIME-Version: 1.0",
    f"Plural-Forms: {PLURAL_FORMS}",
    "Project-Id-Version: lorabake",
)
WORDS = {"msg": (0,), "nmsg": (1, 2)}  # which arguments of theirs are templates
Template = tuple[str, ...]  # one form, or one and many


class NotLiteralError(ValueError):
    """A template that cannot be collected, because it is made while the program runs."""


def templates(source: str, name: str) -> Iterator[Template]:
    """Every template of one file, in its order. Raises NotLiteralError for one that is no string literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORDS:
            wanted = [node.args[place] if place < len(node.args) else None for place in WORDS[node.func.id]]
            found = tuple(
                each.value for each in wanted if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )
            if len(found) != len(wanted):
                raise NotLiteralError(f"{name}:{node.lineno}: {node.func.id}() takes string literals")
            yield found


def sources() -> Iterator[Path]:
    """Every file that may speak to a person; the trainer's own scripts know nothing of lorabake."""
    for root in ROOTS:
        yield from (path for path in sorted(root.rglob("*.py")) if "scripts" not in path.parts)


def collected() -> tuple[Template, ...]:
    """Every template of the source, once and sorted. A sentence with one form and with two is kept with two."""
    found = {each for path in sources() for each in templates(path.read_text(encoding="utf-8"), str(path))}
    ones = {one for one, *many in found if many}
    return tuple(sorted(each for each in found if len(each) > 1 or ones.isdisjoint(each)))


def empty() -> Catalog:
    """A catalogue with lorabake's plural forms. It has no locale: Babel would take its own forms from that."""
    catalogue = Catalog()
    catalogue.mime_headers = [("Plural-Forms", PLURAL_FORMS)]
    return catalogue


def read(text: str) -> Catalog:
    """A .po file's catalogue, with the plural forms that its header has."""
    return read_po(io.BytesIO((text or po_text(empty(), "")).encode()), domain="lorabake")


def updated(text: str, language: str, wanted: Iterable[Template]) -> Catalog:
    """The catalogue with exactly the wanted templates; English speaks for itself."""
    template = empty()
    for each in wanted:
        one, *many = each
        identity = each if many else one
        template.add(identity, identity if language == "en" else "")
    if language == "en":
        return template
    catalogue = read(text)
    catalogue.update(template)
    return catalogue


def messages(catalogue: Catalog) -> list[Message]:
    """Everything but the header, sorted."""
    return sorted((each for each in catalogue if each.id), key=lambda each: _parts(each.id))


def _parts(words: str | Sequence[str] | None) -> Template:
    return (words,) if isinstance(words, str) else tuple(words or ("",))


def po_text(catalogue: Catalog, language: str) -> str:
    """As a .po file. The rest of what Babel would put into the header changes with the day and with Babel."""
    plain = empty()
    for each in messages(catalogue):
        flags = each.flags - {"python-format"}  # a percent sign is one
        plain.add(each.id, each.string, flags=flags, user_comments=each.user_comments)
    out = io.BytesIO()
    write_po(out, plain, width=0, no_location=True, omit_header=True)
    head = "".join(f'"{line}\\n"\n' for line in _header(language))
    return f'msgid ""\nmsgstr ""\n{head}\n{out.getvalue().decode()}'


def _header(language: str) -> list[str]:
    return [line.format(language=language) for line in HEADER]


def mo_bytes(catalogue: Catalog, language: str) -> bytes:
    """As a .mo file, the table that gettext reads: only what is translated and not fuzzy."""
    head = "".join(f"{line}\n" for line in _header(language))
    pairs = {b"": head.encode()}
    for each in messages(catalogue):
        said = _parts(each.string)
        if all(said) and not each.fuzzy:
            pairs["\0".join(_parts(each.id)).encode()] = "\0".join(said).encode()
    ids, said_bytes = zip(*sorted(pairs.items()), strict=True)
    tables = 28 + 16 * len(ids)  # after the head and two tables of (length, offset)
    table, data = _table((*ids, *said_bytes), tables)
    return struct.pack("<7I", 0x950412DE, 0, len(ids), 28, 28 + 8 * len(ids), 0, 28) + table + data


def _table(strings: Sequence[bytes], offset: int) -> tuple[bytes, bytes]:
    table = data = b""
    for each in strings:
        table += struct.pack("<2I", len(each), offset + len(data))
        data += each + b"\0"
    return table, data


def open_points(catalogue: Catalog) -> list[str]:
    """The sentences that are not translated, or only by guess."""
    return [_parts(each.id)[0] for each in messages(catalogue) if each.fuzzy or not all(_parts(each.string))]


def folder(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES"


def main(argv: Sequence[str]) -> int:
    """Exit code 1 when --check finds something to do."""
    check, wanted, stale = "--check" in argv, collected(), False
    for language in LANGUAGES:
        po, mo = folder(language) / "lorabake.po", folder(language) / "lorabake.mo"
        before = po.read_text(encoding="utf-8") if po.exists() else ""
        catalogue = updated(before, language, wanted)
        text, compiled = po_text(catalogue, language), mo_bytes(catalogue, language)
        still = open_points(catalogue)
        print(f"{language}: {len(messages(catalogue))} sentences, {len(still)} to translate")
        stale |= bool(still) or text != before or not mo.exists() or mo.read_bytes() != compiled
        if not check:
            po.parent.mkdir(parents=True, exist_ok=True)
            po.write_text(text, encoding="utf-8", newline="\n")
            mo.write_bytes(compiled)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
