"""Rules about a metadata file that has the captions of a concept's images."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.dataset import CaptionProblem, MetadataFacts
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import iter_concept_folders, summarize_names
from lorabake_schemas.messages import Message, literal, msg


def _iter_metadata(situation: RuleContext) -> Iterator[tuple[int, tuple[str | int, ...], str, MetadataFacts]]:
    for index, folder in iter_concept_folders(situation):
        if folder.metadata is not None:
            path = situation.recipe.concept[index].metadata_file or ""
            yield index, ("concept", index, "metadata_file"), path, folder.metadata


@rule("S50", ERROR, "sd-scripts stops at a metadata file that it cannot read, or whose images do not exist.")
def unusable_metadata_file(situation: RuleContext) -> Iterator[RuleHit]:
    for index, where, path, found in _iter_metadata(situation):
        images = situation.recipe.concept[index].images
        if found.problem:
            said = msg("cannot use {path}: {problem}", path=path, problem=literal(found.problem))
            fix = msg("write a JSON file such as {example}", example=literal('{"a.png": {"caption": "..."}}'))
            yield RuleHit(where, said, fix)
        elif found.missing:
            said = msg(
                "{path} names images that do not exist: {names} ({n} of {all})",
                path=path,
                n=len(found.missing),
                all=found.count,
                names=summarize_names(found.missing),
            )
            yield RuleHit(where, said, _suggest_names(found, images), file=found.missing[0])
        if found.cached:
            said = msg(
                "sd-scripts would open a left-over latent cache instead of the image: {names} ({n})",
                n=len(found.cached),
                names=summarize_names(found.cached),
            )
            fix = msg("delete the .npz files next to them, or write the names relative to images")
            yield RuleHit(where, said, fix, file=found.cached[0])


def _suggest_names(found: MetadataFacts, images: str) -> Message:
    if 2 * found.stems > len(found.missing):
        return msg('write each name with its extension, such as "{name}.png"', name=found.missing[0])
    return msg("write each name as a path relative to {images}, or as an absolute path", images=images)


@rule("S50.sizes", WARNING, "sd-scripts believes image_size and sorts the image into the wrong bucket.")
def wrong_image_sizes(situation: RuleContext) -> Iterator[RuleHit]:
    for _, where, path, found in _iter_metadata(situation):
        if found.missized:
            said = msg(
                "{path} has another image_size than the file: {names} ({n} of {all})",
                path=path,
                n=len(found.missized),
                all=found.count,
                names=summarize_names(found.missized),
            )
            yield RuleHit(where, said, msg("correct image_size or remove it"), file=found.missized[0])


@rule("S50.unlisted", WARNING, "Images that the metadata file does not name are not trained.")
def unlisted_images(situation: RuleContext) -> Iterator[RuleHit]:
    for index, where, path, found in _iter_metadata(situation):
        if found.unlisted and not found.missing and not found.problem:
            said = msg(
                "images in {images} that {path} does not name, so they are not trained: {names} ({n})",
                images=situation.recipe.concept[index].images,
                path=path,
                n=len(found.unlisted),
                names=summarize_names(found.unlisted),
            )
            yield RuleHit(where, said, msg("add them to the file, or ignore this"), file=found.unlisted[0])


@rule("S50.empty", WARNING, "Without a caption in the metadata file an image is trained without any text.")
def images_without_text(situation: RuleContext) -> Iterator[RuleHit]:
    for index, where, path, found in _iter_metadata(situation):
        images = situation.dataset.concepts[index].images
        bare = [image.name for image in images if image.caption.problem is CaptionProblem.MISSING]
        if bare and not found.problem:
            said = msg(
                "images without a caption in {path}: {names} ({n} of {all})",
                path=path,
                n=len(bare),
                all=len(images),
                names=summarize_names(bare),
            )
            yield RuleHit(where, said, msg("write their captions too"), file=bare[0])
