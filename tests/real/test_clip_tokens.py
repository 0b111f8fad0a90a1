"""Our count of CLIP tokens beside transformers' own CLIPTokenizer, with the merges that lorabake ships."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from lorabake.inputs.clip_tokens import is_known_word, load_tokenizer
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.environment import make_child_env, read_environment

pytestmark = pytest.mark.real
WORDS = (
    "1girl", "solo", "blue eyes", "white background", "hu tao (genshin impact)", "hmbrgrlora", "hamburger", "anthro",
    "three-quarter view", "full-length portrait", "it's", "they're", "i'd", "l'été", "maçã, fruta", "pão de açúcar",
    "東京", "初音ミク", "привет мир", "ΣΊΣΥΦΟΣ", "İstanbul", "\u017fhip's", "'\u017f", "straße", "ﬁne", "…", "“quoted”",
    "it\u2019s", "🍔", "👩\u200d🚀🏽", "é", "\uff46\uff55\uff4c\uff4c width", "x²", "½", "Ⅷ", "٣", "१२", "a1b2c3",
    "2024-05-28", "score_9", "(((", ":3", "^_^", "<3", "&amp;", "a&b", "R&amp;D;", "<|endoftext|>", "\u00a0nbsp",
    "tab\there", "ã©", "FranÃ§ois", "\u200bzero", "\ufeffmark", "supercalifragilisticexpialidocious", "ㄅㄆㄇ", "ไทย",
    "مرحبا", "שלום", "e\u0301", "🇧🇷", "\u0378", "#hashtag", "100%", "<|ENDOFTEXT|>", "<|startoftext|>x",
)  # fmt: skip


def texts() -> list[str]:
    """Every word, and sentences of them; the same every time."""
    dice, made = random.Random(77), [*WORDS, ""]  # noqa: S311
    for _ in range(500):
        between = dice.choice((", ", ",", " ", " , ", "; "))
        made.append(between.join(dice.choices(WORDS, k=dice.randint(1, 60))))
    letters = "abcdefghijklmnopqrstuvwxyz'-_.,:;!?0123456789 ()ABCéçãñöß"
    made += ["".join(dice.choices(letters, k=dice.randint(1, 400))) for _ in range(300)]
    return made


def test_every_count_is_transformers_own(tmp_path: Path, trainer: Trainer) -> None:
    said = texts()
    (tmp_path / "texts.json").write_text(json.dumps(said), encoding="utf-8")
    (tmp_path / "merges.txt").write_text(resources.read_clip_merges(), encoding="utf-8")
    script = Path(__file__).with_name("count_clip_tokens.py")
    files = [str(tmp_path / name) for name in ("texts.json", "merges.txt", "answer.json")]
    argv = [str(trainer.python), str(script), *files]
    done = subprocess.run(argv, env=make_child_env(read_environment()), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts: list[int] = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert len(counts) == len(said) >= 800
    ours = [load_tokenizer().count(text) for text in said]
    unlike = [(text, a, b) for text, a, b in zip(said, counts, ours, strict=True) if a != b]
    print(f"{len(said)} texts, {sum(counts)} tokens, the longest {max(counts)}; {len(unlike)} unlike")
    assert unlike == []
    words = [text for text in said if text.isascii() and text.isalpha()]
    assert len(words) >= 5
    assert [is_known_word(word) for word in words] == [load_tokenizer().count(word) == 1 for word in words]
