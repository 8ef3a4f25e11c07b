"""
A load generator that costs next to nothing, in a process of its own.

    python -m benchmarks.load

It reads a line with a `Plan` as JSON, opens as many connections as it says, prints a line and waits
for another; then it asks, and prints an `Outcome`. So what it costs to start and to connect can be
told from what the requests cost. Every request that was sent ends in exactly one of the counts.
"""

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import cast

import uvloop
from typing_extensions import override

from benchmarks.messages import end_of_message, question

STALL_S = 30.0
"""A connection over which nothing comes for so long is broken."""

_OPENING_AT_ONCE = 100
"""Connections that are opened at the same time: fewer than a server lets wait. One after the other
they would not be spread over workers as those of many clients are (two cost 1.2 times as much)."""

_SHOWN_BYTES = 1000
_OK = range(200, 300)
_REFUSED = range(400, 500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    Attributes:
        requests: Of all connections together.
        customers: They are named in turn, `c0`, `c1` and so on, beginning at *first_customer*.
        customer_prefix: What their names begin with.
        fewest_events: A stream of less is an error. 0: not a stream.
    """

    port: int
    path: str
    headers: dict[str, str]
    model: str
    connections: int
    requests: int
    customers: int = 1
    first_customer: int = 0
    customer_prefix: str = "c"
    fewest_events: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """
    Attributes:
        answers: With status 2xx, and whole.
        refusals: By status, 4xx.
        errors: By what happened: another status, a lost connection, a stream without its end.
        latencies_ms: Of the answers, until their last byte.
        first_chunks_ms: Of the streams, until their first event.
        events: Of all streams.
        reads: How many pieces the streams came in.
        cpu_s: What the system has used meanwhile, which only the other side can measure.
        redis_cpu_s: What Redis has.
        first_bad: The beginning of the first answer that is not among the answers.
    """

    sent: int = 0
    answers: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    first_chunks_ms: list[float] = field(default_factory=list)
    events: int = 0
    reads: int = 0
    elapsed_s: float = 0.0
    first_bad: str = ""
    cpu_s: float = 0.0
    redis_cpu_s: float = 0.0

    @property
    def waits_ms(self) -> list[float]:
        """Of streams until their first event, of other answers until their last byte."""
        return self.first_chunks_ms or self.latencies_ms


class Requests:
    """What is still to be sent, of all connections."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._body = question(plan.model, is_stream=plan.fewest_events > 0)
        given = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        self._head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\n{given}"
            f"X-Customer-Id: {plan.customer_prefix}"
        ).encode()
        self._taken = 0

    def take(self) -> bytes | None:
        """Return the next request, or None after the last."""
        if self._taken == self._plan.requests:
            return None
        customer = (self._plan.first_customer + self._taken) % self._plan.customers
        self._taken += 1
        return b"%b%d\r\n\r\n%b" % (self._head, customer, self._body)


class Connection(asyncio.Protocol):
    """Asks again as soon as it has got an answer."""

    def __init__(self, requests: Requests, outcome: Outcome, *, fewest_events: int) -> None:
        self._requests = requests
        self._outcome = outcome
        self._fewest_events = fewest_events
        self._received = bytearray()
        self._is_waiting = False
        self._sent_at = self._last_at = 0.0
        self._reads = 0
        self._first_chunk_ms: float | None = None
        self._transport: asyncio.Transport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def start(self) -> None:
        """Send the first request."""
        self._last_at = perf_counter()
        self._send()

    def check(self, now: float) -> None:
        """Give up when nothing has come for long."""
        if self._is_waiting and now - self._last_at > STALL_S:
            self._fail(f"silent for {STALL_S:.0f} s")

    @override
    def data_received(self, data: bytes) -> None:
        self._last_at = perf_counter()
        self._received += data
        self._reads += 1
        if self._fewest_events and self._first_chunk_ms is None and b"data: " in self._received:
            self._first_chunk_ms = (self._last_at - self._sent_at) * 1000
        # Of a long stream only the end of each piece is looked at.
        if self._first_chunk_ms and not self._received.endswith(b"0\r\n\r\n"):
            return
        end = end_of_message(self._received)
        if end is not None:
            self._note(bytes(self._received[:end]))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting:
            self._fail("connection lost")
        self._end()

    def _note(self, answer: bytes) -> None:
        outcome = self._outcome
        answers_before = outcome.answers
        status = int(answer[9:12])
        self._is_waiting = False
        if status in _REFUSED:
            outcome.refusals[str(status)] += 1
        elif status not in _OK:
            outcome.errors[f"status {status}"] += 1
        elif self._fewest_events and not self._is_whole_stream(answer):
            outcome.errors["stream without its end"] += 1
        else:
            outcome.answers += 1
            outcome.latencies_ms.append((self._last_at - self._sent_at) * 1000)
        if outcome.answers == answers_before and not outcome.first_bad:
            outcome.first_bad = answer[:_SHOWN_BYTES].decode("utf-8", "replace")
        self._send()

    def _is_whole_stream(self, answer: bytes) -> bool:
        found = answer.count(b"data: ")
        self._outcome.events += found
        self._outcome.reads += self._reads
        if self._first_chunk_ms is not None:
            self._outcome.first_chunks_ms.append(self._first_chunk_ms)
        return found >= self._fewest_events and b"data: [DONE]" in answer

    def _send(self) -> None:
        request = self._requests.take()
        if request is None:
            self._transport.close()
            return
        self._received.clear()
        self._reads = 0
        self._first_chunk_ms = None
        self._is_waiting = True
        self._outcome.sent += 1
        self._sent_at = perf_counter()
        self._transport.write(request)

    def _fail(self, what: str) -> None:
        self._outcome.errors[what] += 1
        self._is_waiting = False
        self._transport.abort()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def run(plan: Plan) -> Outcome:
    """Do what *plan* says."""
    outcome = Outcome()
    requests = Requests(plan)
    loop = asyncio.get_running_loop()
    opened = []
    for start in range(0, plan.connections, _OPENING_AT_ONCE):
        count = min(_OPENING_AT_ONCE, plan.connections - start)
        opened += await asyncio.gather(
            *(
                loop.create_connection(
                    lambda: Connection(requests, outcome, fewest_events=plan.fewest_events),
                    "127.0.0.1",
                    plan.port,
                )
                for _ in range(count)
            )
        )
    connections = [connection for _, connection in opened]
    print("ready", flush=True)
    # Nothing else is to be done meanwhile.
    sys.stdin.readline()
    began_at = perf_counter()
    for connection in connections:
        connection.start()
    waiting = asyncio.gather(*(connection.ended for connection in connections))
    while not waiting.done():
        await asyncio.wait([waiting], timeout=1)
        for connection in connections:
            connection.check(perf_counter())
    outcome.elapsed_s = perf_counter() - began_at
    return outcome


if __name__ == "__main__":
    found = uvloop.run(run(Plan(**json.loads(sys.stdin.readline()))))
    json.dump({each.name: getattr(found, each.name) for each in fields(found)}, sys.stdout)
