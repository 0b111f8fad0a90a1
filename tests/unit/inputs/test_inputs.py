"""What a run is made from: which files count, where they are, and that listing them again gives the same."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.check import check_recipe
from lorabake.inputs import hub
from lorabake.inputs.folders import GLOB_EXTENSIONS
from lorabake.inputs.manifest import (
    ManifestSpec,
    hash_inputs,
    rehash_inputs,
    resolve_from_run,
)
from lorabake.util.hashing import FileHasher
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import Family
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import Input, InputRole
from situations import CPU, RECIPE, plan_of, project, recipe, write_base, write_pictures

EVERYTHING = """
[[regularization]]
class = "food"
images = "more/reg"

[network]
type = "locon"
preset = "mine.toml"
network_weights = "old.safetensors"

[kohya]
base_weights = ["one.safetensors", "two.safetensors"]
"""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ingredients(path: Path, root: Path | None = None, **more: Any) -> ManifestSpec:
    """The inputs of a recipe on disk, whatever its findings."""
    found = check_recipe(path, CPU)
    assert found.recipe is not None
    plan = found.plan or plan_of(found.recipe, found.dataset)
    env = {"HOME": str(path.parent)}
    return replace(
        ManifestSpec(found.recipe, plan, found.dataset, path.parent, root or path.parent / "runs" / "a-001", env),
        **more,
    )


def listed(of: ManifestSpec) -> tuple[Input, ...]:
    return hash_inputs(of, FileHasher(None)).inputs


def named(found: tuple[Input, ...], role: InputRole, index: int = 0) -> Input:
    return next(one for one in found if (one.role, one.index) == (role, index))


def names(one: Input) -> list[str]:
    return [file.name for file in one.files]


def anew(one: Input, of: ManifestSpec) -> Input:
    return rehash_inputs([one], of.root, FileHasher(None), of.env)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return project(tmp_path / "project")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A recipe that names every kind of file."""
    root = tmp_path / "project"
    path = project(root, EVERYTHING)
    write_pictures(root / "more" / "reg", 2)
    for name in ("one", "two", "old"):
        (root / f"{name}.safetensors").write_bytes(name.encode())
    (root / "mine.toml").write_text("enable_conv = true\n", encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[base]", '[base]\nvae = "vae.pt"\ntokenizer_cache_dir = "tokens"'), encoding="utf-8")
    (root / "vae.pt").write_bytes(b"vae")
    tokens = root / "tokens" / "openai_clip-vit-large-patch14"
    tokens.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        (tokens / name).write_text(name, encoding="utf-8")
    return path


def test_every_role_with_its_files_in_one_order(full: Path) -> None:
    of = ingredients(full)
    found = listed(of)
    assert [(one.role, one.index, one.name, one.place, one.kind, names(one)) for one in found] == [
        ("base", 0, "base.safetensors", "../../base.safetensors", "file", ["base.safetensors"]),
        ("vae", 0, "vae.pt", "../../vae.pt", "file", ["vae.pt"]),
        ("network_weights", 0, "old.safetensors", "../../old.safetensors", "file", ["old.safetensors"]),
        ("base_weights", 0, "one.safetensors", "../../one.safetensors", "file", ["one.safetensors"]),
        ("base_weights", 1, "two.safetensors", "../../two.safetensors", "file", ["two.safetensors"]),
        ("tokenizer", 0, "tokens", "../../tokens/openai_clip-vit-large-patch14", "folder",
         ["merges.txt", "vocab.json"]),
        ("preset", 0, "mine.toml", "../../mine.toml", "file", ["mine.toml"]),
        ("concept", 0, "pics", "../../pics", "folder",
         ["000.png", "000.txt", "001.png", "001.txt", "002.png", "002.txt"]),
        ("regularization", 0, "more/reg", "../../more/reg", "folder", ["000.png", "000.txt", "001.png", "001.txt"]),
    ]  # fmt: skip
    for one in found:
        where = Path(resolve_from_run(of.root, one.place))
        for file in one.files:
            data = (where if where.is_file() else where / file.name).read_bytes()
            assert (file.sha256, file.size) == (digest(data), len(data))
    assert listed(of) == found


def test_a_rehearsal_hashes_data_only(full: Path) -> None:
    found = listed(ingredients(full, weights=False))
    assert [one.role for one in found] == ["preset", "concept", "regularization"]


def test_what_was_listed_is_the_same_anew_until_something_changes(full: Path) -> None:
    of = ingredients(full)
    found = listed(of)
    of.root.mkdir(parents=True)
    assert rehash_inputs(found, of.root, FileHasher(None), of.env) == found
    (of.folder / "pics" / "001.txt").write_text("other", encoding="utf-8")
    now = rehash_inputs(found, of.root, FileHasher(None), of.env)
    differing = [(before, after) for before, after in zip(found, now, strict=True) if before != after]
    ((before, after),) = differing
    assert before.role == "concept"
    assert [a.name for a, b in zip(before.files, after.files, strict=True) if a != b] == ["001.txt"]


def test_a_project_moved_as_a_whole_has_the_same_inputs(full: Path, tmp_path: Path) -> None:
    of = ingredients(full)
    found = listed(of)
    of.root.mkdir(parents=True)
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    shutil.move(full.parent, moved)
    assert rehash_inputs(found, moved / "runs" / "a-001", FileHasher(None), of.env) == found
    assert listed(ingredients(moved / "recipe.toml")) == found


def test_images_that_came_since_are_found_and_what_sd_scripts_passes_over_is_not(path: Path) -> None:
    of = ingredients(path)
    before = named(listed(of), "concept")
    pics = path.parent / "pics"
    for name in ("new.jpg", "new.txt", "loud.PNG", "mixed.Png", ".hidden.png", "x.gif", "orphan.txt", "new.caption"):
        (pics / name).write_bytes(b"1")
    (pics / "sub").mkdir()
    (pics / "sub" / "deep.png").write_bytes(b"1")
    (pics / "000.txt").unlink()
    now = anew(before, of)
    assert set(names(now)) - set(names(before)) == {"new.jpg", "new.txt", "loud.PNG"}
    assert set(names(before)) - set(names(now)) == {"000.txt"}
    assert now.endings == (*GLOB_EXTENSIONS, ".txt")
    assert {".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG", ".webp", ".WEBP", ".bmp", ".BMP"} == set(GLOB_EXTENSIONS)


def test_another_ending_of_captions(tmp_path: Path) -> None:
    path = project(tmp_path, '\n[captions]\ncaption_extension = ".caption"\n')
    for number in range(3):
        (tmp_path / "pics" / f"{number:03}.caption").write_text(f"hmbrgrlora, food, {number}", encoding="utf-8")
    of = ingredients(path)
    found = named(listed(of), "concept")
    assert [name for name in names(found) if not name.endswith(".png")] == ["000.caption", "001.caption", "002.caption"]
    assert anew(found, of) == found


def test_a_borrowed_caption_counts_wherever_it_lies(tmp_path: Path) -> None:
    """Old face-crop names: the last four parts are dropped, counted in the complete path as the trainer sees it
    (TU:1946).
    """
    path = project(tmp_path, text=RECIPE.replace('"pics"', '"my_very_own_red_set"'))
    pics = write_pictures(tmp_path / "my_very_own_red_set", 1, caption=None)
    (tmp_path / "my.txt").write_text("hmbrgrlora, food", encoding="utf-8")
    (pics / "face_1_2_3_4.png").write_bytes((pics / "000.png").read_bytes() + b"1")
    (pics / "face.txt").write_text("hmbrgrlora, food, face", encoding="utf-8")
    of = ingredients(path)
    found = named(listed(of), "concept")
    assert names(found) == ["../my.txt", "000.png", "face.txt", "face_1_2_3_4.png"]
    (tmp_path / "my.txt").write_text("changed", encoding="utf-8")
    assert [file.name for file in anew(found, of).files if file not in found.files] == ["../my.txt"]


def test_underscores_above_the_project_borrow_nothing(tmp_path: Path) -> None:
    """sd-scripts sees the path of the compiled file, which begins at the run folder."""
    root = tmp_path / "a_b" / "c_d" / "e_f"
    path = project(root)
    (root / "pics" / "000.txt").unlink()
    (tmp_path / "a.txt").write_text("no", encoding="utf-8")
    assert "000.png" in names(named(listed(ingredients(path)), "concept"))
    assert not [name for name in names(named(listed(ingredients(path)), "concept")) if name.startswith("..")]


def test_a_diffusers_folder_counts_at_any_depth_without_what_is_hidden(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace("base.safetensors", "model"))
    model = tmp_path / "model"
    counted = ("model_index.json", "unet/config.json", "unet/deep/a.safetensors", "vae/x.bin")
    for name in (*counted, ".git/HEAD", ".cache/huggingface/x", "unet/.DS_Store"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name, encoding="utf-8")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "t.json").write_text("t", encoding="utf-8")
    (model / "text_encoder").symlink_to(tmp_path / "far")
    (model / "unet" / "round").symlink_to(model)
    (model / "broken").symlink_to("nowhere")
    of = ingredients(path)
    found = named(listed(of), "base")
    assert (found.kind, found.endings) == ("folder", None)
    ours = [name for name in names(found) if "round" not in name]
    assert ours == sorted([*counted, "text_encoder/t.json"])
    assert len(names(found)) < 20
    assert anew(found, of) == found
    (model / "unet" / "new.bin").write_bytes(b"1")
    assert "unet/new.bin" in names(anew(found, of))


