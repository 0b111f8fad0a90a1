"""The sheet of `lorabake tags --sheet`: one HTML file that asks for nothing from elsewhere.

Text of others is escaped, images are thumbnails in the file, and the page's own policy (CSP) allows nothing but these
and the style and script that are in it.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path, PurePath

from lorabake.analysis.sheet import Sheet, SheetConcept, SheetImage, SheetTag
from lorabake.commands.output.layout import format_file_size
from lorabake.errors import MachineError
from lorabake.inputs.thumbnails import Thumbnail, make_thumbnails
from lorabake.util.files import create_bytes, disk_error, open_file, reason, replace_bytes
from lorabake.util.i18n import Translator
from lorabake.util.resources import read_sheet_asset
from lorabake_schemas.bucket_fit import BucketFit
from lorabake_schemas.findings import SEVERITY_LABELS, Finding, Severity
from lorabake_schemas.messages import Message, msg, nmsg

MAX_TAG_BUTTONS = 2000
MOST_OPEN_FINDINGS = 4  # of a concept; more would hide its images
_HEAD = 2048  # bytes
_MARK = '<meta name="generator" content="lorabake tags --sheet">'  # in the head of each page
MAX_CAPTION = 2000  # characters of a caption's piece


def format_sheet(sheet: Sheet, words: Translator, progress: Callable[[int, int], None] | None = None) -> Iterator[str]:
    """The page, piece by piece: with 2,000 images it has some 25 MB."""
    style, script = read_sheet_asset("sheet.css"), read_sheet_asset("sheet.js")
    images = [image.path for concept in sheet.concepts for image in concept.images]
    thumbnails = make_thumbnails(images, progress)
    text = _Text(words)
    language = words.language.replace("_", "-")
    sources = f"img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    yield (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{_MARK}\n"
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{text(sheet.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<div class="page">\n'
    )
    yield from _iter_side(sheet, text)
    yield "<main>\n"
    for concept in sheet.concepts:
        yield from _iter_concept(concept, sheet, thumbnails, text)
    yield from _iter_end(sheet, text)
    yield f"</main>\n</div>\n<script>{script}</script>\n</body>\n</html>\n"


class _Text:
    """Text as HTML: a message in the reader's language, any other with what cannot be seen spelled out."""

    def __init__(self, words: Translator) -> None:
        self._words = words

    def __call__(self, text: str) -> str:
        return escape(self._words(text))


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _iter_side(sheet: Sheet, text: _Text) -> Iterator[str]:
    images = [image for concept in sheet.concepts for image in concept.images]
    count = nmsg(len(images), "{n} image", "{n} images")
    label, hint = msg("Filter"), msg("tag, -tag, rule or file")
    status = msg("{shown} of {all} images", shown="{shown}", all="{all}")
    yield (
        f'<aside class="side">\n<header><h1>{text(sheet.title)}</h1><p class="soft">{text(count)}</p></header>\n'
        f'<div class="find" role="search"><label for="filter">{text(label)}</label>'
        f'<input id="filter" type="search" autocomplete="off" spellcheck="false" '
        f'placeholder="{text(hint)}">'
        f'<p id="status" class="soft n" role="status" data-text="{text(status)}">{text(count)}</p></div>\n'
    )
    rules = Counter(rule for image in images for rule in {sheet.findings[at].rule for at in image.findings})
    if rules:
        worst = {each.rule: each.severity for each in sorted(sheet.findings, key=_rank, reverse=True)}
        order = sorted(rules, key=lambda rule: (list(Severity).index(worst[rule]), -rules[rule], rule))
        buttons = (
            f'<li><button type="button" aria-pressed="false" data-rule="{text(rule)}"><span class="label">'
            f'<span class="rule {worst[rule].value}">{text(rule)}</span> {text(SEVERITY_LABELS[worst[rule]])}</span>'
            f'<span class="n">{rules[rule]}</span></button></li>\n'
            for rule in order
        )
        yield from _iter_facets(text(msg("Findings")), buttons)
    counts = Counter(tag for image in sheet.table.images for tag in image.tags)
    order = sorted(counts, key=lambda tag: (-counts[tag], tag))[:MAX_TAG_BUTTONS]
    tags = (
        f'<li><button type="button" aria-pressed="false" data-tag="{text(tag)}"><span class="label">'
        f'{text(sheet.table.spell(tag))}</span><span class="n">{counts[tag]}</span></button></li>\n'
        for tag in order
    )
    if order:
        yield from _iter_facets(text(msg("Tags")), tags)
    yield "</aside>\n"


