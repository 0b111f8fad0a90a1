"""The digest of a run: the same for the same training anywhere, another one for anything that changes the training."""

from __future__ import annotations

import pytest

from lorabake.planning.digest import compute_run_digest, hash_files, placeholder_paths
from lorabake_schemas.plan import LaunchPlan
from lorabake_schemas.record import FileDigest, Input, InputDigest, TrainerRecord

A, B = "a" * 64, "b" * 64


def base(place: str = "models/x.safetensors", sha256: str = A, file: str = "x.safetensors") -> Input:
    return Input(
        role="base", name=place, place=place, kind="file", files=(FileDigest(name=file, sha256=sha256, size=9),)
    )


def pictures(*names: str, place: str = "pictures", sha256: str = A, index: int = 0) -> Input:
    files = tuple(FileDigest(name=name, sha256=sha256, size=3) for name in names)
    return Input(role="concept", index=index, name=place, place=place, kind="folder", endings=(".png",), files=files)


def trainer(**changes: object) -> TrainerRecord:
    values: dict[str, object] = {
        "kind": "pin", "commit": "c" * 40, "tree": B, "packages": {"torch": "2.13.0"}, "python": "/here/bin/python",
        "python_version": "3.11.4",
    } | changes  # fmt: skip
    return TrainerRecord.model_validate(values)


def digest(
    *inputs: Input,
    files: dict[str, bytes] | None = None,
    who: TrainerRecord | None = None,
    launch: LaunchPlan | None = None,
) -> str:
    given = tuple(each.digest() for each in (inputs or (base(), pictures("1.png"))))
    hashed = hash_files(files or {"train.toml": b"seed = 1\n"})
    return compute_run_digest(hashed, given, who or trainer(), launch or LaunchPlan())


def test_places_of_files_and_of_the_trainer_do_not_count() -> None:
    elsewhere = (base("/other/y.safetensors", file="y.safetensors"), pictures("1.png", place="/other/pictures"))
    moved = trainer(python="/there/python", checkout="/there/sd-scripts", kind="own", url=None, commit=None)
    assert digest(*elsewhere, who=moved) == digest()


@pytest.mark.parametrize(
    "changed",
    [
        digest(base(sha256=B), pictures("1.png")),
        digest(base(), pictures("1.png", sha256=B)),
        digest(base(), pictures("2.png")),
        digest(base(), pictures("1.png", "2.png")),
        digest(base(), pictures("1.png", index=1)),
        digest(base()),
        digest(files={"train.toml": b"seed = 2\n"}),
        digest(files={"train.toml": b"seed = 1\n", "prompts.txt": b"a\n"}),
        digest(who=trainer(commit="d" * 40, tree=None)),
        digest(who=trainer(tree=A)),
        digest(who=trainer(packages={"torch": "2.14.0"})),
        digest(who=trainer(python_version="3.12.1")),
        digest(launch=LaunchPlan(num_processes=2)),
        digest(launch=LaunchPlan(num_cpu_threads_per_process=2)),
        digest(launch=LaunchPlan(cpu=True)),
    ],
)
def test_whatever_changes_the_training_changes_it(changed: str) -> None:
    assert changed != digest()


@pytest.mark.parametrize(
    "same", [digest(launch=LaunchPlan(gpu_ids="1", main_process_port=2000)), digest(who=trainer(python_version="3.11"))]
)
def test_which_gpu_or_port_or_patch_of_python_does_not_count(same: str) -> None:
    assert same == digest()


def test_a_model_of_the_hub_is_known_by_its_name_until_it_is_here() -> None:
    def hub(name: str) -> Input:
        return Input(role="base", name=name, place=name, kind="hub")

    assert digest(hub("a/b")) != digest(hub("a/c"))
    assert "a/b" not in placeholder_paths([hub("a/b").digest()])


def test_a_tokenizer_of_the_hub_is_known_by_its_name_before_and_after_it_is_fetched() -> None:
    there = Input(role="tokenizer", name="openai/clip", place="openai/clip", kind="hub")
    fetched = there.model_copy(update={"files": pictures("vocab.json").files})
    assert digest(base(), there) == digest(base(), fetched)
    assert digest(base(), there.model_copy(update={"name": "openai/other"})) != digest(base(), there)


def test_paths_are_spelled_by_their_part_in_the_run() -> None:
    given = (base("m.safetensors").digest(), pictures(place="p", index=1).digest())
    assert placeholder_paths(given) == {"m.safetensors": "base-0", "p": "concept-1"}
    every = placeholder_paths(given, ("m.safetensors", "unread.toml", "p"))
    assert every == {"m.safetensors": "base-0", "unread.toml": "path-1", "p": "concept-1"}


def test_the_digest_of_a_file_is_its_own_and_that_of_a_folder_its_list() -> None:
    found: InputDigest = base(sha256=B).digest()
    assert (found.sha256, found.files, found.size) == (B, 1, 9)
    listed = pictures("1.png", "2.png").digest()
    assert listed.sha256 not in {A, None}
    assert pictures().digest().sha256 is None
