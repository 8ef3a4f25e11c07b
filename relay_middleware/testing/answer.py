"""
Answers: from what a request asks to what each of its choices says, whatever the wire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.text import first_tokens, simulated_text, tokens_of
from relay_middleware.testing.usage import (
    TOKENS_PER_ANSWER,
    TOKENS_PER_MEDIUM,
    TOKENS_PER_MESSAGE,
    Usage,
    reasoning_of,
    reported,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function to call, and its arguments as JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    What a request for text asks.

    Attributes:
        prompt: All its text, joined.
        last_text: That of its last message.
        input_tokens: Counted by the rule of `usage`.
        cap_tokens: Output cap of one choice, or None.
        choices: How many answers, at least 1.
        is_stream: Whether the answer is a stream.
        wants_usage: Whether a stream shall report its usage.
        tool_call: The call to answer with, or None for text.
        json_text: The text that the asked answer format prescribes, or None.
    """

    model: str
    prompt: str
    last_text: str
    input_tokens: int
    cap_tokens: int | None
    choices: int
    is_stream: bool
    wants_usage: bool
    tool_call: ToolCall | None
    json_text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    One answer.

    Attributes:
        text: What is visible; of a tool call its arguments.
        tool_name: The function called, or None for text.
        is_cut: Whether the cap ended it.
        output_tokens: Reasoning included.
    """

    index: int
    text: str
    tool_name: str | None
    is_cut: bool
    output_tokens: int
    reasoning_tokens: int


def choices_of(question: Question, behaviour: Behaviour) -> tuple[Choice, ...]:
    """Return the answers to *question*, by index."""
    return tuple(_choice(question, behaviour, index) for index in range(question.choices))


def usage_of(question: Question, behaviour: Behaviour, choices: Sequence[Choice]) -> Usage | None:
    """Return what is reported of *question* and its answers, or None for nothing."""
    cap_tokens = question.cap_tokens
    return reported(
        behaviour,
        input_tokens=question.input_tokens,
        output_tokens=sum(choice.output_tokens for choice in choices),
        reasoning_tokens=sum(choice.reasoning_tokens for choice in choices),
        cap_tokens=None if cap_tokens is None else cap_tokens * question.choices,
    )


def text_of(message: Mapping[str, object]) -> str:
    """Return the text of a message, its text parts joined by line ends."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in _parts(content)]
    return "\n".join(text for text in texts if isinstance(text, str))


def input_tokens_of(messages: Sequence[Mapping[str, object]], extras: Sequence[object]) -> int:
    """
    Count the input of a request by the rule of `usage`.

    Args:
        extras: Tools and answer format; what is missing is None or empty.
    """
    return (
        TOKENS_PER_ANSWER
        + sum(_message_tokens(message) for message in messages)
        + sum(_json_tokens(extra) for extra in extras if extra)
    )


def _choice(question: Question, behaviour: Behaviour, index: int) -> Choice:
    tool_call = question.tool_call if behaviour.text is None else None
    whole, name_tokens = _whole_text(question, behaviour, index), 0
    if tool_call is not None:
        whole, name_tokens = tool_call.arguments, tokens_of(tool_call.name)
    whole_tokens = name_tokens + tokens_of(whole)
    reasoning_tokens = reasoning_of(whole_tokens, question.cap_tokens)
    text = whole
    if question.cap_tokens is not None:
        # A cap shorter than the tool's name leaves the name: half a name calls nothing.
        text = first_tokens(whole, question.cap_tokens - reasoning_tokens - name_tokens)
        name_tokens = min(name_tokens, question.cap_tokens - reasoning_tokens)
    return Choice(
        index=index,
        text=text,
        tool_name=None if tool_call is None else tool_call.name,
        is_cut=text != whole,
        output_tokens=name_tokens + tokens_of(text) + reasoning_tokens,
        reasoning_tokens=reasoning_tokens,
    )


def _whole_text(question: Question, behaviour: Behaviour, index: int) -> str:
    if behaviour.text is not None:
        return behaviour.text
    if question.json_text is not None:
        return question.json_text
    return simulated_text(question.prompt, question.last_text, index)


def _message_tokens(message: Mapping[str, object]) -> int:
    media = [part for part in _parts(message.get("content")) if _is_medium(part)]
    others = [part for part in _parts(message.get("content")) if _is_other(part)]
    return (
        TOKENS_PER_MESSAGE
        + tokens_of(text_of(message))
        + TOKENS_PER_MEDIUM * len(media)
        + sum(_json_tokens(part) for part in others)
        + (_json_tokens(message["tool_calls"]) if message.get("tool_calls") else 0)
    )


_MEDIA = frozenset({"image_url", "input_audio", "file", "image", "document"})


def _is_medium(part: Mapping[str, object]) -> bool:
    return part.get("type") in _MEDIA


def _is_other(part: Mapping[str, object]) -> bool:
    return not _is_medium(part) and not isinstance(part.get("text"), str)


def _parts(content: object) -> list[Mapping[str, object]]:
    if not isinstance(content, list):
        return []
    return [part for part in content if isinstance(part, dict)]


def _json_tokens(value: object) -> int:
    return tokens_of(orjson.dumps(value).decode())
