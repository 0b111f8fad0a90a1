"""Recipes at another commit of sd-scripts than the pin: what that commit does not know is reported, with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.compat import COMMAND_FLAGS, fit_plan_to_commit
from lorabake.errors import RecipeError
from lorabake.jobs.run_files import build_run_files, write_compiled
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import AttentionProbe
from lorabake_schemas.messages import literal
from lorabake_schemas.options import DatasetOption, Option, OptionSnapshot
from lorabake_schemas.recipe import Recipe
from situations import CPU, plan_of, project, recipe

COMMIT = "0123456789abcdef" + "0" * 24
PIN = resources.load_snapshot()
WORKS = AttentionProbe(xformers=True, reason=literal("tried"))


def snapshot(
    *, without: tuple[str, ...] = (), subsets: Callable[[DatasetOption], bool] | None = None
) -> OptionSnapshot:
    """The pin's options at another commit, less some."""
    dataset = PIN.dataset
    if subsets is not None:
        dataset = dataset.model_copy(update={"subsets": tuple(filter(subsets, dataset.subsets))})
    return OptionSnapshot(
        commit=COMMIT,
        scripts={
            script: tuple(option for option in options if option.name not in without)
            for script, options in PIN.scripts.items()
        },
        dataset=dataset,
    )


def changed(name: str, **traits: Any) -> OptionSnapshot:
    """The same with one option in another form."""
    options = tuple(o.model_copy(update=traits) if o.name == name else o for o in PIN.of("train_network.py"))
    return snapshot().model_copy(update={"scripts": {**PIN.scripts, "train_network.py": options}})


def found(of: Recipe, at: OptionSnapshot) -> list[Finding]:
    _, said = fit_plan_to_commit(plan_of(of), of, at)
    return list(said)


def test_a_commit_that_knows_everything_changes_nothing() -> None:
    of = recipe()
    plan, said = fit_plan_to_commit(plan_of(of), of, snapshot())
    assert (plan, said) == (plan_of(of), ())


@pytest.mark.parametrize(
    ("tables", "option", "key", "fix"),
    [
        (
            {"train": {"min_snr_gamma": 5.0}},
            "min_snr_gamma",
            "train.min_snr_gamma",
            "remove train.min_snr_gamma, or use the pinned commit",
        ),
        (
            {},
            "debiased_estimation_loss",
            "train.debiased_estimation_loss",
            "write train.debiased_estimation_loss = false, or ",
        ),
        ({}, "save_precision", "save.save_precision", "use the pinned commit"),
        ({"metadata": {"author": "me"}}, "metadata_author", "metadata.author", "remove metadata.author, or "),
        ({}, "output_name", "name", "use the pinned commit"),
        ({"kohya": {"huber_c": 0.2, "loss_type": "huber"}}, "huber_c", "kohya.huber_c", "remove kohya.huber_c, or "),
    ],
)
def test_an_option_that_the_commit_lacks(tables: dict[str, Any], option: str, key: str, fix: str) -> None:
    (one,) = found(recipe(**tables), snapshot(without=(option,)))
    assert (one.rule, one.severity, one.key) == ("S1", "error", key)
    for part in ("train_network.py", COMMIT[:12], f"option {option},"):
        assert part in one.message
    assert one.fix.startswith(fix)


def test_what_only_labels_the_file_is_left_out_and_said() -> None:
    of = recipe()
    plan, (one,) = fit_plan_to_commit(plan_of(of), of, snapshot(without=("metadata_trigger_phrase",)))
    assert plan.value("metadata_trigger_phrase") is None
    assert plan_of(of).value("metadata_trigger_phrase") is not None
    assert one.severity == "warning"
    assert COMMIT[:12] in one.message
    assert "metadata_trigger_phrase" in one.message


def test_a_label_of_the_recipes_own_is_an_error() -> None:
    (one,) = found(recipe(metadata={"trigger_phrase": "abc"}), snapshot(without=("metadata_trigger_phrase",)))
    assert (one.severity, one.key) == ("error", "metadata.trigger_phrase")


@pytest.mark.parametrize("flag", COMMAND_FLAGS)
def test_what_every_run_is_started_with_has_to_be_there(flag: str) -> None:
    (one,) = found(recipe(), snapshot(without=(flag,)))
    assert (one.rule, one.severity, one.key) == ("S1", "error", "")
    assert f"option {flag}," in one.message


def test_a_value_in_a_form_that_the_commit_does_not_take() -> None:
    (one,) = found(recipe(), changed("lr_warmup_steps", type="int"))
    assert one.key == "train.lr_warmup_steps"
    assert all(part in one.message for part in ("train_network.py", COMMIT[:12], "lr_warmup_steps = 0.1"))
    assert one.fix == "write a whole number"


def test_a_choice_that_the_commit_does_not_have() -> None:
    of = recipe(train={"optimizer": "AdamW", "lr_scheduler": "cosine_with_restarts"})
    (one,) = found(of, changed("save_precision", choices=(None, "float", "bf16")))
    assert (one.rule, one.key) == ("S1", "save.save_precision")
    assert 'save_precision = "fp16"' in one.message
    assert "float, bf16" in one.fix


