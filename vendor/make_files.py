"""Writes sd-scripts-files.txt: git's hash of each file of the pinned commit, counted up to the commit's own id.

    python vendor/make_files.py SD-SCRIPTS

SD-SCRIPTS is any git repository that has the commit, an installed trainer's for one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lorabake.trainer import git_tree
from lorabake.util import resources
from lorabake.util.environment import read_environment


def main() -> int:
    blobs = git_tree.read_commit_blobs(Path(sys.argv[1]), resources.load_pin().commit, read_environment())
    place = Path(__file__).with_name(resources.PIN_FILE_LIST)
    place.write_text(git_tree.format_blobs(blobs), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
