"""How paths are written for the trainer, which starts in the run folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorabake.recipe.paths import list_hub_ids, list_recipe_paths, resolve_run_paths
from situations import concept, recipe


def test_every_value_that_names_a_file_or_folder() -> None:
    made = recipe(
        base={"model": "m", "vae": "v", "tokenizer_cache_dir": "t"},
        concepts=[concept("a", "pics/a"), concept("b", "pics/b")],
        regularization=[{"class": "food", "images": "reg"}],
        network={"network_weights": "w.safetensors"},
        kohya={"base_weights": ["x", "y"], "log_tracker_config": "c.toml", "loss_type": "huber"},
    )
    assert set(list_recipe_paths(made)) == {
        "m", "v", "t", "w.safetensors", "c.toml", "pics/a", "pics/b", "reg", "x", "y",
    }  # fmt: skip


def test_a_path_is_told_once_and_what_is_unsaid_not_at_all() -> None:
    assert list_recipe_paths(recipe(regularization=[{"class": "food", "images": "pics"}])) == (
        "base.safetensors",
        "pics",
    )


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    for name in ("proj/pics", "proj/runs", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proj" / "m.safetensors").touch()
    return tmp_path


def test_relative_to_the_run_folder_with_forward_slashes(place: Path) -> None:
    run = place / "proj" / "runs" / "one"
    found = resolve_run_paths(
        ["pics", "m.safetensors", "../elsewhere", "hub/id"], place / "proj", run, ["hub/id", "pics"]
    )
    assert found == {"pics": "../../pics", "m.safetensors": "../../m.safetensors", "../elsewhere": "../../../elsewhere"}


def test_what_is_not_there_yet_is_a_path_unless_it_may_be_a_hub_id(place: Path) -> None:
    """A tokenizer_cache_dir is made by sd-scripts; it belongs where the recipe says."""
    made = recipe(base={"model": "hub/id", "vae": "hub/vae", "tokenizer_cache_dir": "tokens"})
    found = resolve_run_paths(
        list_recipe_paths(made), place / "proj", place / "proj" / "runs" / "one", list_hub_ids(made)
    )
    assert found == {"tokens": "../../tokens", "pics": "../../pics"}


def test_an_absolute_path_stays_absolute(place: Path) -> None:
    absolute = str(place / "elsewhere")
    assert resolve_run_paths([absolute], place / "proj", place / "proj" / "runs" / "one") == {absolute: absolute}


def test_the_same_project_elsewhere_is_spelled_the_same(tmp_path: Path) -> None:
    spelled: list[dict[str, str]] = []
    for name in ("a", "b/c"):
        root = tmp_path / name
        (root / "pics").mkdir(parents=True)
        (root / "runs").mkdir()
        spelled.append(resolve_run_paths(["pics", "./pics", "pics/"], root, root / "runs" / "x"))
    assert spelled[0] == spelled[1] == dict.fromkeys(["pics", "./pics", "pics/"], "../../pics")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_linked_run_folder_leads_to_the_right_place(place: Path) -> None:
    """Through the link, ``..`` is the parent of what it points to, not of the link."""
    (place / "far").mkdir()
    (place / "proj" / "linked").symlink_to(place / "far")
    run = place / "proj" / "linked" / "one"
    run.mkdir()
    spelled = resolve_run_paths(["pics"], place / "proj", run)["pics"]
    assert (run / spelled).resolve() == (place / "proj" / "pics").resolve()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_linked_image_folder_keeps_its_own_name(place: Path) -> None:
    """Its last part is not resolved: latent caches and logs name the folder the user knows."""
    (place / "proj" / "link").symlink_to(place / "elsewhere")
    assert resolve_run_paths(["link"], place / "proj", place / "proj" / "runs" / "one") == {"link": "../../link"}


def test_the_recipe_folder_itself(place: Path) -> None:
    run = place / "proj" / "runs" / "one"
    assert resolve_run_paths([".", ".."], place / "proj", run) == {".": "../..", "..": "../../.."}
