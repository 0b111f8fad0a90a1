"""A metadata file for the new folder: the entries of its images under their new names, with clean texts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from lorabake.inputs.prepare.crops import Crop
from lorabake.inputs.prepare.texts import CaptionRules, add_background, clean_text, edit_crop_caption
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.prepared import PreparedStep


class NewEntry(NamedTuple):
    """An image's new name in its folder, its new size, the color of its new background, and the crop that it is."""

    name: str
    size: Size
    color: str | None
    crop: Crop | None = None


def rewrite_metadata(
    table: Mapping[str, object], entries: Mapping[str, Sequence[NewEntry]], rules: CaptionRules, *, lines: bool
) -> tuple[bytes, tuple[PreparedStep, ...]]:
    """The bytes of the new file, and what was done to any of its texts. ``entries`` are by the old names; those that
    have none are left out. ``lines``: as JSON lines."""
    made: dict[str, Any] = {}
    done = set[PreparedStep]()
    for name, news in entries.items():
        old: object = table.get(name)
        for new in news if isinstance(old, dict) else ():
            made[new.name], steps = _rewrite_entry(cast("dict[str, Any]", old), new, rules)
            done |= steps
    if lines:
        texts = [json.dumps({"image_path": name} | entry, ensure_ascii=False) for name, entry in made.items()]
        data = "".join(f"{text}\n" for text in texts)
    else:
        data = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
    return data.encode("utf-8", "replace"), tuple(sorted(done))


def _rewrite_entry(
    old: Mapping[str, Any], new: NewEntry, rules: CaptionRules
) -> tuple[dict[str, Any], set[PreparedStep]]:
    old, done = _edit_crop(old, new.crop, rules) if new.crop else (old, set[PreparedStep]())
    found = dict(old)
    first = True  # the leading tags belong to the first text, which the other follows
    for key in ("caption", "tags"):
        text = old.get(key)
        if isinstance(text, str) and text.strip():
            plain = rules if first else rules._replace(leading=())
            joined = ",".join(part for part in (old.get("caption"), old.get("tags")) if isinstance(part, str) and part)
            if first and plain.leading and clean_text(joined, plain).text == joined.strip():
                plain = plain._replace(leading=())
            clean = clean_text(text, plain)
            found[key], first = clean.text, False
            done.update(clean.steps)
    if new.color:
        key = "tags" if found.get("tags") else "caption"
        if isinstance(found.get(key), str) and found[key]:
            found[key] = add_background(found[key], new.color, rules)
            done.add("background-tag")
    if found.get("image_size") is not None:
        found["image_size"] = list(new.size)
    return found, done


def _edit_crop(old: Mapping[str, Any], crop: Crop, rules: CaptionRules) -> tuple[dict[str, Any], set[PreparedStep]]:
    """The entry with the texts of a crop: its caption instead of both, or its tags behind the last of them."""
    keys = [key for key in ("caption", "tags") if isinstance(old.get(key), str) and old[key].strip()] or ["caption"]
    if crop.caption is not None:
        return {**{key: value for key, value in old.items() if key not in keys}, "caption": crop.caption}, {"own-text"}
    found, done = dict(old), set[PreparedStep]()
    for key in keys:
        edited = edit_crop_caption(old.get(key) or "", None, crop.tags if key == keys[-1] else (), rules)
        if edited.steps:
            found[key] = edited.text
            done.update(edited.steps)
    return found, done
