"""What differs between a run's record and this machine: by kind, and as messages."""

from __future__ import annotations

import pytest

from lorabake.analysis.differences import describe_file_change, describe_value_change
from lorabake.analysis.verify_files import describe_text_change
from lorabake.analysis.verify_trainer import changed_trainer, machine_remarks, trainer_remarks
from lorabake.inputs.input_changes import changed_inputs
from lorabake.trainer.environment import CurrentTrainer
from lorabake.util.changes import Change, compare_listings
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import literal, msg
from lorabake_schemas.record import FileDigest, Input, InputRole, TrainerRecord

ENDINGS = (".png", ".txt")
WHY = msg("permission denied")


def file(name: str, content: str = "") -> FileDigest:
    return FileDigest(name=name, sha256=(content or name).encode().hex().ljust(64, "0")[:64], size=3)


def concept(*files: FileDigest, index: int = 0, role: InputRole = "concept", name: str = "datasets/hamburger") -> Input:
    return Input(role=role, index=index, name=name, place=f"../{name}", kind="folder", endings=ENDINGS, files=files)


def model(content: str, role: InputRole = "base") -> Input:
    name = "models/sd.safetensors"
    return Input(role=role, name=name, place=f"../{name}", kind="file", files=(file("sd.safetensors", content),))


def changes(then: Input, *now: Input) -> list[tuple[str, str]]:
    return [(change.name, change.kind) for _, change in changed_inputs((then,), now)]


IMAGES = (file("01.png"), file("01.txt"), file("02.png"), file("02.txt"))


def test_each_kind_of_change_in_the_order_of_the_older_listing() -> None:
    then = {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}
    now = {"f": "6", "x": "5", "b": "0", "a": "1"}
    assert list(compare_listings(then, now, unreadable={"d": WHY}, renamed={"e": "x"})) == [
        Change("b", "changed", "2", "0"),
        Change("c", "missing", "3"),
        Change("d", "unreadable", "4", why=WHY),
        Change("e", "renamed", "e", "x"),
        Change("f", "added", now="6"),
    ]
    assert list(compare_listings(then, then)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("a.txt", "missing", "1"), "pics/a.txt is missing"),
        (Change("a.txt", "changed", "1", "2"), "pics/a.txt changed after the run"),
        (Change("a.txt", "added", None, "2"), "pics/a.txt was added after the run"),
        (Change("a.txt", "renamed", "a.txt", "b.txt"), "pics/a.txt is now named b.txt"),
        (Change("a.txt", "unreadable", why=WHY), "cannot read pics/a.txt: permission denied"),
    ],
)
def test_one_sentence_for_each_kind_of_change_to_a_file(change: Change, message: str) -> None:
    found = describe_file_change("concept", change, literal("pics/a.txt"), 2)
    assert (found.what, found.index, found.name, found.change) == ("concept", 2, "a.txt", change.kind)
    assert (found.was, found.now, str(found.message)) == (change.was, change.now, message)
    assert str(describe_file_change("output", change).message) == message.replace("pics/", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("einops", "missing", "0.7"), "einops was removed from the trainer (it was 0.7)"),
        (Change("einops", "changed", "0.7", "0.8"), "einops in the trainer changed from 0.7 to 0.8"),
        (Change("einops", "added", None, "0.8"), "einops was added to the trainer: 0.8"),
    ],
)
def test_one_sentence_for_each_kind_of_change_to_a_value(change: Change, message: str) -> None:
    assert str(describe_value_change("trainer", change, literal("the trainer")).message) == message


def test_the_same_inputs_differ_in_nothing() -> None:
    assert list(changed_inputs((concept(*IMAGES), model("a")), (concept(*IMAGES), model("a")))) == []


def test_many_captions_that_changed_are_found_in_no_time() -> None:
    """20,000 of them: each is found by name, none by looking through all others (minutes)."""
    names = [(f"{number}.png", f"{number}.txt") for number in range(20_000)]
    then = concept(*(file(name) for pair in names for name in pair))
    now = concept(*(file(name, "new" if name.endswith("txt") else "") for pair in names for name in pair))
    assert len(changes(then, now)) == 20_000


def test_what_changed_went_and_came_in_one_folder() -> None:
    then = concept(*IMAGES, file("03.png"))
    now = concept(file("01.png", "new"), file("02.txt"), file("02.png"), file("31.png"), file("03.txt"), file("03.png"))
    assert changes(then, now) == [
        ("01.png", "changed"), ("01.txt", "missing"), ("31.png", "added"), ("03.txt", "added"),
    ]  # fmt: skip


