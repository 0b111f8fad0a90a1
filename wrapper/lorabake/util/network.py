"""Whether a server answers, as the trainer would reach it: through the proxy that the environment names."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

from lorabake_schemas.messages import Message, literal, msg

TIMEOUT_S = 5.0


def proxy_of(url: str, env: Mapping[str, str]) -> str | None:
    """Host and port of the proxy for an address, without a name and password; None without one."""
    proxy = _find_proxy(url, env)
    return None if proxy is None else proxy.netloc.rpartition("@")[2]


def _find_proxy(url: str, env: Mapping[str, str]) -> SplitResult | None:
    parts = urlsplit(url)
    if _bypasses_proxy(parts.hostname or "", env):
        return None
    for name in (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if given := env.get(name):
            return urlsplit(given if "//" in given else f"http://{given}")
    return None


def _bypasses_proxy(host: str, env: Mapping[str, str]) -> bool:
    given = env.get("no_proxy") or env.get("NO_PROXY") or ""
    names = [name.strip().lstrip(".") for name in given.split(",") if name.strip()]
    return "*" in names or any(host == name or host.endswith(f".{name}") for name in names)


def unreachable_reason(url: str, env: Mapping[str, str]) -> Message | None:
    """Why a server does not answer; None if it does, whatever it answers, or if its proxy is of a kind that is not
    tried here (SOCKS)."""
    try:
        proxy = _find_proxy(url, env)
        if proxy is not None and not proxy.scheme.startswith("http"):
            return None
        return _ask_server(urlsplit(url), proxy)
    except TimeoutError:
        return msg("no answer within {seconds} seconds", seconds=round(TIMEOUT_S))
    except (OSError, HTTPException, ValueError) as error:
        return literal(str(error) or type(error).__name__)


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
