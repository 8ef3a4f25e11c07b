"""
From a translated answer to OpenAI's own form.

LiteLLM answers nearly so: it leaves its own members in, and members out that OpenAI's always have.
"""

import struct
from base64 import b64encode
from collections.abc import Mapping

Json = dict[str, object]


def to_chat(answer: Json, model: str) -> Json:
    """
    Return a chat completion as OpenAI writes it.

    Args:
        answer: LiteLLM's, without members that are null. It is changed.
        model: Its name at the provider; some translations lose it.
    """
    for choice in _objects(answer.get("choices")):
        choice.pop("provider_specific_fields", None)
        choice.setdefault("logprobs", None)
        for message in _objects([choice.get("message")]):
            message.pop("provider_specific_fields", None)
            _forget_empty(message)
            message.setdefault("content", None)
            message.setdefault("refusal", None)
            for call in _objects(message.get("tool_calls")):
                # A chunk's; LiteLLM leaves the place among the provider's blocks.
                call.pop("index", None)
    _forget_cost(answer)
    _forget_empty(answer)
    return {"choices": [], **answer, "model": answer.get("model") or model}


def to_chunk(chunk: Json, model: str) -> Json:
    """
    Return a chunk of a streamed chat completion as OpenAI writes it.

    One that carries usage has no choices there, and no other one does.
    """
    choices = _objects(chunk.get("choices"))
    if "usage" in chunk and not any(_says_something(choice) for choice in choices):
        choices = []
    _forget_cost(chunk)
    _forget_empty(chunk)
    for choice in choices:
        choice.pop("provider_specific_fields", None)
        choice.setdefault("finish_reason", None)
        for delta in _objects([choice.get("delta")]):
            delta.pop("provider_specific_fields", None)
    return {**chunk, "model": chunk.get("model") or model, "choices": choices}


def to_embeddings(answer: Json, model: str, *, is_base64: bool) -> Json:
    """
    Return embeddings as OpenAI writes them.

    Args:
        is_base64: Whether the client asked for the numbers in that form: 32-bit floats, little end
            first.
    """
    items = _objects(answer.get("data"))
    for index, item in enumerate(items):
        item.setdefault("index", index)
        vector = item.get("embedding")
        if is_base64 and isinstance(vector, list):
            item["embedding"] = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {**answer, "object": "list", "model": answer.get("model") or model, "data": items}


def _forget_cost(answer: Json) -> None:
    """Take LiteLLM's own price out: a float, and not what was charged."""
    for usage in _objects([answer.get("usage")]):
        usage.pop("cost", None)


def _forget_empty(members: Json) -> None:
    """Take lists out that are empty: what LiteLLM's model of an answer has and this one has not."""
    for name in [name for name, value in members.items() if value == []]:
        del members[name]


def _says_something(choice: Mapping[str, object]) -> bool:
    return bool(choice.get("delta") or choice.get("finish_reason"))


def _objects(value: object) -> list[Json]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]
