"""
How simulated providers fail and take their time: statuses, silence, cuts, errors inside streams.
"""

import json
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from relay_middleware.testing import FAKE_HOST, FAKE_KEY, Behaviour, CannotCutError, Simulator
from relay_middleware.testing.behaviour import Stall

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello you"}]}
STREAM = CHAT | {"stream": True}
KEY = {"Authorization": "Bearer sk-test-1234"}


@pytest.fixture(name="impatient")
def _impatient(url: str) -> Iterator[httpx.Client]:
    """
    A client that takes 0.15 s of silence for the end.
    """
    timeout = httpx.Timeout(5, read=0.15)
    with httpx.Client(base_url=url, headers=KEY, timeout=timeout) as client:
        yield client


def post(client: httpx.Client, profile: str, body: object) -> httpx.Response:
    """Call the chat endpoint of *profile*."""
    return client.post(f"/{profile}/v1/chat/completions", json=body)


def received_before_error(
    client: httpx.Client, profile: str, body: object, error: type[httpx.HTTPError]
) -> str:
    """The part of the answer that arrives before reading it raises *error*."""
    received = []
    with client.stream("POST", f"/{profile}/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        with pytest.raises(error):
            received.extend(response.iter_text())
    return "".join(received)


def datas_of(body: str) -> list[str]:
    """The data of a stream's events."""
    return [block.removeprefix("data: ") for block in body.strip().split("\n\n") if block]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "invalid_request_error", "invalid_api_key"),
        (404, "invalid_request_error", "model_not_found"),
        (429, "requests", "rate_limit_exceeded"),
        (503, "server_error", None),
    ],
)
def test_an_error_status(
    simulator: Simulator,
    client: httpx.Client,
    status: int,
    kind: str,
    code: str | None,
) -> None:
    """
    An error comes in OpenAI's envelope; unless told otherwise it names a host and a key.
    """
    simulator.set("status", Behaviour(status=status))

    answer = post(client, "status", STREAM)

    error = answer.json()["error"]
    assert answer.status_code == status
    assert (error["type"], error["code"]) == (kind, code)
    assert FAKE_KEY in error["message"]
    assert FAKE_HOST in error["message"]


