"""What is said of a run's data, models, trainer and files that are not as they were."""

from __future__ import annotations

import pytest

from lorabake.analysis.verify_files import changed_file, changed_outputs
from lorabake.analysis.verify_trainer import changed_trainer, machine_remarks, trainer_remarks
from lorabake.inputs.input_changes import changed_inputs, inconsistent_inputs, unverified_inputs
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import FileDigest, Input, InputRole, TrainerRecord
from lorabake_schemas.verification import VerifyDifference

ENDINGS = (".png", ".txt")


def file(name: str, content: str = "", size: int = 3) -> FileDigest:
    return FileDigest(name=name, sha256=(content or name).encode().hex().ljust(64, "0")[:64], size=size)


def concept(*files: FileDigest, index: int = 0, role: InputRole = "concept", name: str = "datasets/hamburger") -> Input:
    return Input(role=role, index=index, name=name, place=f"../{name}", kind="folder", endings=ENDINGS, files=files)


def model(content: str, role: InputRole = "base") -> Input:
    name = "models/sd.safetensors"
    return Input(role=role, name=name, place=f"../{name}", kind="file", files=(file("sd.safetensors", content),))


def said(found: tuple[VerifyDifference, ...]) -> list[tuple[str, str, str]]:
    return [(each.name, each.change, str(each.message)) for each in found]


PICTURES = (file("01.png"), file("01.txt"), file("02.png"), file("02.txt"))


def test_the_same_files_differ_in_nothing() -> None:
    then = (concept(*PICTURES), model("a"))
    assert changed_inputs(then, then) == ()


def test_a_caption_is_called_by_its_picture() -> None:
    now = concept(*PICTURES[:3], file("02.txt", "new"))
    found = changed_inputs((concept(*PICTURES),), (now,))
    assert said(found) == [("02.txt", "changed", "the caption of 02.png (datasets/hamburger) changed after the run")]
    assert (found[0].what, found[0].index) == ("concept", 0)
    assert (found[0].was, found[0].now) == (file("02.txt").sha256, file("02.txt", "new").sha256)


def test_many_captions_that_changed_are_told_in_no_time() -> None:
    """20,000 of them: each is found by name, none by looking through all others (minutes)."""
    names = [(f"{number}.png", f"{number}.txt") for number in range(20_000)]
    then = concept(*(file(name) for pair in names for name in pair))
    now = concept(*(file(name, "new" if name.endswith("txt") else "") for pair in names for name in pair))
    found = changed_inputs((then,), (now,))
    assert len(found) == 20_000
    assert str(found[-1].message) == "the caption of 19999.png (datasets/hamburger) changed after the run"


def test_another_length_is_another_file_even_where_a_digest_should_lie() -> None:
    now = concept(*PICTURES[:3], file("02.txt", size=4))
    assert [each.name for each in changed_inputs((concept(*PICTURES),), (now,))] == ["02.txt"]


def test_what_changed_went_and_came_in_one_folder() -> None:
    then = concept(*PICTURES, file("03.png"))
    now = concept(file("01.png", "new"), file("02.txt"), file("02.png"), file("31.png"), file("03.txt"), file("03.png"))
    assert said(changed_inputs((then,), (now,))) == [
        ("01.png", "changed", "the picture 01.png (datasets/hamburger) changed after the run"),
        ("01.txt", "gone", "the caption of 01.png (datasets/hamburger) is missing; the run used it"),
        ("31.png", "added", "an image was added: 31.png (datasets/hamburger)"),
        ("03.txt", "added", "a caption was added: 03.txt (datasets/hamburger)"),
    ]


def test_a_caption_that_went_or_came_with_its_picture_is_not_told_twice() -> None:
    now = concept(*PICTURES[:2], file("31.png"), file("31.txt"))
    assert [name for name, _, _ in said(changed_inputs((concept(*PICTURES),), (now,)))] == ["02.png", "31.png"]


