"""Commands as people have them: in a document, a shell script, PowerShell, a batch file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.command_line import read_arguments
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file

BASH = r"""#!/bin/bash
# trains
model="a model.safetensors"; rank=32   # the rank
export EXTRA=1
args=()
if [[ $rank == 32 ]]; then args+=("--lowram"); fi
if [ "$EXTRA" == "2" ]; then
  args+=("--highvram")
elif [[ -n $rank ]]; then
  args+=("--network_args" "conv_dim=4" "algo=loha")
else
  args+=("--no_half_vae")
fi
CUDA_VISIBLE_DEVICES=0 accelerate launch --num_cpu_threads_per_process=2 --mixed_precision bf16 \
  "./sd-scripts/train_network.py" --pretrained_model_name_or_path="$model" \
  --network_dim ${rank} --unet_lr=${LR:-2e-4} --train_data_dir='C:\img' \
  --xformers "${args[@]}" 2>&1 | tee log.txt
"""
POWERSHELL = r"""# trains
$model = "a model.safetensors"
$rank = 32 # the rank
$ext_args = [System.Collections.ArrayList]::new()
if ($rank -gt 16) {
  [void]$ext_args.Add("--lowram")
}
if ($rank -eq 4) {
  [void]$ext_args.Add("--highvram")
}
elseif ($rank) {
  [void]$ext_args.Add("--network_args")
  [void]$ext_args.Add("conv_dim=4")
  [void]$ext_args.Add("algo=" + "loha")
}
else {
  [void]$ext_args.Add("--no_half_vae")
}
$script = if ($rank -eq 1) { "sdxl_train_network.py" } else { "train_network.py" }
python -m accelerate.commands.launch --num_cpu_threads_per_process=2 --mixed_precision bf16 "./sd-scripts/$script" `
  --pretrained_model_name_or_path="$model" `
  --network_dim $rank --unet_lr=2e-4 --train_data_dir='C:\img' `
  --xformers $ext_args
"""
BATCH = r"""@echo off
rem trains
set MODEL=a model.safetensors
set "RANK=32"
if "%RANK%"=="4" set RANK=8
call venv\Scripts\activate.bat & cd sd-scripts
accelerate launch --num_cpu_threads_per_process=2 --mixed_precision bf16 train_network.py ^
  --pretrained_model_name_or_path="%MODEL%" ^
  --network_dim %RANK% --unet_lr=2e-4 --train_data_dir="C:\img" ^
  --xformers --lowram --network_args "conv_dim=4" "algo=loha"
pause
"""


def read(folder: Path, text: str, name: str) -> ForeignConfig:
    (folder / name).write_text(text, "utf-8")
    return read_foreign_file(Source(path=folder / name, content=b""))


def values(config: ForeignConfig) -> dict[str, object]:
    return {name: given.value for name, given in config.options.items()}


@pytest.mark.parametrize(
    ("text", "name"), [(BASH, "a.sh"), (POWERSHELL, "a.ps1"), (BATCH, "a.bat"), (BATCH, "a.txt"), (POWERSHELL, "a.txt")]
)
def test_one_command_in_every_shell(text: str, name: str, tmp_path: Path) -> None:
    found = read(tmp_path, text, name)
    assert found.script == "train_network.py"
    assert values(found) == {
        "pretrained_model_name_or_path": "a model.safetensors",
        "network_dim": 32,
        "unet_lr": 2e-4,
        "train_data_dir": "C:\\img",
        "xformers": True,
        "lowram": True,
        "network_args": ("conv_dim=4", "algo=loha"),
    }
    assert found.launch["num_cpu_threads_per_process"].value == 2
    assert found.launch["mixed_precision"].value == "bf16"


def test_a_document_without_the_signs_for_long_lines(tmp_path: Path) -> None:
    text = "accelerate launch train_network.py\n    --network_dim=4\n    --seed 7\n"
    assert values(read(tmp_path, text, "line.txt")) == {"network_dim": 4, "seed": 7}


def test_sdxl_is_known_by_its_script(tmp_path: Path) -> None:
    assert read(tmp_path, "python sdxl_train_network.py --seed=1", "a.sh").script == "sdxl_train_network.py"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("accelerate launch train_network.py --seed 1\n\naccelerate launch train_network.py --seed 2\n", "--seed 1"),
        ("accelerate launch flux_train_network.py --seed 1\n", "flux_train_network.py"),
        ("accelerate launch train_text_to_image_lora_sdxl.py --seed 1\n", "train_text_to_image_lora_sdxl.py"),
        ("accelerate launch other.py\n", "sdxl_train_network.py"),
    ],
)
def test_what_cannot_be_chosen_is_named(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, "a.sh")
    assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_variable_without_a_value_is_missing(tmp_path: Path) -> None:
    found = read(tmp_path, 'accelerate launch train_network.py --vae="$VAE" --seed 1', "a.sh")
    assert found.options["vae"].value == "$VAE"
    assert [line.key for line in found.missing] == ["--vae"]


def test_the_options_of_a_config_file_come_first(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\nnetwork_dim = 8\n", "utf-8")
    found = values(read(tmp_path, "accelerate launch train_network.py --config_file=c.toml --seed=2", "a.sh"))
    assert (found["seed"], found["network_dim"]) == (2, 8)


@pytest.mark.parametrize(
    ("tokens", "option", "value"),
    [
        (["--seed=3"], "seed", 3),
        (["--optimizer_args", "a=1", "b=2", "--seed", "1"], "optimizer_args", ("a=1", "b=2")),
        (["--save_every_n_e", "2"], "save_every_n_epochs", 2),
        (["--text_encoder_lr", "1e-5"], "text_encoder_lr", (1e-5,)),
        (["--resolution=512,768"], "resolution", "512,768"),
        (["--network_args", "--seed=3"], "network_args", ()),
    ],
)
def test_arguments_are_read_as_argparse_does(tokens: list[str], option: str, value: object) -> None:
    assert read_arguments(tokens).options[option].value == value


def test_unknown_arguments_are_kept_for_the_report() -> None:
    found = read_arguments(["--train_text_encoder", "--stop", "3", "--seed", "1"]).options
    assert {name: given.value for name, given in found.items()} == {"train_text_encoder": True, "stop": "3", "seed": 1}


def test_a_line_that_argparse_refuses_is_an_error() -> None:
    with pytest.raises(RecipeError):
        read_arguments(["--save_every_n", "2"])  # ambiguous
    with pytest.raises(RecipeError):
        read_arguments(["--seed"])


def test_a_value_that_only_a_shell_knows_is_missing(tmp_path: Path) -> None:
    text = "accelerate launch train_network.py --network_alpha ${ALPHA} --learning_rate $(cat lr) --network_args $A b=1"
    found = read(tmp_path, text, "a.sh")
    assert [line.key for line in found.missing] == ["--network_args", "--network_alpha", "--learning_rate"]


def test_a_config_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\n", "utf-8")
    (tmp_path / "here").mkdir()
    found = read(tmp_path / "here", "accelerate launch train_network.py --config_file=../c.toml", "a.sh")
    assert "seed" not in found.options
    assert [line.key for line in found.missing] == ["--config_file"]


POWERSHELL_VALUES = [
    ('$p = @"\nsay "hi", it\'s $(1+1)\n"@\n', "$p", 'say "hi", it\'s 2'),
    ("$p = @'\na \"b\" 'c'\n'@\n", '"$p"', "a \"b\" 'c'"),
    ('$p = "a`"b""c" + \'d\'\'e\'\n', "$p", "a\"b\"cd'e"),
    ("$c = @{ a = 1; b = @{ d = 'x' } }\n$c.e = 2\n$c['a'] = 3\n", "\"$($c.a)$($c.b.d)$($c['e']).y\"", "3x2.y"),
    ("$env:P = 4\n$P = 3\n", '"$env:P-$P-${P}x-$($env:P).y"', "4-3-3x-4.y"),
    ("$p = 3\nif ($p -eq 1) { $s = 1 } elseif ($p -gt 2 -and $p -lt 5) { $s = 4 } else { $s = 5 }\n", "$s", "4"),
    ('switch ("XL") {\n  "sd" { $s = 1 }\n  "xl" { $s = 4; break }\n  default { $s = 5 }\n}\n', "$s", "4"),
    ("$s = switch (2) { 1 { 'a' } default { 'b' } }\n", "$s", "b"),
    ("$s = 0\nforeach ($i in 1..3) { $s += $i }\n2..1 | % { $s -= $_ }\n", "($s + 1)", "4"),
    ("$r = 100\n$m = [Math]::Ceiling($r / 3 * 2)\n$m++\n", "$([Math]::Floor($m / 2))", "34"),
    ("$d = 'C:\\m'\n", "(Join-Path -Path $d -ChildPath o)", "C:\\m\\o"),
    ("$d = 'C:\\m'\n", '$d"\\img"', "C:\\m\\img"),
    ("$d = '0'; $s = 1\nif ($d) { $s = 4 }\nif (0) { $s = 5 }\n", "$s", "4"),
    ("param (\n [Parameter(Mandatory=$true)]\n [string]$c,\n [int]$s = 4\n)\n", "$s", "4"),
    ('$h = @{ a = 1; b = $true }\n$l = @()\nforeach ($k in $h.Keys) { $l += "$k$($h[$k])" }\n', '"$l"', "a1 bTrue"),
    ("$s = 4\n\"10\" -gt 9\nif ('10' -lt 9 -and 10 -gt '9' -and -not ('a' -ceq 'A')) { $s = 5 }\n", "$s", "5"),
    ("$l = @(1, 2) + 3\n", "$($l.Count)$($l[-1])$($l -join '')", "33123"),
    ('<# " { #>\n$s = 4 # "\n', "$s", "4"),
    ("", "$PSScriptRoot\\x", ".\\x"),
    ("$l = @('x')\n$l += if (2 -gt 1) { 'y' } else { 'z' }\n$l += 'w'\n", '"$l"', "x y w"),
    ("$l = @('x')\n$l += switch (2) { 1 { 'y' } 2 { 'z'; 'w' } }\n", '"$l"', "x z w"),
    ('$l = @(foreach ($i in 1..2) { [void]$h; "a$i" }) + (1..2 | % { "b$_" })\n', '"$l"', "a1 a2 b1 b2"),
    ("$s = 3\n$s = if ($s -gt 4) { 'x' }\n$t = $s = \"$s.\"\n", '"$s$t"', ".."),
    ("function f($x) { if ($x) { Write-Host 'x'; return 'y' }\n 'z' }\n$s = f 1\n", "$s", "y"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "written", "value"), POWERSHELL_VALUES)
