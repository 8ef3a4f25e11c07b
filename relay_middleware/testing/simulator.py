"""
The simulator: HTTP servers that look like LLM providers and are clearly none.

For tests, the demo and benchmarks. It speaks OpenAI's chat completions, embeddings and list of
models, and Anthropic's messages. What it answers follows from the request alone (`text`), usage by
a rule that anybody can check (`usage`), and it fails in the ways providers do, on demand
(`behaviour`).

A *profile* is one simulated provider: a path of its own, a behaviour and counters. `/v1/…` is the
profile `default`, `/NAME/v1/…` the profile NAME; so two deployments of one model can point at one
server, `http://127.0.0.1:9000/dead/v1` and `http://127.0.0.1:9000/live/v1`. A profile that was
never set behaves well. Any API key is taken, none is a 401.

Another process steers it over HTTP:

- `GET /simulator/calls`: how many calls were received and how many clients went away, in all and by
  profile.
- `GET /simulator/requests`: the latest calls, oldest first.
- `PUT /simulator/profiles/NAME` with the JSON of a `Behaviour`: set it.
- `POST /simulator/reset`: forget calls and behaviours.

A call is a POST under `/v1/`, whatever its answer. It counts when its body has been received.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from relay_middleware.testing.anthropic_wire import ANTHROPIC, messages_reply
from relay_middleware.testing.behaviour import Behaviour, BehaviourError
from relay_middleware.testing.calls import CallLog, RecordedCall
from relay_middleware.testing.embeddings import embeddings_reply
from relay_middleware.testing.openai_wire import OPENAI, chat_reply, models_body
from relay_middleware.testing.playing import Ending, play
from relay_middleware.testing.reply import (
    BodyReply,
    Endpoint,
    RefusedError,
    Reply,
    Wire,
)
from relay_middleware.testing.script import Step, body_script, stream_script
from relay_middleware.testing.server import serving, serving_in_thread

DEFAULT_PROFILE = "default"

_ENDPOINT_BY_PATH: Mapping[str, Endpoint] = {
    "chat/completions": Endpoint(wire=OPENAI, reply=chat_reply),
    "embeddings": Endpoint(wire=OPENAI, reply=embeddings_reply),
    "messages": Endpoint(wire=ANTHROPIC, reply=messages_reply),
}


class Simulator:
    """
    Simulated providers, one for each profile, and what they have received.

    `app` is the ASGI application. The methods may be called from other threads than the one that
    serves. Cuts need `serve` or `run_in_thread`; all else works with any ASGI server.

    Args:
        kept_requests: How many of the latest calls `requests` keeps.
    """

    def __init__(self, *, kept_requests: int = 1000) -> None:
        self._log = CallLog(kept_requests)
        # With each behaviour the number of calls before it: `fail_first` counts from there.
        self._behaviours: dict[str, tuple[Behaviour, int]] = {}
        provider = _Provider(self._log, self._behaviour)
        self.app = Starlette(
            routes=[
                Route("/simulator/calls", self._show_calls, methods=["GET"]),
                Route("/simulator/requests", self._show_requests, methods=["GET"]),
                Route("/simulator/profiles/{profile}", self._put_profile, methods=["PUT"]),
                Route("/simulator/reset", self._post_reset, methods=["POST"]),
                Route("/v1/{path:path}", provider),
                Route("/{profile}/v1/{path:path}", provider),
            ]
        )

    def set(self, profile: str, behaviour: Behaviour) -> None:
        """Answer the calls of *profile* like this from now on."""
        self._behaviours[profile] = (behaviour, self._log.calls(profile))

    def calls(self, profile: str | None = None) -> int:
        """Return how many calls *profile* has received, or all profiles for None."""
        return self._log.calls(profile)

    def disconnects(self, profile: str | None = None) -> int:
        """Return how many clients went away before their answer was finished."""
        return self._log.disconnects(profile)

    @property
    def requests(self) -> tuple[RecordedCall, ...]:
        """The latest calls, oldest first."""
        return self._log.recent()

    def reset(self) -> None:
        """Forget calls, counters and behaviours."""
        self._behaviours = {}
        self._log.clear()

    def wait_for_calls(
        self, count: int, profile: str | None = None, *, timeout_s: float = 5.0
    ) -> bool:
        """
        Block until `calls` is at least *count*; False if it is not within *timeout_s*.

        For another thread than the one that serves: from its loop, use `asyncio.to_thread`.
        """
        return self._log.wait_until(lambda: self._log.calls(profile) >= count, timeout_s)

    def wait_for_disconnects(
        self, count: int, profile: str | None = None, *, timeout_s: float = 5.0
    ) -> bool:
        """Block until `disconnects` is at least *count*, as `wait_for_calls` does."""
        return self._log.wait_until(lambda: self._log.disconnects(profile) >= count, timeout_s)

    def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AbstractAsyncContextManager[str]:
        """
        Serve in the running loop while the context lasts; it gives the address, without `/v1`.

        Takes no signals. Port 0 is any free one.

        Raises:
            NotLoopbackError: On entering; *host* is not this machine's loopback.
            OSError: On entering; the port is taken.
        """
        return serving(self.app, host=host, port=port)

    def run_in_thread(
        self, *, host: str = "127.0.0.1", port: int = 0
    ) -> AbstractContextManager[str]:
        """Serve in a thread of its own while the context lasts; otherwise as `serve`."""
        return serving_in_thread(self.app, host=host, port=port)

    def _behaviour(self, call: RecordedCall) -> Behaviour:
        behaviour, calls_before = self._behaviours.get(call.profile, (_HEALTHY, 0))
        return behaviour.for_call(call.number - calls_before)

    async def _show_calls(self, _request: Request) -> Response:
        return _json(self._log.counts())

    async def _show_requests(self, _request: Request) -> Response:
        return _json([call.to_json() for call in self._log.recent()])

    async def _put_profile(self, request: Request) -> Response:
        try:
            behaviour = Behaviour.from_json(orjson.loads(await request.body()))
        except (BehaviourError, orjson.JSONDecodeError) as error:
            return _json({"error": {"message": str(error)}}, status=400)
        self.set(request.path_params["profile"], behaviour)
        return Response(status_code=204)

    async def _post_reset(self, _request: Request) -> Response:
        self.reset()
        return Response(status_code=204)


class _Provider:
    """The ASGI application of everything under `/v1/`."""

    def __init__(self, log: CallLog, behaviour_of: Callable[[RecordedCall], Behaviour]) -> None:
        self._log = log
        self._behaviour_of = behaviour_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = dict(request.headers)
        if request.method != "POST":
            steps = body_script(_get_reply(request, headers), _HEALTHY)
            await play(steps, scope, receive, send)
            return
        try:
            body = await request.body()
        except ClientDisconnect:
            # Not a call: a provider would have had nothing to answer.
            return
        call = self._log.record(
            profile=request.path_params.get("profile", DEFAULT_PROFILE),
            method=request.method,
            path=scope["path"],
            headers=headers,
            body=body,
        )
        endpoint = _ENDPOINT_BY_PATH.get(request.path_params["path"], _NO_ENDPOINT)
        has_key = endpoint.wire.has_key(headers)
        ending = await play(
            _steps(call, self._behaviour_of(call), endpoint, has_key=has_key), scope, receive, send
        )
        if ending is Ending.CLIENT_GONE:
            self._log.record_disconnect(call.profile)


def _steps(
    call: RecordedCall, behaviour: Behaviour, endpoint: Endpoint, *, has_key: bool
) -> tuple[Step, ...]:
    headers = {
        "x-request-id": f"req_sim_{call.profile}_{call.number}",
        "x-simulator": "simulated answer, not from a model",
    }
    reply = _reply(call, behaviour, endpoint, has_key=has_key)
    if isinstance(reply, BodyReply):
        with_headers = BodyReply(
            status=reply.status, body=reply.body, headers={**headers, **reply.headers}
        )
        return body_script(with_headers, behaviour)
    error = endpoint.wire.error_event(_injected(behaviour, status=500))
    return stream_script(reply, behaviour, headers, error)


def _reply(call: RecordedCall, behaviour: Behaviour, endpoint: Endpoint, *, has_key: bool) -> Reply:
    if not has_key:
        return _refusal(endpoint.wire, _no_key())
    if behaviour.status is not None:
        retry_after_s = behaviour.retry_after_s
        headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        error = _injected(behaviour, status=behaviour.status)
        return _refusal(endpoint.wire, error, headers=headers)
    try:
        return endpoint.reply(call, behaviour)
    except RefusedError as error:
        return _refusal(endpoint.wire, error)


def _injected(behaviour: Behaviour, *, status: int) -> RefusedError:
    return RefusedError(
        behaviour.error_message,
        status=status,
        code=behaviour.error_code,
        param=behaviour.error_param,
    )


def _refusal(
    wire: Wire, error: RefusedError, *, headers: Mapping[str, str] | None = None
) -> BodyReply:
    return BodyReply(status=error.status, body=wire.error_body(error), headers=headers or {})


def _no_key() -> RefusedError:
    return RefusedError("You didn't provide an API key.", status=401)


def _no_such_path() -> RefusedError:
    return RefusedError("The simulated provider has no such path.", status=404, code="unknown_url")


def _get_reply(request: Request, headers: Mapping[str, str]) -> BodyReply:
    if not (OPENAI.has_key(headers) or ANTHROPIC.has_key(headers)):
        return _refusal(OPENAI, _no_key())
    if request.method == "GET" and request.path_params["path"] == "models":
        return BodyReply(status=200, body=models_body(), headers={})
    return _refusal(OPENAI, _no_such_path())


def _unknown_path(_call: RecordedCall, _behaviour: Behaviour) -> Reply:
    raise _no_such_path()


def _json(content: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


_HEALTHY = Behaviour()
_NO_ENDPOINT = Endpoint(wire=OPENAI, reply=_unknown_path)
