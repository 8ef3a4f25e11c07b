"""
The log's way out: it holds up nobody, and says what it could not keep.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_app.log_writer import LogWriter

LINE = b"x" * 99 + b"\n"


def dropped_line(lines: int) -> bytes:
    return b"%d dropped\n" % lines


@pytest.fixture(name="pipe")
def _pipe() -> Iterator[tuple[int, int]]:
    """
    A pipe: where it is read, where it is written. It holds 64 KiB.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 65_536)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read_waiting(reading: int) -> bytes:
    os.set_blocking(reading, False)
    found = b""
    while True:
        try:
            found += os.read(reading, 1_000_000)
        except BlockingIOError:
            return found


def test_a_reader_that_does_not_read_holds_up_nobody(pipe: tuple[int, int]) -> None:
    """
    Of 3,000 lines of 100 bytes a pipe takes some 65,000 bytes; all come once it is read, in order.
    """
    reading, writing = pipe
    writer = LogWriter(writing, dropped_line=dropped_line)
    lines = [b"%099d\n" % number for number in range(3000)]
    for line in lines:
        writer.write(line)

    found = b""
    rounds = 0
    while len(found) < 300_000:
        writer.write_waiting(wait_s=0)
        found += read_waiting(reading)
        rounds += 1

    assert found == b"".join(lines)
    assert rounds >= 5


def test_what_nobody_reads_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    """
    With room for 1,000 bytes ten lines of 100 are kept; five more are dropped, and it says so.
    """
    reading, writing = pipe
    writer = LogWriter(writing, dropped_line=dropped_line, max_waiting_bytes=1000)
    for _ in range(15):
        writer.write(LINE)

    writer.write_waiting(wait_s=0)

    assert read_waiting(reading) == LINE * 10 + b"5 dropped\n"


def test_lines_of_several_writers_are_not_torn() -> None:
    """
    Of 100 lines of 100 bytes each write holds whole ones, 40 at most in the 4,096 bytes that a pipe
    takes at once; only a line longer than that is cut. A socket of messages tells writes apart.
    """
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reading, writing:
        reading.settimeout(0)
        writer = LogWriter(writing.fileno(), dropped_line=dropped_line)
        for number in range(100):
            writer.write(b"%099d\n" % number)
        writer.write(b"y" * 5000 + b"\n")

        writer.write_waiting(wait_s=0)

        sizes = [len(reading.recv(10_000)) for _ in range(5)]
    assert sizes == [4000, 4000, 2000, 4096, 905]


def test_a_reader_that_is_gone_is_no_failure() -> None:
    """
    Where nobody reads any more lines are lost, and whoever logs hears nothing of it.
    """
    reading, writing = os.pipe()
    writer = LogWriter(writing, dropped_line=dropped_line)
    os.close(reading)
    writer.write(LINE)

    writer.write_waiting(wait_s=0)

    os.close(writing)


LOGS_AND_ENDS = """
import structlog
from proxy_app.observability import configure_logging
configure_logging(is_readable=False)
for number in range(1000):
    structlog.get_logger("relay").info("told", number=number, odd="\\ud800")
"""


def test_the_last_lines_are_written(tmp_path: Path) -> None:
    """
    A process that ends right after its thousandth line has written it, a lone surrogate in it too.
    """
    out = tmp_path / "log"
    with out.open("wb") as log:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", LOGS_AND_ENDS], stdout=log, check=True, timeout=30
        )

    lines = out.read_bytes().splitlines()
    assert len(lines) == 1000
    assert json.loads(lines[-1])["number"] == 999
