"""The language of messages.

Everything below ``commands`` makes English ones with ``msg`` and ``nmsg``; ``commands`` translates them last.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from lorabake_schemas.messages import Catalog, Message, escape_invisible, literal, translate


@dataclass(frozen=True, slots=True)
class Translator:
    """A language and its catalogue.

    ``translator(msg(...))`` is the message in that language; a plain ``str`` is text of others, whose invisible
    characters are escaped.
    """

    language: str = "en"
    catalogue: Catalog = field(default_factory=gettext.NullTranslations, compare=False)
    recover: Callable[[str], Message] = field(default=literal, compare=False)

    def __call__(self, words: str) -> str:
        if not isinstance(words, Message):
            return escape_invisible(words)
        comma = self.language == "pt_BR"
        return str(translate(words, self.catalogue, decimal_comma=comma, recover=self.recover))


ENGLISH = Translator()
LANGUAGES = ("en", "pt_BR")


@cache
def load_translator(language: str) -> Translator:
    """One of LANGUAGES. English is in the source and needs no catalogue."""
    if language == "en":
        return ENGLISH
    compiled = read_catalog(language)
    return Translator(language, gettext.GNUTranslations(io.BytesIO(compiled)), partial(_recover, compiled))


def _recover(compiled: bytes, text: str) -> Message:
    from lorabake.util.templates import read_templates, recover_message

    return recover_message(text, read_templates(compiled))


def read_catalog(language: str) -> bytes:
    """The translations into one of LANGUAGES, as gettext reads them (.mo)."""
    from importlib.resources import files

    return (files("lorabake") / "locale" / language / "LC_MESSAGES" / "lorabake.mo").read_bytes()


def detect_language(env: Mapping[str, str]) -> str:
    """The language of the locale, as gettext finds it; English without a catalog for it.

    The first of LC_ALL, LC_MESSAGES and LANG that is set decides. LANGUAGE may list others to try before, which does
    not count in the C locale. Portuguese of another country gets that of Brazil.
    """
    locale = next((env[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if env.get(name)), "C")
    if _strip_locale(locale) in {"C", "POSIX"}:
        return "en"
    wanted = [*env.get("LANGUAGE", "").split(":"), locale]
    return next((found for each in wanted if (found := find_language(each))), "en")


def find_language(name: str) -> str | None:
    """The one of LANGUAGES that a locale's name means (pt_PT.UTF-8, pt-BR, pt), None for a language without catalog."""
    plain = _strip_locale(name).replace("-", "_").partition("_")[0].lower()
    return next((each for each in LANGUAGES if each.partition("_")[0] == plain), None)


def _strip_locale(locale: str) -> str:
    """``pt_BR.UTF-8@euro`` without what does not name the language."""
    return locale.partition(".")[0].partition("@")[0]
