"""
Anthropic's messages, as the provider speaks them.

Source: Anthropic API reference, "Create a Message", "Streaming messages", "Prompt caching" and
"Errors", read 2026-11-23.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from relay_middleware.testing import members, samples
from relay_middleware.testing.answer import (
    Choice,
    Question,
    ToolCall,
    choices_of,
    input_tokens_of,
    text_of,
    usage_of,
)
from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.calls import RecordedCall
from relay_middleware.testing.members import JsonObject
from relay_middleware.testing.reply import (
    BodyReply,
    Event,
    RefusedError,
    Reply,
    StreamReply,
    Wire,
)
from relay_middleware.testing.text import identifier, pieces
from relay_middleware.testing.usage import Usage

_MAX_CAP_TOKENS = 2**31 - 1

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
    question = _question(members.body_of(call.body))
    choices = choices_of(question, behaviour)
    message = _Message(
        call=call,
        question=question,
        behaviour=behaviour,
        choice=choices[0],
        usage=usage_of(question, behaviour, choices),
    )
    if question.is_stream:
        return StreamReply(events=tuple(_events(message)))
    return BodyReply(status=200, body=orjson.dumps(_body(message)), headers={})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    call: RecordedCall
    question: Question
    behaviour: Behaviour
    choice: Choice
    usage: Usage | None


def _question(body: JsonObject) -> Question:
    model = members.string(body, "model")
    cap_tokens = members.integer(body, "max_tokens", least=1, most=_MAX_CAP_TOKENS)
    if cap_tokens is None:
        raise RefusedError("max_tokens: Field required", param="max_tokens")
    messages = members.messages(body)
    system = [{"content": body["system"]}] if body.get("system") else []
    tools = members.objects(body, "tools")
    return Question(
        model=model,
        prompt="\n".join(text_of(message) for message in (*system, *messages)),
        last_text=text_of(messages[-1]),
        input_tokens=input_tokens_of([*system, *messages], (tools,)),
        cap_tokens=cap_tokens,
        choices=1,
        is_stream=members.boolean(body, "stream"),
        wants_usage=True,
        tool_call=None if _has_tool_result(messages[-1]) else _tool_call(body, tools),
        json_text=None,
    )


def _has_tool_result(message: JsonObject) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _tool_call(body: JsonObject, tools: object) -> ToolCall | None:
    if not isinstance(tools, list):
        return None
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "none":
        return None
    if isinstance(choice, dict) and choice.get("type") == "tool":
        tools = [tool for tool in tools if tool.get("name") == choice.get("name")]
        if not tools:
            raise members.wrong_value("tool_choice", "the name of one of the tools")
    if not tools:
        return None
    arguments = orjson.dumps(samples.sample(tools[0].get("input_schema"))).decode()
    return ToolCall(name=str(tools[0].get("name")), arguments=arguments)


def _head(message: _Message, content: list[object]) -> dict[str, object]:
    return {
        "id": identifier("msg_sim_", message.call.body),
        "type": "message",
        "role": "assistant",
        "model": message.question.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _body(message: _Message) -> dict[str, object]:
    body = _head(message, [_block(message)])
    body["stop_reason"] = _stop_reason(message.choice)
    if message.usage is not None:
        body["usage"] = _usage_members(message.usage, output_tokens=message.usage.output_tokens)
    return body | {"x_simulator": message.call.mark()}


def _block(message: _Message) -> dict[str, object]:
    choice = message.choice
    if choice.tool_name is None:
        return {"type": "text", "text": choice.text}
    # Arguments that the cap has cut are no JSON; the body has an object all the same.
    arguments = {} if choice.is_cut else orjson.loads(choice.text)
    return _tool_use(message, arguments)


def _tool_use(message: _Message, arguments: object) -> dict[str, object]:
    return {
        "type": "tool_use",
        "id": identifier("toolu_sim_", message.call.body),
        "name": message.choice.tool_name,
        "input": arguments,
    }


def _stop_reason(choice: Choice) -> str:
    if choice.is_cut:
        return "max_tokens"
    return "end_turn" if choice.tool_name is None else "tool_use"


def _usage_members(usage: Usage, *, output_tokens: int) -> dict[str, object]:
    """Anthropic's form: the input without what is read from the cache or written to it."""
    cached, written = usage.cached_input_tokens, usage.written_input_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _events(message: _Message) -> Iterator[Event]:
    choice = message.choice
    yield _event(message, "message_start", message=_started(message))
    yield _event(message, "content_block_start", index=0, content_block=_empty_block(message))
    yield _event(message, "ping")
    for piece in pieces(choice.text, message.behaviour.chunk_tokens):
        delta = (
            {"type": "text_delta", "text": piece}
            if choice.tool_name is None
            else {"type": "input_json_delta", "partial_json": piece}
        )
        yield _event(message, "content_block_delta", has_content=True, index=0, delta=delta)
    yield _event(message, "content_block_stop", index=0)
    yield from _message_deltas(message)
    yield _event(message, "message_stop")


def _started(message: _Message) -> dict[str, object]:
    """The input is known when the stream starts; of the output Anthropic then names 1 token."""
    started = _head(message, [])
    if message.usage is not None:
        first_output_tokens = min(1, message.usage.output_tokens)
        started["usage"] = _usage_members(message.usage, output_tokens=first_output_tokens)
    return started


def _empty_block(message: _Message) -> dict[str, object]:
    if message.choice.tool_name is None:
        return {"type": "text", "text": ""}
    return _tool_use(message, {})


def _message_deltas(message: _Message) -> Iterator[Event]:
    delta = {"stop_reason": _stop_reason(message.choice), "stop_sequence": None}
    if message.usage is None:
        yield _event(message, "message_delta", delta=delta)
        return
    final = message.usage.output_tokens
    for output_tokens in (final // 2, final) if message.behaviour.usage == "twice" else (final,):
        usage = {"output_tokens": output_tokens}
        yield _event(message, "message_delta", delta=delta, usage=usage)


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
