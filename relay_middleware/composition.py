"""
Composition: which concrete parts a configuration asks for. The one place that names them.
"""

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from relay_middleware.config import Config
from relay_middleware.config.values import ModelEntry, UnknownCustomer
from relay_middleware.core.holds import HoldState
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.dead_letters import DeadLetter, keep_dead_letter
from relay_middleware.ledger.directory import SqlDirectory
from relay_middleware.ledger.journal import QueueJournal
from relay_middleware.ledger.sole_use import SoleUse
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.workers import WorkerJournal, list_workers
from relay_middleware.open_holds import OpenHolds
from relay_middleware.ports.stores import Clock, SpendStore
from relay_middleware.services import CustomerRules, Services
from relay_middleware.stores.breaker import Breaker, BreakingScripts
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.encoding import Texts
from relay_middleware.stores.keys import Keys
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.multiplexed import MultiplexedScripts, can_multiplex
from relay_middleware.stores.rate_limits import WindowRateLimiter
from relay_middleware.stores.redis import RedisSpendStore
from relay_middleware.stores.spool import FileSpool
from relay_middleware.stores.stream import CLAIM_AFTER_MS, Sink, StreamJournal
from relay_middleware.upkeep import Books, Upkeep
from relay_middleware.upstream.deploying import DeploymentPlan, plan_deployments
from relay_middleware.upstream.prices import load_price_table
from relay_middleware.upstream.router import LiteLlmUpstream
from relay_middleware.upstream.tokenizer import LiteLlmTokenizer
from relay_middleware.upstream.translation import Translation
from relay_middleware.upstream.wire import Wire


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the aware instant, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """
    What a relay is made of, by concrete class, in the order in which it is opened.

    Attributes:
        journal: In this process: new customers, and with the embedded store all that has ended.
        stream: Of all processes, in Redis; None with the embedded store.
        breaker: What all that is asked of Redis goes through; None with the embedded store.
        sole_use: Of the database, with the embedded store; else None.
        warnings: What the operator should know of the configuration.
        drain_timeout_s: Longest wait for answers under way when the relay closes.
    """

    services: Services
    database: Database
    spend: SpendStore
    directory: SqlDirectory
    spool: FileSpool
    journal: QueueJournal
    stream: StreamJournal | None
    breaker: Breaker | None
    sole_use: SoleUse | None
    upstream: LiteLlmUpstream
    tokenizer: LiteLlmTokenizer
    upkeep: Upkeep
    workers: WorkerJournal
    warnings: tuple[str, ...]
    drain_timeout_s: float


def compose(config: Config) -> Parts:
    """
    Make every part that *config* asks for, without I/O but for reading the price table.

    Raises:
        ConfigurationError: A provider is not known, or a price is incomplete.
    """
    clock = SystemClock()
    worker_id = _worker_id()
    upstream, warnings = _upstream(config, clock)
    database = Database(config.database_url)
    directory = SqlDirectory(database)
    texts = Texts()
    spool = FileSpool(state_dir=_spool_dir(config, database), worker_id=worker_id, texts=texts)
    stores = _stores(config, clock, database, spool, worker_id=worker_id, texts=texts)
    tokenizer = LiteLlmTokenizer()
    services = Services(
        directory=directory,
        spend=stores.spend,
        rates=stores.rates,
        upstream=upstream,
        tokenizer=tokenizer,
        journal=stores.journal,
        spool=spool,
        open_holds=OpenHolds(),
        clock=clock,
        tiers=config.tiers,
        models=tuple(dict.fromkeys(entry.model_name for entry in config.model_list)),
        customer_rules=_customer_rules(config),
        max_body_bytes=config.max_body_bytes,
        hold_ttl_s=config.hold_ttl_s,
        new_request_id=RequestIds(),
    )
    return Parts(
        services=services,
        database=database,
        spend=stores.spend,
        directory=directory,
        spool=spool,
        journal=stores.journal,
        stream=stores.stream,
        breaker=stores.breaker,
        sole_use=SoleUse(database) if config.redis_url is None else None,
        upstream=upstream,
        tokenizer=tokenizer,
        upkeep=upkeep_of(services, database, worker_id, revision=lambda: directory.revision),
        workers=WorkerJournal(database, worker_id=worker_id, status=upstream.status, clock=clock),
        warnings=warnings,
        drain_timeout_s=config.drain_timeout_s,
    )


def upkeep_of(
    services: Services,
    database: Database,
    worker_id: str,
    *,
    revision: Callable[[], int | None] = lambda: None,
) -> Upkeep:
    """Make what keeps the counters of *services* true."""
    books = Books(
        spend=services.spend,
        ledger=SqlLedger(database),
        spool=services.spool,
        open_holds=services.open_holds,
        clock=services.clock,
    )
    return Upkeep(
        books,
        worker_id=worker_id,
        hold_ttl_s=services.hold_ttl_s,
        has_peers=partial(_has_peers, database, services.clock, worker_id),
        revision=revision,
    )


def plan(entries: Mapping[int, ModelEntry]) -> DeploymentPlan:
    """
    Plan what serves *entries* of a `model_list`, by their place in it. Imports LiteLLM: seconds.
    """
    return _plan(entries, Translation(clock=SystemClock()))


