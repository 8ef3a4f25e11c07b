"""
How the server writes the heads of answers: as uvicorn does, but in one step.

uvicorn looks at each header by itself, which for the eighteen of an answer of Relay's takes as long
as anything else that it does with a request.
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
    """A request and its answer, whose head is written in one step where nothing is special."""

    @override
    async def send(self, message: "ASGISendEvent") -> None:
        if message["type"] != "http.response.start" or not self._is_plain():
            await super().send(message)
            return
        headers = [*self.default_headers, *message["headers"]]
        values = dict(headers)
        length = values.get(b"content-length")
        if length is None or b"connection" in values or b"transfer-encoding" in values:
            await super().send(message)
            return
        head = head_of(message["status"], headers)
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.expected_content_length = int(length)
        self.transport.write(head)

    def _is_plain(self) -> bool:
        """Say whether all is as it mostly is; of the rest uvicorn knows what to do."""
        return self.keep_alive and not (
            self.response_started or self.disconnected or self.access_log or self.flow.write_paused
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
