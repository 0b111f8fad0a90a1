"""What keys, passwords, hosts and users look like in a line of a log. Every pattern takes linear time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address

from lorabake_schemas.secrets import CLOUD_KEY, CLOUD_PREFIXES, HUB_PREFIXES, JSON_WEB_KEY, SERVICE_PREFIXES

_SET = r"(?:\\*[\"'])?\s*(?:=>|:=|[:=])\s*"  # between a name and its value, also in JSON that is quoted again
_QUOTED = r"(?P<quote>\\*[\"'])(?P<quoted>(?:(?!(?P=quote))(?:\\.|.))*)"
_WORD = r"(?P<plain>[^\s\"',;&]+)"
_HIDDEN_NAME = r"(?:secret|credential|signature|(?:api|access|auth|private|ssh|account)[-_ ]?key)s?"
_PHRASE_NAME = r"(?:passw(?:or)?d|passphrase|senha|(?<![a-z])pwd)s?"
# The keys of known services by their form.
KEYS = (
    re.compile(
        r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
        rf"(?:{HUB_PREFIXES}[A-Za-z0-9]{{8,}}|{SERVICE_PREFIXES}[-_A-Za-z0-9]{{16,}}|{CLOUD_KEY}"
        rf"|{CLOUD_PREFIXES}[-.\w]{{16,}}|{JSON_WEB_KEY})"
    ),
    re.compile(r"(?i)\bbearer\s+[\w.~+/=-]{8,}"),
    re.compile(r"(?i)\bbasic\s+[A-Za-z0-9+/]{4,}={1,2}"),
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),
)
# In every line that NAMED_KEYS or WEAK_KEYS match, in lower case.
_KEY_WORDS_TEXT = "key token pass secret credential signature senha pwd authorization cookie ?"
KEY_WORDS = tuple(_KEY_WORDS_TEXT.split())
# Whatever is called a key, whatever its form: the value is all of a quoted text.
NAMED_KEYS = (
    re.compile(rf"(?i)\b(?:authorization|cookie){_SET}(?:{_QUOTED}|(?P<plain>[^\s\"'][^\"']*))"),
    re.compile(rf"(?i){_PHRASE_NAME}{_SET}(?:{_QUOTED}|(?P<plain>[^\s\"'].*))"),
    re.compile(rf"(?i){_HIDDEN_NAME}{_SET}(?:{_QUOTED}|{_WORD})"),
    re.compile(
        rf"(?i)(?<![-\w])--?[-\w]{{0,64}}(?:{_PHRASE_NAME}|{_HIDDEN_NAME}|token)[\"']?,?\s+(?:{_QUOTED}|{_WORD})"
    ),
    re.compile(r"https?://[^\s\"'<>?]{1,1024}\?(?P<plain>[^\s\"'<>]+)"),  # signed addresses
)
# Much else is called a token or a key: these need a value that looks like one.
WEAK_KEYS = re.compile(
    rf"(?:(?i:(?<![A-Za-z])(?:auth|access|hf|hub|wandb)?(?:key|token))|(?<=[a-z])(?:Key|Token))s?{_SET}(?:{_QUOTED}|{_WORD})"
)
MIN_WEAK = 4  # characters
NO_KEYS = frozenset({"", "<key>", "<text>", "None", "False", "True", "null", "true", "false"})
HEX = re.compile(r"(?<![0-9a-fA-F])(?<!sha256:)(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})(?![0-9a-fA-F])")
DIGEST = re.compile(r"[0-9a-f]{64}")

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+\b")
ADDRESS = re.compile(r"(?<![\d.])(?!127\.|0\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
HARDWARE_ADDRESS = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(?:\1[0-9a-fA-F]{2}){4,}(?![\w:-])")
# An address, maybe behind a word and a colon. C++ has names such as c10::detail, Python slices such as [1::2].
ADDRESS_V6 = re.compile(r"(?<![\w:.])(?P<word>[A-Za-z_]\w*:(?!:))?(?P<address>[0-9A-Fa-f:.]++)(?!\w)(?:%\w+)?")
_V6_GROUP = re.compile(r"[0-9A-Fa-f]{3}")

# Lines that name an account: of Weights & Biases, of the Hugging Face Hub.
USERS = (
    re.compile(
        r"(?i)\blogged in as:?(?: (?:Weights & Biases|W&B))?(?: user)?:?\s+(?P<a>[^\s()]*[^\s().,])"
        r"(?:\s+\((?P<b>[^\s()]+)\))?"
    ),
)
_HOST = r"[\w.-]{1,253}"
# Lines that name a machine: of torch's launcher, of its sockets, of NCCL, of Slurm, of requests.
HOSTS = (
    re.compile(rf"(?m)^[ \t]*host(?:name)?[ \t]*:[ \t]*(?P<a>{_HOST})"),
    re.compile(r"(?P<a>ip(?:-\d{1,3}){4})(?!\d)"),  # as a cloud names its machines
    re.compile(rf"\[(?P<a>{_HOST})\]:\d{{2,5}}\b"),
    re.compile(
        rf"(?i)\bconnect(?:ed|ing|ion)? (?:to|from) (?:host )?[(\[]?[\"']?(?P<a>{_HOST})[\"']?\]?(?:, ?|:)\d{{2,5}}\b"
    ),
    re.compile(rf"(?m)^(?:\[[^\]\n]{{1,40}}\]:? ?)?(?P<a>{_HOST}):\d+:\d+ \[[^\]\n]{{1,10}}\] NCCL"),
    re.compile(rf"\b(?:srun|slurmstepd): error: (?:(?:Node|Task launch on) )?(?P<a>{_HOST}): "),
    re.compile(rf"(?i)\b(?:host(?:name)?=|resolve )[\"'](?P<a>{_HOST})[\"']"),
)
_PUBLIC_HOSTS = re.compile(
    r"(?i)(?:.*\.)?(?:huggingface\.co|hf\.co|wandb\.ai|github\.com|githubusercontent\.com|pypi\.org|pythonhosted\.org"
    r"|pytorch\.org|civitai\.com)|localhost(?:\.localdomain)?|127\.[\d.]+|0\.0\.0\.0|::1?|[\d.]{1,6}"
)


def is_public_host(name: str) -> bool:
    """Whether a name is one that everybody's machine knows: a large service, or the machine itself."""
    return _PUBLIC_HOSTS.fullmatch(name) is not None


def is_private_v6(text: str) -> bool:
    """Whether a text is an IPv6 address, without the port or the period behind it; the loopback one is not private."""
    for form in (text, text.rstrip("."), text.strip(":.")):
        with suppress(ValueError):
            found = IPv6Address(form)
            whole = "::" not in form or _V6_GROUP.search(form) is not None
            return whole and not found.is_loopback and not found.is_unspecified
    return False


def find_named(patterns: Iterable[re.Pattern[str]], text: str) -> Iterable[str]:
    """The names in the lines that name an account or a machine."""
    for pattern in patterns:
        for found in pattern.finditer(text):
            yield from (name for name in found.groups() if name)
