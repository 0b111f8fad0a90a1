"""What PowerShell scripts and batch files do before they train."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.shell.reader import read_launches

TRAIN = "python train_network.py"


def read_words(name: str, text: str, folder: Path) -> tuple[list[list[str]], dict[str, list[str]]]:
    path = folder / name
    path.write_text(text, "utf-8")
    script, launches = read_launches(Source(path=path, content=path.read_bytes()))
    return [list(launch.words) for launch in launches], script.doubts


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('$n = 1; while ($n -lt 4) { $S += "$n"; $n++ }', "123"),
        ('$n = 5; do { $S += "$n"; $n-- } while ($n -gt 3)', "54"),
        ('$n = 5; do { $S += "$n"; $n-- } until ($n -lt 4)', "54"),
        ('for ($i = 0; $i -lt 6; $i += 2) { if ($i -eq 2) { continue }; $S += "$i" }', "04"),
        ("for (;;) { $S += 'x'; if ($S -eq 'xx') { break } }", "xx"),
        ("while ($false) { $S = 1 }\n$S += 'y'", "y"),
        ("switch ('ab') { 'ab' { $S += '1' } { $_ -like 'a*' } { $S += '2' } 'c' { $S = 3 } default { $S = 4 } }",
            "12"),
        ("switch -Wildcard ('ab') { 'a*' { $S += '1'; break } '*b' { $S += '2' } default { $S = 4 } }", "1"),
        ("switch (1, 2) { 1 { $S += 'a' } default { $S += \"d$_\" } }", "ad2"),
        ('1..3 | % { if ($_ -eq 2) { return }; $S += "$_" }', "13"),
        ("$S = '1'; function f { $S = '2'; $script:T = $S }\nf\n$S += $T", "12"),
        ("$S = '1'; & { $S = '2' }; . { $S += '3' }", "13"),
        ("$S = 'a'; if (Test-Path x) { $S = 'b'; exit }", "a"),
        ('. .\\set.ps1; & $PSScriptRoot\\set.ps1; $S = "$S$D"', "8"),
        ('$a = 1, 2, 3; $a[1] = 9; $S = "$a"', "1 9 3"),
        ('$a = 1, 2, 3; $i = 0; $a[$i] = 9; $a[-1] = 8; $S = "$a"', "9 2 8"),
        ("$h = @{a = 1}; $k = 'b'; $h[$k] = 2; $S = \"$($h.a)$($h.b)\"", "12"),
        ("$h = @{a = 1}; $h['b'] = 2; $h[\"a\"] = 3; $S = \"$($h.a)$($h.b)\"", "32"),
        ('. .\\c.ps1; $S = "$S$D"', "8"),
        ("function f { if (1) { return 'y' }\n$script:S = 'z' }\nif (Test-Path x) { $S = f }", "y"),
    ],
)  # fmt: skip
def test_powershell(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "set.ps1").write_text("$D = 8\n", "utf-8")
    (tmp_path / "c.ps1").write_text("$D = 8\nreturn\n$D = 9\n", "utf-8")
    words, _ = read_words("a.ps1", f"$S = ''\n{text}\n{TRAIN} \"$S\"\n", tmp_path)
    assert words == [[word]]


@pytest.mark.parametrize(
    "text",
    [
        "$S = 10 -band 6",
        "$S = 10 -bor 5 + 1",
        "$S = 1 -shl 3",
        "$S = -bnot 5",
        "$a = 1, 2, 3; $a[1] += 9; $S = $a[1]",
        "$a = 1, 2, 3; $a[$x] = 9; $S = $a[1]",
        "$a = 1, 2, 3; $a[1 + 0] = 9; $S = $a[1]",
        "$S = @{a = 1}; $S[$x] = 9; $S = $S.a",
    ],
)
def test_what_is_not_computed_is_unknown(text: str, tmp_path: Path) -> None:
    words, _ = read_words("a.ps1", f"{text}\n{TRAIN} $S\n", tmp_path)
    assert "$" in words[0][0]


@pytest.mark.parametrize(
    "text", ["$n = 1; while ($n -gt 0) { $n++ }", "for (;;) { $n += 1 }", ". .\\a.ps1", ".\\a.ps1"]
)
def test_what_has_no_end_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        read_words("a.ps1", f"{text}\n{TRAIN} 1\n", tmp_path)


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        ("$n = 1; while ($n -lt 4) { $n = Get-X; $S = 1 }", [["n", "s"]]),
        ("while (Test-Path x) { $S = 1 }", [["s"]]),
        ("switch ($env:X) { 'a' { $S = 1 } default { $S = 2 } }", [["_", "s"]]),
    ],
)
def test_what_only_powershell_knows(text: str, doubts: list[list[str]], tmp_path: Path) -> None:
    assert list(read_words("a.ps1", f"{text}\n{TRAIN} 1\n", tmp_path)[1].values()) == doubts


def test_a_doubt_in_the_way_of_any_training_is_taken_the_other_way(tmp_path: Path) -> None:
    text = f'if ((Read-Host) -eq "y") {{ $stop = 1 }}\nif ($stop -ne 1) {{ {TRAIN} 1 }}\n'
    assert read_words("a.ps1", text, tmp_path) == ([["1"]], {'if ((Read-Host) -eq "y")': ["stop"]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("call :go a b\ngoto :eof\n:go\nshift\n{} %1%2\n", [["b"]]),
        ("set D=1\ncall set.bat 8\nif %D%==8 {} %D%", [["8"]]),
    ],
)
def test_batch_files_that_call(text: str, words: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "set.bat").write_text("set D=%1\ngoto :eof\nset D=2\n", "utf-8")
    assert read_words("a.bat", text.format(TRAIN), tmp_path) == (words, {})


def test_a_batch_file_that_calls_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        read_words("a.bat", f"call a.bat\n{TRAIN} 1\n", tmp_path)
