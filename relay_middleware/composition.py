"""
Composition: which concrete parts a configuration asks for. The one place that names them.
"""

import asyncio
import os
import secrets
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from relay_middleware.config import Config
from relay_middleware.config.values import ModelEntry, UnknownCustomer
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.directory import SqlDirectory
from relay_middleware.ledger.journal import QueueJournal
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.workers import WorkerJournal
from relay_middleware.ports import Clock, SpendStore
from relay_middleware.services import Background, CustomerRules, Drains, Services
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.rate_limits import LimitsRateLimiter
from relay_middleware.stores.redis import RedisSpendStore
from relay_middleware.upstream.deploying import DeploymentPlan, plan_deployments
from relay_middleware.upstream.prices import load_price_table
from relay_middleware.upstream.router import LiteLlmUpstream
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
        warnings: What the operator should know of the configuration.
        is_hydrated: Whether the store forgets at each start and must be told what SQL has.
    """

    services: Services
    database: Database
    ledger: SqlLedger
    spend: SpendStore
    rates: LimitsRateLimiter
    directory: SqlDirectory
    journal: QueueJournal
    upstream: LiteLlmUpstream
    workers: WorkerJournal
    warnings: tuple[str, ...]
    is_hydrated: bool


def compose(config: Config) -> Parts:
    """
    Make every part that *config* asks for, without I/O but for reading the price table.

    Raises:
        ConfigurationError: A provider is not known, or a price is incomplete.
    """
    clock = SystemClock()
    upstream, warnings = _upstream(config, clock)
    spend, rates = _stores(config, clock)
    database = Database(config.database_url)
    ledger = SqlLedger(database)
    directory = SqlDirectory(database)
    journal = QueueJournal(ledger, on_appended=partial(_acknowledge, spend))
    services = Services(
        directory=directory,
        spend=spend,
        rates=rates,
        upstream=upstream,
        journal=journal,
        clock=clock,
        tiers=config.tiers,
        models=tuple(dict.fromkeys(entry.model_name for entry in config.model_list)),
        customer_rules=_customer_rules(config),
        max_body_bytes=config.max_body_bytes,
        background=Background(),
        drains=Drains(),
        new_request_id=new_request_id,
        sleep=asyncio.sleep,
    )
    return Parts(
        services=services,
        database=database,
        ledger=ledger,
        spend=spend,
        rates=rates,
        directory=directory,
        journal=journal,
        upstream=upstream,
        workers=WorkerJournal(
            database, worker_id=_worker_id(), status=upstream.status, clock=clock
        ),
        warnings=warnings,
        is_hydrated=config.redis_url is None,
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


def _stores(config: Config, clock: Clock) -> tuple[SpendStore, LimitsRateLimiter]:
    if config.redis_url is None:
        embedded = LocalSpendStore(state_dir=config.state_dir, clock=clock)
        return embedded, LimitsRateLimiter.in_memory()
    shared = RedisSpendStore(RedisScripts(config.redis_url))
    return shared, LimitsRateLimiter.in_redis(config.redis_url)


def _worker_id() -> str:
    """Host and process for people, and something random: one process may hold several relays."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"


async def _acknowledge(spend: SpendStore, records: Sequence[LedgerRecord]) -> None:
    await spend.acknowledge(
        [(item.customer_id, item.hold_id) for item in records if isinstance(item, RequestEnded)]
    )


def _customer_rules(config: Config) -> CustomerRules:
    return CustomerRules(
        headers=tuple(name.lower() for name in config.customers.headers),
        body_user=config.customers.body_user,
        creates_unknown=config.customers.unknown is UnknownCustomer.CREATE,
        default_tier=config.customers.default_tier,
        trusts_header=config.customers.trust_header,
    )


def new_request_id() -> str:
    """
    Return a UUID of version 7: unguessable, and ascending in time, which keeps SQL's index small.

    Source: RFC 9562, section 5.7.
    """
    unix_ms = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    high, low = random >> 62, random & (2**62 - 1)
    return str(uuid.UUID(int=unix_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low))
