"""From a tagger's text to a caption."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lorabake.inputs.caption_text import (
    TEXT_LIMIT,
    TextError,
    check_template,
    find_missing_words,
    make_caption_writer,
    read_output,
)
from lorabake_schemas.dataset import CaptionFacts, FolderFacts, ImageFacts
from lorabake_schemas.recipe import Recipe


def recipe(concept: Mapping[str, object], tags: object = "e621", **tables: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "lamp",
            "kind": "object",
            "base": {"model": "m.safetensors", "tags": tags},
            "concept": [{"images": "img", **concept}],
        }
        | tables
    )


BURGER: dict[str, object] = {"token": "hmbrgrlora", "class": "food"}


def write(
    text: str,
    concept: Mapping[str, object] | None = None,
    *,
    tags: object = "e621",
    template: str | None = None,
    drop: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    **tables: object,
) -> str:
    made = recipe(BURGER if concept is None else concept, tags, **tables)
    folder = FolderFacts(
        "img", images=tuple(ImageFacts(f"{n}.png", caption=CaptionFacts(k)) for n, k in enumerate(known))
    )
    return make_caption_writer(made.concept[0], made, folder, template, drop).compose(read_output(text.encode()))


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("plate, table", "hmbrgrlora, food, plate, table"),
        ("long_hair, 2girls,  plate ,plate, Plate", "hmbrgrlora, food, long hair, 2girls, plate"),
        ("food, hmbrgrlora, plate", "hmbrgrlora, food, plate"),
        ("^_^, o_o, (o)_(o), x_x, lum_(series)", "hmbrgrlora, food, ^_^, o_o, (o)_(o), x_x, lum (series)"),
        (r"lum \(series\)", "hmbrgrlora, food, lum (series)"),
        (
            "love_live!_school, girls'_line, x_(y_z)_(cosplay)",
            "hmbrgrlora, food, love live! school, girls' line, x (y z) (cosplay)",
        ),
        ("10%\r50%\r100%\r\nplate\r\ntable\r\n", "hmbrgrlora, food, 100%, plate, table"),
        ("plate\ntable\n\n", "hmbrgrlora, food, plate, table"),
        ("\ufeffplate\t, \x1b[31mtable\x1b[0m\u200b\u202e", "hmbrgrlora, food, plate, table"),
        ("a burger on a plate.", "hmbrgrlora, food, a burger on a plate."),
    ],
)
def test_tags_come_after_token_and_class(text: str, caption: str) -> None:
    assert write(text) == caption


def test_underscores_stay_where_the_other_captions_have_them() -> None:
    assert write("long_hair", known=("hmbrgrlora, food, blue_sky, wooden_table",)).endswith("long_hair")
    assert write("long_hair", known=("hmbrgrlora, food, blue sky, wooden_table",)).endswith("long hair")


def test_outfit_prefix_mark_and_style() -> None:
    outfit = {"token": "lum", "outfit": "lum dress", "class": "woman"}
    assert write("sky", outfit, kind="outfits") == "lum, lum dress, woman, sky"
    assert write("sky", BURGER | {"caption_prefix": "hmbrgrlora, food,"}) == "sky"
    assert write("sky", BURGER | {"keep_tokens_separator": "|||"}) == "hmbrgrlora, food ||| sky"
    assert write("sky, cloud", {}) == "sky, cloud"
    assert write("{a}", BURGER | {"enable_wildcard": True}) == "hmbrgrlora, food, {{a}}"
    assert write("lum_(series)", kohya={"weighted_captions": True}) == r"hmbrgrlora, food, lum \(series\)"
    assert write("sky, safe, Long_Hair", drop=("safe, long hair",)) == "hmbrgrlora, food, sky"


def test_sentences_keep_their_form() -> None:
    said = "A woman in a long_dress, smiling.\nShe waves."
    lum = {"token": "lumx", "class": "woman"}
    assert write(said, lum, tags="natural") == "lumx woman, A woman in a long_dress, smiling. She waves."
    assert write("photo of Lumx at home", lum, tags="natural") == "photo of Lumx at home"
    assert write("an illumxed sky", lum, tags="natural") == "lumx woman, an illumxed sky"


def test_templates() -> None:
    assert write("a smile", template="photo of {token} {class}, {caption}", tags="natural").startswith(
        "photo of hmbrgrlora food, a smile"
    )
    made = recipe({"class": "food"})
    writer = make_caption_writer(made.concept[0], made, FolderFacts("img"), "photo of {token} {class}", ())
    assert list(find_missing_words("photo of {token} {class}", writer)) == ["token"]


@pytest.mark.parametrize(
    ("template", "with_command", "fine"),
    [
        ("photo of {token} {class}", False, True),
        ("{token}, {caption}", True, True),
        ("{{literal}} {token}", False, True),
        ("{token}, {caption}", False, False),
        ("{token}", True, False),
        ("{token!r}", False, False),
        ("{token:>9}", False, False),
        ("{tokn}", False, False),
        ("{0}", False, False),
        ("{", False, False),
        ("{}", False, False),
        (" ", False, False),
    ],
)
def test_a_template_is_checked(template: str, with_command: bool, fine: bool) -> None:
    assert (check_template(template, with_command=with_command) is None) is fine


@pytest.mark.parametrize(
    "data", [b"", b" \n\t\n", b"caf\xe9, bar", b"GIF89a\0\0", b"\xff\xd8\xff\xe0", b"a" * (TEXT_LIMIT + 1), b"\x1b[0m"]
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(TextError):
        read_output(data)


def test_nothing_but_token_and_class_is_no_text() -> None:
    with pytest.raises(TextError):
        write("food, hmbrgrlora")
