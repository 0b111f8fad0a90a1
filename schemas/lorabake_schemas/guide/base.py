"""Rules about the base model: is it there, is it what the recipe says."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule

NAMES = {"sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL"}


@rule(
    "G4.7",
    ERROR,
    "Without a model that can be read there is nothing to train on.",
    unless="a rehearsal, which reads no model: there it is a warning",
)
def model_is_there(situation: Situation) -> Iterator[Remark]:
    if situation.base.problem:
        yield Remark(
            ("base", "model"),
            situation.base.problem,
            "give the path of a .safetensors file or a diffusers folder, relative to the recipe",
            severity=WARNING if situation.rehearsing else None,
        )


@rule(
    "G4.7.variant",
    ERROR,
    "Of an SDXL folder sd-scripts wants *.fp16.* files at fp16 and the others otherwise; diffusers stops if they lack.",
    needs_plan=True,
)
def folder_has_the_precision(situation: Situation) -> Iterator[Remark]:
    plan, base = situation.plan, situation.base
    if plan is None or base.kind != "folder" or situation.rehearsing:
        return
    precision = plan.value("mixed_precision")
    if situation.family == "sdxl" and precision == "fp16":  # sdxl_train_util.py:86; SD1.x asks for none (TU:5540)
        if not base.fp16_files:
            yield Remark(
                ("base", "model"),
                "fp16 training wants weights named *.fp16.*, and this SDXL folder has none",
                'write mixed_precision = "bf16" under [train], or name a single .safetensors file',
            )
    elif not base.plain_files:
        yield Remark(
            ("base", "model"),
            f"this folder has weights named *.fp16.* only, and training at {precision} wants the others",
            'name a single .safetensors file, or for SDXL write mixed_precision = "fp16" under [train]',
        )


@rule("G4.12", ERROR, "The family picks the training script; the wrong one fails late or trains noise.")
def family_is_right(situation: Situation) -> Iterator[Remark]:
    said, found = situation.recipe.base.family, situation.base.family
    if said and found and said != found:
        yield Remark(
            ("base", "family"),
            f"the recipe says {said}, but the model file holds {NAMES[found]}",
            f'write family = "{found}", or leave it out',
        )
    elif not said and not found and not situation.base.problem:
        yield Remark(
            ("base", "model"),
            "what family this model is cannot be read from it",
            'add family = "sd15", "sd2" or "sdxl" to [base]',
        )


@rule("G4.11", ERROR, "Training v-prediction on an epsilon model, or the reverse, ruins the result (GC.6).")
def prediction_is_right(situation: Situation) -> Iterator[Remark]:
    said, found = situation.recipe.base.v_prediction, situation.base.v_prediction
    if said is not None and found is not None and said != found:
        kind = "v-prediction" if found else "epsilon"
        yield Remark(
            ("base", "v_prediction"),
            f"the model says of itself that it is an {kind} model",
            f"write v_prediction = {str(found).lower()}, or leave it out",
        )
    elif situation.family == "sd2" and said is None and found is None and not situation.base.problem:
        yield Remark(
            ("base", "model"),
            "SD 2.x comes in both kinds and this file does not say which",
            "add v_prediction = true for a 768 model, false for a 512 base model",
        )


@rule(
    "G4.89",
    WARNING,
    "zero_terminal_snr is meant for v-prediction models; sd-scripts warns too (TU:4456).",
    unless="the model is an epsilon model fine-tuned with terminal SNR (GC.6)",
)
def terminal_snr_needs_v(situation: Situation) -> Iterator[Remark]:
    base = situation.recipe.base
    v_prediction = base.v_prediction if base.v_prediction is not None else situation.base.v_prediction
    if base.zero_terminal_snr and not v_prediction:
        yield Remark(
            ("base", "zero_terminal_snr"),
            "zero terminal SNR without v-prediction",
            "set v_prediction = true if the model is one; else make sure that it was trained this way",
        )


@rule("S23", HINT, "SDXL training does not use clip_skip; SD2 does, though its models already leave out a layer.")
def clip_skip_is_for_sd1(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.base.clip_skip is None or situation.family == "sd15":
        return
    where = ("base", "clip_skip")
    if situation.family == "sdxl":
        yield Remark(where, f"clip_skip has no effect on {NAMES['sdxl']} and is left out", "take the line out")
    else:
        said = f"clip_skip on {NAMES['sd2']}: sd-scripts uses it, and warns that nothing good is to be expected"
        yield Remark(where, said, "take the line out", severity=WARNING)


@rule("G4.59", WARNING, "Training above the model's native size harms it; crop several versions instead (GC.5).")
def not_above_native(situation: Situation) -> Iterator[Remark]:
    native, sides = situation.recipe.base.native_resolution, situation.recipe.train.resolution
    largest = sides if isinstance(sides, int) else max(sides) if sides else 0
    if native and largest > native:
        yield Remark(("train", "resolution"), f"{largest} is above the model's native {native}", f"write {native}")


@rule("G4.61", WARNING, "SDXL was trained at 1024 and loses quality below it.", unless="it is a quick trial")
def sdxl_wants_1024(situation: Situation) -> Iterator[Remark]:
    sides = situation.recipe.train.resolution
    smallest = sides if isinstance(sides, int) else min(sides) if sides else 1024
    if situation.family == "sdxl" and smallest < 1024:
        yield Remark(("train", "resolution"), f"SDXL at {smallest}", "write resolution = 1024, or leave it out")


__all__: list[str] = []
