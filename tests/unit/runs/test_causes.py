"""The table of causes against ends of logs that were written down anew (failures/*.toml), one or more for each row."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lorabake.runs.causes.cause import Cause, Sign
from lorabake.runs.causes.diagnose import Ending, RunFacts, diagnose, diagnose_silent, known_words
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.causes.gpu_memory import SAVINGS
from lorabake.runs.causes.table import CAUSES
from lorabake.runs.causes.training import FINITE_LOSS
from lorabake.runs.log.evidence import LogEvidence, read_evidence

FOLDER = Path(__file__).parent / "failures"
# Words that run_facts.py adds to those of the settings, and the matcher for every sentence.
COMMON_WORDS = frozenset(known_words({})) | {
    "torch", "gpu", "driver", "memory", "family", "state", "steps", "tokenizers", "tokenizer_ids",
    "words", "signal", "process", "key", "value", "missing",
}  # fmt: skip
SAVING_WORDS = {"saving", "half_batch", "accumulation", "batch_share"}


@cache
def cases() -> tuple[tuple[str, Mapping[str, Any]], ...]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    for path in sorted(FOLDER.glob("*.toml")):
        for number, case in enumerate(tomllib.loads(path.read_text("utf-8"))["case"]):
            found.append((f"{path.stem}-{number}-{case['cause'] or 'none'}", case))
    return tuple(found)


def traceback(at: Sequence[str], exception: str, *, original: bool = False) -> Iterator[str]:
    """A traceback as Python prints it."""
    yield ("Original " if original else "") + "Traceback (most recent call last):"
    for frame in at:
        file, _, name = frame.rpartition(":")
        package = file.partition("/")[0]
        place = "sd-scripts" if package in {"library", "networks"} or "train_network" in file else "site-packages"
        yield f'  File "/x/{place}/{file}", line 7, in {name}'
        yield "    something(here)"
        yield "    ^^^^^^^^^"
    yield from exception.split("\n")


def log_lines(case: Mapping[str, Any]) -> list[str]:
    lines = ["accelerator device: cpu", *case.get("log", ())]
    for earlier in case.get("earlier", ()):
        lines += [*traceback(["train_network.py:train"], earlier), ""]
        lines += ["During handling of the above exception, another exception occurred:", ""]
    if "exception" in case:
        lines += traceback(case.get("at", ["train_network.py:train"]), case["exception"])
        lines += traceback(
            ["accelerate/commands/launch.py:main"], "subprocess.CalledProcessError: Command '[]' failed."
        )
    return lines


def evidence_of(case: Mapping[str, Any]) -> LogEvidence:
    return read_evidence(enumerate(log_lines(case), 1))


def facts_of(case: Mapping[str, Any]) -> RunFacts:
    settings = case.get("settings", {})
    return RunFacts(settings, case.get("own", False), case.get("facts", {}), known_words(settings))


@pytest.mark.parametrize("case", [case for _, case in cases()], ids=[name for name, _ in cases()])
def test_each_failure_has_its_cause(case: Mapping[str, Any]) -> None:
    evidence = evidence_of(case)
    found = diagnose(evidence, facts_of(case), Ending(case.get("signal"), case.get("exit", 1)))
    assert (found.cause if found else "") == case["cause"]
    if found is None:
        return
    assert case.get("cure", "") in (found.cure or "")
    lines = log_lines(case)
    for line in found.evidence:
        assert line.line is not None
        assert line.text.strip()[:20] in lines[line.line - 1].expandtabs(4)
    if "exception" in case:
        assert found.evidence


def test_every_row_has_a_case() -> None:
    cased = {case["cause"] for _, case in cases() if case["cause"]}
    assert {cause.id for cause in CAUSES} == cased | {"used-setting"}  # which has a test of its own below
    assert len(CAUSES) >= 60


def test_ids_are_unique() -> None:
    assert len({cause.id for cause in CAUSES}) == len(CAUSES)


def patterns(sign: Sign) -> list[str]:
    found = [sign.exception, sign.chain, sign.within, sign.innermost, sign.error, sign.line]
    return [*(each for each in found if each is not None), *(when.matching for when in sign.when if when.matching)]


@pytest.mark.parametrize("cause", CAUSES, ids=[cause.id for cause in CAUSES])
def test_every_gap_can_be_filled(cause: Cause) -> None:
    """By each of its signs: else a sentence would have a question mark."""
    gaps = cause.message.gaps.union(*(advice.text.gaps for advice in cause.cure)) - COMMON_WORDS
    for sign in cause.signs:
        groups = {name for pattern in patterns(sign) for name in re.compile(pattern).groupindex}
        assert gaps <= groups, sign


def test_the_other_sentences_have_no_gaps_of_their_own() -> None:
    assert all(each.text.gaps <= SAVING_WORDS for each in SAVINGS)
    assert not any(each.text.gaps for each in FINITE_LOSS)


def test_a_failure_that_follows_from_another_one_is_not_the_cause() -> None:
    """Two ranks: the first ran out of memory, the other one lost its connection; torch puts the rank in front."""
    first = [*traceback(["train_network.py:train"], "torch.OutOfMemoryError: CUDA out of memory.")]
    other = [*traceback(["train_network.py:train"], "RuntimeError: Connection closed by peer [127.0.0.1]:4242")]
    lines = [f"[rank0]: {line}" for line in first] + ["", *(f"[rank1]: {line}" for line in other)]
    found = diagnose(read_evidence(enumerate(lines, 1)), RunFacts())
    assert found is not None
    assert found.cause == "out-of-gpu-memory"


def test_an_earlier_traceback_that_the_trainer_survived_is_not_the_cause() -> None:
    """xformers prints one while it is imported, for example."""
    lines = [*traceback(["xformers/__init__.py:<module>"], "ModuleNotFoundError: No module named 'triton'"), ""]
    lines += traceback(["train_network.py:train"], "KeyError: 'x'")
    assert diagnose(read_evidence(enumerate(lines, 1)), RunFacts()) is None


def test_the_innermost_exception_of_a_worker_counts() -> None:
    lines = [
        *traceback(["train_network.py:train"], "zipfile.BadZipFile: Caught BadZipFile in DataLoader worker process 0.")
    ]
    at = ["library/strategy_base.py:_default_load_latents_from_disk"]
    lines += traceback(at, "zipfile.BadZipFile: Bad CRC-32 for file 'latents.npy'", original=True)
    evidence = read_evidence(enumerate(lines, 1))
    assert [len(chain) for chain in evidence.chains] == [2]
    found = diagnose(evidence, RunFacts())
    assert found is not None
    assert found.cause == "latent-cache-damaged"


def test_an_error_of_a_process_is_found_while_the_trainer_waits() -> None:
    """48: the process that loads images failed, the trainer waited until it was stopped."""
    at = ["multiprocessing/queues.py:_feed", "torch/storage.py:_share_fd_cpu_"]
    lines = [*traceback(at, "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2>: no space")]
    lines += ["", *traceback(["train_network.py:train"], "KeyboardInterrupt")]
    found = diagnose_silent(read_evidence(enumerate(lines, 1)), RunFacts())
    assert found is not None
    assert found.cause == "shared-memory"
    assert diagnose_silent(read_evidence([]), RunFacts()) is None


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("2026-11-28 02:10:39 INFO     prepare images.                 train_util.py:2112", "dataset"),
        ("                    INFO     loading model for process 0/1      train_util.py:5574", "model"),
        ("                    INFO     caching latents...       train_util.py:1100", "caching"),
        ("import network module: networks.lora", "network"),
        ("running training / 学習開始", "training"),
        ("                    INFO     generating sample images at step: 3     train_util.py:6400", "sampling"),
        ("saving checkpoint: output/lamp.safetensors", "saving"),
    ],
)
def test_the_phase_is_read(line: str, phase: str) -> None:
    assert read_evidence([(1, line)]).phase == phase


def test_a_step_after_samples_is_training_again() -> None:
    bar = "steps:  33%|###       | 4/12 [00:31<01:03,  7.90s/it, avr_loss=6.42]"
    lines = ["generating sample images at step: 3", bar + "\r" + bar]
    assert read_evidence(enumerate(lines, 1)).phase == "training"


def test_a_record_behind_a_bar_and_over_two_lines_is_one() -> None:
    bar = "steps:  29%|##8       | 4/14 [01:02<02:35, 15.53s/it, avr_loss=2.43]"
    record = (
        bar + "2026-11-28 02:27:45 ERROR    Error loading file: ../../img/a-very-long-               train_util.py:2960"
    )
    evidence = read_evidence([(7, record), (8, " " * 29 + "name.png")])
    assert [(line.line, line.text) for line in evidence.errors] == [
        (7, "Error loading file: ../../img/a-very-long-name.png")
    ]


def test_the_setting_is_named_that_the_failing_source_line_uses() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/x/sd-scripts/train_network.py", line 1913, in <module>',
        "    trainer.train(args)",
        '  File "/x/sd-scripts/train_network.py", line 800, in train',
        "    steps = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)",
        "            ~~~~^^~~~~~",
        "ZeroDivisionError: division by zero",
    ]
    evidence = read_evidence(enumerate(lines, 1))
    found = diagnose(evidence, RunFacts({"gradient_accumulation_steps": 0, "seed": 42}))
    assert found is not None
    assert (found.cause, found.code) == ("used-setting", UNKNOWN_FAILURE)
    assert "train.gradient_accumulation_steps = 0" in found.message
    assert diagnose(evidence, RunFacts({"seed": 42})) is None
