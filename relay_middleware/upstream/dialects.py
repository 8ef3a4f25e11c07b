"""
Dialects: how the providers that speak OpenAI's wire differ from each other.

Rules for editors. A provider stands here when its wire takes a client's body as it came; each row
names what it was read from. All others need a translation, also some that call their wire OpenAI's:

- `mistral` answers 422 to members that it does not know, `max_completion_tokens` among them
  (mistralai/platform-docs-public issue 7, editor-code-assistant/eca issue 231, read 2026-11-24).
- `deepseek` wants its reasoning handed back, and texts instead of lists of parts; `fireworks_ai`
  knows models by longer names than LiteLLM does, `sambanova` takes texts only (LiteLLM 1.106.2,
  `llms/deepseek/chat/`, `llms/fireworks_ai/chat/`, `llms/sambanova/chat.py`).
- `openrouter` lets a body name other models, and bills the price of the one that answers
  (OpenRouter, "Model fallbacks", read 2026-11-24): the endpoint's list keeps those out.
- `together_ai` does not say that it takes `stream_options` (togethercomputer/together-py,
  `types/chat/completion_create_params.py`, read 2026-11-24).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import UpstreamCall

_OUTPUT_CAP_FIELDS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    One provider's wire. The key goes into `Authorization: Bearer` with all of them.

    Attributes:
        base_url: Where the provider listens, unless the deployment says otherwise; None where only
            the deployment can.
        output_cap_field: Member that caps the output, written where the client named none.
        reasoning_in_output: Whether `completion_tokens` includes the reasoning.
        is_reasoning_capped: Whether the output cap bounds the reasoning too. Where not, only the
            model's own limit bounds the output. None: the provider does not say, so it is believed
            of models only that are not known to reason.
    """

    base_url: str | None
    output_cap_field: str
    reasoning_in_output: bool = True
    is_reasoning_capped: bool | None = True


# Source: OpenAI API reference, "Create chat completion", read 2026-11-23: `max_completion_tokens`
# bounds visible and reasoning tokens, `max_tokens` is deprecated and refused by reasoning models.
_OPENAI = Dialect(base_url="https://api.openai.com/v1", output_cap_field="max_completion_tokens")

# Source: the servers that take `openai/` with an address (vLLM, "OpenAI-compatible server"; Ollama,
# "OpenAI compatibility"; llama.cpp server; read 2026-11-23): all know `max_tokens`, few the other.
_OPENAI_COMPATIBLE = Dialect(base_url=None, output_cap_field="max_tokens")

DIALECT_BY_PROVIDER: Mapping[str, Dialect] = {
    "openai": _OPENAI,
    # Source: xAI, "Chat completions" of the REST API reference, read 2026-11-23: `max_tokens` is
    # deprecated, `max_completion_tokens` bounds the *visible* tokens, and `reasoning_tokens` are
    # counted beside `completion_tokens`.
    "xai": Dialect(
        base_url="https://api.x.ai/v1",
        output_cap_field="max_completion_tokens",
        reasoning_in_output=False,
        is_reasoning_capped=False,
    ),
    # Source: Groq API reference, "Creates a model response for the given chat conversation"
    # (`POST https://api.groq.com/openai/v1/chat/completions`, bearer token, `max_tokens`,
    # `stream_options`, `usage` with OpenAI's counts), read 2026-11-23.
    "groq": Dialect(
        base_url="https://api.groq.com/openai/v1",
        output_cap_field="max_tokens",
        is_reasoning_capped=None,
    ),
    # Source: Cerebras' own Python client (`POST https://api.cerebras.ai/v1/chat/completions`,
    # bearer token, `types/chat/completion_create_params.py`: `max_completion_tokens` bounds visible
    # and reasoning tokens, `max_tokens` is deprecated, `stream_options.include_usage`), read
    # 2026-11-24. Recorded answers of theirs count the reasoning within `completion_tokens`.
    "cerebras": Dialect(
        base_url="https://api.cerebras.ai/v1", output_cap_field="max_completion_tokens"
    ),
    # Source: vLLM, "OpenAI-compatible server" (`--api-key` as bearer token) and
    # `vllm/entrypoints/openai/protocol.py` (both caps bound all that is generated,
    # `stream_options.include_usage`, unknown members are ignored), read 2026-11-24.
    "hosted_vllm": _OPENAI_COMPATIBLE,
}


