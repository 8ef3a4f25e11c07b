"""
The simulated Anthropic over real sockets.
"""

import json
from collections.abc import Iterator

import httpx
import pytest

from relay_middleware.testing import Behaviour, Simulator, tokens_of

BODY = {"model": "c", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello you"}]}
CITY = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string"}},
}
WEATHER = {"name": "weather", "input_schema": CITY}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
THINKING = {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}

USES = [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]
RESULTS = [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]


@pytest.fixture(name="client")
def _client(url: str) -> Iterator[httpx.Client]:
    """
    A client with a key.
    """
    headers = {"x-api-key": "sk-test-1234", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=url, headers=headers) as client:
        yield client


def conversation(uses: list[object], results: list[object]) -> list[dict[str, object]]:
    """A question, the tools that were used for it, and what they gave."""
    return [
        {"role": "user", "content": "Hello you"},
        {"role": "assistant", "content": uses},
        {"role": "user", "content": results},
    ]


def events_of(body: str) -> list[tuple[str, dict[str, object]]]:
    """Names and JSON of a stream's events."""
    blocks = [block.split("\n") for block in body.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


def test_a_message_is_counted_by_the_stated_rule(client: httpx.Client) -> None:
    """
    Input is reported without what the cache gave and took; the system prompt counts as a message.
    """
    answer = client.post("/brief/v1/messages", json=BODY | {"system": "Be brief"}).json()

    text_tokens = tokens_of(answer["content"][0]["text"])
    # 3 for the answer, 3 + 3 for the message, 3 + 2 for the system prompt.
    assert answer["usage"]["cache_read_input_tokens"] == 14 // 2
    assert answer["usage"]["cache_creation_input_tokens"] == 14 // 4
    assert answer["usage"]["input_tokens"] == 14 - 7 - 3
    assert answer["usage"]["output_tokens"] == text_tokens
    assert answer["stop_reason"] == "end_turn"
    assert answer["x_simulator"] == {"profile": "brief", "call": 1}


def test_a_stream_has_anthropic_s_order(client: httpx.Client) -> None:
    """
    A stream says what the body says: the input at its start, the output at its end.
    """
    whole = client.post("/v1/messages", json=BODY).json()

    events = events_of(client.post("/v1/messages", json=BODY | {"stream": True}).text)

    names = [name for name, _ in events]
    data = [data for _, data in events]
    deltas = names.count("content_block_delta")
    assert deltas > 1
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in data[3 : 3 + deltas])
    assert text == whole["content"][0]["text"]
    assert data[0]["message"]["usage"] == whole["usage"] | {"output_tokens": 1}
    assert data[-2]["usage"] == {"output_tokens": whole["usage"]["output_tokens"]}
    assert all("x_simulator" in event for event in data)


def test_output_keeps_to_its_cap(client: httpx.Client) -> None:
    """
    A cut message says `max_tokens` and reports no more than the cap.
    """
    answer = client.post("/v1/messages", json=BODY | {"max_tokens": 5}).json()

    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 5
    assert tokens_of(answer["content"][0]["text"]) == 5


def test_a_tool_is_used(client: httpx.Client) -> None:
    """
    With tools the answer is a use of the first one, streamed as pieces of JSON.
    """
    body = BODY | {"tools": [WEATHER]}
    whole = client.post("/v1/messages", json=body).json()

    events = events_of(client.post("/v1/messages", json=body | {"stream": True}).text)

    block = whole["content"][0]
    assert (block["type"], block["name"], block["input"]) == (
        *("tool_use", "weather", {"city": "simulated"}),
    )
    assert whole["stop_reason"] == "tool_use"
    pieces = [data["delta"]["partial_json"] for name, data in events if name.endswith("ock_delta")]
    assert pieces == ['{"city":"simulat', 'ed"}']


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": {"type": "none"}},
        {"messages": conversation(USES, RESULTS)},
    ],
    ids=["forbidden", "after its result"],
)
def test_no_tool_is_used(client: httpx.Client, more: dict[str, object]) -> None:
    """
    After a result, or where tools are forbidden, the answer is text.
    """
    answer = client.post("/v1/messages", json=BODY | {"tools": [WEATHER]} | more).json()

    assert [block["type"] for block in answer["content"]] == ["text"]


def test_several_tools_are_used_after_a_word(simulator: Simulator, client: httpx.Client) -> None:
    """
    Told so, a message says something first and then uses two tools, each in a block of its own.
    """
    simulator.set("busy", Behaviour(tool_calls=2, preamble="Let me look."))
    body = BODY | {"tools": [WEATHER, CLOCK]}

    answer = client.post("/busy/v1/messages", json=body).json()
    events = events_of(client.post("/busy/v1/messages", json=body | {"stream": True}).text)

    assert [block.get("name", block["type"]) for block in answer["content"]] == [
        *("text", "weather", "clock"),
    ]
    assert len({block["id"] for block in answer["content"][1:]}) == 2
    # "Let me look." is 3 tokens; "weather" 2 and its arguments 5; "clock" 2 and "{}" 1.
    assert answer["usage"]["output_tokens"] == 3 + 2 + 5 + 2 + 1
    assert answer["stop_reason"] == "tool_use"
    opened = [data for name, data in events if name == "content_block_start"]
    assert [(data["index"], data["content_block"]["type"]) for data in opened] == [
        *((0, "text"), (1, "tool_use"), (2, "tool_use")),
    ]


