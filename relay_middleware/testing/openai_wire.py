"""
OpenAI's chat completions, as a provider speaks them.

Every answer and every chunk has a member `x_simulator`, which OpenAI does not know: whoever stands
between must pass it on.

Source: OpenAI API reference, "Create chat completion", "Streaming" and "Error codes", read
2026-11-23.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

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

CREATED_AT = 1_700_000_000
"""When every answer says it was made, in Unix seconds. Constant, so that the same call gives the
same bytes, which tests and benchmarks compare; 2023-11-14 cannot pass for now."""

FINGERPRINT = "fp_simulated"
MODELS = ("sim-small", "sim-large")
"""What the list of models names. Every other name is answered too."""

MAX_CHOICES = 128
_MAX_CAP_TOKENS = 2**31 - 1
_DONE = Event(data=b"[DONE]")
_SERVED_TIERS = frozenset({"flex", "priority"})

_TYPE_BY_STATUS: Mapping[int, str] = {
    402: "insufficient_quota",
    403: "permission_error",
    429: "requests",
}
_CODE_BY_STATUS: Mapping[int, str] = {
    401: "invalid_api_key",
    402: "insufficient_quota",
    404: "model_not_found",
    429: "rate_limit_exceeded",
}
_FIRST_SERVER_ERROR = 500


def chat_reply(call: RecordedCall, behaviour: Behaviour) -> Reply:
    """
    Answer `POST chat/completions`.

    Raises:
        RefusedError: The request is not one that OpenAI takes.
    """
    body = members.body_of(call.body)
    question = _question(body)
    choices = choices_of(question, behaviour)
    completion = _Completion(
        call=call,
        question=question,
        behaviour=behaviour,
        choices=choices,
        usage=usage_of(question, behaviour, choices),
        service_tier=_service_tier(body),
    )
    if question.is_stream:
        return StreamReply(events=tuple(_events(completion)))
    return BodyReply(status=200, body=_body(completion), headers={})


def models_body() -> bytes:
    """Return the answer of `GET models`."""
    listed = [
        {"id": name, "object": "model", "created": CREATED_AT, "owned_by": "simulator"}
        for name in MODELS
    ]
    return orjson.dumps({"object": "list", "data": listed})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Completion:
    call: RecordedCall
    question: Question
    behaviour: Behaviour
    choices: tuple[Choice, ...]
    usage: Usage | None
    service_tier: str

    def rendered(self, kind: str, **more: object) -> bytes:
        """Return one JSON object: the answer or a chunk of it."""
        return orjson.dumps(
            {
                "id": identifier("chatcmpl-sim-", self.call.body),
                "object": kind,
                "created": CREATED_AT,
                "model": self.question.model,
                "service_tier": self.service_tier,
                "system_fingerprint": FINGERPRINT,
                **more,
                "x_simulator": self.call.mark(),
            }
        )


def _question(body: JsonObject) -> Question:
    model = members.string(body, "model")
    messages = members.messages(body)
    is_stream = members.boolean(body, "stream")
    tools = members.objects(body, "tools")
    answer_format = body.get("response_format")
    return Question(
        model=model,
        prompt="\n".join(text_of(message) for message in messages),
        last_text=text_of(messages[-1]),
        input_tokens=input_tokens_of(messages, (tools, answer_format)),
        cap_tokens=_cap_tokens(body),
        choices=members.integer(body, "n", least=1, most=MAX_CHOICES) or 1,
        is_stream=is_stream,
        wants_usage=_wants_usage(body, is_stream=is_stream),
        tool_calls=() if messages[-1]["role"] == "tool" else _tool_calls(body, tools),
        json_text=_json_text(answer_format),
        stops=members.strings(body, "stop"),
        thinks=True,
    )


def _cap_tokens(body: JsonObject) -> int | None:
    names = ("max_completion_tokens", "max_tokens")
    caps = [members.integer(body, name, least=1, most=_MAX_CAP_TOKENS) for name in names]
    if None not in caps:
        raise RefusedError(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
            param="max_tokens",
        )
    return caps[0] or caps[1]


def _wants_usage(body: JsonObject, *, is_stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not is_stream:
        raise RefusedError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if not isinstance(options, dict):
        raise members.wrong_value("stream_options", "an object")
    return members.boolean(options, "include_usage")


def _service_tier(body: JsonObject) -> str:
    asked = body.get("service_tier")
    return asked if isinstance(asked, str) and asked in _SERVED_TIERS else "default"


def _tool_calls(body: JsonObject, tools: Sequence[JsonObject]) -> tuple[ToolCall, ...]:
    choice = body.get("tool_choice")
    if choice == "none":
        return ()
    functions = [function for tool in tools if isinstance(function := tool.get("function"), dict)]
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        named = choice["function"].get("name")
        functions = [function for function in functions if function.get("name") == named]
        if not functions:
            raise members.wrong_value("tool_choice", "the name of one of the tools")
    if body.get("parallel_tool_calls") is False:
        functions = functions[:1]
    return tuple(
        ToolCall(
            name=str(function.get("name")),
            arguments=orjson.dumps(samples.sample(function.get("parameters"))).decode(),
        )
        for function in functions
    )


def _json_text(answer_format: object) -> str | None:
    if not isinstance(answer_format, dict):
        return None
    match answer_format.get("type"):
        case "json_object":
            return '{"simulated":true}'
        case "json_schema":
            named = answer_format.get("json_schema")
            schema = named.get("schema") if isinstance(named, dict) else None
            return orjson.dumps(samples.sample(schema)).decode()
        case _:
            return None


def _body(completion: _Completion) -> bytes:
    choices = [
        {
            "index": choice.index,
            "message": _message(completion, choice),
            "logprobs": None,
            "finish_reason": _finish_reason(choice),
        }
        for choice in completion.choices
    ]
    usage = {} if completion.usage is None else {"usage": usage_members(completion.usage)}
    return completion.rendered("chat.completion", choices=choices, **usage)


def _message(completion: _Completion, choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            _opened_call(completion, choice, index, arguments=call.arguments)
            for index, call in enumerate(choice.calls)
        ]
    return message


def _opened_call(
    completion: _Completion, choice: Choice, index: int, *, arguments: str
) -> dict[str, object]:
    place = f"{choice.index}.{index}".encode()
    return {
        "id": identifier("call_sim_", completion.call.body, place),
        "type": "function",
        "function": {"name": choice.calls[index].name, "arguments": arguments},
    }


def _finish_reason(choice: Choice) -> str:
    if choice.is_cut:
        return "length"
    return "tool_calls" if choice.calls else "stop"


def usage_members(usage: Usage) -> dict[str, object]:
    """Return OpenAI's form of *usage*: every whole includes its parts."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _events(completion: _Completion) -> Iterator[Event]:
    for choice in completion.choices:
        yield _chunk(completion, choice.index, _first_delta(completion, choice))
    contents = [_content_deltas(completion, choice) for choice in completion.choices]
    for deltas in zip_longest(*contents):
        for index, delta in enumerate(deltas):
            if delta is not None:
                yield _chunk(completion, index, delta, has_content=True)
    last = len(completion.choices) - 1
    for choice in completion.choices:
        has_usage = completion.behaviour.usage == "with_choices" and choice.index == last
        yield _chunk(
            completion,
            choice.index,
            {},
            finish_reason=_finish_reason(choice),
            usage=completion.usage if has_usage else None,
        )
    yield from _usage_events(completion)
    yield _DONE


