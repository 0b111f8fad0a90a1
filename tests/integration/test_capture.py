"""Short commands: their output is kept, and every way not to start has words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.process import capture


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_both_streams_and_the_code_are_kept() -> None:
    done = capture(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (done.returncode, done.stdout, done.stderr, done.ok) == (3, "out\n", "err\n", False)
    assert done.argv[0] == sys.executable


def test_where_and_with_what_it_runs(tmp_path: Path) -> None:
    done = capture(python("import os; print(os.getcwd(), os.environ.get('A'), 'HOME' in os.environ)"), cwd=tmp_path,
                   env={"A": "b"})  # fmt: skip
    assert done.stdout == f"{tmp_path} b False\n"


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    assert capture(python(r"import os; os.write(1, b'\xff!')")).stdout == "�!"


def test_it_gets_no_input() -> None:
    assert capture(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not found on this machine"):
        capture([str(tmp_path / "none")])


def test_a_program_that_may_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(SetupError, match=r"cannot start .*file: Permission denied"):
        capture([str(tmp_path / "file")])


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(SetupError, match=r"did not end within 0\.2 s"):
        capture(python("import time; time.sleep(60)"), timeout=0.2)
