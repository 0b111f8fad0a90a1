"""Exit code 0 proves nothing: every silent failure has its own verdict, and every crash its message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorabake.lora.weights import WeightFacts
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.finalize import with_input_changes
from lorabake.runs.verdict import RunResult, judge_interruption, judge_rehearsal, judge_run, signal_name
from lorabake.runs.watch.loss_monitor import LossFacts
from lorabake_schemas.events import LogSummary, Step
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import InputChange, Outcome

UP, DOWN = "lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight"
SHAPES = {UP: (4, 2), DOWN: (2, 4)}
OUTPUT = "output/x.safetensors"


def weights(steps: str | None = "16", not_finite: tuple[str, ...] = (), zero: tuple[str, ...] = ()) -> WeightFacts:
    return WeightFacts({} if steps is None else {"ss_steps": steps}, SHAPES, not_finite, zero)


def seen(*, saved: bool = True, no_data: bool = False, **more: str | None) -> LogSummary:
    step = Step(16, 16, 0.1)
    return LogSummary(step=step, saved=saved, no_data=no_data, last_words=("the", "end"), **more)  # type: ignore[arg-type]


def verdict(
    returncode: int | None = 0,
    saw: LogSummary | None = None,
    found: WeightFacts | None = None,
    unreadable: Message | None = None,
) -> Outcome:
    return judge_run(RunResult(returncode, saw or seen(), 16, OUTPUT, found, unreadable))


def test_success_needs_everything() -> None:
    outcome = verdict(found=weights())
    assert outcome.code == "trained"
    assert outcome.steps == 16
    assert outcome.last_words == ()
    assert outcome.returncode == 0


def test_an_alpha_that_nothing_reads_does_not_make_a_file_useless() -> None:
    plain, found = verdict(found=weights()), verdict(found=replace(weights(), infinite_alphas=("x.alpha",)))
    assert found.code == "trained"
    assert found.message != plain.message


CKPT = RunResult(0, seen(), 16, "output/x.ckpt", opaque=True)


def test_a_ckpt_is_judged_by_what_the_log_shows() -> None:
    outcome = judge_run(CKPT)
    assert (outcome.code, outcome.steps) == ("trained", 16)
    assert "not checked" in outcome.message


@pytest.mark.parametrize(
    ("code", "saw"),
    [
        ("wrong-steps", LogSummary(step=Step(12, 16, 0.1), saved=True)),
        ("no-steps", LogSummary(saved=True)),
        ("not-saved", seen(saved=False)),
    ],
)
def test_a_ckpt_is_no_success_when_the_log_says_otherwise(code: str, saw: LogSummary) -> None:
    assert judge_run(replace(CKPT, seen=saw)).code == code
    assert judge_run(replace(CKPT, opaque=False)).code == "no-output"


def test_a_rehearsal_leaves_no_ckpt() -> None:
    assert judge_rehearsal(CKPT).code == "unexpected-output"


@pytest.mark.parametrize(
    ("code", "saw", "found", "unreadable", "words"),
    [
        ("no-data", seen(no_data=True, saved=False), None, None, "found no images"),
        ("no-output", seen(), None, None, "did not write output/x"),
        ("damaged-output", seen(), None, msg("the file is cut off"), "output/x.safetensors: the file is cut off"),
        ("not-saved", seen(saved=False), weights(), None, '"model saved."'),
        ("not-finite", seen(), weights(not_finite=(UP, DOWN)), None, "2 of 2 tensors"),
        ("no-steps", seen(), weights(steps="0"), None, "trained no step"),
        ("no-steps", seen(), weights(steps="-8"), None, "ss_steps = -8"),
        ("wrong-steps", seen(), weights(steps="12"), None, "12 steps instead of the planned 16"),
        ("no-metadata", seen(), weights(steps=None), None, "ss_steps"),
        ("nothing-learned", seen(), weights(zero=(UP,)), None, "still zero"),
        ("nothing-learned", seen(), weights(zero=(UP, DOWN)), None, "still zero"),
    ],
)
def test_exit_code_0_is_not_enough(
    code: str, saw: LogSummary, found: WeightFacts | None, unreadable: Message | None, words: str
) -> None:
    outcome = verdict(0, saw, found, unreadable)
    assert outcome.code == code
    assert words in outcome.message
    assert outcome.last_words == ("the", "end")


NAN_TO_THE_END, NAN_THAT_PASSED = LossFacts(bad=5, first=12, since=12), LossFacts(bad=2, first=3)


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (LossFacts(), "trained"),
        (NAN_TO_THE_END, "nan-loss"),
        (NAN_THAT_PASSED, "trained"),
        (LossFacts(bad=16, first=1, since=1, negative=1), "negative-loss"),
        (LossFacts(bad=2, first=3, negative=3), "negative-loss"),
    ],
)
def test_finite_weights_are_not_enough_where_the_loss_was_none(loss: LossFacts, code: str) -> None:
    assert judge_run(RunResult(0, seen(), 16, OUTPUT, weights(), loss=loss)).code == code
    assert judge_run(replace(CKPT, loss=loss)).code == code


def test_weights_that_are_not_finite_say_more_than_the_loss() -> None:
    outcome = judge_run(RunResult(0, seen(), 16, OUTPUT, weights(not_finite=(UP,)), loss=NAN_TO_THE_END))
    assert outcome.code == "not-finite"
    assert "step 12" in outcome.message


def test_a_broken_number_weighs_more_than_a_wrong_count() -> None:
    assert verdict(found=weights(steps="0", not_finite=(UP,))).code == "not-finite"


@pytest.mark.parametrize(
    ("exception", "code", "hint"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "out-of-gpu-memory", "gradient_check"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "out-of-memory", "max_data_loader"),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. ", "out-of-memory", "max_data_loader"),
        ("MemoryError", "out-of-memory", "close other programs"),
        ("OSError: [Errno 28] No space left on device", "disk-full", "free some space"),
        ("OSError: Can't load tokenizer for 'openai/clip-vit-large'.", "hub-unreachable", "tokenizer_cache_dir"),
        ("ModuleNotFoundError: No module named 'prodigyopt'", "missing-package", "lorabake trainer install"),
        ("RuntimeError: No CUDA GPUs are available", "gpu-invisible", "nvidia-smi"),
        ("KeyError: 'x'", "crashed", "traceback is in the log"),
        ("rehearsal failed: a.png cannot be decoded", "rehearsal-failed", ""),
    ],
)  # fmt: skip
def test_a_crash_is_known_by_its_last_exception(exception: str, code: str, hint: str) -> None:
    outcome = verdict(1, seen(exception=exception, saved=False))
    assert outcome.code == code
    assert any(exception[:60] in text for text in (outcome.message, *(line.text for line in outcome.evidence)))
    assert hint in (outcome.hint or "")
    assert outcome.returncode == 1
    assert outcome.last_words == ("the", "end")


def test_a_long_exception_is_cut() -> None:
    assert len(verdict(1, seen(exception="ValueError: " + "x" * 5000)).message) < 400


@pytest.mark.parametrize(
    ("returncode", "killed_by", "code", "words"),
    [
        (1, "SIGKILL", "out-of-memory", "killed from outside"),
        (137, None, "out-of-memory", "killed from outside"),
        (1, "SIGSEGV", "killed", "SIGSEGV"),
        (143, None, "killed", "SIGTERM"),
        (3, None, "crashed", "exited with code 3"),
        (None, None, "guard-killed", "guard"),
    ],
)
def test_death_from_outside(returncode: int | None, killed_by: str | None, code: str, words: str) -> None:
    outcome = verdict(returncode, seen(killed_by=killed_by, saved=False))
    assert outcome.code == code
    assert words in outcome.message
    assert outcome.returncode == returncode


def test_on_a_full_disk_the_trainer_cannot_say_why_it_failed() -> None:
    full = RunResult(1, seen(saved=False), 16, OUTPUT, disk_free=0)
    assert judge_run(full).code == "disk-full"
    assert judge_run(replace(full, disk_free=10**9)).code == "crashed"
    assert judge_run(replace(full, seen=seen(exception="KeyError: 1"))).code == "crashed"


def test_a_failure_after_saving_is_still_a_failure() -> None:
    assert verdict(1, seen(exception="RuntimeError: upload"), weights()).code == "crashed"


def test_an_interruption_says_by_what_and_where() -> None:
    outcome = judge_interruption(RunResult(130, seen(), 99, OUTPUT), "SIGINT")
    assert outcome.code == "interrupted"
    assert outcome.message == "stopped by SIGINT after step 16"
    assert outcome.steps == 16


def rehearsed(returncode: int = 0, planned: int = 16, found: WeightFacts | None = None) -> Outcome:
    return judge_rehearsal(RunResult(returncode, seen(saved=False), planned, OUTPUT, found))


def test_a_rehearsal_needs_every_step_and_no_weights() -> None:
    assert rehearsed().code == "rehearsed"
    assert "nothing was trained" in rehearsed().message
    assert rehearsed(planned=17).code == "wrong-steps"
    assert rehearsed(returncode=1).code == "crashed"
    assert rehearsed(found=weights()).code == "unexpected-output"
    nothing = RunResult(0, seen(no_data=True), 16, OUTPUT)
    assert judge_rehearsal(nothing).code == "no-data"


def test_signal_names() -> None:
    names = [signal_name(returncode) for returncode in (130, 137, 1, 128, 300)]
    assert names == ["SIGINT", "SIGKILL", None, None, None]


@pytest.mark.parametrize(("code", "explains"), [(UNKNOWN_FAILURE, True), ("image-damaged", False)])
def test_changed_inputs_explain_a_failure_that_nothing_else_explains(code: str, explains: bool) -> None:
    before = Outcome(code=code, message=msg("it failed"), hint=msg("do this"))
    changes = [InputChange(role="concept", input="img", name="img/a.png", change="changed")]
    outcome, status = with_input_changes(before, "failed", changes)
    assert (outcome.code, status) == (code, "failed")
    assert ("img/a.png" in outcome.message) is explains
    assert (outcome.hint == before.hint) is not explains
    assert any("img/a.png" in remark for remark in outcome.remarks) is not explains
