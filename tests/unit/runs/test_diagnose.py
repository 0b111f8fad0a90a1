"""Advice that fits the run: last lines of real logs of the pinned sd-scripts, and the advice for each."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lorabake.runs.causes.diagnose import RunFacts, advise, diagnose, failure_from_words
from lorabake.runs.causes.gpu_memory import MemoryFacts
from lorabake.runs.causes.training import FINITE_LOSS
from lorabake.runs.log.evidence import read_evidence
from lorabake.runs.log.parser import LogParser
from lorabake.runs.verdict import LOST_STATE, RunResult, judge_run
from lorabake_schemas.record import Outcome

FULL: Mapping[str, object] = {
    "optimizer_type": "AdamW",
    "network_module": "networks.lora",
    "mixed_precision": "no",
    "cache_latents": True,
    "save_state": True,
}


def outcome(end: str, facts: RunFacts, state: str | None = None) -> Outcome:
    """The verdict on a log with that end."""
    parser, text = LogParser(), f"accelerator device: cpu\nTraceback (most recent call last):\n{end}\n"
    parser.feed(text.encode())
    parser.close()
    log = read_evidence(enumerate(text.split("\n"), 1))
    lost = state if parser.seen.lost_state else None
    return judge_run(RunResult(1, parser.seen, 6, "output/lamp.safetensors", facts=facts, lost_state=lost, log=log))


@pytest.mark.parametrize(
    ("end", "settings", "own", "code", "hint"),
    [
        (  # 09
            ("    return _bootstrap._gcd_import(name[level:], package, level)\n"
            "ModuleNotFoundError: No module named 'nothere'"),
            {"lr_scheduler_type": "nothere.Sched"}, False, "wrong-name", "train.lr_scheduler_type",
        ),
        (
            "AttributeError: module 'torch.optim.lr_scheduler' has no attribute 'CosineAnnealing'",
            {"lr_scheduler_type": "CosineAnnealing"}, False, "wrong-name", "train.lr_scheduler_type",
        ),
        (  # 63
            ("    optimizer_class = getattr(optimizer_module, case_sensitive_optimizer_type)\n"
            "AttributeError: module 'pytorch_optimizer' has no attribute 'NoSuchThing'"),
            {"optimizer_type": "pytorch_optimizer.NoSuchThing"}, False, "wrong-name", "train.optimizer",
        ),
        (
            "ModuleNotFoundError: No module named 'networks.lroa'",
            {"network_module": "networks.lroa"}, True, "wrong-name", "kohya.network_module",
        ),
        (  # 65
            ("torch._dynamo.exc.InvalidBackend: Invalid backend: 'onnxrt', see `torch._dynamo.list_backends()` for "
            "available backends."),
            {"dynamo_backend": "onnxrt"}, False, "wrong-name", "kohya.dynamo_backend",
        ),
        (  # 32
            "ImportError: cannot import name 'strategy_sd' from 'library' (/x/own/library/__init__.py)",
            {}, True, "damaged-trainer", "git status",
        ),
        ("ModuleNotFoundError: No module named 'library.huggingface_util'", {}, False, "damaged-trainer", "--repair"),
        ("ModuleNotFoundError: No module named 'networks.lora'", {}, False, "damaged-trainer", "--repair"),
        ("ModuleNotFoundError: No module named 'library'", {}, True, "damaged-trainer", "git status"),
        ("ModuleNotFoundError: No module named 'prodigyopt'", {"optimizer_type": "Prodigy"}, False,
         "missing-package", "--repair"),
        ("ModuleNotFoundError: No module named 'lycoris'", {"network_module": "lycoris.kohya"}, True,
         "missing-package", "--python"),
        (  # 61
            "RuntimeError: something that nobody has seen before", {}, False, "crashed", "traceback",
        ),
        ("AttributeError: module 'numpy' has no attribute 'bool'", {}, False, "numpy-2", "--repair"),
        (  # 48, where the data loader does not wait for ever
            "RuntimeError: unable to write to file </torch_4242_1>: No space left on device (28)",
            {"max_data_loader_n_workers": 1}, False, "shared-memory", "max_data_loader_n_workers = 0",
        ),
        (  # 20
            ('safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 28, kind: StorageFull, '
            'message: "No space left on device" })'),
            {"save_last_n_epochs": 2}, False, "disk-full", "free some space",
        ),
        (  # 46, a network whose size is not known before
            ('safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 27, kind: FileTooLarge, '
            'message: "File too large" })'),
            {}, False, "file-size-limit", "ulimit -f unlimited",
        ),
    ],
)  # fmt: skip
def test_the_remedy_fits_the_cause(end: str, settings: dict[str, object], own: bool, code: str, hint: str) -> None:
    found = outcome(end, RunFacts({**FULL, **settings}, own))
    assert found.code == code
    assert hint in (found.hint or "")
    if code != "missing-package":
        assert "package" not in (found.hint or "")


OUT_OF_VRAM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    ("end", "file"),
    [
        (
            "ImportError: cannot import name 'strategy_sd' from 'library' (/x/library/__init__.py)",
            ("library", "strategy_sd"),
        ),
        ("ImportError: cannot import name 'lora' from 'networks' (unknown location)", ("networks", "lora")),
        ("ModuleNotFoundError: No module named 'library.huggingface_util'", ("library", "huggingface_util")),
        ("ImportError: cannot import name 'Dataset' from 'library.train_util' (/x/library/train_util.py)", None),
        ("ModuleNotFoundError: No module named 'library'", None),
    ],
)
def test_the_missing_file_is_named(end: str, file: tuple[str, str] | None) -> None:
    found = diagnose(failure_from_words(end, ()), RunFacts(own_trainer=True))
    assert found is not None
    assert found.code == "damaged-trainer"
    assert tuple(found.message.filled.values()) == (file or ())


def test_nobody_is_told_to_do_what_is_done() -> None:
    settings: dict[str, object] = {
        "gradient_checkpointing": True, "cache_latents": True, "max_data_loader_n_workers": 0,
        "save_last_n_steps": 100, "save_every_n_steps": 10, "mixed_precision": "fp16", "no_half_vae": True,
        "sdpa": True,
    }  # fmt: skip
    done = RunFacts(settings, facts={"run.saves_often": True})
    said = outcome(OUT_OF_VRAM, done).hint or ""
    assert not {"gradient_checkpointing", "cache_latents", "attention"} & set(said.replace(".", " ").split())
    assert "max_data_loader_n_workers" not in (outcome("MemoryError", done).hint or "")
    assert "save_last_n" not in (outcome("OSError: [Errno 28] No space left on device", done).hint or "")
    finite = advise(FINITE_LOSS, done)
    assert "no_half_vae" not in finite
    assert "bf16" in finite
    fresh = outcome(OUT_OF_VRAM, RunFacts()).hint or ""
    assert fresh.index("gradient_checkpointing") < fresh.index("cache_latents")


def test_what_is_turned_down_comes_with_what_it_saves() -> None:
    """SDXL with AdamW and a rank of 128: 5.1 GiB of UNet at fp16, 2.6 at fp8; 6 of 8 bytes of the optimizer's state."""
    memory = MemoryFacts(unet=2_567_463_684, text_encoders=817_720_320, trained=400_000_000, batch=4)
    settings: dict[str, object] = {
        "mixed_precision": "fp16", "sdpa": True, "cache_latents": True, "gradient_checkpointing": True,
        "gradient_accumulation_steps": 2,
    }  # fmt: skip
    said = outcome(OUT_OF_VRAM, RunFacts(settings, memory=memory)).hint or ""
    assert "train.train_batch_size = 2" in said
    assert "gradient_accumulation_steps = 4" in said
    assert "AdamW8bit" in said
    assert "2.2 GiB" in said  # 400 M x 6 bytes
    assert "2.4 GiB" in said  # 2.57 G x 1 byte


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_float32_or_bf16_run_is_not_sent_to_bf16(precision: str) -> None:
    """49: Prodigy with d_coef = 1e8 and without clipping, in float32."""
    facts = RunFacts({"mixed_precision": precision, "optimizer_type": "Prodigy"}, facts={"run.unclipped": True})
    said = advise(FINITE_LOSS, facts)
    assert "bf16" not in said
    assert "no_half_vae" not in said
    assert "d_coef" in said
    assert "max_grad_norm" in said
    plain = advise(FINITE_LOSS, RunFacts({"mixed_precision": precision, "optimizer_type": "AdamW"}))
    assert "learning_rate" in plain
    assert "max_grad_norm" not in plain


LOADING = (  # 77
    '  File "/x/sd-scripts/library/train_util.py", line 4778, in resume_from_local_or_hf_if_specified\n'
    "    accelerator.load_state(args.resume)\n"
    '  File "/x/site-packages/accelerate/accelerator.py", line 3452, in load_state\n'
    "    load_accelerator_state(\n"
    "RuntimeError: Error(s) in loading state_dict for LoRANetwork:"
)


def test_a_state_that_cannot_be_loaded_is_named() -> None:
    found = outcome(LOADING, RunFacts(FULL), "output/lamp-step00000002-state")
    assert found.code == LOST_STATE
    assert "output/lamp-step00000002-state" in found.message
    assert found.hint is None  # runs.ending says how to go on


def test_memory_that_runs_out_while_a_state_is_loaded_is_not_the_states_fault() -> None:
    end = LOADING.rpartition("\n")[0] + "\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."
    assert outcome(end, RunFacts(FULL), "output/lamp-step00000002-state").code == "out-of-gpu-memory"
