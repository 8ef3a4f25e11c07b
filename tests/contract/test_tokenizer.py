"""
The tokenizer: what every implementation of `Tokenizer` promises, and what LiteLLM's counts.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from threading import Event

import pytest
from fixtures.counted_requests import CONVERSATION, NESTED, ORDER, SEARCH

from relay_middleware.core.endpoints import chat
from relay_middleware.ports.providers import Tokenizer
from relay_middleware.upstream.library import litellm
from relay_middleware.upstream.tokenizer import (
    PIECE_CHARS,
    LiteLlmTokenizer,
    count_piece,
    encoding_of,
)

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024


class Halting:
    """Counts a token for every letter, when it is let."""

    def __init__(self) -> None:
        self.has_begun, self.may_go_on = Event(), Event()
        self.pieces: list[str] = []

    def __call__(self, _: str, text: str) -> int:
        self.pieces.append(text)
        self.has_begun.set()
        self.may_go_on.wait()
        return len(text)


@pytest.fixture(name="halting")
def _halting() -> Halting:
    return Halting()


@pytest.fixture(name="slow")
async def _slow(halting: Halting) -> AsyncIterator[Tokenizer]:
    """A tokenizer that is halted, and goes on at the end."""
    tokenizer = LiteLlmTokenizer(halting)
    yield tokenizer
    halting.may_go_on.set()
    await tokenizer.aclose()


@pytest.fixture(name="tokenizer", scope="module")
async def _tokenizer() -> AsyncIterator[Tokenizer]:
    tokenizer = LiteLlmTokenizer()
    yield tokenizer
    await tokenizer.aclose()


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        # OpenAI cookbook, "How to count tokens with tiktoken", read 2026-11-24.
        ("tiktoken is great!", "cl100k_base", 6),
        ("antidisestablishmentarianism", "cl100k_base", 6),
        ("antidisestablishmentarianism", "o200k_base", 6),
        ("2 + 2 = 4", "o200k_base", 7),
        ("お誕生日おめでとう", "cl100k_base", 9),
        ("お誕生日おめでとう", "o200k_base", 8),
        ("", "o200k_base", 0),
    ],
)
async def test_counts_as_openai_does(
    tokenizer: Tokenizer, text: str, encoding: str, expected: int
) -> None:
    """
    OpenAI's own examples have as many tokens here as OpenAI says.
    """
    assert await tokenizer.count(text, {encoding}) == expected


@pytest.mark.parametrize(
    ("request_body", "at_openai"),
    [(CONVERSATION, 129), (SEARCH, 66), (ORDER, 86), (NESTED, 103)],
    ids=["conversation", "function", "order", "nested"],
)
async def test_a_request_has_no_more_tokens_at_openai(
    tokenizer: Tokenizer, request_body: dict[str, object], at_openai: int
) -> None:
    """
    What is counted of a request's texts, before any margin, is what OpenAI counts of it or up to a
    third more.
    """
    text = chat.ENDPOINT.input_text(request_body)

    counted = await tokenizer.count(text, {"cl100k_base"})

    assert counted is not None
    assert at_openai <= counted <= at_openai * 4 / 3


async def test_the_most_of_all_vocabularies(tokenizer: Tokenizer) -> None:
    """
    Of 9 tokens by one vocabulary and 8 by the other it is 9.
    """
    assert await tokenizer.count("お誕生日おめでとう", {"cl100k_base", "o200k_base"}) == 9


@pytest.mark.parametrize(
    "letter", ["a", " ", "0", ".", "\n", "é", "😀", "中"], ids=lambda letter: f"{ord(letter):x}"
)
async def test_a_run_of_one_letter(tokenizer: Tokenizer, letter: str) -> None:
    """
    A mebibyte of one letter, at some of which a tokenizer breaks, is counted in pieces: more than a
    token for 256 bytes, and never more than one a byte.
    """
    text = letter * (MEBIBYTE // len(letter.encode()))

    counted = await tokenizer.count(text, {"o200k_base", "cl100k_base"})

    assert counted is not None
    assert MEBIBYTE // 256 < counted <= MEBIBYTE


async def test_what_looks_special_is_text(tokenizer: Tokenizer) -> None:
    """
    A model's own marks in a client's text are letters; half a character is counted as something.
    """
    assert await tokenizer.count("<|endoftext|>", {"cl100k_base"}) == 7
    assert await tokenizer.count("\ud83d", {"cl100k_base"}) == 1


async def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The vocabularies are there without a network.
    """

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert [count_piece(name, "hi") for name in ("o200k_base", "cl100k_base")] == [1, 1]


