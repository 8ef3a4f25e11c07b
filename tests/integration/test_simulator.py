"""
The simulated OpenAI over real sockets: answers, streams, tools, usage, embeddings.
"""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from relay_middleware.testing import Behaviour, Simulator, tokens_of

MESSAGES = [{"role": "user", "content": "Hello you"}]
CHAT = {"model": "m", "messages": MESSAGES}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(name="sdk")
def _sdk(url: str) -> Iterator[openai.OpenAI]:
    """
    OpenAI's own client.
    """
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test-1234", max_retries=0) as sdk:
        yield sdk


def events_of(body: str) -> list[dict[str, object]]:
    """The JSON of a stream's events; that it ends with `[DONE]` is checked."""
    blocks = [block.removeprefix("data: ") for block in body.strip().split("\n\n")]
    assert blocks.pop() == "[DONE]"
    return [json.loads(block) for block in blocks]


def content_of(events: list[dict[str, object]], index: int = 0) -> str:
    """The text that the deltas of one choice add up to."""
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(
        choice["delta"].get("content") or "" for choice in choices if choice["index"] == index
    )


def test_an_answer_is_counted_by_the_stated_rule(client: httpx.Client) -> None:
    """
    The usage of an answer can be worked out from the request and the visible text.
    """
    answer = client.post("/v1/chat/completions", json=CHAT).json()

    text_tokens = tokens_of(answer["choices"][0]["message"]["content"])
    reasoning_tokens = 1 + text_tokens // 4
    # "Hello you" is 9 bytes, so 3 tokens; 3 for the message, 3 for the answer.
    assert answer["usage"]["prompt_tokens"] == 3 + 3 + 3
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == text_tokens + reasoning_tokens
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == reasoning_tokens
    assert answer["usage"]["total_tokens"] == 9 + text_tokens + reasoning_tokens


def test_usage_is_below_any_bound_from_bytes(client: httpx.Client) -> None:
    """
    A hold of a token for each byte and the whole cap is never what is used, even by a cut answer.
    """
    body = json.dumps(CHAT | {"max_tokens": 3}).encode()

    usage = client.post("/v1/chat/completions", content=body).json()["usage"]

    assert usage["completion_tokens"] == 3
    assert usage["prompt_tokens"] < len(body)


def test_an_answer_follows_from_the_request(client: httpx.Client) -> None:
    """
    Two equal requests get equal answers, apart from the number of the call.
    """
    first, second = (client.post("/equal/v1/chat/completions", json=CHAT).json() for _ in range(2))

    assert first.pop("x_simulator") == {"profile": "equal", "call": 1}
    assert second.pop("x_simulator") == {"profile": "equal", "call": 2}
    assert first == second
    assert first["system_fingerprint"] == "fp_simulated"
    assert first["choices"][0]["message"]["content"].startswith("Simulated answer to: Hello you.")


def test_parts_of_the_input_count(client: httpx.Client) -> None:
    """
    Text parts, images, tool calls and tools are input.
    """
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    image = {"type": "image_url", "image_url": {"url": "https://host.invalid/a.png"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "abcdefgh"}, image]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "four"},
    ]

    answer = client.post(
        "/v1/chat/completions", json={"model": "m", "messages": messages, "tools": [CLOCK]}
    ).json()

    calls_tokens = tokens_of(json.dumps(calls, separators=(",", ":")))
    tools_tokens = tokens_of(json.dumps([CLOCK], separators=(",", ":")))
    assert answer["usage"]["prompt_tokens"] == (
        3 + (3 + 2 + 85) + (3 + calls_tokens) + (3 + 1) + tools_tokens
    )


def test_a_stream_has_openai_s_order(client: httpx.Client) -> None:
    """
    A stream is role, content, finish, usage if asked for, `[DONE]`; it says what the body says.
    """
    whole = client.post("/v1/chat/completions", json=CHAT).json()

    events = events_of(client.post("/v1/chat/completions", json=CHAT | WITH_USAGE).text)

    *chunks, finish, usage = events
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert content_of(events) == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * len(chunks)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert [event["usage"] for event in (*chunks, finish)] == [None] * (len(events) - 1)
    assert all("x_simulator" in event and "system_fingerprint" in event for event in events)


