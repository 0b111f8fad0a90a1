"""A recipe file to a Recipe: bytes, encodings, syntax, and what can be saved of a faulty one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.recipe.load import LoadedRecipe, load_recipe, with_positions
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal
from lorabake_schemas.unjudged import InvalidKeyError
from situations import RECIPE


def loaded(tmp_path: Path, content: str | bytes) -> LoadedRecipe:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_recipe(path)


def lines(tmp_path: Path, content: str | bytes) -> list[tuple[str, int | None, int | None]]:
    read = loaded(tmp_path, content)
    return [
        (finding.key or finding.rule, finding.line, finding.column) for finding in with_positions(read.findings, read)
    ]


def test_a_valid_file(tmp_path: Path) -> None:
    read = loaded(tmp_path, RECIPE)
    assert read.recipe is not None
    assert read.recipe.concept[0].token == "hmbrgrlora"  # noqa: S105 - no password
    assert read.findings == ()
    assert read.sha256 == hashlib.sha256(RECIPE.encode()).hexdigest()
    assert read.folder == tmp_path


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + RECIPE.encode(), RECIPE.replace("\n", "\r\n").encode()])
def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path, content: bytes) -> None:
    read = loaded(tmp_path, content)
    assert read.recipe is not None
    assert read.content == content
    assert read.recipe == loaded(tmp_path, RECIPE).recipe


def test_windows_line_ends_keep_their_line_numbers(tmp_path: Path) -> None:
    text = RECIPE + "[train]\nlearning_rat = 1.0\n"
    plain = lines(tmp_path, text)
    assert plain == [("train.learning_rat", text.count("\n"), 1)]
    assert lines(tmp_path, text.replace("\n", "\r\n")) == plain
    assert lines(tmp_path, b"\xef\xbb\xbf" + text.encode()) == plain


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("name = \n", 1, 8),
        ('name = "a\nb = 1\n', 1, 10),
        ("[train]\nx = 1\n[train]\n", 3, 7),
        ("[train\n", 1, 7),
        ("a = 1\n\n\na = 2\n", 4, 6),
        ("ok = 1\nflag = True\n", 2, 8),
        ("a = [1,", 1, None),
        ('a = """x\n\n', 1, None),
        ('b = 1\na = """x\n\n', 2, None),
        ("b = 1\na = 'x\n\n", 2, None),
        ("b = 1\na = [\n1\nc = 2\n", 2, None),
    ],
)
def test_syntax_errors_have_line_and_column(tmp_path: Path, text: str, line: int, column: int | None) -> None:
    read = loaded(tmp_path, text)
    assert read.recipe is None
    assert read.salvage is None
    assert [(f.rule, f.severity, f.line, f.column) for f in read.findings] == [
        ("toml-syntax", Severity.ERROR, line, column)
    ]
    assert "(at " not in read.findings[0].message


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ('name = "x\n', "the text is not closed on its line", "quote"),
        ("ok = True\n", "not a valid value", "lower case"),
        ("a = 1\na = 2\n", "duplicate key", "keep one"),
        ("[train]\n[train]\n", "duplicate table", "one header"),
        ('model = "C:\\models\\x"\n', "a backslash", "single quotes"),
        ('model = "C:\\users\\x"\n', "a backslash", "single quotes"),
        ('a = "x', "the text that starts here is not closed", "the quotes it starts with"),
        ("a = 'x\n", "the text is not closed on its line", "single quote"),
        ("a = [1\n", "the list that starts here is not closed", "close it with ]"),
        ('a = "it"s"\n', "unexpected text after the value", "single quotes"),
        ("[train\n", "the table name is not closed", "[[concept]]"),
        ("[[concept]\n", "the table name is not closed", "[[concept]]"),
        ("a b = 1\n", "Expected '=' after a key in a key/value pair", "in quotes"),
    ],
)
def test_the_mistakes_people_make_are_said_in_their_words(tmp_path: Path, text: str, message: str, fix: str) -> None:
    finding = loaded(tmp_path, text).findings[0]
    assert finding.message.startswith(f"invalid TOML: {message}")
    assert fix in finding.fix


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    read = loaded(tmp_path, b'name = "x"\nkind = "\xe9"\n')
    assert [(f.rule, f.line) for f in read.findings] == [("toml-syntax", 2)]
    assert "UTF-8" in read.findings[0].fix
    assert with_positions(read.findings, read) == read.findings


@pytest.mark.parametrize("text", ["a = " + "[" * 5000 + "]" * 5000, "a = " + "9" * 6000, "a = " + "{b = " * 3000])
def test_what_goes_on_without_end_is_a_finding_not_a_crash(tmp_path: Path, text: str) -> None:
    read = loaded(tmp_path, text)
    assert [f.rule for f in with_positions(read.findings, read)] == ["toml-syntax"]


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe not found: ") as caught:
        load_recipe(tmp_path / "nothing.toml")
    assert "recipes list" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(RecipeError, match="too large"):
        load_recipe(tmp_path / "big.toml")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot read"):
        load_recipe(tmp_path / "file" / "recipe.toml")


