"""The table of what each option needs: it names every option of the pin once, and each row is tried both ways."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.partners import (
    FACTS,
    NEVER_READ,
    OPTION_PARTNERS,
    TABLE_RULES,
    WITHOUT_PARTNERS,
    Condition,
    Partner,
)
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings, list_rules
from lorabake_schemas.guide.rules.extra_options import RESERVED_OPTIONS
from lorabake_schemas.guide.rules.partners import find_idle_options
from lorabake_schemas.options import DATASET_LEVELS, Option
from lorabake_schemas.plan import Origin, Script
from lorabake_schemas.recipe_keys import find_option_key, list_recipe_keys
from situations import CPU, Fires, Misses, concept, plan_of, recipe, situation, spoken, topic

SCRIPTS: tuple[Script, ...] = ("train_network.py", "sdxl_train_network.py")
OPTIONS: dict[str, Option] = {
    option.name: option for script in reversed(SCRIPTS) for option in resources.load_script_options(script)
}
SD_OPTIONS = {option.name for option in resources.load_script_options(SCRIPTS[0])}
DATASET_OPTIONS = {name for level in DATASET_LEVELS for name in resources.load_dataset_options().at(level)}
Tables = dict[str, Any]
Case = tuple[str, Partner, Condition]


def test_every_option_is_in_the_table_once_and_no_other() -> None:
    """An option of a later pin fails here until somebody has looked what it needs."""
    listed = [*OPTION_PARTNERS, *NEVER_READ, *WITHOUT_PARTNERS]
    known = OPTIONS.keys() | DATASET_OPTIONS
    assert known - set(listed) == set(), "look up in sd-scripts what they need"
    assert set(listed) - known == set(), "sd-scripts has no such option"
    assert len(listed) == len(known) >= 200


def test_partners_are_options_or_facts_and_rules_exist() -> None:
    known, rules = OPTIONS.keys() | DATASET_OPTIONS | FACTS.keys(), {rule.id for rule in list_rules()}
    for option, partners in OPTION_PARTNERS.items():
        assert partners, option
        for partner in partners:
            assert bool(partner.needs) is not bool(partner.blocked), option
            named = {each.option for each in (*partner.needs, *partner.blocked)}
            assert named - known == set(), option
            assert partner.rule in rules | {"missing-key"}, option
            assert not (partner.stops and partner.rule in TABLE_RULES), option
            for each in (*partner.needs, *partner.blocked):
                choices = OPTIONS[each.option].choices if each.option in OPTIONS else None
                assert choices is None or set(each.values) <= set(choices), (option, each)


# What lorabake always writes, so that no recipe can be without it.
ALWAYS = {"logging_dir", "dataset_config", "num_repeats", "batch_size"}
COMPLETE = {"sample_prompts", "caption_extension"}  # lorabake adds an interval, or leaves the option out
# How a recipe says what is no option of its own.
FACT_TABLES: dict[str, Tables] = {
    "is_reg": {"regularization": [{"class": "food", "images": "reg"}]},
    "several_gpus": {"launch": {"num_processes": 2}},
    "own_schedule": {"train": {"optimizer": "AdamWScheduleFree"}},
    "own_rate": {"train": {"optimizer": "Adafactor"}},
    "separate_rates": {"train": {"optimizer": "AdamW", "unet_lr": 1e-4, "text_encoder_lr": 5e-5}},
    "safetensors_model": {"base": {"model": "base.safetensors"}},
    "conditioning_data_dir": {"concept": {"masks": "masks"}},
    "metadata_file": {"concept": {"metadata_file": "captions.json"}},
}
OFF: dict[str, Tables] = {
    "shuffle_caption": {"captions": {"shuffle_caption": False}},
    "enable_bucket": {"train": {"enable_bucket": False}},
    "cache_latents": {"train": {"cache_latents": False}},
    "save_every_n_epochs": {"save": {"save_every_n_steps": 50}},
    "mixed_precision": {"train": {"mixed_precision": "no"}},
    "max_data_loader_n_workers": {"train": {"max_data_loader_n_workers": 0}},
    "safetensors_model": {"base": {"model": "folder"}},
    "v_parameterization": {"base": {"v_prediction": False}},
    "masked_loss": {"kohya": {"masked_loss": False}},
}
SPECIAL: dict[str, OptionValue] = {
    "caption_extension": ".cap",
    "face_crop_aug_range": "1.0,2.0", "huber_schedule": "constant", "lr_scheduler": "linear", "lr_scheduler_power": 2.0,
    "lr_scheduler_type": "StepLR", "sample_sampler": "euler", "network_alpha": 8.0, "network_dim": 8,
    "optimizer_type": "AdamW", "network_weights": "a.safetensors", "base_weights": ("a.safetensors",),
    "learning_rate": 1e-3, "text_encoder_lr": 1e-3, "bucket_reso_steps": 32, "max_bucket_reso": 2048,
    "min_bucket_reso": 128,
}  # fmt: skip


def merge(into: Tables, more: Tables) -> Tables:
    for table, given in more.items():
        if isinstance(given, dict):
            into.setdefault(table, {}).update(given)
        else:
            into[table] = given
    return into


def say(option: str, value: OptionValue | None = None) -> Tables:
    """The option as a recipe sets it: with its own key, or under [kohya]."""
    if option in FACT_TABLES:
        return FACT_TABLES[option]
    known = OPTIONS.get(option)
    if value is None or value == "...":
        value = SPECIAL.get(option)
    if value is None and known is not None:
        if known.action == "StoreTrueAction":
            value = True
        elif known.choices:
            value = next(choice for choice in known.choices if choice not in {None, known.default})
        elif known.nargs == "*":
            value = (0.5,) if known.type == "float" else ("a=1",)
        else:
            value = {"int": 3, "float": 0.5, "int_or_float": 3}.get(known.type or "", "x")
    table, _, name = (find_option_key(option) or f"kohya.{option}").rpartition(".")
    tables: Tables = {table: {name: value}}
    if table == "sample":
        tables["sample"]["prompts"] = ["a"]
    if option not in SD_OPTIONS and option in OPTIONS:
        tables["base"] = {"family": "sdxl", "tags": "natural"}  # nothing is shuffled
    return tables


def is_sayable(option: str) -> bool:
    return option in FACT_TABLES or (
        option in OPTIONS and (find_option_key(option) is not None or option not in RESERVED_OPTIONS)
    )


def settle(tables: Tables, partner: Partner) -> Tables:
    """With this partner as it has to be."""
    if partner.needs:
        first = partner.needs[0]
        return merge(tables, say(first.option, None if first.option in FACT_TABLES else first.write))
    for each in partner.blocked:
        merge(tables, OFF.get(each.option, {}))
    return tables


def idle_and_acting(option: str, partner: Partner, condition: Condition) -> tuple[Tables, Tables]:
    """Recipes in which the option has no effect for want of its partner, and in which it has one."""
    start = say(option)
    for other in OPTION_PARTNERS[option]:
        if other is not partner:
            start = settle(copy.deepcopy(start), other)
    given = say(condition.option, condition.write if condition.values or partner.needs else None)
    for each in (*partner.needs, *partner.blocked):
        if each.option != condition.option or partner.needs:
            start = merge(copy.deepcopy(start), OFF.get(each.option, {}))
    with_it = merge(copy.deepcopy(start), copy.deepcopy(given))
    if partner.needs:
        return start, with_it
    return with_it, merge(copy.deepcopy(start), OFF.get(condition.option, {}))


def cases(*, of_table: bool = True) -> Iterator[Case]:
    """Rows of the table that a recipe can set, by who reports them: the table's own rules or others."""
    for option, partners in OPTION_PARTNERS.items():
        for partner in partners:
            for condition in (*partner.needs, *partner.blocked):
                said = is_sayable(option) and is_sayable(condition.option)
                always = any(each.option in ALWAYS for each in (*partner.needs, *partner.blocked))
                if (partner.rule in TABLE_RULES) is of_table and said and option not in COMPLETE and not always:
                    yield option, partner, condition


