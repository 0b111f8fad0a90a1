"""The one way out for words: whatever a person is to read passes through a Speech, which knows the language.

Everything below the surface makes English sentences with ``say`` and ``told`` and passes them on as they are; only
the surface (render, terminal, boundary, cli) has a Speech, and calls it last.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from lorabake_schemas.words import Catalogue, Said, translated, visible


@dataclass(frozen=True, slots=True)
class Speech:
    """A language and its catalogue. ``speech(say(...))`` is the sentence in that language; a plain ``str`` is somebody
    else's text, which is made visible."""

    language: str = "en"
    catalogue: Catalogue = field(default_factory=gettext.NullTranslations, compare=False)

    def __call__(self, words: str) -> str:
        return str(translated(words, self.catalogue)) if isinstance(words, Said) else visible(words)


ENGLISH = Speech()
LANGUAGES = ("en", "pt_BR")


@cache
def speech_in(language: str) -> Speech:
    """One of LANGUAGES. Its catalogue is read here."""
    from lorabake import resources

    return Speech(language, gettext.GNUTranslations(io.BytesIO(resources.catalogue(language))))


def language_of(env: Mapping[str, str]) -> str:
    """The language that the locale asks for, as gettext finds it; English where there is no catalogue for it.

    The first of LC_ALL, LC_MESSAGES and LANG that says anything decides; LANGUAGE may list others to try before, which
    does not count in the C locale. Portuguese of another country gets that of Brazil.
    """
    locale = next((env[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if env.get(name)), "C")
    if _bare(locale) in {"C", "POSIX"}:
        return "en"
    wanted = [*env.get("LANGUAGE", "").split(":"), locale]
    known = {"en": "en", "pt": "pt_BR"}
    return next((known[tongue] for each in wanted if (tongue := _bare(each).partition("_")[0]) in known), "en")


def _bare(locale: str) -> str:
    """``pt_BR.UTF-8@euro`` without what does not name the language."""
    return locale.partition(".")[0].partition("@")[0]


__all__ = ["ENGLISH", "LANGUAGES", "Speech", "language_of", "speech_in"]
