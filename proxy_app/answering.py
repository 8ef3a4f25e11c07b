"""
How the server writes answers: byte for byte as uvicorn does, but in one step.

uvicorn looks at each header by itself, and Relay answers with eighteen; and it writes head and body
each for itself, which are then two packets.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent


class QuickCycle(RequestResponseCycle):
    """A request and its answer, which is written in one step where nothing about it is special."""

    # Made by uvicorn as one of its own; see `QuickProtocol`.
    _head = b""

    @override
    async def send(self, message: "ASGISendEvent") -> None:
        if message["type"] == "http.response.start" and self._is_plain():
            headers = [*self.default_headers, *message["headers"]]
            values = dict(headers)
            length = values.get(b"content-length")
            if not (length is None or b"connection" in values or b"transfer-encoding" in values):
                self._head = head_of(message["status"], headers)
                self.response_started = True
                self.waiting_for_100_continue = False
                self.chunked_encoding = False
                self.expected_content_length = int(length)
                return
        elif self._head and message["type"] == "http.response.body":
            head, self._head = self._head, b""
            body = message.get("body", b"")
            if self._is_all(body) and not message.get("more_body", False):
                self.transport.write(head + body)
                self.response_complete = True
                self.message_event.set()
                self.on_response()
                return
            self.transport.write(head)
        await super().send(message)

    def _is_plain(self) -> bool:
        """Say whether all is as it mostly is; of the rest uvicorn knows what to do."""
        return self.keep_alive and not (
            self.response_started or self.disconnected or self.access_log or self.flow.write_paused
        )

    def _is_all(self, body: bytes) -> bool:
        """Say whether *body* is as long as was told, and the connection is used on after it."""
        return (
            len(body) == self.expected_content_length
            and self.keep_alive
            and not self.disconnected
            and self.scope["method"] != "HEAD"
        )


class QuickProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, with quick cycles."""

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        # uvicorn names its own class where it makes a cycle; there is no setting for it.
        cycle.__class__ = QuickCycle
        super()._start_asgi_task(cycle, app)


def head_of(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """
    Return the head of an answer.

    Args:
        headers: With their names in lower case, as ASGI wants them.

    Raises:
        RuntimeError: There is a line break or a NUL in one of them.
    """
    lines = [STATUS_LINE[status][:-2], *map(b": ".join, headers)]
    head = b"\r\n".join([*lines, b"", b""])
    # Of the breaks none may be another's: what comes after one would be a header of its own.
    breaks = len(lines) + 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise RuntimeError("a header has a line break or a NUL in it")
    return head
