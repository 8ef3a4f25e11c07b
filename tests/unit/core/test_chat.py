"""
Chat completions: what a body asks for, and what an answer says it used.
"""

import pytest

from relay_middleware.core.endpoints import chat, members
from relay_middleware.core.refusals import RefusedError

MESSAGES = [{"role": "user", "content": "hi"}]


def body(**more: object) -> dict[str, object]:
    return {"model": "smart", "messages": MESSAGES, **more}


def test_least_body() -> None:
    """
    A body of one message asks for one answer, whole, without a cap.
    """
    call = chat.parse({"messages": MESSAGES})

    assert (call.model, call.choices, call.is_stream, call.framed_inputs) == (None, 1, False, 1)
    assert (call.asked_output_tokens, call.service_tier, call.user) == (None, None, None)
    assert (call.has_opaque_input, call.unbounded_member, call.wants_usage_chunk) == (
        False,
        None,
        False,
    )


def test_what_is_read() -> None:
    """
    Of two caps the lower one counts; the rest is read as it stands.
    """
    call = chat.parse(
        body(
            n=2,
            max_tokens=10,
            max_completion_tokens=7,
            stream=True,
            stream_options={"include_usage": True},
            service_tier="flex",
            user="bob",
        )
    )

    assert (call.model, call.choices, call.asked_output_tokens) == ("smart", 2, 7)
    assert (call.is_stream, call.wants_usage_chunk) == (True, True)
    assert (call.service_tier, call.user) == ("flex", "bob")


def test_usage_chunk_is_a_streams() -> None:
    """
    Asking for stream usage without a stream asks for nothing.
    """
    call = chat.parse(body(stream_options={"include_usage": True}))

    assert not call.wants_usage_chunk


def test_null_is_absent() -> None:
    """
    A member that is null is one that is not there, as at OpenAI.
    """
    names = ("model", "n", "max_tokens", "stream", "stream_options", "tools", "service_tier")

    call = chat.parse({"messages": MESSAGES, **dict.fromkeys(names)})

    assert (call.model, call.choices, call.asked_output_tokens) == (None, 1, None)
    assert not chat.parse(body(stream=True, stream_options=None)).wants_usage_chunk


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ([], None, "invalid_type"),
        ("text", None, "invalid_type"),
        ({}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages", "invalid_type"),
        ({"messages": [{"content": 5}]}, "messages", "invalid_type"),
        (body(model=5), "model", "invalid_type"),
        (body(model=""), "model", "invalid_value"),
        (body(stream="yes"), "stream", "invalid_type"),
        (body(stream=True, stream_options=[]), "stream_options", "invalid_type"),
        (body(max_tokens=-1), "max_tokens", "invalid_value"),
        (body(max_tokens=0), "max_tokens", "invalid_value"),
        (body(max_tokens=1.5), "max_tokens", "invalid_type"),
        (body(max_tokens=True), "max_tokens", "invalid_type"),
        (body(max_tokens="5"), "max_tokens", "invalid_type"),
        (body(max_completion_tokens=2**31), "max_completion_tokens", "invalid_value"),
        (body(n=129), "n", "invalid_value"),
        (body(n=1000), "n", "invalid_value"),
        (body(tools={}), "tools", "invalid_type"),
    ],
    ids=str,
)
def test_wrong_bodies(wrong: object, param: str | None, code: str) -> None:
    """
    Each wrong member is a 400 that names it.
    """
    with pytest.raises(RefusedError) as refused:
        chat.parse(wrong)

    refusal = refused.value.refusal
    assert (refusal.status_code, refusal.param, refusal.code) == (400, param, code)


@pytest.mark.parametrize("cap", [1, 2**31 - 1])
def test_bounds_of_the_output_cap(cap: int) -> None:
    """
    The smallest cap is 1, the largest 2^31 - 1.
    """
    assert chat.parse(body(max_tokens=cap)).asked_output_tokens == cap


