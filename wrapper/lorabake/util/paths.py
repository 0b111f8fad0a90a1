"""Where lorabake keeps what it can always make again: trainers, facts about files, crash reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs


def lorabake_home(env: Mapping[str, str]) -> Path:
    """LORABAKE_HOME, or lorabake's folder among the user's caches."""
    named = env.get("LORABAKE_HOME", "")
    return Path(named).absolute() if named else platformdirs.user_cache_path("lorabake", appauthor=False)
