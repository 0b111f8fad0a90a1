"""The datasets of a job of ai-toolkit: each entry is a folder, trained at one or more resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from lorabake.exchange.ai_toolkit.keys import DEFAULTS, SAME, START
from lorabake.exchange.convert import to_switch, to_text, to_whole
from lorabake.exchange.foreign import ForeignDataset, ForeignSubset, Given
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.ledger import Ledger
    from lorabake_schemas.base import OptionValue

_OWN_CAPTIONS = msg("ai-toolkit adds it to captions that lack it; lorabake changes no caption, but reports those")
_OTHER_JSON = msg("sd-scripts reads other JSON files than ai-toolkit; write the captions into text files")
_MAX_SIDE = 16_384


class Job(Protocol):
    """What a dataset needs of its job: the accounts, and values that all datasets share."""

    ledger: Ledger

    def find(self, name: str, /) -> str | None: ...

    def number(self, name: str, /) -> int | float | None: ...


class JobDataset:
    """One entry of a job's datasets: a folder at one or more resolutions."""

    def __init__(self, job: Job, start: str) -> None:
        self.job = job
        self.start = start
        self.options: dict[str, Given] = {}

    def get(self, name: str) -> object:
        key = self.key(name)
        return self.job.ledger.get(key) if self.job.ledger.has(key) else DEFAULTS.get("datasets[]." + name)

    def key(self, name: str) -> str:
        return START + self.start + name

    def text(self, name: str) -> str:
        return to_text(self.get(name)) or ""

    def switch(self, name: str) -> bool:
        return to_switch(self.get(name)) is True

    def whole(self, name: str) -> int | None:
        found = self.job.ledger.read_whole(self.key(name))
        return to_whole(DEFAULTS.get("datasets[]." + name)) if found is None else found

    def give(self, option: str, value: OptionValue, *names: str, into: dict[str, Given] | None = None) -> None:
        keys = tuple(key for key in map(self.key, names) if self.job.ledger.has(key))
        self.job.ledger.give(option, value, *keys, into=self.options if into is None else into)

    def drop(self, why: Message, *names: str) -> None:
        self.job.ledger.drop(why, *map(self.key, names))

    def same(self, *names: str) -> None:
        self.job.ledger.note("default", SAME, *map(self.key, names))

    def read(self) -> list[ForeignDataset]:
        folder = "folder_path" if self.text("folder_path") else "dataset_path"
        if folder == "dataset_path" and self.text(folder).endswith((".json", ".jsonl")):
            self.job.ledger.drop(_OTHER_JSON, *self.job.ledger.list_open(START + self.start))
            return []
        self.give("image_dir", self.text(folder), folder)
        self.give("num_repeats", max(1, self.whole("num_repeats") or 1), "num_repeats")
        self._read_captions()
        self._read_changes()
        shared: dict[str, Given] = {}
        size = max(1, int(self.job.number("train.batch_size") or 1))
        self.job.ledger.give("batch_size", size, *filter(None, [self.job.find("train.batch_size")]), into=shared)
        self.give("enable_bucket", self.switch("buckets"), "buckets", into=shared)
        if self.switch("buckets"):  # it enlarges no image
            self.give("bucket_no_upscale", True, into=shared)
        step = self.whole("bucket_tolerance") or 64
        if step != 64 and 8 <= step <= 1024:
            self.give("bucket_reso_steps", step, "bucket_tolerance", into=shared)
        if self.switch("is_reg"):
            self.job.ledger.note("computed", None, self.key("is_reg"), to="regularization")
        self.same("bucket_tolerance", "is_reg")
        subset = ForeignSubset(options=self.options, is_reg=self.switch("is_reg"))
        found: list[ForeignDataset] = []
        for side in self._list_sides():
            options = dict(shared)
            self.give("resolution", side, "resolution", into=options)
            found.append(ForeignDataset(options=options, subsets=(subset,)))
        return found

    def _list_sides(self) -> list[int]:
        value = self.get("resolution")
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        sides = [side for item in items if (side := to_whole(item)) and 0 < side <= _MAX_SIDE]
        if len(sides) != len(items):
            self.drop(msg("not a resolution"), "resolution")
        return list(dict.fromkeys(sides)) or [512]

    def _read_captions(self) -> None:
        extension = self.text("caption_type") or self.text("caption_ext")
        if extension.strip(".") in {"json", "jsonl"}:
            self.drop(_OTHER_JSON, "caption_ext", "caption_type")
        elif extension.strip(".") == "filename":
            self.drop(msg("sd-scripts reads captions from files; it takes none from an image's name"), "caption_type")
            self.give("caption_extension", "." + self.text("caption_ext").strip("."), "caption_ext")
        else:
            self.give("caption_extension", "." + extension.lstrip("."), "caption_ext", "caption_type")
        key = self.key("trigger_word") if self.text("trigger_word") else self.job.find("trigger_word")
        trigger = to_text(self.job.ledger.get(key)) if key else None
        if trigger and key and not self.switch("is_reg"):
            self.job.ledger.give("class_tokens", trigger, key, repair=_OWN_CAPTIONS, into=self.options)
        default = self.text("default_caption").replace("[trigger]", trigger or "").strip()
        if default and default != trigger and (not trigger or self.switch("is_reg")):
            self.give("class_tokens", default, "default_caption")
        self.drop(msg("sd-scripts trains images without a caption on the trigger word"), "default_caption")
        rates = {"caption_dropout_rate": "caption_dropout_rate", "token_dropout_rate": "caption_tag_dropout_rate"}
        for name, option in rates.items():
            rate = self.job.ledger.read_number(self.key(name))
            if rate is not None:
                self.give(option, rate, name)
        if self.job.ledger.has(self.key("shuffle_tokens")):
            self.give("shuffle_caption", self.switch("shuffle_tokens"), "shuffle_tokens")
        if kept := self.whole("keep_tokens"):
            self.give("keep_tokens", kept, "keep_tokens")
        self.same("keep_tokens")

    def _read_changes(self) -> None:
        for name, option in (("flip_x", "flip_aug"), ("random_crop", "random_crop"), ("alpha_mask", "alpha_mask")):
            if self.switch(name):
                self.give(option, True, name)
            self.same(name)
        if self.text("mask_path"):
            self.give("conditioning_data_dir", self.text("mask_path"), "mask_path")
            self.job.ledger.give("masked_loss", True, self.key("mask_path"))
        if "alpha_mask" in self.options:
            self.job.ledger.give("masked_loss", True, self.key("alpha_mask"))
        self.drop(msg("ai-toolkit takes the batch size of train"), "batch_size")

    def settle_caches(self) -> None:
        """Latents are cached for all datasets or for none, so these are options of the whole training."""
        keys = (self.key("cache_latents"), self.key("cache_latents_to_disk"))
        self.job.ledger.note("computed", msg("cached if all datasets are"), *keys, to="train.cache_latents")
