"""From the text that a tagger or captioner gives to a caption in the guide's order: token, (outfit,) class, tags. Pure.

Tags are separated by commas; sentences (base.tags = "natural") stay as they are, with token and class in front.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from string import Formatter

from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.caption_settings import get_caption_text, has_wildcards, is_natural
from lorabake_schemas.guide.defaults import list_leading_tags
from lorabake_schemas.guide.tags import CaptionStyle, get_caption_style, normalize_tag, split_tags
from lorabake_schemas.messages import ANSI_CODES, INVISIBLE_CHARACTERS, Message, msg
from lorabake_schemas.recipe import Concept, Recipe

TEXT_LIMIT = 1 << 16  # bytes; more than any caption
CAPTION_FIELD = "caption"  # of a template: what the command gave
_PLAIN_FIELDS = ("token", "outfit", "class")
_LINE_BREAKS = re.compile(r"[\n\x0b\x0c\x85\u2028\u2029]+")
_WEIGHT_MARKS = re.compile(r"[()\[\]]")
_INVISIBLE = re.compile(f"[{INVISIBLE_CHARACTERS}]")
_WORD = re.compile(r"[^\W_]{2}")  # faces such as ^_^, o_o and (o)_(o) have none


class TextError(ValueError):
    """Why a program's output is no caption."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


def read_output(data: bytes) -> list[str]:
    """The lines of a program's output that are not blank, as a terminal would show them in the end: of a progress bar
    its last state. Without colors and invisible characters.

    Raises TextError when it is empty, too long, or not text in UTF-8.
    """
    if len(data) > TEXT_LIMIT:
        raise TextError(msg("its text is longer than {n} KB", n=TEXT_LIMIT >> 10))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(msg("its text is not UTF-8")) from error
    if "\0" in text:
        raise TextError(msg("it gave binary data, not text"))
    text = re.sub(ANSI_CODES, "", text).replace("\t", " ")
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in _LINE_BREAKS.split(text))
    lines = [" ".join(_INVISIBLE.sub("", line).split()) for line in shown]
    found = [line for line in lines if line]
    if not found:
        raise TextError(msg("it gave no text"))
    return found


@dataclass(frozen=True, slots=True)
class CaptionWriter:
    """How the captions of one concept are written.

    ``leading`` are token, outfit and class as far as the recipe's caption_prefix has not put them first already;
    ``mark`` is keep_tokens_separator; ``drop`` are unwanted tags, normalized; ``underscores`` keeps them in tags;
    ``weights`` are read by sd-scripts (weighted_captions); ``template`` is the user's own, checked by
    ``check_template``.
    """

    words: tuple[tuple[str, str], ...]
    leading: tuple[str, ...]
    sentences: bool = False
    style: CaptionStyle = field(default_factory=CaptionStyle)
    mark: str = ""
    drop: frozenset[str] = frozenset()
    underscores: bool = False
    wildcards: bool = False
    weights: bool = False
    template: str | None = None

    def compose(self, lines: Sequence[str]) -> str:
        """The caption for an image, on one line. Raises TextError when nothing is left of the text."""
        body = self.clean(lines)
        if lines and not body:
            raise TextError(msg("nothing is left of its text"))
        if self.template is not None:
            return self._fill(self.template, body)
        if self.sentences:
            lead = " ".join(self.leading)
            return body if not lead or _has_word(body, self.leading[0]) else f"{lead}, {body}"
        lead = self._join(self.leading)
        if lead and self.mark:
            return f"{lead} {self.mark} {body}"
        return self._join(filter(None, (lead, body)))

    def clean(self, lines: Sequence[str]) -> str:
        """What these lines add to token and class."""
        text = " ".join(lines) if self.sentences else self._join(self._select_tags(lines))
        if self.weights:
            text = _WEIGHT_MARKS.sub(r"\\\g<0>", text)
        return text.replace("{", "{{").replace("}", "}}") if self.wildcards else text

    def _join(self, tags: Iterable[str]) -> str:
        separator = self.style.separator
        return (separator if separator[-1:].isspace() else f"{separator} ").join(tags)

    def _fill(self, template: str, body: str) -> str:
        values = {**dict(self.words), CAPTION_FIELD: body}
        parts = Formatter().parse(template)
        text = "".join(before + (values.get(name, "") if name else "") for before, name, _, _ in parts)
        return " ".join(text.split())

    def _select_tags(self, lines: Sequence[str]) -> list[str]:
        seen = {normalize_tag(tag) for word in self.words for tag in split_tags(word[1])} | set(self.drop)
        found = list[str]()
        for piece in split_tags(",".join(lines)):
            tag = piece.replace("\\(", "(").replace("\\)", ")")
            if not self.underscores and _joins_words(tag):
                tag = " ".join(tag.replace("_", " ").split())
            if normalize_tag(tag) not in seen:
                seen.add(normalize_tag(tag))
                found.append(tag)
        return found


