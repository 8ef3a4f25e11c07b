"""
Text: what a simulated provider says, and how it counts tokens.

A token is every 4 bytes of the UTF-8 form of a text, the last one perhaps shorter. No model
counts like this; it is near enough to be plausible, and anybody can check it by hand.

A text says that it is simulated, repeats how the prompt begins, and goes on with words that mean
nothing. Both the words and their number follow from a hash of the prompt: the same prompt gets the
same text, another one gets another length.
"""

import codecs
from collections.abc import Iterator
from hashlib import sha256, shake_256

TOKEN_BYTES = 4

# 16 to 63: enough for several chunks, few enough to read.
_LEAST_WORDS = 16
_MORE_WORDS = 48

_REPEATED_CHARACTERS = 48
_WORDS = (
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "elit",
    "sed",
    "tempor",
    "ut",
    "labore",
    "et",
    "magna",
)


def tokens_of(text: str) -> int:
    """Return how many tokens *text* has; none if it is empty."""
    return -(-len(text.encode()) // TOKEN_BYTES)


def first_tokens(text: str, tokens: int) -> str:
    """Return the beginning of *text* that has at most *tokens*; no character is cut in two."""
    return text.encode()[: TOKEN_BYTES * max(0, tokens)].decode(errors="ignore")


def pieces(text: str, tokens: int) -> Iterator[str]:
    """
    Cut *text* into pieces of about *tokens* each; no character is cut in two, no piece is empty.

    The pieces add up to the text. An empty text has no pieces.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoded = text.encode()
    for start in range(0, len(encoded), TOKEN_BYTES * tokens):
        if piece := decoder.decode(encoded[start : start + TOKEN_BYTES * tokens]):
            yield piece


def simulated_text(prompt: str, last_text: str, choice: int) -> str:
    """
    Return the answer to a prompt: the same arguments give the same text.

    Args:
        prompt: All text of the request; the hash is made from it.
        last_text: Its last message, whose beginning is repeated.
        choice: Index of the answer, where several are asked for; they differ.
    """
    seed = shake_256(f"{choice}:{prompt}".encode()).digest(1 + _LEAST_WORDS + _MORE_WORDS)
    words = _LEAST_WORDS + seed[0] % _MORE_WORDS
    chosen = [_WORDS[byte % len(_WORDS)] for byte in seed[1 : 1 + words]]
    begin = " ".join(last_text[:_REPEATED_CHARACTERS].split())
    return f"Simulated answer to: {begin}. {' '.join(chosen).capitalize()}."


def thinking_text(prompt: str, tokens: int) -> str:
    """Return what is thought of a *prompt*: a text of exactly so many *tokens*, in ASCII."""
    length = TOKEN_BYTES * tokens
    words = (_WORDS[byte % len(_WORDS)] for byte in shake_256(prompt.encode()).digest(length))
    return f"Simulated thinking: {' '.join(words)}"[:length]


def identifier(prefix: str, *parts: bytes) -> str:
    """Return an identifier that follows from *parts* alone, such as `chatcmpl-sim-4f…`."""
    return f"{prefix}{sha256(b'|'.join(parts)).hexdigest()[:24]}"
