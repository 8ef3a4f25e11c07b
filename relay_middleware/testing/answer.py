"""
Answers: from what a request asks to what each of its choices says, whatever the wire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
        tool_calls: The calls that may be the answer, the first one first; none for text.
        json_text: The text that the asked answer format prescribes, or None.
        stops: Texts that end the answer before them.
        thinks: Whether there is reasoning before the answer.
    """

    model: str
    prompt: str
    last_text: str
    input_tokens: int
    cap_tokens: int | None
    choices: int
    is_stream: bool
    wants_usage: bool
    tool_calls: tuple[ToolCall, ...]
    json_text: str | None
    stops: tuple[str, ...]
    thinks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    One answer.

    Attributes:
        text: What is visible; empty where nothing is said before tools are called.
        calls: Tools that are called; of the last one the arguments may be cut.
        is_cut: Whether the cap ended it.
        stop: The text asked for that ended it, or None.
        output_tokens: Reasoning included.
    """

    index: int
    text: str
    calls: tuple[ToolCall, ...]
    is_cut: bool
    stop: str | None
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
    calls = question.tool_calls[: behaviour.tool_calls] if behaviour.text is None else ()
    whole = behaviour.preamble if calls else _whole_text(question, behaviour, index)
    said, stop = _until_stop(whole, question.stops)
    whole_tokens = tokens_of(said) + sum(_call_tokens(call) for call in calls)
    reasoning_tokens = reasoning_of(whole_tokens, question.cap_tokens) if question.thinks else 0
    room_tokens = whole_tokens
    if question.cap_tokens is not None:
        room_tokens = min(whole_tokens, question.cap_tokens - reasoning_tokens)
    text = first_tokens(said, room_tokens)
    kept = _first_calls(calls, room_tokens - tokens_of(text)) if text == said else ()
    is_cut = (text, kept) != (said, calls)
    return Choice(
        index=index,
        text=text,
        calls=kept,
        is_cut=is_cut,
        stop=None if is_cut else stop,
        output_tokens=room_tokens + reasoning_tokens,
        reasoning_tokens=reasoning_tokens,
    )


def _whole_text(question: Question, behaviour: Behaviour, index: int) -> str:
    if behaviour.text is not None:
        return behaviour.text
    if question.json_text is not None:
        return question.json_text
    return simulated_text(question.prompt, question.last_text, index)


def _until_stop(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """Return *text* up to the first of *stops* in it, and that one; all of it and None if none."""
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    position, stop = min(found)
    return text[:position], stop


def _call_tokens(call: ToolCall) -> int:
    return tokens_of(call.name) + tokens_of(call.arguments)


def _first_calls(calls: Sequence[ToolCall], room_tokens: int) -> tuple[ToolCall, ...]:
    """Return the beginning of *calls* that has at most *room_tokens*."""
    kept = []
    for call in calls:
        if room_tokens <= 0:
            break
        # Less room than the tool's name has leaves the name: half a name calls nothing.
        room_tokens -= tokens_of(call.name)
        arguments = first_tokens(call.arguments, room_tokens)
        room_tokens -= tokens_of(arguments)
        kept.append(replace(call, arguments=arguments))
        if arguments != call.arguments:
            break
    return tuple(kept)


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