def test_values_of_powershell(text: str, written: str, value: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"{text}python train_network.py --training_comment {written} `\n --lowram", "a.ps1")
    assert values(found) == {"training_comment": value, "lowram": True}
    assert found.missing == ()


LAUNCH = "accelerate launch train_network.py --unet_lr 1e-4 --seed "
CONDITIONS = {
    "[ 1 -gt 3 ]": False, "[ 4 -ge 4 ]": True, "test 1 = 2": False, "[[ 1 == 2 || 3 == 3 ]]": True,
    "[ 1 = 1 ] && [ 1 = 2 ]": False, "[ 1 = 2 ] || [ 1 = 1 ]": True, '[ ! -z "" ]': False, "! [ a = b ]": True,
    "[[ ab == a* && 2 -le 1 ]]": False, "false": False, "((2 * 3 > 7))": False, "[ 1e-4 -gt 3 ]": False,
}  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_of_bash(condition: str, tmp_path: Path) -> None:
    text = f"S=1\nif {condition}; then S=2; else S=3; fi\nwhile {condition}; do T=1; done\n{LAUNCH}$S\n"
    found = read(tmp_path, text, "a.sh")
    assert found.options["seed"].value == (2 if CONDITIONS[condition] else 3)
    assert found.missing == ()


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("$false", False), ("$true", True), ("1 -eq 2 -or 3 -eq 4", False), ("1 -lt 2 -and -not ('a' -eq 'b')", True),
        ("!$true", False), ("$one -ge 2", False), ("$none", True),
    ],
)  # fmt: skip
def test_conditions_of_powershell(condition: str, holds: bool, tmp_path: Path) -> None:
    text = f"$one = 1\n$none = @(2)\n$s = 1\nif ({condition}) {{ $s = 2 }} else {{ $s = 3 }}\n{LAUNCH}$s\n"
    found = read(tmp_path, text, "a.ps1")
    assert found.options["seed"].value == (2 if holds else 3)
    assert found.missing == ()


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ('set S=1\nset D=16\nif "%D%"=="16" (\n set S=2\n) else (\n set S=3\n)\n', 2),
        ('set D=8\nif "%D%"=="16" (\n set S=2\n) else if %D% EQU 8 (\n set S=3\n) else (\n set S=4\n)\n', 3),
        ("set D=8\nif not %D%==8 (set S=2) else (set S=3)\n", 3),
        ('set D=8\nif %D% GTR 4 (\n if %D% LSS 6 (\n  set S=2\n ) else (\n  set "S=5"\n )\n)\n', 5),
        ('set B=3\nset /a "S=2*5+B"\n', 13),
        ("set S=4\ngoto go\nset S=5\n:go\n", 4),
        ("set S=1\nif 1==1 (\n set S=2\n set R=%S%\n)\nset S=%R%\n", 1),
        ("setlocal enabledelayedexpansion\nset S=1\nif 1==1 (\n set S=2\n set R=!S!\n)\nset S=%R%\n", 2),
        ('set N="a^&b" ^& c & set S=5\n', 5),
        ("set ^\nS^\n=6 & rem ) & set S=7\n", 6),
        ("set S=1\nset /a S+=2, S*=2+1\n", 9),
        ("set S=0\n:next\nset /a S+=1\nif %S% lss 3 goto next\n", 3),
        ('set T=0\nfor %%i in (1 2 "3") do set /a T+=%%~i & set L=%%i\nset S=%T%\n', 6),
        ("for /l %%i in (2,2,8) do (\n set S=%%i\n)\n", 8),
        ("set S=1\ncall :add 4 5\ngoto run\n:add\nset /a S=%1+%2\nexit /b\n:run\n", 9),
        ("set S=1\nsetlocal\nset S=2\nendlocal & set R=%S%\nset S=%R%%S%\n", 21),
        ('set L=x12y\nset S=%L:~1,2%\nset "S=%S:1=3%"\n', 32),
        ('set S=1\nif "1"==1 set S=2\nif /i not A==a (set S=3) else if defined S (set S=4)\n', 4),
        ("set S=1\necho a) & set S=2\n) & set S=3\n", 2),
        ("set S=1\ncall :s\ngoto run\n:s\nsetlocal\nset S=2\nsetlocal\nset S=3\nexit /b\n:run\n", 1),
        ("set S=1\nsetlocal\nset S=2\ncall :s\ngoto run\n:s\nendlocal\nexit /b\n:run\n", 2),
        ("set S=1\ncall sub.bat\n", 1),
        ("set /a S=010\n", 8),
        ('set S=4\nif errorlevel 1 (exit /b 1)\nif "%~1"=="" goto :eof\n', 4),
    ],
)
def test_blocks_of_batch_files(text: str, seed: int, tmp_path: Path) -> None:
    (tmp_path / "sub.bat").write_text("setlocal\nset S=5\n", "utf-8")
    found = read(tmp_path, f"{text}{LAUNCH}%S%\n", "a.bat")
    assert found.options["seed"].value == seed
    assert found.missing == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "S=1\nif [ -f x ]; then S=2; else R=3; fi\n"),
        ("a.sh", 'S=1\n[ -n "$X" ] && S=2 || R=4\n'),
        ("a.sh", "for i in $(cat x); do S=$i; R=1; done\n"),
        ("a.sh", "case $X in a|b) S=3;; c) R=4;; esac\n"),
        ("a.ps1", "if (Test-Path x) { $S = 2 } else { $R = 3 }\n"),
        ("a.ps1", "foreach ($i in Get-ChildItem) { $S = 7; $R = 1 }\n"),
        ("a.ps1", "Get-ChildItem | ForEach-Object { $S = 7; $R = 1 }\n"),
        ("a.ps1", "$S = 1\nif ($args[0]) { $S = $args[0]; $R = 1 }\n"),
        ("a.bat", 'if "%1"=="x" (\n set S=1\n) else (\n set R=2\n)\n'),
        ("a.bat", "if exist x (set S=1) else (set R=2)\n"),
        ("a.bat", "if errorlevel 1 (set S=1) else set R=2\n"),
        ("a.bat", "for %%s in (*.txt) do set S=%%s & set R=1\n"),
    ],
)
def test_a_condition_without_an_answer_is_to_check(name: str, text: str, tmp_path: Path) -> None:
    said = [str(line.why) for line in read(tmp_path, f"{text}{LAUNCH}1\n", name).missing]
    assert len(said) == 1
    assert said[0].lower().endswith(("s, r", "i, s, r"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "S=1\ncat <<EOF > x\nS=2\naccelerate launch train_network.py\nEOF\n"),
        ("a.sh", "S=1\nf() { S=2; }\nfunction g {\n  S=3\n}\n"),
        ("a.sh", "function g()\n{\n  S=1\n}\ng\n"),
        ("a.sh", "case b in a) S=3;; b|c) S=1;; *) S=4;; esac\n"),
        ("a.sh", "S=1\nfor i in; do S=2; done\ncd x || exit 1\n"),
        ("a.ps1", '$S = 1\nfunction f { $S = 2 }\nswitch ("a") { "b" { $S = 3 } default { } }\n'),
        ("a.ps1", "function f {\n  $script:S = 1\n}\nf\nforeach ($i in @()) { $S = 4 }\n"),
        ("a.ps1", "try { $S = 1 } catch { $S = 2 }\n$h = @{ S = 3 }\n"),
    ],
)
def test_only_what_is_run_counts(name: str, text: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"{text}{LAUNCH}$S\n", name)
    assert found.options["seed"].value == 1
    assert found.missing == ()


