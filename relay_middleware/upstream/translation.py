"""
The translated wire: one call to one deployment whose provider speaks another wire than OpenAI's,
through LiteLLM's `acompletion` and `aembedding`.

Rules for editors. What LiteLLM is told is made of the operator's configuration and of an
endpoint's allow-list (`parameters.py`), and of nothing else. LiteLLM raises whatever it meets:
`trouble.py` says what becomes of it. Nothing of LiteLLM's own texts reaches a client or a log.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat, embeddings
from relay_middleware.core.sse import DONE, encode
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.ports.stores import Clock
from relay_middleware.upstream.addresses import FETCHING, name_address
from relay_middleware.upstream.answers import Json, to_chat, to_chunk, to_embeddings
from relay_middleware.upstream.failures import TIMED_OUT, DeploymentFailedError
from relay_middleware.upstream.library import litellm
from relay_middleware.upstream.lines import LINE_READERS, ask_for_plain_text, keep_lines
from relay_middleware.upstream.parameters import Arguments, cap_name_of, to_arguments
from relay_middleware.upstream.schemas import Unpack, expand_too_far
from relay_middleware.upstream.streaming import COMMIT_AFTER_S, open_stream
from relay_middleware.upstream.thinking import WISHES, fit_thinking
from relay_middleware.upstream.trouble import (
    Dispatch,
    ImageFetchError,
    SchemaTooLargeError,
    failure_of,
    refusal_of,
)

Answer = WholeAnswer | StreamAnswer | RefusedAnswer

_REQUEST_TYPE_BY_PATH: Mapping[str, str] = {
    chat.PATH: "chat_completion",
    embeddings.PATH: "embeddings",
}
"""The endpoints that are translated, by LiteLLM's word for what they support."""

_JSON_MODE = {"type": "json_object"}
"""OpenAI's wish for JSON of any form."""


class _Model(Protocol):
    """LiteLLM's answers and chunks: pydantic models, with members of the provider's beside."""

    def model_dump(self, *, exclude_none: bool) -> Json: ...


class _Stream(Protocol):
    """`litellm.CustomStreamWrapper`; its chunks are those that it has given, and others beside."""

    chunks: list[object]

    def __aiter__(self) -> AsyncIterator[_Model]: ...

    async def aclose(self) -> None: ...


class _Client(Protocol):
    """`litellm.AsyncHTTPHandler`: a pool of connections."""

    async def close(self) -> None: ...