def downloaded(cache: Path, identity: str, files: Mapping[str, str], commit: str = "c0ffee") -> None:
    """As huggingface_hub lays it: blobs, a snapshot of links to them, and what main points at."""
    folder = cache / f"models--{identity.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")
    for number, (name, content) in enumerate(files.items()):
        blob = folder / "blobs" / f"{commit}-{number}"
        blob.write_text(content, encoding="utf-8")
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


def test_a_hub_id_is_hashed_where_it_was_downloaded_to(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace("base.safetensors", "some/model"))
    of = ingredients(path)
    found = named(listed(of), "base")
    assert (found.kind, found.place, found.files, found.digest().sha256) == ("hub", "some/model", (), None)
    cache = tmp_path / ".cache" / "huggingface" / "hub"
    downloaded(cache, "some/model", {"model_index.json": "{}", "unet/a.safetensors": "weights"})
    found = anew(found, of)
    assert (found.kind, names(found)) == ("hub", ["model_index.json", "unet/a.safetensors"])
    assert found.files[1].sha256 == digest(b"weights")
    downloaded(cache, "some/model", {"model_index.json": "{}", "unet/a.safetensors": "other"}, commit="f00d")
    assert anew(found, of).files[1].sha256 == digest(b"other")


FAMILIES: dict[Family, tuple[str, ...]] = {
    "sd15": ("openai/clip-vit-large-patch14",),
    "sd2": ("stabilityai/stable-diffusion-2/tokenizer",),
    "sdxl": ("openai/clip-vit-large-patch14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_of_the_hub_count_without_the_model_beside_them(tmp_path: Path, family: Family) -> None:
    assert tuple(each.tokenizer_place for each in get_family(family).text_encoders) == FAMILIES[family]
    of = ManifestSpec(
        recipe(base={"family": family}), plan_of(recipe(base={"family": family})), pictures_of(tmp_path), tmp_path,
        tmp_path / "runs" / "a", {"HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    for place in FAMILIES[family]:
        owner, name, *inside = place.split("/")
        below = "".join(f"{part}/" for part in inside)
        files = {f"{below}vocab.json": place, f"{below}merges.txt": "m", f"{below}model.safetensors": "large"}
        downloaded(tmp_path / "hf" / "hub", f"{owner}/{name}", files)
    found = [one for one in listed(of) if one.role == "tokenizer"]
    assert [(one.index, one.name, names(one)) for one in found] == [
        (index, name, ["merges.txt", "vocab.json"]) for index, name in enumerate(FAMILIES[family])
    ]
    assert [anew(one, of) for one in found] == found


def pictures_of(root: Path) -> Any:
    """Facts of the folder that the small recipe names, made for it."""
    path = project(root / "made")
    shutil.copytree(path.parent / "pics", root / "pics")
    return check_recipe(path, CPU).dataset


def test_a_tokenizer_that_is_still_to_be_fetched_is_missing_at_first(full: Path) -> None:
    shutil.rmtree(full.parent / "tokens")
    of = ingredients(full)
    found = named(listed(of), "tokenizer")
    assert (found.kind, found.place, found.files) == ("missing", "../../tokens/openai_clip-vit-large-patch14", ())


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/h", "HF_HOME": "~/hf"}, "/h/hf/hub"),
        ({"HOME": "/h", "HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}, "/new"),
        ({"HOME": "/h", "HF_HUB_CACHE": ""}, "/h/.cache/huggingface/hub"),
    ],
)
def test_where_the_hub_keeps_what_it_downloads(env: dict[str, str], expected: str) -> None:
    assert hub.find_hub_cache(env) == Path(expected)


@pytest.mark.parametrize("spoil", ["no refs", "no snapshot", "empty"])
def test_a_torn_download_is_none(tmp_path: Path, spoil: str) -> None:
    downloaded(tmp_path, "some/model", {"a": "b"})
    env = {"HF_HUB_CACHE": str(tmp_path)}
    assert hub.find_hub_snapshot("some/model", env) is not None
    folder = tmp_path / "models--some--model"
    if spoil == "no snapshot":
        shutil.rmtree(folder / "snapshots")
    elif spoil == "no refs":
        shutil.rmtree(folder / "refs")
    else:
        (folder / "refs" / "main").write_text(" ", encoding="utf-8")
    assert hub.find_hub_snapshot("some/model", env) is None


def caches(path: Path, train: str = "", kohya: str = "") -> list[tuple[int, list[str]]]:
    """The caches that count, with so much more in the recipe."""
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n[train]\n{train}\n[kohya]\n{kohya}\n", encoding="utf-8")
    of = ingredients(path)
    found = [one for one in listed(of) if one.role == "caches"]
    assert all(one.endings == () for one in found)
    assert [anew(one, of) for one in found] == found
    return [(one.index, names(one)) for one in found]


LEFT_OVER = ("000_0768x0768_sd.npz", "001_0512x0512_sd.npz", "002_0768x0768_sdxl.npz", "002_te_outputs.npz", "zzz.npz")


@pytest.fixture
def left(path: Path) -> Path:
    """One that fits, one of another size, and those of other kinds."""
    for name in LEFT_OVER:
        (path.parent / "pics" / name).write_bytes(name.encode())
    return path


def test_a_cache_that_misleads_counts_even_where_nothing_is_cached(left: Path) -> None:
    assert caches(left) == [(0, ["001_0512x0512_sd.npz"])]


def test_those_that_are_reused_count_where_latents_are_cached_on_disk(left: Path) -> None:
    found = ["000_0768x0768_sd.npz", "001_0512x0512_sd.npz"]
    assert caches(left, "cache_latents = true\ncache_latents_to_disk = true") == [(0, found)]


def test_an_old_cache_comes_first(left: Path) -> None:
    (left.parent / "pics" / "000.npz").write_bytes(b"1")
    found = ["000.npz", "001_0512x0512_sd.npz"]
    assert caches(left, "cache_latents = true\ncache_latents_to_disk = true") == [(0, found)]


def test_kept_sizes_and_captions_count_where_they_are_read(left: Path) -> None:
    (left.parent / "pics" / "metadata_cache.json").write_text("{}", encoding="utf-8")
    assert caches(left, "", "cache_info = true") == [(0, ["001_0512x0512_sd.npz", "metadata_cache.json"])]


def test_kept_sizes_that_are_not_there_do_not_count(path: Path) -> None:
    assert caches(path, "", "cache_info = true") == []


def test_text_encoder_outputs_count_where_they_are_read(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace('"sd15"', '"sdxl"'))
    write_base(tmp_path / "base.safetensors", "sdxl")
    for name in LEFT_OVER:
        (tmp_path / "pics" / name).write_bytes(name.encode())
    found = "cache_text_encoder_outputs = true\ncache_text_encoder_outputs_to_disk = true"
    assert caches(path, "", found) == [(0, ["002_te_outputs.npz"])]


def test_only_what_was_there_counts_again_whatever_came_since(left: Path) -> None:
    of = ingredients(left)
    found = named(listed(of), "caches")
    pics = left.parent / "pics"
    (pics / "002_0512x0512_sd.npz").write_bytes(b"1")
    assert anew(found, of) == found
    (pics / "001_0512x0512_sd.npz").unlink()
    assert (anew(found, of).files, anew(found, of).kind) == ((), "folder")


def test_a_folder_that_is_gone_is_missing(left: Path) -> None:
    of = ingredients(left)
    found = listed(of)
    shutil.rmtree(left.parent / "pics")
    (left.parent / "base.safetensors").unlink()
    now = rehash_inputs(found, of.root, FileHasher(None), of.env)
    assert [(one.role, one.kind, one.files) for one in now if one.kind != "hub"] == [
        ("base", "missing", ()), ("concept", "missing", ()), ("caches", "missing", ()),
    ]  # fmt: skip


def test_a_file_that_is_a_folder_now(path: Path) -> None:
    of = ingredients(path)
    found = named(listed(of), "base")
    (path.parent / "base.safetensors").unlink()
    (path.parent / "base.safetensors").mkdir()
    assert (anew(found, of).kind, anew(found, of).files) == ("folder", ())


def test_odd_bytes_in_names_and_places_are_found_again(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    path = project(root)
    pics = root / "pics"
    (pics / "000.png").rename(pics / os.fsdecode(b"\xff.png"))
    (pics / "000.txt").rename(pics / os.fsdecode(b"\xff.txt"))
    (pics / os.fsdecode(b"\xff_0512x0512_sd.npz")).write_bytes(b"cache")
    outside = tmp_path / "runs" / "a-001"
    of = ingredients(path, outside)
    found = listed(of)
    assert named(found, "concept").place == "../../caf\\udce9/pics"
    assert names(named(found, "concept"))[-2:] == ["\\udcff.png", "\\udcff.txt"]
    assert names(named(found, "caches")) == ["\\udcff_0512x0512_sd.npz"]
    assert rehash_inputs(found, outside, FileHasher(None), of.env) == found


def test_places_outside_and_absolute_ones(tmp_path: Path) -> None:
    far = write_base(tmp_path / "far" / "model.safetensors")
    path = project(tmp_path / "project", text=RECIPE.replace("base.safetensors", str(far)))
    of = ingredients(path)
    found = named(listed(of), "base")
    assert (found.place, names(found)) == (str(far), ["model.safetensors"])
    assert anew(found, of) == found


def test_a_run_folder_reached_through_a_link(path: Path, tmp_path: Path) -> None:
    of = ingredients(path)
    found = listed(of)
    (tmp_path / "alias").symlink_to(path.parent)
    assert rehash_inputs(found, tmp_path / "alias" / "runs" / "a-001", FileHasher(None), of.env) == found


def test_a_file_that_cannot_be_read_is_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = os.open

    def refusing(name: str, flags: int) -> int:
        if str(name).endswith("001.png"):
            raise PermissionError(13, "Permission denied")
        return true(name, flags)

    of = ingredients(path)
    monkeypatch.setattr("lorabake.util.hashing.os.open", refusing)
    assert names(named(listed(of), "concept")) == ["000.png", "000.txt", "001.txt", "002.png", "002.txt"]


def test_what_the_recipe_names_twice_is_read_once(tmp_path: Path) -> None:
    path = project(tmp_path, '\n[[concept]]\ntoken = "other"\nclass = "food"\nimages = "pics"\n')
    of = ingredients(path, weights=False)
    fingerprints = FileHasher(None)
    found = hash_inputs(of, fingerprints).inputs
    assert [(one.role, one.index) for one in found] == [("concept", 0), ("concept", 1)]
    assert found[0].files == found[1].files
    assert fingerprints.done == sum(file.size for file in found[0].files)


def test_a_recipe_needs_no_run_folder_to_be_listed(path: Path) -> None:
    assert isinstance(ingredients(path).recipe, Recipe)
    assert not (path.parent / "runs").exists()
    assert named(listed(ingredients(path)), "concept").files
    assert not (path.parent / "runs").exists()
