"""What kind of run this is: the few facts on which the guide's values depend."""

from __future__ import annotations

from dataclasses import dataclass

from lorabake_schemas.defaults import family_of, is_multi, network_of, optimizer_of, scheduler_of
from lorabake_schemas.machine import BaseFacts, Family, MachineFacts
from lorabake_schemas.recipe import Kind, NetworkType, Recipe, TagStyle
from lorabake_schemas.vocabulary import ADAM, is_adaptive


@dataclass(frozen=True, slots=True)
class Profile:
    """``adaptive``: the optimizer finds its own step size. ``adam``: the guide's AdamW values apply.

    ``multi``: several concepts. ``unet_only``: the text encoder is left alone. ``tags`` None means the recipe does
    not say. ``scheduler`` None means that the optimizer or [kohya] lr_scheduler_type brings its own.
    """

    family: Family
    kind: Kind
    optimizer: str
    network: NetworkType
    scheduler: str | None
    multi: bool
    unet_only: bool
    tags: TagStyle | None
    v_prediction: bool
    zero_terminal_snr: bool
    cuda: bool
    gpu_memory_mib: int

    @property
    def adaptive(self) -> bool:
        return is_adaptive(self.optimizer)

    @property
    def adam(self) -> bool:
        return self.optimizer in ADAM

    @property
    def lycoris(self) -> bool:
        return self.network != "lora"

    @property
    def sdxl(self) -> bool:
        return self.family == "sdxl"


def profile_of(recipe: Recipe, base: BaseFacts, machine: MachineFacts) -> Profile:
    """What the recipe says, else what the facts say, else the defaults that the rules assume, too."""
    return Profile(
        family=family_of(recipe, base),
        kind=recipe.kind,
        optimizer=optimizer_of(recipe.train),
        network=network_of(recipe),
        scheduler=scheduler_of(recipe),
        multi=is_multi(recipe),
        unet_only=recipe.network.network_train_unet_only is True,
        tags=recipe.base.tags,
        v_prediction=_first(recipe.base.v_prediction, base.v_prediction),
        zero_terminal_snr=_first(recipe.base.zero_terminal_snr, base.zero_terminal_snr),
        cuda=machine.device == "cuda",
        gpu_memory_mib=min((gpu.memory_mib for gpu in machine.gpus), default=0),
    )


def _first(said: bool | None, found: bool | None) -> bool:
    return said if said is not None else bool(found)


__all__ = ["Profile", "profile_of"]
