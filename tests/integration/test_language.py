"""Findings and errors in the language of the reader; what machines read stays English."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FAULTY = """\
name = "lamp"
kind = "object"

[base]
model = "none.safetensors"
famly = "sd15"

[[concept]]
token = "lumlamp"
class = "lamp"
images = "no-pictures"

[train]
optimizer = "Prodgy"
resolution = 700
train_batch_size = "4"
"""
PLACE = re.compile(r"^(.*?:\d+: \w+\[[\w.-]+\] \S+:) (.*)$", re.MULTILINE)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lorabake(tmp_path: Path) -> Run:
    """The command line in an environment of nothing but what is named."""
    (tmp_path / "faulty.toml").write_text(FAULTY, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "COVERAGE_PROCESS_START") if name in os.environ}

    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lorabake", *args],
            cwd=tmp_path,
            env=kept | {"HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"} | env,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


def test_the_same_findings_in_portuguese(lorabake: Run) -> None:
    english, portuguese = lorabake("check", "faulty.toml"), lorabake("check", "faulty.toml", "--lang", "pt_BR")
    assert english.returncode == portuguese.returncode == 1
    here, there = PLACE.findall(english.stdout), PLACE.findall(portuguese.stdout)
    assert len(here) >= 4
    assert [place for place, _ in here] == [place for place, _ in there]
    assert all(words != others for (_, words), (_, others) in zip(here, there, strict=True))
    assert "a pasta no-pictures não existe" in portuguese.stdout
    assert "chave desconhecida; você quis dizer `family`?" in portuguese.stdout
    assert 'precisa ser um número inteiro, não texto ("4")' in portuguese.stdout
    assert "erros" in portuguese.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "env", [{"LANG": "pt_BR.UTF-8"}, {"LC_ALL": "pt_BR.UTF-8", "LANG": "C"}, {"LANG": "de_DE", "LANGUAGE": "pt_BR:en"}]
)
def test_the_locale_decides_by_default(lorabake: Run, env: dict[str, str]) -> None:
    done = lorabake("check", "gone.toml", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("erro: receita não encontrada: gone.toml\n")
    assert "`lorabake recipes list`" in done.stderr


def test_the_option_wins_over_the_locale_and_may_stand_anywhere(lorabake: Run) -> None:
    for args in (("--lang", "en", "check", "gone.toml"), ("check", "--lang", "en", "gone.toml")):
        done = lorabake(*args, LANG="pt_BR.UTF-8")
        assert done.stderr.startswith("error: recipe not found: gone.toml\n")
    assert "no shipped recipe is named nix" in lorabake("recipes", "show", "nix").stderr
    assert "lorabake" in lorabake("recipes", "show", "nix", "--lang", "pt_BR").stderr
    assert "no recipe nix ships" not in lorabake("recipes", "show", "nix", "--lang", "pt_BR").stderr


def test_an_unknown_language_is_a_usage_error(lorabake: Run) -> None:
    done = lorabake("check", "faulty.toml", "--lang", "tlh")
    assert done.returncode == 2
    assert "en, pt_BR" in done.stderr
    assert lorabake("recipes", "list", LANG="tlh").returncode == 0


def test_machines_read_english(lorabake: Run) -> None:
    plain, told = (
        lorabake("check", "faulty.toml", "--json"),
        lorabake("check", "faulty.toml", "--json", "--lang", "pt_BR"),
    )
    assert plain.stdout == told.stdout
    messages = {finding["rule"]: finding["message"] for finding in json.loads(told.stdout)["findings"]}
    assert messages["unknown-key"] == "unknown key"
