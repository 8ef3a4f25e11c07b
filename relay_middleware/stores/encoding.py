"""
Holds and records as the text that Redis and the write-ahead files keep.
"""

import json
from collections import OrderedDict

import orjson

from relay_middleware.core import journaled
from relay_middleware.core.holds import Hold
from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.journaled import JournaledError
from relay_middleware.core.records import RequestEnded

MAX_WRITTEN = 2000
"""Records that are remembered, some 4 MB: more than wait for each other in the journal."""

MAX_HOLDS = 1000
"""Holds whose text is remembered, 0.5 MB: more than wait for a provider at a time."""


def decode_hold(text: bytes) -> Hold:
    """
    Return the hold that *text* says.

    Raises:
        JournaledError: It says none.
    """
    return journaled.decode_hold(_decode(text))


class Texts:
    """
    Holds and records as text, and records back. Each is written down in several places, one after
    the other, and made once for all of them. The latest records are remembered: who reads in the
    journal what it has written there itself has it at once.
    """

    def __init__(self) -> None:
        self._holds: OrderedDict[HoldId, tuple[Hold, str]] = OrderedDict()
        self._last: tuple[RequestEnded, str] | None = None
        self._written: OrderedDict[str, RequestEnded] = OrderedDict()

    def hold(self, hold: Hold) -> str:
        """
        Return *hold* as JSON.

        Raises:
            TypeError: A text in it is none that UTF-8 could hold, or a number has more than 64
                bits.
        """
        known = self._holds.pop(hold.hold_id, None)
        if known is not None and known[0] is hold:
            # It is asked for twice: when it is reserved, and when a provider is called.
            return known[1]
        text = orjson.dumps(journaled.encode_hold(hold)).decode()
        self._holds[hold.hold_id] = (hold, text)
        if len(self._holds) > MAX_HOLDS:
            self._holds.popitem(last=False)
        return text

    def record(self, record: RequestEnded) -> str:
        """
        Return *record* as JSON.

        Raises:
            TypeError: As for `hold`.
        """
        if self._last is not None and self._last[0] is record:
            return self._last[1]
        # The bytes that orjson makes take 4 KB, however short they are.
        text = orjson.dumps(journaled.encode_record(record)).decode()
        self._last = (record, text)
        return text

    def journal(self, record: RequestEnded) -> str:
        """
        Return *record* as JSON for the journal, whatever is in it: its charge counts.

        Half a character, in a text of a provider's, has no UTF-8. It is written as an escape, which
        `decode` refuses: no ledger takes it either, and whoever reads the journal keeps the record
        as a dead letter.
        """
        try:
            text = self.record(record)
        except orjson.JSONEncodeError:
            return json.dumps(journaled.encode_record(record))
        self._written[text] = record
        if len(self._written) > MAX_WRITTEN:
            self._written.popitem(last=False)
        return text

    def decode(self, text: bytes) -> RequestEnded:
        """
        Return the record that *text* says.

        Raises:
            JournaledError: It says none.
        """
        written = self._written.pop(text.decode("utf-8", "replace"), None)
        return decode_record(text) if written is None else written


def decode_record(text: bytes) -> RequestEnded:
    """
    Return the record that *text* says.

    Raises:
        JournaledError: It says none.
    """
    return journaled.decode_record(_decode(text))


def _decode(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JournaledError("it is not JSON") from error