def _first_delta(completion: _Completion, choice: Choice) -> dict[str, object]:
    delta: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
    if choice.calls and not choice.text:
        delta |= {"content": None, **_opening_delta(completion, choice, 0)}
    return delta


def _opening_delta(completion: _Completion, choice: Choice, index: int) -> dict[str, object]:
    opened = _opened_call(completion, choice, index, arguments="")
    return {"tool_calls": [{"index": index, **opened}]}


def _content_deltas(completion: _Completion, choice: Choice) -> Iterator[dict[str, object]]:
    for piece in pieces(choice.text, completion.behaviour.chunk_tokens):
        yield {"content": piece}
    for index, call in enumerate(choice.calls):
        if index or choice.text:
            yield _opening_delta(completion, choice, index)
        for piece in pieces(call.arguments, completion.behaviour.chunk_tokens):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _chunk(
    completion: _Completion,
    index: int,
    delta: Mapping[str, object],
    *,
    has_content: bool = False,
    finish_reason: str | None = None,
    usage: Usage | None = None,
) -> Event:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    more: dict[str, object] = {}
    if completion.question.wants_usage:
        # OpenAI sends null until the numbers are known.
        more = {"usage": None if usage is None else usage_members(usage)}
    data = completion.rendered("chat.completion.chunk", choices=[choice], **more)
    return Event(data=data, has_content=has_content)


def _usage_events(completion: _Completion) -> Iterator[Event]:
    usage, mode = completion.usage, completion.behaviour.usage
    if usage is None or not completion.question.wants_usage or mode == "with_choices":
        return
    for numbers in (usage.halved(), usage) if mode == "twice" else (usage,):
        data = completion.rendered(
            "chat.completion.chunk", choices=[], usage=usage_members(numbers)
        )
        yield Event(data=data)


def _error(error: RefusedError) -> dict[str, object]:
    kind = "server_error" if error.status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPE_BY_STATUS.get(error.status, kind),
            "param": error.param,
            "code": error.code or _CODE_BY_STATUS.get(error.status),
        }
    }


def _has_key(headers: Mapping[str, str]) -> bool:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and bool(key.strip())


OPENAI = Wire(
    error_body=lambda error: orjson.dumps(_error(error)),
    error_event=lambda error: Event(data=orjson.dumps(_error(error))),
    has_key=_has_key,
)
