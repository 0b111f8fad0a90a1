"""Rules about single images: files that cannot be read, and images that are trained differently than they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lorabake_schemas.bucket_fit import BucketFit, SubsetFits
from lorabake_schemas.dataset import FORMAT_EXTENSIONS, FolderFacts, FolderTable, ImageFacts
from lorabake_schemas.guide.defaults import uses_alpha_mask
from lorabake_schemas.guide.registry import (
    ERROR,
    HINT,
    PREPARE_COMMAND,
    WARNING,
    RuleContext,
    RuleHit,
    or_in_copy,
    rule,
)
from lorabake_schemas.guide.rules.dataset import iter_folders, summarize_items
from lorabake_schemas.messages import Message, msg, nmsg

MAX_UPSCALE = 1.1  # times; up to here nobody sees it (ours)
MAX_CROP_SHARE = (
    0.2  # share of an image that may be cut away unsaid (ours): six in a hundred is what buckets usually take
)
WIDE_MODES = ("I", "F")  # Pillow's modes of more than 8 bits a value start with these

KeyPath = tuple[str | int, ...]


def _iter_matching_images(
    situation: RuleContext, wrong: Callable[[ImageFacts], bool]
) -> Iterator[tuple[KeyPath, FolderFacts, list[ImageFacts]]]:
    """The folders with readable images of which this is true, and those images."""
    for where, folder in iter_folders(situation):
        those = [image for image in filter(wrong, folder.images) if not image.problem]
        if those:
            yield where, folder, those


def _summarize_image_names(images: list[ImageFacts]) -> Message:
    return summarize_items(images, lambda image: image.name)


@rule("G2.2", ERROR, "An image that cannot be opened stops sd-scripts, often hours into the run.")
def unreadable_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        broken = [image for image in folder.images if image.problem]
        if broken:
            fix = msg("replace or remove them")
            yield RuleHit(
                where,
                msg(
                    "images that cannot be read ({n} of {all}): {names}",
                    n=len(broken),
                    all=len(folder.images),
                    names=summarize_items(broken, _name_with_problem),
                ),
                or_in_copy(fix) if len(broken) < len(folder.images) else fix,
                file=broken[0].name,
            )


@rule(
    "G2.2.turned",
    WARNING,
    "sd-scripts ignores the EXIF orientation, so such a photo is trained as it is stored: on its side or mirrored.",
)
def exif_rotation(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder, turned in _iter_matching_images(situation, lambda image: image.orientation != 1):
        yield RuleHit(
            where,
            msg(
                "images with an EXIF rotation, which sd-scripts ignores: {names} ({n} of {all})",
                n=len(turned),
                all=len(folder.images),
                names=_summarize_image_names(turned),
            ),
            or_in_copy(
                msg("to rotate them permanently, open and save them in an image editor, or convert them to PNG")
            ),
            file=turned[0].name,
        )


@rule("G2.2.depth", WARNING, "Pillow turns nearly every gray of more than 8 bits white, and sd-scripts trains on that.")
def high_bit_depth(situation: RuleContext) -> Iterator[RuleHit]:
    for where, _, wide in _iter_matching_images(situation, lambda image: image.mode.startswith(WIDE_MODES)):
        yield RuleHit(
            where,
            nmsg(
                len(wide),
                "{n} grayscale image has 16 or 32 bits and would be trained as all white: {names}",
                "{n} grayscale images have 16 or 32 bits and would be trained as all white: {names}",
                names=_summarize_image_names(wide),
            ),
            or_in_copy(msg("save with 8 bits per channel")),
            file=wide[0].name,
        )


@rule("G2.2.cmyk", HINT, "sd-scripts converts CMYK to RGB without the color profile, so colors shift.")
def cmyk_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, _, print_ in _iter_matching_images(situation, lambda image: image.mode == "CMYK"):
        yield RuleHit(
            where,
            nmsg(
                len(print_),
                "{n} image is in CMYK, so its colors will shift: {names}",
                "{n} images are in CMYK, so their colors will shift: {names}",
                names=_summarize_image_names(print_),
            ),
            or_in_copy(msg("save as RGB in an image editor, which applies the color profile")),
            file=print_[0].name,
        )


@rule("G2.2.moving", HINT, "sd-scripts uses only the first frame.")
def animated_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, _, moving in _iter_matching_images(situation, lambda image: image.moving):
        yield RuleHit(
            where,
            nmsg(
                len(moving),
                "{n} image is animated, so only its first frame will be trained: {names}",
                "{n} images are animated, so only their first frames will be trained: {names}",
                names=_summarize_image_names(moving),
            ),
            msg("ignore this if that frame is good, else save the frames you want as images"),
            file=moving[0].name,
        )


@rule("G2.3.content", HINT, "sd-scripts goes by the content of an image, but other programs go by its name.")
def misnamed_format(situation: RuleContext) -> Iterator[RuleHit]:
    for where, _, wrong in _iter_matching_images(situation, _is_misnamed):
        names = summarize_items(
            wrong, lambda image: msg("{name} (actually {format})", name=image.name, format=image.format)
        )
        yield RuleHit(
            where,
            nmsg(
                len(wrong),
                "{n} image has an extension that does not match its format: {names}",
                "{n} images have extensions that do not match their formats: {names}",
                names=names,
            ),
            or_in_copy(_suggest_extension(wrong[0], len(wrong))),
            file=wrong[0].name,
        )


def _suggest_extension(image: ImageFacts, count: int) -> Message:
    """The caption matches the name without its extension, so it stays. A GIF named .gif would be skipped."""
    if image.format not in FORMAT_EXTENSIONS:
        return nmsg(count, "save it as PNG or JPEG with the same name", "save them as PNG or JPEG with the same names")
    return nmsg(
        count,
        "rename {old} to {new} and keep the name of its caption (sd-scripts accepts {old}, but other programs may not)",
        "rename them, for example {old} to {new}, and keep the names of their captions (sd-scripts "
        "accepts {old}, but other programs may not)",
        old=image.name,
        new=image.name.rpartition(".")[0] + FORMAT_EXTENSIONS[image.format][0],
    )


def _is_misnamed(image: ImageFacts) -> bool:
    return bool(image.format) and not image.name.lower().endswith(FORMAT_EXTENSIONS.get(image.format, ()))


@rule(
    "G2.4",
    WARNING,
    "sd-scripts drops transparency and trains on whatever color is hidden under it.",
    unless="alpha_mask is on, which keeps transparent parts out of the loss",
)
def transparent_images(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for where, folder, clear in _iter_matching_images(situation, lambda image: image.alpha and not image.opaque):
        concept = recipe.concept[int(where[1])] if where[0] == "concept" else None
        if uses_alpha_mask(concept, recipe) if concept else recipe.kohya.get("alpha_mask") is True:
            continue
        n, names = len(clear), _summarize_image_names(clear)
        if situation.dataset.deep:
            message = msg(
                "images with transparent parts, where hidden colors would be trained: {names} ({n} of {all})",
                n=n,
                all=len(folder.images),
                names=names,
            )
            fix = msg("add a solid background (vary its color) and tag it")
        else:
            message = msg(
                "images that declare transparency, whose hidden colors would be trained: {names} ({n} of {all})",
                n=n,
                all=len(folder.images),
                names=names,
            )
            fix = msg(
                "add a solid background (vary its color) and tag it; `check --deep` finds images that are "
                "fully opaque anyway"
            )
        yield RuleHit(where, message, or_in_copy(fix), file=clear[0].name)


FittedImage = tuple[ImageFacts, BucketFit]


def _iter_fitted_images(
    situation: RuleContext, measure: Callable[[BucketFit], float], most: float
) -> Iterator[tuple[KeyPath, FolderFacts, list[FittedImage]]]:
    """The folders with images that are above ``most`` on their way into their bucket, and those images, the worst
    first; of several resolutions the worst for each image counts."""
    plan = situation.plan
    fits: dict[tuple[FolderTable, int], list[SubsetFits]] = {}
    for part, each in zip(plan.subsets, plan.fits, strict=False) if plan else ():
        fits.setdefault((part.table, part.index), []).append(each)
    for (table, index), several in sorted(fits.items()):
        judged = {id(fit): measure(fit) for fit in {id(one): one for each in several for one in each}.values() if fit}
        if any(value > most for value in judged.values()):
            folder = situation.dataset.get_folder(table, index)
            worst = [
                max((fit for fit in those if fit is not None), key=lambda fit: judged[id(fit)], default=None)
                for those in zip(*several, strict=True)
            ]
            pairs = zip(folder.images, worst, strict=True)
            wrong = [(image, fit) for image, fit in pairs if fit is not None and judged[id(fit)] > most]
            yield (table, index, "images"), folder, sorted(wrong, key=lambda pair: -judged[id(pair[1])])


@rule(
    "G2.16",
    WARNING,
    "sd-scripts enlarges images below the training resolution with a plain filter that adds no detail.",
    unless="bucket_no_upscale",
    needs_plan=True,
)
def upscaled_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder, small in _iter_fitted_images(situation, lambda fit: fit.scale, MAX_UPSCALE):
        names = summarize_items(small, lambda pair: msg("{name} ({n:.1f}x)", name=pair[0].name, n=pair[1].scale))
        yield RuleHit(
            where,
            msg(
                "images smaller than the training resolution, which would be enlarged ({n} of {all}): {names}",
                n=len(small),
                all=len(folder.images),
                names=names,
            ),
            or_in_copy(
                msg("enlarge them with an AI upscaler, or replace them; tag any that you keep as low quality"),
                f"{PREPARE_COMMAND} --upscaler FILE",
            ),
            file=small[0][0].name,
        )


@rule(
    "G2.10",
    HINT,
    "An image is scaled to cover its bucket and cropped in the middle, wherever the subject is.",
    needs_plan=True,
)
def cropped_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder, cut in _iter_fitted_images(situation, lambda fit: fit.cropped_share, MAX_CROP_SHARE):
        names = summarize_items(
            cut, lambda pair: msg("{name} ({share:.0%})", name=pair[0].name, share=pair[1].cropped_share)
        )
        yield RuleHit(
            where,
            msg(
                "images that lose more than a fifth when cropped to their bucket ({n} of {all}): {names}",
                n=len(cut),
                all=len(folder.images),
                names=names,
            ),
            msg("crop to the subject yourself, or widen the bucket range with min_bucket_reso and max_bucket_reso"),
            file=cut[0][0].name,
        )


@rule(
    "S15.sizes",
    ERROR,
    "Without buckets and cached latents, sd-scripts requires every image to have the size of the resolution.",
    needs_plan=True,
)
def size_mismatch_without_buckets(situation: RuleContext) -> Iterator[RuleHit]:
    plan, cropped = situation.plan, situation.recipe.kohya.get("random_crop") is True
    if plan is None or plan.value("cache_latents") or plan.value("cache_latents_to_disk"):
        return
    for block in plan.datasets:
        if block.value("enable_bucket"):
            continue
        width, height = block.resolution
        for part in block.subsets:
            folder = situation.dataset.get_folder(part.table, part.index)
            wrong = [image for image in folder.images if not _has_required_size(image, width, height, larger=cropped)]
            if wrong:
                yield RuleHit(
                    (part.table, part.index, "images"),
                    msg(
                        "images that are not {width} x {height}: {names} ({n} of {all})",
                        n=len(wrong),
                        all=len(folder.images),
                        width=width,
                        height=height,
                        names=_summarize_image_names(wrong),
                    ),
                    msg("remove enable_bucket = false or cache_latents = false"),
                    file=wrong[0].name,
                )


def _has_required_size(image: ImageFacts, width: int, height: int, *, larger: bool) -> bool:
    """A random crop takes what is too large (TU:1622-1634), nothing enlarges what is too small."""
    if larger:
        return image.width >= width and image.height >= height
    return (image.width, image.height) == (width, height)


__all__: list[str] = []


def _name_with_problem(image: ImageFacts) -> Message:
    return msg("{name} ({problem})", name=image.name, problem=image.problem or "")
