"""
Who may ask, for whom and how: each refusal in OpenAI's envelope, before anything costs money.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fixtures.world import CUSTOMER_HEADER, MESSAGES, World, deployment, operation, running, tiers

from relay_middleware import admission
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.ledger.operations import CustomerChange, revoke_key, set_status, set_tier
from relay_middleware.testing import Simulator

pytestmark = pytest.mark.anyio

BODY = {"model": "smart", "messages": MESSAGES}


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    return Simulator()


@pytest.fixture(name="provider")
async def _provider(simulator: Simulator) -> AsyncIterator[str]:
    async with simulator.serve() as url:
        yield url


def configuration(provider: str, **customers: object) -> dict[str, object]:
    base = tiers()
    section = {"headers": ["X-ModelRelay-Customer-Id", CUSTOMER_HEADER], "default_tier": "free"}
    return {
        "model_list": [
            deployment(provider),
            deployment(provider, name="other"),
            deployment(provider, name="unpriced", model="my-own-model"),
        ],
        "tiers": {
            **base["tiers"],  # type: ignore[dict-item]  # the sections are plain mappings
            "narrow": {"models": ["smart"], "default_model": "smart"},
        },
        "customers": {**section, **customers},
    }


@pytest.fixture(name="world")
async def _world(tmp_path: Path, simulator: Simulator, provider: str) -> AsyncIterator[World]:
    async with running(tmp_path, configuration(provider), simulator) as world:
        yield world


async def assert_refused(world: World, answer: httpx.Response, status_code: int, code: str) -> None:
    """The envelope is OpenAI's, no provider was called, and no hold is left."""
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status_code, code)
    assert {"message", "type", "param", "code"} <= error.keys()
    assert answer.headers["x-request-id"]
    assert world.simulator.calls() == 0
    await assert_nothing_held(world)


async def assert_nothing_held(world: World) -> None:
    """All of a dollar can be held: the fresh request's remainder says so."""
    answer = await world.post({**BODY, "max_tokens": 1}, customer="alice")
    assert answer.status_code == 200
    cents = answer.json()["cost_cents"] + answer.json()["relay"]["spend_remaining_cents"]
    assert cents == pytest.approx(100, abs=1e-9)


BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "no json": (b"hello", 400, "invalid_json"),
    "truncated": (b'{"model": "smart", "mess', 400, "invalid_json"),
    "empty": (b"", 400, "invalid_json"),
    "a list": (b"[]", 400, "invalid_type"),
    "NaN": (b'{"model": NaN}', 400, "invalid_json"),
    "lone surrogate": (b'{"model": "\\ud800"}', 400, "invalid_json"),
    "messages no list": (b'{"model":"smart","messages":"hi"}', 400, "invalid_type"),
    "empty messages": (b'{"model":"smart","messages":[]}', 400, "empty_array"),
    "deep": (b'{"messages":' + b"[" * 500 + b"]" * 500 + b"}", 400, "nested_too_deeply"),
    "deeper": (b"[" * 100_000, 400, "invalid_json"),
    "a million lists": (b"[" + b"[]," * 1_000_000 + b"0]", 400, "too_many_values"),
    "too large": (b" " * (40 * 1024 * 1024), 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_bad_bodies(world: World, name: str) -> None:
    """
    What is no proper JSON request is refused, also 40 MB of it, and the client gets to read why.
    """
    content, status_code, code = BAD_BODIES[name]

    await assert_refused(world, await world.post(content=content), status_code, code)


@pytest.mark.parametrize(
    ("more", "status_code", "code"),
    [
        ({"max_tokens": -1}, 400, "invalid_value"),
        ({"max_tokens": 1.5}, 400, "invalid_type"),
        ({"n": 1000}, 400, "invalid_value"),
        ({"stream": "yes"}, 400, "invalid_type"),
        ({"model": "nope"}, 404, "model_not_found"),
        ({"model": "unpriced"}, 400, "model_not_priced"),
        ({"api_base": "http://evil.example"}, 400, "forbidden_parameter"),
        ({"web_search_options": {}}, 400, "cannot_be_bounded"),
    ],
)
async def test_bad_members(
    world: World, more: dict[str, object], status_code: int, code: str
) -> None:
    """
    Wrong members are refused by name.
    """
    await assert_refused(world, await world.post({**BODY, **more}), status_code, code)


async def test_compressed_body(world: World) -> None:
    """
    A compressed body is not unpacked.
    """
    answer = await world.post(
        content=gzip.compress(json.dumps(BODY).encode()), headers={"Content-Encoding": "gzip"}
    )

    await assert_refused(world, answer, 415, "unsupported_content_encoding")


async def test_chunked_body_is_bounded_too(world: World) -> None:
    """
    A body without a length is refused once it has passed the bound.
    """

    async def forty_megabytes() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1024 * 1024

    answer = await world.http.post(
        f"{world.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {world.secret}", CUSTOMER_HEADER: "alice"},
        content=forty_megabytes(),
    )

    await assert_refused(world, answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("customer", "status_code", "code"),
    [
        (None, 400, "customer_required"),
        ("", 400, "invalid_customer_id"),
        ("a" * 300, 400, "invalid_customer_id"),
        ('{"session":"1"}', 400, "invalid_customer_id"),
        ("a b", 400, "invalid_customer_id"),
    ],
)
async def test_bad_customers(
    world: World, customer: str | None, status_code: int, code: str
) -> None:
    """
    No customer, or what is no customer id, is refused; nobody is created.
    """
    await assert_refused(world, await world.post(customer=customer), status_code, code)


