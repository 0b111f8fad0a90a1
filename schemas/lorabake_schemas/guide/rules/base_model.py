"""Rules about the base model: whether it exists and matches the recipe."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.families.known_models import find_stock_family, is_stock_model
from lorabake_schemas.families.registry import get_family, list_family_names
from lorabake_schemas.guide.caption_settings import list_tag_styles
from lorabake_schemas.guide.defaults import resolve_native_side
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.resolutions import list_training_resolutions
from lorabake_schemas.messages import msg


@rule(
    "G4.7",
    ERROR,
    "Without a readable model there is nothing to train on.",
    unless="a rehearsal, which does not read the model: there it is a warning",
)
def unusable_model(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.base.problem:
        yield RuleHit(
            ("base", "model"),
            situation.base.problem,
            msg("write the path of a .safetensors file or a diffusers folder, relative to the recipe"),
            severity=WARNING if situation.rehearsing else None,
        )


@rule(
    "S43",
    WARNING,
    "A pickle is a program: its author can run anything on this machine when it is loaded.",
    unless="the file comes from somebody you trust",
)
def pickled_model(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.rehearsing or situation.base.problem:  # no model is loaded, or it is an error anyway
        return
    for where, file in situation.pickles:
        if where == ("base", "model") and situation.family.runs_pickles:
            said = msg("{file} is a pickle: sd-scripts runs any program it contains", file=file)
        else:  # torch.load without weights_only, True since PyTorch 2.6
            said = msg("{file} is a pickle: PyTorch older than 2.6 runs any program it contains", file=file)
        yield RuleHit(where, said, msg("use a .safetensors file, which contains only numbers"))


@rule(
    "G4.7.variant",
    ERROR,
    "From an SDXL folder sd-scripts loads *.fp16.* files at fp16, else plain ones; diffusers stops without them.",
    needs_plan=True,
)
def missing_precision_variant(situation: RuleContext) -> Iterator[RuleHit]:
    plan, base = situation.plan, situation.base
    if plan is None or base.kind != "folder" or situation.rehearsing:
        return
    precision = plan.value("mixed_precision")
    label = situation.family.label
    if situation.family.wants_fp16_files and precision == "fp16":
        if not base.fp16_files:
            yield RuleHit(
                ("base", "model"),
                msg("fp16 training needs weights named *.fp16.*, and this {family} folder has none", family=label),
                msg('write mixed_precision = "bf16" under [train], or use a single .safetensors file'),
            )
    elif not base.plain_files:
        yield RuleHit(
            ("base", "model"),
            msg(
                "this folder has only weights named *.fp16.*, and {precision} training needs the others",
                precision=str(precision),
            ),
            msg('use a single .safetensors file, or write mixed_precision = "fp16" under [train]')
            if situation.family.wants_fp16_files and base.fp16_files
            else msg("use a single .safetensors file"),
        )


@rule("G4.12", ERROR, "The family selects the training script; the wrong one fails late or trains noise.")
def wrong_family(situation: RuleContext) -> Iterator[RuleHit]:
    said, found = situation.recipe.base.family, situation.base.family
    if said and found and said != found:
        yield RuleHit(
            ("base", "family"),
            msg('family is "{said}", but the model file is {found}', said=said, found=get_family(found).label),
            msg('write family = "{found}", or remove it', found=found),
        )
    elif not said and not found and not situation.base.problem:
        yield RuleHit(
            ("base", "model"),
            msg("the model family cannot be detected from the model"),
            msg("add `family = ...` under [base], one of: {names}", names=", ".join(list_family_names())),
        )


@rule(
    "G4.12.name",
    WARNING,
    "The plain Stable Diffusion models have published names, and the training script of another family fails on them.",
    unless="another model has this name",
)
def stock_model_of_other_family(situation: RuleContext) -> Iterator[RuleHit]:
    base = situation.recipe.base
    named = find_stock_family(base.model)
    if base.family and named and named != base.family and not situation.base.family:
        yield RuleHit(
            ("base", "model"),
            msg(
                "by its name the model is {found}, but family is {said}",
                found=get_family(named).label,
                said=get_family(base.family).label,
            ),
            msg(
                'name a model of {said}, or write family = "{found}"',
                said=get_family(base.family).label,
                found=named,
            ),
        )


@rule("G4.11", WARNING, "Training v-prediction on an epsilon model, or the reverse, ruins the result (GC.6).")
def wrong_prediction_type(situation: RuleContext) -> Iterator[RuleHit]:
    said, found = situation.recipe.base.v_prediction, situation.base.v_prediction
    if said is not None and found is not None and said != found:
        by_v, by_noise = (
            msg("the model is marked as a v-prediction model"),
            msg("the model is marked as a noise prediction (epsilon) model"),
        )
        fix = msg("write v_prediction = {value}, or remove it", value=str(found).lower())
        yield RuleHit(("base", "v_prediction"), by_v if found else by_noise, fix)
    elif situation.family.has_both_predictions and said is None and found is None and not situation.base.problem:
        yield RuleHit(
            ("base", "model"),
            msg(
                "{family} models exist with and without v-prediction, and this file does not show which it is",
                family=situation.family.label,
            ),
            msg(
                "add v_prediction under [base]: true for SD 2.x at 768 px, false for SD 2.x-base at 512 px; for a "
                "fine-tune, see its model page"
            ),
        )


@rule(
    "G4.89",
    WARNING,
    "zero_terminal_snr is meant for v-prediction models; sd-scripts warns too (TU:4456).",
    unless="the model is an epsilon model fine-tuned with terminal SNR (GC.6)",
)
def terminal_snr_without_v_prediction(situation: RuleContext) -> Iterator[RuleHit]:
    base = situation.recipe.base
    v_prediction = base.v_prediction if base.v_prediction is not None else situation.base.v_prediction
    if base.zero_terminal_snr and not v_prediction:
        yield RuleHit(
            ("base", "zero_terminal_snr"),
            msg("zero_terminal_snr is set without v-prediction"),
            msg(
                "write v_prediction = true if the model uses it, else check that it was trained with zero terminal SNR"
            ),
        )


@rule("S23", HINT, "SDXL training does not use clip_skip; SD2 does, though its models already leave out a layer.")
def unsuitable_clip_skip(situation: RuleContext) -> Iterator[RuleHit]:
    family = situation.family
    if situation.recipe.base.clip_skip is None or family.guide.anime_clip_skip:
        return
    where, fix = ("base", "clip_skip"), msg("remove it")
    if "clip_skip" in family.ignored_options:
        yield RuleHit(where, msg("clip_skip has no effect on {family} and is ignored", family=family.label), fix)
    else:
        said = msg("sd-scripts applies clip_skip to {family}, but warns of bad results", family=family.label)
        yield RuleHit(where, said, fix, severity=WARNING)


@rule(
    "G4.60",
    HINT,
    "Most SD1.5 anime models descend from the NAI leak, which was trained at 640.",
    unless="the recipe or the model's name gives the size it was trained at",
)
def unknown_anime_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    base = situation.recipe.base
    guides = [each for each in list_training_resolutions(situation.recipe, situation.family) if not each.given]
    unknown = resolve_native_side(situation.recipe) is None and guides
    made, usual = situation.family.guide.anime_resolution, situation.family.guide.resolution.value
    if made and "danbooru" in list_tag_styles(base) and unknown:
        yield RuleHit(
            ("base", "tags"),
            msg(
                "this recipe trains an anime model at {usual}, but most {family} anime models were made at {made}",
                usual=usual,
                family=situation.family.label,
                made=made,
            ),
            msg(
                "add native_resolution = {made}, or {usual} if the model's page gives that as its training resolution",
                made=made,
                usual=usual,
            ),
        )


@rule("GC.4", WARNING, "A plain Stable Diffusion model reads the tags of an image board as ordinary text.")
def board_tags_on_stock_model(situation: RuleContext) -> Iterator[RuleHit]:
    base = situation.recipe.base
    boards = [name for name in list_tag_styles(base) if name != "natural"]
    if boards and is_stock_model(base.model):
        yield RuleHit(
            ("base", "tags"),
            msg(
                "{tags} tags are used with {model}, which was never trained on them",
                tags=", ".join(boards),
                model=base.model,
            ),
            msg('use a fine-tune that was trained on them, or write sentences and tags = "natural"'),
        )


@rule(
    "G3.5",
    HINT,
    "A LoRA trained on a merge works less well on related models than one trained on a fine-tune that is not a merge.",
    unless="the LoRA is used with this model only",
)
def merged_base_model(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.base.merged:
        yield RuleHit(
            ("base", "model"),
            msg("the model is a merge, according to its metadata ({parts})", parts=situation.base.merged),
            msg("ignore this if the LoRA is only for this model, else train on one of the merged models"),
        )


__all__: list[str] = []
