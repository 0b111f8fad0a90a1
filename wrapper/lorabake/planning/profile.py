"""What kind of run this is: the few facts on which the guide's values depend."""

from __future__ import annotations

from typing import NamedTuple

from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.caption_settings import list_tag_styles
from lorabake_schemas.guide.defaults import (
    is_multi_concept,
    resolve_family,
    resolve_network_type,
    resolve_optimizer,
    resolve_scheduler,
)
from lorabake_schemas.machine import BaseFacts, ContinuedLora, MachineFacts
from lorabake_schemas.recipe import Recipe, RecipeKind, TagStyle
from lorabake_schemas.sd_scripts import ADAM_OPTIMIZERS, is_adaptive, is_lycoris


class Profile(NamedTuple):
    """``adaptive``: the optimizer finds its own step size. ``adam``: the guide's AdamW values apply.

    ``multi``: several concepts. ``unet_only``: the text encoder is left alone; ``text_only``: the UNet. ``tags`` are
    those of the recipe. ``scheduler`` None means that the optimizer or lr_scheduler_type brings its own.
    """

    family: ModelFamily
    kind: RecipeKind
    optimizer: str
    network: str
    scheduler: str | None
    multi: bool
    unet_only: bool
    text_only: bool
    tags: tuple[TagStyle, ...]
    v_prediction: bool
    zero_terminal_snr: bool
    cuda: bool
    gpu_memory_mib: int
    continued: ContinuedLora | None = None

    @property
    def adaptive(self) -> bool:
        return is_adaptive(self.optimizer)

    @property
    def adam(self) -> bool:
        return self.optimizer in ADAM_OPTIMIZERS

    @property
    def lycoris(self) -> bool:
        return is_lycoris(self.network)


def build_profile(recipe: Recipe, base: BaseFacts, machine: MachineFacts) -> Profile:
    """The recipe's values, else the facts', else the defaults that the rules assume, too."""
    return Profile(
        family=resolve_family(recipe, base),
        kind=recipe.kind,
        optimizer=resolve_optimizer(recipe.train),
        network=resolve_network_type(recipe, base),
        scheduler=resolve_scheduler(recipe),
        multi=is_multi_concept(recipe),
        unet_only=_is_unet_only(recipe, base.continued),
        text_only=recipe.kohya.get("network_train_text_encoder_only") is True,
        tags=list_tag_styles(recipe.base),
        v_prediction=_first_known(recipe.base.v_prediction, base.v_prediction),
        zero_terminal_snr=_first_known(recipe.base.zero_terminal_snr, base.zero_terminal_snr),
        cuda=machine.device == "cuda",
        gpu_memory_mib=min((gpu.memory_mib for gpu in machine.gpus), default=0),
        continued=base.continued,
    )


def _is_unet_only(recipe: Recipe, continued: ContinuedLora | None) -> bool:
    """As in a LoRA that was trained without the text encoder, unless the recipe sets it."""
    said = recipe.network.network_train_unet_only
    return said if said is not None else continued is not None and not continued.text_encoder


def _first_known(said: bool | None, found: bool | None) -> bool:
    return said if said is not None else bool(found)
