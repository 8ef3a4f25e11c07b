"""
Requests for Anthropic's messages: what they ask, and what the provider would refuse.

Source: Anthropic API reference, "Create a Message", "Tool use", "Extended thinking", "Structured
outputs" and "Prompt caching", read 2026-11-23 and 2026-11-24; the types of Anthropic's own Python
client, `types/message_create_params.py` and `types/thinking_config_enabled_param.py`, read
2026-11-24.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from relay_middleware.testing import members, samples
from relay_middleware.testing.answer import Question, ToolCall, input_tokens_of, text_of
from relay_middleware.testing.members import JsonObject
from relay_middleware.testing.reply import RefusedError
from relay_middleware.testing.text import identifier

_MAX_CAP_TOKENS = 2**31 - 1

MIN_BUDGET_TOKENS = 1024
"""Least that a request may allow for thinking."""

_THINKING_BLOCKS = frozenset({"thinking", "redacted_thinking"})
_THINKING_TYPES = ("enabled", "disabled", "adaptive")
_FORCING = frozenset({"any", "tool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    Attributes:
        writes_for_an_hour: Whether what is written to the cache is kept for an hour.
    """

    question: Question
    writes_for_an_hour: bool


def request_of(body: JsonObject) -> Request:
    """
    Read a request's body.

    Raises:
        RefusedError: The request is not one that Anthropic takes.
    """
    model = members.string(body, "model")
    cap_tokens = members.integer(body, "max_tokens", least=1, most=_MAX_CAP_TOKENS)
    if cap_tokens is None:
        raise RefusedError("max_tokens: Field required", param="max_tokens")
    messages = members.messages(body)
    _check_tool_results(messages)
    thinks = _thinks(body, messages, cap_tokens)
    system = [{"content": body["system"]}] if body.get("system") else []
    tools = members.objects(body, "tools")
    answer_format = _answer_format(body)
    question = Question(
        model=model,
        prompt="\n".join(text_of(message) for message in (*system, *messages)),
        last_text=text_of(messages[-1]) or _result_text(messages[-1]),
        input_tokens=input_tokens_of([*system, *messages], (tools, answer_format)),
        cap_tokens=cap_tokens,
        choices=1,
        is_stream=members.boolean(body, "stream"),
        wants_usage=True,
        tool_calls=() if _blocks(messages[-1], "tool_result") else _tool_calls(body, tools),
        json_text=_json_text(answer_format),
        stops=members.strings(body, "stop_sequences"),
        thinks=thinks,
    )
    return Request(question=question, writes_for_an_hour=_writes_for_an_hour(body))


def signature_of(thinking: str) -> str:
    """Return the signature by which a thinking block is known again when it is handed back."""
    return identifier("sig_sim_", thinking.encode())


def _blocks(message: JsonObject, *kinds: str) -> list[Mapping[str, object]]:
    content = message.get("content")
    return [
        block
        for block in (content if isinstance(content, list) else [])
        if isinstance(block, dict) and block.get("type") in kinds
    ]


def _result_text(message: JsonObject) -> str:
    return "\n".join(text_of(block) for block in _blocks(message, "tool_result"))


def _check_tool_results(messages: Sequence[JsonObject]) -> None:
    """Every use of a tool is followed by its result, and every result follows its use."""
    used: set[object] = set()
    for index, message in enumerate(messages):
        told = {block.get("tool_use_id") for block in _blocks(message, "tool_result")}
        if missing := sorted(map(str, used - told)):
            raise RefusedError(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(missing)}. Each `tool_use` block must have a"
                " corresponding `tool_result` block in the next message."
            )
        if strange := sorted(map(str, told - used)):
            raise RefusedError(
                f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks:"
                f" {', '.join(strange)}. Each `tool_result` block must have a corresponding"
                " `tool_use` block in the previous message."
            )
        used = {block.get("id") for block in _blocks(message, "tool_use")}


