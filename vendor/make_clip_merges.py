"""Makes clip-merges.txt.gz, the byte pairs of CLIP's tokenizer, or checks (--check, no network) that it is complete.

    python vendor/make_clip_merges.py            needs pip and a package index
    python vendor/make_clip_merges.py --check

The pairs come from the package open_clip_torch, which carries OpenAI's file unchanged; CLIP uses those after the
first line, as many as fill its vocabulary. The licenses of both are in clip-merges-LICENSE.txt.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "clip-merges.txt.gz"
WHEEL = "open_clip_torch==3.3.0"
MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
VOCABULARY, BYTES, SPECIALS = 49_408, 256, 2  # every byte is there twice: within a word and at its end
PAIRS = VOCABULARY - 2 * BYTES - SPECIALS
SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"  # of the pairs, unpacked


def fetched() -> bytes:
    """The pairs, one a line, as the package has them."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(pip, check=True)  # noqa: S603 - a fixed argv list
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            lines = gzip.decompress(archive.read(MEMBER)).split(b"\n")
    return b"\n".join(lines[1 : PAIRS + 1])


def problem(pairs: bytes) -> str:
    """What is wrong with the pairs; empty when nothing is."""
    if hashlib.sha256(pairs).hexdigest() != SHA256:
        return f"{TARGET.name} is not what it was: its checksum is another"
    count = pairs.count(b"\n") + 1
    return "" if count == PAIRS else f"{TARGET.name} has {count} pairs, not {PAIRS}"


def main() -> int:
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__)
        return 2
    if not sys.argv[1:]:
        TARGET.write_bytes(gzip.compress(fetched(), 9, mtime=0))
    found = problem(gzip.decompress(TARGET.read_bytes()))
    print(found or f"{TARGET.name} has the {PAIRS} pairs of CLIP's tokenizer")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
