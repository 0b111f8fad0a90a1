"""From what was found in a folder to the content of a recipe, with the questions that are left. Pure.

Nothing is asked that can be seen, and an answer replaces what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError

from lorabake.analysis.caption_summary import IsKnown
from lorabake.analysis.draft_base import BaseDraft, ModelChoice, draft_base
from lorabake.analysis.draft_concepts import (
    DEFAULT_TOKEN,
    Answers,
    ConceptDraft,
    clean_word,
    draft_concepts,
    get_own_token,
    has_several_names,
    name_subject,
)
from lorabake.analysis.draft_kind import choose_kind
from lorabake.inputs.foreign_captions import PLACEHOLDER, ForeignCaptions, replace_captions
from lorabake.inputs.image_tree import FoundDataset, FoundFolder
from lorabake_schemas.dataset import CaptionProblem, FolderFacts
from lorabake_schemas.families.registry import list_family_names
from lorabake_schemas.guide.folder_names import is_structure
from lorabake_schemas.guide.rules.trigger import make_unknown_word
from lorabake_schemas.guide.vocabulary import is_common_tag
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.recipe import RecipeKind
from lorabake_schemas.values import FilePath, RunName, Tag

QuestionKey = Literal["model", "family", "kind", "token", "class"]
KINDS: tuple[RecipeKind, ...] = get_args(RecipeKind)
PERSON = "person"  # the class of photographs of somebody
# Under [captions] if all folders agree, else under each [[concept]].
SHARED_KEYS = ("caption_extension", "enable_wildcard", "shuffle_caption", "keep_tokens_separator", "keep_tokens")
NO_TEXT = frozenset({CaptionProblem.MISSING, CaptionProblem.EMPTY, CaptionProblem.SPACES, CaptionProblem.NO_WORDS})
MIN_TOKEN = 3  # characters of a made-up token; CLIP has a token for every shorter word (ours)
Namer = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Question:
    """Something that cannot be seen. ``default`` is what the recipe has without an answer, empty for nothing.
    ``choices`` are the only answers, if there are any."""

    key: QuestionKey
    text: Message
    default: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a recipe as tomllib would read it, its comments by key, and the questions whose defaults it has.
    ``concepts`` are what its [[concept]] tables were made of, ``metadata`` the captions of each folder whose own ones
    sd-scripts cannot read, by the name of the file that the recipe has for them."""

    content: dict[str, Any]
    comments: Mapping[tuple[str | int, ...], str]
    head: tuple[str, ...]
    concepts: tuple[ConceptDraft, ...]
    questions: tuple[Question, ...]
    model: ModelChoice
    metadata: Mapping[str, ForeignCaptions]


def find_answer_fault(key: str, value: str) -> Message | None:
    """Why a recipe does not take this answer, None if it does."""
    if key == "name" and value.startswith("-"):
        return msg('starts with "-", so commands would take its recipe for an option')
    kind: Any = {"family": Family, "kind": RecipeKind, "name": RunName, "model": FilePath}.get(key, Tag)
    try:
        TypeAdapter[object](kind).validate_python(value)
    except ValidationError as error:
        context = error.errors()[0].get("ctx", {})
        choices = {"family": list_family_names(), "kind": KINDS}.get(key)
        said = context.get("said")
        if choices:
            return msg("is not one of {choices}", choices=", ".join(choices))
        return said if isinstance(said, Message) else msg("is not usable here")
    return None