def _plan(entries: Mapping[int, ModelEntry], translation: Translation) -> DeploymentPlan:
    return plan_deployments(entries, load_price_table(), is_known=translation.is_known)


def _upstream(config: Config, clock: Clock) -> tuple[LiteLlmUpstream, tuple[str, ...]]:
    translation = Translation(clock=clock)
    planned = _plan(dict(enumerate(config.model_list)), translation)
    upstream = LiteLlmUpstream(
        planned.checked(),
        fallbacks=config.router_settings.fallbacks,
        wire=Wire(clock=clock),
        translation=translation,
        clock=clock,
        allowed_fails=config.router_settings.allowed_fails,
        cooldown_time_s=config.router_settings.cooldown_time,
    )
    return upstream, tuple(warning.message for warning in planned.warnings)


@dataclass(frozen=True, slots=True)
class _Stores:
    spend: SpendStore
    rates: WindowRateLimiter
    journal: QueueJournal
    stream: StreamJournal | None
    breaker: Breaker | None = None


def _stores(
    config: Config,
    clock: Clock,
    database: Database,
    spool: FileSpool,
    *,
    worker_id: str,
    texts: Texts,
) -> _Stores:
    ledger = SqlLedger(database)

    async def bury(name: str, text: str, reason: str) -> None:
        letter = DeadLetter(
            letter_id=name,
            source="journal",
            payload=text,
            reason=reason,
            first_seen_at=clock.now(),
        )
        await keep_dead_letter(database, letter)

    async def appended(records: Sequence[LedgerRecord]) -> None:
        ended = [item for item in records if isinstance(item, RequestEnded)]
        spool.drop(item.hold_id for item in ended if item.state is not HoldState.EXPIRED)
        await spend.acknowledge([(item.customer_id, item.hold_id) for item in ended])

    spend: SpendStore
    journal = QueueJournal(ledger, on_appended=appended)
    if config.redis_url is None:
        spend = LocalSpendStore(state_dir=config.state_dir, clock=clock, journal=journal)
        return _Stores(spend, WindowRateLimiter.in_memory(), journal, None)
    unguarded = scripts_of(config.redis_url)
    breaker = Breaker(monotonic_s=time.monotonic, most_at_once=unguarded.most_at_once)
    scripts = BreakingScripts(unguarded, breaker)
    keys = Keys(config.redis_prefix)
    spend = RedisSpendStore(scripts, now=clock.now, keys=keys, texts=texts)
    stream = StreamJournal(
        config.redis_url,
        Sink(ledger=ledger, on_appended=appended, keep_dead_letter=bury),
        worker_id=worker_id,
        # Who lets its holds expire is dead to the journal, too.
        claim_after_ms=min(CLAIM_AFTER_MS, config.hold_ttl_s * 1000),
        keys=keys,
        texts=texts,
    )
    rates = WindowRateLimiter.in_redis(scripts, keys=keys)
    return _Stores(spend, rates, journal, stream, breaker)


def scripts_of(redis_url: str) -> MultiplexedScripts | RedisScripts:
    """
    Return the way to the Redis at *redis_url*: one connection, or redis-py's pool.

    Raises:
        ConfigurationError: It is no address of a Redis.
    """
    return MultiplexedScripts(redis_url) if can_multiplex(redis_url) else RedisScripts(redis_url)


def _spool_dir(config: Config, database: Database) -> Path:
    """One for each ledger: a worker takes over what dead ones of the same have left, no others'."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", database.place).strip("-.")
    # The name is for people, and cut to what a file system takes.
    return config.state_dir / f"{name[-64:]}-{database.fingerprint}"


async def _has_peers(database: Database, clock: Clock, worker_id: str) -> bool:
    workers = await list_workers(database, clock.now())
    return any(worker.worker_id != worker_id for worker in workers)


def _worker_id() -> str:
    """Host and process for people, and something random: one process may hold several relays."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"


def _customer_rules(config: Config) -> CustomerRules:
    return CustomerRules(
        headers=tuple(name.lower() for name in config.customers.headers),
        body_user=config.customers.body_user,
        creates_unknown=config.customers.unknown is UnknownCustomer.CREATE,
        default_tier=config.customers.default_tier,
        trusts_header=config.customers.trust_header,
    )


_RANDOM_BYTES = 10
"""Of an identifier: 74 bits of them are used."""

_IDS_AT_ONCE = 400


class RequestIds:
    """
    Makes UUIDs of version 7: unguessable, and ascending in time, which keeps SQL's index small.

    Source: RFC 9562, section 5.7.
    """

    def __init__(self) -> None:
        # To ask the system for each takes longer than all else.
        self._random = b""

    def __call__(self) -> str:
        """Make one."""
        if len(self._random) < _RANDOM_BYTES:
            self._random = os.urandom(_RANDOM_BYTES * _IDS_AT_ONCE)
        random, self._random = self._random[:_RANDOM_BYTES], self._random[_RANDOM_BYTES:]
        unix_ms = time.time_ns() // 1_000_000
        bits = int.from_bytes(random)
        high, low = bits >> 62 & 0xFFF, bits & (2**62 - 1)
        text = f"{unix_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
