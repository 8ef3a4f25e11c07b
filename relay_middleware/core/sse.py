"""
Server-sent events: cut a byte stream into events, without changing a byte of them.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6, read 2026-11-23.
"""

import re

from relay_middleware.core.values import dataclass

# CR, LF and CRLF end a line; nothing else does. U+2028 is legal inside a JSON string, so
# `bytes.splitlines` of decoded text would cut a payload. A CR at the very end of what has arrived
# may be half of a CRLF, so it does not end a line yet.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)(?!\Z))(?:\r\n|\n|\r(?!\n)(?!\Z))")
_LINE_END = re.compile(rb"\r\n|\r|\n")

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Longest event accepted: an image in base64 fits, an endless line does not fill the memory."""

DONE = b"[DONE]"
"""What OpenAI's streams carry as their last event's data."""


class EventTooLongError(Exception):
    """An event did not end within `MAX_EVENT_BYTES`."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """
    One block of a `text/event-stream` body.

    Attributes:
        raw: The block exactly as received, its blank line included.
        data: The joined `data` fields, or None for a comment or a keep-alive.
    """

    raw: bytes
    data: bytes | None


class EventStreamDecoder:
    """
    Cut a byte stream into events; the chunks may end anywhere.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._searched = 0

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """
        Add *chunk* and return the events it completes, oldest first.

        Raises:
            EventTooLongError: What has arrived of the next event is longer than any event may be.
        """
        if not self._buffer and _is_plain(chunk):
            return [_parse(text + b"\n\n") for text in chunk[:-2].split(b"\n\n")]
        self._buffer += chunk
        events = []
        start = 0
        search_from = self._searched
        while match := _BLANK_LINE.search(self._buffer, search_from):
            events.append(_parse(self._buffer[start : match.end()]))
            start = search_from = match.end()
        self._buffer = self._buffer[start:]
        # The longest line end pair has four bytes, three of which may have been seen.
        self._searched = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise EventTooLongError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def rest(self) -> list[ServerSentEvent]:
        """
        Return what came after the last blank line, as an event if there is any.

        The standard drops it; providers do end a stream without the last blank line.
        """
        raw, self._buffer, self._searched = self._buffer, b"", 0
        return [_parse(raw + b"\n\n")] if raw.strip() else []


def _is_plain(chunk: bytes) -> bool:
    """
    Say whether *chunk* is some whole events, and only LF ends their lines: as nearly every chunk.
    """
    is_whole = chunk.endswith(b"\n\n") and not chunk.endswith(b"\n\n\n")
    return is_whole and b"\r" not in chunk and len(chunk) <= MAX_EVENT_BYTES


def _parse(raw: bytes) -> ServerSentEvent:
    if raw.startswith(b"data: ") and b"\r" not in raw and raw.find(b"\n") == len(raw) - 2:
        return ServerSentEvent(raw, raw[6:-2])
    fields = [
        line[5:].removeprefix(b" ") for line in _LINE_END.split(raw) if line.startswith(b"data:")
    ]
    return ServerSentEvent(raw, b"\n".join(fields) if fields else None)


def encode(data: bytes) -> bytes:
    """Return the event whose data is *data*, which must not contain a line end."""
    return b"data: " + data + b"\n\n"
