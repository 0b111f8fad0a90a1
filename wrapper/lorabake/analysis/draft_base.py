"""[base] of a recipe that does not exist yet: the model, and what neither its file nor sd-scripts knows of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lorabake.analysis.draft_concepts import Answers, ConceptDraft
from lorabake_schemas.families.known_models import find_trained_boards, guess_family, guess_v_prediction
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import BaseFacts
from lorabake_schemas.recipe import TagStyle

BOARDS: tuple[TagStyle, ...] = ("danbooru", "e621")
PLACEHOLDER = "models/your-model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A base model as the recipe names it, and its facts; ``model`` is None if none is known. ``others`` were found,
    too."""

    model: str | None = None
    facts: BaseFacts | None = None
    others: tuple[str, ...] = ()

    @property
    def missing(self) -> bool:
        return self.model is None or self.facts is None or self.facts.kind == "missing"

    @property
    def refused(self) -> bool:
        """Whether it is a file or a folder that cannot be trained on: of another family, or not a model."""
        return bool(self.facts and self.facts.problem and self.facts.kind != "hub")


@dataclass(frozen=True, slots=True)
class BaseDraft:
    """The keys of [base], a comment for some of them, and the kinds of captions that the model knows."""

    keys: dict[str, object]
    comments: dict[str, str] = field(default_factory=dict[str, str])
    styles: tuple[TagStyle, ...] = ()


def draft_base(choice: ModelChoice, answers: Answers, drafts: Sequence[ConceptDraft]) -> BaseDraft:
    """What the file shows is left out: family and prediction type are read from it at every run."""
    model, facts = choice.model or PLACEHOLDER, choice.facts
    keys: dict[str, object] = {"model": model}
    comments: dict[str, str] = {}
    if choice.missing:
        comments["model"] = "missing: the checkpoint to train on, a .safetensors file or a diffusers folder"
    elif facts and facts.family:
        comments["model"] = f"{get_family(facts.family).label}, as its file shows"
    shown = facts.family if facts else None
    if family := answers.family or (None if shown else guess_family(model)):
        keys["family"] = family
    styles = choose_styles(model, {each.summary.style for each in drafts})
    keys["tags"] = styles[0] if len(styles) == 1 else list(styles)
    comments["tags"] = "what the model knows: e621, danbooru or natural (sentences)"
    if (facts is None or facts.v_prediction is None) and guess_v_prediction(model):
        keys |= {"v_prediction": True, "zero_terminal_snr": True}
        comments["v_prediction"] = "by the model's name"
    return BaseDraft(keys, comments, styles)


def choose_styles(model: str, written: Collection[TagStyle | None]) -> tuple[TagStyle, ...]:
    """What a model of this name knows, else what the captions are (``written``)."""
    known = find_trained_boards(model)
    boards: tuple[TagStyle, ...] = tuple(board for board in BOARDS if board in known)
    if boards:
        return boards
    return tuple(board for board in BOARDS if board in written) or ("natural",)
