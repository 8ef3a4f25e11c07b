"""
Server-sent events: nothing is lost, changed or split by how the network cuts a body.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core import sse
from relay_middleware.core.sse import EventStreamDecoder, EventTooLongError

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
# Without line ends, which JSON never has either; with U+2028, which it may have.
PAYLOADS = st.text(
    alphabet=st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"])
    | st.just("\u2028")
)


def split_at(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(body)) for cut in cuts})
    bounds = zip([0, *places], [*places, len(body)], strict=True)
    return [body[start:end] for start, end in bounds]


@given(payloads=st.lists(PAYLOADS), end=LINE_ENDS, cuts=st.lists(st.integers(min_value=0)))
def test_chunk_boundaries_do_not_matter(payloads: list[str], end: str, cuts: list[int]) -> None:
    """
    However the network cuts a body, the same payloads come out, and the same bytes.
    """
    body = "".join(f"data: {payload}{end}{end}" for payload in payloads).encode()
    decoder = EventStreamDecoder()

    events = [event for chunk in split_at(body, cuts) for event in decoder.feed(chunk)]
    events += decoder.rest()

    assert [event.data for event in events] == [payload.encode() for payload in payloads]
    assert b"".join(event.raw for event in events).startswith(body.removesuffix(b"\r"))


def test_fields_of_one_event_are_joined() -> None:
    """
    Two data lines are one payload with a line feed between; other fields are no payload.
    """
    events = EventStreamDecoder().feed(b"event: x\ndata: a\nid: 1\ndata:b\n\n")

    assert [event.data for event in events] == [b"a\nb"]


def test_comment_has_no_data() -> None:
    """
    A comment is an event without data, and its bytes are kept.
    """
    events = EventStreamDecoder().feed(b": keep-alive\n\n")

    assert [(event.raw, event.data) for event in events] == [(b": keep-alive\n\n", None)]


def test_rest_is_an_event_without_its_blank_line() -> None:
    """
    A stream that ends without its last blank line loses nothing; after that there is no rest.
    """
    decoder = EventStreamDecoder()

    assert decoder.feed(b"data: a\n\ndata: b") == [sse.ServerSentEvent(b"data: a\n\n", b"a")]
    assert [event.data for event in decoder.rest()] == [b"b"]
    assert decoder.rest() == []


def test_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An event of more than the bound is an error, one of exactly the bound is not.
    """
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 10)
    decoder = EventStreamDecoder()

    assert decoder.feed(b"data: 7890") == []
    with pytest.raises(EventTooLongError, match="more than 10 bytes"):
        decoder.feed(b"x")


def test_encode_is_the_inverse() -> None:
    """
    What is encoded comes out again.
    """
    assert [event.data for event in EventStreamDecoder().feed(sse.encode(b"{}"))] == [b"{}"]
