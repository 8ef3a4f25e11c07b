"""
The write-ahead file of a worker: what it was about when it was killed.

What was written survives the process, `kill -9` included, and not the machine: nothing waits for
the disk.

One file for each worker, in a folder that the workers of a machine share, with the lines of
`spool_lines`. In memory is only where the lines of each request are, and such lines as could not be
written. A file most of which is dropped is written anew: it is never larger than twice what is
pending, or than a bound, and what was dropped since.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import orjson
import structlog

from relay_middleware.core.holds import Hold
from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.records import RequestEnded
from relay_middleware.errors import ConfigurationError
from relay_middleware.ports.books import Remembered
from relay_middleware.stores.encoding import Texts
from relay_middleware.stores.line_file import Line, LineFile
from relay_middleware.stores.owned_files import keep_aside, lock_file, read_file, remove_file
from relay_middleware.stores.spool_lines import (
    Contents,
    Found,
    dispatching_line,
    dropped_line,
    ended_line,
    read_lines,
)

log = structlog.get_logger("relay")

COMPACT_ABOVE_BYTES = 2**20
"""A smaller file is not worth the while: whoever takes it over has read it in some milliseconds."""


@dataclass(slots=True)
class _Noted:
    """The lines of one request."""

    hold: Line
    record: Line | None = None

    def lines(self) -> tuple[Line, ...]:
        return (self.hold,) if self.record is None else (self.hold, self.record)


class FileSpool:
    """`Spool` in one file, for one event loop."""

    def __init__(
        self,
        *,
        state_dir: Path,
        worker_id: str,
        texts: Texts | None = None,
        compact_above_bytes: int = COMPACT_ABOVE_BYTES,
    ) -> None:
        """
        Args:
            state_dir: On a disk of this machine; the files are in its folder `spool`.
            worker_id: What the file is called after.
            texts: Writes holds and records; shared with who else writes them down.
            compact_above_bytes: A larger file, not half of which is pending, is written anew.
        """  # fmt: skip
        self._folder = state_dir / "spool"
        self._worker_id = worker_id
        self._texts = texts or Texts()
        self._least_compacted_bytes = compact_above_bytes
        self._compact_above_bytes = compact_above_bytes
        self._file = LineFile()
        self._noted: dict[HoldId, _Noted] = {}
        self._pending_bytes = 0
        self._left_alone: set[Path] = set()

    async def start(self) -> None:
        """
        Begin a new file. Calling it again does nothing.

        What earlier workers have left, one of the same id among them, comes by `take_over`.

        Raises:
            ConfigurationError: The folder cannot be written to.
        """
        if self._file.is_open:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file.open(self._folder, self._worker_id)
        except OSError as error:
            raise ConfigurationError(
                f"the write-ahead file cannot be made in {self._folder} ({error.strerror}): set"
                " state_dir to a folder of this machine that this process may write to"
            ) from error

    async def aclose(self) -> None:
        """
        Give the file up, and forget: it is removed if nothing is pending, else left for whoever
        takes it over.
        """
        if self._file.is_open:
            self._file.close(is_removed=not self._noted)
        self._noted = {}
        self._pending_bytes = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed."""
        return self._file.is_failing

    def dispatching(self, hold: Hold) -> None:
        """Note that a provider is about to be called under *hold*. Once is enough."""
        if hold.hold_id in self._noted:
            return
        try:
            line = _line(dispatching_line(self._texts.hold(hold)))
        except orjson.JSONEncodeError as error:
            _log_refused(hold, error)
            return
        self._noted[hold.hold_id] = _Noted(line)
        self._append([line])

    def ended(self, hold: Hold, record: RequestEnded) -> None:
        """Note how the request of *hold* ended; the last one counts."""
        self.dispatching(hold)
        noted = self._noted.get(hold.hold_id)
        if noted is None:
            return
        try:
            line = _line(ended_line(self._texts.record(record)))
        except orjson.JSONEncodeError as error:
            _log_refused(hold, error)
            return
        if noted.record is not None:
            self._forget(noted.record)
        noted.record = line
        self._append([line])

    def drop(self, hold_ids: Iterable[HoldId]) -> None:
        """
        Forget requests; unknown ones are forgotten already.

        Dropping none tries again to write what could not be written.
        """
        dropped = [hold_id for hold_id in hold_ids if self._forget_request(hold_id)]
        # Written down too: whoever takes the file over settles what is in it, and that is posted
        # twice where the store has forgotten the hold, as it does 10 minutes after SQL has it.
        self._file.append([_line(dropped_line(hold_id)) for hold_id in dropped])
        self._compact()

    def remembered(self, hold_ids: Iterable[HoldId] | None = None) -> Sequence[Remembered]:
        """
        Return what was noted and not dropped: of *hold_ids*, or all of it, oldest first. Reads the
        file.

        Raises:
            OSError: It cannot be read.
        """
        remembered: list[Remembered] = []
        for hold_id in list(self._noted) if hold_ids is None else hold_ids:
            noted = self._noted.get(hold_id)
            lines = () if noted is None else noted.lines()
            contents = read_lines(b"".join(map(self._file.text_of, lines)))
            remembered += [found.remembered for found in contents.requests.values()]
        return remembered

    def ended_ids(self) -> Sequence[HoldId]:
        """Return what of the remembered has ended, oldest first. Does not read the file."""
        return [hold_id for hold_id, noted in self._noted.items() if noted.record is not None]

    def take_over(self) -> Sequence[Remembered]:
        """
        Make what dead processes have left in the same folder this one's own, and return it.

        Their lines are in this one's file before theirs is removed: whoever is killed in between
        leaves both, and the next one finds each request once. What cannot be written to this one's
        file stays where it is.
        """
        taken: dict[HoldId, Remembered] = {}
        for path in sorted(self._folder.glob("*.wal")):
            if path == self._file.path or path in self._left_alone:
                continue
            try:
                taken |= self._take(path)
            except OSError as error:
                self._leave_alone(path, error)
        return list(taken.values())

    def _take(self, path: Path) -> Mapping[HoldId, Remembered]:
        file = lock_file(path)
        if file is None:
            return {}
        try:
            contents = read_lines(read_file(file))
            adopted = self._adopt(contents.requests)
            if adopted is not None:
                self._remove(path, contents)
            return adopted or {}
        finally:
            os.close(file)

    def _adopt(self, requests: Mapping[HoldId, Found]) -> Mapping[HoldId, Remembered] | None:
        """Note what of *requests* was not noted yet, and return it; None where that failed."""
        adopted: dict[HoldId, Remembered] = {}
        lines: list[Line] = []
        for hold_id, found in requests.items():
            noted = self._noted.get(hold_id)
            if noted is None:
                noted = self._noted[hold_id] = _Noted(_line(found.hold_line))
                lines.append(noted.hold)
                adopted[hold_id] = found.remembered
            if noted.record is None and found.record_line is not None:
                noted.record = _line(found.record_line)
                lines.append(noted.record)
                adopted[hold_id] = found.remembered
        self._append(lines)
        if lines and self._file.is_failing:
            self.drop(adopted)
            return None
        return adopted

    def _remove(self, path: Path, contents: Contents) -> None:
        """Remove a file all of which is in this one's, but for what could not be read."""
        log.info("spool_taken_over", file=path.name, requests=len(contents.requests))
        if contents.cut:
            log.warning("spool_lines_cut", file=path.name, lines=contents.cut)
        try:
            if contents.unreadable:
                kept = keep_aside(path)
                log.error("spool_lines_unreadable", lines=contents.unreadable, kept=str(kept))
            else:
                remove_file(path)
        except OSError as error:
            self._leave_alone(path, error)

    def _leave_alone(self, path: Path, error: OSError) -> None:
        """Never look at *path* again: it would be logged, or taken over, once a second."""
        self._left_alone.add(path)
        log.error("spool_left_alone", file=path.name, reason=error.strerror)

    def _append(self, lines: Sequence[Line]) -> None:
        self._pending_bytes += sum([line.length for line in lines])
        self._file.append(lines)

    def _forget(self, line: Line) -> bool:
        self._pending_bytes -= line.length
        return self._file.forget(line)

    def _forget_request(self, hold_id: HoldId) -> bool:
        """Forget a request; return whether a line of it is in the file."""
        noted = self._noted.pop(hold_id, None)
        if noted is None:
            return False
        written = [self._forget(line) for line in noted.lines()]
        return any(written)

    def _compact(self) -> None:
        """Write the file anew where it is large, and less than half of it pending."""
        if self._file.size <= max(self._compact_above_bytes, 2 * self._pending_bytes):
            return
        if self._file.rewrite(line for noted in self._noted.values() for line in noted.lines()):
            self._compact_above_bytes = self._least_compacted_bytes
        else:
            # Not again with each drop while the disk is full.
            self._compact_above_bytes = self._file.size + self._least_compacted_bytes


def under_way(folder: Path) -> Mapping[str, int]:
    """
    Return, by worker id, for how many requests the files below *folder* say that a provider was
    called and that they have not ended.

    Looks without a lock: the files of workers that live change under it.
    """
    found: dict[str, int] = {}
    for path in folder.rglob("*.wal"):
        with contextlib.suppress(FileNotFoundError):
            requests = read_lines(path.read_bytes()).requests.values()
            open_ = [each for each in requests if each.remembered.record is None]
            found[unquote(path.stem)] = len(open_)
    return found


def _line(text: bytes) -> Line:
    return Line(text, len(text))


def _log_refused(hold: Hold, error: TypeError) -> None:
    # A bug of ours: no name that is believed has such text, and no count is that large.
    log.error("spool_note_refused", hold_id=hold.hold_id, reason=str(error))
