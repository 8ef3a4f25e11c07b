"""
LiteLLM's translation, over sockets, where its own ways would lose something.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fixtures.clock import FakeClock

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall
from relay_middleware.testing import Behaviour, Simulator
from relay_middleware.upstream.failures import DeploymentFailedError
from relay_middleware.upstream.lines import LINE_READERS
from relay_middleware.upstream.translation import Translation

pytestmark = [
    pytest.mark.anyio,
    # LiteLLM's, of pydantic, while it looks whether a chunk is empty.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

GOOGLES = {"gemini", "vertex_ai", "vertex_ai_beta"}
"""These speak a wire that the simulator does not; `tests/acceptance/test_gemini.py` does."""

BASE_BY_PROVIDER = {"anthropic": "", "heroku": ""}
"""What of the address LiteLLM writes itself."""

NOT_ASKED = {"databricks", "mistral"}
"""These are not asked for usage in a stream, and the simulator tells none unasked."""

SAID = "One\u2028two\u2029three\u0085four"


@pytest.fixture(name="translation", scope="module")
async def _translation() -> AsyncIterator[Translation]:
    translation = Translation(clock=FakeClock())
    yield translation
    await translation.aclose()


STREAM = UpstreamCall(
    endpoint=chat.ENDPOINT,
    model="smart",
    body={"model": "smart", "messages": [{"role": "user", "content": "Hello!"}]},
    is_stream=True,
    output_cap_tokens=500,
)


def deployment(provider: str, url: str) -> Deployment:
    """A deployment of *provider* at the simulator."""
    return Deployment(
        deployment_id=DeploymentId(f"{provider}#1"),
        model="smart",
        provider=provider,
        deployment_model="m",
        api_base=f"{url}{BASE_BY_PROVIDER.get(provider, '/v1')}",
        api_key="sk-1",
    )


@pytest.mark.parametrize("provider", sorted(LINE_READERS - GOOGLES))
async def test_separators_do_not_cut_a_stream(translation: Translation, provider: str) -> None:
    """
    A text with U+2028, U+2029 and U+0085 comes whole, and the usage after it: 9 tokens of output.
    """
    simulator = Simulator()
    simulator.set("default", Behaviour(text=SAID, output_tokens=9, chunk_tokens=50))
    async with simulator.serve() as url:
        answer = await translation.send(
            STREAM, deployment(provider, url), on_break=lambda: pytest.fail("it broke")
        )
        assert isinstance(answer, StreamAnswer)
        body = b"".join([chunk async for chunk in answer.chunks])

    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    chunks = [json.loads(line) for line in lines if line != b"[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == SAID
    usages = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    assert usages == ([] if provider in NOT_ASKED else [9])


ADDRESS = "https://pictures.invalid/1.png"
PICTURE = {"type": "image_url", "image_url": {"url": ADDRESS}}
ASKED = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [PICTURE]},
        {"role": "user", "content": [{"type": "image_url", "image_url": f" {ADDRESS}"}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": ADDRESS}}]},
        {"role": "tool", "tool_call_id": "c1", "content": [PICTURE]},
    ],
    ids=["part", "text", "file", "result"],
)
async def test_bedrock_fetches_nothing(
    translation: Translation, message: dict[str, object]
) -> None:
    """
    LiteLLM would fetch what is to be sent to Bedrock, of any size, and what tools answered while
    all else stands still; a client's address is refused instead, before a name is looked up.
    """
    before = [
        {"role": "user", "content": "Look!"},
        {"role": "assistant", "content": None, "tool_calls": [ASKED]},
    ]
    messages = [*(before if message["role"] == "tool" else []), message]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    call = replace(
        STREAM, body={"model": "smart", "messages": messages, "tools": tools}, is_stream=False
    )
    served_by = replace(
        deployment("bedrock", "http://127.0.0.1:1"),
        deployment_model="anthropic.claude-3-haiku-20240307-v1:0",
        credentials={
            "aws_access_key_id": "AKIAX",
            "aws_secret_access_key": "secret",
            "aws_region_name": "us-east-1",
        },
    )

    answer = await translation.send(call, served_by, on_break=lambda: None)

    assert isinstance(answer, RefusedAnswer)
    assert (answer.status_code, answer.code) == (400, "image_not_fetched")


SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/number"}, "b": {"$ref": "#/$defs/number"}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"number": {"type": ["integer", "null"]}},
}
ASKED = {
    "model": "smart",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Add!", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        }
    ],
    "tools": [
        {"type": "function", "function": {"name": "add", "strict": True, "parameters": SCHEMA}}
    ],
}


@pytest.mark.parametrize("provider", ["gemini", "mistral", "anthropic"])
async def test_the_next_deployment_gets_what_the_client_sent(
    translation: Translation, provider: str
) -> None:
    """
    A deployment that fails leaves the request as it was: Gemini's schemas, with references written
    out, would be longer than what was set aside, and refused by OpenAI; marks are Claude's alone.
    """
    asked = json.dumps(ASKED)
    call = replace(STREAM, body=json.loads(asked), is_stream=False)
    simulator = Simulator()
    simulator.set("default", Behaviour(status=500))
    async with simulator.serve() as url:
        with pytest.raises(DeploymentFailedError):
            await translation.send(
                call, deployment(provider, url), on_break=lambda: pytest.fail("it broke")
            )

    assert json.dumps(call.body) == asked