def _joins_words(tag: str) -> bool:
    """Whether underscores are in the place of blanks: long_hair, lum_(series)."""
    return "_" in tag and " " not in tag and _WORD.search(tag) is not None


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def make_caption_writer(
    concept: Concept, recipe: Recipe, folder: FolderFacts, template: str | None, drop: Sequence[str]
) -> CaptionWriter:
    """How the captions of a concept are to look: as the recipe has them read, and as its other captions are written."""
    style = get_caption_style(concept, recipe)
    words = {"token": concept.token, "outfit": concept.outfit, "class": concept.class_}
    prefix = {normalize_tag(tag) for tag in split_tags(get_caption_text(concept, recipe, "caption_prefix"))}
    return CaptionWriter(
        words=tuple((name, word) for name, word in words.items() if word),
        leading=tuple(word for word in list_leading_tags(concept) if normalize_tag(word) not in prefix),
        sentences=is_natural(concept, recipe),
        style=style,
        mark=get_caption_text(concept, recipe, "keep_tokens_separator"),
        drop=frozenset(normalize_tag(tag) for text in drop for tag in split_tags(text)),
        underscores=uses_underscores(folder, style),
        wildcards=has_wildcards(concept, recipe),
        weights=recipe.kohya.get("weighted_captions") is True,
        template=template,
    )


def uses_underscores(folder: FolderFacts, style: CaptionStyle) -> bool:
    """Whether the captions that a folder already has write long_hair rather than long hair."""
    tags = [tag for image in folder.images for text in image.caption.texts for tag in split_tags(text, style)]
    joined = sum(map(_joins_words, tags))
    return joined > sum(" " in tag for tag in tags)


def check_template(template: str, *, with_command: bool) -> Message | None:
    """What is wrong with a template, None if nothing is."""
    names = ", ".join(in_braces(name) for name in (*_PLAIN_FIELDS, CAPTION_FIELD))
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return msg("--template has a brace without its other half; write {{{{ for a brace in the text")
    found = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in found:
        if name not in (*_PLAIN_FIELDS, CAPTION_FIELD) or spec or conversion:
            return msg("--template knows no {field}; use {names}", field=in_braces(name), names=names)
    has_caption = any(name == CAPTION_FIELD for name, _, _ in found)
    if with_command and not has_caption:
        return msg("--template needs {field}, the text of the command", field=in_braces(CAPTION_FIELD))
    if has_caption and not with_command:
        return msg("{field} in --template is the text of a command: add --with", field=in_braces(CAPTION_FIELD))
    return None if template.strip() else msg("--template is empty")


def find_missing_words(template: str, writer: CaptionWriter) -> Collection[str]:
    """What a template wants of a concept that its recipe does not have."""
    wanted = {name for _, name, _, _ in Formatter().parse(template) if name and name != CAPTION_FIELD}
    return sorted(wanted - {name for name, _ in writer.words})


def in_braces(name: str) -> str:
    """A field of a template as it is written there."""
    return f"{{{name}}}"
