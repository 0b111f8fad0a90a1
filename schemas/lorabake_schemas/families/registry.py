"""The families that lorabake trains: each file of this package that has a FAMILY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from lorabake_schemas import families
from lorabake_schemas.families.model_family import LoraFamily, ModelFamily
from lorabake_schemas.families.recognized import RECOGNIZED

DEFAULT_FAMILY = "sd15"  # if it is unknown from the recipe and from the model


@cache
def load_families() -> Mapping[str, ModelFamily]:
    """Every family by its name."""
    names = sorted(each.name for each in iter_modules(families.__path__))
    modules = [import_module(f"{families.__name__}.{name}") for name in names]
    found = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return MappingProxyType({family.name: family for family in found})


def list_families() -> tuple[ModelFamily, ...]:
    return tuple(load_families().values())


def list_lora_families() -> tuple[LoraFamily, ...]:
    """Those as well that are only recognized in a LoRA."""
    return (*list_families(), *RECOGNIZED)


def list_family_names() -> tuple[str, ...]:
    return tuple(load_families())


def get_family(name: str) -> ModelFamily:
    """A family by its name. Raises KeyError for one that is not known."""
    return load_families()[name]


def list_scripts() -> tuple[str, ...]:
    """sd-scripts' training scripts, each once."""
    return tuple(dict.fromkeys(family.script for family in list_families()))


def find_family_by_context(width: int) -> ModelFamily | None:
    """The family whose UNet attends to text of this width."""
    return next((family for family in list_families() if family.context_width == width), None)


def find_family_by_other_name(name: str) -> ModelFamily | None:
    """The family that another program has under this name."""
    return next((family for family in list_families() if name in family.other_names), None)


def find_family_of_run(argv: Iterable[str], train: Mapping[str, object]) -> ModelFamily:
    """What was trained by this command with this train.toml: the family of the script with the most options set."""
    names = {argument.replace("\\", "/").rpartition("/")[2] for argument in argv}
    default = get_family(DEFAULT_FAMILY)
    script = next((script for script in list_scripts() if script in names), default.script)
    fitting = [
        family
        for family in list_families()
        if family.script == script and all(train.get(option) for option in family.script_options)
    ]
    return max(fitting, key=lambda family: len(family.script_options), default=default)
