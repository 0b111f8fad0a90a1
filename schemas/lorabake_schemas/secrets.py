"""What is a secret: access tokens, keys of an account and passwords, by the name of their key or by their form.

Nothing of others is printed or copied before it went through here: what is shown has "..." in place of each, and what
is copied is left out if it contains one without a doubt. A copied value never changes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from lorabake_schemas.messages import Message, literal

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ALWAYS = re.compile(
    r"secret(?!ary|ari|et|ion|ive|ly)|passw|passphrase|credential|apikey|accesskey|privatekey|authorization|authentication"
)
_WORDS = frozenset({"auth", "cred", "creds", "pwd"})
# Tokens of a text, and keys of a table or a keyboard.
_TEXT_TOKENS = frozenset(
    (
        "bos", "caption", "character", "class", "concept", "embedding", "end", "eos", "first", "init", "initializer",
        "instance", "keep", "last", "mask", "max", "min", "modifier", "n", "no", "num", "pad", "padding", "per",
        "placeholder", "prompt", "sep", "shuffle", "special", "start", "style", "tag", "text", "trigger", "unique",
        "unk", "validation",
    )
)  # fmt: skip
_SERVICES = frozenset(
    (
        "access", "account", "api", "auth", "bearer", "civitai", "git", "github", "hf", "hub", "huggingface", "login",
        "read", "service", "user", "wandb", "write",
    )
)  # fmt: skip
_TABLE_KEYS = frozenset(
    (
        "cache", "caption", "captions", "column", "conditioning", "config", "dict", "don", "file", "high", "hoc", "hot",
        "image", "images", "input", "joc", "json", "label", "latent", "latents", "lora", "low", "metadata", "mon",
        "output", "primary", "prompt", "public", "scale", "sort", "stage", "state", "tag", "tags", "text", "tur",
        "whis",
    )
)  # fmt: skip
# How the keys of known services start, and one that says what it is.
HUB_PREFIXES = r"(?:hf|api_org|r8|npm|dop_v1)_"
SERVICE_PREFIXES = r"(?:[prs]k[-_]|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|xapp-|rpa_|pypi-|wandb_v\d_)"
CLOUD_PREFIXES = r"(?:AIza|ya29\.|GOCSPX-|SG\.)"
CLOUD_KEY = r"(?:AKIA|ASIA)[A-Z0-9]{12,}"
JSON_WEB_KEY = r"eyJ[-\w]{8,}\.[-\w]{4,}(?:\.[-\w]+)*"
# No name of a person, a file or a style: digits in three places.
_RUN = r"(?:[A-Za-z0-9]{0,15}[-_]){0,8}(?=[A-Za-z]*+\d++(?:[A-Za-z]++\d++){2})[A-Za-z0-9]{16,}+[-\w]*+"
_FILE_NAME = r"\.(?:safetensors|ckpt|pth?|bin|json|toml|txt|png|jpe?g|webp)\b"
_NO_FILE = r"(?!\.(?:safetensors|ckpt|pth?)\b|/|\\(?!['\"]))"
_START = r"(?<![A-Za-z0-9_])"
_MIXED = r"(?=[^\s\d'\"]*\d)(?=[^\sa-z'\"]*[a-z])(?=[^\sA-Z'\"]*[A-Z])"
# Secrets without a doubt, and what stays of them where they are shown.
_CERTAIN_FORMS = (
    (re.compile(r"(://)(?:[^/?#\s:@]*:[^/?#\s]+|(?=[^/?#\s@]*\d)[^/?#\s:@]{16,})@"), r"\1...@"),
    (re.compile(rf"{_START}({HUB_PREFIXES}|gh[pousr]_)(?=[a-z]*[A-Z\d])[A-Za-z0-9]{{30,}}+{_NO_FILE}"), r"\1..."),
    (re.compile(rf"{_START}(github_pat_|AIza)(?=[a-z_-]*[A-Z\d])[-\w]{{30,}}+{_NO_FILE}"), r"\1..."),
    (re.compile(rf"{_START}(?:AKIA|ASIA)(?=[A-Z]*\d)[A-Z0-9]{{16}}(?![-\w])"), "..."),
    (re.compile(rf"{_START}eyJ[-\w]{{8,}}\.eyJ[-\w]{{4,}}(?:\.[-\w]+)*"), "..."),
    (re.compile(rf"\b((?i:bearer|authorization\s*:\s*\w+)\s+){_MIXED}[\w.~+/=-]{{20,}}+"), r"\1..."),
    (re.compile(r"(?i)(//(?:[\w-]+\.)*discord(?:app)?\.com/api/(?:v\d+/)?webhooks/)[^\s'\"]+"), r"\1..."),
    (re.compile(r"(?i)(//hooks\.slack\.com/)[^\s'\"]+"), r"\1..."),
)
# What looks like one.
_FORMS = (
    *_CERTAIN_FORMS,
    (re.compile(r"(://)[^/?#\s]*@"), r"\1...@"),
    (re.compile(r"((?:^|[\s'\"=])//)[^/?#\s:@]+:[^/?#\s]*@"), r"\1...@"),
    (re.compile(rf"{_START}({SERVICE_PREFIXES}|{CLOUD_PREFIXES}){_RUN}{_NO_FILE}"), r"\1..."),
    (re.compile(rf"{_START}{CLOUD_KEY}{_NO_FILE}"), "..."),
    (re.compile(r"(?i)\b((?:proxy-)?authorization\\*['\"]?\s*:\s*\\*['\"]?)[^\s'\"\\][^'\"\\\n]*"), r"\1..."),
    (re.compile(r"(?i)\b(cookie\\*['\"]?\s*:\s*\\*['\"]?)[\w.-]+=[^'\"\\\n]*"), r"\1..."),
    (re.compile(rf"(?i)\b(bearer\s+)(?=[a-z]*\d)[\w.~+/=-]{{6,}}+{_NO_FILE}"), r"\1..."),
    (re.compile(r"\b((?i:basic)\s+)(?=[a-z]*[A-Z\d])[A-Za-z0-9+/]{4,}={1,2}"), r"\1..."),
    (re.compile(r"(?i)\b(ngrok\s+(?:config\s+add-)?authtoken\s+['\"]?)[^\s'\"&|;<>-][^\s'\"&|;]*"), r"\1..."),
    # Commands that take a key without an option that is named like one.
    (re.compile(r"(?i)\b(wandb\s+login(?:\s+--?[\w-]+)*\s+['\"]?)[^\s'\"&|;<>-][^\s'\"&|;]*"), r"\1..."),
    (re.compile(r"(?i)\b(login\((?:[^()\n]{0,200}?\b(?:key|token)\s*=)?\s*['\"]?)[^\s'\"(),=]+(?=['\",)])"), r"\1..."),
    (re.compile(r"(?i)\b((?:curl|wget)\b[^\n|;&]{0,200}?\s(?:-u|--user)[\s=]*['\"]?[^\s:'\"]+:)[^\s'\"]+"), r"\1..."),
    (re.compile(r"(?i)\b((?:sshpass|login)\b[^\n|;&]{0,200}?\s-p\s*['\"]?)[^\s'\"]+"), r"\1..."),
)
_IN_ADDRESS = re.compile(r"(?<=[?&;])([\w.-]+)=([^&;#\s'\"]+)")
_ADDRESS = re.compile(r"://[^\s'\"]+")
_ADDRESS_SECRETS = frozenset({"token", "sig", "signature"})
# In a command line: --NAME value, --NAME=value, NAME=value; in a list: "--NAME", "value"; in a condition:
# "$NAME" = "value"; in TOML: NAME = "value"; in JSON: "NAME": value, also within a text of JSON; in YAML and headers:
# NAME: value.
_ARGUMENT = re.compile(
    r"(?<![^\s'\"\[({,;&|:$%!])(?:--?([A-Za-z_][\w.-]*)(?:=|\\*['\"]?(?:\s*,\s*|\s+)(?!-))"
    r"|([A-Za-z_][\w.-]*)[%!}'\"]{0,2}\s*(?>[=!]?=~?|-eq|-ne|-c?like)\s*(?!\"\"|'')"
    r"|\\*['\"]([A-Za-z_][\w.-]*)\\*['\"]\s*:\s*|([A-Za-z_][\w.-]*):\s+)"
)
_IN_QUOTES = r"\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)"
_ORDINARY = re.compile(
    rf"\\*['\"]?(?:\d{{1,5}}(?:\.\d*)?|true|false|none|null|[^\s'\"]*{_FILE_NAME})['\"]?", re.IGNORECASE
)
_LISTED_ARGUMENT = re.compile(rf"([\w.-]+)=(?:{_IN_QUOTES}|\S*)")
_LIKE_KEY = re.compile(r"['\"]?(?=[a-zA-Z_-]*\d)[^\s'\"]{10,}")
_ARGUMENT_VALUE = re.compile(rf"\\*(?:{_IN_QUOTES})|[^\s'\"]+(?:(?<==)(?:{_IN_QUOTES})[^\s'\"]*)*")


def is_secret(name: str) -> bool:
    """Whether a key, an option or a variable is named like an access token, a key of an account or a password.

    ``token`` alone is not: in a recipe it is the trigger word. Nor is ``key`` in a list of keys and values.
    """
    parts = name.lstrip("-").replace("].key", "]").split(".")
    return any(_is_secret_part(part) for part in parts)


def _is_secret_part(part: str) -> bool:
    words = [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("_", part).lower()) if word]
    if not words:
        return False
    if _ALWAYS.search("".join(words)) or _WORDS & {*words}:
        return True
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "pass":  # no number of them
        return before not in _TEXT_TOKENS | _TABLE_KEYS
    if last.endswith("key"):
        return (last.removesuffix("key") or before) not in _TABLE_KEYS
    return any(_is_secret_token(words, at) for at, word in enumerate(words) if word.endswith("token"))


def _is_secret_token(words: Sequence[str], at: int) -> bool:
    """An access token, by the words around it: hf_token, HF_TOKEN_READ, accesstoken."""
    start = words[at].removesuffix("token")
    before = start or (words[at - 1] if at else "")
    if at == len(words) - 1:
        return bool(before) and before not in _TEXT_TOKENS
    return before in _SERVICES


def hide_secrets(text: str) -> str:
    """The text with "..." in place of each secret: in an address, in arguments, and tokens by their form."""
    for form, kept in _FORMS:
        text = form.sub(kept, text)
    text = _IN_ADDRESS.sub(_hide_in_address, text)
    return "".join(_hide_arguments(text))


def _hide_in_address(found: re.Match[str]) -> str:
    return f"{found[1]}=..." if _is_secret_in_address(found) else found[0]


def _is_secret_in_address(found: re.Match[str]) -> bool:
    named = is_secret(found[1]) or found[1].lower().rpartition("-")[2] in _ADDRESS_SECRETS
    return named and not _ORDINARY.fullmatch(found[2])


def _hide_arguments(text: str) -> Iterator[str]:
    done = 0
    for found in _ARGUMENT.finditer(text):
        value = _ARGUMENT_VALUE.match(text, found.end()) if found.start() >= done and _names_secret(found) else None
        if value is not None and not _is_ordinary(value[0], found[1] or found[2] or found[3] or found[4]):
            yield f"{text[done : found.end()]}..."
            done = value.end()
    yield text[done:]


def _names_secret(argument: re.Match[str]) -> bool:
    option, name, header = argument[1], argument[2] or argument[3], argument[4]
    if option:
        return _is_secret_option(option)
    if header:  # a single word before a colon is a name in a sentence: "Mickey: a mouse"
        return is_secret(header) and (_ALWAYS.search(header.lower()) is not None or not header.isalpha())
    return (is_secret(name) and name != "key") or name == "TOKEN"


def _is_ordinary(value: str, name: str) -> bool:
    """A number or a file, which only a password may be, or the trigger word."""
    if name == "TOKEN":
        return _LIKE_KEY.match(value) is None
    return not _ALWAYS.search(name.lower()) and _ORDINARY.fullmatch(value.rstrip(",;)]}")) is not None


def _is_secret_option(option: str) -> bool:
    return is_secret(option) or option.lower() == "token"


def copy_without_secrets(value: object) -> object | None:
    """The value as it is, without the items of a list or a table that contain a secret; None for a text that does, or
    if nothing stays."""
    if isinstance(value, str):
        return None if _contains_secret(value) else value
    if isinstance(value, Mapping):
        table = cast("Mapping[str, object]", value)
        pairs = ((key, copy_without_secrets(item)) for key, item in table.items() if not is_secret(key))
        kept: object = {key: item for key, item in pairs if item is not None}
    elif isinstance(value, list | tuple):
        copies = (copy_without_secrets(item) for item in cast("Sequence[object]", value) if not _sets_secret(item))
        items = [item for item in copies if item is not None]
        kept = tuple(items) if isinstance(value, tuple) else items
    else:
        return value
    return kept if kept or not value else None


def has_secret(value: object) -> bool:
    """Whether ``copy_without_secrets`` leaves out something."""
    kept = copy_without_secrets(value)
    return kept is not value and kept != value


def _contains_secret(text: str) -> bool:
    return any(form.search(text) for form, _ in _CERTAIN_FORMS) or any(
        _is_secret_in_address(found) for address in _ADDRESS.findall(text) for found in _IN_ADDRESS.finditer(address)
    )


def _sets_secret(item: object) -> bool:
    """An argument NAME=VALUE that is named like one, which no sentence is."""
    argument = _LISTED_ARGUMENT.fullmatch(item) if isinstance(item, str) else None
    return argument is not None and is_secret(argument[1])


def hide_secrets_in_message(text: Message) -> Message:
    """As ``hide_secrets``, of the values that were filled in."""
    if hide_secrets(text) == text:
        return text
    if type(text) is not Message:
        return literal(hide_secrets(str(text)))
    filled = {
        name: hide_secrets_in_message(value)
        if isinstance(value, Message)
        else hide_secrets(value)
        if isinstance(value, str)
        else value
        for name, value in text.filled.items()
    }
    return Message(text.template, filled, plural=text.plural, number=text.number)


def hide_secrets_in_line(fields: Mapping[str, object], *, secret: bool) -> dict[str, object]:
    """The fields of a line of a report; without the values of its key, where that is named like a secret."""
    return {name: _hide_field(value) for name, value in fields.items() if not (secret and name in _VALUES)}


_VALUES = ("value", "trained")


def _hide_field(value: object) -> object:
    return hide_secrets_in_message(value) if isinstance(value, Message) else hide_all_secrets(value)


def hide_all_secrets(value: object) -> object:
    """As ``hide_secrets``, for what is in lists and tables, too; a table has none of the keys that are secrets."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, Mapping):
        return dict(_hide_in_table(cast("Mapping[str, object]", value)))
    if isinstance(value, list | tuple):
        return list(_hide_in_list(cast("Sequence[object]", value)))
    return value


def _hide_in_list(items: Sequence[object]) -> Iterator[object]:
    """Also what comes after an option that is named like a secret, as in the words of a command."""
    secret = False
    for item in items:
        is_option = isinstance(item, str) and item.startswith("-")
        yield "..." if secret and not is_option else hide_all_secrets(item)
        secret = is_option and "=" not in str(item) and _is_secret_option(str(item).lstrip("-"))


def _hide_in_table(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, item in table.items():
        if not is_secret(key):
            yield key, hide_all_secrets(item)