def test_a_faulty_recipe_leaves_what_can_be_judged(tmp_path: Path) -> None:
    read = loaded(
        tmp_path, RECIPE + 'junk = 1\n[train]\nseed = "x"\noptimizer = "AdamW"\n[[ignore]]\nrule = 1\nreason = "abc"\n'
    )
    assert read.recipe is None
    assert [f.key for f in read.findings] == ["concept[0].junk", "train.seed", "ignore[0].rule"]
    left = read.salvage
    assert left is not None
    assert left.train.optimizer == "AdamW"
    assert left.concept[0].images == "pics"
    assert left.ignore[0].reason == "abc"
    for part, key in ((left.train, "seed"), (left.ignore[0], "rule")):
        with pytest.raises(InvalidKeyError):
            getattr(part, key)


@pytest.mark.parametrize(
    ("more", "unknown", "known"),
    [
        ('[train]\nresolution = 7\noptimizer = "AdamW"\n', ["resolution"], ["optimizer", "seed"]),
        ("[train]\nlr_warmup = 3\n", ["lr_warmup_steps"], ["optimizer"]),
        ("[train]\nlr = 3\n", ["learning_rate"], ["unet_lr"]),
        ("[train]\nlr = 3\nlearning_rate = 1.0\n", [], ["learning_rate"]),
        ("[trian]\nseed = 3\n", ["seed"], ["optimizer"]),
        ("[trian]\nseed = 3\n[train]\noptimizer = 'AdamW'\n", ["seed"], ["optimizer"]),
        ("[network]\nunet_lr = 1.0\n", ["unet_lr"], ["learning_rate"]),
        ("[train]\noptimizer_args = { d0 = 1979-05-27 }\n", [], ["optimizer"]),
        ("train = 3\n", ["seed", "optimizer"], []),
    ],
)
def test_a_key_that_was_probably_meant_is_not_known_either(
    tmp_path: Path, more: str, unknown: list[str], known: list[str]
) -> None:
    read = loaded(tmp_path, more + RECIPE if more.startswith("train") else RECIPE + more)
    left = read.salvage
    assert left is not None
    for name in unknown:
        with pytest.raises(InvalidKeyError):
            getattr(left.train, name)
    for name in known:
        getattr(left.train, name)


@pytest.mark.parametrize("line", ['model = "base.safetensors"', 'images = "pics"', 'kind = "object"'])
def test_what_a_recipe_needs_may_be_missing(tmp_path: Path, line: str) -> None:
    read = loaded(tmp_path, RECIPE.replace(line + "\n", ""))
    assert [f.rule for f in read.findings] == ["missing-key"]
    assert read.salvage is not None
    assert read.salvage.name == "hmbrgrlora"


def test_a_free_table_gives_no_answer_for_its_wrong_values_alone(tmp_path: Path) -> None:
    left = loaded(tmp_path, RECIPE + "[kohya]\nhuber_c = 1979-05-27\nmin_timestep = 3\n").salvage
    assert left is not None
    assert left.kohya.get("min_timestep") == 3
    assert left.kohya.get("max_timestep") is None
    with pytest.raises(InvalidKeyError):
        left.kohya.get("huber_c")
    with pytest.raises(InvalidKeyError):
        assert "huber_c" in left.kohya


def test_the_line_of_what_is_missing_is_its_tables(tmp_path: Path) -> None:
    read = loaded(tmp_path, RECIPE.replace('model = "base.safetensors"\n', ""))
    assert with_positions(read.findings, read)[0].line == 4  # where [base] is


@pytest.mark.parametrize(
    ("line", "key", "column"),
    [
        ("[network]\nargs = { conv_dim = 4, algo = [1, 2] }", "network.type", 24),
        ("[network.args]\ndropout = 2.5", "network.network_dropout", 1),
        ("[kohya]\nlr_scheduler_args = [1]", "train.lr_scheduler_args", 1),
        ('[train]\nseed = 1\n[kohya]\nlr_scheduler_type = "."', "train.lr_scheduler_type", 1),
    ],
)
def test_a_key_in_its_other_place_is_reported_there(tmp_path: Path, line: str, key: str, column: int) -> None:
    text = f"{RECIPE}{line}\n"
    assert lines(tmp_path, text) == [(key, text.count("\n"), column)]


def test_lines_are_filled_in_and_sorted(tmp_path: Path) -> None:
    content = (RECIPE + "[network]\nnetwork_dim = 0\n").encode()
    made = [
        Finding(
            rule="a", severity=Severity.HINT, where=("network", "network_dim"), message=literal("m"), fix=literal("f")
        ),
        Finding(
            rule="b", severity=Severity.HINT, where=("concept", 0, "images"), message=literal("m"), fix=literal("f")
        ),
        Finding(rule="c", severity=Severity.HINT, where=("train", "seed"), message=literal("m"), fix=literal("f")),
        Finding(rule="d", severity=Severity.HINT, where=("base",), line=99, message=literal("m"), fix=literal("f")),
    ]
    loaded = LoadedRecipe(Path("recipe.toml"), content, None, None, ())
    placed = with_positions(made, loaded)
    assert [(f.rule, f.line, f.column) for f in placed] == [
        ("c", None, None),
        ("b", 12, 1),
        ("a", 14, 1),
        ("d", 99, None),
    ]
    assert with_positions((), loaded) == ()


def test_a_list_with_an_entry_that_is_no_table_gives_no_answer_as_a_whole(tmp_path: Path) -> None:
    text = RECIPE[: RECIPE.index("[[concept]]")]
    left = loaded(tmp_path, 'concept = ["a", { token = 1, images = "pics" }]\n' + text).salvage
    assert left is not None
    with pytest.raises(InvalidKeyError):
        len(left.concept)
