"""The table of partners compared with the pinned sd-scripts: its lines, and what its functions do with the options."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.base import OptionValue
from lorabake_schemas.guide.partners import (
    NEVER_READ,
    OPTION_PARTNERS,
    SOURCE_MODULES,
    WITHOUT_PARTNERS,
    Condition,
    Partner,
)

pytestmark = pytest.mark.real
SCRIPT = Path(__file__).with_name("act_with_sd_scripts.py")
# What decides has another name there than the option.
OTHER_NAMES = (
    "SchedulerType", "is_schedulefree_optimizer", "text_encoder_output_caching_strategy", "HIGH_VRAM", "is_safetensors",
    "skip_disk_cache_validity_check", "device_count",
)  # fmt: skip
LINES_AROUND = 6
Case = dict[str, Any]


@cache
def read_lines(checkout: Path, module: str) -> list[str]:
    return (checkout / f"{module}.py").read_text(encoding="utf-8").splitlines()


def test_each_line_is_about_its_option_or_its_partner(trainer: Trainer) -> None:
    wrong = list[str]()
    for option, partners in OPTION_PARTNERS.items():
        for partner in partners:
            short, _, line = partner.source.partition(":")
            start = int(line) - 1
            text = "\n".join(read_lines(trainer.checkout, SOURCE_MODULES[short])[start : start + LINES_AROUND])
            names = {option, *(each.option for each in (*partner.needs, *partner.blocked)), *OTHER_NAMES}
            if not re.search(rf"\b({'|'.join(map(re.escape, names))})\b", text):
                wrong.append(f"{option}: {partner.source}: {text.splitlines()[0].strip()}")
    assert wrong == []


def test_what_has_an_effect_is_read_somewhere(trainer: Trainer) -> None:
    """Its name is in a file that the LoRA scripts use, other than the one that makes the parser."""
    modules = {*SOURCE_MODULES.values(), "library/strategy_sdxl", "library/custom_train_functions"}
    lines = [line for module in modules for line in read_lines(trainer.checkout, module) if '"--' not in line]
    words = set(re.findall(r"\w+", "\n".join(lines)))
    found = {name for name in (*OPTION_PARTNERS, *WITHOUT_PARTNERS) if not name.startswith("metadata_")}
    assert found - words == set()
    reads = [line for line in lines if re.search(r"args\.(fused_backward_pass)\b", line)]
    assert len(reads) == 1, "sd-scripts uses it now: take it out of NEVER_READ"
    assert NEVER_READ.keys() == {"fused_backward_pass", "network_multiplier"}


# Which part of sd-scripts shows what an option does, and a value of it that is not its default.
VALUES: dict[str, tuple[str, OptionValue]] = {
    "noise_offset_random_strength": ("noise", True),
    "multires_noise_discount": ("noise", 0.8),
    "ip_noise_gamma_random_strength": ("noise", True),
    "adaptive_noise_scale": ("starts", 0.1),
    "scale_v_pred_loss_like_noise_pred": ("starts", True),
    "v_pred_like_loss": ("starts", 0.5),
    "huber_c": ("loss", 0.5),
    "huber_schedule": ("loss", "constant"),
    "huber_scale": ("loss", 3.0),
    "lr_scheduler": ("schedule", "linear"),
    "lr_scheduler_power": ("schedule", 2.0),
    "lr_scheduler_timescale": ("schedule", 7),
    "lr_scheduler_min_lr_ratio": ("schedule", 0.5),
    "lr_scheduler_num_cycles": ("schedule", 3),
    "lr_decay_steps": ("schedule", 10),
    "unet_lr": ("schedule", 5e-3),
    "keep_tokens": ("captions", 2),
    "keep_tokens_separator": ("captions", "|||"),
    "caption_separator": ("captions", "|||"),
    "token_warmup_min": ("captions", 3),
    "min_bucket_reso": ("buckets", 64),
    "max_bucket_reso": ("buckets", 256),
    "bucket_reso_steps": ("buckets", 32),
    "bucket_no_upscale": ("buckets", True),
    "dataset_repeats": ("buckets", 9),
}
# What is in the way, or is needed besides, as sd-scripts has it.
FACT_OPTIONS: dict[str, Case] = {
    "own_schedule": {"optimizer_type": "AdamWScheduleFree"},
    "own_rate": {"optimizer_type": "Adafactor"},
    "num_repeats": {},
    "lr_scheduler_type": {"lr_scheduler_type": "ExponentialLR", "lr_scheduler_args": ["gamma=0.9"]},
}
BESIDE: dict[str, Case] = {
    "max_bucket_reso": {"min_bucket_reso": 64},
    "bucket_reso_steps": {"min_bucket_reso": 64},
}


def on(condition: Condition, value: OptionValue | None = None) -> Case:
    if condition.option in FACT_OPTIONS:
        return FACT_OPTIONS[condition.option]
    return {condition.option: value if value is not None else condition.write}


def list_cases() -> list[tuple[str, bool, Case]]:
    """Option, whether it is to have an effect, and the two sets of options that show it."""
    found: list[tuple[str, bool, Case]] = []
    for option, (part, value) in VALUES.items():
        partners = OPTION_PARTNERS[option]
        for partner in partners:
            rest: Case = dict(BESIDE.get(option, {}))
            for other in partners:
                rest |= on(other.needs[0]) if other.needs and other is not partner else {}
            without = [(False, rest)] if partner.needs else []
            without += [(False, rest | on(each)) for each in partner.blocked]
            acting = [rest | on(each, each_value) for each, each_value in _list_values(partner)] or [rest]
            for acts, base in [*without, *((True, base) for base in acting)]:
                differs = acts is not (part == "starts")  # it stops where the partner is missing
                found.append((option, differs, {"part": part, "without": base, "given": base | {option: value}}))
    return [case for case in found if not _is_out_of_reach(*case)]


def _list_values(partner: Partner) -> list[tuple[Condition, OptionValue | None]]:
    return [(each, value) for each in partner.needs for value in (each.values or (None,))]


def _is_out_of_reach(option: str, has_effect: bool, case: Case) -> bool:
    """What these parts cannot show: other modules decide, or no recipe can be without the partner."""
    elsewhere = {
        "metadata_file", "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "secondary_separator",
        "network_train_text_encoder_only",
    }  # fmt: skip
    return bool(elsewhere & case["without"].keys()) or (option == "dataset_repeats" and has_effect)


@pytest.fixture(scope="module")
def told(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    folder = tmp_path_factory.mktemp("partners")
    images = folder / "images"
    images.mkdir()
    for number, size in enumerate(((192, 800), (140, 140), (1000, 260), (600, 520))):
        Image.new("RGB", size, (number, 0, 0)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("hero", encoding="utf-8")
    cases, answer = folder / "cases.json", folder / "answer.json"
    cases.write_text(json.dumps([case for _, _, case in list_cases()]), encoding="utf-8")
    argv = [str(trainer.python), str(SCRIPT), str(cases), str(answer), str(images)]
    env = make_child_env(read_environment())
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[str]] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def test_options_have_an_effect_exactly_with_their_partners(told: list[list[str]]) -> None:
    wrong = [
        f"{option} {'has no' if has_effect else 'has an'} effect: {case}"
        for (option, has_effect, case), (without, given) in zip(list_cases(), told, strict=True)
        if (without != given) is not has_effect
    ]
    assert len(told) >= 60
    assert wrong == []