class Translation:
    """
    Sends calls to deployments of translated providers. Making one imports LiteLLM: seconds.
    """

    def __init__(self, *, clock: Clock, commit_after_s: float = COMMIT_AFTER_S) -> None:
        self._litellm = litellm()
        # Behind the import of the whole: it would begin it otherwise.
        from litellm.litellm_core_utils.prompt_templates.common_utils import (  # noqa: PLC0415
            unpack_defs,
        )

        self._unpack: Unpack = unpack_defs
        self._clock = clock
        self._commit_after_s = commit_after_s
        self._supported: dict[tuple[str, str], frozenset[str]] = {}
        self._json_modes: dict[str, bool] = {}
        self._has_called = False
        self._client: _Client | None = None

    def is_known(self, provider: str) -> bool:
        """Say whether LiteLLM has a provider of that name."""
        return provider in self._litellm.provider_list

    def has_output_cap(self, deployment: Deployment) -> bool:
        """Say whether the provider can be told how long an answer may be."""
        return cap_name_of(self._supported_by(chat.PATH, deployment)) is not None

    async def send(
        self,
        call: UpstreamCall,
        deployment: Deployment,
        *,
        on_break: Callable[[], None],
        wants_complaint: bool = False,
    ) -> Answer:
        """
        Send *call* to *deployment*: as `Wire.send`.

        Raises:
            DeploymentFailedError: There is no answer, and another deployment may give one.
        """
        limits = deployment.timeouts
        rest_s = limits.first_event_s if call.is_stream else limits.non_stream_s
        dispatch = Dispatch(
            deployment=deployment, now=self._clock.now, wants_complaint=wants_complaint
        )
        try:
            arguments = self._arguments(call, deployment)
            async with asyncio.timeout(limits.connect_s + rest_s) as limit:
                answer = await self._call(call, deployment, arguments, dispatch)
                if not call.is_stream:
                    return _whole(call, deployment, arguments, answer)
                stream = await self._opened(answer, dispatch, limit, on_break)
                return replace(stream, dropped=arguments.dropped)
        except TimeoutError:
            raise DeploymentFailedError(deployment.deployment_id, TIMED_OUT) from None
        except Exception as error:
            # LiteLLM raises whatever its translation and its transports meet.
            origin = error.__cause__ if isinstance(error, DeploymentFailedError) else error
            if origin is None:
                raise
            refused = refusal_of(origin, dispatch)
            if refused is not None:
                return refused
            raise failure_of(origin, dispatch) from None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._has_called:
            await self._litellm.close_litellm_async_clients()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _call(
        self, call: UpstreamCall, deployment: Deployment, arguments: Arguments, dispatch: Dispatch
    ) -> Any:  # LiteLLM's own types are not read: `_Model`, or `_Stream` where one is asked for
        limits = deployment.timeouts
        # Not all that LiteLLM does before its call tells of it, so from here on it may be sent.
        call.on_sent(deployment)
        function = (
            self._litellm.aembedding
            if call.endpoint.path == embeddings.PATH
            else self._litellm.acompletion
        )
        self._has_called = True
        # Last what is ours: nothing of a client's could replace it.
        return await function(
            **{
                **arguments.keywords,
                **deployment.credentials,
                "model": f"{deployment.provider}/{deployment.deployment_model}",
                "api_key": deployment.api_key,
                "api_base": deployment.api_base,
                # Ours are shorter; this one only ends what is forgotten.
                "timeout": limits.connect_s + max(limits.non_stream_s, limits.between_chunks_s),
                "max_retries": 0,
                "num_retries": 0,
                # What a parameter's value makes unsupported; the rest is left out already.
                "drop_params": True,
                "logger_fn": dispatch.note,
                "_skip_mcp_handler": True,
                **self._client_for(call, deployment),
            }
        )

    def _client_for(self, call: UpstreamCall, deployment: Deployment) -> Mapping[str, object]:
        """The client that LiteLLM reads lines through, where it takes one."""
        if not call.is_stream or deployment.provider not in LINE_READERS:
            return {}
        if self._client is None:
            hooks = {"request": [ask_for_plain_text], "response": [keep_lines]}
            self._client = self._litellm.AsyncHTTPHandler(event_hooks=hooks)
        return {"client": self._client}

    async def _opened(
        self,
        answer: _Stream,
        dispatch: Dispatch,
        limit: asyncio.Timeout,
        on_break: Callable[[], None],
    ) -> StreamAnswer:
        source = _Source(answer, dispatch)
        try:
            stream = await open_stream(
                dispatch.deployment,
                source,
                limit,
                commit_after_s=self._commit_after_s,
                on_break=on_break,
            )
        except BaseException:
            # Whatever it was, cancellation too: nobody reads on.
            await source.aclose()
            raise
        return replace(stream, early_usage=source.early_usage)

    def _arguments(self, call: UpstreamCall, deployment: Deployment) -> Arguments:
        supported = self._supported_by(call.endpoint.path, deployment)
        arguments = to_arguments(call, deployment, supported=supported)
        keywords = arguments.keywords
        if expand_too_far(keywords, self._unpack):
            raise SchemaTooLargeError
        if deployment.provider in FETCHING and name_address(keywords.get("messages")):
            raise ImageFetchError
        if keywords.get("response_format") == _JSON_MODE and not self._has_json_mode(deployment):
            # LiteLLM would leave it out and say nothing.
            arguments = arguments.without("response_format")
        if any(keywords.get(name) is not None for name in WISHES):
            mapped = self._mapped(deployment, {name: keywords.get(name) for name in WISHES})
            arguments = fit_thinking(arguments, mapped.get("thinking"))
        return arguments

    def _has_json_mode(self, deployment: Deployment) -> bool:
        """Whether the provider can be asked for JSON without a schema; asked for once."""
        key = str(deployment.deployment_id)
        if key not in self._json_modes:
            mapped = self._mapped(deployment, {"response_format": _JSON_MODE})
            # LiteLLM's own note, of which no provider hears.
            told = mapped.keys() - self._mapped(deployment, {}).keys() - {"json_mode"}
            self._json_modes[key] = bool(told)
        return self._json_modes[key]

    def _mapped(self, deployment: Deployment, members: Mapping[str, object]) -> Json:
        """What LiteLLM makes of OpenAI's *members* for the provider; raises what it refuses."""
        mapped: Json = self._litellm.get_optional_params(
            model=deployment.deployment_model,
            custom_llm_provider=deployment.provider,
            drop_params=True,
            **members,
        )
        return mapped

    def _supported_by(self, path: str, deployment: Deployment) -> frozenset[str]:
        """Names of the parameters that the provider's model takes; asked for once."""
        key = (path, str(deployment.deployment_id))
        if key not in self._supported:
            names = self._litellm.get_supported_openai_params(
                deployment.deployment_model,
                custom_llm_provider=deployment.provider,
                request_type=_REQUEST_TYPE_BY_PATH[path],
            )
            self._supported[key] = frozenset(names or ())
        return self._supported[key]


