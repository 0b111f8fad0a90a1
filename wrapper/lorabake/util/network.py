"""Whether a server answers, as the trainer would reach it: through the proxy that the environment names."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Collection, Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

from lorabake_schemas.messages import Message, escape_invisible, literal, msg

TIMEOUT_S = 5.0
_HOST_AND_PORT = re.compile(r"(?:\[[\w:.%]+\]|[^\[\]:\s]+)(?::\d*)?")


class MalformedAddressError(ValueError):
    """An address of the environment that is not one; ``said`` names its variable."""

    def __init__(self, said: Message) -> None:
        super().__init__(str(said))
        self.said = said


def parse_address(text: str, name: str, schemes: Collection[str] | None = None) -> SplitResult:
    """An address that the variable ``name`` has, of one of the ``schemes``, or of any. Raises MalformedAddressError."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        known = bool(parts.scheme) if schemes is None else parts.scheme in schemes
        if known and host.isprintable() and _HOST_AND_PORT.fullmatch(host) and parts.port != 0:
            return parts
    except ValueError:
        pass  # brackets that are open, a port that is no number or too high
    shown = escape_invisible(text.rpartition("@")[2])  # without a name and password
    raise MalformedAddressError(msg("{name} is not an address: {url}", name=name, url=shown))


def proxy_of(url: str, env: Mapping[str, str]) -> str | None:
    """Host and port of the proxy for an address, without a name and password; None without one that can be used."""
    try:
        proxy = _find_proxy(url, env)
    except MalformedAddressError:
        return None  # unreachable_reason describes it
    return None if proxy is None else proxy.netloc.rpartition("@")[2]


def _find_proxy(url: str, env: Mapping[str, str]) -> SplitResult | None:
    """Raises MalformedAddressError."""
    parts = urlsplit(url)
    if _bypasses_proxy(parts.hostname or "", env):
        return None
    for name in (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if given := env.get(name):
            return parse_address(given if "//" in given else f"http://{given}", name)
    return None


def _bypasses_proxy(host: str, env: Mapping[str, str]) -> bool:
    given = env.get("no_proxy") or env.get("NO_PROXY") or ""
    names = [name.strip().lstrip(".") for name in given.split(",") if name.strip()]
    return "*" in names or any(host == name or host.endswith(f".{name}") for name in names)


def unreachable_reason(url: str, env: Mapping[str, str]) -> Message | None:
    """Why a server does not answer, maybe since its proxy's address is not one; None if it does, whatever it answers,
    or if its proxy is of a kind that is not tried here (SOCKS).
    """
    try:
        proxy = _find_proxy(url, env)
        if proxy is not None and not proxy.scheme.startswith("http"):
            return None
        return _ask_server(urlsplit(url), proxy)
    except TimeoutError:
        return msg("no answer within {seconds} seconds", seconds=round(TIMEOUT_S))
    except MalformedAddressError as error:
        return error.said
    except socket.gaierror:
        return msg("the host name cannot be resolved")
    except (OSError, HTTPException, ValueError) as error:
        return literal(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _ask_server(server: SplitResult, proxy: SplitResult | None) -> Message | None:
    """Raises OSError, HTTPException, and ValueError for an address that is none."""
    to = server if proxy is None else proxy
    secure = server.scheme == "https"
    make = HTTPSConnection if secure else HTTPConnection
    connection = make(to.hostname or "", to.port, timeout=TIMEOUT_S)
    headers = {} if proxy is None or not proxy.username else {"Proxy-Authorization": _basic(proxy)}
    try:
        if proxy is not None and secure:
            connection.set_tunnel(server.hostname or "", server.port, headers)
            headers = {}
        connection.request("HEAD", "/" if proxy is None or secure else server.geturl(), headers=headers)
        refused = connection.getresponse().status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    finally:
        connection.close()
    return msg("the proxy wants a name and password (407)") if refused else None


def _basic(proxy: SplitResult) -> str:
    pair = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
