"""The table of every option of the LoRA scripts: docs/options.md, which make_pages.py writes."""

from __future__ import annotations

from lorabake.commands.output.explain import heading_anchor
from lorabake.util import resources
from lorabake_schemas.families.registry import list_families, list_scripts
from lorabake_schemas.guide.book import load_book
from lorabake_schemas.guide.partners import (
    FACTS,
    GENERIC_RULE,
    NEVER_READ,
    OPTION_PARTNERS,
    SOURCE_MODULES,
    WITHOUT_PARTNERS,
    Condition,
    Partner,
)
from lorabake_schemas.guide.rules.extra_options import OPTION_REPLACEMENTS, RESERVED_OPTIONS
from lorabake_schemas.guide.rules.partners import format_toml_value
from lorabake_schemas.options import DATASET_LEVELS, Option
from lorabake_schemas.plan import Script
from lorabake_schemas.recipe_keys import find_option_key, list_recipe_keys

HEAD = """# Every option of sd-scripts

What `{scripts}` accept at the pinned commit, and the keys of their dataset file:
where each is set in a recipe, what it needs to have an effect, and what disables it, with the line of sd-scripts.
{counts}

`lorabake check` compares the final settings of a recipe with this table. An option without effect is a warning
({rule}), which can be ignored. What would stop sd-scripts is an error. An
option with its default value is not reported.

**Families**: the families that have the option; *dataset* is a key of the dataset file only. **In a recipe**: its key,
or `[kohya]` for an option under its own name. *Refused* options are set by lorabake or cannot work here."""


def options_page() -> str:
    """The page without its first line."""
    table = ["| Option | Families | In a recipe | Partners |", "|---|---|---|---|"]
    table += [_format_row(name) for name in sorted(_list_options())]
    title = next(entry.title for entry in load_book() if entry.id == GENERIC_RULE)
    link = f"[{GENERIC_RULE}](rules.md#{heading_anchor(f'{GENERIC_RULE} {title}')})"
    head = HEAD.format(scripts="` and `".join(list_scripts()), counts=_format_counts(), rule=link)
    sources = {partner.source for partners in OPTION_PARTNERS.values() for partner in partners} | {*NEVER_READ.values()}
    return "\n\n".join([head, "\n".join(table), "\n".join(map(_format_reference, sorted(sources)))])


def _format_counts() -> str:
    total = len(_list_options())
    return (
        f"Of {total} options, {len(OPTION_PARTNERS)} have partners, {len(WITHOUT_PARTNERS)} act by themselves, and "
        f"{len(NEVER_READ)} are accepted and never used."
    )


def _list_options() -> dict[str, Option | None]:
    """Every option by its name; None for one that only the dataset file has."""
    dataset = resources.load_dataset_options()
    found: dict[str, Option | None] = {name: None for level in DATASET_LEVELS for name in dataset.at(level)}
    scripts: tuple[Script, ...] = list_scripts()
    return found | {option.name: option for script in scripts for option in resources.load_script_options(script)}


def _format_row(name: str) -> str:
    return f"| `{name}` | {_format_families(name)} | {_format_place(name)} | {_format_partners(name)} |"


def _format_families(name: str) -> str:
    having = [
        family.label
        for family in list_families()
        if any(option.name == name for option in resources.load_script_options(family.script))
    ]
    return "all" if len(having) == len(list_families()) else ", ".join(having) or "*dataset*"


def _format_place(name: str) -> str:
    keys = [key.name for key in list_recipe_keys().values() if key.option == name and "." in key.name]
    if own := find_option_key(name):
        keys = [own, *(key for key in keys if key != own)]
    is_free = name not in RESERVED_OPTIONS and find_option_key(name) is None and _list_options()[name] is not None
    if keys:
        return ", ".join(f"`{key}`" for key in [*keys, *(["[kohya]"] if is_free else [])])
    if name in RESERVED_OPTIONS:
        instead = f"; {OPTION_REPLACEMENTS[name]}" if name in OPTION_REPLACEMENTS else ""
        return _escape(f"*refused*: {RESERVED_OPTIONS[name]}{instead}")
    return "`[kohya]`" if is_free else "set by lorabake" if name == "is_reg" else ""


def _format_partners(name: str) -> str:
    if name in NEVER_READ:
        return f"never used ({_link_source(NEVER_READ[name])})"
    return "<br>".join(map(_format_partner, OPTION_PARTNERS.get(name, ()))) or "none"


def _format_partner(partner: Partner) -> str:
    verb, conditions = ("needs", partner.needs) if partner.needs else ("disabled by", partner.blocked)
    if partner.stops and partner.blocked:
        verb = "not with"
    listed = " or ".join(map(_format_condition, conditions))
    error = ", else an error" if partner.stops and partner.needs else ", which is an error" if partner.stops else ""
    return _escape(f"{verb} {listed} ({_link_source(partner.source)}){error}")


def _format_condition(condition: Condition) -> str:
    if condition.option in FACTS:
        return str(FACTS[condition.option][0])
    if not condition.values:
        return f"`{condition.option}`"
    return f"`{condition.option} = " + "` or `".join(map(format_toml_value, condition.values)) + "`"


def _link_source(source: str) -> str:
    short, _, line = source.partition(":")
    return f"[{SOURCE_MODULES[short].rpartition('/')[2]}.py:{line}][{source}]"


def _format_reference(source: str) -> str:
    """Where a link leads: Markdown has it apart from the text."""
    pin, (short, _, line) = resources.load_pin(), source.partition(":")
    return f"[{source}]: {pin.url.removesuffix('.git')}/blob/{pin.commit}/{SOURCE_MODULES[short]}.py#L{line}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
