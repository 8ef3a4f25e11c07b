"""
An admitted request, from an open hold to an annotated answer.

Rules for editors. It runs in a task that the client's leaving does not cancel: the provider's
answer is read and settled whatever becomes of the client. Once a hold is open every path ends it
through `Settlement`; the `finally` of `run` is the net under all of them.
"""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

import orjson

from relay_middleware.admission import Admitted
from relay_middleware.asgi import ClientWatch, HeaderPairs, Responder
from relay_middleware.core import annotation, refusals
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.records import NO_ANSWER, Attempt, AttemptOutcome
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.sse import EventStreamDecoder, EventTooLongError
from relay_middleware.core.streams import StreamAnnotator
from relay_middleware.core.usage import UsageSource
from relay_middleware.draining import Draining
from relay_middleware.ending import vacate
from relay_middleware.errors import (
    NoDeploymentError,
    StreamBrokenError,
    UpstreamError,
    UpstreamTimeoutError,
)
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.reckoning import Consumption, Reckoning
from relay_middleware.request_line import RequestLine
from relay_middleware.services import Services
from relay_middleware.settlement import Settlement

STREAM_HEADERS: HeaderPairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would collect the events otherwise.
    (b"x-accel-buffering", b"no"),
)

_FREE = frozenset({AttemptOutcome.REFUSED, AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT})
"""Attempts that no customer pays for."""

Answer = WholeAnswer | StreamAnswer | RefusedAnswer


