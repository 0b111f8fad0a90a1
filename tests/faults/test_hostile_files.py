"""Hostile model files, each given to inspect, compare, check and plan: never a bug of lorabake, never more than memory
and time allow.

LORABAKE_HOSTILE sets how many files (120 by default), LORABAKE_HOSTILE_SEED where they start.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from lora_files import metadata, write
from lorabake.cli import main
from situations import RECIPE, TORCH_OLD, project, torch_zip, write_base

COUNT = int(os.environ.get("LORABAKE_HOSTILE", "120"))
SEED = int(os.environ.get("LORABAKE_HOSTILE_SEED", "0"))
PARTS = 4
MEMORY = 700 << 20  # bytes of a process that has all of lorabake's packages in it
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan"), "", "x" * 10_000, "\ud800",
    "\u202e\x1b[2J", "\0", [], [[]], {}, {"a": {}}, [1, 2, 3], ["1"], [-1, -2], [0, 2**62], [1e99],
)  # fmt: skip
Bytes = Callable[[random.Random, bytes], bytes]


def parts(sound: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(sound[:8], "little")
    return json.loads(sound[8 : 8 + length]), sound[8 + length :]


def file_of(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def lying(chance: random.Random, sound: bytes) -> bytes:
    """A header in which some value is another one."""
    header, data = parts(sound)
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(list(header))
        entry = header[name]
        if isinstance(entry, dict) and entry and chance.random() < 0.8:
            values = cast("dict[str, object]", entry)
            values[chance.choice(list(values))] = chance.choice(ODD)
        else:
            header[name] = chance.choice(ODD)
        if not header:
            break
    return file_of(json.dumps(header).encode("utf-8", "surrogatepass"), data)


def renamed(chance: random.Random, sound: bytes) -> bytes:
    header, data = parts(sound)
    name = chance.choice(list(header))
    header[chance.choice(["", "\0", "a" * 50_000, "\u202e", "__metadata__", "lora_te", "..", "\ud800"])] = header.pop(
        name
    )
    return file_of(json.dumps(header).encode("utf-8", "surrogatepass"), data)


def long(chance: random.Random, sound: bytes) -> bytes:
    header, data = sound[8:-1], sound[-1:]
    return file_of(header, data, chance.choice([0, 1, 2, len(header) + 1, 2**24, 2**31, 2**63, 2**64 - 1]))


def deep(chance: random.Random, _: bytes) -> bytes:
    opened, closed = chance.choice([("[", "]"), ('{"a":', "}")])
    many = chance.choice([500, 5_000, 100_000])
    return file_of(f'{{"a":{opened * many}1{closed * many}}}'.encode())


def many(chance: random.Random, _: bytes) -> bytes:
    tensor = b'"t%d":{"dtype":"F16","shape":[],"data_offsets":[0,0]}'
    count = chance.choice([10, 10_000])
    return file_of(b"{" + b",".join(tensor % number for number in range(count)) + b"}")


def twice(_: random.Random, sound: bytes) -> bytes:
    header, data = sound[8:].split(b"}", 1)[0], sound
    return file_of(b"{" + b'"__metadata__":{},"__metadata__":[],' + header[1:] + b"}}", data)


def flipped(chance: random.Random, sound: bytes) -> bytes:
    changed = bytearray(sound)
    for _ in range(chance.randint(1, 40)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def cut(chance: random.Random, sound: bytes) -> bytes:
    return sound[: chance.randrange(len(sound))] + b"x" * chance.choice([0, 1, 1000])


def zipped(chance: random.Random, _: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in chance.sample(["archive/data.pkl", "../../x", "archive/data/0", "latents.npy", "a" * 60_000], 2):
            archive.writestr(name, bytes(chance.choice([0, 10, 10_000_000])))
    return flipped(chance, made.getvalue()) if chance.random() < 0.5 else made.getvalue()


def pickled(chance: random.Random, _: bytes) -> bytes:
    made = chance.choice([pickle.dumps({"a": 1}, chance.randint(0, 5)), torch_zip(), TORCH_OLD, b"\x80\x02c__main__\n"])
    return flipped(chance, made) if chance.random() < 0.5 else made


KINDS: tuple[Bytes, ...] = (lying, lying, renamed, long, deep, many, twice, flipped, cut, zipped, pickled)


@pytest.fixture
def little_memory() -> Any:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("part", range(PARTS))
def test_no_model_file_is_a_bug_of_ours(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, text=RECIPE)
    monkeypatch.chdir(tmp_path)
    env = {"LORABAKE_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "LORABAKE_SCAN_CACHE": "off"}
    sound = write(tmp_path / "sound.safetensors", {"lora_unet_a.lora_down.weight": (4, 8)}, metadata()).read_bytes()
    base = write_base(tmp_path / "base.safetensors").read_bytes()
    runner = CliRunner()
    for number in range(SEED + part, SEED + COUNT, PARTS):
        chance = random.Random(number)  # noqa: S311
        name = chance.choice(["m.safetensors", "m.safetensors", "m.ckpt", "m.pt", "m.npz"])
        (tmp_path / name).write_bytes(chance.choice(KINDS)(chance, chance.choice([sound, base])))
        key, value = chance.choice([("model", "base.safetensors"), ("vae", None), ("network_weights", None)])
        text = RECIPE.replace(value, name) if value else RECIPE
        if key == "vae":
            text = text.replace("[base]", f'[base]\nvae = "{name}"')
        if key == "network_weights":
            text += f'\n[network]\nnetwork_weights = "{name}"\n'
        (tmp_path / "recipe.toml").write_text(text)
        for command in (
            ["inspect", name],
            ["compare", "sound.safetensors", name],
            ["compare", name, name],
            [chance.choice(["check", "plan"]), "recipe.toml"],
        ):
            done = runner.invoke(main, command, env=env)
            assert done.exit_code in {0, 1}, (number, command, done.output)
