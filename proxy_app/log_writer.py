"""
The log's way out of the process: whoever logs never waits for whoever reads.

A log goes to a pipe more often than not, and a pipe whose reader has stopped is soon full. A server
that wrote to it where it logs would stand still, with all that it serves.
"""

import contextlib
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable

GATHER_S = 0.1
"""How long lines wait for others, which are then written together."""

LAST_S = 1.0
"""At the end of the process, longest wait for a reader that does not read."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Some ten thousand lines. What is more is dropped, and counted."""

_PIPE_PIECE = select.PIPE_BUF
"""Takes no wait in a pipe that is ready (POSIX, `write`)."""

_FILE_PIECE = 1024 * 1024


class LogWriter:
    """
    A file for loggers, to which a thread of its own writes.

    Lines are written within a tenth of a second, also those of the last moment before the process
    ends; after a kill they are lost.
    """

    def __init__(
        self,
        file: int,
        *,
        dropped_line: Callable[[int], bytes],
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """
        Args:
            file: Descriptor of what is written to; left open.
            dropped_line: Makes the line that says how many were dropped.
        """  # fmt: skip
        self._file = file
        self._dropped_line = dropped_line
        self._max_waiting_bytes = max_waiting_bytes
        self._lock = threading.Lock()
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        is_file = stat.S_ISREG(os.fstat(file).st_mode)
        self._most_at_once = _FILE_PIECE if is_file else _PIPE_PIECE
        self._ready = select.poll()
        self._ready.register(file, select.POLLOUT)

    def start(self) -> None:
        """Begin to write, until the main thread has ended."""
        # No daemon: the interpreter waits for it, in worker processes too.
        threading.Thread(target=self._run, name="log-writer").start()

    def write(self, line: bytes) -> None:
        """Have *line* written; drop it where too much waits already."""
        with self._lock:
            if self._waiting_bytes + len(line) > self._max_waiting_bytes:
                self._dropped += 1
                return
            self._pieces.append(line)
            self._waiting_bytes += len(line)

    def _run(self) -> None:
        main = threading.main_thread()
        while main.is_alive():
            main.join(GATHER_S)
            # While nobody reads, what waits is not copied ten times a second.
            if self._ready.poll(0):
                self.write_waiting(wait_s=0)
        self.write_waiting(wait_s=LAST_S)

    def write_waiting(self, *, wait_s: float) -> None:
        """Write what waits, as far as the reader takes it within *wait_s*."""
        data = self._taken()
        ends_at_s = time.monotonic() + wait_s
        written = 0
        # Nobody reads any more: it is lost, and no place is left to say so.
        with contextlib.suppress(OSError):
            while written < len(data):
                if not self._ready.poll(max(0.0, ends_at_s - time.monotonic()) * 1000):
                    break
                written += os.write(self._file, self._piece(data[written:]))
            else:
                return
            self._put_back(data[written:])

    def _piece(self, data: memoryview) -> memoryview:
        """
        What of *data* is written at once: whole lines, because other workers write to the same pipe
        in between.
        """
        piece = data[: self._most_at_once]
        end = bytes(piece).rfind(b"\n") + 1
        return piece[:end] if end else piece

    def _taken(self) -> memoryview:
        with self._lock:
            pieces, self._pieces = self._pieces, deque()
            self._waiting_bytes = 0
            dropped, self._dropped = self._dropped, 0
        if dropped:
            pieces.append(self._dropped_line(dropped))
        return memoryview(b"".join(pieces))

    def _put_back(self, data: memoryview) -> None:
        with self._lock:
            self._pieces.appendleft(bytes(data))
            self._waiting_bytes += len(data)
