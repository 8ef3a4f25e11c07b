"""
Lines of a write-ahead file: one note each, in JSON, in the order in which they were made.

| line           | note                                                    |
| -------------- | ------------------------------------------------------- |
| `["d", hold]`  | a provider is about to be called under this hold        |
| `["e", record]`| how the request of a hold ended that was noted before   |
| `["x", id]`    | the request of that hold is forgotten                   |

Holds and records are those of `core/journaled.py`, which have a version of their own.

An empty line says nothing. A line that was cut, because its writer was killed or the disk was full,
has no end or is no JSON; it is skipped: nobody was told that it had been written. A line that says
what this release does not know is unreadable: whoever finds one keeps the file.
"""

from dataclasses import dataclass, field, replace

import orjson

from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.journaled import (
    JournaledError,
    decode_hold,
    decode_record,
)
from relay_middleware.ports.books import Remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A request in a file: what is known of it, and the lines that say so, as they are."""

    remembered: Remembered
    hold_line: bytes
    record_line: bytes | None = None


@dataclass(slots=True)
class Contents:
    """
    What a file has.

    Attributes:
        requests: Noted and not forgotten, in the order in which they were first noted.
        cut: How many lines were cut.
        unreadable: How many say what is not known here.
    """

    requests: dict[HoldId, Found] = field(default_factory=dict)
    cut: int = 0
    unreadable: int = 0


def dispatching_line(hold_text: str) -> bytes:
    """Return the line that notes the hold of which this is the text."""
    return b'["d",%b]\n' % hold_text.encode()


def ended_line(record_text: str) -> bytes:
    """Return the line that notes the record of which this is the text."""
    return b'["e",%b]\n' % record_text.encode()


def dropped_line(hold_id: HoldId) -> bytes:
    """Return the line that forgets a request."""
    return orjson.dumps(["x", hold_id], option=orjson.OPT_APPEND_NEWLINE)


def read_lines(text: bytes) -> Contents:
    """Return what a file with *text* in it has."""
    contents = Contents()
    # What comes after the last line's end is nothing, or a line that was cut.
    *lines, rest = text.split(b"\n")
    for line in filter(None, lines):
        _read(line, contents)
    if rest:
        _skip(rest, contents)
    return contents


def _read(line: bytes, contents: Contents) -> None:
    try:
        _note(orjson.loads(line), line + b"\n", contents.requests)
    except orjson.JSONDecodeError:
        _skip(line, contents)
    except JournaledError:
        contents.unreadable += 1


def _skip(line: bytes, contents: Contents) -> None:
    # What does not begin as a line does was never one that was cut.
    if line.startswith(b"["):
        contents.cut += 1
    else:
        contents.unreadable += 1


def _note(note: object, line: bytes, requests: dict[HoldId, Found]) -> None:
    match note:
        case ["d", members]:
            hold = decode_hold(members)
            found = Found(remembered=Remembered(hold=hold, record=None), hold_line=line)
            requests.setdefault(hold.hold_id, found)
        case ["e", members]:
            record = decode_record(members)
            known = requests.get(record.hold_id)
            if known is None:
                raise JournaledError(f"{record.hold_id} ended, and was not noted before")
            remembered = replace(known.remembered, record=record)
            requests[record.hold_id] = replace(known, remembered=remembered, record_line=line)
        case ["x", str(hold_id)]:
            requests.pop(HoldId(hold_id), None)
        case _:
            raise JournaledError("a note of a kind that is not known here")
