"""Edits of all captions, in place and undone: which files change, to which bytes, and what is never touched."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from lorabake.analysis.captioned_recipe import CaptionedRecipe, read_captioned_recipe
from lorabake.analysis.tag_counts import tag_images
from lorabake.analysis.tag_edits import make_edit, select_images
from lorabake.errors import InterruptedRunError, LorabakeError, MachineError, RecipeError, UnknownNameError
from lorabake.jobs import caption_edits
from lorabake.jobs.caption_edits import EditPlan, plan_edits, undo_edits, write_in_place
from lorabake.util import files
from lorabake_schemas.tag_report import EditKind

HEAD = 'name = "x"\nkind = "object"\n[base]\nmodel = "m.safetensors"\nfamily = "sd15"\n'


def write_set(root: Path, captions: dict[str, bytes], more: str = "") -> Path:
    (root / "pics").mkdir()
    for stem, text in captions.items():
        (root / "pics" / f"{stem}.png").write_bytes(b"an image")
        (root / "pics" / f"{stem}.txt").write_bytes(text)
    path = root / "r.toml"
    path.write_text(f'{HEAD}[[concept]]\ntoken = "lum"\nclass = "tower"\nimages = "pics"\n{more}', encoding="utf-8")
    return path


def read(path: Path) -> CaptionedRecipe:
    return read_captioned_recipe(path, (), {}, cache=False)


def plan(
    path: Path, *edits: tuple[EditKind, str], where: tuple[str, ...] = (), concept: str | None = None
) -> tuple[EditPlan, CaptionedRecipe]:
    found = read(path)
    table = tag_images(found.recipe, found.folders)
    made = [make_edit(kind, given, table.spellings) for kind, given in edits]
    return plan_edits(found, made, select_images(found.recipe, table, concept, where)), found


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def test_only_changed_files_are_written_and_undo_brings_every_byte_back(tmp_path: Path) -> None:
    captions = {"a": b"\xef\xbb\xbflum, sea\r\nx", "b": b"lum, sky\n", "c": "lum, sea, é".encode()}
    path = write_set(tmp_path, captions)
    (tmp_path / "pics" / "a.txt").chmod(0o640)
    before = snapshot(tmp_path / "pics")
    planned, found = plan(path, ("remove", "sea"))
    assert (planned.counts, planned.captions, len(planned.files)) == ([2], 3, 2)
    assert snapshot(tmp_path / "pics") == before
    undo = write_in_place(planned, found)
    after = snapshot(tmp_path / "pics")
    assert after["a.txt"][0] == b"\xef\xbb\xbflum\r\nx"
    assert {name for name in before if before[name] != after[name]} == {"a.txt", "c.txt"}
    assert (tmp_path / "pics" / "a.txt").stat().st_mode & 0o777 == 0o640
    assert undo.parent == tmp_path
    assert undo_edits(read(path), undo).written == 2
    assert {name: data for name, (data, _) in snapshot(tmp_path / "pics").items()} == {
        name: data for name, (data, _) in before.items()
    }
    assert undo_edits(read(path), undo).written == 0


def test_random_edits_undone_in_turn(tmp_path: Path) -> None:
    dice = random.Random(3)  # noqa: S311
    ends = ["", "\n", "\r\n", " \n\n", "\nsecond line, a"]
    words = ["a", "b", "c d", "c_d", "é", "{a|b}", "a tower that stands alone on a rock far out at sea."]
    captions = {
        f"i{at}": (dice.choice(["", "\ufeff"]) + ", ".join(dice.choices(words, k=4)) + dice.choice(ends)).encode()
        for at in range(40)
    }
    path = write_set(tmp_path, captions)
    states, undos = [snapshot(tmp_path / "pics")], list[Path]()
    choices: list[tuple[EditKind, str]] = [
        ("add", "new"), ("add", "x@1"), ("add", "y@3"), ("remove", "a"), ("remove", "c*"), ("rename", "b=long hair"),
        ("rename", "c d=c d"), ("front", "é"), ("front", "*"), ("remove", "*"), ("rename", "*=q"),
    ]  # fmt: skip
    for _ in range(12):
        planned, found = plan(path, *dice.sample(choices, 2))
        if planned.files:
            undos.append(write_in_place(planned, found))
            states.append(snapshot(tmp_path / "pics"))
    assert len(undos) > 5
    for undo in reversed(undos):
        states.pop()
        undo_edits(read(path), undo)
        assert [data for data, _ in snapshot(tmp_path / "pics").values()] == [data for data, _ in states[-1].values()]
    assert {name[:-4]: data for name, (data, _) in states[0].items() if name.endswith("txt")} == captions


def test_interrupted_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = {f"i{at}": b"lum, sea, sky" for at in range(6)}
    path = write_set(tmp_path, captions)
    planned, found = plan(path, ("remove", "sea"), ("add", "new@1"))
    real, written = files.replace_bytes, list[Path]()

    def interrupt(target: Path, data: bytes, *, within: Path | None = None, keep_mode: bool = False) -> None:
        written.append(target)
        if len(written) == 4:
            raise KeyboardInterrupt
        real(target, data, within=within, keep_mode=keep_mode)

    monkeypatch.setattr("lorabake.jobs.caption_edits.replace_bytes", interrupt)
    with pytest.raises(InterruptedRunError) as stopped:
        write_in_place(planned, found)
    monkeypatch.undo()
    first = written[0]
    assert stopped.value.hint is not None
    assert str(first) in stopped.value.hint
    again, found = plan(path, ("remove", "sea"), ("add", "new@1"))
    assert len(again.files) == 4
    second = write_in_place(again, found)
    assert {(tmp_path / "pics" / f"{stem}.txt").read_bytes() for stem in captions} == {b"new, lum, sky"}
    assert undo_edits(read(path), second).written == 4
    assert undo_edits(read(path), first).written == 2
    assert {(tmp_path / "pics" / f"{stem}.txt").read_bytes() for stem in captions} == {b"lum, sea, sky"}


def test_undo_refuses_where_a_caption_has_changed_since(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sea"})
    undo = write_in_place(*plan(path, ("remove", "sea")))
    (tmp_path / "pics" / "b.txt").write_bytes(b"lum, mine")
    before = snapshot(tmp_path / "pics")
    with pytest.raises(RecipeError):
        undo_edits(read(path), undo)
    assert snapshot(tmp_path / "pics") == before


@pytest.mark.parametrize("named", ["../victim.txt", "pics/../../victim.txt", "/etc/passwd", "pics/a.png", "r.toml"])
def test_an_undo_file_of_a_stranger_reaches_captions_only(tmp_path: Path, named: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    path = write_set(root, {"a": b"lum, sea"})
    (tmp_path / "victim.txt").write_bytes(b"lum")
    undo = write_in_place(*plan(path, ("remove", "sea")))
    content = json.loads(undo.read_text())
    target = (root / named).resolve()
    content["files"][0] |= {"file": named, "after_sha256": caption_edits.hash_bytes(target.read_bytes())}
    undo.write_text(json.dumps(content))
    before = target.read_bytes()
    with pytest.raises(RecipeError):
        undo_edits(read(path), undo)
    assert target.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"lorabake_undo": 1, "files": [{}]}', b"\xff"])
def test_what_is_not_an_undo_file(tmp_path: Path, content: bytes) -> None:
    path = write_set(tmp_path, {"a": b"lum"})
    (tmp_path / "u.json").write_bytes(content)
    with pytest.raises(MachineError):
        undo_edits(read(path), tmp_path / "u.json")


def test_a_damaged_undo_file(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea"})
    undo = write_in_place(*plan(path, ("remove", "sea")))
    undo.write_bytes(undo.read_bytes().replace(b"lum, sea", b"lum, see"))
    with pytest.raises(MachineError):
        undo_edits(read(path), undo)


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sea"})
    elsewhere = tmp_path / "elsewhere.txt"
    (tmp_path / "pics" / "b.txt").rename(elsewhere)
    (tmp_path / "pics" / "b.txt").symlink_to(elsewhere)
    planned, found = plan(path, ("remove", "sea"))
    assert [each.file for each in planned.skipped] == ["pics/b.txt"]
    write_in_place(planned, found)
    assert elsewhere.read_bytes() == b"lum, sea"
    assert (tmp_path / "pics" / "b.txt").is_symlink()
    assert (tmp_path / "pics" / "a.txt").read_bytes() == b"lum"


def test_a_borrowed_caption_outside_of_the_folder_is_left(tmp_path: Path) -> None:
    path = write_set(tmp_path, {}, 'caption_extension = ".txt"\n')
    folder = tmp_path / "my_very_own_red_set"
    (tmp_path / "pics").rename(folder)
    path.write_text(path.read_text().replace('"pics"', '"my_very_own_red_set"'))
    (folder / "7.png").touch()
    (tmp_path / "my.txt").write_bytes(b"lum, sea")
    planned, _ = plan(path, ("remove", "sea"))
    assert (planned.files, len(planned.skipped)) == ([], 1)


@pytest.mark.parametrize("bad", [b"\xff\xfel", b"lum \xe9"])
def test_captions_that_are_not_utf8_are_left(tmp_path: Path, bad: bytes) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": bad})
    planned, _ = plan(path, ("add", "new"))
    assert [each.file for each in planned.skipped] == ["pics/b.txt"]
    assert len(planned.files) == 1


def test_no_caption_becomes_empty(tmp_path: Path) -> None:
    planned, _ = plan(write_set(tmp_path, {"a": b"lum\n", "b": b"lum, sea\n"}), ("remove", "lum"))
    assert [each.file for each in planned.skipped] == ["pics/a.txt"]
    assert [each.after for each in planned.files] == [b"sea\n"]


@pytest.mark.parametrize(
    ("kind", "given", "more", "files"),
    [
        ("remove", "lum", "", {"pics/a.txt", "pics/b.txt", "pics/c.txt"}),
        ("rename", "lum=lumi", "", {"pics/a.txt", "pics/b.txt", "pics/c.txt"}),
        ("front", "sea", "", {"pics/a.txt", "pics/c.txt"}),
        ("add", "new@1", "", {"pics/a.txt", "pics/c.txt"}),
        ("add", "new@2", "", set[str]()),
        ("rename", "lum=Lum", "", set[str]()),
        ("front", "lum", "", set[str]()),
        ("front", "sea", 'caption_prefix = "lum,"\n', set[str]()),
        ("remove", "sea", 'keep_tokens_separator = "|||"\n', set[str]()),
    ],
)
def test_captions_that_lose_the_token_are_named(
    tmp_path: Path, kind: EditKind, given: str, more: str, files: set[str]
) -> None:
    captions = {"a": b"lum, sea", "b": b"tower, lum, sea", "c": b"Lum,sea", "d": b"sky, sea"}
    planned, _ = plan(write_set(tmp_path, captions, more), (kind, given))
    assert set(planned.tokenless) == files


def test_captions_of_a_metadata_file_that_lose_the_token_are_named_by_image(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"", "b": b""}, 'metadata_file = "meta.json"\n')
    (tmp_path / "meta.json").write_text('{"a.png": {"tags": "lum, sea"}, "b.png": {"tags": "sea"}}')
    planned, _ = plan(path, ("front", "sea"))
    assert planned.tokenless == ["meta.json: a.png"]


def test_all_edits_count_for_the_token(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"sea, lum"})
    planned, _ = plan(path, ("add", "new@1"), ("front", "lum"))
    assert (planned.tokenless, len(planned.files)) == ([], 2)


def test_a_file_that_two_images_share_is_edited_once(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum"})
    (tmp_path / "pics" / "a.jpg").touch()
    planned, _ = plan(path, ("add", "new@1"))
    assert (planned.captions, [each.after for each in planned.files]) == (1, [b"new, lum"])


def test_where_and_concept(tmp_path: Path) -> None:
    more = '[[concept]]\ntoken = "k"\nclass = "cat"\nimages = "k"\n'
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sky"}, more)
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "a.png").touch()
    (tmp_path / "k" / "a.txt").write_bytes(b"k, sea")

    def changed(where: tuple[str, ...] = (), concept: str | None = None) -> set[str]:
        return {each.file for each in plan(path, ("add", "new"), where=where, concept=concept)[0].changes}

    assert changed() == {"pics/a.txt", "pics/b.txt", "k/a.txt"}
    assert changed(where=("SEA",)) == {"pics/a.txt", "k/a.txt"}
    assert changed(where=("s*", "lum")) == {"pics/a.txt", "pics/b.txt"}
    assert changed(where=("sea",), concept="k") == {"k/a.txt"}
    with pytest.raises(UnknownNameError):
        changed(where=("nothing",))


META = (
    '{\n "pics/a.png" : {"caption": "lum, sea", "tags" :"sky, s\\u00e9a" , "x": [1, {"caption": "sea"}]},\n "b": {}}\n'
)


def test_a_metadata_file_changes_in_its_captions_only(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"not read"}, 'metadata_file = "meta.json"\n')
    meta = tmp_path / "meta.json"
    meta.write_text(META.replace("pics/", f"{tmp_path}/pics/"))
    before = meta.read_bytes()
    planned, found = plan(path, ("remove", "sea"), ("add", "new"), ("front", "sky"))
    undo = write_in_place(planned, found)
    assert meta.read_text() == before.decode().replace('"lum, sea"', '"sky, lum"').replace(
        '"sky, s\\u00e9a"', '"s\\u00e9a, new"'
    )
    undo_edits(read(path), undo)
    assert meta.read_bytes() == before


def test_tags_that_the_recipe_adds_are_not_doubled(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"sea, Sky", "b": b"sky"}, 'caption_prefix = "lum,"\ncaption_suffix = ", end"\n')
    edits: tuple[tuple[EditKind, str], ...] = (
        ("add", "Lum@1"), ("add", "end"), ("add", "lum, new"), ("remove", "lum"), ("front", "end"), ("remove", "se"),
        ("front", "sky"), ("rename", "nothing=x"),
    )  # fmt: skip
    planned, found = plan(path, *edits)
    table = tag_images(found.recipe, found.folders)
    made = [make_edit(kind, given, table.spellings) for kind, given in edits]
    why = [each.why for each in caption_edits.report_edits(planned, made, found, table).edits]
    assert planned.counts == [0, 0, 2, 0, 0, 0, 1, 0]
    assert [each.after for each in planned.files] == [b"Sky, sea, new", b"sky, new"]
    assert [said is not None for said in why] == [True] * 6 + [False, True]
    assert "did you mean sea" in str(why[5])


def test_an_edit_of_sentences_says_why_it_changes_nothing(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum stands by the sea, alone"}, 'tags = "natural"\n')
    planned, found = plan(path, ("remove", "alone"))
    table = tag_images(found.recipe, found.folders)
    (edit,) = caption_edits.report_edits(planned, [make_edit("remove", "alone", table.spellings)], found, table).edits
    assert edit.captions == 0
    assert "sentences" in str(edit.why)


def test_line_ends_that_only_python_knows_are_part_of_a_text(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"", "b": b""}, 'metadata_file = "meta.jsonl"\n')
    rows = [f'{{"image_path": "{tmp_path}/pics/{name}.png", "caption": "lum, x\u2028y, sea"}}\r\n' for name in "ab"]
    meta = tmp_path / "meta.jsonl"
    meta.write_bytes("".join(rows).encode())
    planned, found = plan(path, ("remove", "sea"))
    write_in_place(planned, found)
    assert meta.read_bytes().decode() == "".join(rows).replace(", sea", "")


def test_half_of_a_surrogate_pair_stays(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b""}, 'metadata_file = "meta.json"\n')
    meta = tmp_path / "meta.json"
    meta.write_text(f'{{"{tmp_path}/pics/a.png": {{"caption": "lum, \\ud800, \u00e9"}}}}', encoding="utf-8")
    planned, found = plan(path, ("add", "sea"))
    assert planned.skipped == []
    write_in_place(planned, found)
    assert json.loads(meta.read_text())[f"{tmp_path}/pics/a.png"]["caption"] == "lum, \ud800, \u00e9, sea"


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a\udcff": b"lum, sea"})
    planned, found = plan(path, ("remove", "sea"))
    undo = write_in_place(planned, found)
    assert (tmp_path / "pics" / "a\udcff.txt").read_bytes() == b"lum"
    assert undo_edits(read(path), undo).written == 1
    assert (tmp_path / "pics" / "a\udcff.txt").read_bytes() == b"lum, sea"


def test_a_folder_with_two_names_is_edited_once(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea"}, '[[concept]]\ntoken = "lum"\nclass = "tower"\nimages = "link"\n')
    (tmp_path / "link").symlink_to("pics")
    planned, found = plan(path, ("add", "sky"))
    undo = write_in_place(planned, found)
    assert (tmp_path / "pics" / "a.txt").read_bytes() == b"lum, sea, sky"
    undo_edits(read(path), undo)
    assert (tmp_path / "pics" / "a.txt").read_bytes() == b"lum, sea"


@pytest.mark.parametrize("extension", ["png", "txt"])
def test_what_was_deleted_does_not_stop_the_undo(tmp_path: Path, extension: str) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sea, x"})
    undo = write_in_place(*plan(path, ("remove", "sea")))
    (tmp_path / "pics" / f"a.{extension}").unlink()
    report = undo_edits(read(path), undo)
    assert (report.written, [each.file for each in report.skipped]) == (1, ["pics/a.txt"])
    assert (tmp_path / "pics" / "b.txt").read_bytes() == b"lum, sea, x"
    (tmp_path / "pics" / f"b.{extension}").unlink()
    (tmp_path / "pics" / "c.png").write_bytes(b"an image")
    with pytest.raises(RecipeError):
        undo_edits(read(path), undo)


def test_json_lines(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"", "b": b""}, 'metadata_file = "meta.jsonl"\n')
    rows = [{"image_path": str(tmp_path / "pics" / f"{name}.png"), "caption": "lum, sea"} for name in "ab"]
    meta = tmp_path / "meta.jsonl"
    meta.write_text("\n".join(map(json.dumps, rows)) + "\n")
    planned, found = plan(path, ("rename", "sea=ocean"))
    assert planned.captions == 2
    write_in_place(planned, found)
    assert meta.read_text() == "\n".join(map(json.dumps, rows)).replace("sea", "ocean") + "\n"


def test_a_caption_that_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea"})
    planned, found = plan(path, ("remove", "sea"))
    (tmp_path / "pics" / "a.txt").write_bytes(b"lum, mine")
    with pytest.raises(MachineError):
        write_in_place(planned, found)
    assert (tmp_path / "pics" / "a.txt").read_bytes() == b"lum, mine"


def test_what_was_written_before_a_failure_can_be_undone(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sea"})
    planned, found = plan(path, ("remove", "sea"))
    (tmp_path / "pics" / "b.txt").write_bytes(b"lum, mine")
    with pytest.raises(MachineError) as failed:
        write_in_place(planned, found)
    assert failed.value.hint is not None
    assert "r.undo-1.json" in failed.value.hint


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea"})
    planned, found = plan(path, ("remove", "sea"))
    os.rename(tmp_path / "pics", tmp_path / "away")  # noqa: PTH104 - as a person would
    with pytest.raises(LorabakeError):
        write_in_place(planned, found)


def test_what_a_killed_edit_has_left_is_removed(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": b"lum, sea", "b": b"lum, sky"})
    left, foreign = tmp_path / "pics" / ".b.txt.part", tmp_path / "pics" / ".mine.txt.part"
    for file in (left, foreign):
        file.write_bytes(b"lum, s")
    planned, found = plan(path, ("remove", "sea"))
    calls = list[tuple[int, int]]()
    undo = write_in_place(planned, found, lambda done, total: calls.append((done, total)))
    assert (left.exists(), foreign.exists(), calls) == (False, True, [(0, 1)])
    left.write_bytes(b"lum, s")
    undo_edits(read(path), undo)
    assert (left.exists(), foreign.exists()) == (False, True)
