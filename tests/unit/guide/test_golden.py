"""The guide's worked examples, T1 to T19 and T21, each through the code that a user's recipe goes through.

T11, T12, T20 and T22 are about tags and stand in test_golden_tags.py. Where sd-scripts does something else than the
guide says, the truth is tested and the docstring says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from lorabake.inputs.clip_tokens import is_known_word
from lorabake.planning.buckets import BucketRules, bucket_assigner, bucket_sizes
from lorabake.planning.repeats import balance_repeats
from lorabake_schemas.dataset import DatasetFacts, FolderFacts, parse_repeat_folder
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.defaults import count_leading_tags, scale_alpha
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import Recipe
from situations import concept, dataset, folder, plan_of, recipe, situation, spoken, subset, values

REG: dict[str, Any] = {"regularization": [{"class": "food", "images": "reg"}]}
SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}


def pictures(*counts: int, reg: tuple[int, ...] = ()) -> DatasetFacts:
    return dataset(*(folder(f"p{at}", n) for at, n in enumerate(counts)), regularization=[folder("r", n) for n in reg])


def several(*repeats: int | None, **more: Any) -> Recipe:
    """One concept for each of the repeats, None where the recipe leaves them out."""
    given = [{} if each is None else {"num_repeats": each} for each in repeats]
    return recipe(concepts=[concept(f"token{at}", f"p{at}", **each) for at, each in enumerate(given)], **more)


def repeats(made: Recipe, facts: DatasetFacts) -> list[Any]:
    plan = plan_of(made, facts)
    return [subset(plan, at)["num_repeats"] for at in range(len(made.concept))]


def counted(made: Recipe, *counts: int, reg: tuple[int, ...] = ()) -> Forecast:
    return plan_of(made, pictures(*counts, reg=reg)).forecast


def said(made: Recipe) -> list[Finding]:
    """All findings of a recipe with thirty good images, without and with a plan."""
    first = collect_findings(situation(made))
    if any(each.severity is Severity.ERROR for each in first):
        return list(first)
    return [*first, *collect_findings(situation(made, plan=plan_of(made)))]


def severities(made: Recipe) -> dict[str, str]:
    return {each.rule: str(each.severity) for each in said(made)}


# --- T1 to T3: repeats ------------------------------------------------------------------------------------------------
def test_t1_repeats_are_balanced_and_reduced() -> None:
    facts = pictures(51, 43, 32)
    assert repeats(several(10, None, None), facts) == [10, 12, 16]
    assert repeats(several(None, None, None), facts) == [5, 6, 8]
    long, short = counted(several(10, 12, 16), 51, 43, 32), counted(several(None, None, None), 51, 43, 32)
    assert [share.samples_per_epoch for share in long.shares] == [510, 516, 512]
    assert [share.samples_per_epoch for share in short.shares] == [255, 258, 256]
    assert (long.batches_per_epoch, short.batches_per_epoch) == (1538, 769)
    assert (long.epochs, long.steps, short.epochs, short.steps) == (10, 15380, 20, 15380)
    assert [share.exposures for share in short.shares] == [100, 120, 160]
    assert counted(several(5, 6, 8, train={"train_batch_size": 2}), 51, 43, 32).batches_per_epoch == 385


def test_t2_halves_are_rounded_up() -> None:
    """300 / 24 is 12.5, which Python would round to the even 12; nothing divides all three."""
    assert repeats(several(None, None, None), pictures(30, 22, 24)) == [10, 14, 13]


def test_t3_a_base_of_one_rounds_badly_and_is_warned_of() -> None:
    assert balance_repeats((51, 43, 32), 1) == (1, 1, 2)
    facts, made = pictures(51, 43, 32), several(1, None, None)
    plan = plan_of(made, facts)
    assert [share.samples_per_epoch for share in plan.forecast.shares] == [51, 43, 64]
    (told,) = spoken("G6.14", situation(made, facts, plan=plan))
    assert (told.severity, "51, 43, 64" in told.message, "10" in told.fix) == (Severity.WARNING, True, True)


# --- T4 to T6: duration and saves -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("repeat", "epochs", "samples"), [(1, 30, 30), (10, 3, 300)])
def test_t4_900_steps_by_either_way_of_repeating(repeat: int, epochs: int, samples: int) -> None:
    told = counted(several(repeat, train={"exposures": 30}), 30)
    assert (told.epochs, told.train_samples, told.steps) == (epochs, samples, 900)


@pytest.mark.parametrize(
    ("family", "repeat", "count", "more", "epochs", "steps"),
    [
        ("sd15", 1, 30, {}, 100, 3000),
        ("sd15", 10, 30, {}, 10, 3000),
        ("sdxl", 1, 20, {}, 50, 1000),
        ("sdxl", 10, 20, {}, 5, 1000),
        ("sd15", 1, 30, REG, 100, 6000),
        ("sdxl", 1, 20, REG, 50, 2000),
        ("sd15", 1, 30, {"train": {"train_batch_size": 2}}, 100, 1500),
        ("sdxl", 1, 20, {"train": {"train_batch_size": 2}}, 50, 500),
    ],
)
def test_t5_default_epochs(family: str, repeat: int, count: int, more: dict[str, Any], epochs: int, steps: int) -> None:
    reg = (count,) if "regularization" in more else ()
    told = counted(several(repeat, base={"family": family}, **more), count, reg=reg)
    assert (told.epochs, told.steps) == (epochs, steps)


@pytest.mark.parametrize(
    ("total", "every", "saved"),
    [
        (10, 3, [3, 6, 9, None]),
        (5, 1, [1, 2, 3, 4, None]),
        (10, 5, [5, None]),
        (15, 5, [5, 10, None]),
        (10, 20, [None]),
    ],
)
def test_t6_saved_epochs(total: int, every: int, saved: list[int | None]) -> None:
    """The last file has no number: sd-scripts saves numbered ones only before the last epoch (TN:1694)."""
    made = recipe(train={"max_train_epochs": total}, save={"save_every_n_epochs": every})
    assert [save.epoch if "-" in save.file else None for save in plan_of(made).forecast.saves] == saved


def test_t6_names_of_the_files() -> None:
    made = recipe(train={"max_train_epochs": 10}, save={"save_every_n_epochs": 3})
    made = made.model_copy(update={"name": "hamburger"})
    names = [save.file.removesuffix(".safetensors") for save in plan_of(made).forecast.saves]
    assert names == ["hamburger-000003", "hamburger-000006", "hamburger-000009", "hamburger"]


# --- T7 and T8: alpha -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rank", "alpha"), [(64, 512.00), (32, 181.02), (16, 64.00), (8, 22.63), (4, 8.00), (128, 1448.15)]
)
def test_t7_the_experimental_alpha(rank: int, alpha: float) -> None:
    """An experiment that the author gave up: a hint names it where a recipe has an alpha above the rank."""
    assert round(scale_alpha(rank), 2) == alpha
    made = recipe(network={"network_dim": rank, "network_alpha": rank + 1.0}, train={"optimizer": "AdamW"})
    (told,) = spoken("G4.74", situation(made, plan=plan_of(made)))
    assert f"experiment used {alpha:.2f}" in told.fix


@pytest.mark.parametrize(("rank", "alpha", "scale"), [(32, 16.0, "0.5"), (32, 1.0, "0.03125"), (8, 4.0, "0.5")])
def test_t8_alpha_below_the_rank_scales_the_rate(rank: int, alpha: float, scale: str) -> None:
    made = recipe(network={"network_dim": rank, "network_alpha": alpha}, train={"optimizer": "AdamW"})
    (told,) = spoken("G5.3", situation(made, plan=plan_of(made)))
    assert told.message.endswith(f" by {scale}")


def test_t8_an_alpha_of_zero_is_refused() -> None:
    """To sd-scripts it would mean alpha = rank, a scale of 1 (S33), which nobody means who writes 0."""
    with pytest.raises(ValidationError, match="greater than 0"):
        recipe(network={"network_alpha": 0})


# --- T9 and T10: folders and tokens -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("1_Hamburger", (1, "Hamburger")),
        ("10_Hamburger", (10, "Hamburger")),
        ("1_charactertag, outfittag", (1, "charactertag, outfittag")),
        ("5_a_b_c", (5, "a_b_c")),
        ("Raw", None),
        ("0_zero", None),
    ],
)
def test_t9_folder_names(name: str, read: tuple[int, str] | None) -> None:
    assert parse_repeat_folder(name) == read


def test_t9_the_folder_above_is_the_wrong_level() -> None:
    """In a recipe it is the X_ folder itself: of the one above sd-scripts would find nothing and exit 0."""
    above = FolderFacts("Training/Concept", subfolders=("1_Hamburger",), repeat_folders=("1_Hamburger",))
    (told,) = spoken("G4.9", situation(pictures=dataset(above)))
    assert (told.severity, "1_Hamburger" in told.fix) == (Severity.ERROR, True)


@pytest.mark.parametrize(
    ("caption", "right"), [("hmbrgrlora, food", True), ("HmbrgrLora, food", True), ("hamburger, food", False)]
)
def test_t10_the_first_tag_is_the_token_in_any_case(caption: str, *, right: bool) -> None:
    assert (spoken("G3.10", situation(pictures=dataset(folder(caption=caption)))) == []) is right


def test_t10_a_word_that_the_model_knows_gets_a_spelling_that_it_does_not_know() -> None:
    """Known is what CLIP's own vocabulary has as a single word."""
    assert [is_known_word(word) for word in ("hamburger", "hmbrgrlora")] == [True, False]
    made = recipe(concept={"token": "hamburger"})
    facts = replace(dataset(folder(caption="hamburger, food")), known_tokens=("hamburger",))
    (told,) = spoken("G3.11", situation(made, facts))
    assert (told.severity, '"hmbrgrlora"' in told.fix) == (Severity.HINT, True)


