"""
Replies: what a call is answered with, before anything is known of time and connections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.calls import RecordedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One server-sent event.

    Attributes:
        data: One line.
        name: The `event` field, which Anthropic sends and OpenAI does not.
        has_content: Whether it carries text of the answer or a part of a tool call.
    """

    data: bytes
    name: str | None = None
    has_content: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyReply:
    """An answer of one JSON body."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReply:
    """An answer of status 200 that is a stream of events."""

    events: tuple[Event, ...]


Reply = BodyReply | StreamReply


class RefusedError(Exception):
    """
    The request is wrong in a way that the real provider would refuse.

    Attributes:
        status: Of the answer.
        message: For people.
        code: OpenAI's; Anthropic has none.
        param: The member that is wrong, or None.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """
    One provider's protocol, as far as all its endpoints share it.

    Attributes:
        error_body: The envelope of an error.
        error_event: The same inside a stream.
        has_key: Whether the headers, with names in lower case, carry a key.
    """

    error_body: Callable[[RefusedError], bytes]
    error_event: Callable[[RefusedError], Event]
    has_key: Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    One path of a wire.

    Attributes:
        reply: Answer a call that is allowed to succeed. It raises `RefusedError` for a request that
            the provider would refuse.
    """

    wire: Wire
    reply: Callable[[RecordedCall, Behaviour], Reply]