class Completion:
    """Sends one admitted request upstream and answers its client."""

    def __init__(
        self,
        services: Services,
        endpoint: Endpoint,
        admitted: Admitted,
        *,
        responder: Responder,
        watch: ClientWatch,
        line: RequestLine,
        on_receipt: Callable[[Receipt], None],
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._admitted = admitted
        self._responder = responder
        self._watch = watch
        self._line = line
        self._on_receipt = on_receipt
        self._settlement = Settlement(services, admitted)
        self._reckoning = Reckoning(endpoint, admitted)
        # Who has the request, and may be working on it.
        self._at_work: Deployment | None = None
        self._made: list[Attempt] = []
        self._attempts: tuple[Attempt, ...] = ()
        self._annotator: StreamAnnotator | None = None
        self._stream: StreamAnswer | None = None
        self._is_broken = False

    async def run(self) -> None:
        """
        Answer the client, and end the hold.

        Raises:
            RefusedError: No provider gave an answer, or one refused the request as wrong.
        """
        try:
            with Draining(
                self._watch,
                self._services.drains,
                self._admitted.hold.customer_id,
                self._note_gone,
            ):
                answer = await self._receive()
            # Outside of the limit: a settle must not be cut off in its middle.
            await self._conclude(answer)
        except UpstreamError as error:
            raise await self._unanswered(_refusal_of(error), error.attempts) from error
        except TimeoutError:
            # The client has gone, and so has the time in which its answer is read all the same.
            self._line.is_client_gone = True
        finally:
            if not self._settlement.is_ended:
                await self._settle_unfinished()

    def _note_gone(self) -> bool:
        """
        Let the customer's next request in, because nobody waits for this one any more; return
        whether its answer is read on (DESIGN 5.13).
        """
        hold = self._admitted.hold
        if hold.max_concurrency is not None:
            self._services.background.spawn(vacate(self._services, hold))
        return self._reckoning.is_read_on(self._at_work)

    async def _receive(self) -> Answer | None:
        """Have the request answered, a stream to its end; None if the client was gone before."""
        if self._watch.is_gone:
            return None
        # From here on money may be spent: whoever finds this process dead must know.
        self._services.spool.dispatching(self._admitted.hold)
        answer = await self._services.upstream.send(self._call())
        self._attempts = tuple(self._made)
        self._line.tried(self._attempts)
        if isinstance(answer, StreamAnswer):
            # Whatever ends this, the provider is hung up on, and what came is known.
            async with contextlib.aclosing(answer.chunks):
                self._stream = answer
                self._annotator = self._new_annotator(answer.deployment)
                await self._responder.start(200, self._stream_headers(answer))
                self._is_broken = await self._pump(answer, self._annotator)
        return answer

    async def _conclude(self, answer: Answer | None) -> None:
        """Charge *answer*, and send what the client has not got of it."""
        match answer:
            case WholeAnswer(is_too_long=True):
                refusal = refusals.answer_too_long()
                longest = self._reckoning.longest(answer.deployment, has_left=self._watch.is_gone)
                await self._settle(longest, told=refusal.status_code)
                raise RefusedError(refusal)
            case WholeAnswer():
                await self._send_whole(answer)
            case StreamAnswer() if self._annotator is not None:
                await self._end_stream(answer, self._annotator)
            case RefusedAnswer(status_code=status_code, message=message):
                refusal = refusals.provider_refused(
                    status_code, message, code=answer.code, param=answer.param
                )
                raise await self._unanswered(refusal, self._attempts)

    def _call(self) -> UpstreamCall:
        return UpstreamCall(
            endpoint=self._endpoint,
            model=self._admitted.model,
            body=self._admitted.call.body,
            is_stream=self._admitted.call.is_stream,
            output_cap_tokens=self._admitted.output_cap_tokens,
            on_sent=self._note_sent,
            on_attempt=self._note_made,
        )

    def _note_sent(self, deployment: Deployment) -> None:
        self._at_work = deployment

    def _note_made(self, attempt: Attempt) -> None:
        self._made.append(attempt)
        if attempt.outcome in _FREE:
            self._at_work = None

    async def _unanswered(self, refusal: Refusal, attempts: tuple[Attempt, ...]) -> RefusedError:
        """End the hold for nothing, and return what to tell the client."""
        self._line.tried(attempts)
        await self._settlement.release(
            attempts=attempts, status_code=self._told(refusal.status_code)
        )
        return RefusedError(refusal)

    async def _send_whole(self, answer: WholeAnswer) -> None:
        used = self._reckoning.whole(answer, has_left=self._watch.is_gone)
        shown = answer.members.get("usage")
        if used.source is not UsageSource.PROVIDER or not isinstance(shown, Mapping):
            shown = self._endpoint.to_wire(used.usage)
        receipt = await self._settle(used)
        body = annotation.annotated(
            answer.body,
            answer.members,
            usage=shown,
            added=annotation.to_members(receipt, orjson.dumps),
            encode=orjson.dumps,
        )
        headers = [
            *annotation.to_headers(receipt),
            *annotation.dropped_headers(answer.dropped),
            *self._limit_headers(),
        ]
        await self._responder.send_json(200, headers, body)

    def _new_annotator(self, deployment: Deployment) -> StreamAnnotator:
        return StreamAnnotator(
            wants_usage_chunk=self._admitted.call.wants_usage_chunk,
            usage_of=partial(
                self._endpoint.usage_of, reasoning_in_output=deployment.reasoning_in_output
            ),
            output_sizes=self._endpoint.output_sizes,
            decode_json=orjson.loads,
            encode_json=orjson.dumps,
        )

    async def _end_stream(self, answer: StreamAnswer, annotator: StreamAnnotator) -> None:
        used = self._reckoning.stream(answer, annotator, has_left=self._watch.is_gone)
        receipt = await self._settle(used)
        reported = annotator.usage_object if used.source is UsageSource.PROVIDER else None
        last = annotator.finish(
            usage=reported or self._endpoint.to_wire(used.usage),
            added=annotation.to_members(receipt, orjson.dumps),
            error=refusals.upstream_interrupted().envelope() if self._is_broken else None,
        )
        await self._responder.write(last, is_last=True)

    async def _pump(self, answer: StreamAnswer, annotator: StreamAnnotator) -> bool:
        """Pass the stream on to its end; return whether it broke off."""
        decoder = EventStreamDecoder()
        try:
            async for chunk in answer.chunks:
                passed = annotator.feed(decoder.feed(chunk))
                if passed:
                    await self._responder.write(passed)
                if annotator.is_ended:
                    break
            else:
                await self._responder.write(annotator.feed(decoder.rest()))
        except (StreamBrokenError, EventTooLongError):
            return True
        return annotator.is_broken or not (annotator.is_ended or annotator.is_finished)

    async def _settle_unfinished(self) -> None:
        """End the hold of an answer that was given up: for what had come of it, or the most."""
        self._attempts = tuple(self._made)
        self._line.tried(self._attempts)
        has_left = self._watch.is_gone
        if self._stream is not None and self._annotator is not None:
            used = self._reckoning.stream(self._stream, self._annotator, has_left=has_left)
        elif self._at_work is not None:
            used = self._reckoning.unanswered(self._at_work, has_left=has_left)
        else:
            await self._settlement.release(
                attempts=self._attempts, status_code=self._told(NO_ANSWER)
            )
            return
        await self._settle(used)

    def _told(self, status_code: int) -> int:
        """What the client gets: *status_code*, unless it has gone."""
        is_gone = self._watch.is_gone
        return (self._responder.status_code or NO_ANSWER) if is_gone else status_code

    async def _settle(self, used: Consumption, *, told: int = 200) -> Receipt:
        remaining = await self._settlement.settle(
            used, attempts=self._attempts, status_code=self._told(told)
        )
        held = self._admitted.hold.amount_nano_usd
        self._line.charged(used.usage, used.source.value, used.billed, hold_nano_usd=held)
        receipt = self._receipt(used, remaining)
        self._on_receipt(receipt)
        return receipt

    def _receipt(self, used: Consumption, remaining: NanoUsd | None) -> Receipt:
        admitted, deployment, billed = self._admitted, used.deployment, used.billed
        # A customer's own key must not read what the operator earns on it.
        may_see_cost = admitted.key.right is KeyRight.NAME_CUSTOMERS
        return Receipt(
            request_id=admitted.hold.hold_id,
            customer_id=admitted.hold.customer_id,
            tier=admitted.tier.name,
            model=admitted.model,
            provider=deployment.provider,
            deployment_model=deployment.deployment_model,
            attempts=len(self._attempts),
            usage=used.usage,
            usage_source=used.source,
            charge_nano_usd=billed.charge_nano_usd,
            provider_cost_nano_usd=billed.cost_nano_usd if may_see_cost else None,
            spend_remaining_nano_usd=remaining,
            is_priced=deployment.price is not None,
        )

    def _stream_headers(self, answer: StreamAnswer) -> HeaderPairs:
        admitted = self._admitted
        return [
            *STREAM_HEADERS,
            *annotation.opening_headers(
                admitted.hold.hold_id, admitted.hold.customer_id, admitted.model
            ),
            *annotation.route_headers(answer.deployment.provider, len(self._attempts)),
            *annotation.dropped_headers(answer.dropped),
            *annotation.remaining_headers(admitted.remaining_nano_usd),
            *self._limit_headers(),
        ]

    def _limit_headers(self) -> HeaderPairs:
        """Headers of the limits: requests, tokens, and the output cap where it was lowered."""
        headers = annotation.token_headers(self._admitted.tokens)
        if self._admitted.is_cap_lowered:
            headers.append((b"x-relay-output-cap", b"%d" % (self._admitted.output_cap_tokens or 0)))
        headers.extend(annotation.rate_headers(self._admitted.rates))
        return headers


def _refusal_of(error: UpstreamError) -> Refusal:
    if isinstance(error, NoDeploymentError):
        return refusals.no_deployment_available(error.retry_after_s)
    if isinstance(error, UpstreamTimeoutError):
        return refusals.upstream_timeout()
    return refusals.upstream_error()
