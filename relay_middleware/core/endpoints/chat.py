"""
`POST /v1/chat/completions`: what its body asks for, and what its answer used.

Source: OpenAI API reference, "Create chat completion" and its streaming page, read 2026-11-23.
"""

import re
from collections.abc import Mapping

from relay_middleware.core.endpoints import members
from relay_middleware.core.endpoints.endpoint import Call, Endpoint
from relay_middleware.core.endpoints.members import JsonObject
from relay_middleware.core.refusals import RefusedError, invalid_request
from relay_middleware.core.usage import Usage, from_openai

PATH = "chat/completions"

MAX_CHOICES = 128
"""OpenAI's own ceiling of `n`."""

PAID_MEMBERS = (
    # Searches and other tools of the provider's own. OpenAI, "Web search"; xAI, "Live search";
    # OpenRouter, "Web search" and "Plugins"; Groq, "Compound"; Alibaba Cloud, "Qwen API reference";
    # Cohere, "Compatibility API"; Microsoft, "Azure OpenAI On Your Data".
    "web_search_options",
    "search_parameters",
    "plugins",
    "search_settings",
    "compound_custom",
    "enable_search",
    "search_options",
    "enable_code_interpreter",
    "connectors",
    "data_sources",
    # Predicted output, whose rejected tokens are billed beyond the output cap. OpenAI, "Predicted
    # Outputs".
    "prediction",
    # Another model, or another company's price for the same. OpenRouter, "Model fallbacks",
    # "Provider routing" and "Presets".
    "models",
    "route",
    "provider",
    "preset",
    # A faster or nearer machine for a higher price. Anthropic, "Fast mode" and "Data residency".
    "speed",
    "inference_geo",
    # What the provider has stored counts as input. Google, "OpenAI compatibility" (`cached_content`
    # inside `extra_body`).
    "cached_content",
    "extra_body",
    "previous_response_id",
    "conversation",
    # An answer that comes later, without its usage. xAI, "Deferred chat completions".
    "deferred",
)
"""Members that buy something other than tokens of this answer, read 2026-11-23 and 2026-11-24."""

_MAY_BE_UNBOUNDED = frozenset({*PAID_MEMBERS, "tools", "functions", "modalities"})

_PARAMETERS = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "reasoning_effort",
        "thinking",
        "modalities",
        "audio",
        "verbosity",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
)

# Tuples, where a client's value is looked for: it may be anything, also what has no hash.
_PLAIN_TOOLS = ("function", "custom")
_PLAIN_TOOL_MEMBERS = frozenset(
    {
        "type",
        "function",
        "custom",
        "name",
        "description",
        "parameters",
        "strict",
        # Anthropic's.
        "input_schema",
        "input_examples",
        "cache_control",
    }
)
"""LiteLLM takes a tool with a single other member for one of Google's, such as `googleSearch`.
Source: LiteLLM 1.106.2, `vertex_and_google_ai_studio_gemini.py`, `_map_function`."""

_PLAIN_CONTENT = ("text", "refusal")
_PLAIN_MESSAGE_MEMBERS = frozenset(
    {
        "role",
        "content",
        "name",
        "refusal",
        "tool_calls",
        "tool_call_id",
        "function_call",
        # What providers answer beside, which clients hand back.
        "annotations",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "thinking_blocks",
        "provider_specific_fields",
        "extra_content",
        "cache_control",
        "prefix",
    }
)
_PLAIN_MODALITIES = ("text", "audio")
_BINARY_MEMBERS = frozenset({"image_url", "input_audio", "file"})


def parse(body: object) -> Call:
    """
    Read a decoded request body.

    Raises:
        RefusedError: 400, naming the member that is wrong.
    """
    checked = members.accepted(body)
    messages = members.objects(checked, "messages")
    if not messages:
        raise RefusedError(
            invalid_request(
                "messages is missing or empty: send at least one message.",
                param="messages",
                code="missing_required_parameter" if "messages" not in checked else "empty_array",
            )
        )
    is_stream = members.flag(checked, "stream")
    # Most bodies have none of these, which is seen at once.
    names_reasoning = not _ON_REASONING_NAMES.isdisjoint(checked)
    return Call(
        body=checked,
        model=members.text(checked, "model"),
        is_stream=is_stream,
        wants_usage_chunk=is_stream
        and members.flag(members.mapping(checked, "stream_options"), "include_usage"),
        choices=max(
            members.positive(checked, "n", at_most=MAX_CHOICES) or 1,
            members.positive(checked, "best_of", at_most=MAX_CHOICES) or 1,
        ),
        asked_output_tokens=_asked_output_tokens(checked),
        framed_inputs=len(messages),
        has_tools=bool(checked.get("tools") or checked.get("functions"))
        or checked.get("response_format") not in (None, {"type": "text"}),
        has_opaque_input=any(map(_is_opaque, messages)),
        unbounded_member=_unbounded_member(checked),
        asks_for_reasoning=names_reasoning and _asks_for_reasoning(checked),
        may_get_reasoning=names_reasoning
        and not all(_is_no(name, checked.get(name)) for name in _ON_REASONING),
        asks_for_audio="audio" in _items(checked, "modalities"),
        service_tier=members.text(checked, "service_tier"),
        user=checked.get("user"),
    )


