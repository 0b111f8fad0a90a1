"""Rules about the language of tags: what implies what, the words of the base model's board, Portuguese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from lorabake_schemas.glossary import Board, english, implied, is_artist, looks_portuguese, vocabulary
from lorabake_schemas.guide.data import SHOWN
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.guide.tags import images_of, named, own_words, tagged
from lorabake_schemas.tags import FolderTags, is_sentence
from lorabake_schemas.words import Said, joined, say, told

BOARDS: tuple[Board, Board] = ("e621", "danbooru")
OTHER: dict[Board, Board] = {"e621": "danbooru", "danbooru": "e621"}


@rule(
    "G3.21",
    WARNING,
    "A tag beside one that it contains splits the learning between them.",
    unless="one of them is the token, the outfit or the class; in fewer than a tenth of the captions a hint",
)
def tags_do_not_imply_each_other(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        pairs, pictures = _implied_pairs(folder, own)
        if pairs:
            shown = [
                say(
                    '"{general}" beside "{special}"', general=folder.as_written(general), special=folder.as_written(tag)
                )
                for tag, general in pairs
            ]
            yield Remark(
                images_of(index),
                told(
                    pictures,
                    "{n} of {all} captions says things twice: {pairs}",
                    "{n} of {all} captions say things twice: {pairs}",
                    all=len(folder),
                    pairs=_first(shown),
                ),
                say(
                    "keep the special tag and take the general one out: {tags}",
                    tags=named(folder, dict.fromkeys(general for _, general in pairs)),
                ),
                severity=None if 10 * pictures >= len(folder) else HINT,
            )


def _implied_pairs(folder: FolderTags, own: frozenset[str]) -> tuple[list[tuple[str, str]], int]:
    """Special and general tags on one picture, the most frequent pairs first; and on how many pictures any stands."""
    present = folder.counts.keys() - own
    contained = {tag: found for tag in present if (found := implied(tag) & present)}
    counts: Counter[tuple[str, str]] = Counter()
    pictures = 0
    for _, tags in folder.holding(contained.keys()):
        here = [(tag, each) for tag in tags if tag in contained for each in contained[tag].intersection(tags)]
        counts.update(here)
        pictures += bool(here)
    return sorted(counts, key=lambda pair: (-counts[pair], pair)), pictures


def _first(parts: Sequence[str]) -> Said:
    """The first few, in words that can be translated."""
    more = len(parts) - SHOWN
    shown = joined(parts[:SHOWN])
    return say("{shown} and {more} more", shown=shown, more=more) if more > 0 else shown


@rule(
    "G3.6",
    WARNING,
    "Words that the base model did not grow up with are mere letters to it (GC.4, GC.6).",
    unless="token and outfit, which are to be learned, and the class",
)
def words_are_the_models(situation: Situation) -> Iterator[Remark]:
    for index, folder, board, strange, ours in _against_the_board(situation):
        if _pictures(folder, strange) > _pictures(folder, ours):
            yield Remark(
                images_of(index),
                told(
                    _pictures(folder, strange),
                    'base.tags is "{board}", and {n} of {all} captions has words of {other}: {tags}',
                    'base.tags is "{board}", and {n} of {all} captions have words of {other}: {tags}',
                    board=board,
                    all=len(folder),
                    other=OTHER[board],
                    tags=named(folder, _most(folder, strange)),
                ),
                _translations(folder, strange, board)
                or say(
                    'write tags = "{other}" under [base], or use the words of {board}', other=OTHER[board], board=board
                ),
            )


@rule("GC.27", HINT, "Taggers turn words of one board into those of another, and a model knows those of one only.")
def words_are_of_one_board(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        words = folder.counts.keys() - own
        found = {board: vocabulary(board).among(words) for board in BOARDS}
        e621, danbooru = (_pictures(folder, found[board]) for board in BOARDS)
        board = _board(situation) or ("e621" if e621 >= danbooru else "danbooru")
        strange = found[OTHER[board]]
        mine, others = (e621, danbooru) if board == "e621" else (danbooru, e621)
        if 10 * others >= len(folder) and mine >= others:
            yield Remark(
                images_of(index),
                say(
                    "words of two boards: of {board} in captions: {mine}, of {other}: {others}, such as {tags}",
                    mine=mine,
                    board=board,
                    others=others,
                    other=OTHER[board],
                    tags=named(folder, _most(folder, strange)),
                ),
                _translations(folder, strange, board)
                or say("use the words of the board that the base model knows, and name it with tags under [base]"),
            )


@rule("G36.1", HINT, "What one board calls side view is from side on the other.")
def strange_words_are_translated(situation: Situation) -> Iterator[Remark]:
    for index, folder, board, strange, ours in _against_the_board(situation):
        few = 10 * min(_pictures(folder, strange), _pictures(folder, ours)) < len(folder)
        better = _translations(folder, strange, board)
        if few and better and _pictures(folder, strange) <= _pictures(folder, ours):
            yield Remark(
                images_of(index),
                told(
                    len(strange),
                    "{tags}: a word of {other}, and base.tags is {board}",
                    "{tags}: words of {other}, and base.tags is {board}",
                    tags=named(folder, _most(folder, strange)),
                    other=OTHER[board],
                    board=board,
                ),
                better,
            )


def _board(situation: Situation) -> Board | None:
    said = situation.recipe.base.tags
    return said if said in ("e621", "danbooru") else None


def _against_the_board(
    situation: Situation,
) -> Iterator[tuple[int, FolderTags, Board, frozenset[str], frozenset[str]]]:
    """Per concept the words of the other board and those of the model's own; only where there are strange ones."""
    board, own = _board(situation), own_words(situation)
    if board is None:
        return
    for index, folder in tagged(situation):
        words = folder.counts.keys() - own
        strange = vocabulary(OTHER[board]).among(words)
        if strange:
            yield index, folder, board, strange, vocabulary(board).among(words)


