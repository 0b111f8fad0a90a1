"""How a value is decided: the recipe's own, else the guide's, and in either case the source is kept."""

from __future__ import annotations

from collections.abc import Mapping

from lorabake_schemas.base import OptionValue
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.plan import Origin, Setting, Source

NO_REASON = literal("")
FROM_RECIPE = Source(origin=Origin.RECIPE)


def default_by_guide(rule: str, why: Message = NO_REASON) -> Source:
    """A value the guide recommends."""
    return Source(origin=Origin.GUIDE, rule=rule, why=why)


def forced_by(rule: str, why: Message = NO_REASON) -> Source:
    """A value that sd-scripts needs to do what was asked."""
    return Source(origin=Origin.SD_SCRIPTS, rule=rule, why=why)


def by_hardware(why: Message) -> Source:
    """A value that depends on this machine."""
    return Source(origin=Origin.MACHINE, why=why)


def default_by_lorabake(why: Message) -> Source:
    """A value that is not from the guide or from sd-scripts."""
    return Source(origin=Origin.LORABAKE, why=why)


def choose(
    option: str, given: OptionValue | None, default: OptionValue | None = None, source: Source = FROM_RECIPE
) -> tuple[Setting, ...]:
    """``option`` from the recipe (``given``), else ``default`` with its ``source``, else nothing."""
    if given is not None:
        return (Setting(option=option, value=given, source=FROM_RECIPE),)
    if default is not None:
        return (Setting(option=option, value=default, source=source),)
    return ()


def fixed(option: str, value: OptionValue, source: Source) -> tuple[Setting, ...]:
    """``option`` whatever the recipe sets."""
    return (Setting(option=option, value=value, source=source),)


def mixed(option: str, arguments: Mapping[str, tuple[str, Source]]) -> tuple[Setting, ...]:
    """A list of arguments, each with its own source; the list's source names all of their rules, and what of it is the
    recipe's. Nothing without arguments."""
    if not arguments:
        return ()
    sources = [source for _, source in arguments.values()]
    given = [name for name, (_, source) in arguments.items() if source.origin is Origin.RECIPE]
    first = next((source for source in sources if source.origin is not Origin.RECIPE), FROM_RECIPE)
    rules = ", ".join(dict.fromkeys(source.rule for source in sources if source.rule))
    differ = 0 < len(given) < len(sources)
    changes = {"rule": rules} if rules else {}
    why = {"why": msg("from the recipe: {names}", names=", ".join(given))} if differ else {}
    value = tuple(text for text, _ in arguments.values())
    source = first.model_copy(update=changes | why)
    return (Setting(option=option, value=value, source=source, parts=tuple(sources) if differ else ()),)
