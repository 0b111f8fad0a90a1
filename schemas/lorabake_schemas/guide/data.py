"""Rules about image folders, subsets and left-over files that sd-scripts would trip or pass over in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from posixpath import basename, normpath, splitext

from lorabake_schemas.caches import cache_suffix, missized, reused
from lorabake_schemas.dataset import FolderFacts, ImageFacts, repeat_folder
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule

SHOWN = 3  # file names named in one finding


def training(situation: Situation) -> Iterator[tuple[int, FolderFacts]]:
    """The folder of each concept, by the concept's index."""
    yield from enumerate(situation.dataset.concepts)


def folders(situation: Situation) -> Iterator[tuple[tuple[str | int, ...], FolderFacts]]:
    """Every folder, with the recipe key that names it."""
    for table, those in (
        ("concept", situation.dataset.concepts),
        ("regularisation", situation.dataset.regularisation),
    ):
        for index, folder in enumerate(those):
            yield (table, index, "images"), folder


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@rule("G4.9", ERROR, "sd-scripts looks into exactly this folder; at the wrong level it finds nothing and exits 0.")
def folder_has_pictures(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.problem:
            yield Remark(
                where,
                f"the folder {folder.path} is {folder.problem}",
                "give the folder that holds the pictures, relative to the recipe",
            )
        elif not folder.images and folder.repeat_folders:
            yield Remark(
                where,
                f"{folder.path} is one level too high: the pictures are in {listed(folder.repeat_folders)}",
                f"write {_moved(folder.path, folder.repeat_folders[0])}, one [[concept]] for each such folder",
            )
        elif not folder.images and folder.subfolders:
            yield Remark(
                where,
                f"{folder.path} holds no picture itself; sd-scripts does not look into {listed(folder.subfolders)}",
                f'write images = "{folder.path}/{folder.subfolders[0]}"',
            )
        elif not folder.images and folder.ignored:
            yield Remark(
                where,
                f"sd-scripts reads none of the files in {folder.path}: {listed(folder.ignored)}",
                "convert them to PNG or JPEG with an ending in lower case",
            )
        elif not folder.images:
            yield Remark(where, f"{folder.path} holds no picture", "png, jpg, jpeg, webp and bmp are read")


def _moved(path: str, inner: str) -> str:
    """The two lines that take the place of a folder name of kohya's GUI."""
    repeats = repeat_folder(inner)
    return f'images = "{path}/{inner}"' + (f" and num_repeats = {repeats[0]}" if repeats else "")


@rule("G4.9.repeats", HINT, "Repeats in a folder's name are for kohya's GUI; a dataset file does not read them.")
def repeats_are_written(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    given = [part.num_repeats for part in recipe.concept] + [part.num_repeats for part in recipe.regularisation]
    for (where, folder), repeats in zip(folders(situation), given, strict=True):
        found = repeat_folder(basename(normpath(folder.path)))
        if found and found[0] > 1 and found[1] and repeats is None:
            yield Remark(
                where,
                f"the {found[0]}_ in front of {found[1]} repeats nothing here",
                f"add num_repeats = {found[0]} if it is meant (num_repeats = 1 says that it is not)",
            )


@rule("G2.2", ERROR, "A picture that cannot be opened stops sd-scripts, often hours into the run.")
def pictures_open(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        broken = [image for image in folder.images if image.problem]
        if broken:
            yield Remark(
                where,
                f"{len(broken)} of {len(folder.images)} cannot be read: "
                f"{listed([f'{image.name} ({image.problem})' for image in broken])}",
                "replace or remove them",
                file=broken[0].name,
            )


@rule("G2.3", WARNING, "Files with these endings are skipped in silence.")
def no_picture_is_skipped(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.images and folder.ignored:
            yield Remark(
                where,
                f"sd-scripts skips {len(folder.ignored)} files: {listed(folder.ignored)}",
                "convert them to PNG or JPEG with an ending in lower case, or move them away",
            )


@rule("S14", ERROR, "sd-scripts drops the second use of a folder with no more than a warning.")
def folders_differ(situation: Situation) -> Iterator[Remark]:
    seen: dict[str, str] = {}
    for where, folder in folders(situation):
        here, path = f"{where[0]}[{where[1]}]", normpath(folder.path)  # compiled, ./a and a are one
        if path in seen:
            yield Remark(
                where,
                f"{folder.path} is already the folder of {seen[path]}",
                "give every concept and every regularisation set its own folder",
            )
        seen.setdefault(path, here)


@rule(
    "S19",
    ERROR,
    "sd-scripts compares a left-over latent cache with nothing: not with the picture, the size or the VAE.",
    unless="latents that are not cached on disk, where such a file can only change a picture's size: a warning",
)
def no_old_latents(situation: Situation) -> Iterator[Remark]:
    suffix, on_disk = cache_suffix(situation.family), situation.recipe.train.cache_latents_to_disk
    for where, folder in folders(situation):
        old, wrong = reused(folder, suffix) if on_disk else (), missized(folder, suffix)
        if old:
            yield Remark(
                where,
                f"{len(old)} old latent caches would be trained on, whatever the pictures are now: {listed(old)}",
                f"delete the .npz files in {folder.path}, or take cache_latents_to_disk out",
                file=old[0],
            )
        elif wrong:
            yield Remark(
                where,
                f"the names of left-over latent caches give {len(wrong)} pictures another size: {listed(wrong)}",
                f"delete the .npz files in {folder.path}",
                file=wrong[0],
                severity=WARNING,
            )


@rule(
    "S15.sizes",
    ERROR,
    "Without buckets and cached latents sd-scripts asserts that every picture has the size of the resolution.",
    needs_plan=True,
)
def sizes_fit_without_buckets(situation: Situation) -> Iterator[Remark]:
    plan, cropped = situation.plan, situation.recipe.kohya.get("random_crop") is True
    if plan is None or plan.value("cache_latents") or plan.value("cache_latents_to_disk"):
        return
    data = {setting.option: setting.value for setting in plan.dataset}
    sides = data.get("resolution")
    width, height = (sides[0], sides[-1]) if isinstance(sides, tuple) else (sides, sides)
    if data.get("enable_bucket") or not isinstance(width, int) or not isinstance(height, int):
        return
    for where, folder in folders(situation):
        wrong = [image.name for image in folder.images if not _fits(image, width, height, larger=cropped)]
        if wrong:
            yield Remark(
                where,
                f"{len(wrong)} of {len(folder.images)} pictures are not {width} x {height}: {listed(wrong)}",
                "take enable_bucket = false or cache_latents = false out",
                file=wrong[0],
            )


def _fits(image: ImageFacts, width: int, height: int, *, larger: bool) -> bool:
    """A random crop takes what is too large (TU:1622-1634), nothing enlarges what is too small."""
    if larger:
        return image.width >= width and image.height >= height
    return (image.width, image.height) == (width, height)


@rule(
    "S12.stem",
    WARNING,
    "Pictures of one stem share a caption file, and on disk a latent cache.",
    unless="latents are cached on disk: then it is an error",
)
def stems_differ(situation: Situation) -> Iterator[Remark]:
    on_disk = situation.recipe.train.cache_latents_to_disk
    for where, folder in folders(situation):
        stems = Counter(splitext(image.name)[0] for image in folder.images)
        twins = [image.name for image in folder.images if stems[splitext(image.name)[0]] > 1]
        if twins:
            shared = "a caption and a latent cache" if on_disk else "a caption"
            yield Remark(
                where,
                f"{len(twins)} pictures differ only in their ending and share {shared}: {listed(twins)}",
                "rename them, each with a caption of its own",
                file=twins[0],
                severity=ERROR if on_disk else None,
            )


@rule(
    "G6.8",
    ERROR,
    "Two concepts with one token are one concept to the model.",
    unless="outfits of one character, told apart by outfit",
)
def tokens_differ(situation: Situation) -> Iterator[Remark]:
    keys = [(concept.token.casefold(), (concept.outfit or "").casefold()) for concept in situation.recipe.concept]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield Remark(
                ("concept", index, "token"),
                f'the token "{situation.recipe.concept[index].token}" is taken',
                "give each concept its own token, or outfits of one character an outfit each",
            )


@rule("G2.19", ERROR, "Mirroring an asymmetric subject teaches that its sides are interchangeable.")
def no_flip_when_asymmetric(situation: Situation) -> Iterator[Remark]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.flip_aug and concept.asymmetric:
            yield Remark(("concept", index, "flip_aug"), "flip_aug with asymmetric = true", "take one of the two out")


@rule("G35.6", ERROR, "A regularisation set that holds the subject trains against it.")
def regularisation_is_other(situation: Situation) -> Iterator[Remark]:
    tokens = {concept.token.casefold() for concept in situation.recipe.concept}
    for index, part in enumerate(situation.recipe.regularisation):
        if part.class_.casefold() in tokens:
            yield Remark(
                ("regularisation", index, "class"),
                f'"{part.class_}" is what is being trained',
                "write the class token here: the general word for it",
            )


@rule(
    "G35.7",
    HINT,
    "sd-scripts uses as many regularisation samples as training samples, the first in name order.",
    needs_plan=True,
)
def regularisation_is_used(situation: Situation) -> Iterator[Remark]:
    shares = [share for share in situation.plan.forecast.shares if share.is_reg] if situation.plan else []
    for index, share in enumerate(shares):
        if share.images_used is not None and share.images_used < share.images:
            yield Remark(
                ("regularisation", index, "images"),
                f"only the first {share.images_used} of {share.images} pictures will be used",
                "fine if that is meant; else raise the concepts' num_repeats",
            )


@rule("G1.2", WARNING, "Too few pictures leave a LoRA nothing to generalise from.", unless="G1.3, G1.5: fewer can work")
def there_are_enough_pictures(situation: Situation) -> Iterator[Remark]:
    least, good = (12, 20) if situation.family == "sdxl" else (15, 30)
    count = sum(len(folder.images) for folder in situation.dataset.concepts)
    if 0 < count < least:
        yield Remark(("concept", 0, "images"), f"{count} pictures; the guide wants at least {least}", f"aim at {good}")
    elif least <= count < good:
        yield Remark(
            ("concept", 0, "images"),
            f"{count} pictures; the guide recommends about {good}",
            "more variety helps",
            severity=HINT,
        )


@rule("G6.16", WARNING, "A concept with few pictures is repeated so often that it over-trains on its own.")
def concepts_are_balanced(situation: Situation) -> Iterator[Remark]:
    counts = [len(folder.images) for folder in situation.dataset.concepts]
    for index, count in enumerate(counts):
        if count and max(counts) > 3 * count:
            yield Remark(
                ("concept", index, "images"),
                f"{count} pictures beside {max(counts)} of the largest concept",
                "add pictures: over three times the repeats tends to over-train",
            )


__all__ = ["folders", "listed", "training"]