# --- T13: kept tags ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("given", "more", "meant"), [(4, {}, 2), (6, {"outfit": "armor"}, 3)])
def test_t13_kept_tags_are_counted_without_commas(given: int, more: dict[str, Any], meant: int) -> None:
    """The guide counts the commas and writes 4 or 6 for the first 2 or 3; sd-scripts counts tags (TU:887)."""
    thing = {"token": "mizutsune", "class": "feral"} | more
    made = recipe(concept=thing)
    assert subset(plan_of(made))["keep_tokens"] == count_leading_tags(made.concept[0], made) == meant
    (told,) = spoken("G4.90", situation(recipe(concept=thing, captions={"keep_tokens": given})))
    assert (told.severity, told.fix) == (Severity.WARNING, f"write {meant}, or remove it")
    assert spoken("G4.90", situation(recipe(concept=thing, captions={"keep_tokens": meant}))) == []


# --- T14 and T15: schedule, styles ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("count", "made", "steps", "warm_up", "peaks"),
    [
        (30, recipe(train={"optimizer": "AdamW"}), 3000, 300, (300, 1200, 2100)),
        (20, recipe(train={"optimizer": "AdamW", "exposures": 50}), 1000, 100, (100, 400, 700)),
        (20, recipe(train={"optimizer": "AdamW", "lr_scheduler_num_cycles": 1}, **SDXL), 1000, 200, (200,)),
        (20, recipe(**SDXL), 1000, 200, ()),
    ],
)
def test_t14_warm_up_and_restarts(count: int, made: Recipe, steps: int, warm_up: int, peaks: tuple[int, ...]) -> None:
    told = counted(made, count)
    assert (told.steps, told.warmup_steps, told.restarts) == (steps, warm_up, peaks)


