"""
Separators that a client of LiteLLM's would take for the end of a line.
"""

import json
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.upstream.lines import SeparatorEscaper, ask_for_plain_text, keep_lines

SEPARATORS = "\u0085\u2028\u2029"
TEXTS = st.text(alphabet=st.sampled_from(f"a\u00e9\u20ac\U0001f680\u0080\u2027\u202a{SEPARATORS}"))


@given(text=TEXTS, cuts=st.lists(st.integers(min_value=0, max_value=80)))
def test_the_text_stays_the_same(text: str, cuts: list[int]) -> None:
    """
    However the network cuts a JSON text, what arrives has no separator in it and reads the same.
    """
    data = json.dumps(text, ensure_ascii=False).encode()
    ends = [0, *sorted(cuts), len(data)]
    escaper = SeparatorEscaper()

    kept = [escaper.feed(data[begin:end]) for begin, end in pairwise(ends)]
    whole = b"".join([*kept, escaper.rest()])

    assert not set(whole.decode()) & set(SEPARATORS)
    assert json.loads(whole) == text


def test_a_character_that_never_ends_is_not_lost() -> None:
    """
    The beginning of what might have become a separator goes out at the end.
    """
    escaper = SeparatorEscaper()

    assert (escaper.feed(b"a\xe2\x80"), escaper.rest()) == (b"a", b"\xe2\x80")


class Chunks(httpx.AsyncByteStream):
    """A body that comes in two chunks, cut within a separator."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'data: "a\xe2\x80'
        yield b'\xa8b"\n\n'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "lines"),
    [
        ({"Content-Type": "text/event-stream; charset=utf-8"}, ['data: "a\\u2028b"', ""]),
        ({"Content-Type": "application/x-ndjson"}, ['data: "a\\u2028b"', ""]),
        ({"Content-Type": "text/plain"}, ['data: "a', 'b"', ""]),
        (
            {"Content-Type": "text/event-stream", "Content-Encoding": "unheard-of"},
            ['data: "a', 'b"', ""],
        ),
    ],
    ids=["events", "lines of JSON", "another type", "compressed"],
)
async def test_httpx_reads_whole_lines(headers: dict[str, str], lines: list[str]) -> None:
    """
    httpx itself cuts at U+2028; of a stream of JSON that is not compressed it gets no such.
    """

    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return httpx.Response(200, headers=headers, stream=Chunks())

    hooks = {"request": [ask_for_plain_text], "response": [keep_lines]}
    transport = httpx.MockTransport(answer)
    async with (
        httpx.AsyncClient(transport=transport, event_hooks=hooks) as client,
        client.stream("GET", "http://provider.invalid/") as response,
    ):
        read = [line async for line in response.aiter_lines()]

    assert read == lines