_DIALECT_BY_HOST: Mapping[str | None, Dialect] = {
    urlsplit(dialect.base_url or "").hostname: dialect for dialect in DIALECT_BY_PROVIDER.values()
}

_OPENAIS_MODEL = re.compile(r"(?:.*/)?(?:ft:)?(?:gpt-\d|o\d|chatgpt-|codex-)")
"""Names of models that OpenAI serves, also behind a gateway. Its newer ones refuse `max_tokens`."""


def is_direct(provider: str) -> bool:
    """Say whether *provider* speaks OpenAI's wire, so that nothing is translated."""
    return provider in DIALECT_BY_PROVIDER


def dialect_of(deployment: Deployment) -> Dialect:
    """
    Return the dialect that *deployment* speaks; its provider is a direct one.

    An address of one of them, also of a region's (`eu.api.openai.com`), says it of `openai/` too.
    """
    return _dialect_at(deployment.provider, deployment.api_base)


@cache
def _dialect_at(provider: str, api_base: str | None) -> Dialect:
    """The set of both is the configuration's, so the cache does not grow."""
    dialect = DIALECT_BY_PROVIDER[provider]
    if dialect is not _OPENAI or api_base is None:
        return dialect
    host = urlsplit(api_base).hostname or ""
    _, _, without_region = host.partition(".")
    for name in (host, without_region):
        if name in _DIALECT_BY_HOST:
            return _DIALECT_BY_HOST[name]
    return _OPENAI_COMPATIBLE


def is_openais(deployment: Deployment) -> bool:
    """Say whether OpenAI itself serves *deployment*."""
    return deployment.provider == "openai" and dialect_of(deployment) is _OPENAI


def url_of(deployment: Deployment, path: str) -> str:
    """
    Return the address of *path*, such as `chat/completions`, at *deployment*.
    """
    base_url = deployment.api_base or dialect_of(deployment).base_url or ""
    return f"{base_url.rstrip('/')}/{path}"


def authorization_of(deployment: Deployment) -> dict[str, str]:
    """Return the header that says who is asking; none where the server asks nobody."""
    if deployment.api_key is None:
        return {}
    return {"Authorization": f"Bearer {deployment.api_key}"}


def outgoing_body(call: UpstreamCall, deployment: Deployment) -> dict[str, object]:
    """
    Return the client's body as *deployment* gets it.

    Only the model's name, the output cap, and for a stream the wish for usage are written; the cap
    keeps the name that the client used, if the server knows it. Every other member is the client's,
    in the client's order.
    """
    body = {**call.body, "model": deployment.deployment_model}
    if call.output_cap_tokens is not None:
        cap = output_cap_at(deployment, call.output_cap_tokens)
        if _knows_max_tokens_only(deployment):
            body.pop("max_completion_tokens", None)
        named = [name for name in _OUTPUT_CAP_FIELDS if name in body]
        for name in named or [dialect_of(deployment).output_cap_field]:
            body[name] = cap
    if call.is_stream:
        asked = call.body.get("stream_options")
        options = asked if isinstance(asked, Mapping) else {}
        body["stream_options"] = {**options, "include_usage": True}
    return body


def _knows_max_tokens_only(deployment: Deployment) -> bool:
    """
    Say whether the server may take no notice of `max_completion_tokens`, and write on and on.

    Source: ollama/ollama issue 7125 (a cap of 10 by that name was answered with 422 tokens),
    abetlen/llama-cpp-python issue 1907; read 2026-11-24.
    """
    is_compatible = dialect_of(deployment) is _OPENAI_COMPATIBLE
    return is_compatible and not _OPENAIS_MODEL.match(deployment.deployment_model)


def output_cap_at(deployment: Deployment, cap_tokens: int) -> int:
    """Return *cap_tokens*, or the most that the deployment's model writes where that is less."""
    model_max = deployment.price.max_output_tokens if deployment.price is not None else None
    return cap_tokens if model_max is None else min(cap_tokens, model_max)
