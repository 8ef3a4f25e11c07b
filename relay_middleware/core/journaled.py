"""
Journaled: holds and records as they are written down, for whoever reads them later.

The journal in Redis, the hash of a hold there and the write-ahead file all keep what is made here:
a list of JSON values, the version first. Instants are whole microseconds since 1970 UTC, exact
decimals are text, enums their value.

Lists, because each request is written down several times: names would double the bytes. The order
is that of the `return` below, which its reader repeats.

Rules for editors. A worker reads what an earlier release has written: a list that changes, by one
value only, gets the next version, and the reader goes on reading the ones before. A version that is
not known here is of a later release: it is refused, and whoever reads keeps it for that one.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TypeVar

from relay_middleware.core.holds import Account, Hold, HoldFacts, HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, DeploymentId, HoldId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, PeriodWindow
from relay_middleware.core.rates import TokenLimit
from relay_middleware.core.records import Attempt, AttemptOutcome, RequestEnded
from relay_middleware.core.usage import Usage, UsageSource

VERSION = 1

Members = list[object]
"""What JSON can carry, to any depth."""

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


class JournaledError(Exception):
    """What was to be read is no hold or record, or one of a version that is not known here."""


class LaterVersionError(JournaledError):
    """It is of a later release, whose workers can read it."""


def encode_hold(hold: Hold) -> Members:
    """Return *hold* as JSON values, all of it."""
    facts = hold.facts
    return [
        VERSION,
        hold.hold_id,
        hold.customer_id,
        hold.amount_nano_usd,
        [_account_members(account) for account in hold.accounts],
        hold.ttl_s,
        facts.api_key_id,
        facts.tier,
        facts.endpoint,
        facts.model,
        facts.is_stream,
        facts.is_bound_exact,
        to_us(facts.reserved_at),
        hold.tokens,
        [[limit.notation, limit.limit_tokens, limit.window_s] for limit in hold.token_limits],
        hold.max_concurrency,
    ]


def decode_hold(members: object) -> Hold:
    """
    Return the hold that *members* were made from.

    Raises:
        LaterVersionError: They are of a later version.
        JournaledError: They are not `encode_hold`'s.
    """
    reader = _Reader(members, "hold")
    reader.version()
    hold_id = HoldId(reader.text())
    customer_id = CustomerId(reader.text())
    amount_nano_usd = NanoUsd(reader.number())
    accounts = tuple(_account(account) for account in reader.readers("account"))
    ttl_s = reader.seconds()
    facts = HoldFacts(
        api_key_id=ApiKeyId(reader.text()),
        tier=reader.text(),
        endpoint=reader.text(),
        model=reader.text(),
        is_stream=reader.flag(),
        is_bound_exact=reader.flag(),
        reserved_at=reader.instant(),
    )
    hold = Hold(
        hold_id=hold_id,
        customer_id=customer_id,
        amount_nano_usd=amount_nano_usd,
        accounts=accounts,
        ttl_s=ttl_s,
        facts=facts,
        tokens=reader.number(),
        token_limits=tuple(_token_limit(limit) for limit in reader.readers("token limit")),
        max_concurrency=reader.optional(reader.number),
    )
    reader.end()
    return hold


def encode_record(record: RequestEnded) -> Members:
    """Return *record* as JSON values, all of it."""
    source = record.usage_source
    return [
        VERSION,
        record.hold_id,
        record.customer_id,
        record.api_key_id,
        record.tier,
        record.endpoint,
        record.model,
        record.state.value,
        record.status_code,
        record.is_stream,
        record.provider,
        record.deployment_model,
        None if record.usage is None else _usage_members(record.usage),
        None if source is None else source.value,
        str(record.cost_usd),
        record.cost_nano_usd,
        record.charge_nano_usd,
        record.hold_nano_usd,
        record.is_bound_exact,
        to_us(record.reserved_at),
        to_us(record.ended_at),
        [_attempt_members(attempt) for attempt in record.attempts],
    ]


def decode_record(members: object) -> RequestEnded:
    """
    Return the record that *members* were made from.

    Raises:
        LaterVersionError: They are of a later version.
        JournaledError: They are not `encode_record`'s.
    """
    reader = _Reader(members, "record")
    reader.version()
    # Keyword arguments are evaluated in the order in which they stand.
    record = RequestEnded(
        hold_id=HoldId(reader.text()),
        customer_id=CustomerId(reader.text()),
        api_key_id=ApiKeyId(reader.text()),
        tier=reader.text(),
        endpoint=reader.text(),
        model=reader.text(),
        state=reader.one_of(HoldState),
        status_code=reader.number(),
        is_stream=reader.flag(),
        provider=reader.optional(reader.text),
        deployment_model=reader.optional(reader.text),
        usage=reader.optional(lambda: _usage(reader.reader("usage"))),
        usage_source=reader.optional(lambda: reader.one_of(UsageSource)),
        cost_usd=reader.decimal(),
        cost_nano_usd=NanoUsd(reader.number()),
        charge_nano_usd=NanoUsd(reader.number()),
        hold_nano_usd=NanoUsd(reader.number()),
        is_bound_exact=reader.flag(),
        reserved_at=reader.instant(),
        ended_at=reader.instant(),
        attempts=tuple(_attempt(attempt) for attempt in reader.readers("attempt")),
    )
    reader.end()
    return record


def _account_members(account: Account) -> Members:
    window = account.window
    return [
        window.period.value,
        window.starts_at_us,
        window.ends_at_us,
        account.limit_nano_usd,
    ]


def _account(reader: "_Reader") -> Account:
    window = PeriodWindow(
        period=reader.one_of(Period),
        starts_at=reader.optional(reader.instant),
        ends_at=reader.optional(reader.instant),
    )
    limit = reader.optional(reader.number)
    reader.end()
    return Account(window=window, limit_nano_usd=None if limit is None else NanoUsd(limit))


def _token_limit(reader: "_Reader") -> TokenLimit:
    limit = TokenLimit(reader.text(), reader.number(), reader.number())
    reader.end()
    return limit


def _usage_members(usage: Usage) -> Members:
    return [
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.cache_write_1h_input_tokens,
        usage.audio_input_tokens,
        usage.reasoning_tokens,
        usage.audio_output_tokens,
        usage.service_tier,
        usage.region,
    ]


def _usage(reader: "_Reader") -> Usage:
    usage = Usage(
        input_tokens=reader.number(),
        output_tokens=reader.number(),
        cached_input_tokens=reader.number(),
        cache_write_input_tokens=reader.number(),
        cache_write_1h_input_tokens=reader.number(),
        audio_input_tokens=reader.number(),
        reasoning_tokens=reader.number(),
        audio_output_tokens=reader.number(),
        service_tier=reader.optional(reader.text),
        region=reader.optional(reader.text),
    )
    reader.end()
    return usage


def _attempt_members(attempt: Attempt) -> Members:
    return [
        attempt.deployment_id,
        attempt.provider,
        attempt.deployment_model,
        attempt.outcome.value,
        attempt.status_code,
        to_us(attempt.started_at),
        to_us(attempt.ended_at),
    ]


def _attempt(reader: "_Reader") -> Attempt:
    attempt = Attempt(
        deployment_id=DeploymentId(reader.text()),
        provider=reader.text(),
        deployment_model=reader.text(),
        outcome=reader.one_of(AttemptOutcome),
        status_code=reader.optional(reader.number),
        started_at=reader.instant(),
        ended_at=reader.instant(),
    )
    reader.end()
    return attempt


class _Reader:
    """Takes the values of one list in their order, each of the kind that it must be."""

    def __init__(self, values: object, what: str) -> None:
        if not isinstance(values, list):
            raise JournaledError(f"a journaled {what} is a list, not {_kind(values)}")
        self._values: list[object] = values
        self._what = what
        self._next = 0

    def version(self) -> None:
        version = self.number()
        if version != VERSION:
            kind = LaterVersionError if version > VERSION else JournaledError
            raise kind(
                f"a journaled {self._what} of version {version}: this release reads {VERSION}"
            )

    def end(self) -> None:
        if self._next != len(self._values):
            raise self._miscounted()

    def text(self) -> str:
        return self._take(str)

    def number(self) -> int:
        return self._take(int)

    def flag(self) -> bool:
        return self._take(bool)

    def seconds(self) -> float:
        return self._take(int if type(self._peek()) is int else float)

    def decimal(self) -> Decimal:
        text = self.text()
        try:
            amount = Decimal(text)
        except InvalidOperation:
            raise self._wrong(f"{text!r} is no decimal") from None
        if not amount.is_finite():
            raise self._wrong(f"{text} is no amount")
        return amount

    def instant(self) -> datetime:
        us = self.number()
        try:
            return from_us(us)
        except OverflowError:
            raise self._wrong(f"{us} is no instant") from None

    def one_of(self, kind: type[_E]) -> _E:
        value = self.text()
        try:
            return kind(value)
        except ValueError:
            raise self._wrong(f"{value!r} is no {kind.__name__}") from None

    def optional(self, read: Callable[[], _T]) -> _T | None:
        if self._peek() is None:
            self._next += 1
            return None
        return read()

    def reader(self, what: str) -> "_Reader":
        return _Reader(self._take(list), what)

    def readers(self, what: str) -> Iterator["_Reader"]:
        return (_Reader(values, what) for values in self._take(list))

    def _take(self, kind: type[_T]) -> _T:
        value = self._peek()
        self._next += 1
        # A bool is an int to Python, and nothing that is counted.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._wrong(f"{kind.__name__} expected, not {_kind(value)}")
        return value

    def _peek(self) -> object:
        try:
            return self._values[self._next]
        except IndexError:
            raise self._miscounted() from None

    def _miscounted(self) -> JournaledError:
        return JournaledError(f"a journaled {self._what} does not have {len(self._values)} values")

    def _wrong(self, what: str) -> JournaledError:
        return JournaledError(f"a journaled {self._what}, value {self._next}: {what}")


def _kind(value: object) -> str:
    return type(value).__name__