@pytest.mark.parametrize(
    ("count", "epochs", "steps"),
    [(150, 30, 4500), (268, 15, 4020), (268, 23, 6164), (268, 30, 8040), (268, 45, 12060)],
)
def test_t15_steps_of_a_style(count: int, epochs: int, steps: int) -> None:
    assert counted(recipe(kind="style", train={"max_train_epochs": epochs}), count).steps == steps


def test_t15_a_style_by_the_guide_is_30_to_40_exposures() -> None:
    assert 30 <= counted(recipe(kind="style"), 150).epochs <= 40


# --- T16 and T17: regularization, buckets -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("train", "reg", "batches", "distinct"),
    [
        ((30, 1), ((30, 1),), 60, [30]),
        ((30, 1), ((30, 2),), 60, [15]),
        ((30, 1), ((30, 10),), 60, [3]),
        ((30, 1), ((100, 1),), 60, [30]),
        ((30, 10), ((100, 1),), 600, [100]),
        ((30, 1), ((20, 1),), 60, [20]),
        ((30, 1), ((100, 1), (30, 1)), 60, [30, 0]),
    ],
)
def test_t16_regularization_fills_up_to_the_training_samples(
    train: tuple[int, int], reg: tuple[tuple[int, int], ...], batches: int, distinct: list[int]
) -> None:
    """More repeats do not make regularization stronger, as the guide has it, but use fewer of its pictures (G35.10)."""
    sets = [{"class": "food", "images": f"r{at}", "num_repeats": each} for at, (_, each) in enumerate(reg)]
    told = counted(several(train[1], regularization=sets), train[0], reg=tuple(count for count, _ in reg))
    assert told.batches_per_epoch == batches
    assert [share.images_used for share in told.shares if share.is_reg] == distinct


