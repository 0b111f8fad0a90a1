"""A language that nobody speaks, to see what is translated."""

from __future__ import annotations

import gettext


class Backwards(gettext.NullTranslations):
    """A language whose sentences start with a tilde."""

    def gettext(self, message: str) -> str:
        return f"~{message}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"~{msgid1 if n == 1 else msgid2}"
