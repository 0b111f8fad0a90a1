"""The one place that writes: what passes to a terminal, and what happens when it cannot be written."""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabake.commands.output import console
from lorabake_schemas.messages import clean_log_line, escape_invisible, literal, msg

NASTY = "a\x1b[2Jb\nc\rd\te\x00f\x7fg\x85h\x9b31mi\u202ej\u2066k\u200bl\u2028m\u061cn\ufeffo\udcffp\U000e0041q\ufdd0r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def is_safe(text: str) -> bool:
    """Whether nothing is in a text that a terminal or a reader could be led by, line breaks included."""
    return not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in text)


def test_text_of_others_is_made_visible() -> None:
    assert is_safe(escape_invisible(NASTY))
    assert escape_invisible(NASTY).startswith("a\\x1b[2Jb\\nc\\rd\\te\\x00f\\x7fg\\x85h")
    assert escape_invisible(escape_invisible(NASTY)) == escape_invisible(NASTY)
    assert escape_invisible("São Tomé 日本語 👩 \xa0") == "São Tomé 日本語 👩 \xa0"


def test_what_is_filled_into_a_sentence_is_made_visible_once() -> None:
    said = msg("{a}: {b}", a=NASTY, b=literal(NASTY))
    assert is_safe(said)
    assert said == f"{escape_invisible(NASTY)}: {escape_invisible(NASTY)}"
    assert msg("{path}", path=Path("x\ny")) == "x\\ny"
    assert msg("one\ntwo") == "one\ntwo"  # lorabake's own line break


def test_the_trainers_words_lose_their_colors_and_links() -> None:
    line = "\x1b[32mINFO\x1b[0m\tsee \x1b]8;;http://x\x07here\x1b]8;;\x1b\\ \x1b[?25l\x1b]52;c;aGk=\x07end\x1bc"
    assert clean_log_line(line) == "INFO    see here end\\x1bc"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_only_own_styles_pass_and_only_to_a_terminal(stream: Callable[[], io.StringIO]) -> None:
    written = stream()
    console.write_to(written, f"\x1b[31m\x1b[1mred\x1b[0m {NASTY}\x1b[8mhidden\x1b]0;title\x07\n")
    text = written.getvalue()
    if written.isatty():
        assert text.startswith("\x1b[31m\x1b[1mred\x1b[0m a")
        text = text.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert text.startswith("red a\\u001b[2Jb\nc")
    assert is_safe(text.replace("\n", "").replace("\t", ""))


def test_json_stays_json() -> None:
    written = io.StringIO()
    console.write_to(written, json.dumps({"x": NASTY.replace("\udcff", "")}, ensure_ascii=False, indent=2))
    assert is_safe(written.getvalue().replace("\n", ""))
    assert json.loads(written.getvalue()) == {"x": NASTY.replace("\udcff", "")}


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, "latin-1"))
    console.open_streams()()
    console.write_out("é → 日\udcff")
    console.write_err("ç …")
    assert raw.getvalue() == b"\xe9 \\u2192 \\u65e5\\udcff\n\xe7 \\u2026\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_of_what_was_asked_for_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """And once it failed nothing is left to fail at Python's very end."""
    for name in ("stdout", "stderr"):
        full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
        monkeypatch.setattr(sys, name, full)
    settle = console.open_streams()
    console.write_err("nobody reads this")
    console.write_result("done")
    sys.stdout.close()
    monkeypatch.setattr(sys, "stdout", Path("/dev/full").open("w", encoding="utf-8"))  # noqa: SIM115
    with pytest.raises(OSError, match="No space"):
        console.write_out("a plan")
    settle()
    sys.stdout.close()
    sys.stderr.close()


def test_a_closed_stream_is_none_for_python_and_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console.open_streams()
    console.write_out("lost")
    assert Path(sys.stdout.name) == Path(os.devnull)
    sys.stdout.close()