def draft_recipe(
    found: FoundDataset, model: ModelChoice, answers: Answers, name_path: Namer, is_known: IsKnown
) -> Draft:
    """``name_path`` is how the recipe names a path, ``is_known`` whether CLIP has a single token for a word."""
    found = _fill_placeholders(found, answers, _default_token(found, is_known))
    drafts = draft_concepts(found, answers, is_known)
    kind, sure = choose_kind(found, drafts, answers)
    token = None
    if _needs_token(drafts, kind):
        tokens = {each.token for each in drafts if each.token}
        token = tokens.pop() if len(tokens) == 1 else _default_token(found, is_known)
        drafts = [each if each.token else name_subject(each, answers.token or token) for each in drafts]
    captioned = {each.token for each in drafts if each.captioned}
    nameless = [bool(each.token) and each.token not in captioned and not each.class_ for each in drafts]
    general = next((each.name.class_ for each in found.of_role("regularization") if each.name.class_), PERSON)
    class_ = general if kind == "character" and len({each.token for each in drafts}) == 1 else ""
    drafts = [
        replace(each, class_=class_ or None) if bare else each for each, bare in zip(drafts, nameless, strict=True)
    ]
    base = draft_base(model, answers, drafts)
    content, comments = _assemble(found, drafts, base, name_path)
    content |= {"name": choose_name(found, drafts, answers), "kind": kind}
    metadata = dict(_place_captions(content, drafts))
    comments[("kind",)] = "character, style, object, clothing, concept or outfits"
    return Draft(
        content=content,
        comments=comments,
        head=_describe(found, drafts),
        concepts=tuple(drafts),
        questions=tuple(
            _list_questions(
                model, base, answers, _Unseen(None if sure else kind, token, class_ if any(nameless) else None)
            )
        ),
        model=model,
        metadata=metadata,
    )


def _fill_placeholders(found: FoundDataset, answers: Answers, default: str) -> FoundDataset:
    """Captions with the token where ai-toolkit would put it: the answer, or else each folder's own."""
    several = has_several_names(found)
    return replace(
        found,
        folders=tuple(
            _fill_placeholder(each, answers.token or get_own_token(each, several=several) or default)
            for each in found.folders
        ),
    )


def _fill_placeholder(folder: FoundFolder, token: str) -> FoundFolder:
    if not (folder.foreign and folder.foreign.form == "placeholder"):
        return folder
    texts = {name: text.replace(PLACEHOLDER, token) for name, text in folder.foreign.texts.items()}
    foreign = replace(folder.foreign, texts=texts)
    named = folder.name._replace(token=token)
    return replace(folder, name=named, foreign=foreign, facts=replace_captions(folder.facts, foreign))


def _place_captions(content: dict[str, Any], drafts: Sequence[ConceptDraft]) -> Iterator[tuple[str, ForeignCaptions]]:
    """A metadata file next to the recipe for each folder whose captions sd-scripts cannot read."""
    those = [(table, each.folder.foreign) for table, each in zip(content["concept"], drafts, strict=True)]
    for number, (table, foreign) in enumerate(each for each in those if each[1]):
        if foreign:
            table["metadata_file"] = f"{content['name']}-captions{f'-{number + 1}' if number else ''}.json"
            yield table["metadata_file"], foreign


def _needs_token(drafts: Sequence[ConceptDraft], kind: RecipeKind) -> bool:
    """Whether images would be trained without any text, or a subject without a word for it."""
    bare = [each for each in drafts if not each.token]
    return bool(bare) and (kind != "style" or not all(each.captioned for each in bare))


def _default_token(found: FoundDataset, is_known: IsKnown) -> str:
    """The name of the only folder or else of the root, unless that is a usual one for a folder; made unknown where CLIP
    has a word for it."""
    folders = {each.path for each in found.of_role("concept")}
    names = [clean_word(path.name) for path in (*(folders if len(folders) == 1 else ()), found.root)]
    name = next((name for name in names if name and not is_structure(name)), "")
    plain = re.sub(r"\W+", "", name.casefold())
    if not plain:
        return DEFAULT_TOKEN
    known = len(plain) < MIN_TOKEN or is_known(plain) or is_common_tag(plain)
    return make_unknown_word(plain) if known else plain


def choose_name(found: FoundDataset, drafts: Sequence[ConceptDraft], answers: Answers) -> str:
    """The answer, else the only token, else what the folder or the one that it is in is called."""
    tokens = {each.token for each in drafts}
    names = (answers.name, tokens.pop() if len(tokens) == 1 else None, found.root.name, found.root.parent.name)
    for at, name in enumerate(names):
        plain = re.sub(r"[^\w .+()-]+", "", name or "").lstrip(".- ")[:60].strip()
        if plain and (at < 2 or not is_structure(plain)):
            return plain
    return "my-lora"


class _Unseen(NamedTuple):
    """What was assumed because nothing shows it; None for what can be seen."""

    kind: RecipeKind | None
    token: str | None
    class_: str | None