def _pictures(folder: FolderTags, words: frozenset[str]) -> int:
    return sum(1 for _ in folder.holding(words))


def _most(folder: FolderTags, words: Iterable[str]) -> list[str]:
    return sorted(words, key=lambda tag: (-folder.counts[tag], tag))


def _translations(folder: FolderTags, strange: frozenset[str], board: Board) -> Said | None:
    """What to write instead on this board, for the first few that it has a word for."""
    known = vocabulary(OTHER[board]).elsewhere
    parts = [
        say('"{better}" for "{tag}"', better=known[tag], tag=folder.as_written(tag))
        for tag in _most(folder, strange)
        if tag in known
    ]
    wordless = [tag for tag in _most(folder, strange) if tag not in known]
    if parts and wordless:
        left = named(folder, wordless)
        return say("write {translations}, and leave out {tags}", translations=_first(parts), tags=left)
    return say("write {translations}", translations=_first(parts)) if parts else None


@rule(
    "G3.6.portuguese",
    WARNING,
    "Image boards are tagged in English, and CLIP was trained on English: other words mean little to a model.",
    unless="token and outfit, which are to be learned",
)
def tags_are_english(situation: Situation) -> Iterator[Remark]:
    learned = own_words(situation, "token", "outfit")
    for index, folder in tagged(situation):
        meant = {tag: better for tag in folder.counts if tag not in learned and (better := english(tag))}
        if meant:
            tags = _most(folder, meant)
            parts = [say('"{english}" for "{tag}"', english=meant[tag], tag=folder.as_written(tag)) for tag in tags]
            yield Remark(
                images_of(index),
                told(
                    _pictures(folder, frozenset(meant)),
                    "{n} of {all} captions has Portuguese tags: {tags}",
                    "{n} of {all} captions have Portuguese tags: {tags}",
                    all=len(folder),
                    tags=named(folder, tags),
                ),
                say("write {translations}", translations=_first(parts)),
            )


@rule(
    "G3.6.accents",
    HINT,
    "Words with \u00e3, \u00e7 or \u00e9 are seldom English, and CLIP makes letters of them.",
    unless="token, outfit and class; artists; English words such as pok\u00e9mon or fianc\u00e9",
)
def tags_have_english_letters(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        doubtful = frozenset(tag for tag in folder.counts.keys() - own if _is_doubtful(tag))
        if doubtful:
            yield Remark(
                images_of(index),
                told(
                    _pictures(folder, doubtful),
                    "{n} of {all} captions has words that look Portuguese: {tags}",
                    "{n} of {all} captions have words that look Portuguese: {tags}",
                    all=len(folder),
                    tags=named(folder, _most(folder, doubtful)),
                ),
                say("write English tags; a name may stay"),
            )


def _is_doubtful(tag: str) -> bool:
    return looks_portuguese(tag) and not english(tag) and not is_artist(tag) and not is_sentence(tag)


__all__: list[str] = []