def _rank(finding: Finding) -> int:
    return list(Severity).index(finding.severity)


def _iter_facets(title: str, items: Iterator[str]) -> Iterator[str]:
    yield f'<details open><summary><h2 class="small">{title}</h2></summary><ul class="facets">\n'
    yield from items
    yield "</ul></details>\n"


def _iter_concept(
    concept: SheetConcept, sheet: Sheet, thumbnails: Iterator[Thumbnail | None], text: _Text
) -> Iterator[str]:
    count = nmsg(len(concept.images), "{n} image", "{n} images")
    yield (
        f'<section class="concept">\n<header><h2>{text(concept.name)}</h2>'
        f'<p class="soft">{text(", ".join(concept.folders))} · {text(count)}</p>\n'
    )
    found = [sheet.findings[at] for at in concept.findings]
    if found:
        said = nmsg(len(found), "{n} finding", "{n} findings")
        found.sort(key=_rank)
        shown = " open" if len(found) <= MOST_OPEN_FINDINGS else ""
        worst = {each.rule: each.severity for each in reversed(found)}
        rules = dict.fromkeys(each.rule for each in found)
        marks = "".join(f'<span class="rule {worst[rule].value}">{text(rule)}</span>' for rule in rules)
        yield (
            f'<details class="about"{shown}><summary class="small"><span>{text(said)}</span>'
            f'<span class="marks">{marks}</span></summary><ul class="findings">\n'
        )
        for finding in found:
            yield (
                f'<li><p><span class="rule {finding.severity.value}">{text(finding.rule)}</span> '
                f'<span class="soft">{text(SEVERITY_LABELS[finding.severity])}</span></p>'
                f'<div><p>{text(finding.message)}</p><p class="soft">{text(finding.fix)}</p></div></li>\n'
            )
        yield "</ul></details>"
    yield '</header>\n<div class="grid">\n'
    for image in concept.images:
        yield _format_card(image, concept, sheet, next(thumbnails), text)
    yield "</div>\n</section>\n"


def _format_card(
    image: SheetImage, concept: SheetConcept, sheet: Sheet, thumbnail: Thumbnail | None, text: _Text
) -> str:
    rules = {sheet.findings[at].rule: sheet.findings[at] for at in image.findings}
    marks = "".join(
        f'<span class="rule {each.severity.value}" title="{text(each.message)}">{text(rule)}</span>'
        for rule, each in rules.items()
    )
    captions = "".join(
        f'<p class="tags">{", ".join(_format_tag(tag, concept, text) for tag in caption)}</p>'
        for caption in image.captions
    )
    nothing = text(msg("no caption"))
    missing = "" if image.captions else f'<p class="tags soft">{nothing}</p>'
    name = text(image.facts.name)
    return (
        f'<article class="card" tabindex="-1" data-name="{name}" data-rules="{text(" ".join(rules))}">'
        f'<figure class="shot">{_format_image(image, thumbnail, text)}</figure>'
        f'<div class="name"><h3>{text(PurePath(image.facts.name).name)}</h3><span class="marks">{marks}</span></div>'
        f'<p class="sizes">{_format_sizes(image, text)}</p>{captions}{missing}</article>\n'
    )


def _format_tag(tag: SheetTag, concept: SheetConcept, text: _Text) -> str:
    shown = text(tag.text if len(tag.text) <= MAX_CAPTION else f"{tag.text[:MAX_CAPTION]}…")
    if not tag.tag:
        return shown
    own = ' class="own"' if tag.tag in concept.own_tags else ""
    return f'<span{own} data-tag="{text(tag.tag)}">{shown}</span>'


def _format_image(image: SheetImage, thumbnail: Thumbnail | None, text: _Text) -> str:
    if thumbnail is None:
        why = image.facts.problem or msg("it cannot be decoded")
        return f'<span class="missing">{text(why)}</span>'
    data = b64encode(thumbnail.data).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{thumbnail.width}" height="{thumbnail.height}" '
        f'alt="{text(image.facts.name)}" loading="lazy" decoding="async">{_draw_crops(image, thumbnail)}'
    )


