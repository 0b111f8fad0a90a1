"""Rules about the language of tags: implications, the vocabulary of the base model's board, Portuguese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from lorabake_schemas.families.known_models import find_known_boards
from lorabake_schemas.guide.caption_settings import is_natural, list_tag_styles
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import get_caption_names, iter_concept_folders, summarize_names
from lorabake_schemas.guide.rules.tag_counts import (
    get_concept_tags,
    get_images_key,
    iter_tagged_folders,
    summarize_tags,
)
from lorabake_schemas.guide.tags import FolderTags, is_portuguese_sentence, is_sentence
from lorabake_schemas.guide.vocabulary import (
    Board,
    find_implied_tags,
    has_portuguese_letters,
    is_artist,
    load_vocabulary,
    translate_tag,
)
from lorabake_schemas.messages import Message, msg

BOARDS: tuple[Board, Board] = ("e621", "danbooru")
OTHER_BOARD: dict[Board, Board] = {"e621": "danbooru", "danbooru": "e621"}


@rule(
    "G3.21",
    WARNING,
    "A tag next to one that includes it splits the learning between them.",
    unless="one of them is the token, the outfit or the class; in fewer than a tenth of the captions a hint",
)
def redundant_tags(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        pairs, pictures = _find_redundant_pairs(folder, own)
        if pairs:
            shown = [
                msg(
                    '"{general}" next to "{special}"',
                    general=folder.get_spelling(general),
                    special=folder.get_spelling(tag),
                )
                for tag, general in pairs
            ]
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions with redundant tags: {pairs} ({n} of {all})",
                    n=pictures,
                    all=len(folder),
                    pairs=summarize_names(shown),
                ),
                msg(
                    "keep the specific tag and remove the general one: {tags}",
                    tags=summarize_tags(folder, dict.fromkeys(general for _, general in pairs)),
                ),
                severity=None if 10 * pictures >= len(folder) else HINT,
            )


def _find_redundant_pairs(folder: FolderTags, own: frozenset[str]) -> tuple[list[tuple[str, str]], int]:
    """Special and general tags on one image, the most frequent pairs first; and the number of images with any of
    them.
    """
    present = folder.counts.keys() - own
    contained = {tag: found for tag in present if (found := find_implied_tags(tag) & present)}
    counts: Counter[tuple[str, str]] = Counter()
    pictures = 0
    for _, tags in folder.iter_images_with(contained.keys()):
        here = [(tag, each) for tag in tags if tag in contained for each in contained[tag].intersection(tags)]
        counts.update(here)
        pictures += bool(here)
    return sorted(counts, key=lambda pair: (-counts[pair], pair)), pictures


@rule(
    "G3.6",
    WARNING,
    "The base model reads tags that it was not trained on as mere letters (GC.4, GC.6).",
    unless="token and outfit, which are to be learned, and the class",
)
def wrong_board_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder, board, strange, ours in _iter_foreign_tags(situation):
        if _count_images(folder, strange) > _count_images(folder, ours):
            yield RuleHit(
                get_images_key(index),
                msg(
                    'base.tags is "{board}", but {n} of {all} captions contain {other} tags: {tags}',
                    n=_count_images(folder, strange),
                    board=board,
                    all=len(folder),
                    other=OTHER_BOARD[board],
                    tags=summarize_tags(folder, _sort_by_count(folder, strange)),
                ),
                _suggest_translations(folder, strange, board)
                or msg(
                    'write tags = "{other}" under [base], or use {board} tags',
                    other=OTHER_BOARD[board],
                    board=board,
                ),
            )


@rule("GC.27", HINT, "Taggers translate tags of one board into those of another, and a model knows only one of them.")
def mixed_board_tags(situation: RuleContext) -> Iterator[RuleHit]:
    if len(_list_boards(situation)) > 1:
        return
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        words = folder.counts.keys() - own
        found = {board: load_vocabulary(board).select_tags(words) for board in BOARDS}
        e621, danbooru = (_count_images(folder, found[board]) for board in BOARDS)
        board = _get_board(situation) or ("e621" if e621 >= danbooru else "danbooru")
        strange = found[OTHER_BOARD[board]]
        mine, others = (e621, danbooru) if board == "e621" else (danbooru, e621)
        if 10 * others >= len(folder) and mine >= others:
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions mix {board} tags ({mine} captions) with {other} tags ({others} captions): {tags}",
                    mine=mine,
                    board=board,
                    others=others,
                    other=OTHER_BOARD[board],
                    tags=summarize_tags(folder, _sort_by_count(folder, strange)),
                ),
                _suggest_translations(folder, strange, board)
                or msg("use the tags of the board that the base model knows, and set tags under [base] to that board"),
            )


@rule("G36.1", HINT, "What one board calls side view is from side on the other.")
def untranslated_board_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder, board, strange, ours in _iter_foreign_tags(situation):
        few = 10 * min(_count_images(folder, strange), _count_images(folder, ours)) < len(folder)
        better = _suggest_translations(folder, strange, board)
        if few and better and _count_images(folder, strange) <= _count_images(folder, ours):
            yield RuleHit(
                get_images_key(index),
                msg(
                    'base.tags is "{board}", but captions contain {other} tags: {tags}',
                    tags=summarize_tags(folder, _sort_by_count(folder, strange)),
                    other=OTHER_BOARD[board],
                    board=board,
                ),
                better,
            )


def _get_board(situation: RuleContext) -> Board | None:
    boards = _list_boards(situation)
    return boards[0] if len(boards) == 1 else None


def _list_boards(situation: RuleContext) -> tuple[Board, ...]:
    """Those of the recipe, else those of a model with a well-known name that knows several."""
    base = situation.recipe.base
    return tuple(board for board in BOARDS if board in (list_tag_styles(base) or find_known_boards(base.model)))


def _iter_foreign_tags(
    situation: RuleContext,
) -> Iterator[tuple[int, FolderTags, Board, frozenset[str], frozenset[str]]]:
    """Per concept the tags of the other board and those of the model's own; only concepts with foreign ones."""
    board, own = _get_board(situation), get_concept_tags(situation)
    if board is None:
        return
    for index, folder in iter_tagged_folders(situation):
        words = folder.counts.keys() - own
        strange = load_vocabulary(OTHER_BOARD[board]).select_tags(words)
        if strange:
            yield index, folder, board, strange, load_vocabulary(board).select_tags(words)