def idle(tables: Tables) -> dict[str, tuple[str, Partner | None]]:
    """Options of a recipe without effect: where, and why."""
    made = recipe(**copy.deepcopy(tables))
    found = find_idle_options(replace(situation(made), plan=plan_of(made)))
    return {option: (".".join(map(str, where)), unmet[0] if unmet else None) for where, option, unmet in found}


@pytest.mark.parametrize(
    ("option", "partner", "condition"),
    list(cases()),
    ids=[f"{case[0]}-{case[2].option}" for case in cases()],
)
def test_an_option_alone_is_found_and_with_its_partner_it_is_not(
    option: str, partner: Partner, condition: Condition
) -> None:
    alone, together = idle_and_acting(option, partner, condition)
    found = idle(alone)
    assert option in found, alone
    where, why = found[option]
    assert where == (find_option_key(option) or f"kohya.{option}")
    assert why == partner
    assert option not in idle(together), together


# Facts that another rule looks up for itself, and what no recipe can leave out.
OTHERS = [case for case in cases(of_table=False) if case[1].rule != "missing-key"]


@pytest.mark.parametrize(
    ("option", "partner", "condition"), OTHERS, ids=[f"{case[0]}-{case[2].option}" for case in OTHERS]
)
def test_a_row_of_another_rule_is_reported_by_it(option: str, partner: Partner, condition: Condition) -> None:
    def report(tables: Tables) -> set[str]:
        made = recipe(**copy.deepcopy(tables))
        found = collect_findings(situation(made))
        if not any(each.severity is Severity.ERROR for each in found):
            found = (*found, *collect_findings(replace(situation(made), plan=plan_of(made))))
        return {each.rule for each in found}

    alone, together = idle_and_acting(option, partner, condition)
    assert partner.rule in report(alone), alone
    assert partner.rule not in report(together), together