def test_a_file_with_another_name_is_known_by_its_content_where_there_is_no_doubt() -> None:
    then = concept(file("1.png", "a"), file("2.png", "same"), file("3.png", "same"), file("x.txt", "empty", size=0))
    now = concept(file("01.png", "a"), file("02.png", "same"), file("03.png", "same"), file("y.txt", "empty", size=0))
    assert said(changed_inputs((then,), (now,))) == [
        ("1.png", "renamed", "the picture 1.png (datasets/hamburger) is named 01.png now"),
        ("2.png", "gone", "the picture 2.png (datasets/hamburger) is missing; the run used it"),
        ("3.png", "gone", "the picture 3.png (datasets/hamburger) is missing; the run used it"),
        ("x.txt", "gone", "the caption x.txt (datasets/hamburger) is missing; the run used it"),
        ("02.png", "added", "an image was added: 02.png (datasets/hamburger)"),
        ("03.png", "added", "an image was added: 03.png (datasets/hamburger)"),
        ("y.txt", "added", "a caption was added: y.txt (datasets/hamburger)"),
    ]


def test_a_caption_follows_its_renamed_picture_and_is_told_of_only_when_it_changed() -> None:
    then = concept(*(file(name, what) for name, what in (
        ("1.png", "a"), ("1.txt", "words"), ("2.png", "b"), ("2.txt", "words"), ("3.png", "c"), ("3.txt", "words"),
        ("4.png", "d"),
    )))  # fmt: skip
    now = concept(*(file(name, what) for name, what in (
        ("A.png", "a"), ("A.txt", "words"), ("B.png", "b"), ("B.txt", "other"), ("C.png", "c"), ("D.png", "d"),
        ("D.txt", "words"),
    )))  # fmt: skip
    assert said(changed_inputs((then,), (now,))) == [
        ("1.png", "renamed", "the picture 1.png (datasets/hamburger) is named A.png now"),
        ("2.png", "renamed", "the picture 2.png (datasets/hamburger) is named B.png now"),
        ("2.txt", "changed", "the caption of 2.png (datasets/hamburger) changed after the run"),
        ("3.png", "renamed", "the picture 3.png (datasets/hamburger) is named C.png now"),
        ("3.txt", "gone", "the caption of 3.png (datasets/hamburger) is missing; the run used it"),
        ("4.png", "renamed", "the picture 4.png (datasets/hamburger) is named D.png now"),
        ("D.txt", "added", "a caption was added: D.txt (datasets/hamburger)"),
    ]


def test_a_folder_that_is_gone_is_one_difference() -> None:
    gone = concept().model_copy(update={"kind": "missing"})
    expected = "the folder datasets/hamburger is missing (images used by the run: 2)"
    for now in ((gone,), ()):
        assert said(changed_inputs((concept(*PICTURES),), now)) == [("datasets/hamburger", "gone", expected)]


def test_folders_are_numbered_where_there_are_several() -> None:
    then = (concept(*PICTURES), concept(*PICTURES, index=1, name="b"), concept(*PICTURES, role="regularization"))
    now = (then[0], concept(*PICTURES[:3], index=1, name="b"), concept(*PICTURES[1:], role="regularization"))
    assert [(each.what, each.index, str(each.message)) for each in changed_inputs(then, now)] == [
        ("concept", 1, "the caption of 02.png (concept 2, b) is missing; the run used it"),
        ("regularization", 0, "the picture 01.png (datasets/hamburger) is missing; the run used it"),
    ]


def test_another_model_is_said_with_both_digests() -> None:
    found = changed_inputs((model("a"), model("v", "vae")), (model("b"), model("v", "vae")))
    assert [str(each.message) for each in found] == [
        "the base model is a different file now: models/sd.safetensors has SHA-256 620000000000…, the run used 610000000000…"  # noqa: E501
    ]
    gone = model("a").model_copy(update={"kind": "missing", "files": ()})
    assert [str(each.message) for each in changed_inputs((model("a"),), (gone,))] == [
        "the base model models/sd.safetensors is gone"
    ]


