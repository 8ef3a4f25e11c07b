"""
Anthropic's messages, as the provider speaks them.

Source: Anthropic API reference, "Create a Message", "Streaming messages", "Extended thinking",
"Prompt caching" and "Errors", read 2026-11-23 and 2026-11-24; the types of Anthropic's own Python
client, `types/usage.py` and `types/message_delta_usage.py`, read 2026-11-24.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from relay_middleware.testing import members
from relay_middleware.testing.answer import Choice, choices_of, usage_of
from relay_middleware.testing.anthropic_request import Request, request_of, signature_of
from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.calls import RecordedCall
from relay_middleware.testing.reply import (
    BodyReply,
    Event,
    RefusedError,
    Reply,
    StreamReply,
    Wire,
)
from relay_middleware.testing.text import identifier, pieces, thinking_text
from relay_middleware.testing.usage import Usage

_TYPE_BY_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FIRST_SERVER_ERROR = 500


def messages_reply(call: RecordedCall, behaviour: Behaviour) -> Reply:
    """
    Answer `POST messages`.

    Raises:
        RefusedError: The request is not one that Anthropic takes.
    """
    if "anthropic-version" not in call.headers:
        raise RefusedError("anthropic-version: header is required")
    request = request_of(members.body_of(call.body))
    choices = choices_of(request.question, behaviour)
    message = _Message(
        call=call,
        request=request,
        behaviour=behaviour,
        choice=choices[0],
        usage=usage_of(request.question, behaviour, choices),
    )
    if request.question.is_stream:
        return StreamReply(events=tuple(_events(message)))
    return BodyReply(status=200, body=orjson.dumps(_body(message)), headers={})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    call: RecordedCall
    request: Request
    behaviour: Behaviour
    choice: Choice
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """
    A block of content, and how it is streamed.

    Attributes:
        opened: As the stream begins it.
        deltas: The rest of it.
        whole: As a body has it.
    """

    opened: Mapping[str, object]
    deltas: tuple[Mapping[str, object], ...]
    whole: Mapping[str, object]


def _blocks(message: _Message) -> Iterator[_Block]:
    choice, size = message.choice, message.behaviour.chunk_tokens
    if message.request.question.thinks:
        yield _thinking(message, size)
    if choice.text or not choice.calls:
        yield _Block(
            opened={"type": "text", "text": ""},
            deltas=tuple(
                {"type": "text_delta", "text": piece} for piece in pieces(choice.text, size)
            ),
            whole={"type": "text", "text": choice.text},
        )
    for index, call in enumerate(choice.calls):
        # Arguments that the cap has cut are no JSON; the body has an object all the same.
        is_cut = choice.is_cut and index == len(choice.calls) - 1
        head = {
            "type": "tool_use",
            "id": identifier("toolu_sim_", message.call.body, str(index).encode()),
            "name": call.name,
        }
        yield _Block(
            opened=head | {"input": {}},
            deltas=tuple(
                {"type": "input_json_delta", "partial_json": piece}
                for piece in pieces(call.arguments, size)
            ),
            whole=head | {"input": {} if is_cut else orjson.loads(call.arguments)},
        )


def _thinking(message: _Message, size: int) -> _Block:
    thinking = thinking_text(message.request.question.prompt, message.choice.reasoning_tokens)
    signature = signature_of(thinking)
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(thinking, size)]
    return _Block(
        opened={"type": "thinking", "thinking": "", "signature": ""},
        deltas=(*deltas, {"type": "signature_delta", "signature": signature}),
        whole={"type": "thinking", "thinking": thinking, "signature": signature},
    )


def _head(message: _Message, content: list[Mapping[str, object]]) -> dict[str, object]:
    return {
        "id": identifier("msg_sim_", message.call.body),
        "type": "message",
        "role": "assistant",
        "model": message.request.question.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _body(message: _Message) -> dict[str, object]:
    body = _head(message, [block.whole for block in _blocks(message)]) | _stop(message.choice)
    if (usage := message.usage) is not None:
        body["usage"] = _started_usage(message, usage) | _output(
            message, usage, usage.output_tokens
        )
    return body | {"x_simulator": message.call.mark()}


def _stop(choice: Choice) -> dict[str, object]:
    reason = "tool_use" if choice.calls else "end_turn"
    if choice.is_cut:
        reason = "max_tokens"
    elif choice.stop is not None and not choice.calls:
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop}
    return {"stop_reason": reason, "stop_sequence": None}


def _started_usage(message: _Message, usage: Usage) -> dict[str, object]:
    """
    What is known when a stream starts, and 1 token of output. The input is Anthropic's: without
    what is read from the cache or written to it.
    """
    cached, written = usage.cached_input_tokens, usage.written_input_tokens
    written_1h = written if message.request.writes_for_an_hour else 0
    return {
        "input_tokens": max(0, usage.input_tokens - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - written_1h,
            "ephemeral_1h_input_tokens": written_1h,
        },
        "output_tokens": min(1, usage.output_tokens),
        "service_tier": "standard",
    }


def _output(message: _Message, usage: Usage, output_tokens: int) -> dict[str, object]:
    """What of the usage is known when *output_tokens* have been written."""
    known: dict[str, object] = {"output_tokens": output_tokens}
    if message.request.question.thinks:
        thinking_tokens = min(usage.reasoning_tokens, output_tokens)
        known["output_tokens_details"] = {"thinking_tokens": thinking_tokens}
    return known


def _events(message: _Message) -> Iterator[Event]:
    yield _event(message, "message_start", message=_started(message))
    for index, block in enumerate(_blocks(message)):
        yield _event(message, "content_block_start", index=index, content_block=block.opened)
        if index == 0:
            yield _event(message, "ping")
        for delta in block.deltas:
            yield _event(message, "content_block_delta", has_content=True, index=index, delta=delta)
        yield _event(message, "content_block_stop", index=index)
    yield from _message_deltas(message)
    yield _event(message, "message_stop")


def _started(message: _Message) -> dict[str, object]:
    started = _head(message, [])
    if message.usage is not None:
        started["usage"] = _started_usage(message, message.usage)
    return started


def _message_deltas(message: _Message) -> Iterator[Event]:
    delta = _stop(message.choice)
    usage = message.usage
    if usage is None:
        yield _event(message, "message_delta", delta=delta)
        return
    final = usage.output_tokens
    for output_tokens in (final // 2, final) if message.behaviour.usage == "twice" else (final,):
        known = _output(message, usage, output_tokens)
        yield _event(message, "message_delta", delta=delta, usage=known)


def _event(source: _Message, name: str, /, *, has_content: bool = False, **more: object) -> Event:
    data = orjson.dumps({"type": name, **more, "x_simulator": source.call.mark()})
    return Event(name=name, data=data, has_content=has_content)


def _error(error: RefusedError) -> bytes:
    kind = "api_error" if error.status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    kind = _TYPE_BY_STATUS.get(error.status, kind)
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": error.message}})


def _has_key(headers: Mapping[str, str]) -> bool:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    has_bearer = scheme.lower() == "bearer" and bool(key.strip())
    return has_bearer or bool(headers.get("x-api-key", "").strip())


ANTHROPIC = Wire(
    error_body=_error,
    error_event=lambda error: Event(name="error", data=_error(error)),
    has_key=_has_key,
)
