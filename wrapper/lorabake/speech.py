"""The one way out for words: whatever a person is to read passes through a Speech, which knows the language.

Everything below the surface makes English sentences with ``say`` and ``told`` and passes them on as they are; only
the surface (render, terminal, boundary, cli) has a Speech, and calls it last.
"""

from __future__ import annotations

import gettext
from dataclasses import dataclass, field

from lorabake_schemas.words import Catalogue, translated


@dataclass(frozen=True, slots=True)
class Speech:
    """A language and its catalogue. ``speech(say(...))`` is the sentence in that language; a plain ``str`` stays."""

    language: str = "en"
    catalogue: Catalogue = field(default_factory=gettext.NullTranslations, compare=False)

    def __call__(self, words: str) -> str:
        return str(translated(words, self.catalogue))


ENGLISH = Speech()

__all__ = ["ENGLISH", "Speech"]