def _asked_output_tokens(body: JsonObject) -> int | None:
    """The lower of the two caps that a body may name."""
    older = members.positive(body, "max_tokens")
    newer = members.positive(body, "max_completion_tokens")
    if older is None or newer is None:
        return newer if older is None else older
    return min(older, newer)


def _is_opaque(message: JsonObject) -> bool:
    """Say whether *message* carries more than text; refuse one whose content has no such form."""
    content = message.get("content")
    if isinstance(content, str) and message.keys() <= _PLAIN_MESSAGE_MEMBERS:
        return False
    if not isinstance(content, str | list | None):
        raise members.wrong_type("messages", "a list of messages whose content is text or parts")
    parts = content if isinstance(content, list) else []
    return (
        # Such as an earlier spoken answer, by reference.
        any(message[name] for name in message.keys() - _PLAIN_MESSAGE_MEMBERS)
        or any(
            not isinstance(part, Mapping) or part.get("type") not in _PLAIN_CONTENT
            for part in parts
        )
    )


def _unbounded_member(body: JsonObject) -> str | None:
    if _MAY_BE_UNBOUNDED.isdisjoint(body):
        return None
    for name in PAID_MEMBERS:
        if body.get(name) not in (None, False, []):
            return name
    members.objects(body, "tools")
    for name in ("tools", "functions"):
        if not all(_is_plain(tool) for tool in _items(body, name)):
            return name
    is_plain = all(form in _PLAIN_MODALITIES for form in _items(body, "modalities"))
    return None if is_plain else "modalities"


def _is_plain(tool: object) -> bool:
    """Say whether the client runs *tool*, and not the provider for a fee."""
    return (
        isinstance(tool, Mapping)
        and tool.get("type", "function") in _PLAIN_TOOLS
        and tool.keys() <= _PLAIN_TOOL_MEMBERS
    )


def _items(body: JsonObject, name: str) -> list[object]:
    """What the list *name* holds; nothing where it is none, which its provider will say."""
    value = body.get(name)
    return value if isinstance(value, list) else []


_NO_REASONING = ("none", "disabled", "minimal")


def _asks_for_reasoning(body: JsonObject) -> bool:
    """Say whether *body* asks for thinking, in OpenAI's, OpenRouter's or Anthropic's words."""
    if body.get("reasoning_effort") not in (None, *_NO_REASONING):
        return True
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else thinking
    return bool(body.get("reasoning")) or kind not in (None, *_NO_REASONING)


_ON_REASONING = (
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
    "chat_template_kwargs",
)
"""Members by which a client may have a model think: OpenAI's, OpenRouter's, Anthropic's, and those
of servers of Qwen's models (Qwen, "Quickstart"; QwenLM/Qwen3 discussion 1300; read 2026-11-25)."""

_ON_REASONING_NAMES = frozenset(_ON_REASONING)


def _is_no(name: str, value: object) -> bool:
    """Say whether *value* of the member *name* is no wish to think, at whatever provider."""
    if isinstance(value, Mapping):
        # In another of them nobody reads a type: it would stand beside a wish.
        return name == "thinking" and value.get("type") == "disabled"
    # `minimal` is a little, and LiteLLM makes a budget of it for Claude.
    return value in (None, False, "none", "disabled")


def usage_of(answer: JsonObject, *, reasoning_in_output: bool) -> Usage | None:
    """Return what *answer*, whole or one chunk, says was used; None where it says nothing."""
    return from_openai(
        answer.get("usage"),
        reasoning_in_output=reasoning_in_output,
        service_tier=answer.get("service_tier"),
        needs_output=True,
    )


# The texts of an answer, as JSON writes them: for counting where no provider did. Escapes make a
# text a little longer than it is.
_OUTPUT_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments)":\s*"((?:[^"\\]|\\.)+)"'
)


def output_sizes(data: bytes) -> list[int]:
    """Return the bytes of each text that the JSON *data* of an answer or a chunk carries."""
    return [len(match) for match in _OUTPUT_TEXT.findall(data)]


def input_bytes(body: JsonObject) -> int:
    """
    Return the UTF-8 bytes of all texts in *body*'s messages and tools, roles and types too.

    What a picture or a recording would come to is not known and counts as nothing.
    """
    return sum(_text_bytes(body.get(name)) for name in ("messages", "tools"))


def _text_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        return sum(_text_bytes(value[name]) for name in value.keys() - _BINARY_MEMBERS)
    if isinstance(value, list):
        return sum(_text_bytes(item) for item in value)
    return 0


def input_text(body: JsonObject) -> str:
    """
    Return all texts of *body* that a model may read, a line each: names and numbers too, because
    tools and forms of answers are made of them.
    """
    read = {name: value for name, value in body.items() if name not in _NOT_READ}
    return "\n".join(members.texts(read))


_NOT_READ = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "n",
        "seed",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "parallel_tool_calls",
        "service_tier",
        "store",
        "metadata",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
"""Members that say how to answer, and not what to."""


def to_wire(usage: Usage) -> dict[str, object]:
    """Return *usage* as OpenAI's `usage` object: for answers whose provider sent none."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


ENDPOINT = Endpoint(
    path=PATH,
    parse=parse,
    usage_of=usage_of,
    output_sizes=output_sizes,
    input_bytes=input_bytes,
    input_text=input_text,
    to_wire=to_wire,
    answer_member="choices",
    parameters=_PARAMETERS,
)
