"""A stand-in for the trainer: reads what sd-scripts would read and counts its steps, but trains and writes nothing.

    python -m lorabake.jobs.rehearsal --config_file train.toml --dataset_config dataset.toml

It opens and decodes every image at its bucket size and reads its caption, then prints what sd-scripts would print
(sd-scripts-facts 5.2), except for a loss and "model saved.".
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from lorabake.errors import LorabakeError, RecipeError
from lorabake.inputs.images import open_image
from lorabake.jobs.rehearsal_input import Rehearsal, RehearsalBlock, read_rehearsal
from lorabake.planning.batches import effective_repeats
from lorabake.planning.buckets import bucket_assigner
from lorabake.planning.forecast import forecast_run
from lorabake_schemas.bucket_fit import BucketFit
from lorabake_schemas.dataset import CaptionProblem, ImageFacts
from lorabake_schemas.families.registry import DEFAULT_FAMILY, list_family_names
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Forecast

BANNER = "rehearsal: a stand-in for sd-scripts, which trains nothing and writes no weights"
_FATAL_CAPTIONS = {
    CaptionProblem.UNREADABLE: msg("cannot be read"),
    CaptionProblem.NOT_UTF8: msg("is not UTF-8"),
    CaptionProblem.EMPTY: msg("is empty (0 bytes)"),
}
_BAR_CELLS = 10


class TqdmBar:
    """A tqdm-like bar on stderr: carriage return first, then ``steps:  17%|##        | 4/24 [...]``."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._began = label, max(1, total), time.monotonic()
        self.show(0)

    def show(self, done: int) -> None:
        """Redraw with ``done`` of the total. The rate is measured; there is never a loss."""
        spent = time.monotonic() - self._began
        rate = done / spent if done and spent else 0.0
        left = _format_clock((self._total - done) / rate) if rate else "?"
        speed = "?it/s" if not rate else f"{rate:5.2f}it/s" if rate >= 1 else f"{1 / rate:5.2f}s/it"
        full = _BAR_CELLS * done // self._total
        cells = "#" * full + " " * (_BAR_CELLS - full)
        sys.stderr.write(
            f"\r{self._label}: {100 * done // self._total:3d}%|{cells}| {done}/{self._total} "
            f"[{_format_clock(spent)}<{left}, {speed}, rehearsal]"
        )
        sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\n")
        sys.stderr.flush()


def _format_clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes:02d}:{second:02d}"


def iter_used_images(block: RehearsalBlock) -> Iterator[tuple[Path, ImageFacts, BucketFit]]:
    """Every image of the block that sd-scripts would train on, with its place; dropped ones are left out.

    Raises RecipeError for an image that fits no bucket.
    """
    place = bucket_assigner(block.counted.rules)
    repeats = effective_repeats(block.counted.subsets)
    for folder, subset, each in zip(block.folders, block.counted.subsets, repeats, strict=True):
        for image, size, times in zip(folder.images, subset.sizes, each, strict=False):
            if times:
                yield Path(folder.path, image.name), image, place(size)


def decode_to_bucket(path: Path, placed: BucketFit, *, exact: bool) -> None:
    """Decode an image, bring it to its bucket's size, throw it away.

    ``exact``: buckets are off and nothing is cached, so its size must be the resolution (TU:1622-1647). Raises
    RecipeError when it cannot be decoded or does not fit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about odd images that load anyway
            with open_image(path) as image:
                pixels = image.convert("RGB")
    except Exception as error:
        raise RecipeError(
            msg("cannot decode {file}: {why}", file=path, why=str(error)),
            hint=msg("save it again or remove it (sd-scripts would stop at it)"),
        ) from error
    if exact and pixels.size != placed.bucket:
        wanted = f"{placed.bucket[0]} x {placed.bucket[1]}"
        said = msg(
            "{file} has {width} x {height} pixels, not {wanted}",
            file=path,
            width=pixels.width,
            height=pixels.height,
            wanted=wanted,
        )
        hint = msg("turn on enable_bucket (without buckets, every image must match the resolution exactly)")
        raise RecipeError(said, hint=hint)
    pixels.resize(placed.resized, Image.Resampling.BILINEAR).crop(placed.crop)


def check_caption(path: Path, image: ImageFacts) -> None:
    """Raises RecipeError for a caption file that would stop sd-scripts (S12)."""
    words = _FATAL_CAPTIONS.get(image.caption.problem) if image.caption.problem else None
    if words:
        raise RecipeError(
            msg("the caption of {file} {is_what}", file=path, is_what=words),
            hint=msg("save the caption as UTF-8 text, with the tags on the first line"),
        )


def decode_all_images(rehearsal: Rehearsal) -> None:
    """Each image once, in sd-scripts' order. Raises RecipeError at the first that it would stop at."""
    work = [(*each, block) for block in rehearsal.blocks for each in iter_used_images(block)]
    bar = TqdmBar("rehearsal images", len(work))
    for done, (path, image, placed, block) in enumerate(work, start=1):
        check_caption(path, image)
        decode_to_bucket(path, placed, exact=not (block.counted.rules.enable_bucket or rehearsal.cache_latents))
        bar.show(done)
    bar.end()