def test_one_tool_at_a_time(simulator: Simulator, client: httpx.Client) -> None:
    """
    A request that forbids several uses at once gets one.
    """
    simulator.set("eager", Behaviour(tool_calls=2))
    choice = {"type": "auto", "disable_parallel_tool_use": True}

    answer = client.post(
        "/eager/v1/messages", json=BODY | {"tools": [WEATHER, CLOCK], "tool_choice": choice}
    ).json()

    assert [block["name"] for block in answer["content"]] == ["weather"]


@pytest.mark.parametrize(
    ("uses", "results", "message"),
    [
        (USES, [{"type": "text", "text": "x"}], "without `tool_result` blocks immediately"),
        ([{"type": "text", "text": "x"}], RESULTS, "unexpected `tool_use_id`"),
    ],
    ids=["no result", "no use"],
)
def test_uses_and_results_belong_together(
    client: httpx.Client, uses: list[object], results: list[object], message: str
) -> None:
    """
    A use of a tool without its result, and a result without its use, are refused.
    """
    answer = client.post("/v1/messages", json=BODY | {"messages": conversation(uses, results)})

    assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True)


def test_thinking_comes_first_and_is_signed(client: httpx.Client) -> None:
    """
    Asked to think, a message has a block of thoughts before its text; its tokens are output.
    """
    body = BODY | THINKING
    whole = client.post("/v1/messages", json=body).json()

    events = events_of(client.post("/v1/messages", json=body | {"stream": True}).text)

    thinking, text = whole["content"]
    text_tokens = tokens_of(text["text"])
    assert tokens_of(thinking["thinking"]) == 1 + text_tokens // 4
    assert whole["usage"]["output_tokens"] == text_tokens + 1 + text_tokens // 4
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 1 + text_tokens // 4}
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    thoughts = "".join(delta.get("thinking", "") for delta in deltas)
    signatures = [delta["signature"] for delta in deltas if delta["type"] == "signature_delta"]
    assert {"thinking": thoughts, "signature": signatures[0]} == {
        "thinking": thinking["thinking"],
        "signature": thinking["signature"],
    }
    (ended,) = (data for name, data in events if name == "message_delta")
    assert ended["usage"] == {
        name: whole["usage"][name] for name in ("output_tokens", "output_tokens_details")
    }


def test_thoughts_are_handed_back_as_they_were(client: httpx.Client) -> None:
    """
    While a tool is awaited the thoughts before its use belong to it; changed ones are refused.
    """
    body = BODY | THINKING | {"tools": [WEATHER]}
    thinking, use = client.post("/v1/messages", json=body).json()["content"]
    results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "sunny"}]
    forged = thinking | {"thinking": "Something else"}

    answers = [
        client.post("/v1/messages", json=body | {"messages": conversation(uses, results)})
        for uses in ([thinking, use], [use], [forged, use])
    ]

    assert [answer.status_code for answer in answers] == [200, 400, 400]
    assert "Expected `thinking`" in answers[1].json()["error"]["message"]
    assert "Invalid `signature`" in answers[2].json()["error"]["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 1023}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"thinking": {"type": "enabled"}},
        {"thinking": "hard"},
        {"tools": [WEATHER], "tool_choice": {"type": "any"}},
        {"temperature": 0.5},
    ],
    ids=["too little", "the whole cap", "no budget", "a word", "forced tool", "temperature"],
)
def test_thinking_has_its_conditions(client: httpx.Client, more: dict[str, object]) -> None:
    """
    A budget is from 1,024 to less than the cap; no tool may be forced and no temperature set.
    """
    assert client.post("/v1/messages", json=BODY | THINKING).status_code == 200
    assert client.post("/v1/messages", json=BODY | THINKING | more).status_code == 400


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "disabled"}])
def test_the_model_decides_or_must_not_think(
    client: httpx.Client, thinking: dict[str, object]
) -> None:
    """
    Adaptive thinking needs no budget; disabled thinking is none.
    """
    answer = client.post("/v1/messages", json=BODY | {"thinking": thinking}).json()

    assert (answer["content"][0]["type"] == "thinking") is (thinking["type"] == "adaptive")
    assert ("output_tokens_details" in answer["usage"]) is (thinking["type"] == "adaptive")