@pytest.mark.parametrize(("family", "number"), [("sd15", 17), ("sdxl", 41)])
def test_t17_number_of_buckets(family: str, number: int) -> None:
    data = values(plan_of(recipe(base={"family": family})).datasets[0].settings)
    side, largest = data["resolution"], data["max_bucket_reso"]
    assert isinstance(side, int)
    assert isinstance(largest, int)
    assert (side, largest) == ((1024, 2048) if family == "sdxl" else (768, 960))
    assert len(bucket_sizes(BucketRules((side, side), enable_bucket=True, max_bucket_reso=largest))) == number


def test_t17_limits() -> None:
    """1024 within 960 stops sd-scripts; 900 becomes 960; 700 trains 640, which G2.7 reports."""
    assert severities(recipe(train={"resolution": 1024, "max_bucket_reso": 960}))["S15"] == "error"
    assert "S15" not in severities(recipe(train={"resolution": 960, "max_bucket_reso": 900}))
    assert severities(recipe(train={"resolution": 700}))["G2.7"] == "warning"


def test_t17_where_images_go() -> None:
    place = bucket_assigner(BucketRules((768, 768), enable_bucket=True, max_bucket_reso=960))
    assert place((600, 900)).bucket == (640, 896)
    assert place((300, 300)).bucket == (768, 768)
    small = bucket_assigner(BucketRules((768, 768), enable_bucket=True, bucket_no_upscale=True))
    assert small((300, 300)).bucket == (256, 256)


# --- T18 and T19: what does not go together ---------------------------------------------------------------------------
PRODIGY, ADAMW = {"optimizer": "Prodigy"}, {"optimizer": "AdamW"}
CONSTANT = {"lr_scheduler": "constant", "lr_warmup_steps": 0.1}
T18: dict[str, tuple[Recipe, str, str]] = {
    "Prodigy with restarts": (recipe(train=PRODIGY | {"lr_scheduler": "cosine_with_restarts"}), "G4.42", "warning"),
    "Prodigy with two rates": (recipe(train=PRODIGY | {"text_encoder_lr": 4.5e-4, "unet_lr": 4e-4}), "S27", "error"),
    "Prodigy with alpha as rank": (recipe(train=PRODIGY, network={"network_alpha": 32.0}), "G4.73", "warning"),
    "AdamW at a rate of 1": (recipe(train=ADAMW | {"learning_rate": 1.0}), "G4.66", "warning"),
    "AdamW with decouple": (recipe(train=ADAMW | {"optimizer_args": {"decouple": True}}), "GC.12", "error"),
    "constant with a warm-up": (recipe(train=ADAMW | CONSTANT), "S5", "error"),
}  # fmt: skip


