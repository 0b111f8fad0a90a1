"""The wording of every renderer in every language, in tests/unit/golden/text. ``make golden`` writes the files again.

Everything else in tests/unit asserts structure: rule ids, keys, values, columns.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner

from dataset_layouts import LAYOUTS
from ended_runs import record
from lora_files import SMALL, metadata, write
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.diff import diff_plans
from lorabake.analysis.draft_concepts import Answers
from lorabake.analysis.explain import explain
from lorabake.analysis.lora_origin import inspect_files
from lorabake.cli import main
from lorabake.commands.error_handler import error_boundary
from lorabake.commands.output import compare, diff, findings, imports, init, inspect, lists, progress, runs, verify
from lorabake.commands.output import explain as explanations
from lorabake.commands.output import plan as plans
from lorabake.commands.output import status as statuses
from lorabake.commands.output.layout import TextLayout
from lorabake.errors import MachineError, SetupError
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import import_file, write_import
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft
from lorabake.lora.compare import compare_loras
from lorabake.runs.events import format_timestamp
from lorabake.trainer.install import Trainer, TrainerStatus
from lorabake.trainer.versions import diff_options
from lorabake.util import resources
from lorabake.util.i18n import LANGUAGES, load_translator
from lorabake_schemas import events as happened
from lorabake_schemas.messages import literal
from lorabake_schemas.options import Option
from lorabake_schemas.plan import BatchDistribution, FileSize, PlannedSave, TimeEstimate
from lorabake_schemas.run_status import RunState, RunSummary, StatusReport
from lorabake_schemas.verification import ComparedCounts, VerifyDifference, VerifyReport
from situations import GPU, concept, plan_of, project, recipe

GOLDEN = Path(__file__).parent / "golden" / "text"
FAULTY = """
flip_aug = true
asymmetric = true
[network]
network_dim = 128
[train]
lr_scheduler = "cosine"
"""
IGNORED = '\n[network]\nnetwork_dim = 128\n[[ignore]]\nrule = "G1.2"\nreason = "only a trial"\n'


def checked(more: str) -> CheckResult:
    return check_recipe(project(Path(), more), GPU)


def findings_text(layout: TextLayout) -> Iterator[str]:
    pipe = TextLayout(layout.translator)
    for more in (FAULTY, IGNORED, 'num_repeats = "two"\nimages_folder = "x"\n'):
        found = checked(more)
        yield findings.format_full(found, layout)
        yield findings.format_concise(found, pipe)
        yield findings.format_brief(found, layout)
    yield findings.format_github(checked(FAULTY), pipe, Path.cwd())


def plan_text(layout: TextLayout) -> Iterator[str]:
    yield plans.format_plan_page(checked(IGNORED), layout)
    several = recipe(
        concepts=[concept("a", "pics"), concept("b", "more")],
        regularization=[{"class": "food", "images": "reg"}],
        network={"type": "locon"},
        kohya={"ip_noise_gamma": 0.1},
    )
    plan = plan_of(several)
    base = plans.format_plan(plan, layout)
    yield base
    two_threads: dict[str, object] = {"cpu": True, "num_cpu_threads_per_process": 2}
    launches: Sequence[dict[str, object]] = ({"cpu": True}, two_threads, {}, {"num_processes": 2})
    for launch in launches:
        changed = plan.launch.model_copy(update={"deterministic": True} | launch)
        text = plans.format_plan(plan.model_copy(update={"launch": changed}), layout)
        yield "\n".join(line for line in text.splitlines() if line not in base.splitlines())
    dealt = BatchDistribution(
        processes=2, accumulation=4, batches_per_process=30, samples_per_step=8, repeated_batches=1, last_step_batches=2
    )
    saves = tuple(PlannedSave(file=f"x-{n:06}.safetensors", step=n * 10, epoch=n, kept=n > 3) for n in range(1, 20))
    timing = TimeEstimate(
        low=600,
        high=900,
        step_low=1,
        step_high=2,
        steps_measured=300,
        runs=("x-001", "x-002"),
        differs=(literal("WHAT"),),
    )
    more: dict[str, object] = {
        "dealing": dealt, "saves": saves, "file_size": FileSize(tensors=9, tensor_bytes=9_000_000, header_bytes=1000),
        "timing": timing, "warmup_steps": 0, "restarts": (6, 24),
    }  # fmt: skip
    for counted in (more, more | {"saves": saves[-1:], "dealing": dealt.model_copy(update={"processes": 1})}):
        yield "\n".join(
            plans.format_forecast(
                plan.model_copy(update={"forecast": plan.forecast.model_copy(update=counted)}), layout
            )
        )


def runs_text(layout: TextLayout) -> Iterator[str]:
    good = {"name": "output/x.safetensors", "sha256": "0", "size": 12_300_000}
    outcomes: Sequence[tuple[str, dict[str, object] | None]] = (
        ("finished", {"code": "trained", "message": "MESSAGE", "outputs": [good], "remarks": ["REMARK"]}),
        ("failed", {"code": "died", "message": "MESSAGE", "hint": "HINT", "last_words": ["log line"]}),
        ("failed", {"code": "disk-full", "message": "MESSAGE", "outputs": [good | {"incomplete": "WHY"}]}),
        ("inputs-changed", {"code": "inputs-changed", "message": "MESSAGE", "outputs": [good]}),
        ("started", None),
    )
    for status, outcome in outcomes:
        yield runs.format_run_outcome(record(status, outcome), Path("runs/x-001"), layout)
    yield runs.format_written_files((Path("train.toml"),), layout, as_json=False)


def status_text(layout: TextLayout) -> Iterator[str]:
    now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    def told(state: RunState, minutes: float, **more: object) -> RunSummary:
        started = format_timestamp(now - timedelta(minutes=minutes))
        facts = {"name": "runs/x-001", "folder": "/r/x-001", "state": state, "started": started, "digest": "0"}
        return RunSummary.model_validate(facts | {"rehearsal": False, "step": 50, "steps": 100} | more)

    saved = {"file": "output/x-000002.safetensors", "time": format_timestamp(now), "step": 40}
    moment, told_values = format_timestamp(now), {"text": "TEXT", "count": 2}
    notices = [{"kind": kind, "time": moment, "values": told_values} for kind in ("trainer_warning", "trainer_error")]
    notices.append({"kind": "bad_loss", "time": moment, "values": {"step": 7, "loss": "nan"}})
    training = told(
        "running", 90, phase={"name": "training"}, epoch=2, epochs=5, loss_average=0.12345, loss="nan", supervised=True,
        steps_per_second=2.0, seconds_left=25.0, last_activity=moment, last_save=saved,
        supervisor=11, trainer=(12, 13), host="here", notices=notices * 2, stop_after="after-epoch",
        learning_rates={"textencoder": 1e-5, "unet": 1e-4}, d=3e-5,
        gpus=[{"uuid": "a", "name": "A10", "used_mib": 2048, "total_mib": 23028, "temperature": 65}],
    )  # fmt: skip
    verdict: dict[str, object] = {"code": "crashed", "message": "MESSAGE", "hint": "HINT", "resume_step": 40}
    report = StatusReport(
        runs=(
            training,
            told("running", 3, phase={"name": "caching", "done": 3, "total": 40}, supervised=False, trainer=(12,)),
            told("stopping", 0.5, phase={"name": "saving"}, host="here"),
            told("running", 60, stop_after="after-save", rehearsal=True, stalled=True),
            told("elsewhere", 600, host="node7"),
            told("finished", 2000, ended=moment, lora="output/x.safetensors"),
            told("inputs-changed", 5000, ended=moment),
            told("failed", 20000, ended=moment, phase={"name": "sampling"}, **verdict),
            told("interrupted", 20000, ended=format_timestamp(now - timedelta(days=9))),
            told("died", 20000, ended=format_timestamp(now - timedelta(days=3)), host="here"),
        ),
        unreadable=("/r/odd",),
    )
    yield statuses.format_run_list(report, now, layout)
    yield statuses.format_run_list(StatusReport(runs=()), now, layout)
    yield statuses.format_statuses(report, now, layout)


def lists_text(layout: TextLayout) -> Iterator[str]:
    trainer = Trainer("pin", Path("sd-scripts"), Path("python"), "0123456789abcdef", "cpu", "0", {"torch": "2.13.0"})
    own = Trainer("own", Path("mine"), Path("python"), None, None, None, {})
    pin = resources.load_pin()
    changed = {trainer.checkout: ("library/train_util.py",)}
    yield lists.format_trainer_status(
        TrainerStatus(Path("home"), pin.url, pin.commit, "3.11", trainer, (trainer,), (own,)),
        changed,
        layout,
        as_json=False,
    )
    for commit in (pin.commit, "f" * 40):
        status = TrainerStatus(Path("home"), pin.url, commit, "3.11", None, ())
        yield lists.format_trainer_status(status, {}, layout, as_json=False)
    yield lists.format_copied_recipe(Path("my.toml"), layout)
    here = resources.load_snapshot()
    new = Option(name="new_loss", type="float", default=0.5, choices=None, nargs=None, action="StoreAction")
    scripts = here.scripts | {"train_network.py": (*here.of("train_network.py")[1:], new)}
    there = here.model_copy(update={"commit": "f" * 40, "scripts": scripts})
    yield lists.format_commit_diff(diff_options(here, there), layout)
    yield lists.format_commit_diff(diff_options(here, here), layout)


def progress_text(layout: TextLayout) -> Iterator[str]:
    kinds: tuple[happened.StallKind, ...] = get_args(happened.StallKind)
    events: Sequence[happened.ProgressEvent] = (
        happened.Started("cuda"), happened.ModelLoaded(), happened.RunTotals(12, 0, 2, 5, 100),
        happened.RunTotals(12, 0, 2, 5, 7), happened.Epoch(1, 5), happened.Step(1, 100, 0.25),
        happened.Metrics((("unet", 0.001),), None, (happened.GpuReading("a", "A10", 2048, 23028),)),
        happened.Step(60, 100, 0.2), happened.BadLoss(61, float("nan")), happened.BadLoss(61, -0.5),
        happened.Saving("output/x.safetensors"), happened.Saved(), happened.EmptyDataset(),
        happened.Stopping("SIGINT"), happened.Stopping("SIGTERM"), happened.Stopping("diverged"),
        happened.TrainerWarning("odd"), happened.TrainerError("OSError: cut off", 10), happened.LossJump(61, 0.1, 0.4),
        happened.DiskLow("x.safetensors", 80, 12_000, 73_400_000), happened.Stalled("sampling", 450.0, 150.0),
        happened.Stalled("training", 30.0, None, tuple(map(happened.StallSign, kinds, "abcdefghi")), "last line"),
        happened.StallEnded(125.0),
    )  # fmt: skip
    stream, now = io.StringIO(), iter(range(0, 10_000, 20))
    with progress.watch_progress(stream, 100, clock=lambda: float(next(now)), translator=layout.translator) as watcher:
        for event in events:
            watcher(event)
    yield stream.getvalue().rstrip()
    yield "\n".join(map(layout, (progress.describe_scan(3, 40), progress.describe_hashing(1, 2_000_000))))


def errors_text(layout: TextLayout) -> Iterator[str]:
    raised = (
        SetupError(literal("MESSAGE"), literal("HINT")), OSError(28, "No space left on device"), MemoryError(),
        PermissionError(13, "Permission denied", "file"), MachineError(literal("MESSAGE")), KeyboardInterrupt(),
    )  # fmt: skip
    for error in raised:
        yield message_of(error, layout)
    lines = (
        "chek r.toml",
        "check",
        "check r.toml --strickt",
        "check r.toml x",
        "quickstart --family",
        "quickstart --family x",
        "explain",
    )
    for line in lines:
        done = CliRunner().invoke(main, ["--lang", layout.translator.language, *line.split()], prog_name="lorabake")
        yield done.stderr.rstrip()


def message_of(error: BaseException, layout: TextLayout) -> str:
    written: list[str] = []

    def fail() -> None:
        with error_boundary({}, speech=lambda: layout.translator):
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorabake.commands.error_handler.write_err", written.append)
        with pytest.raises(SystemExit):
            fail()
    return "\n".join(written)


def help_text(layout: TextLayout) -> Iterator[str]:
    """In English only, and without click's own layout: each command, then each option once."""
    if layout.translator.language != "en":
        return
    groups = {name: command for name, command in main.commands.items() if isinstance(command, click.Group)}
    inner = {f"{name} {each}": command for name, group in groups.items() for each, command in group.commands.items()}
    every = {"": main} | dict(main.commands) | inner
    options: dict[str, None] = {}
    for name, command in every.items():
        yield f"lorabake {name}\n\n{cleandoc(command.help or '')}"
        shown = [option for option in command.params if isinstance(option, click.Option)]
        options |= dict.fromkeys(f"{', '.join(option.opts)}: {option.help}" for option in shown)
    yield "\n".join(options)


