"""
Scripts: a reply and a behaviour become the steps that a connection goes through.

Pure: where an answer stalls, is cut or waits is decided here; `playing` does it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.reply import BodyReply, Event, StreamReply


@dataclass(frozen=True, slots=True)
class Start:
    """Send status and headers."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Write:
    """Send a part of the body."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Be silent for so long, in seconds, or until the client goes away if that is None."""

    silence_s: float | None


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection; the body has no end."""


@dataclass(frozen=True, slots=True)
class End:
    """End the body."""


Step = Start | Write | Wait | Cut | End


def body_script(reply: BodyReply, behaviour: Behaviour) -> tuple[Step, ...]:
    """Return the steps of an answer that is not streamed."""
    return tuple(_body_steps(reply, behaviour))


def stream_script(
    reply: StreamReply, behaviour: Behaviour, headers: Mapping[str, str], error: Event
) -> tuple[Step, ...]:
    """
    Return the steps of a stream.

    Args:
        headers: Sent beside those of every stream.
        error: What an error inside the stream is.
    """
    steps = _stream_steps(_sent(reply.events, behaviour, error), behaviour, headers)
    return tuple(_burst(steps)) if behaviour.burst else tuple(steps)


def _body_steps(reply: BodyReply, behaviour: Behaviour) -> Iterator[Step]:
    middle = len(reply.body) // 2
    headers = {
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        **reply.headers,
    }
    if behaviour.latency_s:
        yield Wait(behaviour.latency_s)
    if behaviour.stall == "before_headers":
        yield Wait(behaviour.stall_s)
    yield Start(reply.status, headers)
    if behaviour.stall == "after_headers":
        yield Wait(behaviour.stall_s)
    if behaviour.cut_after_chunks is None and behaviour.stall != "after_content":
        yield Write(reply.body)
        yield End()
        return
    yield Write(reply.body[:middle])
    if behaviour.stall == "after_content":
        yield Wait(behaviour.stall_s)
    if behaviour.cut_after_chunks is not None:
        yield Cut()
        return
    yield Write(reply.body[middle:])
    yield End()


def _stream_steps(
    events: tuple[Event, ...], behaviour: Behaviour, headers: Mapping[str, str]
) -> Iterator[Step]:
    line_end = b"\r\n" if behaviour.crlf else b"\n"
    stall_after = None
    if behaviour.stall == "after_content":
        stall_after = next((event for event in events if event.has_content), None)
    if behaviour.stall == "before_headers":
        yield Wait(behaviour.stall_s)
    stream_headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
    }
    yield Start(200, {**stream_headers, **headers})
    if behaviour.stall == "after_headers":
        yield Wait(behaviour.stall_s)
    if behaviour.comment_first:
        yield Write(b": keep-alive" + 2 * line_end)
    if behaviour.first_chunk_delay_s:
        yield Wait(behaviour.first_chunk_delay_s)
    for index, event in enumerate(events):
        # Without a delay too: the connection learns that its client has gone, and others get on.
        if index and not behaviour.burst:
            yield Wait(behaviour.chunk_delay_s)
        yield Write(encode(event, line_end))
        if event is stall_after:
            yield Wait(behaviour.stall_s)
    yield End() if behaviour.cut_after_chunks is None else Cut()


def _sent(events: tuple[Event, ...], behaviour: Behaviour, error: Event) -> tuple[Event, ...]:
    if behaviour.stream_error_after_chunks is not None:
        events = (*events[: behaviour.stream_error_after_chunks], error)
    if behaviour.cut_after_chunks is not None:
        events = events[: behaviour.cut_after_chunks]
    return events


def _burst(steps: Iterable[Step]) -> Iterator[Step]:
    """Join what is written without a silence between."""
    for is_write, group in groupby(steps, key=lambda step: isinstance(step, Write)):
        if is_write:
            yield Write(b"".join(step.body for step in group if isinstance(step, Write)))
        else:
            yield from group


def encode(event: Event, line_end: bytes) -> bytes:
    """Return the bytes of *event*, blank line included."""
    name = b"" if event.name is None else b"event: " + event.name.encode() + line_end
    return name + b"data: " + event.data + line_end + line_end