@pytest.mark.parametrize(
    ("name", "text", "seed"),
    [
        ("a.ps1", "foreach ($i in 1..3) { if ($i -eq 2) { break }; $S += $i }\n", 1),
        ("a.ps1", "1..4 | % { if ($_ -eq 2) { continue }; $S += $_ }\n", 8),
        ("a.ps1", "foreach ($i in 1..3) { switch ($i) { 2 { break } default { $S += $i } } }\n", 4),
        ("a.ps1", "while ($true) { $S = 1; if ($S) { break }; $S = 2 }\n$S += 1\n", 2),
        ("a.ps1", "do { $S = 1; break; $S = 2 } while ($true)\n", 1),
        ("a.sh", "for i in 1 2 3; do if [ $i = 2 ]; then break; fi; S=$i; done\n", 1),
        ("a.sh", "for i in 1 2 3; do [ $i = 2 ] && continue; S=${S}$i; done\n", 13),
        ("a.sh", "for i in 1 2; do for j in 3 4; do S=$i$j; continue 2; done; S=9; done\n", 23),
        ("a.sh", "f() { break; }\nfor i in 1 2; do f; S=$i; done\nwhile true; do S=${S}0; break; S=9; done\n", 20),
    ],
)
def test_a_loop_ends_where_it_says_so(name: str, text: str, seed: int, tmp_path: Path) -> None:
    set_first = "S=\n" if name == "a.sh" else "$S = 0\n"
    found = read(tmp_path, f"{set_first}{text}{LAUNCH}$S\n", name)
    assert found.options["seed"].value == seed
    assert found.missing == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ps1", "foreach ($i in 1,2) { if (Test-Path $i) { break }; $S = $i }\n"),
        ("a.sh", "for i in 1 2; do test -f x && break; S=$i; done\n"),
    ],
)
def test_a_loop_that_may_end_is_to_check(name: str, text: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"{text}{LAUNCH}$S\n", name)
    assert found.options["seed"].value == 2
    assert [line.fate for line in found.missing] == ["unknown"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "f() {\n  if [ -f x ]; then return; fi\n  exit 1\n}\nf\n" + LAUNCH + "1\n"),
        ("a.ps1", "function f { if (Test-Path x) { return 'y' }\n throw 'z' }\n$b = f\n& $b -m " + LAUNCH + "1\n"),
        ("a.ps1", "$S = 1\nif (!(Test-Path x)) { $S = 2 }\nif ($S -eq 1) { " + LAUNCH + "$S }\n"),
        ("a.ps1", "$n = 1\nif ($env:X) { $n = 2 }\nif ($n -eq 1) { " + LAUNCH + "1 }\n"),
        ("a.ps1", '$p = "--seed 1 --lowram"\npowershell -NoProfile ' + LAUNCH.replace("--seed ", "$p") + "\n"),
    ],
)
def test_a_script_is_expected_to_find_what_it_needs(name: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text, name).options["seed"].value == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "A=xy\n" + 'A="$A$A"\n' * 30),
        ("a.sh", "A=(x y)\n" + 'A+=("${A[@]}")\n' * 30),
        ("a.sh", "f() { f; f; }\nf\n"),
        ("a.sh", "${" * 100_000),
        ("a.ps1", '$A = "xy"\n' + '$A = "$A$A"\n' * 30),
        ("a.ps1", "<#" * 100_000 + "\n"),
        ("a.ps1", "$b = " + " " * 70_000 + "+ x\n"),
        ("a.ps1", "foreach ($i in 1..19000) { $A = " + "1+" * 2000 + "1 }\n"),
        ("a.ps1", "$A = 'y' * 60000\nforeach ($i in 1..9000) { if ($A -eq $i) { } }\n"),
        ("a.ps1", "$A = '" + "x" * 70_000 + "'\n"),
        ("a.ps1", "function f { f }\nf\n"),
        ("a.ps1", "$a=" * 3000 + "1\n"),
        ("a.ps1", "$a=@{a=" * 3000),
        ("a.ps1", "".join(f"function f{i} {{ {'if (1) {' * 50} f{i + 1} {'}' * 50} }}\n" for i in range(6)) + "f0\n"),
        (
            "a.sh",
            "".join(f"f{i}() {{ {'for i in a; do ' * 50} f{i + 1}; {'done; ' * 50} }}\n" for i in range(6)) + "f0\n",
        ),
        ("a.bat", ":a\ngoto a\n"),
        ("a.bat", "for /l %%i in (1,1,9000000) do set A=%%i\n"),
        ("a.bat", "set A=xy\n" + "set A=%A%%A%\n" * 30),
        ("a.bat", "set " + "x " * 70_000 + "\n"),
        ("a.sh", f"x={'a' * 4000}\nfor i in {{1..9000}}; do : ${{x##*b}}; done\n"),
        ("a.sh", f"x={'a' * 30_000}\nfor i in {{1..9000}}; do [[ $i$x = *$i$x* ]]; done\n"),
        ("a.sh", 'for i in {1..6000}; do foo "for j in {1..9000}; do : x.py; done"; done\n'),
        ("a.sh", f'x="{"a " * 12_000}"\nfor i in {{1..9000}}; do printf -v y %s $x; done\n'),
        ("a.sh", ": {1..9999}" + '""' * 100_000 + "\n"),
        ("a.sh", f"for i in {{1..9000}}; do echo a | tr '{'!-~' * 50}' a; done\n"),
        ("a.sh", "for i in {1..9000}; do : < big.txt; done\n"),
        ("a.sh", "while read l; do :; done < big.txt\n"),
        ("a.sh", f"for i in {{1..9000}}; do eval 'if false; then {': a;' * 10_000} fi'; done\n"),
        ("a.sh", f"set -- {'a ' * 30_000}\nfor i in {{1..9000}}; do : {'$# ' * 100}; done\n"),
        ("a.sh", "for i in {1..9000}; do if foo; then :; else\n" + "A=1\n" * 20_000 + "fi; done\n"),
        ("a.bat", "for /l %%i in (1,1,6000) do call :a\nexit /b\n:a\n" + "\n" * 19_000),
        ("a.bat", 'for /l %%i in (1,1,6000) do foo "for /l %%j in (1,1,9000) do set a=x.py"\n'),
        ("a.ps1", "foreach ($i in 1..6000) { foo \"foreach (`$j in 1..9000) { `$x = 'x.py' }\" }\n"),
    ],
)
def test_what_grows_without_end_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("x\n" * 2_000_000, "utf-8")
    with pytest.raises(RecipeError):
        read(tmp_path, f"{text}{LAUNCH}1\n", name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ps1", "echo a && " * 3000),
        ("a.sh", "echo a && " * 3000),
        ("a.ps1", "[int]" * 40 + "\n"),
        ("a.ps1", "# a comment\n" * 20_000),
    ],
)
def test_what_only_goes_on_is_read(name: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"{text}{LAUNCH}1\n", name).options["seed"].value == 1


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.ps1", "$S = 1\nif ($S) {\n" + LAUNCH, 2),
        ("a.ps1", '$S = 1\n$T = "x\n' + LAUNCH, 2),
        ("a.ps1", '$S = 1\n\n$T = @"\nx "@\n' + LAUNCH, 3),
        ("a.bat", "set S=1\nif 1==1 (\n" + LAUNCH, 2),
    ],
)
def test_a_block_without_an_end_is_named(name: str, text: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, f"{text}1\n", name)
    assert caught.value.hint is not None
    assert str(line) in str(caught.value.hint)