def compare_text(layout: TextLayout) -> Iterator[str]:
    one = write(Path("one.safetensors"), SMALL, metadata())
    less = dict(list(SMALL.items())[:-1])
    for other in (
        one,
        write(Path("two.safetensors"), SMALL, metadata(), value=2.0),
        write(Path("less.safetensors"), less, {}),
    ):
        yield compare.format_comparison(compare_loras(one, other), layout)


def diff_text(layout: TextLayout) -> Iterator[str]:
    one, two = plan_of(recipe()), plan_of(recipe(network={"type": "locon"}, train={"max_train_epochs": 2}))
    yield diff.format_plan_diff(diff_plans(one, two, ("a.toml", "b.toml")), layout)
    yield diff.format_plan_diff(diff_plans(one, one, ("a.toml", "b.toml")), layout)


def verify_text(layout: TextLayout) -> Iterator[str]:
    parts = ("recipe", "compiled", "record", "inputs", "base", "concept", "caches", "trainer", "output")
    found = tuple(
        VerifyDifference.model_validate({"what": what, "name": "NAME", "change": "changed", "message": "MESSAGE"})
        for what in parts
    )
    fields: dict[str, Any] = {
        "run": "runs/x-001",
        "name": "x",
        "status": "finished",
        "rehearsal": False,
        "digest": None,
    }
    counts = ComparedCounts(files=12, size=2_100_000_000, packages=71)
    for differences, unproven in ((found, (literal("UNPROVEN"),)), ((), ())):
        yield verify.format_verification(
            VerifyReport(
                **fields, identical=not differences, differences=differences, unproven=unproven, compared=counts,
                remarks=(literal("REMARK"),),
            ),
            layout,
        )  # fmt: skip


