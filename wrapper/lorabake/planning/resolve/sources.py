"""How a value is decided: the recipe's own, else the guide's, and in either case the source is kept."""

from __future__ import annotations

from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin, Setting, Source
from lorabake_schemas.words import Said, quoted

NO_WHY = quoted("")
RECIPE = Source(origin=Origin.RECIPE)


def guide(rule: str, why: Said = NO_WHY) -> Source:
    """A value the guide recommends."""
    return Source(origin=Origin.GUIDE, rule=rule, why=why)


def forced(rule: str, why: Said = NO_WHY) -> Source:
    """A value that sd-scripts needs to do what was asked."""
    return Source(origin=Origin.SD_SCRIPTS, rule=rule, why=why)


def machine(why: Said) -> Source:
    """A value that depends on this machine."""
    return Source(origin=Origin.MACHINE, why=why)


def ours(why: Said) -> Source:
    """A value that neither the guide nor sd-scripts gives."""
    return Source(origin=Origin.LORABAKE, why=why)


def pick(
    option: str, given: OptionValue | None, default: OptionValue | None = None, source: Source = RECIPE
) -> tuple[Setting, ...]:
    """``option`` from the recipe (``given``), else ``default`` with its ``source``, else nothing."""
    if given is not None:
        return (Setting(option=option, value=given, source=RECIPE),)
    if default is not None:
        return (Setting(option=option, value=default, source=source),)
    return ()


def always(option: str, value: OptionValue, source: Source) -> tuple[Setting, ...]:
    """``option`` whatever the recipe says."""
    return (Setting(option=option, value=value, source=source),)


__all__ = ["RECIPE", "always", "forced", "guide", "machine", "ours", "pick"]