def test_a_command_that_is_never_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, f"f() {{\n  S=1 }}\n{LAUNCH}1\n", "a.sh")
    assert "3" in str(caught.value.message)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "A=(\n  --seed 4  # the seed\n  # --seed 5\n  --unet_lr=1e-4\n)\npython train_network.py ${A[@]}"),
        ("a.sh", "(\n  cd x\n  accelerate launch train_network.py --seed 4)\n"),
        ("a.sh", "bash -lc 'cd x && accelerate launch train_network.py --seed 4'\n"),
        ("a.sh", 'CMD="python train_network.py --seed 4"\neval "$CMD"\n'),
        ("a.sh", 'train() { local s=$1; python train_network.py --seed "$s"; }\ntrain 4\n'),
        ("a.sh", "if ! python train_network.py --seed 4; then exit 1; fi\n"),
        ("a.sh", "test -f train_network.py\necho python train_network.py --seed 5\npython train_network.py --seed 4\n"),
        ("a.sh", ': "${S:=4}"\nF=a/4.txt; F=${F##*/}\npython train_network.py --seed ${F%.txt}\n'),
        ("a.sh", "cat > c.toml <<'EOF'\nseed = 4\nEOF\npython train_network.py --config_file c.toml\n"),
        ("a.txt", "python\u00a0train_network.py \u2014seed=\u201c4\u201d\n"),
        ("a.txt", "python train_network.py\n  --vae=<path>\n  --seed=4\n"),
        ("a.md", "It's so:\n```\npython train_network.py --seed 4\n```\nDon't.\n"),
        ("a.ps1", 'Start-Process python -ArgumentList "train_network.py", "--seed=4"\n'),
        ("a.ps1", 'iex "python train_network.py --seed 4"\n'),
        ("a.ps1", '$a = @("train_network.py", "--seed", 4)\nStart-Process python $a -Wait -NoNewWindow\n'),
        ("a.ps1", "$a = @(\n  '--lowram' # x\n  '--seed=4'\n)\n& accelerate launch `\n  train_network.py @a\n"),
        ("a.ps1", '$exe = "python"\n$a = "train_network.py", "--seed", "4"\n& $exe @a\n'),
        ("a.ps1", ("$l = New-Object System.Collections.ArrayList\n$null = $l.AddRange(@('--seed', 4))\n"
            "& python train_network.py $l\n")),
        ("a.ps1", "function Go($n, [int]$s = 8, [switch]$low) { python train_network.py --seed $s }\nGo -s 4 x -low\n"),
        ("a.ps1", "function Go {\n [CmdletBinding()]\nparam($s=4)\n & { python train_network.py --seed $s }\n}\nGo\n"),
        ("a.ps1", ("1..2 | ForEach-Object { if ($_ -eq 2) {\n"
            "python train_network.py --seed $($_ * 2) 2>&1 | Tee-Object x } }\n")),
        ("a.ps1", ('@"\nseed = 4\n"@ | Set-Content -Path c.toml -Encoding utf8\n'
            "python train_network.py --config_file c.toml\n")),
        ("a.ps1", "python train_network.py `\n  --seed=4 `\n  # --seed=5 `\n  --lowram\n"),
        ("a.ps1", "cd x && python train_network.py --seed 4 --network_args betas=0.9,0.98 'a=b','c=d'\n"),
        ("a.bat", 'cmd /k "python train_network.py --seed 4"\n'),
    ],
)  # fmt: skip
def test_a_command_is_found_wherever_it_is(name: str, text: str, tmp_path: Path) -> None:
    found = read(tmp_path, text, name)
    assert found.options["seed"].value == 4
    assert found.missing == ()


