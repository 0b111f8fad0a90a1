"""What is a secret: access tokens, keys of an account and passwords, by the name of their key or by their form.

Nothing of others is printed or copied before it went through here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from lorabake_schemas.messages import Message, literal

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ALWAYS = re.compile(r"secret|passw|passphrase|credential|apikey|accesskey|privatekey|authorization|authentication")
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
        "cache", "caption", "captions", "column", "conditioning", "config", "dict", "don", "high", "hoc", "hot",
        "image", "images", "input", "joc", "json", "label", "latent", "latents", "low", "metadata", "mon", "output",
        "primary", "prompt", "public", "scale", "sort", "stage", "state", "tag", "tags", "text", "tur", "whis",
    )
)  # fmt: skip
# Secrets by their form, and what stays of them.
_FORMS = (
    (re.compile(r"(://)[^/?#\s]*@"), r"\1...@"),
    (re.compile(r"((?:^|[\s'\"=])//)[^/?#\s:@]+:[^/?#\s]*@"), r"\1...@"),
    (re.compile(r"\b(hf_)[A-Za-z0-9]{30,}"), r"\1..."),
    (re.compile(r"\b(github_pat_|gh[pousr]_)\w{30,}"), r"\1..."),
    (re.compile(r"\b(Bearer\s+)[\w.~+/=-]{16,}"), r"\1..."),
)
_IN_ADDRESS = re.compile(r"(?<=[?&;])([\w.-]+)=[^&;#\s'\"]+")
_ADDRESS_SECRETS = ("token", "sig", "signature")
# In a command line: --NAME value, --NAME=value, NAME=value; in JSON: "NAME": value, also within a text of JSON.
_ARGUMENT = re.compile(
    r"(?<![^\s'\"\[({,])(?:--?([A-Za-z_][\w.-]*)(?:=|\s+(?!-))|([A-Za-z_][\w.-]*)="
    r"|\\*['\"]([A-Za-z_][\w.-]*)\\*['\"]\s*:\s*)"
)
_ARGUMENT_VALUE = re.compile(r"\\*\"[^\"]*(?:\"|\Z)|\\*'[^']*(?:'|\Z)|[^\s'\"]+")


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
    name = found[1]
    return f"{name}=..." if is_secret(name) or name.lower().endswith(_ADDRESS_SECRETS) else found[0]


def _hide_arguments(text: str) -> Iterator[str]:
    done = 0
    for found in _ARGUMENT.finditer(text):
        option, name = found[1], found[2] or found[3]
        secret = is_secret(option) or option == "token" if option else is_secret(name) and name != "key"
        value = _ARGUMENT_VALUE.match(text, found.end()) if secret and found.start() >= done else None
        if value is not None:
            yield f"{text[done : found.end()]}..."
            done = value.end()
    yield text[done:]


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


def hide_all_secrets(value: object) -> object:
    """As ``hide_secrets``, for what is in lists and tables, too; a table has none of the keys that are secrets."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, Mapping):
        return dict(_hide_in_table(cast("Mapping[str, object]", value)))
    if isinstance(value, list | tuple):
        return [hide_all_secrets(item) for item in cast("Sequence[object]", value)]
    return value


def _hide_in_table(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, item in table.items():
        if not is_secret(key):
            yield key, hide_all_secrets(item)
