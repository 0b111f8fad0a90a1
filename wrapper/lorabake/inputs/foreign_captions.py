"""Captions that exist in a form which sd-scripts does not read, or misreads: image.png.txt, a JSON file for each image,
a table of all images (metadata.csv, metadata.jsonl), a separate folder, one tag per line, tags without commas, a web
UI's generation parameters, comments, ai-toolkit's [trigger], UTF-16.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from lorabake.inputs.captions import caption_path, read_caption_lines
from lorabake.inputs.folders import CAPTION_EXTENSIONS, MAX_TEXT_BYTES, file_stem
from lorabake.inputs.metadata_file import OFFER_LIMIT, is_of_other_images
from lorabake.inputs.prepare.texts import decode_text
from lorabake.util.files import is_file, parse_json, read_bytes
from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionFacts, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide.tags import has_words

# Captions in other files, or such ones in the images' caption files.
CaptionForm = Literal["files", "lines", "spaces", "comments", "parameters", "placeholder", "encoding"]
PLACEHOLDER = "[trigger]"  # ai-toolkit puts the trigger word there
CAPTION_FOLDERS = frozenset({"caption", "captions", "txt", "text", "texts", "label", "labels", "tags", "prompts"})
TABLE_EXTENSIONS = (".jsonl", ".json", ".csv", ".tsv", ".txt")
NAME_KEYS = ("file_name", "filename", "image_path", "image_file", "image", "file", "path", "img", "name")
TEXT_KEYS = ("caption", "text", "prompt", "description")
TAG_KEYS = ("tag_string", "tags")
TAG_GROUPS = ("artist", "character", "copyright", "species", "general")  # e621's, but for those about the file
MAX_TABLES = 8  # that are opened to see whether they have captions
HALF = 0.5
MIN_TAGS = 3
MAX_TAG_WORDS, MEAN_TAG_WORDS = 5, 2.5
_NAMESPACE = re.compile(r"(character|creator|artist|series|copyright|species|general|person|studio):(?=\S)")
# Tags of downloaders about the file and not about what it shows.
_ABOUT_FILE = re.compile(r"(rating|system|meta|source|url|filename|title|page|chapter|volume|date|md5|id):(?=\S)")
_COMMENT = re.compile(r"^\s*(#|//)\s.*$", re.MULTILINE)
_PARAMETERS = re.compile(r"^(Negative prompt:|Steps: \d)", re.MULTILINE)
_PROMPT_SYNTAX = re.compile(r"<[^<>]*>|(?<!\\)[()\[\]]|:\s*\d*\.?\d+(?=\s*[)\]])|\bBREAK\b")
_UNREADABLE = frozenset({CaptionProblem.UNREADABLE, CaptionProblem.NOT_UTF8})
_BARE = frozenset({CaptionProblem.MISSING, CaptionProblem.EMPTY, CaptionProblem.SPACES, CaptionProblem.NO_WORDS})


@dataclass(frozen=True, slots=True)
class ForeignCaptions:
    """The captions by image name, as sd-scripts should get them; ``source`` names the files that they are in."""

    texts: Mapping[str, str]
    source: str
    form: CaptionForm = "files"


def find_foreign_captions(root: Path, facts: FolderFacts) -> ForeignCaptions | None:
    """Captions of at least half of the images in ``root``. Never raises for what is on the disk."""
    names = [image.name for image in facts.images]
    if not names:
        return None
    if any(image.caption.problem not in _BARE for image in facts.images):
        return _find_misread_captions(root, facts.images, facts.caption_extension)
    found = (each for each in _iter_sources(root, names) if sum(map(bool, each.texts.values())) >= HALF * len(names))
    return next(found, None)


def replace_captions(facts: FolderFacts, found: ForeignCaptions) -> FolderFacts:
    """The facts with these captions."""
    texts = [found.texts[image.name] for image in facts.images]
    captions = [CaptionFacts(text) if text else CaptionFacts(problem=CaptionProblem.MISSING) for text in texts]
    images = zip(facts.images, captions, strict=True)
    return replace(facts, images=tuple(image._replace(caption=caption) for image, caption in images))


def _find_misread_captions(root: Path, images: Sequence[ImageFacts], extension: str) -> ForeignCaptions | None:
    """What caption files have, if most have one tag per line, or tags between spaces, or what is no caption; and if
    every one can be read."""
    names = [image.name for image in images]
    texts = dict.fromkeys(names, "")
    texts |= {
        image.name: read_caption_lines(str(root / image.name), extension) or ""
        for image in images
        if image.caption.problem not in _BARE
    }
    wide = {name: text for name in names if not texts[name] and (text := _read_marked_text(root / name, extension))}
    written = [text for text in texts.values() if text]
    forms: tuple[tuple[CaptionForm, int], ...] = (
        ("lines", sum(map(_has_tag_lines, written))),
        ("spaces", sum(map(_has_spaced_tags, written))),
        ("comments", sum(bool(_COMMENT.search(text)) for text in written)),
        ("parameters", sum(bool(_PARAMETERS.search(text)) for text in written)),
        ("placeholder", sum(PLACEHOLDER in text for text in written)),
        ("encoding", len(wide)),
    )
    if any(image.caption.problem in _UNREADABLE and image.name not in wide for image in images):
        return None  # the check names them; without their captions these images would be trained as they are
    texts |= wide
    written += wide.values()
    form, count = max(forms, key=lambda each: each[1])
    if not written or count <= HALF * len(written):
        return None
    own = wide if form == "encoding" else {name for name, text in texts.items() if _HAS_FORM[form](text)}
    found = {name: _CLEANERS[form](text) if name in own else " ".join(text.split()) for name, text in texts.items()}
    return ForeignCaptions(found, f"*{extension}", form)


def _read_marked_text(image: Path, extension: str) -> str:
    """A caption whose byte order mark shows its encoding, such as UTF-16."""
    with suppress(OSError, ValueError):
        found = decode_text(read_bytes(caption_path(str(image), extension), MAX_TEXT_BYTES))
        return "" if "encoding-guessed" in found.steps else found.text
    return ""


def _read_prompt(text: str) -> str:
    """The prompt in a web UI's text file, without the syntax of prompts."""
    match = _PARAMETERS.search(text)
    prompt = " ".join(_PROMPT_SYNTAX.sub(" ", text[: match.start()] if match else text).split())
    return ", ".join(filter(None, map(str.strip, prompt.split(","))))