def test_a_file_that_cannot_be_read_is_no_change() -> None:
    now = concept(*PICTURES[:3], file("02.txt").model_copy(update={"sha256": "", "size": 0}))
    found = changed_inputs((concept(*PICTURES),), (now,))
    assert said(found) == [("02.txt", "unreadable", "the caption of 02.png (datasets/hamburger) can no longer be read")]


def test_a_part_of_a_diffusers_folder() -> None:
    def folder(*files: FileDigest) -> Input:
        return Input(role="base", name="sd15", place="../sd15", kind="folder", files=files)

    then, now = folder(file("unet/a.bin"), file("b.json")), folder(file("unet/a.bin", "x"), file("c.json"))
    assert [str(each.message) for each in changed_inputs((then,), (now,))] == [
        "unet/a.bin of the base model sd15 changed after the run",
        "b.json of the base model sd15 is missing; the run used it",
        "a file was added to the base model sd15: c.json",
    ]


def test_left_over_caches() -> None:
    def caches(*files: FileDigest) -> Input:
        return concept(*files, role="caches").model_copy(update={"endings": ()})

    name = "01_0512x0512_sd.npz"
    found = changed_inputs((caches(file(name, "a")),), (caches(file(name, "b")),))
    assert [str(each.message) for each in found] == [f"the cache {name} (datasets/hamburger) changed after the run"]


def test_what_was_never_hashed_is_told_and_not_compared() -> None:
    hub = Input(role="base", name="runwayml/sd", place="runwayml/sd", kind="hub")
    here = hub.model_copy(update={"files": (file("unet/x"),)})
    assert changed_inputs((hub,), (here,)) == ()
    assert [str(each) for each in unverified_inputs((hub, concept(*PICTURES)))] == [
        "the base model runwayml/sd was not on this machine when the run started, so the record has no hash of it"
    ]


def test_an_input_of_which_the_list_says_something_else_is_compared_as_a_whole() -> None:
    true, edited = concept(*PICTURES), concept(*PICTURES[:3])
    held = (model("a").digest(), true.digest())
    assert inconsistent_inputs((edited,), (true,), held) == ()
    assert inconsistent_inputs((), (edited,), held) == ()
    found = inconsistent_inputs((edited, model("b")), (edited, model("b")), held)
    assert [(each.what, each.now) for each in found] == [
        ("base", model("b").digest().sha256),
        ("concept", edited.digest().sha256),
    ]
    assert str(found[0].message) == (
        "the base model models/sd.safetensors is not as the record has it; which of its files changed "
        "is not known: inputs.json changed, too"
    )
    assert str(found[1].message).startswith("datasets/hamburger is not as the record has it;")


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
    ("now", "message"),
    [
        (None, "the trainer of this run is not installed (sd-scripts 48d368fa5577)"),
        (changed(commit="a" * 40), "sd-scripts is now at aaaaaaaaaaaa, but the run used 48d368fa5577"),
        (changed(commit=None, tree="22"), "sd-scripts is now at an unknown one, but the run used 48d368fa5577"),
        (changed(tree="22"), "sd-scripts files changed after the run"),
        (changed(python_version="3.12.1"), "the trainer's Python changed from 3.11.4 to 3.12.1"),
        (
            changed(python_version="", packages={}),
            "the trainer's Python does not start: /a/venv/bin/python",
        ),
        (
            changed(packages=dict(TRAINER.packages) | {"accelerate": "1.6.1"}),
            "accelerate in the trainer changed from 1.6.0 to 1.6.1",
        ),
        (
            changed(packages={"accelerate": "1.6.0", "torch": "2.13.0"}),
            "einops 0.7 was removed from the trainer",
        ),
        (changed(packages=dict(TRAINER.packages) | {"apex": "1"}), "apex 1 was added to the trainer"),
    ],
)
def test_each_thing_of_a_trainer_that_is_otherwise(now: TrainerRecord | None, message: str) -> None:
    found = changed_trainer(TRAINER, now)
    assert [(each.what, str(each.message)) for each in found] == [("trainer", message)]


