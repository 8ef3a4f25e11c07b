"""
A file that lines are appended to, and that a full disk does not lose any of.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from relay_middleware.stores.owned_files import create_file, remove_file, replace_file

log = structlog.get_logger("relay")

LINES_AT_ONCE = 200
"""In one write, some 100 KB: what was kept back is soon written, a full disk asked for little."""

_CUT = b"#\n"
"""Ends a line that was cut: one of which only the end is missing must not be whole by that."""

_BLANK = b"\n"
"""Tries whether a full disk takes anything again, where there is nothing else to write."""

_CLOSED = -1
"""No file's descriptor. Writing to it fails, as it does on a full disk."""


@dataclass(slots=True, eq=False)
class Line:
    """
    One line.

    Attributes:
        text: What is to be written, its end included; None once it is.
        length: In bytes.
        offset: Where it is in the file, once it is.
    """

    text: bytes | None
    length: int
    offset: int = 0


class LineFile:
    """
    Lines, appended in their order by one `write` or as few as can be; without `fsync`.

    A line that cannot be written is kept in memory, and written before the next one.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._file = _CLOSED
        self._size = 0
        self._is_failing = False
        self._ends_cut = False
        # In their order; a dictionary, because any of them may be forgotten.
        self._unwritten: dict[Line, None] = {}

    @property
    def path(self) -> Path:
        """What the file is called; the working directory before it is opened."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    @property
    def is_open(self) -> bool:
        """Whether there is a file."""
        return self._file != _CLOSED

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed."""
        return self._is_failing

    def open(self, folder: Path, name: str) -> None:
        """
        Begin a new file in *folder*, with what could not be written while there was none.

        Raises:
            OSError: The folder cannot be written to.
        """
        self._path, self._file = create_file(folder, name)
        self._size = 0
        self._ends_cut = False
        self._is_failing = bool(self._unwritten)
        self.append(())

    def close(self, *, is_removed: bool) -> None:
        """Write what could not be written before, if that is possible now, and close the file."""
        self.append(())
        if is_removed:
            self._remove()
        elif self._unwritten:
            log.error("spool_lines_lost", file=self._path.name, lines=len(self._unwritten))
        self._unwritten.clear()
        os.close(self._file)
        self._file = _CLOSED
        # What is there now may be another's: it is not for this one to write it anew.
        self._size = 0

    def append(self, lines: Sequence[Line]) -> None:
        """
        Write *lines*, after those that could not be written before; without any, try again.
        """
        if not self._unwritten and not self._is_failing and 0 < len(lines) <= LINES_AT_ONCE:
            # As it mostly is: none is kept back, and none will be.
            is_writable = self._write(lines)
            if lines[-1].text is None:
                return
            lines = [line for line in lines if line.text is not None]
            if not is_writable:
                self._unwritten.update(dict.fromkeys(lines))
                return
        self._unwritten.update(dict.fromkeys(lines))
        while self._unwritten or self._is_failing:
            if not self._write(list(islice(self._unwritten, LINES_AT_ONCE))):
                return

    def forget(self, line: Line) -> bool:
        """Never write *line*, if it is not written yet; return whether it is."""
        if line.text is None:
            return True
        self._unwritten.pop(line, None)
        return False

    def text_of(self, line: Line) -> bytes:
        """
        Return what *line* says.

        Raises:
            OSError: The file cannot be read.
        """
        if line.text is not None:
            return line.text
        return os.pread(self._file, line.length, line.offset)

    def rewrite(self, lines: Iterable[Line]) -> bool:
        """
        Write the file anew, with those of *lines* that are in it and no others.

        Returns:
            Whether there was room for it; if not, nothing has changed.
        """
        # The others are still to be appended.
        written = [line for line in lines if line.text is None]
        try:
            file = replace_file(self._path, map(self.text_of, written))
        except OSError as error:
            log.warning("spool_not_rewritten", file=self._path.name, reason=error.strerror)
            return False
        os.close(self._file)
        self._file = file
        self._size = 0
        self._ends_cut = False
        for line in written:
            line.offset = self._size
            self._size += line.length
        return True

    def _write(self, lines: Sequence[Line]) -> bool:
        """
        Write as many of *lines*, before which nothing is unwritten, as there is room for; return
        whether there is room for any.
        """
        before = b""
        if self._is_failing or self._ends_cut:
            before = _CUT if self._ends_cut else _BLANK
        text = before + b"".join([line.text or b"" for line in lines])
        try:
            written = os.write(self._file, text)
        except OSError as error:
            self._fail(error)
            return False
        offset = self._size + len(before)
        self._size += written
        self._ends_cut = self._place(lines, offset) != self._size
        if self._is_failing and written == len(text):
            self._is_failing = False
            log.info("spool_written_again", file=self._path.name)
        return True

    def _place(self, lines: Sequence[Line], offset: int) -> int:
        """Note which of *lines* are there in full, from *offset* on; return where they end."""
        for line in lines:
            end = offset + line.length
            if end > self._size:
                break
            line.text = None
            line.offset = offset
            self._unwritten.pop(line, None)
            offset = end
        return offset

    def _fail(self, error: OSError) -> None:
        if not self._is_failing:
            log.error("spool_write_failed", file=self._path.name, reason=error.strerror)
        self._is_failing = True

    def _remove(self) -> None:
        try:
            remove_file(self._path)
        except OSError as error:
            log.warning("spool_not_removed", file=self._path.name, reason=error.strerror)