@pytest.mark.parametrize("name", ["api_base", "api_key", "base_url", "mock_response", "fallbacks"])
def test_routes_and_credentials_are_refused(name: str) -> None:
    """
    A member that names a route or a credential is refused by name, whatever its value.
    """
    with pytest.raises(RefusedError) as refused:
        chat.parse(body(**{name: None}))

    assert (refused.value.refusal.code, refused.value.refusal.param) == (
        "forbidden_parameter",
        name,
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hi"}, False),
        ({"role": "assistant", "content": None, "tool_calls": []}, False),
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]}, False),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, False),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, True),
        ({"role": "user", "content": [{"type": "new_kind"}]}, True),
        ({"role": "user", "content": ["text"]}, True),
        ({"role": "assistant", "audio": {"id": "a"}}, True),
        ({"role": "assistant", "content": "hi", "audio": None, "images": []}, False),
        ({"role": "user", "content": "hi", "images": ["iVBORw0KGgo="]}, True),
        ({"role": "assistant", "content": "hi", "reasoning_content": "hm"}, False),
        ({"role": "user", "content": [{"type": [], "text": "hi"}]}, True),
    ],
    ids=str,
)
def test_what_no_length_bounds(message: dict[str, object], *, expected: bool) -> None:
    """
    Anything but text is opaque, and so is a kind of content or a member that is not known.
    """
    assert chat.parse({"messages": [message]}).has_opaque_input is expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"search_parameters": {"mode": "on"}}, "search_parameters"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function"}, {"type": "custom"}]}, None),
        ({"tools": [{"function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}]}, None),
        ({"tools": [{"type": ["function"]}]}, "tools"),
        ({"tools": [{"googleSearch": {}}]}, "tools"),
        ({"tools": [{"type": "function", "google_search": {}}]}, "tools"),
        ({"functions": [{"name": "f", "description": "d", "parameters": {}}]}, None),
        ({"functions": [{"codeExecution": {}}]}, "functions"),
        ({"functions": ["f"]}, "functions"),
        ({"functions": "f"}, None),
        ({"web_search_options": None}, None),
        ({"plugins": []}, None),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"enable_search": False}, None),
        ({"enable_search": True}, "enable_search"),
        ({"models": ["a", "b"]}, "models"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, None),
        ({"modalities": ["image", "text"]}, "modalities"),
        ({"modalities": "image"}, None),
        ({"unheard_of": {"a": 1}}, None),
    ],
    ids=str,
)
def test_what_is_bought_without_a_bound(more: dict[str, object], expected: str | None) -> None:
    """
    Searches, predictions, other models, pictures and the provider's own tools have no bound; plain
    tools and speech have.
    """
    assert chat.parse(body(**more)).unbounded_member == expected


@pytest.mark.parametrize("name", chat.PAID_MEMBERS)
def test_each_unbounded_member_is_named(name: str) -> None:
    """
    Whichever of them a body has, it is found by its own name.
    """
    assert chat.parse(body(**{name: "x"})).unbounded_member == name


@pytest.mark.parametrize(
    ("more", "choices"),
    [({}, 1), ({"n": 3}, 3), ({"best_of": 5}, 5), ({"n": 3, "best_of": 2}, 3), ({"n": None}, 1)],
    ids=str,
)
def test_how_many_answers_are_made(more: dict[str, object], choices: int) -> None:
    """
    Of the answers of which the best is given each one is paid for.
    """
    assert chat.parse(body(**more)).choices == choices


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"tools": []}, False),
        ({"tools": [{"type": "function"}]}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": None}, False),
        ({"response_format": {"type": "json_object"}}, True),
    ],
    ids=str,
)
def test_what_a_provider_writes_instructions_for(
    more: dict[str, object], *, expected: bool
) -> None:
    """
    Around functions and a form of the answer a provider writes text of its own.
    """
    assert chat.parse(body(**more)).has_tools is expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"modalities": ["text"]}, False),
        ({"modalities": ["text", "audio"]}, True),
        ({"audio": {"voice": "alloy", "format": "wav"}}, False),
        ({"modalities": "audio"}, False),
    ],
    ids=str,
)
def test_who_asks_for_speech(more: dict[str, object], *, expected: bool) -> None:
    """
    A spoken answer is asked for by its modality; a voice alone does nothing.
    """
    assert chat.parse(body(**more)).asks_for_audio is expected


