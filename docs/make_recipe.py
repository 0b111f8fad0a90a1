"""The recipe reference, docs/recipe.md: every key with its meaning, values, default and option, as the schema and the
guide have them. Called by make_pages.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorabake.commands.output.explain import escape_markdown, heading_anchor, list_default_cases
from lorabake.commands.output.plan import format_setting_value
from lorabake.util.resources import load_snapshot
from lorabake_schemas.guide.book import load_book
from lorabake_schemas.guide.default_values import DefaultValue, DefaultValues, list_default_values
from lorabake_schemas.plan import WatchPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import OWN_KEYS, RecipeKey, list_recipe_keys

HEAD = """# Every key of a recipe

A recipe needs `name`, `kind`, `[base]` and one `[[concept]]`. Leave out every other key that you do not need: the plan
then uses the default shown here, and `lorabake plan` shows the values of your own recipe with their sources.

**Default** is the value that lorabake writes, for which recipes, and the rule behind it ([every rule](rules.md)):
*guide* where several rules of the guide decide together, *lorabake* where lorabake chooses. If several lines apply to
a recipe, the most specific one counts: a line with *with* goes before one without, a family or a kind before *any*.
*not set* means that the option is not written. *sd-scripts* means the same, and gives the value that sd-scripts uses.

**Option** is the option of sd-scripts that the key becomes or decides. `lorabake explain KEY` explains each of them.
Options without a key go under `[kohya]`, under their own names; [every option](options.md) lists them with what they
need."""
TABLE_HEAD = "| Key | Meaning | Value | Default | Option |\n|---|---|---|---|---|"
REQUIRED, NOT_SET = "**required**", "not set"
# Defaults that are computed, or not those of the option that the key becomes.
OTHER_DEFAULTS: Mapping[str, str] = {
    "base.family": "read from the model file",
    "base.v_prediction": "read from the model file",
    "base.native_resolution": "that of its family",
    "concept.token": NOT_SET,
    "concept.class": NOT_SET,
    "concept.outfit": NOT_SET,
    "concept.captions": "caption files are read",
    "concept.resolution": "that under `[train]`",
    "concept.tags": "`tags` under `[base]`",
    "regularization.shuffle_caption": "`false`",
    "regularization.keep_tokens": "`0`",
    "concept.num_repeats": "`1` (G2.20); with several concepts, computed to balance their steps (G6.11)",
    "network.args": "what the keys above with *network_args* as option write, and the algorithm of LyCORIS (`algo`)",
    "network.type": "`locon`: style (G4.21)<br>`lora`: all others (G4.20)",
    "train.exposures": "see `max_train_epochs`",
    "train.max_train_steps": NOT_SET,
    "train.resolutions": NOT_SET,
    "train.attention": "`auto`",
    "save.runs": "`runs`",
    "save.save_every_n_epochs": "computed: 1 up to ten epochs, else about ten files (G4.37)",
    "sample.sample_every_n_epochs": "as often as a LoRA is saved, unless `sample_every_n_steps` is set",
    "metadata.trigger_phrase": "the tokens (G4.16)",
    "launch.num_processes": "`1`",
    "launch.num_cpu_threads_per_process": "`1`; without a GPU, all threads of the machine",
    **{f"watch.{name}": f"`{json.dumps(value)}`" for name, value in WatchPlan().model_dump().items()},
    "kohya": NOT_SET,
}
# Keys that become no option of their own.
OTHER_OPTIONS: Mapping[str, str] = {
    "base.family": "decides the script and `v2`",
    "concept.token": "part of `class_tokens`",
    "concept.class": "part of `class_tokens`",
    "concept.outfit": "part of `class_tokens`",
    "concept.captions": "decides `caption_extension`",
    "concept.masks": "`conditioning_data_dir`, and sets `masked_loss`",
    "concept.alpha_mask": "`alpha_mask`, and sets `masked_loss`",
    "train.exposures": "computes `max_train_epochs`",
    "train.resolutions": "`resolution` of several `[[datasets]]`",
    "train.attention": "decides `xformers` or `sdpa`",
    "save.runs": "decides `output_dir` and `logging_dir`",
    "launch.deterministic": "decides `sdpa` and `num_cpu_threads_per_process`",
}
TYPE_NAMES: Mapping[str, str] = {
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "object": "table",
    "string": "text",
}
Schema = dict[str, Any]


def recipe_page() -> str:
    """The page without its first line."""
    schema = Recipe.model_json_schema(by_alias=True)
    return "\n\n".join([HEAD, *(_format_table(*table) for table in iter_tables(schema))])


def iter_tables(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The recipe itself, then each table below it: its heading, the names of its keys up to the last dot, its schema
    with references resolved."""
    yield "At the top", "", schema
    yield from _iter_inner_tables(schema, schema, "")


def _iter_inner_tables(schema: Schema, root: Schema, path: str) -> Iterator[tuple[str, str, Schema]]:
    for name, field in schema["properties"].items():
        found = _find_table(field, root)
        if found is None:
            continue
        table, several = found
        inner = f"{path}{name}"
        yield f"`[[{inner}]]`" if several else f"`[{inner}]`", f"{inner}.", table
        yield from _iter_inner_tables(table, root, f"{inner}.")


