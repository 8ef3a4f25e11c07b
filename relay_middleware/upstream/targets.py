"""
Targets: what a provider's requests go to, and all of their heads that is the same each time.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, unquote, urlsplit

from relay_middleware.core.values import dataclass

_USUAL_PORTS = {"http": 80, "https": 443}

_UNSAFE = re.compile(r"[^\x20-\x7e]")
_HOST = re.compile(r"[A-Za-z0-9._~:%-]+")
_PATH_SAFE = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead to."""

    host: str
    port: int
    is_tls: bool


@dataclass(frozen=True, slots=True)
class Target:
    """
    What requests are sent to.

    Attributes:
        head: All of a request that is the same each time, up to the length of its body.
    """

    origin: Origin
    head: bytes


def target_of(url: str, headers: Mapping[str, str]) -> Target:
    """
    Return what a POST to *url* goes to.

    Args:
        headers: Beside those of the body's length and of the host.

    Raises:
        ValueError: *url* is no address, or there is a character in it or in a header that has no
            place there. The text names neither.
    """
    parts, origin = _split(url)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != _USUAL_PORTS[parts.scheme]:
        host += f":{origin.port}"
    shown = {"Host": host, **_login(parts.username, parts.password), **headers}
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    query = f"?{quote(parts.query, safe=_PATH_SAFE + '?')}" if parts.query else ""
    lines = [f"POST {path}{query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in shown.items()]
    if any(_UNSAFE.search(line) for line in lines):
        raise ValueError("its address or its key has a character that no header may hold")
    head = "\r\n".join([*lines, "Content-Length: "])
    return Target(origin, head.encode("ascii"))


def _split(url: str) -> tuple[SplitResult, Origin]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # Its text may hold a piece of a password: of one with a slash, what is before that.
        raise ValueError("its address has a host or a port that is none") from None
    if parts.scheme not in _USUAL_PORTS or not parts.hostname:
        raise ValueError("its address is none of http or https")
    if not _HOST.fullmatch(parts.hostname) or port == 0:
        raise ValueError("its address has a host or a port that is none")
    port = port or _USUAL_PORTS[parts.scheme]
    return parts, Origin(parts.hostname, port, is_tls=parts.scheme == "https")


def _login(name: str | None, password: str | None) -> dict[str, str]:
    """Who the address says that is asking, if it does."""
    if name is None:
        return {}
    told = f"{unquote(name)}:{unquote(password or '')}"
    return {"Authorization": f"Basic {b64encode(told.encode()).decode()}"}
