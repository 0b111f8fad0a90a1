"""Rules about caption files: whether they exist, are the right ones, can be read, and are not too long."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.dataset import CaptionProblem, FolderFacts, ImageFacts, MetadataOffer
from lorabake_schemas.guide.caption_settings import resolve_caption_extension
from lorabake_schemas.guide.defaults import format_bare_prompt, resolve_token_limit
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.caption_faults import describe_caption_problem
from lorabake_schemas.guide.rules.dataset import (
    get_caption_name,
    get_caption_names,
    iter_concept_folders,
    iter_folders,
    or_in_copied_captions,
    summarize_names,
)
from lorabake_schemas.messages import Message, msg, nmsg

# What `lorabake prepare` repairs in a copy. A caption without text has to be written, and of another encoding only some
# texts can be read.
PREPARED_PROBLEMS = frozenset(
    {CaptionProblem.EMPTY, CaptionProblem.BOM, CaptionProblem.BLANK, CaptionProblem.MORE_LINES}
)
MAX_TOKEN_LIMIT = 225  # tokens: the highest limit that sd-scripts accepts (TU:3902)


@rule(
    "G3.3",
    WARNING,
    "Without captions every image trains on token and class alone, or on no text at all; sd-scripts only warns.",
    unless='captions = "none" in the concept; regularization, which needs no captions; captions whose name differs in '
    "capital letters (G3.3.other)",
)
def missing_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        concept = situation.recipe.concept[index]
        ending = folder.caption_extension
        images = folder.without_companions().images  # S49.beside
        missing = [image.name for image in images if image.caption.problem is CaptionProblem.MISSING]
        where = ("concept", index, "images")
        if concept.captions == "none" or folder.metadata:  # S50.empty
            continue
        prompt = _describe_bare_prompt(format_bare_prompt(concept, situation.recipe))
        if missing and len(missing) == len(images):
            yield RuleHit(
                where,
                msg(
                    "no image in {path} has a {ending} caption; {prompt}",
                    path=folder.path,
                    ending=ending,
                    prompt=prompt,
                ),
                _suggest_caption_fix(folder, several=len(situation.recipe.concept) > 1),
                severity=ERROR if folder.others or folder.miscased or _is_meant(folder.offer) else None,
            )
        elif lacking := _exclude_miscased(missing, folder.miscased, ending):
            yield RuleHit(
                where,
                msg(
                    "images without a caption: {names} ({n} of {all}); {prompt}",
                    n=len(lacking),
                    all=len(images),
                    names=summarize_names(lacking),
                    prompt=prompt,
                ),
                msg("write their captions too"),
                file=lacking[0],
            )


def _is_meant(offer: MetadataOffer | None) -> bool:
    """Whether a file is there for nothing but the captions."""
    return offer is not None and not offer.foreign


def _describe_bare_prompt(prompt: str) -> Message:
    if not prompt:
        return msg("they would be trained without any text")
    return msg('they would be trained with the prompt "{prompt}"', prompt=prompt)


@rule(
    "G3.3.none",
    WARNING,
    'captions = "none" trains on token and class, whatever caption files there are; without both on no text at all.',
)
def unused_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        concept = situation.recipe.concept[index]
        if concept.captions != "none":
            continue
        if not format_bare_prompt(concept, situation.recipe):
            fix = msg('remove captions = "none" and write captions, or write a caption_prefix')
            if not concept.token and not concept.class_ and not concept.masks:
                fix = msg('write token = "..." under this [[concept]], or remove captions = "none" and write captions')
            yield RuleHit(("concept", index, "captions"), msg("the images would be trained without any text"), fix)
        extension = resolve_caption_extension(concept.model_copy(update={"captions": None}), situation.recipe)
        unused = [name for name in folder.others if name.endswith(extension)]
        if unused:
            yield RuleHit(
                ("concept", index, "captions"),
                nmsg(
                    len(unused),
                    '{n} caption file is not read because of captions = "none": {names}',
                    '{n} caption files are not read because of captions = "none": {names}',
                    names=summarize_names(unused),
                ),
                msg('remove captions = "none" to use them, or move them elsewhere'),
                file=unused[0],
            )


def _exclude_miscased(missing: list[str], miscased: tuple[str, ...], ending: str) -> list[str]:
    """The images that have not even a caption with other capital letters."""
    known = {name[: -len(ending)].lower() for name in miscased}
    return [name for name in missing if name.rpartition(".")[0].lower() not in known]


def _suggest_caption_fix(folder: FolderFacts, *, several: bool) -> Message:
    """What to do when no image has a caption: captions with another extension may exist."""
    meant = msg('captions = "none" if none are intended')
    if folder.others:
        other = folder.others[0].rpartition(".")[2]
        if several:
            return msg(
                'write caption_extension = ".{other}" under this [[concept]] to use the .{other} files, or add {meant}',
                other=other,
                meant=meant,
            )
        return msg(
            'write caption_extension = ".{other}" under [captions] to use the .{other} files, or add {meant}',
            other=other,
            meant=meant,
        )
    if folder.offer:
        return _suggest_offer(folder.offer, folder.path, meant)
    if folder.miscased:
        return msg(
            "rename {names} (file names are case-sensitive), or add {meant}",
            names=summarize_names(folder.miscased),
            meant=meant,
        )
    return msg(
        "write one {ending} file per image by hand, run a tagger over them with `lorabake caption`, or add {meant}",
        ending=folder.caption_extension,
        meant=meant,
    )


def _suggest_offer(offer: MetadataOffer, images: str, meant: Message) -> Message:
    if offer.usable:
        return msg(
            'write metadata_file = "{path}" under this [[concept]] to use its captions, or add {meant}',
            path=offer.path,
            meant=meant,
        )
    if offer.foreign:
        return msg(
            "run `lorabake init {images}`, which makes a metadata_file of the captions in {path}, or add {meant}",
            path=offer.path,
            images=images,
            meant=meant,
        )
    return msg(
        "write the names in {path} with extension and relative to {images}, which then has the captions "
        "(metadata_file), or add {meant}",
        path=offer.path,
        images=images,
        meant=meant,
    )


@rule("G3.3.other", WARNING, "sd-scripts reads captions with one extension only, and upper and lower case count.")
def unread_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        ending = folder.caption_extension
        if all(image.caption.problem is CaptionProblem.MISSING for image in folder.images):
            continue  # G3.3 names them
        if folder.miscased:
            yield RuleHit(
                where,
                nmsg(
                    len(folder.miscased),
                    "{n} caption is not read because file names are case-sensitive: {names}",
                    "{n} captions are not read because file names are case-sensitive: {names}",
                    names=summarize_names(folder.miscased),
                ),
                or_in_copied_captions(
                    msg("name each caption exactly like its image, with the extension {ending}", ending=ending), folder
                ),
                file=folder.miscased[0],
            )
        if folder.others:
            yield RuleHit(
                where,
                nmsg(
                    len(folder.others),
                    "{n} caption with another extension is not read: {names}",
                    "{n} captions with another extension are not read: {names}",
                    names=summarize_names(folder.others),
                ),
                or_in_copied_captions(
                    nmsg(
                        len(folder.others),
                        "delete or move it, or set captions.caption_extension (now {ending})",
                        "delete or move them, or set captions.caption_extension (now {ending})",
                        ending=ending,
                    ),
                    folder,
                ),
                file=folder.others[0],
                severity=HINT,
            )


@rule("G3.3.orphans", HINT, "A caption without an image is never read; often one of the two was renamed.")
def orphan_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.images and folder.orphans:
            yield RuleHit(
                where,
                nmsg(
                    len(folder.orphans),
                    "{n} caption has no image: {names}",
                    "{n} captions have no image: {names}",
                    names=summarize_names(folder.orphans),
                ),
                or_in_copied_captions(
                    nmsg(
                        len(folder.orphans),
                        "rename it to match its image, or delete it",
                        "rename each to match its image, or delete it",
                    ),
                    folder,
                ),
                file=folder.orphans[0],
            )


@rule(
    "G35.4",
    WARNING,
    "A caption next to a regularization image replaces the class token.",
    unless="all of them have one",
)
def partial_regularization_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in enumerate(situation.dataset.regularization):
        those = [image for image in folder.images if image.caption.problem is not CaptionProblem.MISSING]
        own = get_caption_names(folder, those)
        if own and len(own) < len(folder.images):
            yield RuleHit(
                ("regularization", index, "images"),
                msg(
                    'regularization images with a caption, which replaces "{token}": {names} ({n} of {all})',
                    n=len(own),
                    all=len(folder.images),
                    token=situation.recipe.regularization[index].class_,
                    names=summarize_names(own),
                ),
                nmsg(
                    len(own),
                    "delete this caption, or write one for every image",
                    "delete these captions, or write one for every image",
                ),
                file=own[0],
            )


@rule("S12", ERROR, "sd-scripts stops on an empty or undecodable caption and ignores other faults silently.")
def faulty_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        found: dict[CaptionProblem, list[str]] = {}
        for image in folder.images:
            if image.caption.problem is not None:
                found.setdefault(image.caption.problem, []).append(get_caption_name(folder, image))
        for problem in CaptionProblem:
            if problem in found and problem is not CaptionProblem.MISSING:
                severity, message, fix = describe_caption_problem(problem, found[problem])
                if problem in PREPARED_PROBLEMS:
                    fix = or_in_copied_captions(fix, folder)
                yield RuleHit(where, message, fix, file=found[problem][0], severity=severity)


@rule(
    "S12.borrowed",
    WARNING,
    "For an image without a caption and with four underscores in its path, sd-scripts looks for a shorter name.",
)
def borrowed_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        taken = [(image.name, image.caption.borrowed_from) for image in folder.images if image.caption.borrowed_from]
        if taken:
            names = [
                msg("{name} uses {caption}", name=name, caption=path.replace("\\", "/").rpartition("/")[2])
                for name, path in taken
            ]
            yield RuleHit(
                where,
                nmsg(
                    len(taken),
                    "{n} image without a caption uses another file's caption because of underscores in its "
                    "path: {names}",
                    "{n} images without a caption use another file's caption because of underscores in their "
                    "paths: {names}",
                    names=summarize_names(names),
                ),
                nmsg(
                    len(taken),
                    "write a caption for it, or remove underscores from its name and folder",
                    "write captions for them, or remove underscores from their names and folders",
                ),
                file=taken[0][0],
            )


@rule(
    "G3.3.tokens",
    WARNING,
    "sd-scripts silently cuts a caption at the text encoder's limit; what follows is never learned.",
    unless="tags are shuffled, so a different part is cut each time",
)
def overlong_captions(situation: RuleContext) -> Iterator[RuleHit]:
    limit = resolve_token_limit(situation.recipe.train)
    for where, folder in iter_folders(situation):
        if folder.overlong:
            pictures, n = {image.name: image for image in folder.images}, len(folder.overlong)
            files = get_caption_names(folder, [pictures.get(one.name, ImageFacts(one.name)) for one in folder.overlong])
            names = [
                msg("{name} ({tokens})", name=name, tokens=one.tokens)
                for name, one in zip(files, folder.overlong, strict=True)
            ]
            fix = nmsg(n, "shorten it", "shorten them")
            if limit < MAX_TOKEN_LIMIT:
                fix = msg(
                    "{shorten}, or write max_token_length = {longest} under [train]",
                    shorten=fix,
                    longest=MAX_TOKEN_LIMIT,
                )
            yield RuleHit(
                where,
                nmsg(
                    n,
                    "{n} caption is longer than {limit} tokens (as CLIP counts), and the rest is cut off: {names}",
                    "{n} captions are longer than {limit} tokens (as CLIP counts), and the rest is cut off: {names}",
                    limit=limit,
                    names=summarize_names(names),
                ),
                fix,
                file=files[0],
            )


__all__: list[str] = []