def test_keys_of_the_dataset_file() -> None:
    of = recipe(captions={"caption_prefix": "x"})
    said = found(of, snapshot(subsets=lambda option: option.name not in {"caption_prefix", "flip_aug"}))
    assert [(one.key, one.severity) for one in said] == [
        ("concept[0]", "error"),
        ("captions.caption_prefix", "error"),
    ]
    for one, option in zip(said, ("flip_aug", "caption_prefix"), strict=True):
        assert all(part in one.message for part in ("the dataset file", COMMIT[:12], f"no option {option}"))
    asked = recipe(concept={"flip_aug": True})
    (one,) = found(asked, snapshot(subsets=lambda option: option.name != "flip_aug"))
    assert one.key == "concept[0].flip_aug"
    assert one.fix.startswith("remove concept.flip_aug, or ")


def test_a_shape_that_the_dataset_file_does_not_take() -> None:
    at = snapshot()
    repeats = tuple(
        o.model_copy(update={"accepts": ("str",)}) if o.name == "num_repeats" else o for o in at.dataset.subsets
    )
    at = at.model_copy(update={"dataset": at.dataset.model_copy(update={"subsets": repeats})})
    (one,) = found(recipe(), at)
    assert all(part in one.message for part in ("the dataset file", COMMIT[:12], "num_repeats = 1"))
    assert one.fix.endswith("use str")


def written(tmp_path: Path, text: str = "") -> Path:
    path = project(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    return path


def test_check_names_option_commit_file_and_line(tmp_path: Path) -> None:
    path = written(tmp_path, "\n[kohya]\nhuber_scale = 2.0\n")
    assert check_recipe(path, CPU).errors == ()
    (one,) = check_recipe(path, CPU, snapshot=snapshot(without=("huber_scale",))).errors
    assert one.message == f"train_network.py in sd-scripts {COMMIT[:12]} has no option huber_scale"
    assert one.fix == "remove it, or use the pinned commit, which supports it"
    assert path.read_text(encoding="utf-8").splitlines()[(one.line or 0) - 1].startswith("huber_scale")


def test_an_option_that_only_the_other_commit_has(tmp_path: Path) -> None:
    path = written(tmp_path, "\n[kohya]\nfuture_loss = 0.5\n")
    (one,) = check_recipe(path, CPU).errors
    assert "this version of sd-scripts has no option future_loss" in one.message
    new = Option(name="future_loss", type="float", default=None, choices=None, nargs=None, action="StoreAction")
    at = snapshot().model_copy(
        update={"scripts": {**PIN.scripts, "train_network.py": (*PIN.of("train_network.py"), new)}}
    )
    examination = check_recipe(path, CPU, snapshot=at)
    assert examination.errors == ()
    assert b"future_loss = 0.5" in build_run_files(examination, tmp_path / "run").fill_folder()["train.toml"]
    _, plan = examination.planned()
    with pytest.raises(ValueError, match="future_loss: not an option"):
        compile_plan(plan, PIN.of(plan.script), PIN.dataset)


def test_what_is_left_out_is_compiled_without(tmp_path: Path) -> None:
    examination = check_recipe(written(tmp_path), CPU, snapshot=snapshot(without=("metadata_trigger_phrase",)))
    found = [one for one in examination.findings if one.rule == "S1"]
    assert [(one.severity, "metadata_trigger_phrase" in one.message) for one in found] == [("warning", True)]
    files = write_compiled(examination, tmp_path / "out")
    assert b"trigger_phrase" not in b"".join(path.read_bytes() for path in files)


def test_attention_that_the_commit_lacks_is_refused_once_it_is_chosen(tmp_path: Path) -> None:
    examination: CheckResult = check_recipe(written(tmp_path), CPU, snapshot=snapshot(without=("xformers",)))
    assert examination.errors == ()
    with pytest.raises(RecipeError) as caught:
        examination.with_attention(WORKS)
    (one,) = (finding for finding in caught.value.findings if finding.severity == "error")
    assert "has no option xformers" in one.message


def test_what_the_users_own_sd_scripts_lacks_is_known_once_it_was_asked(tmp_path: Path) -> None:
    """Only when the run starts: then the plan for the pin is compared with it."""
    examination = check_recipe(written(tmp_path), CPU)
    own = snapshot(without=("metadata_trigger_phrase",)).model_copy(update={"commit": "/home/me/sd-scripts"})
    ready = replace(examination, snapshot=own).with_attention(WORKS)
    (new,) = ready.findings[len(examination.findings) :]
    assert new.message.startswith("train_network.py in sd-scripts /home/me/sd-scripts has no option metadata_trigger")
    assert ready.planned()[1].value("metadata_trigger_phrase") is None
    with pytest.raises(RecipeError, match="1 error in"):
        replace(examination, snapshot=snapshot(without=("seed",))).with_attention(WORKS)