def test_edited_files_are_named() -> None:
    names = [f"library/{number}.py" for number in range(7)]
    (found,) = changed_trainer(TRAINER, changed(tree="22"), names[:1])
    assert str(found.message) == "sd-scripts files were edited after the run: library/0.py"
    (found,) = changed_trainer(TRAINER, changed(tree="22"), names)
    assert str(found.message).endswith("library/4.py and 2 more")


def test_a_trainer_that_is_the_same() -> None:
    assert changed_trainer(TRAINER, TRAINER) == ()
    (patched,) = changed_trainer(TRAINER, TRAINER, (), ("venv/a.py",))
    assert (patched.name, patched.change) == ("packages", "changed")
    assert "venv/a.py" in str(patched.message)
    assert trainer_remarks(TRAINER, TRAINER) == ()
    assert changed_trainer(TRAINER, changed(commit=None)) == ()
    moved = changed(python_version="3.11.9", checkout="/b/sd-scripts")
    assert changed_trainer(TRAINER, moved) == ()
    assert [str(each) for each in trainer_remarks(TRAINER, moved)] == [
        "the trainer's Python changed from 3.11.4 to 3.11.9, which does not affect training",
        "the trainer is now in /b/sd-scripts",
    ]


def test_what_an_old_record_does_not_tell_of_a_trainer_is_not_compared() -> None:
    old = changed(tree=None, packages={}, python_version=None)
    assert changed_trainer(old, TRAINER) == ()


def test_a_rehearsal_has_no_trainer() -> None:
    stand_in = TrainerRecord(kind="rehearsal", python="python")
    assert changed_trainer(stand_in, None) == ()
    assert trainer_remarks(stand_in, TRAINER) == ()


def test_ones_own_trainer_that_is_gone_is_named_by_its_folder() -> None:
    (found,) = changed_trainer(changed(kind="own"), None)
    assert str(found.message) == "the sd-scripts of this run was not found in /a/sd-scripts"


def test_another_machine_is_a_remark() -> None:
    def machine(driver: str, *names: str, release: str = "6.1", processor: str = "EPYC") -> MachineFacts:
        gpus = tuple(Gpu(name=name, memory_mib=1, driver=driver) for name in names)
        return MachineFacts(
            system="Linux", cpus=1, memory_bytes=1, gpus=gpus, release=release, architecture="x86_64",
            processor=processor,
        )  # fmt: skip

    then = machine("535.1", "RTX 3060")
    assert machine_remarks(then, then) == ()
    assert [str(each) for each in machine_remarks(then, machine("570.2", "RTX 3060", release="6.5"))] == [
        "system: Linux 6.5 on this machine, Linux 6.1 in the run",
        "driver: 570.2 on this machine, 535.1 in the run",
    ]
    assert [str(each) for each in machine_remarks(then, machine("", processor="Xeon"))] == [
        "CPU: Xeon on this machine, EPYC in the run",
        "GPU: none on this machine, RTX 3060 in the run",
        "driver: none on this machine, 535.1 in the run",
    ]
    old = MachineFacts(system="Linux", cpus=1, memory_bytes=1)
    assert machine_remarks(old, MachineFacts(system="Linux", cpus=2, memory_bytes=2, release="6.1")) == ()


RECIPE = 'name = "x"\n[train]\nseed = 1\n[[concept]]\nimages = "a"\n'


def keys(then: str | None, now: str, name: str = "recipe.toml") -> list[tuple[str, str, str]]:
    return said(changed_file("recipe", file(name, "then"), file(name, "now"), (then, now)))


