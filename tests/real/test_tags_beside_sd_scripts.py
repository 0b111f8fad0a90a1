"""Tags as lorabake splits them, compared with sd-scripts' process_caption, and what keep_tokens keeps."""

from __future__ import annotations

import json
import random
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.guide.tags import CaptionStyle, split_tags

pytestmark = pytest.mark.real
MIZUTSUNE = (
    "mizutsune, feral, blue eyes, no sclera, bubbles, soap, side view, action pose, open mouth, realistic, "
    "twisted torso, looking back, hand on ground, white background"
)
WORDS = ("tok", "class", "Long Hair", "red_hat", "fate \\(series\\)", "^_^", "maçã", "a b", "score_9", "1girl")


def case(caption: str, keep: int = 2, **more: Any) -> dict[str, Any]:
    empty = {"prefix": "", "suffix": "", "separator": ",", "keep_tokens_separator": "", "secondary_separator": ""}
    return {"caption": caption, "keep_tokens": keep} | empty | more


def cases() -> list[dict[str, Any]]:
    dice, made = random.Random(5), [case(MIZUTSUNE, keep) for keep in (0, 2, 4, 6)]  # noqa: S311
    ways = product((",", ";"), ("", "first, "), ("", ", last"), ("", "|||"), ("", ";;;", "/"))
    for separator, prefix, suffix, kept, second in ways:
        for _ in range(4):
            tags = [*dice.sample(WORDS, dice.randint(1, len(WORDS)))]
            joined = separator.join(f"{tag}{dice.choice(('', ' '))}" for tag in tags)
            if kept and dice.random() < 0.7:
                joined = joined.replace(separator, kept, 1)
            if second and second != separator * 3:
                joined = joined.replace(separator, second, 1)
            more = {"prefix": prefix.replace(",", separator), "suffix": suffix.replace(",", separator)}
            options = {"separator": separator, "keep_tokens_separator": kept, "secondary_separator": second}
            made.append(case(joined, dice.randint(0, 4), **more, **options))
    return made


def ours(one: dict[str, Any]) -> list[str]:
    marks = tuple(one[name] for name in ("keep_tokens_separator", "secondary_separator") if one[name])
    return split_tags(one["caption"], CaptionStyle(one["separator"], one["prefix"], one["suffix"], marks))


def theirs(one: dict[str, Any], caption: str) -> list[str]:
    """The tags of a caption that sd-scripts has put together again: by comma and space, or its separator."""
    pieces = caption.replace(one["separator"], ",").split(",")
    return [piece.strip() for piece in pieces if piece.strip()]


def test_tags_are_sd_scripts_tags(tmp_path: Path, trainer: Trainer) -> None:
    asked = cases()
    (tmp_path / "cases.json").write_text(json.dumps(asked), encoding="utf-8")
    script = Path(__file__).with_name("split_with_sd_scripts.py")
    argv = [str(trainer.python), str(script), str(tmp_path / "cases.json"), str(tmp_path / "answer.json")]
    env = make_child_env(read_environment())
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[list[str]] = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    unlike = [
        (one, caption)
        for one, captions in zip(asked, answers, strict=True)
        for caption in captions
        if sorted(theirs(one, caption)) != sorted(ours(one))
    ]
    print(f"{len(asked)} captions, shuffled five times each; {len(unlike)} with other tags than ours")
    assert unlike == []
    for one, captions in zip(asked[:4], answers[:4], strict=True):  # the guide's example (T13)
        keep = one["keep_tokens"]
        assert {tuple(theirs(one, caption)[:keep]) for caption in captions} == {tuple(ours(one)[:keep])}
        assert len({tuple(theirs(one, caption)[keep:]) for caption in captions}) > 1
