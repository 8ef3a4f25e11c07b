"""
Translated answers in OpenAI's form.
"""

from base64 import b64decode
from struct import unpack

from relay_middleware.upstream.answers import to_chat, to_chunk, to_embeddings


def test_a_message_has_what_openais_has() -> None:
    """
    Content and refusal are there when they are null; LiteLLM's own members and price are not.
    """
    given: dict[str, object] = {
        "choices": [{"index": 0, "message": {"role": "assistant", "provider_specific_fields": {}}}],
        "usage": {"prompt_tokens": 1, "cost": 0.1},
    }

    answer = to_chat(given, "claude")

    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "refusal": None},
            "logprobs": None,
        }
    ]
    assert (answer["model"], answer["usage"]) == ("claude", {"prompt_tokens": 1})


def test_a_tool_call_has_no_place() -> None:
    """
    In a whole answer OpenAI's tool calls stand in their order, without an index.
    """
    calls = [{"index": 2, "id": "t1", "type": "function", "function": {"name": "a"}}]
    given: dict[str, object] = {"choices": [{"message": {"tool_calls": calls}}]}

    to_chat(given, "claude")

    assert calls == [{"id": "t1", "type": "function", "function": {"name": "a"}}]


def test_what_is_empty_is_not_shown() -> None:
    """
    Of Gemini's answers LiteLLM has members that say nothing: pictures, thoughts and sources.
    """
    message = {"role": "assistant", "content": "42", "images": [], "thinking_blocks": []}
    choice = {"message": message, "provider_specific_fields": {"native_finish_reason": "STOP"}}

    answer = to_chat({"choices": [choice], "vertex_ai_safety_results": []}, "gemini")
    chunk = to_chunk({"choices": [{"delta": {}}], "vertex_ai_safety_results": []}, "gemini")

    assert message == {"role": "assistant", "content": "42", "refusal": None}
    assert answer.keys() == chunk.keys() == {"choices", "model"}
    assert choice.keys() == {"message", "logprobs"}


def test_a_usage_chunk_has_no_choices() -> None:
    """
    A chunk with usage and an empty choice is OpenAI's usage chunk.
    """
    chunk = to_chunk(
        {"model": "m", "choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 1}}, "x"
    )

    assert (chunk["choices"], chunk["model"]) == ([], "m")


def test_a_choice_with_usage_stays() -> None:
    """
    A chunk that ends an answer and carries usage keeps both.
    """
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}

    chunk = to_chunk({"choices": [choice], "usage": {"prompt_tokens": 1}}, "x")

    assert (chunk["choices"], chunk["model"]) == ([choice], "x")


def test_a_chunk_says_that_it_does_not_end() -> None:
    """
    A chunk in the middle has a null for its reason to finish.
    """
    given: dict[str, object] = {
        "choices": [{"index": 0, "delta": {"content": "a", "provider_specific_fields": {}}}]
    }

    assert to_chunk(given, "x")["choices"] == [
        {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    ]


def test_vectors_in_base64() -> None:
    """
    Asked for base64, numbers become 32-bit floats, little end first; else they stay numbers.
    """
    given = {"data": [{"embedding": [0.5, -2.0]}], "usage": {}}

    (item,) = to_embeddings({**given}, "m", is_base64=True)["data"]  # type: ignore[misc]  # a list

    assert unpack("<2f", b64decode(item["embedding"])) == (0.5, -2.0)
    assert item["index"] == 0
    plain = to_embeddings({"data": [{"embedding": [0.5]}]}, "m", is_base64=False)
    assert plain == {
        "object": "list",
        "model": "m",
        "data": [{"embedding": [0.5], "index": 0}],
    }
