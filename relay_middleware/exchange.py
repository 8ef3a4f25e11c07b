"""
One request below the prefix, and its response.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import orjson
import structlog

from relay_middleware.admission import Admission, Asked
from relay_middleware.asgi import (
    ClientGoneError,
    ClientWatch,
    Responder,
    Scope,
    Send,
    decode_json,
    encoded,
    read_body,
)
from relay_middleware.bugs import log_bug
from relay_middleware.completion import Completion
from relay_middleware.core import annotation, refusals
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.attribution import collect_headers, named_customer
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.endpoints.table import ENDPOINTS
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.keys import HOST_KEY, ApiKey
from relay_middleware.core.records import NO_ANSWER
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.request_line import RequestLine
from relay_middleware.services import Services

log = structlog.get_logger("relay")

MAX_SHOWN = 80
"""Characters shown of a model's name that nobody has checked."""


def ignore_receipt(_: Receipt) -> None:
    """Do nothing: what happens to the receipts of requests that came over the network."""


class Exchange:
    """Serves one HTTP request. Made for it, and used once."""

    def __init__(
        self,
        services: Services,
        scope: Scope,
        watch: ClientWatch,
        send: Send,
        *,
        path: str,
        customer_id: CustomerId | None = None,
        on_receipt: Callable[[Receipt], None] = ignore_receipt,
    ) -> None:
        """
        Args:
            watch: Watches the client, and gives the request's body before.
            path: Below the prefix, without the leading slash.
            customer_id: The customer for whom the host application vouches. Then no key is asked
                for, and no header names another.
            on_receipt: Called once with what an answer was charged, when it is settled.
        """  # fmt: skip
        self._services = services
        self._path = path
        self._host_customer_id = customer_id
        self._on_receipt = on_receipt
        self._method: str = scope["method"]
        self._headers = collect_headers(scope["headers"])
        self._watch = watch
        self._responder = Responder(send, self._watch, services.waits.writing)
        self._admission = Admission(services)
        self._request_id = services.new_request_id()
        self._line = RequestLine(self._request_id, self._method, path)

    def leave(self) -> None:
        """Take the client for gone: whoever served it was cancelled."""
        self._watch.mark_gone()

    async def run(self) -> None:
        """Answer the request, whatever it is. Never raises but for cancellation."""
        started_s = time.perf_counter()
        try:
            await self._route()
        except ClientGoneError:
            self._line.is_client_gone = True
        except RefusedError as error:
            await self._refuse(error.refusal)
        except StoreUnavailableError as error:
            log.error(  # noqa: TRY400 - a traceback would show the vendor's text
                "enforcement_unavailable", request_id=self._request_id, reason=str(error)
            )
            await self._refuse(refusals.enforcement_unavailable())
        except Exception as error:  # noqa: BLE001 - the request edge: a bug must not go unanswered
            log_bug("request_failed", error, request_id=self._request_id)
            await self._refuse(refusals.internal_error())
        finally:
            self._watch.stop()
            self._line.status = self._responder.status_code or NO_ANSWER
            self._line.is_client_gone = self._watch.is_gone or self._line.is_client_gone
            self._line.duration_ms = round((time.perf_counter() - started_s) * 1000, 3)
            log.info("request_finished", **self._line.facts())

    async def _route(self) -> None:
        method, answer = self._answerer()
        if self._method != method:
            raise RefusedError(refusals.method_not_allowed(self._method, self._path, method))
        await answer()

    def _answerer(self) -> tuple[str, Callable[[], Awaitable[None]]]:
        if endpoint := ENDPOINTS.get(self._path):
            return "POST", partial(self._complete, endpoint)
        if self._path == "models":
            return "GET", self._models
        if self._path.startswith("models/"):
            return "GET", self._model
        there_is = f"there are {', '.join(sorted(ENDPOINTS))} and models"
        raise RefusedError(refusals.unknown_path(self._method, self._path, there_is))

    async def _refuse(self, refusal: Refusal) -> None:
        self._line.code = refusal.code
        if self._responder.status_code is not None:
            return  # too late to say it; the connection ends without an end of the body
        headers = annotation.opening_headers(
            self._request_id, self._line.customer_id, self._line.model
        )
        if self._line.attempts is not None:
            headers.append((b"x-relay-attempts", b"%d" % self._line.attempts))
        headers += encoded(refusal.headers)
        await self._responder.send_json(
            refusal.status_code, headers, orjson.dumps(refusal.envelope())
        )

    async def _complete(self, endpoint: Endpoint) -> None:
        key = await self._key()
        self._line.api_key_id = key.api_key_id
        body = await read_body(
            self._watch.receive,
            self._headers,
            self._services.waits.reading,
            limit_bytes=self._services.max_body_bytes,
        )
        self._watch.start()
        call = endpoint.parse(decode_json(body))
        self._line.is_stream = call.is_stream
        # Cut, because it is logged and sent back although it may be anything yet.
        self._line.model = call.model and call.model[:MAX_SHOWN]
        customer_id = self._customer_id(key, call.user)
        self._line.customer_id = customer_id
        admitted = await self._admission.admit(
            Asked(
                request_id=self._request_id,
                key=key,
                customer_id=customer_id,
                call=call,
                endpoint=endpoint,
                body_bytes=len(body),
            )
        )
        self._line.tier = admitted.tier.name
        self._line.model = admitted.model
        await Completion(
            self._services,
            endpoint,
            admitted,
            responder=self._responder,
            watch=self._watch,
            line=self._line,
            on_receipt=self._on_receipt,
        ).run()

    async def _key(self) -> ApiKey:
        if self._host_customer_id is not None:
            return HOST_KEY
        return await self._admission.authenticate(self._headers)

    def _customer_id(self, key: ApiKey, body_user: object) -> CustomerId:
        if self._host_customer_id is not None:
            return self._host_customer_id
        return self._admission.customer_id(key, self._headers, body_user)

    async def _models(self) -> None:
        models = [_model_object(model) for model in await self._visible_models()]
        await self._send({"object": "list", "data": models})

    async def _model(self) -> None:
        model = self._path.removeprefix("models/")
        if model not in await self._visible_models():
            raise RefusedError(refusals.model_not_found(model))
        await self._send(_model_object(model))

    async def _visible_models(self) -> list[str]:
        """Models that the key may ask for; with a customer, those of its tier."""
        key = await self._key()
        named = named_customer(self._headers, self._services.customer_rules.headers)
        if named is None and key.customer_id is None and self._host_customer_id is None:
            return list(self._services.models)
        customer_id = self._customer_id(key, None)
        self._line.customer_id = customer_id
        _, tier = await self._admission.customer(key, customer_id)
        return [model for model in self._services.models if tier.allows(model)]

    async def _send(self, body: Mapping[str, object]) -> None:
        headers = annotation.opening_headers(self._request_id, self._line.customer_id, None)
        await self._responder.send_json(200, headers, orjson.dumps(body))


def _model_object(model: str) -> dict[str, object]:
    # OpenAI's clients want all four; when a model was made is not ours to know.
    return {"id": model, "object": "model", "created": 0, "owned_by": "relay"}
