"""
Usage: how a simulated provider counts a request and its answer.

The rule, in full. A token is 4 bytes of UTF-8 (`text.tokens_of`).

- Input: for each message 3 tokens and those of its text; 85 for each image, sound or file in it;
  the tokens of what else it carries, as JSON (tool calls, results); 3 once for the answer; the
  tokens of tools and answer format as JSON. A system prompt beside the messages is a message.
- Cached input is half of the input, rounded down. Input is at least 6, so never 0.
- Anthropic's wire also writes to its cache: a quarter of the input, rounded down; for an hour where
  the request says so anywhere, else for five minutes.
- Output: for each choice the tokens of the visible text, and of every called tool's name and
  arguments, plus its reasoning: 1, and a quarter of all those, rounded down. Both together never
  exceed the request's cap: reasoning takes at most half of it, rounded down, and the rest is cut.
  So reasoning is 0 only under a cap of 1; on Anthropic's wire also where none is asked for.

OpenAI's wire reports input with the cached tokens included, Anthropic's without those read and
written; both report output with the reasoning included.

Relay holds one token for each byte of the body, more for each message, and the whole output cap.
What is used is less than that for every request of text.
"""

from dataclasses import dataclass

from relay_middleware.testing.behaviour import Behaviour

TOKENS_PER_MESSAGE = 3
TOKENS_PER_ANSWER = 3
TOKENS_PER_MEDIUM = 85

_CACHED_DIVISOR = 2
_WRITTEN_DIVISOR = 4
_REASONING_DIVISOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """
    What is reported.

    Attributes:
        input_tokens: All input, cached and written included.
        cached_input_tokens: Read from the cache.
        written_input_tokens: Written to the cache; Anthropic only, OpenAI's wire leaves it out.
        output_tokens: All output, reasoning included.
    """

    input_tokens: int
    cached_input_tokens: int
    written_input_tokens: int
    output_tokens: int
    reasoning_tokens: int

    def halved(self) -> "Usage":
        """Return the numbers that a provider reports before it is done."""
        return Usage(
            input_tokens=self.input_tokens // 2,
            cached_input_tokens=self.cached_input_tokens // 2,
            written_input_tokens=self.written_input_tokens // 2,
            output_tokens=self.output_tokens // 2,
            reasoning_tokens=self.reasoning_tokens // 2,
        )


ZERO = Usage(
    input_tokens=0,
    cached_input_tokens=0,
    written_input_tokens=0,
    output_tokens=0,
    reasoning_tokens=0,
)


def reasoning_of(text_tokens: int, cap_tokens: int | None) -> int:
    """Return the reasoning tokens of an answer whose whole text has *text_tokens*."""
    reasoning_tokens = 1 + text_tokens // _REASONING_DIVISOR
    return reasoning_tokens if cap_tokens is None else min(reasoning_tokens, cap_tokens // 2)


def reported(
    behaviour: Behaviour,
    *,
    input_tokens: int,
    output_tokens: int,
    reasoning_tokens: int,
    cap_tokens: int | None,
) -> Usage | None:
    """
    Return what is reported of the counted numbers, by *behaviour*, or None for nothing.

    A number that the behaviour names is reported as it stands, however impossible; the parts of it
    that are not named keep within it.

    Args:
        output_tokens: Of all choices, reasoning included.
        cap_tokens: The cap of all choices together, or None.
    """
    if behaviour.usage == "none":
        return None
    if behaviour.usage == "zero":
        return ZERO
    whole = _or(behaviour.input_tokens, input_tokens)
    named_output = cap_tokens if behaviour.output_tokens == "cap" else behaviour.output_tokens
    output = _or(named_output, output_tokens)
    return Usage(
        input_tokens=whole,
        cached_input_tokens=_or(behaviour.cached_input_tokens, whole // _CACHED_DIVISOR),
        written_input_tokens=_or(
            behaviour.written_input_tokens,
            whole // _WRITTEN_DIVISOR if behaviour.cached_input_tokens is None else 0,
        ),
        output_tokens=output,
        reasoning_tokens=_or(behaviour.reasoning_tokens, min(reasoning_tokens, output)),
    )


def _or(named: int | None, counted: int) -> int:
    return counted if named is None else named