def test_a_stream_without_the_option_has_no_usage(client: httpx.Client) -> None:
    """
    Usage of a stream comes only when the request asks for it.
    """
    events = events_of(client.post("/v1/chat/completions", json=CHAT | {"stream": True}).text)

    assert not [event for event in events if "usage" in event]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_several_choices_differ(client: httpx.Client) -> None:
    """
    `n` answers come, streamed or not, and all of them are counted.
    """
    body = CHAT | {"n": 3}
    whole = client.post("/v1/chat/completions", json=body).json()

    events = events_of(client.post("/v1/chat/completions", json=body | WITH_USAGE).text)

    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) == 3
    assert [content_of(events, index) for index in range(3)] == texts
    counts = [tokens_of(text) for text in texts]
    assert whole["usage"]["completion_tokens"] == sum(count + 1 + count // 4 for count in counts)
    assert events[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("cap_tokens", "reasoning_tokens"),
    [(1, 0), (2, 1), (7, 3)],
    ids=["only text", "both", "half of it"],
)
def test_output_keeps_to_its_cap(
    client: httpx.Client, member: str, cap_tokens: int, reasoning_tokens: int
) -> None:
    """
    Text and reasoning together never exceed the cap, and a cut answer says `length`.
    """
    answer = client.post("/v1/chat/completions", json=CHAT | {member: cap_tokens}).json()

    usage = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert usage["completion_tokens"] == cap_tokens
    assert usage["completion_tokens_details"]["reasoning_tokens"] == reasoning_tokens
    text = answer["choices"][0]["message"]["content"]
    assert tokens_of(text) == cap_tokens - reasoning_tokens


def test_a_tool_is_called(sdk: openai.OpenAI) -> None:
    """
    With tools the first one is called, with arguments that fit its schema.
    """
    completion = sdk.chat.completions.create(model="m", messages=MESSAGES, tools=[WEATHER, CLOCK])

    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    call = choice.message.tool_calls[0].function
    assert (call.name, call.arguments) == ("weather", '{"city":"simulated"}')


def test_a_tool_call_is_streamed_in_pieces(sdk: openai.OpenAI) -> None:
    """
    A streamed call names id and function first, its arguments come in several chunks after it.
    """
    stream = sdk.chat.completions.create(model="m", messages=MESSAGES, tools=[WEATHER], stream=True)

    deltas = [chunk.choices[0].delta for chunk in stream]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", "")
    assert calls[0].id.startswith("call_sim_")
    assert [call.function.arguments for call in calls[1:]] == ['{"city":"simulat', 'ed"}']


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, "clock"),
        ({"tool_choice": "required"}, "weather"),
        ({"tool_choice": "none"}, None),
        ({"messages": [*MESSAGES, {"role": "tool", "content": "12"}]}, None),
        ({"tools": []}, None),
    ],
    ids=["named", "required", "none", "after its result", "no tools"],
)
def test_which_tool_is_called(
    client: httpx.Client, body: dict[str, object], called: str | None
) -> None:
    """
    A named function is called instead of the first; none after a result or where it is forbidden.
    """
    answer = client.post(
        "/v1/chat/completions", json=CHAT | {"tools": [WEATHER, CLOCK]} | body
    ).json()

    calls = answer["choices"][0]["message"].get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == [called] * (called is not None)


def test_several_tools_are_called_after_a_word(
    simulator: Simulator, url: str, sdk: openai.OpenAI
) -> None:
    """
    Told so, an answer says something first and then calls two tools; streamed it comes to the same.
    """
    simulator.set("busy", Behaviour(tool_calls=2, preamble="Let me look."))
    busy = sdk.with_options(base_url=f"{url}/busy/v1").chat.completions
    tools = [WEATHER, CLOCK]

    answer = busy.create(model="m", messages=MESSAGES, tools=tools)
    with busy.stream(model="m", messages=MESSAGES, tools=tools) as stream:
        streamed = stream.get_final_completion()

    # "Let me look." is 3 tokens; "weather" 2 and its arguments 5; "clock" 2 and "{}" 1; reasoning.
    assert answer.usage.completion_tokens == 13 + 1 + 13 // 4
    for message in (answer.choices[0].message, streamed.choices[0].message):
        assert message.content == "Let me look."
        assert len({call.id for call in message.tool_calls}) == 2
        functions = [call.function for call in message.tool_calls]
        assert [(function.name, function.arguments) for function in functions] == [
            *(("weather", '{"city":"simulated"}'), ("clock", "{}")),
        ]


