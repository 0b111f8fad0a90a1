"""A recipe on disk with its model and images: every fault in one check, with its rule and line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lora_files import Wanted, shapes_of
from lora_files import write as write_lora
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.errors import RecipeError, ResourceError
from lorabake.util import resources
from lorabake_schemas.findings import Severity
from lorabake_schemas.machine import AttentionProbe, MachineFacts
from lorabake_schemas.messages import literal
from situations import CPU, GPU, RECIPE, XFORMERS, project, recipe, write_base, write_pictures

ENOUGH = 30
TWO_CONCEPTS = """
[[concept]]
token = "other"
class = "food"
images = "pics2"
"""


def found(examination: CheckResult, *, least: Severity = Severity.ERROR) -> list[tuple[str, str, int | None]]:
    """Rule, key and line of every finding at least this bad."""
    order = [Severity.HINT, Severity.WARNING, Severity.ERROR]
    kept = [f for f in examination.findings if order.index(f.severity) >= order.index(least)]
    return [(f.rule, f.key, f.line) for f in kept]


def errors(
    root: Path, more: str = "", *, text: str = RECIPE, machine: MachineFacts = GPU
) -> list[tuple[str, str, int | None]]:
    return found(check_recipe(project(root, more, text=text), machine))


def line_of(words: str, text: str = RECIPE) -> int:
    return next(number for number, row in enumerate(text.splitlines(), 1) if row.startswith(words))


AFTER = len(RECIPE.splitlines())


def test_a_good_project(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, pictures=ENOUGH), GPU)
    assert made.findings == ()
    assert not made.has_failures(strict=True)
    _, plan = made.planned()
    assert plan.forecast.steps == 3000
    assert made.with_attention(XFORMERS).planned()[1].value("xformers") is True


def test_xformers_that_does_not_work_stops_only_who_insists_on_it(tmp_path: Path) -> None:
    no = AttentionProbe(xformers=False, reason=literal("no kernel for float32"))
    insists = check_recipe(project(tmp_path / "a", '[train]\nattention = "xformers"\n', pictures=ENOUGH), GPU)
    with pytest.raises(ResourceError, match="xformers does not work here: no kernel for float32"):
        insists.with_attention(no)
    assert insists.with_attention(XFORMERS).describe_attention() == "attention: xformers (set in the recipe)"
    leaves_it = check_recipe(project(tmp_path / "b", pictures=ENOUGH), GPU)
    assert leaves_it.with_attention(no).describe_attention() == "attention: sdpa (no kernel for float32)"
    assert leaves_it.with_attention(XFORMERS).describe_attention() == "attention: xformers (it ran)"
    assert leaves_it.with_attention(no).attention == no


@pytest.mark.parametrize(
    ("train", "launching", "at_fault"),
    [("", True, True), ("", False, False), ("resolution = 7\n", True, False)],
    ids=["no GPU", "only a warning", "and another error"],
)
def test_what_only_this_machine_cannot_do(tmp_path: Path, train: str, launching: bool, at_fault: bool) -> None:
    more = f'[train]\noptimizer = "AdamW8bit"\n{train}'
    made = check_recipe(project(tmp_path, more, pictures=ENOUGH), CPU, launching=launching)
    assert made.is_machine_at_fault is at_fault


def test_an_error_of_the_plan_leaves_no_plan(tmp_path: Path) -> None:
    """Images of 64 x 64 at 512, without buckets and without cached latents."""
    off = "[train]\nenable_bucket = false\ncache_latents = false\nresolution = 512\n"
    made = check_recipe(project(tmp_path, off, pictures=ENOUGH), GPU)
    assert [(f.rule, f.key) for f in made.errors] == [("S15.sizes", "concept[0].images")]
    with pytest.raises(RecipeError):
        made.planned()


TEN = """\
name = "x"
kind = "object"
[base]
model = "missing.safetensors"
family = "sd15"
[[concept]]
token = "hmbrgrlora"
class = "food"
images = "pics"
num_repeats = -2
[network]
network_dim = "sixteen"
[train]
learning_rat = 1.0
optimizer = "Prodgy"
lr_scheduler = "cosinus"
max_train_epochs = "ten"
mixed_precision = "bf17"
resolution = 7
[trian]
x = 1
"""


def test_ten_mistakes_are_ten_findings_each_with_its_line(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, text=TEN, pictures=ENOUGH), GPU)
    assert found(made, least=Severity.HINT) == [
        ("G4.7", "base.model", 4),
        ("out-of-range", "concept[0].num_repeats", 10),
        ("wrong-type", "network.network_dim", 12),
        ("unknown-key", "train.learning_rat", 14),
        ("GC.12.class", "train.optimizer", 15),
        ("bad-choice", "train.lr_scheduler", 16),
        ("wrong-type", "train.max_train_epochs", 17),
        ("bad-choice", "train.mixed_precision", 18),
        ("out-of-range", "train.resolution", 19),
        ("unknown-key", "trian", 20),
    ]
    assert {f.severity for f in made.findings} == {Severity.ERROR}
    assert made.plan is None
    with pytest.raises(RecipeError, match="10 errors") as caught:
        made.planned()
    assert len(caught.value.findings) == 10


# --- the model ---------------------------------------------------------------------------------------------------
MODEL = ("G4.7", "base.model", line_of("model"))


def test_a_missing_model(tmp_path: Path) -> None:
    path = project(tmp_path)
    (tmp_path / "base.safetensors").rename(tmp_path / "real.safetensors")
    made = check_recipe(path, GPU)
    assert found(made) == [MODEL]
    assert "real.safetensors" in made.findings[0].message


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x00" * 64, b"PK\x03\x04junk"],
)
def test_a_wrong_model_file(tmp_path: Path, content: bytes) -> None:
    path = project(tmp_path)
    (tmp_path / "base.safetensors").write_bytes(content)
    assert found(check_recipe(path, GPU)) == [MODEL]


def test_a_cut_off_model_file(tmp_path: Path) -> None:
    path = project(tmp_path)
    model = tmp_path / "base.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    assert found(check_recipe(path, GPU)) == [MODEL]


def test_a_model_folder_that_is_not_one(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace('"base.safetensors"', '"models"'))
    (tmp_path / "models").mkdir()
    shutil.move(tmp_path / "base.safetensors", tmp_path / "models" / "base.safetensors")
    made = check_recipe(path, GPU)
    assert found(made) == [MODEL]
    assert "base.safetensors" in made.findings[0].message


def test_a_model_of_another_family(tmp_path: Path) -> None:
    path = project(tmp_path)
    write_base(tmp_path / "base.safetensors", "sdxl")
    made = check_recipe(path, GPU)
    assert found(made) == [("G4.12", "base.family", line_of("family"))]


def test_the_family_is_read_from_the_file(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace('family = "sd15"\n', ""))
    write_base(tmp_path / "base.safetensors", "sdxl")
    plan = check_recipe(path, GPU).planned()[1]
    assert (plan.family, plan.script) == ("sdxl", "sdxl_train_network.py")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('[network]\nnetwork_weights = "w.safetensors"\n', "network.network_weights"),
        ('[network]\ntype = "locon"\npreset = "mine.toml"\n', "network.preset"),
        ('[kohya]\nlog_tracker_config = "t.toml"\n', "kohya.log_tracker_config"),
        ('[kohya]\nbase_weights = ["a.safetensors"]\n', "kohya.base_weights"),
    ],
)
def test_other_files_that_are_not_there(tmp_path: Path, more: str, key: str) -> None:
    lines = len(more.splitlines())
    assert errors(tmp_path, more) == [("missing-file", key, AFTER + lines)]


def test_a_missing_vae_but_not_one_from_the_hub(tmp_path: Path) -> None:
    with_vae = RECIPE.replace('family = "sd15"\n', 'family = "sd15"\nvae = "v.safetensors"\n')
    assert errors(tmp_path, text=with_vae) == [("missing-file", "base.vae", line_of("vae", with_vae))]
    assert errors(tmp_path / "hub", text=with_vae.replace("v.safetensors", "someone/vae")) == []


# --- the pictures ------------------------------------------------------------------------------------------------
IMAGES = ("concept[0].images", line_of("images"))


def test_no_folder_of_images(tmp_path: Path) -> None:
    path = project(tmp_path)
    shutil.rmtree(tmp_path / "pics")
    assert found(check_recipe(path, GPU)) == [("G4.9", *IMAGES)]


def test_an_empty_folder_of_images(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, pictures=0), GPU)
    assert found(made) == [("G4.9", *IMAGES)]
    assert made.plan is None


def test_one_level_too_high(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=0)
    write_pictures(tmp_path / "pics" / "10_hmbrgrlora")
    made = check_recipe(path, GPU)
    assert found(made) == [("G4.9", *IMAGES)]
    assert 'images = "pics/10_hmbrgrlora"' in made.findings[0].fix


def test_one_level_too_low(tmp_path: Path) -> None:
    path = project(tmp_path, text=RECIPE.replace('"pics"', '"pics/000.png"'))
    made = check_recipe(path, GPU)
    assert found(made) == [("G4.9", *IMAGES)]
    assert made.findings[0].fix == 'write images = "pics"'


def test_no_caption_anywhere(tmp_path: Path) -> None:
    path = project(tmp_path)
    for caption in (tmp_path / "pics").glob("*.txt"):
        caption.unlink()
    assert found(check_recipe(path, GPU)) == []
    assert [(one.rule, one.severity) for one in check_recipe(path, GPU).findings if one.rule == "G3.3"] == [
        ("G3.3", Severity.WARNING)
    ]


def test_captions_with_another_ending(tmp_path: Path) -> None:
    assert errors(tmp_path, '[captions]\ncaption_extension = ".caption"\n') == [("G3.3", *IMAGES)]


def test_faulty_captions_and_images_at_once(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=ENOUGH)
    (tmp_path / "pics" / "000.txt").write_bytes(b"")
    (tmp_path / "pics" / "001.txt").write_bytes(b"caf\xe9")
    (tmp_path / "pics" / "002.png").write_bytes(b"not a picture")
    made = check_recipe(path, GPU)
    assert sorted(f.rule for f in made.findings if f.severity is Severity.ERROR) == ["G2.2", "S12", "S12"]
    assert {f.line for f in made.findings if f.severity is Severity.ERROR} == {line_of("images")}


def test_a_regularization_folder_is_looked_at_too(tmp_path: Path) -> None:
    more = '[[regularization]]\nclass = "food"\nimages = "reg"\n'
    assert errors(tmp_path, more) == [("G4.9", "regularization[0].images", AFTER + 3)]


def test_a_image_that_fits_no_bucket_is_told_with_a_place(tmp_path: Path) -> None:
    path = project(tmp_path, "[train]\nresolution = 512\nbucket_no_upscale = true\n")
    write_pictures(tmp_path / "pics", 1, size=(40, 40))
    made = check_recipe(path, GPU)
    assert [(rule, where) for rule, where, _ in found(made)] == [("S16", "concept[0].images")]
    assert "0.png" in made.findings[-1].message


# --- contradicting settings --------------------------------------------------------------------------------------
CONTRADICTIONS: list[tuple[str, str, str, int]] = [
    ("[train]\nunet_lr = 0.9\ntext_encoder_lr = 1.0\n", "S27", "train.text_encoder_lr", 3),
    ("[train]\nmax_train_epochs = 5\nmax_train_steps = 500\n", "G4.36", "train.max_train_steps", 3),
    ('[train]\nlr_scheduler = "constant"\nlr_warmup_steps = 0.1\n', "S5", "train.lr_warmup_steps", 3),
    ('[network]\ntype = "dylora"\nnetwork_dim = 30\n', "S36", "network.network_dim", 3),
    ('[train]\noptimizer = "AdamW"\noptimizer_args = { decouple = true }\n', "GC.12",
     "train.optimizer_args.decouple", 3),
    ("[train]\nmax_data_loader_n_workers = 0\npersistent_data_loader_workers = true\n", "S38",
     "train.persistent_data_loader_workers", 3),
    ("[train]\nresolution = 1024\nmax_bucket_reso = 960\n", "S15", "train.max_bucket_reso", 3),
    ("[kohya]\n# a typo\nmultires_noise_iteration = 6\n", "S1", "kohya.multires_noise_iteration", 3),
    ("[train]\ncache_latents = true\n[kohya]\ncolor_aug = true\n", "S20", "kohya.color_aug", 4),
]  # fmt: skip


@pytest.mark.parametrize(("more", "rule", "key", "line"), CONTRADICTIONS)
def test_contradicting_settings(tmp_path: Path, more: str, rule: str, key: str, line: int) -> None:
    assert errors(tmp_path, more) == [(rule, key, AFTER + line)]


def test_flip_with_asymmetric(tmp_path: Path) -> None:
    assert errors(tmp_path, "flip_aug = true\nasymmetric = true\n") == [("G2.19", "concept[0].flip_aug", AFTER + 1)]


def test_two_concepts_with_one_folder_or_one_token(tmp_path: Path) -> None:
    path = project(
        tmp_path, TWO_CONCEPTS.replace("pics2", "./pics").replace("other", "HMBRGRLORA").replace("food", "meal")
    )
    assert [each for each in found(check_recipe(path, GPU), least=Severity.WARNING) if each[0] in {"G6.8", "S14"}] == [
        ("G6.8", "concept[1].class", AFTER + 4),
        ("S14", "concept[1].images", AFTER + 5),
    ]


def test_eight_bit_optimizers_on_a_machine_without_gpu(tmp_path: Path) -> None:
    path = project(tmp_path, '[train]\noptimizer = "AdamW8bit"\n', pictures=ENOUGH)
    assert [(f.rule, f.severity) for f in check_recipe(path, CPU).findings] == [("G4.96", Severity.WARNING)]
    assert [(f.rule, f.severity) for f in check_recipe(path, CPU, launching=True).findings] == [
        ("G4.96", Severity.ERROR)
    ]
    assert check_recipe(path, CPU, rehearsing=True).findings == ()


def test_a_rehearsal_needs_no_model(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=ENOUGH)
    (tmp_path / "base.safetensors").unlink()
    made = check_recipe(path, CPU, rehearsing=True)
    assert [(f.rule, f.severity) for f in made.findings] == [("G4.7", Severity.WARNING)]
    assert made.plan is not None


# --- the whole ---------------------------------------------------------------------------------------------------
def test_a_file_that_is_no_toml_is_one_finding(tmp_path: Path) -> None:
    assert [rule for rule, *_ in errors(tmp_path, "oops\n")] == ["toml-syntax"]
    with pytest.raises(RecipeError, match="1 error in"):
        check_recipe(tmp_path / "recipe.toml", GPU).planned()


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe not found: "):
        check_recipe(tmp_path / "nothing.toml", GPU)


def test_nothing_is_written_or_touched(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=ENOUGH)

    def state() -> dict[str, tuple[int, bytes]]:
        files = sorted(each for each in tmp_path.rglob("*") if each.is_file())
        return {str(each): (each.stat().st_mtime_ns, each.read_bytes()) for each in files}

    before = state()
    check_recipe(path, GPU)
    check_recipe(project(tmp_path / "other", "oops\n"), GPU)
    shutil.rmtree(tmp_path / "other")
    assert state() == before


def test_paths_are_relative_to_the_recipe_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "a", pictures=ENOUGH)
    monkeypatch.chdir(tmp_path)
    assert check_recipe(Path("a/recipe.toml"), GPU).findings == ()
    monkeypatch.chdir(tmp_path / "a")
    assert check_recipe(Path("recipe.toml"), GPU).findings == ()


@pytest.mark.parametrize("images", ["~/pics", "$HOME/pics", "${HOME}/pics"])
def test_home_and_variables_are_not_expanded(tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = project(tmp_path, text=RECIPE.replace('"pics"', f'"{images}"'))
    assert found(check_recipe(path, GPU)) == [("G4.9", *IMAGES)]


# --- ignores -----------------------------------------------------------------------------------------------------
def ignore(rule: str) -> str:
    return f'[[ignore]]\nrule = "{rule}"\nreason = "known and meant"\n'


def test_a_ignored_warning_is_kept_apart(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, ignore("G1.2")), GPU)
    assert made.findings == ()
    assert [(w.finding.rule, w.finding.line, w.reason) for w in made.ignored] == [
        ("G1.2", line_of("images"), "known and meant")
    ]
    assert not made.has_failures(strict=True)


def test_a_ignore_of_nothing_is_a_warning(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, ignore("G4.71"), pictures=ENOUGH), GPU)
    assert [(f.rule, f.key, f.line) for f in made.findings] == [("ignore", "ignore[0].rule", AFTER + 2)]
    assert made.has_failures(strict=True)
    assert not made.has_failures()


def test_an_error_cannot_be_ignored(tmp_path: Path) -> None:
    made = check_recipe(
        project(tmp_path, "flip_aug = true\nasymmetric = true\n" + ignore("G2.19"), pictures=ENOUGH), GPU
    )
    assert [f.rule for f in made.findings] == ["G2.19", "ignore"]
    assert "cannot be ignored" in made.findings[1].message
    assert made.ignored == ()


def test_a_ignore_is_not_called_idle_where_an_error_kept_its_rule_from_running(tmp_path: Path) -> None:
    """G2.16 needs the plan, and with an unreadable image there is none."""
    path = project(tmp_path, ignore("G2.16"), pictures=ENOUGH)
    (tmp_path / "pics" / "000.png").write_bytes(b"no picture")
    assert {finding.rule for finding in check_recipe(path, GPU).findings} == {"G2.2"}


# --- shipped recipes ---------------------------------------------------------------------------------------------
def shipped(name: str, root: Path) -> Path:
    """A shipped recipe with everything it names drawn or made."""
    text = resources.read_recipe_text(name)
    path = root / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    made = check_recipe(path, GPU).recipe
    assert made is not None, name
    assert made.base.family is not None, name
    write_base(root / made.base.model, made.base.family)
    for part in made.concept:
        leading = [word for word in (part.token, part.outfit, part.class_) if word]
        words = (" " if made.base.tags == "natural" else ", ").join(leading) or "scenery"
        count = 2 * ENOUGH if made.kind == "style" else ENOUGH
        write_pictures(root / part.images, count, caption=words, size=(1024, 1024))
    if made.network.network_weights:
        write_lora(root / made.network.network_weights, shapes_of(Wanted("", 8, None), made.base.family))
    for reg in made.regularization:
        write_pictures(root / reg.images, ENOUGH, caption=None, size=(1024, 1024))
    return path


def test_enough_recipes_are_shipped() -> None:
    assert len(resources.list_recipe_names()) >= 17


@pytest.mark.parametrize("name", resources.list_recipe_names())
def test_every_shipped_recipe_checks_and_plans(name: str, tmp_path: Path) -> None:
    made = check_recipe(shipped(name, tmp_path), GPU)
    assert [(f.rule, f.message) for f in made.findings if f.severity is not Severity.HINT] == []
    assert made.plan is not None
    assert made.plan.forecast.steps > 500


@pytest.mark.parametrize("name", resources.list_recipe_names())
def test_every_shipped_recipe_opens_with_what_for_what_to_change_and_the_command(name: str) -> None:
    text = resources.read_recipe_text(name)
    head = text.split("\n\n", 1)[0].splitlines()
    assert all(line.startswith("#") for line in head)
    assert head[0] == "#:schema recipe.schema.json"
    assert len(head[1]) > 20
    assert any(line.startswith("# Change: ") for line in head)
    assert f"lorabake check {name}.toml && lorabake run {name}.toml" in head[-1]
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 45


def test_the_shipped_recipes_cover_what_people_train() -> None:
    texts = {name: resources.read_recipe_text(name) for name in resources.list_recipe_names()}
    for family in ("sd15", "sdxl"):
        for subject in ("character", "object"):
            for optimizer in ("prodigy", "adamw8bit"):
                assert f"{subject}-{family}-{optimizer}" in texts
    algorithms = {"locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft"}
    assert {kind for kind in algorithms if any(f'type = "{kind}"' in text for text in texts.values())} == algorithms
    assert any("dora_wd = true" in text for text in texts.values())
    assert any("[[regularization]]" in text and text.count("[[concept]]") > 1 for text in texts.values())
    said = {
        key for text in texts.values() for key in (
            "v_prediction = true", "loraplus_lr_ratio", "network_weights", "cache_text_encoder_outputs", '"natural"',
        ) if key in text
    }  # fmt: skip
    assert len(said) == 5
    assert any("\ntoken" not in text for text in texts.values())


@pytest.mark.usefixtures("ordinary")
def test_images_that_may_not_be_read(tmp_path: Path) -> None:
    path = project(tmp_path)
    (tmp_path / "pics").chmod(0)
    try:
        assert found(check_recipe(path, GPU)) == [("G4.9", *IMAGES)]
    finally:
        (tmp_path / "pics").chmod(0o700)


def test_the_smallest_recipe_is_a_whole_one(tmp_path: Path) -> None:
    """Ten lines, as the README shows."""
    assert recipe().train.optimizer is None
    assert check_recipe(project(tmp_path, pictures=ENOUGH), CPU).planned()[1].value("mixed_precision") == "no"
