"""How many bytes a plan keeps on the disk at the same time: saves, states, caches. Pure."""

from __future__ import annotations

from lorabake.planning.file_size import BYTES_BY_PRECISION
from lorabake_schemas.bucket_fit import SubsetFits
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.disks import DiskSpace
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.plan import Plan, PlannedSave, SubsetPlan
from lorabake_schemas.sd_scripts import is_adaptive, is_schedule_free

# Bytes of an optimizer's state for each weight: two or more numbers of four bytes, one for momentum alone, one byte
# each where they are kept at 8 bits (small tensors are not reduced).
_TWO, _ONE = (8, 8), (4, 4)
OPTIMIZER_STATE: dict[str, tuple[int, int]] = {
    "AdamW": _TWO, "AdamW8bit": (2, 8), "PagedAdamW": _TWO, "PagedAdamW8bit": (2, 8), "PagedAdamW32bit": _TWO,
    "Lion": _ONE, "Lion8bit": (1, 4), "PagedLion8bit": (1, 4), "SGDNesterov": _ONE, "SGDNesterov8bit": (1, 4),
    "Adam": _TWO, "NAdam": _TWO, "RAdam": _TWO,
}  # fmt: skip
UNKNOWN_STATE, ADAPTIVE_STATE, SCHEDULE_FREE_STATE = (0, 16), (8, 20), (4, 12)


def count_kept_saves(saves: tuple[PlannedSave, ...]) -> int:
    """Files of the LoRA that exist at the same time at the end; each removal follows a save (TU:5920)."""
    return sum(save.kept for save in saves)


def estimate_run_folder(plan: Plan) -> DiskSpace:
    """Everything large that sd-scripts writes below the run folder; nothing where the network's shape is not known."""
    size = plan.forecast.file_size
    if size is None:
        return DiskSpace()
    saves = count_kept_saves(plan.forecast.saves)
    return DiskSpace(saves * size.tensor_bytes, saves * (size.tensor_bytes + size.header_bytes)) + _estimate_states(
        plan, saves
    )


def estimate_largest_file(plan: Plan) -> int:
    """Bytes of the largest file that it certainly writes: a save, or one of a state's; 0 where nothing is known."""
    size = plan.forecast.file_size
    return max(size.tensor_bytes, *(each.least for each in _estimate_state(plan))) if size else 0


def estimate_save(plan: Plan, save: PlannedSave) -> int:
    """Bytes that a save of the run and the state that is saved with it need at least; 0 where nothing is known."""
    size = plan.forecast.file_size
    if size is None:
        return 0
    has_state = plan.value("save_state") or save.step == plan.forecast.steps
    return size.tensor_bytes + (sum(each.least for each in _estimate_state(plan)) if has_state else 0)


def _estimate_states(plan: Plan, saves: int) -> DiskSpace:
    """All that are kept (TU:5946)."""
    network, optimizer = _estimate_state(plan)
    one = network + optimizer
    own = plan.value("save_last_n_epochs_state") or plan.value("save_last_n_steps_state")
    many = saves if plan.value("save_state") else 1
    every = len(plan.forecast.saves) if plan.value("save_state") and own else many
    return DiskSpace((1 if own else many) * one.least, every * one.most)


def _estimate_state(plan: Plan) -> tuple[DiskSpace, DiskSpace]:
    """A state contains the network in training precision, and the optimizer's state for every weight."""
    if not plan.value("save_state") and not plan.value("save_state_on_train_end"):
        return DiskSpace(), DiskSpace()
    size = plan.forecast.file_size
    weights = 0 if size is None else size.tensor_bytes // BYTES_BY_PRECISION[str(plan.value("save_precision"))]
    half = bool(plan.value("full_fp16") or plan.value("full_bf16"))
    least, most = _optimizer_state_bytes(str(plan.value("optimizer_type")))
    network = DiskSpace(weights * (2 if half else 4), weights * 4)
    return network, DiskSpace(weights * (least // 2 if half else least), weights * most)


def _optimizer_state_bytes(name: str) -> tuple[int, int]:
    if is_adaptive(name):
        return ADAPTIVE_STATE
    return SCHEDULE_FREE_STATE if is_schedule_free(name) else OPTIMIZER_STATE.get(name, UNKNOWN_STATE)


def estimate_caches(plan: Plan, part: SubsetPlan, fits: SubsetFits, folder: FolderFacts) -> DiskSpace:
    """What is cached next to the images of one subset: four channels of an eighth of each side, as 32-bit numbers,
    twice where images are mirrored (strategy_base.py:452), and the text encoders' outputs."""
    flips = any(setting.option == "flip_aug" and setting.value is True for setting in part.settings)
    least, most = 0, 0
    if plan.value("cache_latents_to_disk"):
        every = sum(fit.bucket[0] * fit.bucket[1] // 4 for fit in fits if fit is not None) * (2 if flips else 1)
        most += every
        least += 0 if folder.caches else every
    if plan.value("cache_text_encoder_outputs_to_disk"):
        images = sum(fit is not None for fit in fits)
        family = get_family(plan.family)
        width = sum(encoder.width for encoder in family.text_encoders)
        first, *_, last = family.token_limits
        rows = first + 2  # a start and an end token go with each row of tokens
        most += images * last // first * rows * width * 4
        least += 0 if folder.caches else images * rows * width * 2
    return DiskSpace(least, most)