def _find_table(field: Schema, root: Schema) -> tuple[Schema, bool] | None:
    """The table that a key is, and whether there may be several of it."""
    if "$ref" in field:
        table = _resolve(field, root)
        return (table, False) if "properties" in table else None
    if found := _find_table(field["items"], root) if isinstance(field.get("items"), dict) else None:
        return found[0], True
    return next((found for each in field.get("anyOf", ()) if (found := _find_table(each, root))), None)


def _resolve(field: Schema, root: Schema) -> Schema:
    resolved: Schema = root["$defs"][field["$ref"].rpartition("/")[2]]
    return resolved


def _format_table(heading: str, path: str, table: Schema) -> str:
    required, root = table.get("required", ()), Recipe.model_json_schema(by_alias=True)
    rows = [
        _format_row(name, list_recipe_keys()[f"{path}{name}"], field, required=name in required)
        for name, field in table["properties"].items()
        if _find_table(field, root) is None
    ]
    description = [" ".join(table["description"].split())] if path else []
    return "\n\n".join([f"## {heading}", *description, "\n".join([TABLE_HEAD, *rows])])


def _format_row(name: str, key: RecipeKey, field: Schema, *, required: bool) -> str:
    default = REQUIRED if required else format_default(key)
    cells = (f"`{name}`", escape_markdown(key.description), format_value(field), default, format_option(key))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def format_value(field: Schema) -> str:
    """Type and limits of a field of a JSON schema, in plain English."""
    if "const" in field:
        return f'`"{field["const"]}"`'
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(format_value(each) for each in field["anyOf"] if each.get("type") != "null"))
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {format_value(field['prefixItems'][0])}"
    if field["type"] == "array":
        return f"list of: {format_value(field['items'])}"
    name = "path" if field.get("format") == "path" else TYPE_NAMES[field["type"]]
    return ", ".join([name, *_list_limits(field)])


def _list_limits(field: Schema) -> Iterator[str]:
    least, most, below = field.get("minimum"), field.get("maximum"), field.get("exclusiveMaximum")
    if "exclusiveMinimum" in field:
        yield f"above {field['exclusiveMinimum']:,}"
    if least is not None and most is not None:
        yield f"{least:,} to {most:,.0f}"
    elif least is not None:
        yield f"at least {least:,}"
    elif most is not None:
        yield f"up to {most:,.0f}"
    if below is not None:
        yield f"below {below:,}"
    if "maxLength" in field:
        yield f"at most {field['maxLength']} characters"


def format_default(key: RecipeKey) -> str:
    """What is used where a recipe leaves the key out."""
    if key.name in OTHER_DEFAULTS:
        return re.sub(r"(?<=\()[GS][\w.]+(?=\))", lambda found: link_rule(found[0]), OTHER_DEFAULTS[key.name])
    table, _, name = key.name.partition(".")
    if table == "concept" and f"captions.{name}" in list_recipe_keys():
        return f"`{name}` under `[captions]`"
    if defaults := list_default_values(key.option):
        return "<br>".join(_iter_cases(defaults))
    option = next((each for each in load_snapshot().merge_scripts() if each.name == key.option), None)
    if key.name in OWN_KEYS or option is None or option.default in {None, ""}:
        return NOT_SET
    return f"{format_code(option.default)} (*sd-scripts*)"


def _iter_cases(defaults: DefaultValues) -> Iterator[str]:
    """Each value with the recipes that get it and the rules behind it; one value for all is shown once."""
    cases = list_default_cases(defaults)
    if len({repr(each.value) for each, _ in cases}) == 1:
        yield f"{format_code(defaults[0].value)}{_format_sources(defaults)}"
        return
    for each, whom in cases:
        value = NOT_SET if each.value is None else format_code(each.value)
        yield f"{value}: {escape_markdown(whom)}{_format_sources([each])}"


def _format_sources(defaults: Sequence[DefaultValue]) -> str:
    """Links to the rules; who decided where no rule did."""
    sources = [each.source for each in defaults if each.source]
    rules = dict.fromkeys(rule.strip() for source in sources for rule in source.rule.split(",") if rule)
    links = ", ".join(map(link_rule, rules)) or ", ".join(
        dict.fromkeys(f"*{source.origin.value}*" for source in sources)
    )
    return f" ({links})" if links else ""


def format_code(value: object) -> str:
    return f"`{json.dumps(value) if isinstance(value, bool) else format_setting_value(value)}`"  # type: ignore[arg-type]


def link_rule(rule: str) -> str:
    """To its entry in rules.md."""
    entry = next((entry for entry in load_book() if entry.id == rule), None)
    return f"[{rule}](rules.md#{heading_anchor(f'{entry.id} {entry.title}')})" if entry else rule


def format_option(key: RecipeKey) -> str:
    """The option by its name, and whose it is where it is not sd-scripts'."""
    if key.name in OTHER_OPTIONS:
        return OTHER_OPTIONS[key.name]
    if key.name in OWN_KEYS:
        return ""
    owner = {"network": "network_args", "launch": "accelerate"}.get(key.name.partition(".")[0])
    known = key.option in {each.name for each in load_snapshot().merge_scripts()}
    return f"`{key.option}`" if known or owner is None else f"{owner}: `{key.option}`"