def test_the_members_of_an_error(simulator: Simulator, url: str) -> None:
    """
    Message, code, param and `retry-after` are as told, and OpenAI's client understands them.
    """
    behaviour = Behaviour(
        status=429, retry_after_s=7, error_message="Slow", error_code="slow", error_param="n"
    )
    simulator.set("members", behaviour)

    with (
        openai.OpenAI(base_url=f"{url}/members/v1", api_key="k", max_retries=0) as sdk,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        sdk.chat.completions.create(**CHAT)

    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["message"] == "Slow"
    assert (caught.value.code, caught.value.param) == ("slow", "n")


def test_the_first_calls_fail(simulator: Simulator, client: httpx.Client) -> None:
    """
    `fail_first` counts from when the behaviour was set, and every call is counted.
    """
    post(client, "first", CHAT)
    simulator.set("first", Behaviour(status=500, fail_first=2))

    statuses = [post(client, "first", CHAT).status_code for _ in range(4)]

    assert statuses == [500, 500, 200, 200]
    assert simulator.calls("first") == 5


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_silence_before_the_headers(
    simulator: Simulator, impatient: httpx.Client, body: object
) -> None:
    """
    Nothing arrives; that the client goes away is seen and counted.
    """
    simulator.set("silent", Behaviour(stall="before_headers"))
    before = simulator.disconnects("silent")

    with pytest.raises(httpx.ReadTimeout):
        post(impatient, "silent", body)

    assert simulator.wait_for_disconnects(before + 1, "silent")


@pytest.mark.parametrize(
    ("stall", "body", "received"),
    [
        ("after_headers", CHAT, 0),
        ("after_content", CHAT, 1),
        ("after_headers", STREAM, 0),
        ("after_content", STREAM, 2),
    ],
    ids=["whole, headers", "whole, content", "stream, headers", "stream, content"],
)
def test_silence_later(
    simulator: Simulator, impatient: httpx.Client, stall: Stall, body: object, received: int
) -> None:
    """
    The answer stops after its headers, or after its first content, and never ends.
    """
    profile = f"{stall}-{received}"
    simulator.set(profile, Behaviour(stall=stall))

    got = received_before_error(impatient, profile, body, httpx.ReadTimeout)

    assert len(datas_of(got)) == received
    assert simulator.wait_for_disconnects(1, profile)


@pytest.mark.parametrize("stall", ["before_headers", "after_headers", "after_content"])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_silence_may_end(
    simulator: Simulator, client: httpx.Client, stall: Stall, body: object
) -> None:
    """
    After `stall_s` the answer goes on as if nothing had been.
    """
    simulator.set("pause", Behaviour(stall=stall, stall_s=0.01))

    answer = post(client, "pause", body)

    assert answer.status_code == 200
    assert answer.text.rstrip().endswith(("[DONE]", "}}"))
    assert simulator.disconnects("pause") == 0


@pytest.mark.parametrize("burst", [False, True])
@pytest.mark.parametrize(("chunks", "received"), [(0, 0), (3, 3)])
def test_a_stream_is_cut(
    simulator: Simulator, client: httpx.Client, chunks: int, received: int, *, burst: bool
) -> None:
    """
    The connection closes after exactly so many events, without an end of the body.
    """
    simulator.set("cut", Behaviour(cut_after_chunks=chunks, burst=burst))

    got = received_before_error(client, "cut", STREAM, httpx.RemoteProtocolError)

    assert len(datas_of(got)) == received
    assert simulator.disconnects("cut") == 0


def test_a_cut_after_everything(simulator: Simulator, client: httpx.Client) -> None:
    """
    With fewer events than the cut waits for, all arrive and only the body's end is missing.
    """
    simulator.set("late-cut", Behaviour(cut_after_chunks=10_000))

    got = received_before_error(client, "late-cut", STREAM, httpx.RemoteProtocolError)

    assert datas_of(got)[-1] == "[DONE]"


def test_a_body_is_cut(simulator: Simulator, client: httpx.Client) -> None:
    """
    An answer that is not streamed is cut in the middle of its body.
    """
    simulator.set("half", Behaviour(cut_after_chunks=0))

    got = received_before_error(client, "half", CHAT, httpx.RemoteProtocolError)

    assert got.startswith('{"id":"chatcmpl-sim-')
    assert not got.endswith("}")


@pytest.mark.anyio
async def test_a_cut_needs_its_server() -> None:
    """
    In process, where there is no connection, a cut is an error that names what is missing.
    """
    simulator = Simulator()
    simulator.set("default", Behaviour(cut_after_chunks=0))
    transport = httpx.ASGITransport(simulator.app)

    async with httpx.AsyncClient(transport=transport, base_url="http://sim", headers=KEY) as client:
        with pytest.raises(CannotCutError, match=r"relay\.simulator\.cut"):
            await client.post("/v1/chat/completions", json=CHAT)


def test_an_error_inside_a_stream(simulator: Simulator, client: httpx.Client) -> None:
    """
    After so many events comes one with an error; the body ends properly, without `[DONE]`.
    """
    simulator.set("torn", Behaviour(stream_error_after_chunks=2, error_code="overloaded"))

    datas = datas_of(post(client, "torn", STREAM).text)

    assert len(datas) == 3
    error = json.loads(datas[-1])["error"]
    assert (error["type"], error["code"]) == ("server_error", "overloaded")
    assert FAKE_KEY in error["message"]


def test_a_text_is_fixed_and_cut_into_pieces(simulator: Simulator, client: httpx.Client) -> None:
    """
    A fixed text is answered as it stands, in events of `chunk_tokens` tokens.
    """
    simulator.set("fixed", Behaviour(text="abcdefghij", chunk_tokens=1))

    datas = datas_of(post(client, "fixed", STREAM).text)

    deltas = [json.loads(data)["choices"][0]["delta"] for data in datas[1:-2]]
    assert deltas == [{"content": "abcd"}, {"content": "efgh"}, {"content": "ij"}]


def test_a_comment_comes_first(simulator: Simulator, client: httpx.Client) -> None:
    """
    A stream may begin with a comment, which is no event: cuts do not count it.
    """
    simulator.set("comment", Behaviour(comment_first=True, stream_error_after_chunks=0))

    body = post(client, "comment", STREAM).text

    assert body.startswith(': keep-alive\n\ndata: {"error"')


def test_lines_may_end_in_cr_lf(simulator: Simulator, client: httpx.Client) -> None:
    """
    With `crlf` every line of a stream ends in CR LF, comments too.
    """
    simulator.set("crlf", Behaviour(crlf=True, comment_first=True))

    body = post(client, "crlf", STREAM).text

    assert body.startswith(": keep-alive\r\n\r\n")
    assert body.endswith("data: [DONE]\r\n\r\n")
    assert body.count("\n") == body.count("\r\n")


def test_a_burst_is_one_write(simulator: Simulator, client: httpx.Client) -> None:
    """
    With `burst` all events arrive at once, whatever delay is between them.
    """
    simulator.set("burst", Behaviour(burst=True, chunk_delay_s=60, text="a b c"))

    with client.stream("POST", "/burst/v1/chat/completions", json=STREAM) as response:
        pieces = list(response.iter_raw())

    assert len(pieces) == 1
    assert pieces[0].endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("behaviour", "body", "least_s"),
    [
        (Behaviour(latency_s=0.03), CHAT, 0.03),
        (Behaviour(latency_s=0.03, status=500), STREAM, 0.03),
        (Behaviour(first_chunk_delay_s=0.03), STREAM, 0.03),
        # Role, one content, finish, `[DONE]`: three silences between them.
        (Behaviour(chunk_delay_s=0.01, text="a"), STREAM, 0.03),
    ],
    ids=["body", "error", "first chunk", "chunks"],
)
def test_an_answer_takes_its_time(
    simulator: Simulator, client: httpx.Client, behaviour: Behaviour, body: object, least_s: float
) -> None:
    """
    Delays are kept: an answer takes at least as long as they add up to.
    """
    simulator.set("slow", behaviour)
    started_s = time.monotonic()

    post(client, "slow", body)

    assert time.monotonic() - started_s >= least_s


def test_a_client_that_leaves_a_stream_is_counted(
    simulator: Simulator, client: httpx.Client
) -> None:
    """
    Closing a stream before its end is one disconnect; reading one to its end is none.
    """
    post(client, "left", STREAM)
    simulator.set("left", Behaviour(chunk_delay_s=60))

    with client.stream("POST", "/left/v1/chat/completions", json=STREAM) as response:
        assert response.status_code == 200

    assert simulator.wait_for_disconnects(1, "left")
    assert simulator.disconnects("left") == 1
    assert not simulator.wait_for_calls(3, "left", timeout_s=0)
