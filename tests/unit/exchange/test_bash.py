"""What bash scripts compute before they train; tests/corpora/beside_bash.py asks bash itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.shell.reader import read_launches
from lorabake.exchange.shell.sums import compute

TRAIN = "python train_network.py "


def read_words(text: str, folder: Path) -> list[list[str]]:
    path = folder / "a.sh"
    path.write_text(text, "utf-8")
    script, launches = read_launches(Source(path=path, content=path.read_bytes()))
    assert script.doubts == {}
    return [list(launch.words) for launch in launches]


def read(text: str, folder: Path) -> ForeignConfig:
    path = folder / "a.sh"
    path.write_text(text, "utf-8")
    return read_foreign_file(Source(path=path, content=b""))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{TRAIN} ${{A:-"x y"}} ${{B:+--vae "$B"}} "${{C:-d "e"}}" ${{D:---lowram -v}}',
            ["x y", "d e", "--lowram", "-v"]),
        ("P=/a/Bc_d.tar.gz; F=${P##*/}; E=.gz\n" + TRAIN +
            "${F%%.*} ${F,,} ${F:1:3} ${F: -2} ${F//_/-} ${F%$E} ${F/%gz/x}",
            ["Bc_d", "bc_d.tar.gz", "c_d", "gz", "Bc-d.tar.gz", "Bc_d.tar", "Bc_d.tar.x"]),
        (f"A=(x 'y z'); A[2]=w; A+=(v)\n{TRAIN} ${{#A[@]}} \"${{A[@]:1:2}}\" ${{A[-1]}} ${{!A[@]}}",
            ["4", "y z", "w", "v", "0", "1", "2", "3"]),
        (f"declare -A D=([a]=1 [b]=2); D[c]=3; K=b; V=K\n{TRAIN} ${{D[$K]}} ${{D[c]}} ${{!V}}", ["2", "3", "b"]),
        (f"A=$(basename /x/y.txt .txt) B=`echo Ab | tr A-Z a-z`; C=$(seq 3)\n{TRAIN} $A $B $C $(dirname a/b)",
            ["y", "ab", "1", "2", "3", "a"]),
        (f"printf -v A '%s-%03d' x 7; read B C <<< '1 2 3'; IFS=, read -a D <<< p,q\n{TRAIN} $A $B \"$C\" ${{D[1]}}",
            ["x-007", "1", "2 3", "q"]),
        (f"f() {{ local A=2; B=3; shift; {TRAIN} $A $# \"$@\"; }}\nA=1; f x 'y z' w; set -- q; {TRAIN} $A$B$1",
            ["2", "2", "y z", "w"]),
        (f"i=0; ((i += 4)); j=$((i++ > 3 ? i * 2 : 0))\n{TRAIN} $i $j $((1 << 3 | 2)) {{1..3}} x{{a,b}}",
            ["5", "10", "10", "1", "2", "3", "xa", "xb"]),
        (f"A=1; (A=2; exit 1); echo x | read A; {TRAIN} $A `# remark`", ["1"]),
        (f"N=\"a b\"; C='{TRAIN} --output_name \"$N\"'; eval \"$C\"; exec {TRAIN} x; {TRAIN} y",
            ["--output_name", "a b"]),
        (f"echo '-x 1' | xargs {TRAIN} y", ["y", "-x", "1"]),
        (f"bash <<'E'\n{TRAIN} x\nE\n", ["x"]),
        (f"[[ v12 =~ ^v([0-9]+)$ && a.b == \"a.b\" && ! ab == 'a*' ]] && {TRAIN} ${{BASH_REMATCH[1]}}", ["12"]),
        (f"is() {{ [[ $1 == x ]]; }}\nno() {{ return 1; }}\nis x && A=1 || A=2; no || B=2\n{TRAIN} $A $B",
            ["1", "2"]),
        (f"echo 7 > a.txt; A=$(<a.txt); B=\"$( < 'a.txt')\"; > a.txt; {TRAIN} $A $B x$(<a.txt)", ["7", "7", "x"]),
        ("log() { echo \"$*\" >&2; }; f() { log 'x'; echo 5; echo y 1>&2; }; A=$(f)\n" + TRAIN +
            "$A $( { echo x >&2; echo o; } 2>/dev/null) $(echo z > /dev/stdout)", ["5", "o", "z"]),
        ("if V=$(false); then D=1; else D=2; fi; f() { return 1; }; W=$(f) || W=b; X=$(exit 1) || X=c\n" + TRAIN +
            "$D $W $X", ["2", "b", "c"]),
        (f"declare -i S=1000; S+=500; declare -u U; U=a; U+=b; {TRAIN} $S $U", ["1500", "AB"]),
        ("case x in x) A=1 ;& y) A=2;; z) A=3;; esac\ncase x in x) B=1;;& y) B=2;; x) C=3;; *) C=4;; esac\n" + TRAIN +
            "$A $B $C", ["2", "1", "3"]),
        (f"[ abc = 'a*' ] && A=1 || A=2; y=3; [[ y -eq 3 ]] && B=1; [[ 010 -eq 8 ]] && C=1; {TRAIN} $A $B $C",
            ["2", "1", "1"]),
        (f"a=010; {TRAIN} {{a,{{b,c}}}} {{{{1..2}},x{{y,z}}}} {{a{{b,c}} $((010)) $((a + 1))",
            ["a", "b", "c", "1", "2", "xy", "xz", "{ab", "{ac", "8", "9"]),
        (f"A=$(echo -ne 'a\\n'; echo a -n); {TRAIN} $A", ["a", "a", "-n"]),
        (f"A=$(echo x >&2; echo 3 >&1 2>/dev/null); echo x 3>a.txt >b.txt; {TRAIN} $A $(<b.txt)", ["3", "x"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str], tmp_path: Path) -> None:
    assert read_words(f"{text}\n", tmp_path)[0] == words


def test_files_that_are_written_anew_for_each_command(tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    text = (
        f'echo "seed = 9" > b/c.toml\nfor s in 1 2; do echo "seed = $s" > ./c.toml; {TRAIN} --config_file c.toml; done'
    )
    path.write_text(text, "utf-8")
    found = [read_foreign_file(Source(path=path, content=b"", command=number)) for number in (1, 2)]
    assert [each.options["seed"].value for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("n=1; while [ $n -lt 4 ]; do T $n; n=$((n + 1)); done", ["1", "2", "3"]),
        ("i=5; until (( i == 3 )); do ((i--)); T $i; done", ["4", "3"]),
        ("for ((i = 2; i < 9; i *= 2)); do [ $i = 4 ] && continue; T $i; done", ["2", "8"]),
        ("i=0; while true; do ((++i)); T $i; [ $i = 2 ] && break; done", ["1", "2"]),
        ("while read -r a b; do T $b; done <<E\nx 1\ny 2\nE", ["1", "2"]),
        ("printf '1\\n2\\n' | while read -r a; do T $a; done", ["1", "2"]),
        ("while read -r a; do T $a; done < <(seq 2)", ["1", "2"]),
        ("while true; do T 1; done", ["1"]),
    ],
)
def test_turns_of_a_loop(text: str, seeds: list[str], tmp_path: Path) -> None:
    assert read_words(f"T() {{ {TRAIN} $1; }}\n{text}\n", tmp_path) == [[seed] for seed in seeds]


def test_files_that_a_script_writes_and_reads(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("DIM=12\n", "utf-8")
    text = '. "$(dirname "$0")/env"\ncat > c.toml <<E\nseed = 1\nE\necho "network_dim = $DIM" >> c.toml\n'
    found = read(f"{text}{TRAIN} --config_file c.toml\n", tmp_path)
    assert {name: found.options[name].value for name in ("seed", "network_dim")} == {"seed": 1, "network_dim": 12}
    assert found.missing == ()


def test_script_that_is_longer_than_a_value(tmp_path: Path) -> None:
    (tmp_path / "big.sh").write_text("# a remark\n" * 7000 + "S=4\n", "utf-8")
    assert read_words(f"source ./big.sh\n{TRAIN} $S\n", tmp_path) == [["4"]]


@pytest.mark.parametrize(
    "text",
    [
        f"source elsewhere.sh\n{TRAIN} --seed ${{S:-4}}\n",
        f"S=$(date)\n{TRAIN} --seed 4 --training_comment ${{S:-4}}\n",
        f'{TRAIN} --seed 4 "$@"\n',
        f'{TRAIN} --seed 4 --output_name "$(basename "$PWD")"\n',
        f'D=$(cd "$(dirname "$0")" && pwd)\n{TRAIN} --seed 4 --output_name "${{D##*/}}"\n',
        f'D=$(pwd)\n{TRAIN} --seed 4 --output_dir "$(dirname "$D")"\n',
        f"if [[ a =~ a{{99999999999}} ]]; then S=4; fi\n{TRAIN} --seed 4\n",
        f"if [[ a =~ [[a]b ]]; then S=4; fi\n{TRAIN} --seed 4\n",
        f"if [[ {'a' * 30} =~ {'a?' * 30}{'a' * 30} ]]; then S=4; fi\n{TRAIN} --seed 4\n",
        f"S=$(echo '\ue000' | tr '\u4e01-\U00020000' '\u4e00-\U00020000')\n{TRAIN} --seed 4 --vae $S\n",
        f"case 12 in +([0-9])) S=4;; esac\n{TRAIN} --seed 4\n",
        f"[[ 12 == @(11|12) ]] && S=4\n{TRAIN} --seed 4\n",
        f'[ "$PWD" = /workspace ] && S=4\n{TRAIN} --seed 4\n',
        f"S=$(printf '%(%Y%m%d)T' -1)\n{TRAIN} --seed 4 --vae $S\n",
        f"S=$(printf %x 255)\n{TRAIN} --seed 4 --vae $S\n",
        f"S=$(printf %d 010)\n{TRAIN} --seed 4 --vae $S\n",
        f'S=$(<elsewhere.txt)\n{TRAIN} --seed 4 --output_name "$S"\n',
        f'S=$({{ echo x >&2; echo 4; }} 2>&1)\n{TRAIN} --seed 4 --output_name "$S"\n',
        f'S=$(dialog --menu x 3>&1 1>&2 2>&3)\n{TRAIN} --seed 4 --output_name "$S"\n',
        f"n=0; while [ $n -lt 3 ]; do n=$(date); S=4; done\n{TRAIN} --seed 4\n",
    ],
)
def test_what_only_bash_knows_is_to_check(text: str, tmp_path: Path) -> None:
    assert [line.fate for line in read(text, tmp_path).missing] == ["unknown"]


@pytest.mark.parametrize(
    "text",
    [
        'x=\'eval "$x"\'; eval "$x"\n',
        "n=0; while true; do n=$((n + 1)); done\n",
        "echo " + "{a,b}" * 40 + "\n",
        "echo {1..900000}\n",
        "f() { echo $(f)$(f); }\nf\n",
        "source a.sh\n",
        "bash a.sh\n",
        "seq 1 900000\n",
    ],
)
def test_what_has_no_end_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        read(f"{text}{TRAIN} --seed 1\n", tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 ** 2 ** 1", 19), ("-7 / 2", -3), ("-7 % 3", -1), ("(1, 2) + 0x10", 18), ("!0 && 2 < 3 || 1 / 0", 1),
        ("1 ? 2 : 3 / 0", 2), ("a", None), ("0 && a", 0), ("1 / 0", None), ("1 +", None),
        ("2 ** 90", None), ("010 + 0", 8), ("09", None), ("(" * 150, None),
    ],
)  # fmt: skip
def test_sums(text: str, value: int | None) -> None:
    assert compute(text) == value
