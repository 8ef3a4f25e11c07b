"""
Holds and records as the text that Redis and the write-ahead files keep.
"""

import json
from collections import OrderedDict

import orjson

from relay_middleware.core import journaled
from relay_middleware.core.holds import Hold
from relay_middleware.core.journaled import JournaledError
from relay_middleware.core.records import RequestEnded

MAX_WRITTEN = 2000
"""Records that are remembered, some 4 MB: more than wait for each other in the journal."""


def encode_hold(hold: Hold) -> str:
    """Return *hold* as JSON."""
    return orjson.dumps(journaled.encode_hold(hold)).decode()


def decode_hold(text: bytes) -> Hold:
    """
    Return the hold that *text* says.

    Raises:
        JournaledError: It says none.
    """
    return journaled.decode_hold(_decode(text))


class RecordTexts:
    """
    Records as text and back. The latest that were written are remembered: who reads in the journal
    what it has written there itself has it at once.
    """

    def __init__(self) -> None:
        self._written: OrderedDict[str, RequestEnded] = OrderedDict()

    def encode(self, record: RequestEnded) -> str:
        """
        Return *record* as JSON, whatever is in it: its charge counts.

        Half a character, in a text of a provider's, has no UTF-8. It is written as an escape, which
        `decode` refuses: no ledger takes it either, and whoever reads the journal keeps the record
        as a dead letter.
        """
        members = journaled.encode_record(record)
        try:
            # The bytes that orjson makes take 4 KB, however short they are.
            text = orjson.dumps(members).decode()
        except orjson.JSONEncodeError:
            return json.dumps(members)
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
