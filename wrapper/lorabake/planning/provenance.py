"""The mark by which a LoRA file leads back to its run: the end of sd-scripts' ``ss_training_comment``. Pure.

``lorabake sha256:`` and the run's digest, after the recipe's own comment and "; " if it has one. lorabake's version is
not in it: the record holds that, and two versions that start the same training must make equal files.
"""

from __future__ import annotations

import re

MARK = "lorabake sha256:"
BETWEEN = "; "
# Only at the very end: a recipe's comment may quote the mark of another run.
_MARKED = re.compile(rf"(?:\A|{BETWEEN}){MARK}([0-9a-f]{{64}})\Z")


def comment(given: str | None, digest: str) -> str:
    """The comment that a run with this digest writes; ``given`` is the recipe's own."""
    return f"{given}{BETWEEN}{MARK}{digest}" if given else f"{MARK}{digest}"


def comment_flag(given: str | None, digest: str) -> str:
    """The same as one argument for the script, which nothing can take apart: no shell comes between (accelerate 1.6.0
    utils/launch.py:129 hands on a list), and a comment may begin with a dash, which argparse takes only after "=".
    """
    return f"--training_comment={comment(given, digest)}"


def digest_in(comment: str) -> str | None:
    """The digest of the run that wrote this comment; None when lorabake did not."""
    found = _MARKED.search(comment)
    return found[1] if found else None


def given_in(comment: str) -> str | None:
    """What the recipe's own comment was; None when there was none."""
    return _MARKED.sub("", comment) or None


__all__ = ["MARK", "comment", "comment_flag", "digest_in", "given_in"]
