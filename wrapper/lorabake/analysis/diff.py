"""Two plans held beside each other: every setting and every number of the forecast that differs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorabake_schemas.check_report import CountDifference, PlanDifference, SettingDifference, SideValue
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Forecast, Origin, Plan, Setting, Source, SubsetPlan

FORECAST_COUNTS = (
    "steps", "epochs", "steps_per_epoch", "batches_per_epoch", "train_samples", "reg_samples", "warmup_steps",
)  # fmt: skip
FORECAST_TIMES = ("seconds_low", "seconds_high")


def diff_plans(here: Plan, there: Plan, names: tuple[str, str]) -> PlanDifference:
    """What ``here`` has otherwise than ``there``; ``names`` are what the two are called."""
    return PlanDifference(
        here=names[0],
        there=names[1],
        settings=tuple(_diff_settings(here, there)),
        forecast=tuple(_diff_forecasts(here.forecast, there.forecast)),
    )


def _diff_settings(here: Plan, there: Plan) -> Iterator[SettingDifference]:
    """Concepts are held together by their place, so that another token is one difference and not a dozen."""
    yield from _diff_table("train", here.train, there.train)
    yield from _diff_table("dataset", here.dataset, there.dataset)
    for reg in (False, True):
        ours, theirs = _subsets_of_kind(here, reg), _subsets_of_kind(there, reg)
        for number in range(max(len(ours), len(theirs))):
            one = ours[number] if number < len(ours) else None
            other = theirs[number] if number < len(theirs) else None
            title = (one or other or ours[0]).title
            yield from _diff_table(title, one.settings if one else (), other.settings if other else ())
    yield from _diff_table("launch", _launch_settings(here), _launch_settings(there))
    yield from _diff_table("samples", _prompt_settings(here), _prompt_settings(there))


def _launch_settings(plan: Plan) -> list[Setting]:
    """accelerate's flags. A plan does not keep whether the recipe or the machine decided them."""
    source = Source(origin=Origin.LORABAKE, why=msg("[launch] in the recipe, or the machine"))
    told = plan.launch.model_dump().items()
    return [Setting(option=name, value=value, source=source) for name, value in told if value is not None]


def _prompt_settings(plan: Plan) -> list[Setting]:
    return [Setting(option="prompts", value=plan.prompts, source=Source(origin=Origin.RECIPE))] if plan.prompts else []


def _subsets_of_kind(plan: Plan, reg: bool) -> list[SubsetPlan]:
    return [subset for subset in plan.subsets if subset.is_reg is reg]


def _diff_table(name: str, here: Sequence[Setting], there: Sequence[Setting]) -> Iterator[SettingDifference]:
    ours, theirs = _values_by_option(here), _values_by_option(there)
    for option in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(option), theirs.get(option)
        if one is None or other is None or one.value != other.value or type(one.value) is not type(other.value):
            yield SettingDifference(table=name, option=option, here=one, there=other)


def _values_by_option(settings: Sequence[Setting]) -> Mapping[str, SideValue]:
    return {setting.option: SideValue(value=setting.value, source=setting.source) for setting in settings}


def _diff_forecasts(here: Forecast, there: Forecast) -> Iterator[CountDifference]:
    ours, theirs = dict(_iter_forecast_numbers(here)), dict(_iter_forecast_numbers(there))
    for key in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(key), theirs.get(key)
        if one != other:
            yield CountDifference(name=key[0], subject=key[1], here=one, there=other)


def _iter_forecast_numbers(counted: Forecast) -> Iterator[tuple[tuple[str, str], float]]:
    """Every number of a forecast by its name and what it is about."""
    for name in FORECAST_COUNTS:
        yield (name, ""), getattr(counted, name)
    yield ("files", ""), len(counted.saves)
    if counted.file_size:
        yield ("file_bytes", ""), counted.file_size.tensor_bytes + counted.file_size.header_bytes
    if counted.timing:
        yield from zip(((name, "") for name in FORECAST_TIMES), (counted.timing.low, counted.timing.high), strict=True)
    for share in counted.shares:
        yield ("samples_per_epoch", share.title), share.samples_per_epoch
        yield ("exposures", share.title), share.exposures
    for bucket in counted.buckets:
        yield ("bucket_samples", f"{bucket.width}x{bucket.height}"), bucket.samples