def write_lines(*lines: str) -> None:
    """To stdout at once, so that the order of both streams in a log is the order of events."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def print_totals(told: Forecast, rehearsal: Rehearsal) -> None:
    """The counts sd-scripts prints before it trains (TN:987-1000)."""
    reg_images = sum(share.images for share in told.shares if share.is_reg)
    processes = rehearsal.schedule.num_processes
    write_lines(
        BANNER,
        "running training",
        f"  num train images * repeats: {told.train_samples}",
        "  num validation images * repeats: 0",
        f"  num reg images: {reg_images}",
        f"  num batches per epoch: {-(-told.batches_per_epoch // processes)}",
        f"  num epochs: {told.epochs}",
        f"  batch size per device: {', '.join(str(block.counted.batch_size) for block in rehearsal.blocks)}",
        f"  gradient accumulation steps = {rehearsal.schedule.gradient_accumulation_steps}",
        f"  total optimization steps: {told.steps}",
    )


def walk_steps(told: Forecast, output_dir: str, delay: float) -> None:
    """Every optimizer step of every epoch, each taking ``delay`` seconds; no file is written."""
    saves: dict[int, list[str]] = {}
    for save in told.saves:
        saves.setdefault(save.step, []).append(Path(output_dir, save.file).as_posix())
    bar = TqdmBar("steps", told.steps)
    for step in range(told.steps):
        if step % told.steps_per_epoch == 0:
            write_lines("", f"epoch {step // told.steps_per_epoch + 1}/{told.epochs}", "")
        if delay:
            time.sleep(delay)
        bar.show(step + 1)
        for file in saves.get(step + 1, ()):
            write_lines("", f"rehearsal: would save {file}")
    bar.end()


def run_rehearsal(rehearsal: Rehearsal, delay: float) -> int:
    """Run the complete rehearsal and return the number of steps. Raises RecipeError where sd-scripts would stop."""
    write_lines(BANNER, "accelerator device: rehearsal")
    told = forecast_run([block.counted for block in rehearsal.blocks], rehearsal.schedule)
    decode_all_images(rehearsal)
    if rehearsal.schedule.max_train_epochs is not None:
        write_lines(f"override steps. steps for {told.epochs} epochs is: {told.steps}")
    print_totals(told, rehearsal)
    walk_steps(told, rehearsal.output_dir, delay)
    return told.steps


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lorabake.jobs.rehearsal", description=BANNER)
    parser.add_argument("--config_file", type=Path, required=True)
    parser.add_argument("--dataset_config", type=Path, required=True)
    parser.add_argument("--num_processes", type=int, default=1, help="what accelerate would be set to")
    parser.add_argument(
        "--family", choices=list_family_names(), default=DEFAULT_FAMILY, help="whose latent caches count"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per step")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 walked to the end, 1 sd-scripts would have stopped, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    arguments = _parse_arguments(argv)
    try:
        rehearsal = read_rehearsal(
            arguments.config_file, arguments.dataset_config, arguments.num_processes, arguments.family
        )
        steps = run_rehearsal(rehearsal, arguments.delay)
    except LorabakeError as error:
        sys.stdout.flush()
        sys.stderr.write(f"\nrehearsal failed: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nrehearsal interrupted\n")
        return 130
    write_lines("", f"rehearsal finished: {steps} steps walked, nothing was trained")
    return 0


if __name__ == "__main__":
    sys.exit(main())
