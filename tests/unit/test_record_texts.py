"""
Records as text: what was written here need not be read, and reads the same.
"""

from dataclasses import replace

import pytest
from fixtures.records import ended

from relay_middleware.core.journaled import JournaledError
from relay_middleware.stores import encoding
from relay_middleware.stores.encoding import Texts, decode_record


def test_what_was_written_here_is_there_at_once() -> None:
    """
    The record itself comes back, once; whoever reads its text later, or elsewhere, gets its equal.
    """
    texts, record = Texts(), ended()
    text = texts.journal(record).encode()

    assert texts.decode(text) is record
    assert texts.decode(text) == record
    assert texts.decode(text) is not record
    assert Texts().decode(text) == record


def test_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With room for two, the first of three is read from its text again.
    """
    monkeypatch.setattr(encoding, "MAX_WRITTEN", 2)
    texts = Texts()
    records = [replace(ended(), charge_nano_usd=charge) for charge in (1, 2, 3)]
    written = [texts.journal(record).encode() for record in records]

    read = [texts.decode(text) for text in written]

    assert read == records
    assert [one is other for one, other in zip(read, records, strict=True)] == [False, True, True]


def test_what_no_ledger_takes_is_refused_here_too() -> None:
    """
    Half a character is written as an escape, and refused by whoever reads it: also by its writer.
    """
    texts = Texts()
    text = texts.journal(replace(ended(), model="\ud83d")).encode()

    for read in (texts.decode, decode_record):
        with pytest.raises(JournaledError):
            read(text)