def test_a_file_of_a_run_folder_that_is_the_same_or_gone() -> None:
    then = file("train.toml")
    assert changed_file("compiled", then, then) == ()
    assert said(changed_file("compiled", then, None)) == [("train.toml", "gone", "train.toml is gone")]
    assert said(changed_file("output", file("output/x.safetensors"), None)) == [
        ("output/x.safetensors", "gone", "output/x.safetensors, written by the run, is missing")
    ]


def test_the_key_of_a_recipe_that_changed_is_named() -> None:
    assert keys(RECIPE, RECIPE.replace("seed = 1", "seed = 2")) == [
        ("train.seed", "changed", "train.seed in recipe.toml changed from 1 to 2")
    ]
    assert keys(RECIPE, RECIPE.replace("seed = 1", "seed = 1.0")) == [
        ("train.seed", "changed", "train.seed in recipe.toml changed from 1 to 1.0")
    ]


def test_keys_that_came_and_went_and_concepts_by_number() -> None:
    now = RECIPE.replace("seed = 1", "rank = [4]") + '[[concept]]\nimages = "b"\n'
    assert keys(RECIPE, now) == [
        ("train.seed", "gone", "train.seed was removed from recipe.toml (it was 1)"),
        ("train.rank", "added", "train.rank was added to recipe.toml: [4]"),
        ("concept#2.images", "added", 'concept#2.images was added to recipe.toml: "b"'),
    ]
    assert keys(RECIPE, RECIPE.replace('"a"', '"ä"'))[0][:2] == ("concept.images", "changed")


def test_an_edit_that_changes_no_setting() -> None:
    assert keys(RECIPE, f"# a note\n{RECIPE}") == [
        ("recipe.toml", "changed", "recipe.toml was edited after the run, but all its settings are the same")
    ]


def test_a_recipe_that_is_no_toml_any_more_and_one_whose_text_is_not_known() -> None:
    assert keys(RECIPE, "x = ") == [("recipe.toml", "changed", "recipe.toml changed and is not valid TOML")]
    assert keys(None, RECIPE) == [("recipe.toml", "changed", "recipe.toml changed after the run")]
    assert keys("a", "b", "prompts.txt") == [("prompts.txt", "changed", "prompts.txt changed after the run")]


def test_outputs_that_changed_or_went_and_files_of_ones_own() -> None:
    then = (file("output/a.safetensors"), file("output/b.safetensors"), file("output/c.safetensors"))
    now = {each.name: each for each in (then[0], file("output/b.safetensors", "x"), file("output/notes.txt"))}
    assert said(changed_outputs(then, now)) == [
        ("output/b.safetensors", "changed", "output/b.safetensors is not the file that the run wrote"),
        ("output/c.safetensors", "gone", "output/c.safetensors, written by the run, is missing"),
    ]


def test_what_nobody_may_look_into_is_not_gone() -> None:
    then = (concept(file("001.png"), file("002.png")), model("aa"), concept(file("001.npz"), role="caches"))
    now = tuple(each.model_copy(update={"kind": "missing", "files": ()}) for each in then)
    shut: dict[tuple[InputRole, int], Message] = {(each.role, each.index): msg("permission denied") for each in then}
    assert [(each.change, str(each.message)) for each in changed_inputs(then, now, shut)] == [
        ("unreadable", "cannot read the folder datasets/hamburger: permission denied"),
        ("unreadable", f"the base model {then[1].name} cannot be read: permission denied"),
        ("unreadable", "cannot read the caches of datasets/hamburger: permission denied"),
    ]


def test_an_output_that_cannot_be_read_is_not_gone() -> None:
    then = (file("output/a.safetensors"), file("output/b.safetensors"))
    assert [each.change for each in changed_outputs(then, {})] == ["gone", "gone"]
    found = changed_outputs(then, {}, {"output/b.safetensors": msg("permission denied")})
    assert [(each.change, str(each.message)) for each in found] == [
        ("gone", "output/a.safetensors, written by the run, is missing"),
        ("unreadable", "cannot read output/b.safetensors: permission denied"),
    ]