def _list_questions(model: ModelChoice, base: BaseDraft, answers: Answers, unseen: _Unseen) -> Iterator[Question]:
    if answers.model is None and (model.model is None or model.others):
        text = msg("Base model (a .safetensors file, a folder or a Hugging Face id)")
        if model.others:
            text = msg(
                "Base model (found: {names})", names=shorten_list((model.model or "", *model.others), 5, literal)
            )
        yield Question("model", text, model.model or "")
    elif model.facts and not model.missing and not model.refused and not (model.facts.family or answers.family):
        yield Question("family", msg("Family of the base model"), str(base.keys.get("family", "")), list_family_names())
    if unseen.kind is not None:
        yield Question("kind", msg("What do the images show?"), unseen.kind, KINDS)
    if unseen.token is not None and answers.token is None:
        yield Question("token", msg("Trigger word, one that the model does not know"), unseen.token)
    if unseen.class_ is not None and answers.class_ is None:
        yield Question("class", msg("What it is, in a word that the model knows"), unseen.class_)


def _assemble(
    found: FoundDataset, drafts: Sequence[ConceptDraft], base: BaseDraft, name_path: Namer
) -> tuple[dict[str, Any], dict[tuple[str | int, ...], str]]:
    comments: dict[tuple[str | int, ...], str] = {("base", key): text for key, text in base.comments.items()}
    balanced = all(each.folder.name.repeats in {None, 1} for each in drafts)
    tables = list[dict[str, Any]]()
    for at, each in enumerate(drafts):
        table = _write_concept(each, base, found, name_path)
        if not balanced:
            table["num_repeats"] = each.folder.name.repeats or 1
        tables.append(table)
        comments |= (
            {("concept", at, key): text for key, text in _comment_concept(each, table).items()} if not at else {}
        )
    shared = {key: tables[0].get(key) for key in SHARED_KEYS if all(t.get(key) == tables[0].get(key) for t in tables)}
    shared = {key: value for key, value in shared.items() if value is not None}
    tables = [{key: value for key, value in table.items() if key not in shared} for table in tables]
    for key in shared:
        if text := comments.pop(("concept", 0, key), ""):
            comments["captions", key] = text
    content: dict[str, Any] = {
        "base": base.keys,
        "concept": tables,
        "regularization": [_write_regularization(each, drafts, name_path) for each in found.of_role("regularization")],
        "train": {"optimizer": "Prodigy"},
        "captions": shared,
    }
    comments["train", "optimizer"] = "finds the learning rate by itself"
    if content["regularization"]:
        comments["regularization", 0] = (
            "Images of the class in general, so that it stays what it is. Remove to train without."
        )
    return content, comments


def _write_concept(draft: ConceptDraft, base: BaseDraft, found: FoundDataset, name_path: Namer) -> dict[str, Any]:
    facts, summary = draft.folder.facts, draft.summary
    table: dict[str, Any] = {
        "token": draft.token,
        "class": draft.class_,
        "outfit": draft.outfit,
        "images": name_path(draft.folder.path),
        "masks": _find_masks(draft.folder, found, name_path),
    }
    if draft.folder.offer and draft.folder.offer.usable:
        table["metadata_file"] = name_path(Path(draft.folder.offer.path))
    elif draft.folder.foreign:
        table["metadata_file"] = ""  # _place_captions names it
    elif not draft.captioned and not _has_other_captions(draft.folder):
        table |= _describe_no_captions(facts)
        if table["masks"] or facts.companions:  # which have no class tokens (CU:225)
            table["caption_prefix"] = " ".join(draft.words) or None
    elif facts.caption_extension != ".txt":
        table["caption_extension"] = facts.caption_extension
    if draft.captioned and summary.natural and base.styles != ("natural",):
        table["tags"] = "natural"
    if summary.several_lines:
        table["enable_wildcard"] = True
        table["shuffle_caption"] = False if summary.sentences_among_lines else None
    if "metadata_file" in table:
        table.pop("masks")  # sd-scripts cannot combine them (S49)
    table["keep_tokens_separator"] = summary.mark or None
    table["keep_tokens"] = draft.front
    if draft.prefix:
        table["caption_prefix"] = draft.prefix
    return {key: value for key, value in table.items() if value is not None}


