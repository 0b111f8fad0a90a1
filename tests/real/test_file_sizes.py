"""The size of a file, within 1 % of what networks built by sd-scripts and LyCORIS themselves save."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis import estimate
from lorabake.planning.file_size import METADATA
from lorabake.trainer import packages
from lorabake.trainer.install import Trainer
from lorabake.util import environment, process, resources
from lorabake_schemas.machine import BaseFacts, Family
from lorabake_schemas.plan import Forecast, Plan, Setting, Source
from lorabake_schemas.plan import Origin as From

pytestmark = pytest.mark.real
BUILDER = Path(__file__).with_name("build_networks.py")
SNAPSHOTS = ("shapes-sd15.txt", "shapes-sd2.txt", "shapes-sdxl.txt")
NOTHING = Forecast(
    train_samples=1, reg_samples=0, batches_per_epoch=1, steps_per_epoch=1, epochs=1, steps=1, warmup_steps=0
)
LORA = "networks.lora"
# The guide's own networks (section 3.5 of its profiles), by the arguments that lorabake writes.
USUAL = ("conv_dim=16", "conv_alpha=1.0")


@dataclass(frozen=True)
class Case:
    """A family and the options that make a network; ``arguments`` without a preset get the family's full one."""

    family: Family
    arguments: tuple[str, ...] = ()
    module: str = "lycoris.kohya"
    dim: int = 32
    alpha: float = 1.0
    unet_only: bool = False
    preset: str | None = "full"

    @property
    def file(self) -> str | None:
        """lorabake's preset file in place of one that does not work (S35)."""
        if self.preset == "ia3":
            return "lycoris-preset-ia3.toml"
        return "lycoris-preset-full-sd15.toml" if self.preset == "full" and self.family != "sdxl" else None

    def plan(self) -> Plan:
        options: dict[str, Any] = {
            "network_module": self.module,
            "network_dim": self.dim,
            "network_alpha": self.alpha,
            "save_precision": "fp16",
        }
        lycoris = (f"preset={self.file or self.preset}",) if self.preset and self.module != LORA else ()
        if self.arguments or lycoris:
            options["network_args"] = (*self.arguments, *lycoris)
        if self.unet_only:
            options["network_train_unet_only"] = True
        train = [
            Setting(option=name, value=value, source=Source(origin=From.RECIPE)) for name, value in options.items()
        ]
        return Plan(
            name="x",
            family=self.family,
            script="train_network.py",
            train=tuple(train),
            datasets=(),
            shipped_preset=self.file if lycoris else None,
            forecast=NOTHING,
        )


def algo(name: str, *arguments: str, family: Family = "sd15", **rest: Any) -> Case:
    return Case(family, (f"algo={name}", *(arguments or USUAL)), **rest)


QUICK = (
    Case("sd15", module=LORA),
    Case("sdxl", module=LORA, dim=16),
    Case("sdxl", ("conv_dim=16",), module=LORA, unet_only=True),
    algo("locon"),
    algo("locon", *USUAL, "dora_wd=True", "use_tucker=True"),
    algo("lokr", *USUAL, "factor=8", family="sdxl"),
    algo("diag-oft", "rescaled=True", dim=4),
    algo("ia3", preset="ia3"),
    algo("locon", family="sd2", preset="attn-mlp"),
    Case("sd15", ("algo=locon",), preset=None),  # LyCORIS' own full preset stops on SD1.5
)
FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")
NETWORKS = (
    *(("lora", (), dim) for dim in (1, 8, 32, 128)),
    ("lora", ("conv_dim=16", "conv_alpha=1.0"), 32),
    ("lora", ("conv_dim=0",), 32),
    ("locon", USUAL, 32),
    ("locon", (), 32),
    ("locon", ("conv_dim=0",), 32),
    ("locon", (*USUAL, "train_norm=True"), 32),
    ("locon", (*USUAL, "dora_wd=True"), 32),
    ("locon", (*USUAL, "dora_wd=True", "wd_on_output=False"), 32),
    ("locon", (*USUAL, "use_tucker=True", "use_scalar=True"), 32),
    ("loha", USUAL, 32),
    ("loha", ("use_tucker=True", "dora_wd=True"), 8),
    ("lokr", (*USUAL, "factor=-1"), 32),
    ("lokr", (*USUAL, "factor=8"), 32),
    ("lokr", ("factor=8", "full_matrix=True"), 32),
    ("lokr", ("factor=5", "decompose_both=True", "use_tucker=True"), 4),
    ("lokr", ("factor=4", "unbalanced_factorization=True", "dora_wd=True"), 8),
    ("dylora", (*USUAL, "block_size=4"), 128),
    ("dylora", ("block_size=4",), 30),
    ("dylora", (*USUAL, "block_size=4", "train_norm=True"), 8),
    ("glora", USUAL, 32),
    ("glora", ("use_tucker=True",), 8),
    ("ia3", (), 32),
    ("ia3", ("train_norm=True",), 32),
    ("diag-oft", (), 4),
    ("diag-oft", ("conv_dim=8", "constraint=0.001"), 32),
    ("boft", ("rescaled=True",), 8),
    ("boft", (), 3),
    ("full", (), 32),
)
PRESETS = ("full-lin", "attn-mlp", "attn-only", "unet-only", "unet-transformer-only", "unet-convblock-only")
MATRIX = (
    *(
        Case(family, given, LORA, dim) if name == "lora" else Case(family, (f"algo={name}", *given), dim=dim)
        for family in FAMILIES
        for name, given, dim in NETWORKS
    ),
    *(Case(family, ("algo=locon", *USUAL), preset=preset) for family in FAMILIES for preset in PRESETS),
    *(Case(family, ("algo=ia3",), preset="ia3") for family in FAMILIES),
    *(Case(family, ("algo=loha", *USUAL), unet_only=True) for family in FAMILIES),
)