def inspect_text(layout: TextLayout) -> Iterator[str]:
    write(Path("x.safetensors"), SMALL, metadata())
    write(Path("bare.safetensors"), SMALL)
    yield inspect.format_inspection(
        inspect_files(["x.safetensors", "bare.safetensors"], Path.cwd(), Path("home")), layout, Path.cwd()
    )


def explain_text(layout: TextLayout) -> Iterator[str]:
    for topic in ("G4.52", "keep_tokens", "Prodigy", "sample_sampler", "huber_c"):
        yield explanations.format_explanation(explain(topic), layout)
    yield explanations.format_explanation(explain("network_dim", plan_of(recipe())), layout)
    yield explanations.format_status_counts(layout)


def init_text(layout: TextLayout) -> Iterator[str]:
    for name in ("kohya_tree", "flat_photographs", "two_levels_and_mixed_formats"):
        Path(name).mkdir()
        order = InitOrder(LAYOUTS[name](Path(name)), None, Path.cwd())
        found = look_around(order, ScanOptions())
        draft = make_draft(order, found, Answers())
        path = write_draft(order, draft)
        result = check_recipe(path, GPU)
        yield init.format_init(init.make_init_report(path, found, draft, result), result, layout)
        yield from (layout(question.text) for question in draft.questions)


