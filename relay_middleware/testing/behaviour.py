"""
Behaviours: how a simulated provider answers the calls of one profile.

A behaviour is a value. It is made in Python, or from JSON when another process steers the
simulator; both refuse what they do not know.
"""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from types import UnionType
from typing import Literal

FAKE_KEY = "sk-sim-secret-0123456789abcdef"
FAKE_HOST = "provider.simulator.invalid"

FAILURE_MESSAGE = f"Simulated failure at https://{FAKE_HOST}/v1 with key {FAKE_KEY}"
"""Names a host and a key, as real providers' messages do: neither may reach Relay's client."""

Stall = Literal["before_headers", "after_headers", "after_content"]
UsageMode = Literal["normal", "none", "twice", "with_choices", "zero"]

_ERROR_STATUSES = range(400, 600)
_POSITIVE = frozenset({"chunk_tokens", "fail_every", "tool_calls"})


class BehaviourError(ValueError):
    """A behaviour has an unknown member, or one with a value that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """
    How the calls of one profile are answered. Without arguments: at once, and well.

    All numbers are at least 0. An *event* is one server-sent event that carries data, the role
    chunk and `[DONE]` included, comments not.

    Attributes:
        status: Answer with this error status (400 to 599) and the provider's error envelope.
        retry_after_s: `retry-after` of such an answer, in seconds.
        error_message: Message of every injected error, of those inside a stream too.
        error_code: Its `code`; OpenAI's usual one for the status if None.
        error_param: Its `param`.
        fail_first: `status`, `stall`, `cut_after_chunks` and `stream_error_after_chunks` apply to
            the first so many calls after the behaviour was set; later ones are healthy. None: all.
        fail_every: They apply to every so-manyth call only: 10 is the tenth, the twentieth, ...
        stall: Fall silent here: before the headers, after them, or after the first event with
            content (an answer that is not streamed: in the middle of its body).
        stall_s: How long, in seconds; then the answer goes on. None: until the client goes away.
        cut_after_chunks: Close the connection, without an end of the body, after so many events, or
            after all if there are fewer; 0 is after the headers. An answer that is not streamed is
            cut in the middle of its body.
        stream_error_after_chunks: After so many events, or all if there are fewer, send an event
            with an error and end the stream properly, without `[DONE]`. Streams only.
        usage: What is reported. `normal`: as the provider does. `none`: nothing, asked for or not.
            `twice`: a stream reports halves first and the right numbers last. `with_choices`: an
            OpenAI stream has them on its last chunk with choices, and no chunk of their own.
            `zero`: all numbers are 0. Where a mode does not apply it is `normal`.
        input_tokens: Report this instead of what was counted; so do the next four.
        cached_input_tokens: For Anthropic the tokens read from the cache; none are then written,
            unless it is said how many.
        written_input_tokens: Written to the cache; Anthropic only.
        output_tokens: `"cap"` is the request's output cap, times the number of choices.
        reasoning_tokens: For Anthropic only where the request asks for thinking.
        first_chunk_delay_s: Silence between the headers and the first event.
        chunk_delay_s: Silence before every later event.
        latency_s: Silence before an answer that is not streamed, errors included.
        text: The visible answer, instead of one made from the prompt. Wins over tools.
        tool_calls: How many of the request's tools are called, in their order, at least 1; where
            the request forbids several, one is.
        preamble: Said before tools are called.
        chunk_tokens: How many tokens of text one event carries, at least 1.
        comment_first: Begin streams with the comment `: keep-alive`.
        crlf: End lines of streams with CR LF.
        burst: Write all events of a stream at once; `chunk_delay_s` is then nothing.
    """

    status: int | None = None
    retry_after_s: int | None = None
    error_message: str = FAILURE_MESSAGE
    error_code: str | None = None
    error_param: str | None = None
    fail_first: int | None = None
    fail_every: int | None = None
    stall: Stall | None = None
    stall_s: float | None = None
    cut_after_chunks: int | None = None
    stream_error_after_chunks: int | None = None
    usage: UsageMode = "normal"
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    written_input_tokens: int | None = None
    output_tokens: int | Literal["cap"] | None = None
    reasoning_tokens: int | None = None
    first_chunk_delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    latency_s: float = 0.0
    text: str | None = None
    tool_calls: int = 1
    preamble: str = ""
    chunk_tokens: int = 4
    comment_first: bool = False
    crlf: bool = False
    burst: bool = False

    def __post_init__(self) -> None:
        """
        Check every member.

        Raises:
            BehaviourError: One has a wrong type or is out of its range.
        """
        for name, hint in _hints().items():
            _check(name, hint, getattr(self, name))

    @classmethod
    def from_json(cls, members: object) -> "Behaviour":
        """
        Return the behaviour that a decoded JSON object describes; what it leaves out is default.

        Raises:
            BehaviourError: It is no object, has an unknown member, or one with a wrong value.
        """
        if not isinstance(members, Mapping):
            raise BehaviourError(f"a behaviour is a JSON object, not {_json_name(members)}")
        unknown = sorted(str(name) for name in members.keys() - _hints().keys())
        if unknown:
            raise BehaviourError(
                f"unknown: {', '.join(unknown)}; a behaviour has {', '.join(_hints())}"
            )
        return cls(**members)

    def for_call(self, number: int) -> "Behaviour":
        """
        Return the behaviour of the call *number* (from 1) since this one was set.

        In calls that `fail_first` and `fail_every` leave alone the members that fail a call are
        gone.
        """
        is_early = self.fail_first is None or number <= self.fail_first
        if is_early and (self.fail_every is None or number % self.fail_every == 0):
            return self
        return replace(
            self, status=None, stall=None, cut_after_chunks=None, stream_error_after_chunks=None
        )


@cache
def _hints() -> Mapping[str, object]:
    hints = typing.get_type_hints(Behaviour)
    return {field.name: hints[field.name] for field in fields(Behaviour)}


def _check(name: str, hint: object, value: object) -> None:
    if not _is_of(hint, value):
        raise BehaviourError(f"{name} is {value!r}; it must be {_words(hint)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if name == "status" and value not in _ERROR_STATUSES:
        raise BehaviourError(f"status is {value}; it must be an error, 400 to 599")
    least = 1 if name in _POSITIVE else 0
    if not math.isfinite(value) or value < least:
        raise BehaviourError(f"{name} is {value}; it must be a number from {least} on")


def _is_of(hint: object, value: object) -> bool:
    """Whether *value* has the type *hint*. JSON's rules: true is no number, 1 is also 1.0."""
    if _is_union(hint):
        return any(_is_of(option, value) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def _is_union(hint: object) -> bool:
    return isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union


def _words(hint: object) -> str:
    """Name a type to someone who writes JSON."""
    if _is_union(hint):
        return " or ".join(_words(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(option) for option in typing.get_args(hint))
    return _WORDS_BY_TYPE[hint]


_WORDS_BY_TYPE: Mapping[object, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _json_name(value: object) -> str:
    return "an array" if isinstance(value, list) else _WORDS_BY_TYPE.get(type(value), repr(value))