def _iter_sources(root: Path, names: Sequence[str]) -> Iterator[ForeignCaptions]:
    own, stems = _list_names(root), {name: file_stem(name) for name in names}
    for extension in (*CAPTION_EXTENSIONS, ".json"):
        yield ForeignCaptions(_read_files(root, own, {n: f"{n}{extension}" for n in names}), f"*.*{extension}")
    yield ForeignCaptions(_read_files(root, own, {name: f"{stems[name]}.json" for name in names}), "*.json")
    for place in (root, root.parent):
        for folder in sorted(_list_names(place)):
            if folder.casefold() in CAPTION_FOLDERS and place / folder != root:
                files = {name: f"{stems[name]}{CAPTION_EXTENSION}" for name in names}
                found = _read_files(place / folder, _list_names(place / folder), files)
                yield ForeignCaptions(found, f"{folder}/*{CAPTION_EXTENSION}")
    for path in _list_tables((root, root.parent), set(stems.values())):
        with suppress(OSError, ValueError, csv.Error):
            texts = _match_names(_read_table(path), stems)
            if any(texts.values()) and not is_of_other_images(path, root):
                yield ForeignCaptions(texts, path.name)


def _list_names(folder: Path) -> set[str]:
    with suppress(OSError):
        return set(os.listdir(folder))  # noqa: PTH208 - names alone
    return set()


def _read_files(folder: Path, present: Set[str], files: Mapping[str, str]) -> dict[str, str]:
    """The captions of images, each in its own file: JSON or text."""
    texts = dict.fromkeys(files, "")
    for name, file in files.items():
        if file in present:
            with suppress(OSError, ValueError):
                text = read_bytes(folder / file, MAX_TEXT_BYTES).decode("utf-8-sig")
                texts[name] = read_entry(parse_json(text)) if file.endswith(".json") else join_tags(text)
    return texts


def _list_tables(folders: Iterable[Path], stems: Set[str]) -> list[Path]:
    paths = [folder / name for folder in folders for name in sorted(_list_names(folder)) if not name.startswith(".")]
    tables = [path for path in paths if path.suffix.lower() in TABLE_EXTENSIONS and path.stem not in stems]
    return [path for path in tables if is_file(path)][:MAX_TABLES]


def _read_table(path: Path) -> Iterator[tuple[str, str]]:
    """The names of images and their captions. Raises OSError, ValueError or csv.Error for what is no table."""
    text = read_bytes(path, OFFER_LIMIT).decode("utf-8-sig")
    match path.suffix.lower():
        case ".jsonl":
            yield from _read_rows(parse_json(line) for line in text.splitlines() if line.strip())
        case ".json":
            table = parse_json(text)
            if isinstance(table, list):
                yield from _read_rows(cast("list[object]", table))
            elif isinstance(table, dict):
                for name, entry in cast("dict[str, object]", table).items():
                    yield name, read_entry(entry)
        case ending:
            yield from _read_columns(text, "," if ending == ".csv" else "\t")


def _read_rows(rows: Iterable[object]) -> Iterator[tuple[str, str]]:
    for row in rows:
        if isinstance(row, dict):
            fields = cast("dict[str, object]", row)
            name = next((fields[key] for key in NAME_KEYS if isinstance(fields.get(key), str)), None)
            if isinstance(name, str):
                yield name, read_entry({key: value for key, value in fields.items() if value is not name})