def test_all_that_a_model_reads() -> None:
    """
    Texts, names and numbers of messages and tools, a line each; not how to answer, or for whom.
    """
    request = body(
        messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": None}],
        tools=[{"function": {"parameters": {"minimum": 5, "nullable": True}}}],
        n=2,
        user="bob",
        metadata={"a": "b"},
    )

    assert chat.ENDPOINT.input_text(request).split("\n") == [
        "messages",
        *("role", "user", "content", "type", "text", "text", "hi", "name"),
        "tools",
        *("function", "parameters", "minimum", "5", "nullable", "True"),
    ]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning": {"max_tokens": 100}}, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
    ],
    ids=str,
)
def test_who_asks_for_reasoning(more: dict[str, object], *, expected: bool) -> None:
    """
    Thinking is asked for in OpenAI's, OpenRouter's or Anthropic's words.
    """
    assert chat.parse(body(**more)).asks_for_reasoning is expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": None, "thinking": {"type": "disabled"}}, False),
        ({"enable_thinking": False}, False),
        ({"reasoning_effort": "minimal"}, True),
        ({"reasoning": {"effort": "low"}}, True),
        ({"reasoning": {"enabled": False}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": []}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        # Whose type nobody reads.
        ({"chat_template_kwargs": {"type": "disabled", "enable_thinking": True}}, True),
        ({"reasoning": {"type": "disabled", "effort": "high"}}, True),
    ],
    ids=str,
)
def test_who_may_get_reasoning(more: dict[str, object], *, expected: bool) -> None:
    """
    Whatever is said of thinking, and is not a plain no, may bring it.
    """
    assert chat.parse(body(**more)).may_get_reasoning is expected


@pytest.mark.parametrize("output", [{}, {"completion_tokens": None}, {"completion_tokens": 2.0}])
def test_an_answer_is_not_free_because_nobody_counted_it(output: dict[str, object]) -> None:
    """
    A usage that says nothing of the output is none: then what came is counted.
    """
    answer = {"usage": {"prompt_tokens": 3, **output}}

    assert chat.usage_of(answer, reasoning_in_output=True) is None


def test_usage_of_an_answer() -> None:
    """
    Usage and the service tier that was served are read; without usage there is none.
    """
    answer = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}, "service_tier": "flex"}

    usage = chat.usage_of(answer, reasoning_in_output=True)

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.service_tier) == (3, 2, "flex")
    assert chat.usage_of({"usage": None}, reasoning_in_output=True) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"choices":[{"delta":{"content":"abc"}}]}', [3]),
        (b'{"choices":[{"delta":{"content": "a\\"b"}},{"delta":{"content":"c"}}]}', [4, 1]),
        (b'{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}', [2]),
        (b'{"delta":{"reasoning_content":"ab","content":null}}', [2]),
        (b'{"delta":{"role":"assistant","content":"","refusal":null}}', []),
        (b"[DONE]", []),
    ],
)
def test_text_of_an_answer_is_counted(data: bytes, expected: list[int]) -> None:
    """
    Content, reasoning, refusals and tool arguments count, as JSON writes them; empty ones do not.
    """
    assert chat.output_sizes(data) == expected


def test_text_of_a_request_is_counted() -> None:
    """
    UTF-8 bytes of texts in messages and tools count, roles and types too; an image's data does not.
    """
    request = {
        "messages": [
            {"content": "é"},
            {"content": [{"type": "image_url", "image_url": {"url": "data:" + "A" * 999}}]},
        ],
        "tools": [{"function": {"name": "f", "strict": True}}],
        "n": 1,
    }

    assert chat.input_bytes(request) == 2 + len("image_url") + 1


def test_counted_usage_in_openai_form() -> None:
    """
    Counts appear under OpenAI's names, with their sum.
    """
    usage = chat.usage_of(
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}, reasoning_in_output=True
    )

    assert usage is not None
    assert chat.to_wire(usage) == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
    }


@pytest.mark.parametrize(("levels", "expected"), [(200, False), (201, True), (5000, True)])
def test_nesting_is_bounded(levels: int, *, expected: bool) -> None:
    """
    200 levels of arrays and objects pass, 201 do not; the check does not recurse itself.
    """
    value: object = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}

    assert members.is_nested_too_deeply(value) is expected
