"""
The crowd: clients who all ask at the same time, each until it is told that the money is spent.

In a process of its own (`python -m proxy_app.selftest.crowd`), which reads what it is to do as JSON
and prints what it was told: a thousand clients would not let anybody else look in time.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

import aiohttp
import orjson

from proxy_app.selftest.plan import (
    CUSTOMER_HEADER,
    CUSTOMER_ID,
    MODELS,
    WEIGHTS,
    WHOLE_ANSWER_S,
    Plan,
)

ANSWER_TIMEOUT_S = 60.0
"""Longest wait for one answer: a process that is stopped may come back."""

LONGEST_PAUSE = 8.0
"""A client that has waited in vain waits longer each time, up to so many times what it was told: a
thousand of them that ask each second would keep the machine from its work."""

BROKEN_PAUSE_S = 0.5
"""Pause after an answer that did not come to its end, whoever ended it."""


class Outcome(Enum):
    """What became of one request, as its client sees it."""

    SERVED = "served"
    SPENT = "spent"
    """402: the money is spent. The client asks no more."""
    WAIT = "wait"
    """429: other requests hold what is left, or as many run as may."""
    UNAVAILABLE = "unavailable"
    """503: whether there is money cannot be said now."""
    PROVIDER_FAILED = "provider_failed"
    """502: the provider answered with an error."""
    BROKEN = "broken"
    """The connection broke: its process was killed."""
    HUNG_UP = "hung_up"
    """The client left."""
    UNEXPECTED = "unexpected"
    """Anything else. The client asks no more."""


_OUTCOME_BY_STATUS = {
    200: Outcome.SERVED,
    402: Outcome.SPENT,
    429: Outcome.WAIT,
    502: Outcome.PROVIDER_FAILED,
    503: Outcome.UNAVAILABLE,
}

_LAST = {Outcome.SPENT, Outcome.UNEXPECTED}


@dataclass(slots=True)
class Tally:
    """
    What all clients were told.

    Attributes:
        unfinished: Clients who have not been told that the money is spent.
        unexpected: The first answer that no client should get.
    """

    counts: Counter[Outcome] = field(default_factory=Counter)
    unfinished: int = 0
    unexpected: str | None = None

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Self:
        """Return what a process has printed."""
        counts = {Outcome(name): count for name, count in members["counts"].items()}
        return cls(Counter(counts), members["unfinished"], members["unexpected"])

    def add(self, later: "Tally") -> None:
        """Add what the same clients were told when they asked again."""
        self.counts += later.counts
        self.unfinished = later.unfinished
        self.unexpected = self.unexpected or later.unexpected


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """
    What one client asks.

    Attributes:
        leave_after_s: When it hangs up: of a stream with the first bytes, of any other answer after
            so many seconds; None: not.
    """

    model: str
    is_stream: bool
    leave_after_s: float | None

    @property
    def body(self) -> bytes:
        """Return it as JSON."""
        messages = [{"role": "user", "content": "How much is left?"}]
        return orjson.dumps({"model": self.model, "messages": messages, "stream": self.is_stream})


class Crowd:
    """
    Clients of one Relay.

    Attributes:
        tally: What they were told so far.
    """

    def __init__(self, plan: Plan, *, url: str, secret: str) -> None:
        """
        Args:
            url: Of Relay, without a path.
            secret: A key that may name customers.
        """  # fmt: skip
        self._plan = plan
        self._url = f"{url}/v1/chat/completions"
        self._headers = {
            "Authorization": f"Bearer {secret}",
            CUSTOMER_HEADER: CUSTOMER_ID,
            "Content-Type": "application/json",
        }
        self.tally = Tally()

    async def spend_all(self, timeout_s: float) -> None:
        """
        Let all clients ask at the same time, each until it is told that the money is spent.

        Args:
            timeout_s: After which those who have not been told give up.
        """
        self.tally.unfinished = self._plan.requests
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            clients = [
                asyncio.create_task(self._client(session, number))
                for number in range(self._plan.requests)
            ]
            done, late = await asyncio.wait(clients, timeout=timeout_s)
            for client in late:
                client.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for client in done:
                client.result()

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        # Of no secret, and a run differs from the next by its timing anyway.
        chance = random.Random(number)  # noqa: S311
        waits = 0
        while True:
            request = self._request(number, chance)
            outcome, retry_after_s = await self._ask(session, request)
            self.tally.counts[outcome] += 1
            if outcome in _LAST:
                self.tally.unfinished -= outcome is Outcome.SPENT
                return
            waits = waits + 1 if outcome is Outcome.WAIT else 0
            # Not all at once again.
            await asyncio.sleep(retry_after_s * chance.uniform(1, min(1 + waits, LONGEST_PAUSE)))

    def _request(self, number: int, chance: random.Random) -> _Request:
        (model,) = chance.choices(MODELS, WEIGHTS)
        # Every tenth client.
        is_leaving = self._plan.has_hang_ups and number % 10 == 0
        return _Request(
            model=model,
            is_stream=chance.random() < 0.5,  # noqa: PLR2004 - every other one
            leave_after_s=chance.uniform(0, WHOLE_ANSWER_S[model]) if is_leaving else None,
        )

    async def _ask(
        self, session: aiohttp.ClientSession, request: _Request
    ) -> tuple[Outcome, float]:
        """Return what became of *request*, and after how many seconds it may be repeated."""
        try:
            async with asyncio.timeout(None if request.is_stream else request.leave_after_s):
                return await self._answer(session, request)
        except aiohttp.ClientError:
            return Outcome.BROKEN, BROKEN_PAUSE_S
        except TimeoutError:
            is_leaving = request.leave_after_s is not None
            return Outcome.HUNG_UP if is_leaving else Outcome.BROKEN, BROKEN_PAUSE_S

    async def _answer(
        self, session: aiohttp.ClientSession, request: _Request
    ) -> tuple[Outcome, float]:
        async with session.post(self._url, data=request.body, headers=self._headers) as answer:
            outcome = _OUTCOME_BY_STATUS.get(answer.status, Outcome.UNEXPECTED)
            is_stream = outcome is Outcome.SERVED and request.is_stream
            if is_stream and request.leave_after_s is not None:
                await answer.content.readany()
                answer.close()
                return Outcome.HUNG_UP, BROKEN_PAUSE_S
            told = await answer.read()
            if outcome is Outcome.SPENT and b"spend_limit_exceeded" not in told:
                outcome = Outcome.UNEXPECTED
            if outcome is Outcome.UNEXPECTED and self.tally.unexpected is None:
                self.tally.unexpected = f"{answer.status} {told.decode(errors='replace')}"
            return outcome, float(answer.headers.get("Retry-After", 0))


def main() -> None:
    """Do what standard input says, and print what the clients were told."""
    task = orjson.loads(sys.stdin.buffer.read())
    crowd = Crowd(Plan(**task["plan"]), url=task["url"], secret=task["secret"])
    asyncio.run(crowd.spend_all(task["timeout_s"]))
    sys.stdout.buffer.write(orjson.dumps(crowd.tally, option=orjson.OPT_NON_STR_KEYS))


if __name__ == "__main__":
    main()