def test_enough_rows_are_tried() -> None:
    assert len({case[0] for case in cases()}) >= 60


@pytest.mark.parametrize("option", [name for name in NEVER_READ if name in OPTIONS])
def test_what_is_never_read_is_found_or_refused(option: str) -> None:
    made = recipe(**say(option))
    found = [*collect_findings(situation(made)), *collect_findings(replace(situation(made), plan=plan_of(made)))]
    assert [each.rule for each in found if each.key == f"kohya.{option}"]


REFUSED = sorted(name for name in OPTION_PARTNERS if name in OPTIONS and not is_sayable(name))


@pytest.mark.parametrize("option", REFUSED)
def test_what_a_recipe_cannot_say_is_refused(option: str) -> None:
    assert [each.key for each in spoken("S1", situation(recipe(**say(option))))] == [f"kohya.{option}"]


TABLES: list[Tables] = [
    {}, {"kind": "style"}, {"base": {"family": "sdxl"}}, {"base": {"family": "sd2"}}, {"base": {"tags": "danbooru"}},
    {"base": {"v_prediction": True}}, {"regularization": [{"class": "food", "images": "reg"}]},
    {"concepts": [concept("a", "pa"), concept("b", "pb")]}, {"sample": {"prompts": ["a"]}},
    *({"train": {"optimizer": name}} for name in ("AdamW", "Adafactor", "AdamWScheduleFree", "DAdaptSGD")),
    *({"network": {"type": name}} for name in ("locon", "lokr", "ia3", "dylora", "diag-oft")),
    {"base": {"tags": "natural"}}, {"train": {"enable_bucket": False}}, {"captions": {"shuffle_caption": False}},
    {"network": {"network_train_unet_only": True}, "train": {"optimizer": "AdamW"}},
    {"kohya": {"network_train_text_encoder_only": True}, "train": {"optimizer": "AdamW"}},
]  # fmt: skip


@pytest.mark.parametrize("tables", TABLES)
def test_the_guides_own_values_all_have_an_effect(tables: Tables) -> None:
    made = recipe(**tables)
    at = replace(situation(made), plan=plan_of(made))
    assert [option for _, option, _ in find_idle_options(at, tuple(Origin))] == []


def at(**tables: Any) -> RuleContext:
    made = recipe(**tables)
    return replace(situation(made), plan=plan_of(made))