@pytest.mark.parametrize("case", T18)
def test_t18_optimizer_and_its_settings(case: str) -> None:
    made, rule, severity = T18[case]
    assert severities(made)[rule] == severity


def test_t18_arguments_as_a_single_string() -> None:
    """In sd-scripts' file it would crash; a recipe takes it apart, as the GUI does."""
    made = recipe(train={"optimizer_args": "decouple=True weight_decay=0.1"})
    assert made.train.optimizer_args == {"decouple": True, "weight_decay": 0.1}


NO_WORKERS = {"max_data_loader_n_workers": 0, "persistent_data_loader_workers": True}
T19: dict[str, tuple[Recipe, str, str]] = {
    "SDXL with clip_skip": (recipe(base={"family": "sdxl", "clip_skip": 2}), "S23", "hint"),
    "SDXL at 768": (recipe(train={"resolution": 768}, **SDXL), "G4.61", "warning"),
    "terminal SNR without v": (recipe(base={"zero_terminal_snr": True}), "G4.89", "warning"),
    "colours with cached latents": (recipe(kohya={"color_aug": True}, train={"cache_latents": True}), "S20", "error"),
    "asymmetric and mirrored": (recipe(concept={"asymmetric": True, "flip_aug": True}), "G2.19", "error"),
    "persistent without workers": (recipe(train=NO_WORKERS), "S38", "error"),
    "networks.dylora": (recipe(kohya={"network_module": "networks.dylora"}), "S1", "error"),
    "LyCORIS 4 on SD1.5": (recipe(network={"type": "locon", "preset": "full-lin"}), "S35", "error"),
}


@pytest.mark.parametrize("case", T19)
def test_t19_flags_that_do_not_fit(case: str) -> None:
    made, rule, severity = T19[case]
    found = {each.rule: each for each in said(made)}
    assert (found[rule].severity, bool(found[rule].fix)) == (severity, True)


def test_t19_clip_skip_is_left_out_for_sdxl() -> None:
    assert "clip_skip" not in values(plan_of(recipe(base={"family": "sdxl", "clip_skip": 2})).train)


def test_t19_dylora_with_convolutions_of_16() -> None:
    """networks.dylora asserts conv_dim == network_dim; lorabake trains LyCORIS' own, which only has to divide (S36)."""
    made = recipe(network={"type": "dylora", "network_dim": 128, "conv_dim": 16})
    assert "error" not in severities(made).values()
    assert values(plan_of(made).train)["network_module"] == "lycoris.kohya"


def test_t19_preset_full_on_sd15_gets_a_file_that_works() -> None:
    """LyCORIS 4 crashes there on its own preset; ours trains the same layers (S35)."""
    made = recipe(network={"type": "locon", "preset": "full"})
    assert plan_of(made).shipped_preset == "lycoris-preset-full-sd15.toml"
    assert "S35" not in severities(made)


# --- T21: how many pictures -------------------------------------------------------------------------------------------
T21: list[tuple[str, str, int, str | None]] = [
    ("sd15", "object", 30, None),
    ("sd15", "object", 20, "hint"),
    ("sd15", "object", 12, "warning"),
    ("sd15", "object", 7, "warning"),
    ("sdxl", "object", 20, None),
    ("sdxl", "object", 13, "hint"),
    ("sdxl", "object", 11, "warning"),
    ("sdxl", "object", 1, "warning"),
    ("sd15", "style", 140, None),
    ("sd15", "style", 60, "hint"),
    ("sd15", "style", 40, "warning"),
    ("sd15", "style", 220, "hint"),
]


@pytest.mark.parametrize(("family", "kind", "count", "severity"), T21)
def test_t21_counts_of_images(family: str, kind: str, count: int, severity: str | None) -> None:
    made = recipe(kind=kind, base={"family": family})
    found = collect_findings(situation(made, dataset(folder(count=count))))
    about = [each for each in found if each.rule in {"G1.2", "G1.3", "G8.3"}]
    assert [each.severity for each in about] == ([severity] if severity else [])
    assert any("fewer than 8" in each.fix for each in about) is (count < 8)  # the strong warning
