"""
The tokenizer: LiteLLM's, on the vocabularies that it is delivered with.

Rules for editors. Only vocabularies in `_MODEL_BY_ENCODING` lie in LiteLLM's package; any other
would be fetched from the network.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from relay_middleware.upstream.library import litellm

_MODEL_BY_ENCODING: Mapping[str, str] = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}
"""A model by which LiteLLM finds each vocabulary."""

_ENCODING_BY_MODEL = (
    (re.compile(r"(?:gpt-4o|chatgpt-4o|gpt-4\.[15]|gpt-5|o1|o3|o4)(?:[-.:].*)?"), "o200k_base"),
    (re.compile(r"(?:gpt-4|gpt-3\.5-turbo|gpt-35-turbo)(?:[-:].*)?"), "cl100k_base"),
    (re.compile(r"text-embedding-(?:ada-002|3-small|3-large)"), "cl100k_base"),
)
"""Source: OpenAI, tiktoken 0.14.0, `tiktoken/model.py`, read 2026-11-24."""

_OPENAIS = frozenset({"openai", "azure", "azure_ai"})

PIECE_CHARS = 4096
"""At once, tiktoken 0.14.0 takes 0.42 s for a mebibyte of one letter, and panics at one of spaces;
in pieces 0.08 and 0.12 s (measured)."""

CountPiece = Callable[[str, str], int]
"""Counts the tokens of a short text by a vocabulary."""


def encoding_of(provider: str, model: str) -> str | None:
    """Return the vocabulary of *model* at *provider*; None where it is not known, or not here."""
    if provider not in _OPENAIS:
        return None
    name = model.rpartition("/")[2].removeprefix("ft:")
    return next((found for known, found in _ENCODING_BY_MODEL if known.fullmatch(name)), None)


def count_piece(encoding: str, text: str) -> int:
    """Return how many tokens *text* has. The first call reads the vocabulary: 0.3 s."""
    count: int = litellm().token_counter(model=_MODEL_BY_ENCODING[encoding], text=text)
    return count


class LiteLlmTokenizer:
    """
    `Tokenizer` in a thread of its own: one text at a time.
    """

    def __init__(self, count_piece: CountPiece = count_piece) -> None:
        self._count_piece = count_piece
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")
        self._running: Future[int] | None = None

    async def count(self, text: str, encodings: Collection[str]) -> int | None:
        """
        Return the most tokens that *text* has by any of *encodings*; None where another text is
        being counted.

        Cancelling it ends the counting with the piece that is under way.
        """
        if self._running is not None and not self._running.done():
            return None
        is_left = Event()
        self._running = self._threads.submit(self._most, text, encodings, is_left)
        try:
            return await asyncio.wrap_future(self._running)
        finally:
            is_left.set()

    async def aclose(self) -> None:
        """End the thread, after the piece that is under way."""
        await asyncio.to_thread(self._threads.shutdown)

    def _most(self, text: str, encodings: Collection[str], is_left: Event) -> int:
        return max(
            sum(self._count_piece(encoding, piece) for piece in _pieces(text, is_left))
            for encoding in encodings
        )


def _pieces(text: str, is_left: Event) -> Iterator[str]:
    """Cut *text* until nobody waits for it any more."""
    # Half a character cannot be sent to a provider, nor be counted.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    for start in range(0, len(whole), PIECE_CHARS):
        if is_left.is_set():
            return
        yield whole[start : start + PIECE_CHARS]
