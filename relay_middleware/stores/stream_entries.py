"""
Entries of the journal in Redis, as its commands answer them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a bucket's stream; *text* is what a settle wrote into it."""

    stream: bytes
    entry_id: bytes
    text: bytes


def ids_by_stream(entries: Iterable[Entry]) -> Mapping[bytes, list[bytes]]:
    """Return the ids of *entries*, by their streams."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for entry in entries:
        found[entry.stream].append(entry.entry_id)
    return found


def pairs_of(found: object) -> list[tuple[bytes, object]]:
    """Return as pairs what XREADGROUP answers: a mapping, or in the older protocol a list."""
    if isinstance(found, Mapping):
        return list(found.items())
    return [(stream, entries) for stream, entries in found] if isinstance(found, list) else []


def entries_of(stream: bytes, found: object) -> list[Entry]:
    """Return the entries of *stream* that a command has *found*, of either protocol."""
    entries: list[Entry] = []
    for item in found if isinstance(found, list) else []:
        if isinstance(item, list) and item and isinstance(item[0], list | tuple):
            # The newer protocol wraps them once more.
            entries += entries_of(stream, item)
            continue
        entry_id, fields = item
        # What was deleted while it was pending has no fields.
        if fields:
            text = fields.get(b"entry", b"")
            entries.append(Entry(stream=stream, entry_id=entry_id, text=text))
    return entries