def _thinks(body: JsonObject, messages: Sequence[JsonObject], cap_tokens: int) -> bool:
    thinking = body.get("thinking", {"type": "disabled"})
    if not isinstance(thinking, Mapping) or thinking.get("type") not in _THINKING_TYPES:
        raise members.wrong_value("thinking", f"an object with a type of {_THINKING_TYPES}")
    if thinking["type"] == "disabled":
        return False
    if thinking["type"] == "adaptive":
        _check_thoughts(messages)
        return True
    budget_tokens = members.integer(
        thinking, "budget_tokens", least=MIN_BUDGET_TOKENS, most=_MAX_CAP_TOKENS
    )
    if budget_tokens is None:
        raise RefusedError("thinking.enabled.budget_tokens: Field required")
    if budget_tokens >= cap_tokens:
        raise RefusedError("`max_tokens` must be greater than `thinking.budget_tokens`.")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") in _FORCING:
        raise RefusedError("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature") not in (None, 1):
        raise RefusedError("`temperature` may only be set to 1 when thinking is enabled.")
    _check_thoughts(messages)
    _check_thought_before_tools(messages)
    return True


def _check_thoughts(messages: Sequence[JsonObject]) -> None:
    """Thoughts that are handed back are as they were."""
    for index, message in enumerate(messages):
        for block in _blocks(message, "thinking"):
            if block.get("signature") != signature_of(str(block.get("thinking"))):
                raise RefusedError(f"messages.{index}: Invalid `signature` in `thinking` block")


def _check_thought_before_tools(messages: Sequence[JsonObject]) -> None:
    """While the model waits for a tool, what it thought before it asked must be handed back."""
    if not _blocks(messages[-1], "tool_result"):
        return
    content = messages[-2].get("content")
    first = content[0] if isinstance(content, list) else {}
    if first.get("type") not in _THINKING_BLOCKS:
        raise RefusedError(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or"
            f" `redacted_thinking`, but found `{first.get('type')}`. When `thinking` is enabled, a"
            " final `assistant` message must start with a thinking block (preceeding the lastmost"
            " set of `tool_use` and `tool_result` blocks)."
        )


def _tool_calls(body: JsonObject, tools: Sequence[JsonObject]) -> tuple[ToolCall, ...]:
    choice = body.get("tool_choice")
    chosen: Mapping[str, object] = choice if isinstance(choice, dict) else {}
    if chosen.get("type") == "none":
        return ()
    if chosen.get("type") == "tool":
        tools = [tool for tool in tools if tool.get("name") == chosen.get("name")]
        if not tools:
            raise members.wrong_value("tool_choice", "the name of one of the tools")
    if chosen.get("disable_parallel_tool_use"):
        tools = tools[:1]
    return tuple(
        ToolCall(
            name=str(tool.get("name")),
            arguments=orjson.dumps(samples.sample(tool.get("input_schema"))).decode(),
        )
        for tool in tools
    )


def _answer_format(body: JsonObject) -> object:
    """What form the answer shall have: in `output_config`, or where it stood before."""
    config = body.get("output_config")
    asked = config.get("format") if isinstance(config, Mapping) else None
    return asked or body.get("output_format")


def _json_text(answer_format: object) -> str | None:
    if answer_format is None:
        return None
    if not isinstance(answer_format, Mapping) or answer_format.get("type") != "json_schema":
        raise members.wrong_value("output_config.format", "an object of the type 'json_schema'")
    return orjson.dumps(samples.sample(answer_format.get("schema"))).decode()


def _writes_for_an_hour(value: object) -> bool:
    if isinstance(value, Mapping):
        control = value.get("cache_control")
        is_asked = isinstance(control, Mapping) and control.get("ttl") == "1h"
        return is_asked or any(_writes_for_an_hour(item) for item in value.values())
    return isinstance(value, list) and any(_writes_for_an_hour(item) for item in value)
