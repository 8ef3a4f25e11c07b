"""
Lines: what LiteLLM must not take for the end of one.

LiteLLM reads most streams through httpx, line by line, and httpx ends a line like
`str.splitlines`: at U+0085, U+2028 and U+2029 too, which may stand in a JSON text as they are. The
event is then cut in two, and with it all that follows is lost: text, usage, the reason to finish.
JSON may write the three escaped as well, and so they are before httpx sees them.

Source: httpx 0.28.1, `_decoders.py`, `LineDecoder`; RFC 8259, section 7; read 2026-11-24.
"""

import re
from collections.abc import AsyncIterator

import httpx
from typing_extensions import override

LINE_READERS = frozenset(
    {
        "anthropic",
        "azure_ai",
        "bedrock_mantle",
        "cometapi",
        "compactifai",
        "databricks",
        "deepseek",
        "edenai",
        "fireworks_ai",
        "gemini",
        "heroku",
        "huggingface",
        "minimax",
        "mistral",
        "openrouter",
        "ovhcloud",
        "together_ai",
        "vertex_ai",
        "vertex_ai_beta",
    }
)
"""Providers whose streams LiteLLM reads so, through a client that it can be given. Others have a
client of their own, most of them OpenAI's, which ends lines as it should."""

_SEPARATOR = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPES = {b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029", b"\xc2\x85": rb"\u0085"}
_BEGUN = re.compile(rb"(?:\xe2\x80?|\xc2)\Z")

_TYPES = ("text/event-stream", "application/x-ndjson")


class SeparatorEscaper:
    """Escapes the separators in the UTF-8 text of a stream of JSON; chunks may end anywhere."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of *chunk*, and of what was kept back, can go on."""
        text = self._begun + chunk
        begun = _BEGUN.search(text)
        self._begun = begun[0] if begun else b""
        whole = text[: begun.start()] if begun else text
        return _SEPARATOR.sub(lambda match: _ESCAPES[match[0]], whole)

    def rest(self) -> bytes:
        """Return what is still kept back at the end."""
        return self._begun


async def ask_for_plain_text(request: httpx.Request) -> None:
    """Ask for an answer that is not compressed: in that nothing could be escaped."""
    request.headers["Accept-Encoding"] = "identity"


async def keep_lines(response: httpx.Response) -> None:
    """Have the separators in *response* escaped, where it is a stream of JSON."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
    if kind in _TYPES and is_plain and isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _EscapedStream(response.stream)


class _EscapedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        escaper = SeparatorEscaper()
        async for chunk in self._stream:
            yield escaper.feed(chunk)
        yield escaper.rest()

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
