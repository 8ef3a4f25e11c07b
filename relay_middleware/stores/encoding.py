"""
Holds and records as the text that Redis and the write-ahead files keep.
"""

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
    """Return *record* as JSON."""
    return orjson.dumps(journaled.encode_record(record)).decode()


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