@pytest.mark.parametrize("member", ["output_config", "output_format"])
def test_a_structured_answer_is_json(client: httpx.Client, member: str) -> None:
    """
    With an answer format, in its new place or the old one, the text is JSON that fits it.
    """
    answer_format = {"type": "json_schema", "schema": CITY}
    asked = {"format": answer_format} if member == "output_config" else answer_format

    answer = client.post("/v1/messages", json=BODY | {member: asked}).json()

    assert json.loads(answer["content"][0]["text"]) == {"city": "simulated"}


def test_json_without_a_schema_is_refused(client: httpx.Client) -> None:
    """
    There is no JSON mode without a schema, as OpenAI has one.
    """
    answer = client.post("/v1/messages", json=BODY | {"output_format": {"type": "json_object"}})

    assert answer.status_code == 400


def test_a_stop_sequence_ends_a_message(simulator: Simulator, client: httpx.Client) -> None:
    """
    The text ends before the first of the sequences that comes, which is named.
    """
    simulator.set("wordy", Behaviour(text="One, two STOP three END"))

    answer = client.post(
        "/wordy/v1/messages", json=BODY | {"stop_sequences": ["END", "STOP"]}
    ).json()

    assert answer["content"][0]["text"] == "One, two "
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "STOP")
    assert answer["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("ttl", [None, "1h"])
def test_writes_to_the_cache(simulator: Simulator, client: httpx.Client, ttl: str | None) -> None:
    """
    Of 100 tokens 30 are read from the cache and 20 written: for an hour if asked, else 5 minutes.
    """
    simulator.set(
        "caching", Behaviour(input_tokens=100, cached_input_tokens=30, written_input_tokens=20)
    )
    control = {"type": "ephemeral"} | ({} if ttl is None else {"ttl": ttl})
    system = [{"type": "text", "text": "Be brief", "cache_control": control}]

    usage = client.post("/caching/v1/messages", json=BODY | {"system": system}).json()["usage"]

    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (50, 30)
    assert usage["cache_creation_input_tokens"] == 20
    assert usage["cache_creation"] == {
        "ephemeral_5m_input_tokens": 20 if ttl is None else 0,
        "ephemeral_1h_input_tokens": 0 if ttl is None else 20,
    }


def test_a_named_tool_must_exist(client: httpx.Client) -> None:
    """
    A choice of a tool that is not there is a 400.
    """
    choice = {"type": "tool", "name": "clock"}

    answer = client.post("/v1/messages", json=BODY | {"tools": [WEATHER], "tool_choice": choice})

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [{}, {"model": "c", "messages": BODY["messages"]}, BODY | {"messages": []}],
    ids=["empty", "no cap", "no messages"],
)
def test_a_wrong_request_is_refused(client: httpx.Client, body: dict[str, object]) -> None:
    """
    What Anthropic would refuse is a 400 in its envelope.
    """
    answer = client.post("/v1/messages", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_version_is_required(url: str) -> None:
    """
    A request without `anthropic-version` is a 400, as with the real one.
    """
    answer = httpx.post(f"{url}/v1/messages", json=BODY, headers={"x-api-key": "k"})

    assert "anthropic-version" in answer.json()["error"]["message"]


def test_a_missing_key_is_refused(url: str) -> None:
    """
    No key is a 401 in Anthropic's envelope.
    """
    answer = httpx.post(f"{url}/v1/messages", json=BODY)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "rate_limit_error"), (529, "overloaded_error"), (502, "api_error")],
)
def test_an_injected_error(
    simulator: Simulator, client: httpx.Client, status: int, kind: str
) -> None:
    """
    An injected error has Anthropic's envelope.
    """
    simulator.set("failing", Behaviour(status=status, error_message="No"))

    answer = client.post("/failing/v1/messages", json=BODY)

    assert answer.status_code == status
    assert answer.json() == {"type": "error", "error": {"type": kind, "message": "No"}}


def test_an_error_inside_a_stream(simulator: Simulator, client: httpx.Client) -> None:
    """
    After so many events an `error` event ends the stream.
    """
    simulator.set("torn", Behaviour(stream_error_after_chunks=4))

    events = events_of(client.post("/torn/v1/messages", json=BODY | {"stream": True}).text)

    assert len(events) == 5
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    ("mode", "outputs"), [("none", [None]), ("zero", [0]), ("twice", [20, 40])]
)
def test_modes_of_usage(
    simulator: Simulator, client: httpx.Client, mode: str, outputs: list[int | None]
) -> None:
    """
    A stream reports no usage, zeros, or twice with the right number last.
    """
    simulator.set(mode, Behaviour.from_json({"usage": mode, "output_tokens": 40}))

    events = events_of(client.post(f"/{mode}/v1/messages", json=BODY | {"stream": True}).text)

    deltas = [data for name, data in events if name == "message_delta"]
    assert [data.get("usage", {}).get("output_tokens") for data in deltas] == outputs
