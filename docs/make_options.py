"""The table of every option of the LoRA scripts: docs/options.md, which make_pages.py writes."""

from __future__ import annotations

from collections.abc import Mapping

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
({rule}), which can be ignored.
What would stop sd-scripts is an error. An option that has sd-scripts' own default value is not reported.
`lorabake explain OPTION` explains what an option means, if the guide or lorabake has something to say about it.

**Families**: the families that have the option; *dataset* is a key of the dataset file only.

**In a recipe**: its key, or `[kohya]` for an option under its own name.
*Set by lorabake*: no recipe can change it. *Another key*: lorabake writes the option from that key.
*Not available*: it cannot work here, or lorabake does not write it, for the reason given.

**Needs / conflicts**, each with the line of sd-scripts:

* *needs* X: has no effect without X; *needs X, else an error*: sd-scripts stops without it
* *disabled by* X: has no effect together with X
* *not with* X: sd-scripts stops if both are set
* *none*: acts alone; *never used*: sd-scripts accepts the option and does nothing with it"""

# Set whatever a recipe has.
ALWAYS_SET = ("config_file", "dataset_config", "output_dir", "logging_dir")
# How options get into a recipe that have no key of their own, or more than one way.
OTHER_PLACES: Mapping[str, str] = {
    "caption_extention": "*another key*: a misspelling from older versions of sd-scripts, of `caption_extension`",
    "is_reg": "*set by lorabake* for each `[[regularization]]`",
    "masked_loss": "*set by lorabake* with `concept.masks` or `concept.alpha_mask`; else `[kohya]`",
    "custom_attributes": "*not available*: the scripts for a LoRA do not read it",
    "network_multiplier": "*not available*: the scripts for a LoRA do not read it",
}


def options_page() -> str:
    """The page without its first line."""
    table = ["| Option | Families | In a recipe | Needs / conflicts |", "|---|---|---|---|"]
    table += [_format_row(name) for name in sorted(_list_options())]
    title = next(entry.title for entry in load_book() if entry.id == GENERIC_RULE)
    link = f"[{GENERIC_RULE}](rules.md#{heading_anchor(f'{GENERIC_RULE} {title}')})"
    head = HEAD.format(scripts="` and `".join(list_scripts()), counts=_format_counts(), rule=link)
    sources = {partner.source for partners in OPTION_PARTNERS.values() for partner in partners} | {*NEVER_READ.values()}
    return "\n\n".join([head, "\n".join(table), "\n".join(map(_format_reference, sorted(sources)))])


def _format_counts() -> str:
    total = len(_list_options())
    return (
        f"Of {total} options, {len(OPTION_PARTNERS)} need or exclude others, {len(WITHOUT_PARTNERS)} act by "
        f"themselves, and {len(NEVER_READ)} are accepted and never used."
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
    if name in OTHER_PLACES:
        return OTHER_PLACES[name]
    keys = [key.name for key in list_recipe_keys().values() if key.option == name and "." in key.name]
    if own := find_option_key(name):
        keys = [own, *(key for key in keys if key != own)]
    is_free = name not in RESERVED_OPTIONS and find_option_key(name) is None and _list_options()[name] is not None
    if keys:
        return ", ".join(f"`{key}`" for key in [*keys, *(["[kohya]"] if is_free else [])])
    if name in ALWAYS_SET:
        return _escape(f"*set by lorabake*: {RESERVED_OPTIONS[name]}")
    if name in RESERVED_OPTIONS and name in OPTION_REPLACEMENTS and name != "resume":
        return _escape(f"*another key*: {OPTION_REPLACEMENTS[name]}")
    if name in RESERVED_OPTIONS:
        return _escape(f"*not available*: {RESERVED_OPTIONS[name]}")
    return "`[kohya]`" if is_free else ""


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