def _describe_no_captions(facts: FolderFacts) -> dict[str, str]:
    """With another extension for captions to come, where files of another program have the usual one."""
    taken = any(image.caption.problem is CaptionProblem.NO_WORDS for image in facts.images)
    return {"captions": "none"} | ({"caption_extension": ".caption"} if taken else {})


def _has_other_captions(folder: FoundFolder) -> bool:
    """Whether there are captions that are not read, so that none would be wrong: the check names them."""
    facts = folder.facts
    unread = any(image.caption.problem not in NO_TEXT for image in facts.images)
    return unread or bool(facts.others or facts.miscased or folder.offer) or 2 * len(facts.orphans) >= len(facts.images)


def _comment_concept(draft: ConceptDraft, table: Mapping[str, Any]) -> dict[str, str]:
    origin = {
        "captions": "what the captions start with",
        "name": "from the folder's name",
        "default": "the trigger word: a word that the model does not know",
    }
    texts = {
        "token": origin.get(draft.seen, "the trigger word"),
        "class": "what it is, in a word that the model knows",
        "captions": "there are none: every image is trained as token and class",
        "metadata_file": "the captions of these images",
        "caption_prefix": "put in front of each caption; the captions do not start with it",
        "enable_wildcard": "every line of a caption file is a caption, and {a|b} is a or b",
        "keep_tokens": "tags at the start of each caption that stay there",
        "num_repeats": "from the folder's name: how often each image is used in an epoch",
    }
    return {key: text for key, text in texts.items() if key in table}


def _write_regularization(folder: FoundFolder, drafts: Sequence[ConceptDraft], name_path: Namer) -> dict[str, Any]:
    repeats, classes = folder.name.repeats, [each.class_ for each in drafts if each.class_]
    class_ = clean_word(folder.name.class_) or next(iter(classes), None) or drafts[0].token or PERSON
    table = {"class": class_, "images": name_path(folder.path)}
    return table | ({"num_repeats": repeats} if repeats and repeats > 1 else {})


def _find_masks(folder: FoundFolder, found: FoundDataset, name_path: Namer) -> str | None:
    """The folder of masks that has one for every image and nothing else, as sd-scripts needs it (S49). Where several
    folders have images of the same names, each mask belongs to the one that its path fits best."""
    stems = _list_stems(folder)
    fitting = [each for each in found.of_role("masks") if stems and _list_stems(each) == stems]
    if not fitting:
        return None
    masks = max(fitting, key=lambda each: _rate_masks(folder, each))
    rivals = [each for each in found.of_role("concept") if each.path != folder.path and _list_stems(each) == stems]
    unsure = any(_rate_masks(each, masks) >= _rate_masks(folder, masks) for each in rivals)
    return None if unsure else name_path(masks.path)


def _list_stems(folder: FoundFolder) -> set[str]:
    return {image.name.rpartition(".")[0] for image in folder.facts.images}


def _rate_masks(folder: FoundFolder, masks: FoundFolder) -> tuple[bool, int]:
    """How well the path of masks fits that of images: girl_masks and masks/girl to girl, girl/masks to girl and to
    girl/img."""
    named = masks.path.name.casefold().startswith(folder.path.name.casefold())
    shared = sum(1 for one, two in zip(folder.path.parts, masks.path.parts, strict=False) if one == two)
    return named, shared


def _describe(found: FoundDataset, drafts: Sequence[ConceptDraft]) -> tuple[str, ...]:
    """The first lines of the recipe: what was found."""
    images = sum(each.summary.images for each in drafts)
    captions = sum(each.summary.count for each in drafts)
    first = (
        f"Made by `lorabake init` from {found.root.name or '/'}: {images} {'image' if images == 1 else 'images'} "
        f"in {len(drafts)} {'folder' if len(drafts) == 1 else 'folders'}, {captions or 'none'} with a caption."
    )
    copies = [path.name for path in sorted(found.copies)]
    return (
        first,
        *([f"Not used, because they have the same images at another size: {', '.join(copies)}."] if copies else ()),
        *(["To train at several sizes, write resolutions = [512, 768] or the like under [train]."] if copies else ()),
        "Everything that is not written here has a default: `lorabake plan` shows every setting and its source.",
    )