class _Source:
    """A translated stream, as a `streaming.Source` of OpenAI's events."""

    def __init__(self, stream: _Stream, dispatch: Dispatch) -> None:
        self._stream = stream
        self._chunks = aiter(stream)
        self._dispatch = dispatch
        self._is_ended = False

    async def read(self) -> bytes:
        """Return the next event."""
        while not self._is_ended:
            try:
                chunk = await anext(self._chunks, None)
            except Exception as error:
                raise failure_of(error, self._dispatch) from error
            if chunk is None:
                self._is_ended = True
                return encode(DONE)
            if event := self._event(chunk):
                return event
        return b""

    def _event(self, chunk: _Model) -> bytes:
        model = self._dispatch.deployment.deployment_model
        members = to_chunk(chunk.model_dump(exclude_none=True), model)
        if not self._is_reported():
            members.pop("usage", None)
        if not members["choices"] and "usage" not in members:
            return b""
        return encode(orjson.dumps(members))

    def _is_reported(self) -> bool:
        # Where a provider sends no usage LiteLLM counts for itself, which is no provider's word.
        return any(getattr(chunk, "usage", None) is not None for chunk in self._stream.chunks)

    def early_usage(self) -> Mapping[str, object] | None:
        """
        Return what the provider has reported last: Claude does before its answer, and LiteLLM gives
        it to nobody before the end.
        """
        for chunk in reversed(self._stream.chunks):
            usage: _Model | None = getattr(chunk, "usage", None)
            if usage is not None:
                return usage.model_dump(exclude_none=True)
        return None

    async def aclose(self) -> None:
        """Close the provider's connection."""
        await self._stream.aclose()


def _whole(
    call: UpstreamCall, deployment: Deployment, arguments: Arguments, answer: _Model
) -> WholeAnswer:
    given = answer.model_dump(exclude_none=True)
    model = deployment.deployment_model
    if call.endpoint.path == embeddings.PATH:
        is_base64 = call.body.get("encoding_format") == "base64"
        members = to_embeddings(given, model, is_base64=is_base64)
    else:
        members = to_chat(given, model)
    return WholeAnswer(
        deployment=deployment,
        body=orjson.dumps(members),
        members=members,
        dropped=arguments.dropped,
    )