def _count_images(folder: FolderTags, words: frozenset[str]) -> int:
    return sum(1 for _ in folder.iter_images_with(words))


def _sort_by_count(folder: FolderTags, words: Iterable[str]) -> list[str]:
    return sorted(words, key=lambda tag: (-folder.counts[tag], tag))


def _suggest_translations(folder: FolderTags, strange: frozenset[str], board: Board) -> Message | None:
    """What to write instead on this board, for the first few that it has a word for."""
    known = load_vocabulary(OTHER_BOARD[board]).elsewhere
    parts = [
        msg('"{better}" instead of "{tag}"', better=known[tag], tag=folder.get_spelling(tag))
        for tag in _sort_by_count(folder, strange)
        if tag in known
    ]
    wordless = [tag for tag in _sort_by_count(folder, strange) if tag not in known]
    if parts and wordless:
        left = summarize_tags(folder, wordless)
        return msg("write {translations}, and remove {tags}", translations=summarize_names(parts), tags=left)
    return msg("write {translations}", translations=summarize_names(parts)) if parts else None


@rule(
    "G3.6.portuguese",
    WARNING,
    "Image boards use English tags, and CLIP was trained on English: tags in other languages mean little to a model.",
    unless="token and outfit, which are to be learned",
)
def portuguese_tags(situation: RuleContext) -> Iterator[RuleHit]:
    learned = get_concept_tags(situation, "token", "outfit")
    for index, folder in iter_tagged_folders(situation):
        meant = {tag: better for tag in folder.counts if tag not in learned and (better := translate_tag(tag))}
        if meant:
            tags = _sort_by_count(folder, meant)
            parts = [
                msg('"{english}" instead of "{tag}"', english=meant[tag], tag=folder.get_spelling(tag)) for tag in tags
            ]
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions with Portuguese tags: {tags} ({n} of {all})",
                    n=_count_images(folder, frozenset(meant)),
                    all=len(folder),
                    tags=summarize_tags(folder, tags),
                ),
                msg("write {translations}", translations=summarize_names(parts)),
            )


@rule(
    "G3.6.accents",
    HINT,
    "Tags with ã, ç or é are rarely English, and CLIP splits them into letters.",
    unless="token, outfit and class; artists; English words such as pok\u00e9mon or fianc\u00e9",
)
def accented_tags(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        doubtful = frozenset(tag for tag in folder.counts.keys() - own if _is_probably_portuguese(tag))
        if doubtful:
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions with tags that look Portuguese: {tags} ({n} of {all})",
                    n=_count_images(folder, doubtful),
                    all=len(folder),
                    tags=summarize_tags(folder, _sort_by_count(folder, doubtful)),
                ),
                msg("write tags in English; names can stay"),
            )


@rule(
    "G3.6.sentences",
    HINT,
    "The text encoders were trained on English; sentences in another language say less to them.",
    unless="less than half of the captions",
)
def portuguese_sentences(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_concept_folders(situation):
        if not is_natural(recipe.concept[index], recipe):
            continue
        found = [image for image in folder.images if any(map(is_portuguese_sentence, image.caption.texts))]
        if found and 2 * len(found) > len(folder.images):
            names = get_caption_names(folder, found)
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions in Portuguese: {names} ({n} of {all})",
                    n=len(found),
                    all=len(folder.images),
                    names=summarize_names(names),
                ),
                msg("ignore this if prompts will be in Portuguese, too; else write the captions in English"),
                file=names[0],
            )


def _is_probably_portuguese(tag: str) -> bool:
    return has_portuguese_letters(tag) and not translate_tag(tag) and not is_artist(tag) and not is_sentence(tag)


__all__: list[str] = []