def free(**train: Any) -> RuleContext:
    return at(train={"optimizer": "AdamWScheduleFree", "learning_rate": 1e-3} | train)


SAMPLE: Tables = {"prompts": ["a"]}
FIRES: list[Fires] = [
    ("S46", at(kohya={"huber_c": 0.2}), "kohya.huber_c", "warning"),
    ("S46", at(kohya={"loss_type": "huber", "huber_scale": 2.0}), "kohya.huber_scale", "warning"),
    ("S46", at(kohya={"huber_c": 0.1}), "kohya.huber_c", "hint"),
    ("S46", at(kohya={"dynamo_backend": "inductor"}), "kohya.dynamo_backend", "hint"),
    ("S46", at(kohya={"masked_loss": True}), "kohya.masked_loss", "warning"),
    ("S46", at(kohya={"dynamo_backend": "eager"}), "kohya.dynamo_backend", "warning"),
    ("S46", at(kohya={"dataset_repeats": 5}), "kohya.dataset_repeats", "warning"),
    ("S46", at(kohya={"base_weights_multiplier": [0.5]}), "kohya.base_weights_multiplier", "warning"),
    ("S46", at(train={"prior_loss_weight": 0.5}), "train.prior_loss_weight", "warning"),
    ("S46", at(train={"bucket_no_upscale": True, "min_bucket_reso": 512}), "train.min_bucket_reso", "warning"),
    ("S46", at(train={"enable_bucket": False, "max_bucket_reso": 2048}), "train.max_bucket_reso", "warning"),
    ("S46", at(base={"tags": "natural"}, captions={"keep_tokens": 4}), "captions.keep_tokens", "warning"),
    (
        "S46",
        at(concepts=[concept("a", "pa"), concept("b", "pb", shuffle_caption=False, keep_tokens=3)]),
        "concept[1].keep_tokens",
        "warning",
    ),
    (
        "S46",
        at(train={"optimizer": "AdamW", "text_encoder_lr": 1e-5}, network={"network_train_unet_only": True}),
        "train.text_encoder_lr",
        "warning",
    ),
    ("S46", at(train={"optimizer": "Adafactor", "learning_rate": 1e-4}), "train.learning_rate", "warning"),
    (
        "S46",
        at(captions={"keep_tokens": 3}, concepts=[concept("a", "pa", keep_tokens=2)]),
        "captions.keep_tokens",
        "warning",
    ),
    (
        "S46",
        at(captions={"caption_extension": ".cap"}, concept={"metadata_file": "captions.json"}),
        "captions.caption_extension",
        "warning",
    ),
    (
        "S46",
        at(concept={"metadata_file": "captions.json", "caption_extension": ".cap"}),
        "concept[0].caption_extension",
        "warning",
    ),
    ("S46", at(log={"wandb_run_name": "x"}), "log.wandb_run_name", "warning"),
    ("S46", at(validation={"validate_every_n_steps": 50}), "validation.validate_every_n_steps", "warning"),
    ("S46", at(train={"optimizer": "Adafactor", "unet_lr": 1e-4}), "train.unet_lr", "warning"),
    (
        "S46",
        at(train={"optimizer": "AdamW", "learning_rate": 1e-3, "unet_lr": 1e-4, "text_encoder_lr": 5e-5}),
        "train.learning_rate",
        "warning",
    ),
    (
        "S46",
        at(
            base={"family": "sdxl", "tags": "natural"},
            network={"network_train_unet_only": True},
            captions={"caption_prefix": "art, "},
            kohya={"cache_text_encoder_outputs": True},
        ),
        "captions.caption_prefix",
        "warning",
    ),
    ("S5.ignored", free(lr_scheduler="cosine"), "train.lr_scheduler", "warning"),
    ("S5.ignored", free(lr_warmup_steps=5), "train.lr_warmup_steps", "warning"),
    ("S5.ignored", free(lr_scheduler_num_cycles=2), "train.lr_scheduler_num_cycles", "warning"),
    (
        "S5.ignored",
        at(train={"optimizer": "SGDScheduleFree"}, kohya={"lr_scheduler_type": "StepLR"}),
        "train.lr_scheduler_type",
        "warning",
    ),
    (
        "S5.ignored",
        at(train={"optimizer": "Adafactor", "lr_scheduler_num_cycles": 2}),
        "train.lr_scheduler_num_cycles",
        "warning",
    ),
    ("S5.ignored", at(train={"optimizer": "Adafactor", "lr_scheduler": "cosine"}), "train.lr_scheduler", "warning"),
    (
        "S5.ignored",
        at(train={"optimizer": "AdamW", "lr_scheduler": "piecewise_constant", "lr_warmup_steps": 5}),
        "train.lr_warmup_steps",
        "warning",
    ),
    (
        "S5.ignored",
        at(
            train={"optimizer": "AdamW", "lr_scheduler": "cosine"},
            kohya={"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": ["T_max=100"]},
        ),
        "train.lr_scheduler",
        "warning",
    ),
    ("S5.ignored", at(train={"optimizer": "AdamW"}, kohya={"lr_decay_steps": 100}), "kohya.lr_decay_steps", "warning"),
    ("G4.56", at(train={"lr_scheduler_num_cycles": 3}), "train.lr_scheduler_num_cycles", "warning"),
    (
        "G4.56",
        at(train={"optimizer": "AdamW", "lr_scheduler": "linear", "lr_scheduler_num_cycles": 3}),
        "train.lr_scheduler_num_cycles",
        "warning",
    ),
    (
        "S9.samples",
        at(sample=SAMPLE | {"sample_every_n_epochs": 1, "sample_every_n_steps": 5}),
        "sample.sample_every_n_steps",
        "warning",
    ),
]
MISSES: list[Misses] = [
    ("S46", at(kohya={"huber_c": 0.2, "loss_type": "smooth_l1"})),
    ("S46", at(kohya={"torch_compile": True, "dynamo_backend": "inductor"})),
    ("S46", at(kohya={"masked_loss": True, "alpha_mask": True})),
    ("S46", at(kohya={"highvram": True, "lowram": True})),
    ("S46", at(captions={"keep_tokens": 3})),
    ("S46", at(kohya={"dynamo_backend": "no"})),
    ("S46", at(captions={"caption_extension": ".cap", "shuffle_caption": False})),
    ("S46", at(captions={"keep_tokens": 3}, concepts=[concept("a", "pa", keep_tokens=2), concept("b", "pb")])),
    ("S46", at(log={"wandb_run_name": "x", "log_with": "wandb"})),
    ("S46", at(validation={"validate_every_n_steps": 50, "validation_split": 0.1})),
    ("S46", at(base={"tags": "natural"}, captions={"keep_tokens": 3, "caption_tag_dropout_rate": 0.1})),
    (
        "S46",
        at(
            captions={"keep_tokens": 3},
            concepts=[concept("a", "pa"), concept("b", "pb", shuffle_caption=False)],
        ),
    ),
    ("S46", at(train={"optimizer": "AdamW", "learning_rate": 1e-4, "text_encoder_lr": 1e-5})),
    ("S46", at(train={"optimizer": "AdamW", "learning_rate": 1e-4, "unet_lr": 1e-4, "text_encoder_lr": 1e-5})),
    ("S46", at(train={"optimizer": "Adafactor"})),
    ("S5.ignored", free(optimizer_args={"warmup_steps": 5})),
    ("S5.ignored", at(train={"optimizer": "AdamW", "lr_scheduler": "cosine", "lr_warmup_steps": 5})),
    ("S5.ignored", at(train={"optimizer": "Adafactor"})),
    ("S5.ignored", at(train={"optimizer": "Adafactor", "lr_scheduler": "adafactor"})),
    (
        "S5.ignored",
        at(train={"optimizer": "AdamW", "lr_scheduler": "warmup_stable_decay"}, kohya={"lr_decay_steps": 9}),
    ),
    ("G4.56", at(train={"optimizer": "AdamW", "lr_scheduler_num_cycles": 3})),
    ("G4.56", at(train={"optimizer": "AdamW", "lr_scheduler": "cosine"})),
    ("S9.samples", at(sample=SAMPLE | {"sample_every_n_steps": 5})),
    ("S9.samples", at()),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("partners")


def test_what_depends_on_the_machine_is_not_held_against_the_recipe() -> None:
    """On a CPU there is no mixed precision, so no_half_vae does nothing here; on the GPU it does."""
    made = recipe(base={"family": "sdxl"}, train={"no_half_vae": True})
    on_cpu = replace(situation(made, machine=CPU), plan=plan_of(made, machine=CPU))
    assert spoken("S46", on_cpu) == []
    said = recipe(base={"family": "sdxl"}, train={"no_half_vae": True, "mixed_precision": "no"})
    assert [each.key for each in spoken("S46", replace(situation(said), plan=plan_of(said)))] == ["train.no_half_vae"]


# A value for each key that is none of the table's options or needs a certain form.
KEY_VALUES: dict[str, Any] = {
    "base.vae": "v.safetensors", "base.tokenizer_cache_dir": "t", "base.native_resolution": 640, "base.clip_skip": 2,
    "base.v_prediction": True, "network.conv_dim": 8, "network.conv_alpha": 4.0, "network.rank_dropout": 0.2,
    "network.module_dropout": 0.2, "network.network_dropout": 0.2, "network.dora_wd": True, "network.factor": 8,
    "network.block_size": 8, "network.constraint": 0.1, "network.preset": "attn-mlp", "network.use_tucker": True,
    "network.use_scalar": True, "network.rescaled": True, "network.train_norm": True, "train.exposures": 33,
    "train.train_batch_size": 2, "train.resolution": 640, "train.resolutions": [512, 640], "train.attention": "sdpa",
    "train.optimizer_args": {"weight_decay": 0.5}, "train.max_token_length": 150, "train.seed": 7,
    "train.mixed_precision": "bf16", "train.lr_warmup_steps": 3, "train.lr_scheduler_num_cycles": 2,
    "train.max_train_steps": 400, "train.max_train_epochs": 7, "captions.caption_extension": ".cap",
    "launch.gpu_ids": "0", "launch.num_processes": 2, "launch.deterministic": True, "launch.main_process_port": 2000,
    "launch.num_cpu_threads_per_process": 2, "save.save_model_as": "ckpt", "save.save_precision": "bf16",
    "log.log_with": "wandb", "network.args": {"loraplus_lr_ratio": 4.0},
}  # fmt: skip
# What decides something else than the plan: which rules apply, where the run folder is, the tables themselves.
OF_NO_SETTING = {"base.family", "base.tags", "captions.tagging", "save.runs", "network.type"}
KEY_TABLES = ("base", "network", "train", "captions", "save", "sample", "validation", "log", "metadata", "launch")


def list_sayings() -> Iterator[tuple[str, Any]]:
    for key in list_recipe_keys().values():
        table, _, name = key.name.partition(".")
        if table not in KEY_TABLES or not name or "." in name or key.name in OF_NO_SETTING:
            continue
        if key.name in KEY_VALUES:
            yield key.name, KEY_VALUES[key.name]
        elif table == "metadata":
            yield key.name, "x"
        elif name != "prompts":
            yield key.name, say(key.option)[table][name]


@pytest.mark.parametrize("tables", TABLES)
def test_no_key_is_dropped_in_silence(tables: Tables) -> None:
    """What the plan does not have of a recipe is a finding at its key."""
    start = copy.deepcopy(tables)
    before = plan_of(recipe(**start)).model_dump()
    silent = list[str]()
    for key, value in list_sayings():
        table, _, name = key.partition(".")
        if name in tables.get(table, {}) or (table == "sample" and table not in tables):
            continue
        made = recipe(**merge(copy.deepcopy(start), {table: {name: value}}))
        plan = plan_of(made)
        if plan.model_dump() == before:
            found = [*collect_findings(situation(made)), *collect_findings(replace(situation(made), plan=plan))]
            silent += [key] if key not in {each.key for each in found} else []
    assert silent == []
