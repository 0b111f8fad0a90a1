"""Rules about masks: a folder of masks for a concept's images, and transparency as a mask."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.dataset import MASK_END, FolderFacts, MaskFacts
from lorabake_schemas.guide.caption_settings import find_caption_value
from lorabake_schemas.guide.defaults import format_bare_prompt, uses_alpha_mask
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import (
    FOLDER_PROBLEMS,
    iter_concept_folders,
    iter_folders,
    summarize_items,
    summarize_names,
)
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.recipe import Concept, Recipe, Regularization

MAX_SHIFT = 0.1  # share of an image that may be cropped before its mask is noticeably off (ours)
KeyPath = tuple[str | int, ...]


@rule(
    "S49",
    ERROR,
    "sd-scripts stops if an image has no mask, a mask has no image, or their sizes differ.",
    unless="sizes without buckets, where each mask is resized",
)
def unusable_masks(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        masks, where = folder.masks, ("concept", index, "masks")
        if masks is None or not folder.images:
            continue
        if masks.problem:
            yield RuleHit(where, *_describe_problem(situation, index, masks))
            continue
        for names, message, fix in _list_faults(masks, buckets=situation.recipe.train.enable_bucket is not False):
            yield RuleHit(where, message, fix, file=names[0])


def can_use_masks(part: Concept | Regularization, recipe: Recipe) -> bool:
    """Whether sd-scripts would take a folder of masks for these images, which do not have masks yet."""
    if not isinstance(part, Concept) or part.masks or part.metadata_file:
        return False
    return not uses_alpha_mask(part, recipe)


def has_masks_beside(part: Concept | Regularization, recipe: Recipe, facts: FolderFacts) -> bool:
    """Whether the copy of `prepare` gets a folder of the masks that are next to these images."""
    masks = any(name.rpartition(".")[0].endswith(MASK_END) for name in facts.companions)
    return masks and can_use_masks(part, recipe)


@rule(
    "S49.beside",
    WARNING,
    "OneTrainer has masks next to their images; sd-scripts trains on them as images.",
    unless="a metadata file, which names the images",
)
def masks_beside_images(situation: RuleContext) -> Iterator[RuleHit]:
    for (where, folder), part in zip(iter_folders(situation), _list_parts(situation.recipe), strict=True):
        if folder.companions:
            said = msg(
                "sd-scripts would train on masks and conditioning images of OneTrainer: {names} ({n})",
                n=len(folder.companions),
                names=summarize_names(folder.companions),
            )
            if has_masks_beside(part, situation.recipe, folder):
                fix = msg(
                    "run `lorabake prepare RECIPE --to FOLDER`: in the copy the masks are in a separate folder and the "
                    "recipe uses them; or move them to another folder"
                )
            else:
                fix = msg(
                    "run `lorabake prepare RECIPE --to FOLDER`, which leaves them out of the copy; or move them to "
                    "another folder"
                )
            yield RuleHit(where, said, fix, file=folder.companions[0])


def _list_parts(recipe: Recipe) -> tuple[Concept | Regularization, ...]:
    return (*recipe.concept, *recipe.regularization)


LIKELY_ENDS = ("_mask", "-mask", ".mask")  # of a mask's name, behind that of its image
GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16"})


@rule(
    "S49.likely",
    WARNING,
    "An image that is named after another one as its mask would be trained as an image.",
    unless="a caption for it",
)
def likely_masks_beside_images(situation: RuleContext) -> Iterator[RuleHit]:
    for (where, folder), part in zip(iter_folders(situation), _list_parts(situation.recipe), strict=True):
        stems = {image.name.rpartition(".")[0] for image in folder.images}
        bare = (image for image in folder.images if not image.caption.text)
        named = [image for image in bare if _is_named_as_mask(image.name.rpartition(".")[0], stems)]
        all_have = 2 * len(named) >= len(folder.images)
        if names := [image.name for image in named if all_have or image.mode in GRAY_MODES]:
            said = msg(
                "images that seem to be masks: {names} ({n} of {all})",
                n=len(names),
                all=len(folder.images),
                names=summarize_names(names),
            )
            fix = msg("move them to another folder")
            if can_use_masks(part, situation.recipe):
                fix = msg(
                    "rename them to NAME-masklabel.png and run `lorabake prepare RECIPE --to FOLDER`, which puts masks "
                    "in a separate folder; or move them to another folder"
                )
            yield RuleHit(where, said, fix, file=names[0])


def _is_named_as_mask(stem: str, stems: set[str]) -> bool:
    return any(stem.casefold().endswith(end) and stem[: -len(end)] in stems for end in LIKELY_ENDS)


def _describe_problem(situation: RuleContext, index: int, masks: MaskFacts) -> tuple[Message, Message]:
    path = situation.recipe.concept[index].masks or ""
    if masks.problem == "images":
        said = msg("{path} is the folder of the images, so each image would be its own mask", path=path)
        return said, msg("write the path of the folder that contains the masks")
    why = FOLDER_PROBLEMS.get(masks.problem or "", literal(masks.problem or ""))
    said = msg("cannot read the folder {path}: {problem}", path=path, problem=why)
    return said, msg("write the path of the folder that contains the masks, relative to the recipe")


def _list_faults(masks: MaskFacts, *, buckets: bool) -> Iterator[tuple[tuple[str, ...], Message, Message]]:
    """What sd-scripts stops at, or reads as something else (TU:2640-2690, 2730)."""
    if masks.missing:
        said = msg("images without a mask: {names} ({n})", n=len(masks.missing), names=summarize_names(masks.missing))
        yield (
            masks.missing,
            said,
            msg("add a mask with the image's name and any image extension (all white learns the whole image)"),
        )
    if masks.extra:
        said = msg("masks without an image: {names} ({n})", n=len(masks.extra), names=summarize_names(masks.extra))
        yield masks.extra, said, msg("delete them, or move them to another folder")
    if masks.broken:
        said = msg("masks that cannot be read: {names} ({n})", n=len(masks.broken), names=summarize_names(masks.broken))
        yield masks.broken, said, msg("save them again as 8-bit grayscale PNG")
    if masks.missized and buckets:
        names = summarize_names(masks.missized)
        said = msg(
            "masks that differ in size from their image: {names} ({n} of {all})",
            n=len(masks.missized),
            all=masks.count,
            names=names,
        )
        yield masks.missized, said, msg("resize each mask to the size of its image")
    if masks.wide:
        said = msg(
            "masks with 16 or 32 bits, which would be read as all white: {names} ({n} of {all})",
            n=len(masks.wide),
            all=masks.count,
            names=summarize_names(masks.wide),
        )
        yield masks.wide, said, msg("save with 8 bits per channel")


@rule(
    "S49.content",
    WARNING,
    "The red channel of a mask is what counts: white is learned, black is not.",
)
def masks_without_effect(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        masks, where = folder.masks, ("concept", index, "masks")
        if masks is None or masks.problem:
            continue
        if masks.black:
            said = msg(
                "masks that are all black, so nothing is learned from these images: {names} ({n} of {all})",
                n=len(masks.black),
                all=masks.count,
                names=summarize_names(masks.black),
            )
            yield RuleHit(where, said, msg("paint white what is to be learned"), file=masks.black[0])
        clear = [name for name in masks.transparent if name in masks.white]
        if clear:
            said = msg(
                "masks whose shape is in their transparency, which is not read: {names} ({n} of {all})",
                n=len(clear),
                all=masks.count,
                names=summarize_names(clear),
            )
            yield RuleHit(where, said, msg("save them as white on black, without transparency"), file=clear[0])
        elif masks.count and len(masks.white) == masks.count:
            said = msg("all masks are white, so they change nothing")
            yield RuleHit(where, said, msg("paint black what is not to be learned, or remove masks"))


@rule("S49.together", ERROR, "Images with a folder of masks are of a separate kind to sd-scripts.")
def conflicting_masks(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    masked = [index for index, concept in enumerate(recipe.concept) if concept.masks]
    for index in masked:
        concept = recipe.concept[index]
        if concept.alpha_mask:
            said = msg("masks and alpha_mask exclude each other: sd-scripts takes one mask for each image")
            yield RuleHit(("concept", index, "alpha_mask"), said, msg("remove alpha_mask or masks"))
        if concept.metadata_file:
            said = msg("sd-scripts cannot combine masks with a metadata file")
            yield RuleHit(("concept", index, "metadata_file"), said, msg("use caption files, or alpha_mask for masks"))
        elif concept.captions == "none" and not format_bare_prompt(concept, recipe):
            said = msg("images with masks have no class tokens, so without captions they are trained without any text")
            fix = msg("write captions, or add caption_prefix with the words to train them on")
            yield RuleHit(("concept", index, "captions"), said, fix)
    if masked and recipe.kohya.get("random_crop") is True:
        said = msg("random_crop does not work with a folder of masks")
        yield RuleHit(("kohya", "random_crop"), said, msg("remove it, or use alpha_mask for masks"))
    if masked and recipe.kohya.get("masked_loss") is False:
        said = msg("masks are set, but masked_loss is off")
        yield RuleHit(("kohya", "masked_loss"), said, msg("remove it, or remove masks"))
    apart = [concept for concept in recipe.concept if concept.masks or concept.metadata_file]
    if recipe.regularization and len(apart) == len(recipe.concept):
        said = msg(
            "regularization images have no effect: sd-scripts cannot combine them with a folder of masks or a "
            "metadata file"
        )
        yield RuleHit(
            ("regularization", 0, "images"), said, msg("remove [[regularization]], or use alpha_mask for masks")
        )


@rule(
    "S49.counts",
    WARNING,
    "With a folder of masks, sd-scripts counts epochs and steps of the wrong dataset and stays at the first.",
)
def miscounted_dropout(situation: RuleContext) -> Iterator[RuleHit]:
    """The dataset behind the masks never hears of an epoch or step (TU:2565-2690, set_current_epoch)."""
    recipe = situation.recipe
    for index, concept in enumerate(recipe.concept):
        if not concept.masks:
            continue
        if find_caption_value(concept, recipe, "caption_dropout_every_n_epochs"):
            said = msg("with masks, caption_dropout_every_n_epochs drops the captions in every epoch")
            fix = msg("write caption_dropout_every_n_epochs = 0 under this [[concept]], or use caption_dropout_rate")
            yield RuleHit(("concept", index, "masks"), said, fix)
        if recipe.kohya.get("token_warmup_step"):
            said = msg("with masks, token_warmup_step never ends or never starts")
            yield RuleHit(("kohya", "token_warmup_step"), said, msg("remove token_warmup_step"))


@rule(
    "S49.alpha",
    WARNING,
    "alpha_mask leaves transparent parts out of the loss; an image without transparency is learned whole.",
)
def alpha_mask_without_transparency(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_concept_folders(situation):
        concept = recipe.concept[index]
        if not uses_alpha_mask(concept, recipe) or not folder.images:
            continue
        where: KeyPath = ("concept", index, "alpha_mask") if concept.alpha_mask else ("kohya", "alpha_mask")
        yield from _check_transparency(where, folder)


def _check_transparency(where: KeyPath, folder: FolderFacts) -> Iterator[RuleHit]:
    solid = [image for image in folder.images if not image.problem and (not image.alpha or image.opaque)]
    if len(solid) == len(folder.images):
        said = msg("no image in {path} has transparent parts, so alpha_mask changes nothing", path=folder.path)
        yield RuleHit(where, said, msg("remove alpha_mask, or cut the background out of the images"))
    elif solid:
        said = msg(
            "images without transparency, which are learned whole: {names} ({n} of {all})",
            n=len(solid),
            all=len(folder.images),
            names=summarize_items(solid, lambda image: image.name),
        )
        fix = msg("ignore this if intended, else cut their background out")
        yield RuleHit(where, said, fix, file=solid[0].name, severity=HINT)


@rule(
    "S49.crop",
    WARNING,
    "An image is cropped to its bucket, its mask is squeezed into it, so the two no longer match.",
    needs_plan=True,
)
def shifted_masks(situation: RuleContext) -> Iterator[RuleHit]:
    plan = situation.plan
    if plan is None:
        return
    cropped: dict[int, set[int]] = {}  # at any of the resolutions, each of which has its own buckets
    for part, fits in zip(plan.subsets, plan.fits, strict=True):
        if part.level == "masked_subsets":
            wide = {at for at, fit in enumerate(fits) if fit and fit.cropped_share > MAX_SHIFT}
            cropped.setdefault(part.index, set()).update(wide)
    for index, places in cropped.items():
        images = situation.dataset.concepts[index].images
        names = [images[at].name for at in sorted(places)]
        if names:
            said = msg(
                "images that are cropped while their masks are squeezed: {names} ({n} of {all})",
                n=len(names),
                all=len(images),
                names=summarize_names(names),
            )
            fix = msg("crop these images and masks yourself to a shape that fits a bucket")
            yield RuleHit(("concept", index, "masks"), said, fix, file=names[0])