def test_a_file_with_another_name_is_known_by_its_content_where_there_is_no_doubt() -> None:
    empty = FileDigest(name="x.txt", sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", size=0)
    then = concept(file("1.png", "a"), file("2.png", "same"), file("3.png", "same"), empty)
    renamed = empty.model_copy(update={"name": "y.txt"})
    now = concept(file("01.png", "a"), file("02.png", "same"), file("03.png", "same"), renamed)
    assert changes(then, now) == [
        ("1.png", "renamed"), ("2.png", "missing"), ("3.png", "missing"), ("x.txt", "missing"),
        ("02.png", "added"), ("03.png", "added"), ("y.txt", "added"),
    ]  # fmt: skip


def test_a_caption_follows_its_renamed_image() -> None:
    then = concept(*(file(name, what) for name, what in (
        ("1.png", "a"), ("1.txt", "words"), ("2.png", "b"), ("2.txt", "words"), ("3.png", "c"), ("3.txt", "words"),
        ("4.png", "d"),
    )))  # fmt: skip
    now = concept(*(file(name, what) for name, what in (
        ("A.png", "a"), ("A.txt", "words"), ("B.png", "b"), ("B.txt", "other"), ("C.png", "c"), ("D.png", "d"),
        ("D.txt", "words"),
    )))  # fmt: skip
    assert changes(then, now) == [
        ("1.png", "renamed"), ("1.txt", "renamed"), ("2.png", "renamed"), ("2.txt", "changed"), ("3.png", "renamed"),
        ("3.txt", "missing"), ("4.png", "renamed"), ("D.txt", "added"),
    ]  # fmt: skip


def test_a_folder_that_is_missing_is_one_change() -> None:
    missing = concept().model_copy(update={"kind": "missing"})
    for now in ((missing,), ()):
        assert changes(concept(*IMAGES), *now) == [("datasets/hamburger", "missing")]


def test_each_input_is_compared_with_its_own() -> None:
    then = (concept(*IMAGES), concept(*IMAGES, index=1, name="b"), concept(*IMAGES, role="regularization"))
    now = (then[0], concept(*IMAGES[:3], index=1, name="b"), concept(*IMAGES[1:], role="regularization"))
    assert [(one.role, one.index, change.name) for one, change in changed_inputs(then, now)] == [
        ("concept", 1, "02.txt"),
        ("regularization", 0, "01.png"),
    ]


def test_what_was_never_hashed_is_not_compared() -> None:
    hub = Input(role="base", name="runwayml/sd", place="runwayml/sd", kind="hub")
    assert changes(hub, hub.model_copy(update={"files": (file("unet/x"),)})) == []


def test_what_nobody_may_read_is_not_missing() -> None:
    then = (concept(file("001.png"), file("002.png")), model("aa"), concept(file("001.npz"), role="caches"))
    now = tuple(each.model_copy(update={"kind": "missing", "files": ()}) for each in then)
    reasons = {each.key: {each.name: WHY} for each in then}
    found = [(change.name, change.kind) for _, change in changed_inputs(then, now, reasons)]
    assert found == [(each.name, "unreadable") for each in then]
    one = (then[0].model_copy(update={"files": then[0].files[:1]}),)
    (change,) = (change for _, change in changed_inputs(then[:1], one, {then[0].key: {"002.png": WHY}}))
    assert (change.name, change.kind) == ("002.png", "unreadable")


TRAINER = TrainerRecord(
    kind="pin",
    commit="48d368fa557731ad0488c07304dfeba8c07910eb",
    checkout="/a/sd-scripts",
    python="/a/venv/bin/python",
    python_version="3.11.4",
    clean=True,
    tree="11",
    packages={"accelerate": "1.6.0", "einops": "0.7", "torch": "2.13.0"},
)


def changed(**values: object) -> TrainerRecord:
    return TRAINER.model_copy(update=values)


@pytest.mark.parametrize(
    ("now", "change", "words"),
    [
        (None, ("sd-scripts", "missing", TRAINER.commit, None), "is not installed (sd-scripts 48d368fa5577)"),
        (changed(commit="a" * 40), ("sd-scripts", "changed", TRAINER.commit, "a" * 40), "to aaaa"),
        (changed(commit=None, tree="22"), ("sd-scripts", "changed", TRAINER.commit, "unknown"), "to unknown"),
        (changed(tree="22"), ("sd-scripts", "changed", "11", "22"), "sd-scripts files changed after the run"),
        (changed(python_version="3.12.1"), ("python", "changed", "3.11.4", "3.12.1"), "to 3.12.1"),
        (
            changed(python_version="", packages={}),
            ("python", "missing", "3.11.4", None),
            "the trainer's Python does not start: /a/venv/bin/python",
        ),
        (
            changed(packages=dict(TRAINER.packages) | {"accelerate": "1.6.1"}),
            ("accelerate", "changed", "1.6.0", "1.6.1"),
            "accelerate in the trainer changed from 1.6.0 to 1.6.1",
        ),
        (changed(packages={"accelerate": "1.6.0", "torch": "2.13.0"}), ("einops", "missing", "0.7", None), "einops"),
        (changed(packages=dict(TRAINER.packages) | {"apex": "1"}), ("apex", "added", None, "1"), "apex"),
    ],
)
def test_each_thing_of_a_trainer_that_differs(
    now: TrainerRecord | None, change: tuple[str | None, ...], words: str
) -> None:
    (found,) = changed_trainer(TRAINER, CurrentTrainer(now))
    assert found.what == "trainer"
    assert (found.name, found.change, found.was, found.now) == change
    assert words in str(found.message)


def test_edited_files_are_named() -> None:
    names = tuple(f"library/{number}.py" for number in range(7))
    (found,) = changed_trainer(TRAINER, CurrentTrainer(changed(tree="22"), names[:1]))
    assert str(found.message) == "sd-scripts/library/0.py changed after the run"
    (found,) = changed_trainer(TRAINER, CurrentTrainer(changed(tree="22"), names))
    assert "library/4.py and 2 more" in str(found.message)


def test_a_trainer_that_is_the_same() -> None:
    assert list(changed_trainer(TRAINER, CurrentTrainer(TRAINER))) == []
    (patched,) = changed_trainer(TRAINER, CurrentTrainer(TRAINER, (), ("venv/a.py",)))
    assert (patched.name, patched.change) == ("packages", "changed")
    assert "venv/a.py" in str(patched.message)
    assert list(trainer_remarks(TRAINER, TRAINER)) == []
    assert list(changed_trainer(TRAINER, CurrentTrainer(changed(commit=None)))) == []
    moved = changed(python_version="3.11.9", checkout="/b/sd-scripts")
    assert list(changed_trainer(TRAINER, CurrentTrainer(moved))) == []
    version, place = trainer_remarks(TRAINER, moved)
    assert version.filled == {"was": "3.11.4", "now": "3.11.9"}
    assert place.filled == {"folder": "/b/sd-scripts"}


def test_a_rehearsal_has_no_trainer() -> None:
    stand_in = TrainerRecord(kind="rehearsal", python="python")
    assert list(changed_trainer(stand_in, CurrentTrainer())) == []
    assert list(trainer_remarks(stand_in, TRAINER)) == []


def test_ones_own_trainer_that_is_missing_is_named_by_its_folder() -> None:
    (found,) = changed_trainer(changed(kind="own"), CurrentTrainer())
    assert "/a/sd-scripts" in str(found.message)


def test_another_machine_is_a_remark() -> None:
    def machine(driver: str, *names: str, release: str = "6.1", processor: str = "EPYC") -> MachineFacts:
        gpus = tuple(Gpu(name=name, memory_mib=1, driver=driver) for name in names)
        return MachineFacts(
            system="Linux", cpus=1, memory_bytes=1, gpus=gpus, release=release, architecture="x86_64",
            processor=processor,
        )  # fmt: skip

    then = machine("535.1", "RTX 3060")
    assert list(machine_remarks(then, then)) == []
    assert [str(each) for each in machine_remarks(then, machine("570.2", "RTX 3060", release="6.5"))] == [
        "system: Linux 6.5 on this machine, Linux 6.1 in the run",
        "driver: 570.2 on this machine, 535.1 in the run",
    ]
    assert [str(each) for each in machine_remarks(then, machine("", processor="Xeon"))] == [
        "CPU: Xeon on this machine, EPYC in the run",
        "GPU: none on this machine, RTX 3060 in the run",
        "driver: none on this machine, 535.1 in the run",
    ]


RECIPE = 'name = "x"\n[train]\nseed = 1\n[[concept]]\nimages = "a"\n'


def keys(then: str | None, now: str | None, name: str = "recipe.toml") -> list[tuple[str, str, str | None, str | None]]:
    found = describe_text_change("recipe", Change(name, "changed", "then", "now"), then, now)
    return [(each.name, each.change, each.was, each.now) for each in found]


def test_the_key_of_a_recipe_that_changed_is_named() -> None:
    assert keys(RECIPE, RECIPE.replace("seed = 1", "seed = 2")) == [("train.seed", "changed", "1", "2")]
    assert keys(RECIPE, RECIPE.replace("seed = 1", "seed = 1.0")) == [("train.seed", "changed", "1", "1.0")]
    assert keys(RECIPE, RECIPE.replace('"a"', '"ä"')) == [("concept.images", "changed", '"a"', '"ä"')]


def test_keys_that_came_and_went_and_concepts_by_number() -> None:
    now = RECIPE.replace("seed = 1", "rank = [4]") + '[[concept]]\nimages = "b"\n'
    assert keys(RECIPE, now) == [
        ("train.seed", "missing", "1", None),
        ("train.rank", "added", None, "[4]"),
        ("concept#2.images", "added", None, '"b"'),
    ]


def test_an_edit_that_changes_no_setting() -> None:
    (found,) = describe_text_change("recipe", Change("recipe.toml", "changed"), RECIPE, f"# a note\n{RECIPE}")
    assert str(found.message) == "recipe.toml was edited after the run, but all its settings are the same"


def test_a_text_that_is_not_known_or_no_toml_is_a_changed_file() -> None:
    for then, now, name in (
        (RECIPE, "x = ", "recipe.toml"), (None, RECIPE, "recipe.toml"), (RECIPE, None, "recipe.toml"),
        ("a", "b", "prompts.txt"),
    ):  # fmt: skip
        assert keys(then, now, name) == [(name, "changed", "then", "now")]
