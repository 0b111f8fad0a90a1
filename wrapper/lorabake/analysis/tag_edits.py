"""Edits of tags as a person gives them: ``--add TAG[@POSITION]``, ``--rename OLD=NEW``, and the images they are for."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from lorabake.analysis.tag_counts import TagTable, match_tags, select_concepts, suggest_tags
from lorabake.errors import UnknownNameError
from lorabake.inputs.caption_lines import TagEdit
from lorabake_schemas.guide.tags import TAG_SEPARATOR, normalize_tag
from lorabake_schemas.messages import INVISIBLE_CHARACTERS, Message, join_list, msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.tag_report import EditKind

_POSITION = re.compile(r"(.*\S)@([1-9][0-9]{0,3})", re.DOTALL)
_INVISIBLE = re.compile(f"[{INVISIBLE_CHARACTERS}]")


def find_edit_problem(kind: EditKind, given: str) -> Message | None:
    """Why the value of an option is not an edit."""
    if _INVISIBLE.search(given):
        return msg("{given} contains characters that nobody sees", given=given)
    if not given.strip(" ,"):
        return msg("the tag is missing")
    if kind != "rename":
        return None
    if not _list_renames(given):
        return msg("{given} is not OLD=NEW, such as hair_long=long hair", given=given)
    if all("*" in new for _, new in _list_renames(given)):
        return msg("{given}: * has no meaning in a new tag", given=given)
    return None


def make_edit(kind: EditKind, given: str, known: Collection[str]) -> TagEdit:
    """An edit from an option's value without a problem; ``known`` are the tags of the captions."""
    match kind:
        case "add":
            found = _POSITION.fullmatch(given)
            text, place = (found[1], int(found[2])) if found else (given, None)
            return TagEdit(kind, given, lambda _: False, text.strip(), place)
        case "rename":
            splits = _list_renames(given)
            old, new = next((split for split in splits if normalize_tag(split[0]) in known), splits[0])
            return TagEdit(kind, given, match_tags(old, known), new)
        case _:
            return TagEdit(kind, given, match_tags(given, known))


def _list_renames(given: str) -> list[tuple[str, str]]:
    """Each way to read OLD=NEW: tags such as =_= have the sign, too."""
    at = [found.start() for found in re.finditer("=", given)]
    pairs = ((given[:place].strip(), given[place + 1 :].strip()) for place in at)
    return [(old, new) for old, new in pairs if old and new.strip(" ,")]


def explain_edit(edit: TagEdit, captions: int, affixes: Collection[str], table: TagTable) -> Message | None:
    """Why an edit leaves captions as they are: ``affixes`` are the tags that the recipe puts around them, ``captions``
    is how many change."""
    if edit.kind == "add":
        added = (normalize_tag(tag) for tag in edit.text.split(TAG_SEPARATOR))
        return msg("caption_prefix or caption_suffix adds it already") if any(tag in affixes for tag in added) else None
    if captions:
        return None
    if any(map(edit.matches, affixes)):
        return msg("it is in caption_prefix or caption_suffix of the recipe, not in the captions")
    if any(map(edit.matches, table.spellings)):
        return msg("it is in front already") if edit.kind == "front" else None
    if not table.spellings and any(image.is_sentence for image in table.images):
        return msg("the captions are sentences, which are not edited")
    given = _list_renames(edit.given)[0][0] if edit.kind == "rename" else edit.given
    found = [msg("no caption has this tag"), suggest_tags(given, table)]
    return join_list([said for said in found if said is not None], "; ")


def select_images(
    recipe: Recipe, table: TagTable, concept: str | None, where: Sequence[str]
) -> Callable[[int, str], bool]:
    """Whether an image is of the concept and has every tag of ``where``, by its concept's index and its name.

    Raises UnknownNameError for a concept that does not exist, and for a tag that no caption has.
    """
    chosen = select_concepts(recipe, concept)
    if not where:
        return lambda number, _name: number in chosen
    found = {(image.concept, image.name): image.tags for image in table.images if image.concept in chosen}
    for pattern in where:
        is_meant = match_tags(pattern, table.spellings)
        found = {key: tags for key, tags in found.items() if any(map(is_meant, tags))}
        if not any(map(is_meant, table.spellings)):
            raise UnknownNameError(
                msg('no caption has the tag "{tag}"', tag=pattern), hint=suggest_tags(pattern, table)
            )
    return lambda number, name: (number, name) in found
