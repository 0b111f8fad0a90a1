"""The configuration of OneTrainer, which can put all of it into a LoRA (``ot_config``, its DtypeModelSaverMixin.py:93).

Then that file is imported, and nothing has to be concluded from the tensors. It is still a stranger's: no file that it
names is opened, and its paths are only names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, Given, Options, Source
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.lora_file.datasets import clean_path
from lorabake.exchange.one_trainer.reader import read_one_trainer
from lorabake.inputs.base_model import looks_like_hub_id
from lorabake.lora.metadata import as_table, parse_json_value
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.inspection import BaseModelInfo
from lorabake_schemas.messages import literal, msg

KEY = "ot_config"
_BASE = "pretrained_model_name_or_path"
_NAMED_FILES = ("concept_file_name", "sample_definition_file_name")
_PATHS = frozenset({
    _BASE, "vae", "network_weights", "tokenizer_cache_dir", "image_dir", "conditioning_data_dir", "metadata_file",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class OwnConfig:
    """What its trainer's configuration in a LoRA says."""

    config: ForeignConfig

    @property
    def base(self) -> BaseModelInfo | None:
        given = self.config.options.get(_BASE)
        return BaseModelInfo(name=given.value) if given and isinstance(given.value, str) else None

    def complete(self, ledger: Ledger, missing: tuple[ImportedKey, ...], source: Source) -> ForeignConfig:
        """Together with what the rest of the metadata has; the base model that was found here comes first."""
        found = {_BASE: ledger.options[_BASE]} if _BASE in ledger.options else {}
        if source.images is None:
            why = msg("a LoRA has the names of its folders only; --images FOLDER names the place")
            missing += (ImportedKey(key="concept.images", fate="unknown", to="concept.images", why=why),)
        return replace(
            self.config,
            format="lora",
            name=self.config.name or source.path.stem,
            options={**ledger.options, **_clean_paths(self.config.options), **found},
            datasets=tuple(_clean_dataset(dataset) for dataset in self.config.datasets),
            keys=(*ledger.lines, *self.config.keys),
            missing=(*missing, *self.config.missing),
        )


def read_own_config(source: Source, ledger: Ledger, metadata: Mapping[str, str]) -> OwnConfig | None:
    """None where the LoRA has no such configuration, or one that cannot be imported."""
    ledger.note("result", msg("about the program"), "ot_branch", "ot_revision")
    table = {key: value for key, value in as_table(parse_json_value(metadata, KEY)).items() if key not in _NAMED_FILES}
    if not table:
        ledger.drop(msg("not the JSON that OneTrainer writes here"), KEY)
        return None
    try:
        config = read_one_trainer(replace(source, content=json.dumps(table).encode()))
    except RecipeError as error:
        ledger.drop(error.message, KEY)
        return None
    ledger.note("computed", msg("the configuration of {program}", program=literal(config.program)), KEY)
    return OwnConfig(config)


def _clean_dataset(dataset: ForeignDataset) -> ForeignDataset:
    subsets = tuple(replace(subset, options=_clean_paths(subset.options)) for subset in dataset.subsets)
    return replace(dataset, options=_clean_paths(dataset.options), subsets=subsets)


def _clean_paths(options: Options) -> dict[str, Given]:
    cleaned = {name: _clean_path(name, given) for name, given in options.items()}
    return {name: given for name, given in cleaned.items() if given is not None}


def _clean_path(option: str, given: Given) -> Given | None:
    if option not in _PATHS or not isinstance(given.value, str) or not given.value:
        return given
    if option == _BASE and looks_like_hub_id(given.value) and ".." not in given.value:
        return given
    name, repair = clean_path(given.value)
    return replace(given, value=name, repair=repair or given.repair) if name else None