def _read_columns(text: str, separator: str) -> Iterator[tuple[str, str]]:
    """With a line of column names, or of a name and a caption in each line."""
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if len(row) > 1]
    head = [cell.strip().casefold() for cell in rows[0]] if rows else []
    if set(head) & set(NAME_KEYS):
        yield from _read_rows(dict(zip(head, row, strict=False)) for row in rows[1:])
    else:
        yield from ((row[0], join_tags(separator.join(row[1:]))) for row in rows)


def _match_names(found: Iterable[tuple[str, str]], stems: Mapping[str, str]) -> dict[str, str]:
    """By the images' names, which a table may have with folders in front or without their extension."""
    texts = {name.replace("\\", "/").rpartition("/")[2]: text for name, text in found}
    return {name: texts.get(name) or texts.get(stem, "") for name, stem in stems.items()}


def read_entry(entry: object) -> str:
    """The caption of an image in a JSON file: text, tags, or both; what a downloader knows of the file is left out."""
    if isinstance(entry, str):
        return join_tags(entry)
    if not isinstance(entry, dict):
        return ""
    fields = cast("dict[str, object]", entry)
    tags = next((text for key in TAG_KEYS if (text := _read_tags(fields.get(key)))), "")
    texts = [value for key in TEXT_KEYS if isinstance(value := fields.get(key), str) and value.strip()]
    texts += _read_answers(fields.get("conversations"))
    if tags and "id" in fields:  # of a gallery, whose caption is what the artist has to say
        return tags
    return ", ".join([*map(join_tags, texts[:1]), *([tags] if tags else [])])


def _read_answers(talk: object) -> list[str]:
    """What a vision model has answered about the image, as LLaVA's data sets have it."""
    turns = cast("list[object]", talk) if isinstance(talk, list) else []
    said = [cast("dict[str, object]", turn) for turn in turns if isinstance(turn, dict)]
    return [value for turn in said if turn.get("from") == "gpt" and isinstance(value := turn.get("value"), str)]


def _read_tags(value: object) -> str:
    if isinstance(value, str):
        return join_tags(value)
    if isinstance(value, dict):
        groups = cast("dict[str, object]", value)
        return ", ".join(filter(None, (_read_tags(groups.get(name)) for name in TAG_GROUPS)))
    words = cast("list[object]", value) if isinstance(value, list) else []
    return _separate(word for word in words if isinstance(word, str))


def join_tags(text: str) -> str:
    """A caption in one line, its tags between commas; empty for numbers, such as a detector's boxes."""
    if not has_words(text):
        return ""
    if _has_tag_lines(text):
        return _separate(text.splitlines())
    line = " ".join(text.split())
    return _separate(line.split()) if _has_spaced_tags(line) else line


def _separate(tags: Iterable[str]) -> str:
    return ", ".join(_clean_tag(tag) for tag in map(str.strip, tags) if tag and not _ABOUT_FILE.match(tag))


def _has_tag_lines(text: str, least: int = MIN_TAGS) -> bool:
    """Whether every line is a tag: a few words."""
    lengths = [len(line.split()) for line in text.splitlines() if line.strip()]
    short = len(lengths) >= least and max(lengths) <= MAX_TAG_WORDS and sum(lengths) <= MEAN_TAG_WORDS * len(lengths)
    return short and "," not in text


def _has_spaced_tags(text: str) -> bool:
    """Whether every word is a tag of a board, which has underscores for spaces."""
    words = text.split()
    return (
        len(words) >= MIN_TAGS
        and not re.search(r"[,.\n]", text)
        and 4 * sum("_" in word for word in words) >= len(words)
    )


# Whether a caption has the form that most captions next to it have.
_HAS_FORM: Mapping[CaptionForm, Callable[[str], bool]] = {
    "lines": lambda text: _has_tag_lines(text, least=1),  # next to others, one tag is a line, too
    "spaces": _has_spaced_tags,
    "comments": lambda text: bool(_COMMENT.search(text)),
    "parameters": lambda text: bool(_PARAMETERS.search(text)),
    "placeholder": lambda text: PLACEHOLDER in text,
}
_CLEANERS: Mapping[CaptionForm, Callable[[str], str]] = {
    "lines": lambda text: _separate(text.splitlines()),
    "spaces": lambda text: _separate(text.split()),
    "comments": lambda text: join_tags(_COMMENT.sub("", text)),
    "parameters": _read_prompt,
    "placeholder": lambda text: " ".join(text.split()),
    "encoding": join_tags,
}


def _clean_tag(tag: str) -> str:
    """Without a namespace, and with spaces, but for ^_^ and the like."""
    plain = _NAMESPACE.sub("", tag.strip())
    return plain.replace("_", " ") if re.search(r"\w_\w|_\(", plain) else plain