def built(trainer: Trainer, cases: tuple[Case, ...], folder: Path) -> list[dict[str, list[int]] | str]:
    """What sd-scripts and LyCORIS make of the cases: names and shapes, or the error."""
    asked = [{"family": case.family, "options": options_of(case.plan(), folder)} for case in cases]
    (folder / "cases.json").write_text(json.dumps(asked), encoding="utf-8")
    env = packages.python_environment(environment.read_environment())
    with resources.trainer_script("dump_shapes.py") as script:
        argv = [trainer.python, BUILDER, folder / "cases.json", folder / "answer.json", script.parent]
        done = process.capture_output(list(map(str, argv)), cwd=trainer.checkout, env=env, timeout=900)
    assert done.ok, done.stderr[-3000:]
    answer: list[dict[str, list[int]] | str] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return answer


def options_of(plan: Plan, folder: Path) -> dict[str, Any]:
    """The plan's options as the trainer would read them, with the preset file where they say."""
    if plan.shipped_preset:
        (folder / plan.shipped_preset).write_text(resources.read_vendor_text(plan.shipped_preset), encoding="utf-8")
    options: dict[str, Any] = {setting.option: setting.value for setting in plan.train}
    if plan.shipped_preset:
        named = f"preset={plan.shipped_preset}"
        options["network_args"] = [
            f"preset={folder / plan.shipped_preset}" if each == named else each for each in options["network_args"]
        ]
    return options


def compare(trainer: Trainer, cases: tuple[Case, ...], folder: Path) -> None:
    """Every network, and one line that says how far the estimates are off."""
    answers = built(trainer, cases, folder)
    found = [
        (case, theirs, estimate.output_size(case.plan(), BaseFacts(kind="file")))
        for case, theirs in zip(cases, answers, strict=True)
    ]
    refused = [case for case, theirs, _ in found if isinstance(theirs, str)]
    off = [
        (abs(ours.tensor_bytes + ours.header_bytes - size) / size, case)
        for case, theirs, ours in found
        if not isinstance(theirs, str) and ours and (size := file_bytes(theirs))
    ]
    worst, case = max(off, key=lambda each: each[0])
    print(f"\n{len(off)} networks, at most {100 * worst:.2f} % off ({case}); {len(refused)} are refused by LyCORIS")
    assert [(case, theirs, ours) for case, theirs, ours in found if isinstance(theirs, str) is not (ours is None)] == []
    assert worst < 0.01
    assert 0 < len(refused) < len(cases) / 3


def file_bytes(shapes: dict[str, list[int]]) -> int:
    """Of a safetensors file of 16-bit numbers, with the metadata that an estimate reckons with."""
    entries, end = {}, 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    return end + len(json.dumps(entries, separators=(",", ":"))) + METADATA


def test_networks_as_they_are_built(trainer: Trainer, tmp_path: Path) -> None:
    compare(trainer, QUICK, tmp_path)


@pytest.mark.matrix
def test_every_kind_of_network_in_every_family(trainer: Trainer, tmp_path: Path) -> None:
    compare(trainer, MATRIX, tmp_path)


def test_the_snapshots_are_what_the_pin_builds(trainer: Trainer, tmp_path: Path) -> None:
    """The same command makes them (make snapshots)."""
    env = packages.python_environment(environment.read_environment())
    for name in ("lycoris-preset-full-sd15.toml", "lycoris-preset-ia3.toml"):
        (tmp_path / name).write_text(resources.read_vendor_text(name), encoding="utf-8")
    with resources.trainer_script("dump_shapes.py") as script:
        argv = [str(trainer.python), str(script), str(tmp_path)]
        done = process.capture_output(argv, cwd=trainer.checkout, env=env, timeout=900)
    assert done.ok, done.stderr[-3000:]
    for name in SNAPSHOTS:
        assert (tmp_path / name).read_text(encoding="utf-8") == resources.read_vendor_text(name), name