async def test_one_at_a_time(slow: Tokenizer, halting: Halting) -> None:
    """
    While one text is counted, another is not, and its caller knows at once; afterwards it is.
    """
    first = asyncio.create_task(slow.count("abc", {"o200k_base"}))
    await asyncio.to_thread(halting.has_begun.wait)

    meanwhile = await slow.count("de", {"o200k_base"})
    halting.may_go_on.set()

    assert (meanwhile, await first) == (None, 3)
    assert await slow.count("de", {"o200k_base"}) == 2


async def test_the_loop_goes_on(slow: Tokenizer, halting: Halting) -> None:
    """
    Counting happens elsewhere: what lets it end is done by the very loop that waits for it.
    """
    counting = asyncio.create_task(slow.count("abc", {"o200k_base"}))
    await asyncio.to_thread(halting.has_begun.wait)
    asyncio.get_running_loop().call_soon(halting.may_go_on.set)

    assert await counting == 3


async def test_a_caller_that_leaves(slow: Tokenizer, halting: Halting) -> None:
    """
    Who does not wait ends the counting after the piece under way; until then nobody else counts.
    """
    counting = asyncio.create_task(slow.count("a" * PIECE_CHARS * 3, {"o200k_base"}))
    await asyncio.to_thread(halting.has_begun.wait)

    counting.cancel()
    await asyncio.gather(counting, return_exceptions=True)
    meanwhile = await slow.count("b", {"o200k_base"})
    halting.may_go_on.set()
    await slow.aclose()

    assert counting.cancelled()
    assert meanwhile is None
    assert halting.pieces == ["a" * PIECE_CHARS]


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o-mini", "o200k_base"),
        ("openai", "gpt-4.1", "o200k_base"),
        ("openai", "gpt-5.4-nano-2026-03-17", "o200k_base"),
        ("openai", "o3-mini", "o200k_base"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:us::1", "o200k_base"),
        ("openai", "chatgpt-4o-latest", "o200k_base"),
        ("openai", "gpt-4-turbo", "cl100k_base"),
        ("openai", "gpt-3.5-turbo", "cl100k_base"),
        ("openai", "text-embedding-3-small", "cl100k_base"),
        ("azure", "eu/gpt-4o", "o200k_base"),
        ("openai", "openai/gpt-4o", "o200k_base"),
        # What is not known is not guessed.
        ("openai", "gpt-6-sol", None),
        ("openai", "gpt-4.7", None),
        ("openai", "gpt-oss-120b", None),
        ("openai", "llama-3", None),
        ("openrouter", "openai/gpt-4o", None),
        ("anthropic", "claude-haiku-4-5", None),
    ],
)
def test_which_vocabulary(provider: str, model: str, expected: str | None) -> None:
    """
    OpenAI's models have one of two vocabularies; of all others nobody says so.
    """
    assert encoding_of(provider, model) == expected


def test_claudes_vocabulary_is_kept_once() -> None:
    """
    What LiteLLM made the text of Claude's vocabulary of is let go, and by the text it still counts
    12 tokens in a word of which OpenAI's vocabulary makes 10.
    """
    library = litellm()
    word = "supercalifragilisticexpialidocious"

    assert not hasattr(library.utils, "json_data")
    assert library.token_counter(model="claude-haiku-4-5", text=word) == 12
    assert library.token_counter(model="gpt-4o", text=word) == 10