def test_a_cap_cuts_several_calls(simulator: Simulator, client: httpx.Client) -> None:
    """
    Under a cap of 12 reasoning takes 3, and 9 are left: 7 for one call and 2 for half of the next.
    """
    simulator.set("capped", Behaviour(tool_calls=2))
    body = CHAT | {"tools": [WEATHER, CLOCK], "max_tokens": 12}

    answer = client.post("/capped/v1/chat/completions", json=body).json()

    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"city":"simulated"}', ""]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


def test_one_call_at_a_time(simulator: Simulator, client: httpx.Client) -> None:
    """
    A request that forbids several calls at once gets one.
    """
    simulator.set("eager", Behaviour(tool_calls=2))
    body = CHAT | {"tools": [WEATHER, CLOCK], "parallel_tool_calls": False}

    answer = client.post("/eager/v1/chat/completions", json=body).json()

    assert len(answer["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("stop", ["STOP", ["END", "STOP"]], ids=["one", "several"])
def test_a_stop_sequence_ends_an_answer(
    simulator: Simulator, client: httpx.Client, stop: object
) -> None:
    """
    The text ends before the first of the sequences that comes.
    """
    simulator.set("wordy", Behaviour(text="One, two STOP three END"))

    answer = client.post("/wordy/v1/chat/completions", json=CHAT | {"stop": stop}).json()

    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("One, two ", "stop")


@pytest.mark.parametrize(
    ("answer_format", "expected"),
    [
        ({"type": "json_object"}, {"simulated": True}),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": WEATHER["function"]["parameters"]},
            },
            {"city": "simulated"},
        ),
    ],
    ids=["object", "schema"],
)
def test_a_structured_answer_is_json(
    client: httpx.Client, answer_format: dict[str, object], expected: object
) -> None:
    """
    With an answer format the text is JSON that fits it.
    """
    answer = client.post(
        "/v1/chat/completions", json=CHAT | {"response_format": answer_format}
    ).json()

    assert json.loads(answer["choices"][0]["message"]["content"]) == expected


def test_the_sdk_reads_an_embedding(sdk: openai.OpenAI) -> None:
    """
    OpenAI's client, which asks for base64, gets unit vectors that depend on the input alone.
    """
    answer = sdk.embeddings.create(model="e", input=["a", "b", "a"])

    vectors = [item.embedding for item in answer.data]
    assert [len(vector) for vector in vectors] == [8, 8, 8]
    assert sum(number**2 for number in vectors[0]) == pytest.approx(1)
    assert vectors[0] == vectors[2] != vectors[1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)


@pytest.mark.parametrize(
    ("given", "vectors", "tokens"),
    [("abcdefgh", 1, 2), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
    ids=["text", "tokens", "arrays of tokens"],
)
def test_inputs_of_embeddings(
    client: httpx.Client, given: object, vectors: int, tokens: int
) -> None:
    """
    Texts count by their bytes, arrays of tokens by their length; `dimensions` is obeyed.
    """
    answer = client.post(
        "/v1/embeddings", json={"model": "e", "input": given, "dimensions": 3}
    ).json()

    assert [len(item["embedding"]) for item in answer["data"]] == [3] * vectors
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("chat/completions", b"{", None, None),
        ("chat/completions", b"[]", None, None),
        ("chat/completions", b'{"model":"m"}', "messages", "missing_required_parameter"),
        ("chat/completions", b'{"messages":[]}', "model", "missing_required_parameter"),
        ("chat/completions", b'{"model":"m","messages":[]}', "messages", "empty_array"),
        ("chat/completions", b'{"model":"m","messages":[1]}', "messages[0]", "invalid_type"),
        ("embeddings", b'{"model":"m","input":[]}', "input", "invalid_value"),
        ("embeddings", b'{"model":"m","input":[1,"a"]}', "input", "invalid_value"),
    ],
)
def test_a_wrong_request_is_refused(
    client: httpx.Client, path: str, body: bytes, param: str | None, code: str | None
) -> None:
    """
    What the provider would refuse is a 400 in its envelope that names the member.
    """
    answer = client.post(f"/v1/{path}", content=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"stop": [1]}, "stop"),
        ({"tools": [CLOCK], "tool_choice": {"function": {"name": "x"}}}, "tool_choice"),
    ],
)
def test_a_wrong_member_is_refused(
    client: httpx.Client, more: dict[str, object], param: str
) -> None:
    """
    A member with a value that OpenAI does not take is a 400 that names it.
    """
    answer = client.post("/v1/chat/completions", json=CHAT | more)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
