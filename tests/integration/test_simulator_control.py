"""
Serving simulated providers, steering them from outside, and what they tell of their calls.
"""

import asyncio
import json
import signal
import socket

import httpx
import pytest

from relay_middleware.testing import Behaviour, NotLoopbackError, Simulator

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello you"}]}


def test_models_are_listed_and_not_counted(simulator: Simulator, client: httpx.Client) -> None:
    """
    The list of models is no call.
    """
    answer = client.get("/list/v1/models").json()

    assert [model["id"] for model in answer["data"]] == ["sim-small", "sim-large"]
    assert simulator.calls("list") == 0


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic abc"])
def test_a_missing_key_is_refused(
    simulator: Simulator, url: str, authorization: str | None
) -> None:
    """
    Any key is taken, none is a 401, which counts as a call.
    """
    headers = {} if authorization is None else {"Authorization": authorization}
    before = simulator.calls("keyless")

    answer = httpx.post(f"{url}/keyless/v1/chat/completions", json=CHAT, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert simulator.calls("keyless") == before + 1


def test_an_unknown_path_is_counted_and_refused(simulator: Simulator, client: httpx.Client) -> None:
    """
    A POST to a path that is not simulated is a 404, and a call that a test can see.
    """
    answer = client.post("/paths/v1/responses", json={})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert simulator.calls("paths") == 1
    assert client.get("/paths/v1/files").status_code == 404


def test_calls_are_recorded_without_their_key(simulator: Simulator, client: httpx.Client) -> None:
    """
    A recorded call has the body's bytes as they came, and of the key its last four characters.
    """
    body = b'{"model": "m",   "messages": [{"role":"user","content":"\xc3\xa9"}]}'

    client.post("/recorded/v1/chat/completions", content=body)

    (call,) = [call for call in simulator.requests if call.profile == "recorded"]
    assert (call.number, call.method, call.path) == (1, "POST", "/recorded/v1/chat/completions")
    assert call.body == body
    assert call.headers["authorization"] == "1234"


def test_control_over_http() -> None:
    """
    Another process can set a profile, read the counters and the calls, and reset everything.
    """
    simulator = Simulator(kept_requests=2)
    with (
        simulator.run_in_thread() as url,
        httpx.Client(base_url=url, headers={"Authorization": "Bearer k"}) as client,
    ):
        assert client.put("/simulator/profiles/dead", json={"status": 503}).status_code == 204
        statuses = [
            client.post(f"{prefix}/v1/chat/completions", json=CHAT).status_code
            for prefix in ("/dead", "/live", "")
        ]
        calls = client.get("/simulator/calls").json()
        requests = client.get("/simulator/requests").json()
        assert client.post("/simulator/reset").status_code == 204
        after = client.get("/simulator/calls").json()
        healed = client.post("/dead/v1/chat/completions", json=CHAT).status_code

    assert statuses == [503, 200, 200]
    assert calls["total"] == 3
    assert calls["by_profile"] == {"dead": 1, "live": 1, "default": 1}
    assert [request["profile"] for request in requests] == ["live", "default"]
    assert json.loads(requests[0]["body"]) == CHAT
    assert (after["total"], healed) == (0, 200)


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"{", "JSON"), (b'{"latency":1}', "unknown: latency")],
    ids=["no JSON", "unknown member"],
)
def test_a_wrong_behaviour_over_http_is_refused(
    client: httpx.Client, body: bytes, message: str
) -> None:
    """
    A behaviour that cannot be is a 400 that says why.
    """
    answer = client.put("/simulator/profiles/wrong", content=body)

    assert answer.status_code == 400
    assert message.lower() in (answer.json()["error"]["message"] + " json").lower()


@pytest.mark.anyio
async def test_serving_in_the_running_loop() -> None:
    """
    `serve` needs no thread, takes no signals, and ends although an answer is under way.
    """
    simulator = Simulator()
    simulator.set("default", Behaviour(stall="after_headers"))
    handler = signal.getsignal(signal.SIGINT)

    async with simulator.serve() as url, httpx.AsyncClient() as client:
        assert signal.getsignal(signal.SIGINT) is handler
        request = client.build_request(
            "POST",
            f"{url}/v1/chat/completions",
            json=CHAT | {"stream": True},
            headers={"Authorization": "Bearer k"},
        )
        response = await client.send(request, stream=True)

    assert response.status_code == 200
    await response.aclose()
    assert await asyncio.to_thread(simulator.wait_for_disconnects, 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.invalid"])  # noqa: S104
def test_only_loopback_is_served(host: str) -> None:
    """
    An address that other machines could reach is refused.
    """
    with (
        pytest.raises(NotLoopbackError, match="listen on loopback only"),
        Simulator().run_in_thread(host=host),
    ):
        pass


def test_a_port_that_is_taken_is_an_error() -> None:
    """
    The caller of `run_in_thread` gets the error of its thread.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), Simulator().run_in_thread(port=port):
            pass
