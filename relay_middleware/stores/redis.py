"""
The spend store in Redis: one atomic script for each decision.
"""

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from datetime import datetime

import structlog

from relay_middleware.core.holds import (
    Adjustment,
    Balance,
    Ended,
    Hold,
    HoldStateError,
    Refused,
    Reserved,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.journaled import JournaledError
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.records import RequestEnded, expired, released
from relay_middleware.errors import ColdStoreError
from relay_middleware.ports.stores import Drift, EndedOf, Spend, none_of
from relay_middleware.stores import replies
from relay_middleware.stores.connection import Reply, Scripts
from relay_middleware.stores.encoding import Texts, decode_hold
from relay_middleware.stores.keys import BUCKETS, RELAY_KEYS, Keys, bucket_of
from relay_middleware.stores.retention import KEPT_AFTER_END_S, KEPT_AFTER_WINDOW_S
from relay_middleware.stores.terms import KnownTerms, Terms, forgotten_at

log = structlog.get_logger("relay")

MAX_SWEPT = 100
"""Holds of one bucket that a sweep expires: some milliseconds of work."""

CLAIM_S = 30

FILLING_S = 3600
"""How long a bucket's mark is kept: the longest that filling may take."""


class RedisSpendStore:
    """`SpendStore` in one Redis, shared by any number of processes."""

    def __init__(
        self,
        scripts: Scripts,
        *,
        now: Callable[[], datetime],
        keys: Keys = RELAY_KEYS,
        texts: Texts | None = None,
    ) -> None:
        """
        Args:
            scripts: Closed with this.
            now: What the records of expired holds say; Redis's own clock decides.
            texts: Writes holds and records; shared with who else writes them down, and with who
                reads them from the journal.
        """  # fmt: skip
        self._texts = texts or Texts()
        self._scripts = scripts
        self._keys = keys
        self._terms = KnownTerms(keys)
        self._now = now
        # Of each bucket; of none before `adopt`.
        self._epochs: Sequence[str] = [""] * BUCKETS
        self._filling = ""
        # Overdue holds that cannot be read, as the last sweep found them: each is logged once.
        self._unread: frozenset[HoldId] = frozenset()

    async def start(self) -> None:
        """
        Ask Redis whether it is there, and whether it keeps what it is told.

        Raises:
            ConfigurationError: It may evict keys.
            StoreUnavailableError: It is not there.
        """
        await self._scripts.start()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._scripts.aclose()

    async def reserve(self, hold: Hold, rate_limits: Sequence[str] = ()) -> Reserved | Refused:
        """
        Set aside what *hold* wants and count its request, if all of it fits.

        In one step, so that nothing has to be given back where a rate refuses, and in one round
        trip instead of one more for each rate.
        """
        terms = self._terms.of(hold, rate_limits)
        args = [
            hold.hold_id,
            str(hold.amount_nano_usd),
            str(int(hold.ttl_s * 1000)),
            self._texts.hold(hold),
            str(len(hold.accounts)),
            str(hold.tokens),
            *terms.args,
            self._epochs[terms.bucket],
        ]
        names = [terms.hold_prefix + hold.hold_id, *terms.names]
        answer = _warm(await self._scripts.call("reserve", names, args))
        return replies.to_reserved(hold, terms.rates, answer)

    async def touch(self, holds: Sequence[tuple[CustomerId, HoldId]], *, ttl_s: float) -> None:
        """Let those of *holds* that are open live on: one command for each bucket."""
        calls = []
        for bucket, of_bucket in _by_bucket(holds).items():
            names = [self._keys.open_holds(bucket)]
            for customer_id, hold_id in of_bucket:
                names += [self._keys.hold(bucket, hold_id), self._keys.places(customer_id)]
            args = [str(int(ttl_s * 1000)), *(hold_id for _, hold_id in of_bucket)]
            calls.append(self._scripts.call("touch", names, args))
        await _together(calls)

    async def vacate(self, hold: Hold) -> None:
        """Give the place of *hold* among the customer's requests back."""
        await self._scripts.call("vacate", [self._keys.places(hold.customer_id)], [hold.hold_id])

    async def settle(self, hold: Hold, record: RequestEnded) -> Ended:
        """
        End *hold* and post what *record* says.

        Raises:
            HoldStateError: It was released, or settled for another amount.
        """
        terms = self._terms.of_ending(hold)
        args = [
            hold.hold_id,
            str(record.charge_nano_usd),
            self._texts.journal(record),
            str(len(hold.accounts)),
            str(record.tokens),
            *terms.ending_args,
        ]
        return replies.to_ended(hold, await self._end("settle", hold, terms, args))

    async def release(self, hold: Hold, record: RequestEnded, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Raises:
            HoldStateError: It was settled.
        """
        kept_s = "" if is_dispatched else str(KEPT_AFTER_END_S)
        args = [hold.hold_id, self._texts.journal(record), str(len(hold.accounts)), kept_s]
        terms = self._terms.of_ending(hold)
        return replies.to_ended(hold, await self._end("release", hold, terms, args))

    async def expire(self, hold: Hold) -> Ended:
        """
        End *hold* and post all of it, provisionally.

        Raises:
            HoldStateError: It was settled or released.
        """
        return replies.to_ended(hold, await self._expire(hold, is_forced=True))

    async def sweep(self, ended_of: EndedOf = none_of) -> int:
        """Expire some of the holds whose time has run out; return how many."""
        due = [hold async for hold in self._due()]
        ended = await ended_of([hold.hold_id for hold in due]) if due else ()
        swept = 0
        for hold in due:
            if hold.hold_id in ended:
                await self._give_back(hold)
            else:
                swept += (await self._expire(hold, is_forced=False))[0] == b"OK"
        return swept

    async def _due(self) -> AsyncIterator[Hold]:
        unread = set()
        lists = [self._keys.open_holds(bucket) for bucket in range(BUCKETS)]
        due = await _together(
            self._scripts.call("due", [open_holds], [str(MAX_SWEPT)]) for open_holds in lists
        )
        for bucket, (open_holds, found) in enumerate(zip(lists, due, strict=True)):
            for hold_id in [HoldId(each.decode()) for each in replies.to_list(found)]:
                name = self._keys.hold(bucket, hold_id)
                told = await self._scripts.call("recall", [name, open_holds], [hold_id])
                if isinstance(told, bytes) and told:
                    try:
                        yield decode_hold(told)
                    except JournaledError as error:
                        # Of a later release, whose workers sweep it.
                        unread.add(hold_id)
                        if hold_id not in self._unread:
                            log.warning("hold_not_swept", hold_id=hold_id, reason=str(error))
        self._unread = frozenset(unread)

    async def _give_back(self, hold: Hold) -> None:
        # Where it was settled meanwhile, it is as it should be.
        with contextlib.suppress(HoldStateError):
            await self.release(hold, released(hold, self._now()), is_dispatched=False)

    async def _expire(self, hold: Hold, *, is_forced: bool) -> Sequence[bytes]:
        terms = self._terms.of_ending(hold)
        args = [
            hold.hold_id,
            str(hold.amount_nano_usd),
            self._texts.journal(expired(hold, self._now())),
            str(len(hold.accounts)),
            "1" if is_forced else "",
            str(KEPT_AFTER_WINDOW_S),
            *terms.ending_args,
        ]
        return await self._end("expire", hold, terms, args)

    async def adjust(
        self, customer_id: CustomerId, window: PeriodWindow, adjustment: Adjustment
    ) -> bool:
        """Apply *adjustment* to one account; return whether it was not there already."""
        names = [
            self._keys.adjustment(customer_id, adjustment.operation_id),
            self._keys.account(customer_id, window),
            self._keys.epoch(bucket_of(customer_id)),
        ]
        posted, credit = adjustment.posted_nano_usd, adjustment.credit_nano_usd
        epoch = self._epochs[bucket_of(customer_id)]
        args = [str(posted), str(credit), forgotten_at(window), epoch]
        return _warm(await self._scripts.call("adjust", names, args))[0] == b"OK"

    async def raise_to(self, spends: Sequence[Spend]) -> Drift:
        """Raise settled spend where it is lower: one command for each bucket."""
        by_bucket: defaultdict[int, list[Spend]] = defaultdict(list)
        for spend in spends:
            by_bucket[bucket_of(spend.customer_id)].append(spend)
        calls = []
        for of_bucket in by_bucket.values():
            names = [self._keys.account(each.customer_id, each.window) for each in of_bucket]
            args: list[str] = []
            for each in of_bucket:
                posted, expired_part = each.posted_nano_usd, each.expired_nano_usd
                args += [str(posted), str(expired_part), forgotten_at(each.window)]
            calls.append(self._scripts.call("raise_to", names, args))
        drifts = [replies.to_list(reply) for reply in await _together(calls)]
        return Drift(
            below_nano_usd=NanoUsd(sum(int(below) for below, _ in drifts)),
            above_nano_usd=NanoUsd(sum(int(above) for _, above in drifts)),
        )

    async def balances(
        self, customer_id: CustomerId, windows: Sequence[PeriodWindow]
    ) -> tuple[Balance, ...]:
        """Return what a customer's accounts hold, in the order of *windows*."""
        names = [self._keys.account(customer_id, window) for window in windows]
        return replies.to_balances(replies.to_list(await self._scripts.call("balances", names, [])))

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """Note that the ledger has these ended holds: one command for each bucket."""
        calls = []
        for bucket, of_bucket in _by_bucket(holds).items():
            names = [self._keys.hold(bucket, hold_id) for _, hold_id in of_bucket]
            calls.append(self._scripts.call("acknowledge", names, [str(KEPT_AFTER_END_S)]))
        await _together(calls)

    async def generation(self) -> str | None:
        """Return a text that changes when any bucket has lost its data and was filled again."""
        first, *others = [self._keys.epoch(bucket) for bucket in range(BUCKETS)]
        # The first alone: of several the circuit breaker lets one try, and refuses the others.
        found = [await self._scripts.call("generation", [first], [])]
        found += await _together(self._scripts.call("generation", [key], []) for key in others)
        epochs = [epoch.decode() if isinstance(epoch, bytes) else "" for epoch in found]
        return " ".join(epochs) if all(epochs) else None

    async def claim(self, work: str, worker_id: str) -> bool:
        """Say whether *worker_id* shall do *work*."""
        args = [worker_id, str(CLAIM_S * 1000)]
        return await self._scripts.call("claim", [self._keys.claim(work)], args) == 1

    def adopt(self, generation: str) -> None:
        """Mean the store as it was filled then with all commands from now on."""
        self._epochs = generation.split()

    async def begin_filling(self) -> None:
        """Mark all buckets."""
        self._filling = secrets.token_hex(8)
        marks = [self._keys.filling(bucket) for bucket in range(BUCKETS)]
        args = [self._filling, str(FILLING_S * 1000)]
        await _together(self._scripts.call("begin", [mark], args) for mark in marks)

    async def open(self) -> None:
        """Declare it filled, all buckets that have kept their mark."""
        await _together(
            self._scripts.call(
                "open",
                [self._keys.epoch(bucket), self._keys.filling(bucket)],
                [secrets.token_hex(8), self._filling],
            )
            for bucket in range(BUCKETS)
        )

    async def _end(
        self, name: str, hold: Hold, terms: Terms, args: Sequence[str]
    ) -> Sequence[bytes]:
        names = [terms.hold_prefix + hold.hold_id, *terms.ending_names]
        return _warm(await self._scripts.call(name, names, [*args, self._epochs[terms.bucket]]))


async def _together(calls: Iterable[Coroutine[None, None, Reply]]) -> list[Reply]:
    """Wait for all *calls*, which are under way at once; none is left behind where one fails."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    answers: list[Reply] = []
    for each in found:
        if isinstance(each, BaseException):
            raise each
        answers.append(each)
    return answers


def _warm(reply: Reply) -> Sequence[bytes]:
    answer = replies.to_list(reply)
    if answer[0] == b"COLD":
        raise ColdStoreError("Redis has lost its data, and is told again what the ledger has")
    return answer


def _by_bucket(
    holds: Sequence[tuple[CustomerId, HoldId]],
) -> dict[int, list[tuple[CustomerId, HoldId]]]:
    by_bucket: defaultdict[int, list[tuple[CustomerId, HoldId]]] = defaultdict(list)
    for hold in holds:
        by_bucket[bucket_of(hold[0])].append(hold)
    return by_bucket