def test_one_of_several_commands_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    path.write_text(f"for s in 1 2; do {LAUNCH}$s --wandb_api_key abc$s; done\n", "utf-8")
    with pytest.raises(RecipeError) as caught:
        read_foreign_file(Source(path=path, content=b""))
    assert "--seed 2" in str(caught.value.message)
    assert "abc" not in str(caught.value.message)
    assert read_foreign_file(Source(path=path, content=b"", command=2)).options["seed"].value == 2
    with pytest.raises(RecipeError):
        read_foreign_file(Source(path=path, content=b"", command=3))


def test_quotes_that_no_shell_removed_are_no_part_of_an_argument(tmp_path: Path) -> None:
    line = "accelerate launch train_network.py --optimizer_args \\\"decouple=True\\\" \\'weight_decay=0.1\\'"
    assert values(read(tmp_path, line, "a.sh"))["optimizer_args"] == ("decouple=True", "weight_decay=0.1")


def test_without_its_config_file_a_command_is_not_complete(tmp_path: Path) -> None:
    assert not read(tmp_path, "accelerate launch train_network.py --config_file=c.toml", "a.sh").complete


def test_a_script_that_stops_without_its_argument_is_read_as_if_it_had_it(tmp_path: Path) -> None:
    text = 'MODEL="${1:-}"\nif [[ -z "$MODEL" ]]; then echo usage; exit 1; fi\nOUT="${2:-out}"\n'
    text += 'accelerate launch train_network.py --pretrained_model_name_or_path="$MODEL" --output_name=$OUT\n'
    found = read(tmp_path, text, "a.sh")
    assert values(found)["output_name"] == "out"
    assert "--pretrained_model_name_or_path" in [line.key for line in found.missing]