IMPORTED = """
pretrained_model_name_or_path = "model.safetensors"
train_data_dir = "img"
output_name = "zork"
output_dir = "out"
network_module = "networks.lora"
network_dim = "32"
network_alpha = 16
resolution = "512,512"
learning_rate = 1e-4
max_train_epochs = 10
seed = 42
wandb_api_key = "x"
vae = ""
noise_offset_random_strength = true
no_such_option = 1
"""


def import_text(layout: TextLayout) -> Iterator[str]:
    Path("old.toml").write_text(IMPORTED, "utf-8")
    made = import_file(Source(path=Path("old.toml"), content=b""))
    path = write_import(made, None, layout, write_command=str)
    report = made.report.model_copy(update={"recipe": str(path)})
    for verbose in (False, True):
        yield imports.format_import(report, check_recipe(path, GPU), layout, Path.cwd(), verbose=verbose)
    yield path.read_text("utf-8")


RENDERERS: Sequence[Callable[[TextLayout], Iterator[str]]] = (
    compare_text, diff_text, errors_text, explain_text, findings_text, help_text, import_text, init_text, inspect_text,
    lists_text, plan_text, progress_text, runs_text, status_text, verify_text,
)  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.__name__)
def test_the_wording(
    renderer: Callable[[TextLayout], Iterator[str]], language: str, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = f"\n{'-' * 80}\n".join(map(click.unstyle, renderer(TextLayout(load_translator(language), 80))))
    if not text:
        return
    assert str(tmp_path) not in text
    golden = GOLDEN / f"{renderer.__name__.removesuffix('_text')}.{language}.txt"
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(f"{text}\n", encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == f"{text}\n"
