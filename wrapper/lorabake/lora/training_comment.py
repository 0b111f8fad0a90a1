"""The mark by which a LoRA file leads back to its run: the end of sd-scripts' ``ss_training_comment``. Pure.

``lorabake sha256:`` and the run's digest, after the recipe's own comment and "; " if it has one. lorabake's version is
not in it: the record holds that, and two versions that start the same training must make equal files.
"""

from __future__ import annotations

import re

COMMENT_MARK = "lorabake sha256:"
COMMENT_SEPARATOR = "; "
# Only at the very end: a recipe's comment may quote the mark of another run.
_MARK_PATTERN = re.compile(rf"(?:\A|{COMMENT_SEPARATOR}){COMMENT_MARK}([0-9a-f]{{64}})\Z")


def training_comment(given: str | None, digest: str) -> str:
    """The comment that a run with this digest writes; ``given`` is the recipe's own."""
    return f"{given}{COMMENT_SEPARATOR}{COMMENT_MARK}{digest}" if given else f"{COMMENT_MARK}{digest}"


def training_comment_flag(given: str | None, digest: str) -> str:
    """The same as one argument for the script, which nothing can take apart: no shell comes between (accelerate 1.6.0
    utils/launch.py:129 hands on a list), and a comment may begin with a dash, which argparse takes only after "=".
    """
    return f"--training_comment={training_comment(given, digest)}"


def parse_digest(comment: str) -> str | None:
    """The digest of the run that wrote this comment; None when lorabake did not."""
    found = _MARK_PATTERN.search(comment)
    return found[1] if found else None


def parse_own_comment(comment: str) -> str | None:
    """What the recipe's own comment was; None when there was none."""
    return _MARK_PATTERN.sub("", comment) or None