def _draw_crops(image: SheetImage, thumbnail: Thumbnail) -> str:
    """What is cut off, veiled for the first resolution, and a frame around what stays for each."""
    wide, high = thumbnail.width, thumbnail.height
    frames = list(dict.fromkeys(_scale_crop(fit, wide, high) for fit in image.fits if fit.resized != fit.bucket))
    if not frames:
        return ""
    left, upper, right, lower = frames[0]
    veil = f"M0 0H{wide}V{high}H0ZM{left} {upper}V{lower}H{right}V{upper}Z"
    drawn = "".join(
        f'<rect class="frame{" other" if number else ""}" x="{x}" y="{y}" width="{_round(x2 - x)}" '
        f'height="{_round(y2 - y)}"/>'
        for number, (x, y, x2, y2) in enumerate(frames)
    )
    return f'<svg viewBox="0 0 {wide} {high}" aria-hidden="true"><path class="veil" d="{veil}"/>{drawn}</svg>'


def _scale_crop(fit: BucketFit, wide: int, high: int) -> tuple[float, float, float, float]:
    left, upper, right, lower = fit.crop
    across, down = wide / fit.resized[0], high / fit.resized[1]
    return _round(left * across), _round(upper * down), _round(right * across), _round(lower * down)


def _round(value: float) -> float:
    return round(value, 1)


def _format_sizes(image: SheetImage, text: _Text) -> str:
    """The image's size, and for each resolution that of its bucket, how much is cut off and how much it is enlarged."""
    lines = [f"{image.facts.width}\u00d7{image.facts.height}"] if image.facts.width else []
    for fit in image.fits:
        said = [f"\u2192 {fit.bucket[0]}\u00d7{fit.bucket[1]}"]
        if fit.cropped_share >= 0.005:
            said.append(text(msg("{share:.0%} cut off", share=fit.cropped_share)))
        if fit.scale > 1.005:
            said.append(text(msg("{times:.1f}x larger", times=fit.scale)))
        lines.append(" ".join(f"<b>{part}</b>" for part in [said[0], *(f"\u00b7 {each}" for each in said[1:])]))
    return "<br>".join(lines)


def _iter_end(sheet: Sheet, text: _Text) -> Iterator[str]:
    empty = text(msg("No image fits the filter."))
    yield f'<p id="empty" class="empty" hidden>{empty}</p>\n<footer class="legend">\n'
    if sheet.has_buckets:
        said = msg(
            "The frame is the part of an image that is trained; what is veiled is cut off. "
            "Several resolutions have a frame each."
        )
        yield f"<p>{text(said)}</p>\n"
    else:
        without = text(msg("Crops are not drawn, because the recipe has errors."))
        yield f"<p>{without}</p>\n"
    if sheet.others:
        said = nmsg(
            sheet.others,
            "{n} finding about other settings: `lorabake check` shows it.",
            "{n} findings about other settings: `lorabake check` shows them.",
        )
        yield f"<p>{text(said)}</p>\n"
    keys = {
        "/": msg("filter"),
        "Esc": msg("clear"),
        "j": msg("next image"),
        "k": msg("previous image"),
        "Shift": msg("with a click: without this tag"),
    }
    listed = " · ".join(f"<kbd>{key}</kbd> {text(what)}" for key, what in keys.items())
    yield f'<p class="keys">{listed}</p>\n</footer>\n'


def _is_sheet(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return _MARK.encode() in file.read(_HEAD)
    except OSError:
        return False


def write_sheet(
    sheet: Sheet, path: Path, words: Translator, progress: Callable[[int, int], None] | None = None
) -> Message:
    """Write the page to a new file, or over an older page; what was written. Raises MachineError if the file is
    something else or cannot be written."""
    data = "".join(format_sheet(sheet, words, progress)).encode()
    try:
        if _is_sheet(path):
            replace_bytes(path, data)
        else:
            create_bytes(path, data)
    except FileExistsError as error:
        said = msg("{path} already exists and was not changed", path=path)
        raise MachineError(said, msg("choose another file")) from error
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=path, why=reason(error))) from error
    return msg("wrote {path} ({size})", path=path, size=format_file_size(len(data)))