async def test_two_customers(world: World) -> None:
    """
    Two headers that name different customers are refused.
    """
    answer = await world.post(headers={"X-ModelRelay-Customer-Id": "bob"})

    await assert_refused(world, answer, 400, "invalid_customer_id")


async def test_control_characters_in_a_header(world: World) -> None:
    """
    A header with a control character is a 400 before it is anything else.
    """
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Customer-Id: a\x01b\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )

    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 4")
    assert world.simulator.calls() == 0


@pytest.mark.parametrize("secret", [None, "mr_sk_unknown", "é"])
async def test_bad_keys(world: World, secret: str | None) -> None:
    """
    No key, or one that nobody has created, is a 401.
    """
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}".encode()}
    answer = await world.http.post(
        f"{world.url}/v1/chat/completions",
        headers={CUSTOMER_HEADER.encode(): b"alice", **{k.encode(): v for k, v in headers.items()}},  # type: ignore[union-attr]  # bytes on purpose
        json=BODY,
    )

    await assert_refused(world, answer, 401, "invalid_api_key")


async def test_bound_key(world: World) -> None:
    """
    A key bound to bob bills bob without a header, may not name alice, and is not shown the cost.
    """
    _, secret = await world.new_key(KeyRight.CUSTOMER, "bob")
    headers = {"Authorization": f"Bearer {secret}"}

    own = await world.post(headers=headers, customer=None)
    other = await world.post(headers=headers, customer="alice")

    assert own.json()["relay"]["customer_id"] == "bob"
    assert "provider_cost_nano_usd" not in own.json()["relay"]
    assert other.json()["error"]["code"] == "customer_forbidden"


async def test_management_key(world: World) -> None:
    """
    A key for management makes no requests.
    """
    _, secret = await world.new_key(KeyRight.MANAGEMENT)

    answer = await world.post(headers={"Authorization": f"Bearer {secret}"})

    await assert_refused(world, answer, 403, "customer_forbidden")


async def test_revoked_key(world: World) -> None:
    """
    A revoked key stops working at the next look at the revision, which comes every second.
    """
    key, secret = await world.new_key(KeyRight.NAME_CUSTOMERS)
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await world.post(headers=headers)).status_code == 200

    await revoke_key(world.database, operation(), key.api_key_id)
    await world.relay.refresh()

    assert (await world.post(headers=headers)).status_code == 401


async def test_blocked_customer(world: World) -> None:
    """
    A blocked customer is refused until it is let in again.
    """
    change = CustomerChange(customer_id=CustomerId("alice"), tier="free")
    await set_status(world.database, operation(), change, CustomerStatus.BLOCKED)
    await world.relay.refresh()
    blocked = await world.post()
    await set_status(world.database, operation(), change, CustomerStatus.ACTIVE)
    await world.relay.refresh()

    await assert_refused(world, blocked, 403, "customer_blocked")


async def test_tier_decides_the_models(world: World) -> None:
    """
    On a tier of one model another is refused, the list shows one, and no model means the default.
    """
    change = CustomerChange(customer_id=CustomerId("bob"), tier="narrow")
    await set_tier(world.database, operation(), change)

    refused = await world.post({**BODY, "model": "other"}, customer="bob")
    default = await world.post({"messages": MESSAGES}, customer="bob")
    async with world.client("bob") as client:
        models = await client.models.list()

    assert refused.json()["error"]["code"] == "model_not_allowed"
    assert default.json()["relay"]["model"] == "smart"
    assert [model.id for model in models.data] == ["smart"]


