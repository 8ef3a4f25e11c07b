"""
Holds and records as the text that Redis and the write-ahead files keep.
"""

import json

import orjson

from relay_middleware.core import journaled
from relay_middleware.core.holds import Hold
from relay_middleware.core.journaled import JournaledError
from relay_middleware.core.records import RequestEnded


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


def encode_record(record: RequestEnded) -> str:
    """
    Return *record* as JSON, whatever is in it: its charge counts.

    Half a character, in a text of a provider's, has no UTF-8. It is written as an escape, which
    `decode_record` refuses: no ledger takes it either, and whoever reads the journal keeps the
    record as a dead letter.
    """
    members = journaled.encode_record(record)
    try:
        return orjson.dumps(members).decode()
    except orjson.JSONEncodeError:
        return json.dumps(members)


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