async def test_unpriced_model_is_served_to_the_unlimited(world: World) -> None:
    """
    Without a spend limit a model without a price is served, and says that it has none.
    """
    config_tier = CustomerChange(customer_id=CustomerId("bob"), tier="narrow")
    await set_tier(world.database, operation(), config_tier)
    answer = await world.post(customer="bob")

    assert answer.status_code == 200
    assert "is_priced" not in answer.json()["relay"]


async def test_a_request_that_could_not_be_counted(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    2^31 - 1 tokens at a cent each could cost 21 million USD, which few counters would hold: without
    any limit it is refused all the same, and the largest cap that is not, 10^8, is named.
    """
    dear = {"usd_per_million_input_tokens": 0, "usd_per_million_output_tokens": 10_000}
    config = configuration(provider)
    config["model_list"] = [deployment(provider, model="my-own-model")]
    config["prices"] = {"openai/my-own-model": dear}
    async with running(tmp_path, config, simulator) as world:
        await set_tier(
            world.database,
            operation(),
            CustomerChange(customer_id=CustomerId("bob"), tier="narrow"),
        )
        body = {**BODY, "max_completion_tokens": 2**31 - 1}
        answer = await world.post(body, customer="bob")
        largest = answer.json()["error"]["metadata"]["largest_output_cap_tokens"]

        assert largest == 10**8
        await assert_refused(world, answer, 400, "request_too_costly")


async def test_unknown_customer_may_be_refused(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    With `unknown: reject` a new name is a 403, and one that was created is served.
    """
    config = configuration(provider, unknown="reject")
    async with running(tmp_path, config, simulator) as world:
        unknown = await world.post(customer="bob")
        change = CustomerChange(customer_id=CustomerId("alice"), tier="free")
        await set_tier(world.database, operation(), change)
        await world.relay.refresh()

        await assert_refused(world, unknown, 403, "unknown_customer")


async def test_body_user_is_an_opt_in(tmp_path: Path, simulator: Simulator, provider: str) -> None:
    """
    With `body_user` the body names the customer, unless a header does.
    """
    config = configuration(provider, body_user=True)
    async with running(tmp_path, config, simulator) as world:
        by_body = await world.post({**BODY, "user": "carol"}, customer=None)
        by_header = await world.post({**BODY, "user": "carol"}, customer="alice")

    assert by_body.json()["relay"]["customer_id"] == "carol"
    assert by_header.json()["relay"]["customer_id"] == "alice"


async def test_new_customers_are_in_the_books(world: World) -> None:
    """
    A new name is a customer of the default tier, in SQL too.
    """
    await world.post(customer="dave")

    await world.relay.drain()
    async with world.database.connect() as connection:
        rows = await connection.exec_driver_sql("SELECT id, tier FROM customer")
        assert ("dave", "free") in {tuple(row) for row in rows}


async def test_first_requests_at_once_create_once(world: World) -> None:
    """
    50 first requests of one customer at once count as one new customer: of 600 a minute the next
    one is the second, and leaves 598.
    """
    await asyncio.gather(*(world.post(customer="eve") for _ in range(50)))

    (key,) = {row["api_key_id"] for row in await world.ledger()}
    count = await world.relay.services.rates.hit(f"key:{key}", ["600/minute"])
    assert [status.remaining_requests for status in count.counted] == [598]


async def test_too_many_new_customers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Above its rate a key makes no more customers, and those that it made are served.
    """
    monkeypatch.setattr(admission, "NEW_CUSTOMERS", "2/day")

    codes = [(await world.post(customer=name)).status_code for name in ("a", "b", "c", "c", "a")]

    assert codes == [200, 200, 429, 429, 200]


@pytest.mark.parametrize(
    ("method", "path", "status_code", "code"),
    [
        ("POST", "/v1/nope", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("GET", "/nope", 404, "unknown_url"),
    ],
)
async def test_unknown_paths(
    world: World, method: str, path: str, status_code: int, code: str
) -> None:
    """
    What is not there is told in the envelope, outside the prefix too.
    """
    answer = await world.http.request(
        method, f"{world.url}{path}", headers={"Authorization": f"Bearer {world.secret}"}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (status_code, code)


@pytest.mark.parametrize(("path", "expected"), [("healthz", "alive"), ("readyz", "ready")])
async def test_health(world: World, path: str, expected: str) -> None:
    """
    Health and readiness need no key.
    """
    answer = await world.http.get(f"{world.url}/{path}")

    assert (answer.status_code, answer.json()["status"]) == (200, expected)
