"""
The journal in Redis: one stream for each bucket, read by all workers, each entry by one of them.

Rules for editors. An entry comes in with the settle that it tells of, in the same script. It is
acknowledged and deleted after the ledger has committed it, never before; so it may be delivered
more than once, and the ledger keeps one. What a dead worker had taken is claimed by the others.
What the ledger never takes goes to the dead letters, and keeps no other out. What a later release
has written is left to its workers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from relay_middleware.bugs import log_bug
from relay_middleware.core.journaled import JournaledError, LaterVersionError
from relay_middleware.core.records import RequestEnded
from relay_middleware.errors import RecordRefusedError, StoreUnavailableError
from relay_middleware.ports.books import Ledger
from relay_middleware.stores.encoding import Texts
from relay_middleware.stores.keys import BUCKETS, RELAY_KEYS, Keys
from relay_middleware.stores.stream_entries import Entry, entries_of, ids_by_stream, pairs_of
from relay_middleware.tasks import Gathering, end

log = structlog.get_logger("relay")

GROUP = "ledger"

MAX_BATCH = 500
"""Entries in one transaction: some milliseconds of work."""

GATHER_S = 0.25
"""How long entries wait for others: a transaction costs as much as ten entries."""

BLOCK_MS = 1000
"""How long a read waits for something to come."""

CLAIM_AFTER_MS = 30_000
"""A worker that has kept an entry so long without committing it is taken for dead."""

FORGET_AFTER_MS = 3_600_000

CLAIMS_PER_WAIT = 3
"""How often in that time the others look for what the dead have left."""

MAX_DELIVERIES = 5
"""An entry that was taken so often and never committed has ended those who took it."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Waits between tries while SQL or Redis is away, doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """
    Where the entries go.

    Attributes:
        on_appended: Called with the records of each batch that the ledger took; may raise
            `StoreUnavailableError`: then it is called with them once more, later.
        keep_dead_letter: Keeps what the ledger never takes: an id, the text, and why.
    """

    ledger: Ledger
    on_appended: Callable[[Sequence[RequestEnded]], Awaitable[None]]
    keep_dead_letter: Callable[[str, str, str], Awaitable[None]]


class StreamJournal:
    """Brings what is in the streams to the ledger, exactly once, until it is closed."""

    def __init__(
        self,
        redis_url: str,
        sink: Sink,
        *,
        worker_id: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        claim_after_ms: int = CLAIM_AFTER_MS,
        keys: Keys = RELAY_KEYS,
        texts: Texts | None = None,
    ) -> None:
        """
        Args:
            worker_id: Name of this consumer, unlike any other's.
            texts: Reads the records; shared with who writes them into the journal.
        """  # fmt: skip
        self._texts = texts or Texts()
        # A connection of its own: its reads wait for longer than a command may take.
        self._redis = Redis.from_url(
            redis_url,
            socket_timeout=BLOCK_MS / 1000 + 5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        self._sink = sink
        self._worker_id = worker_id
        self._sleep = sleep
        self._claim_after_ms = claim_after_ms
        self._claim_every_s = claim_after_ms / 1000 / CLAIMS_PER_WAIT
        self._streams = [keys.journal(bucket).encode() for bucket in range(BUCKETS)]
        self._task: asyncio.Task[None] | None = None
        self._has_groups = False
        self._gathering = Gathering(GATHER_S)
        # Of a later release, stream and id: taken once, and not again while they wait for it.
        self._later: set[tuple[bytes, bytes]] = set()

    async def start(self) -> None:
        """Begin to read. Calling it again does nothing."""
        if self._task is None:
            self._is_closing = False
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop, whatever is still in the streams; `drain` before."""
        task, self._task = self._task, None
        if task is not None:
            await end([task])
        await self._redis.aclose()

    async def waiting(self) -> int:
        """
        Return how many entries are in the streams, taken ones included.

        Raises:
            StoreUnavailableError: Redis did not answer.
        """
        async with self._asking() as pipeline:
            for stream in self._streams:
                pipeline.xlen(stream)
            return sum(await pipeline.execute())

    async def drain(self, timeout_s: float) -> int | None:
        """
        Wait until what is in the streams now has left them, at most *timeout_s*. What others add
        meanwhile is theirs to bring to the ledger.

        Returns:
            How many entries are there if it has not, else 0; None where Redis did not answer, so
            that nobody knows.
        """
        # By the clock: a time-out of asyncio's is a cancellation, of which see `tasks.py`.
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + timeout_s
        try:
            with self._gathering.hurrying():
                last_ids = await self._last_ids()
                while last_ids := await self._still_there(last_ids):
                    if loop.time() >= ends_at_s:
                        return await self.waiting()
                    await self._sleep(0.05)
        except StoreUnavailableError:
            return None
        return 0

    async def _last_ids(self) -> Mapping[bytes, bytes]:
        """The newest entry of each stream that has any."""
        async with self._asking() as pipeline:
            for stream in self._streams:
                pipeline.xrevrange(stream, count=1)
            found = await pipeline.execute()
        pairs = zip(self._streams, found, strict=True)
        return {stream: entries[0][0] for stream, entries in pairs if entries}

    async def _still_there(self, last_ids: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Those of *last_ids* that have not left their streams, or before which another has not."""
        async with self._asking() as pipeline:
            for stream, last_id in last_ids.items():
                pipeline.xrange(stream, max=last_id, count=1)
            found = await pipeline.execute()
        pairs = zip(last_ids.items(), found, strict=True)
        return {stream: last_id for (stream, last_id), entries in pairs if entries}

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Pipeline]:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                yield pipeline
        except (RedisError, OSError) as error:
            raise StoreUnavailableError("Redis did not say what is in its journal") from error

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        claimed_at_s = -self._claim_every_s
        may_have_taken = False
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._ensure_groups()
                while may_have_taken:
                    # What was on its way when it failed: nobody else would look for it soon.
                    entries = await self._left()
                    await self._take(entries)
                    may_have_taken = bool(entries)
                if loop.time() - claimed_at_s >= self._claim_every_s:
                    claimed_at_s = loop.time()
                    await self._take(await self._claimed())
                await self._take(await self._read())
                await self._gathering.wait()
            except (RedisError, OSError, StoreUnavailableError) as error:
                # A flush takes the groups with it; they are made again.
                self._has_groups = False
                may_have_taken = True
                log.warning("journal_unavailable", reason=type(error).__name__)
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - a bug must not end the only way to the ledger
                log_bug("journal_failed", error)
                await self._sleep(LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S

    async def _ensure_groups(self) -> None:
        if self._has_groups:
            return
        for stream in self._streams:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
                await self._forget_consumers(stream)
        self._has_groups = True

    async def _forget_consumers(self, stream: bytes) -> None:
        """Remove those who ended long ago and left nothing: each start of a worker is a new one."""
        for consumer in await self._redis.xinfo_consumers(stream, GROUP):
            if not consumer["pending"] and consumer["idle"] > FORGET_AFTER_MS:
                await self._redis.xgroup_delconsumer(stream, GROUP, consumer["name"])

    async def _read(self) -> list[Entry]:
        found = await self._redis.xreadgroup(
            GROUP,
            self._worker_id,
            dict.fromkeys(self._streams, ">"),
            count=MAX_BATCH,
            block=BLOCK_MS,
        )
        return [
            entry for stream, entries in pairs_of(found) for entry in entries_of(stream, entries)
        ]

    async def _left(self) -> list[Entry]:
        """
        What this worker has taken and not acknowledged. It has not ended of it, so it was taken
        once, however often that failed.
        """
        left = []
        for stream in self._streams:
            pending = await self._redis.xpending_range(
                stream, GROUP, "-", "+", MAX_BATCH, consumername=self._worker_id
            )
            pending = [each for each in pending if (stream, each["message_id"]) not in self._later]
            if pending:
                taken = await self._redis.xclaim(
                    stream,
                    GROUP,
                    self._worker_id,
                    0,
                    [item["message_id"] for item in pending],
                    retrycount=1,
                )
                left += entries_of(stream, taken)
        return left

    async def _claimed(self) -> list[Entry]:
        """What dead workers had taken; what has ended several of them becomes a dead letter."""
        claimed = []
        known, self._later = self._later, set()
        for stream in self._streams:
            pending = await self._redis.xpending_range(
                stream, GROUP, "-", "+", MAX_BATCH, idle=self._claim_after_ms
            )
            self._later |= known & {(stream, each["message_id"]) for each in pending}
            pending = [each for each in pending if (stream, each["message_id"]) not in known]
            if not pending:
                continue
            deadly = {
                item["message_id"]
                for item in pending
                if int(item["times_delivered"]) > MAX_DELIVERIES
            }
            taken = await self._redis.xclaim(
                stream,
                GROUP,
                self._worker_id,
                self._claim_after_ms,
                [item["message_id"] for item in pending],
            )
            for entry in entries_of(stream, taken):
                if entry.entry_id in deadly:
                    await self._bury(entry, "it ended those who took it")
                else:
                    claimed.append(entry)
        return claimed

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Bring *entries* to the ledger, then acknowledge them."""
        records: dict[Entry, RequestEnded] = {}
        later = []
        for entry in entries:
            try:
                records[entry] = self._texts.decode(entry.text)
            except LaterVersionError:
                later.append(entry)
            except JournaledError as error:
                await self._bury(entry, str(error))
        if later:
            await self._leave(later)
        for start in range(0, len(records), MAX_BATCH):
            await self._append(dict(list(records.items())[start : start + MAX_BATCH]))

    async def _append(self, records: Mapping[Entry, RequestEnded]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._sink.ledger.append(list(records.values()))
            except StoreUnavailableError as error:
                log.warning("ledger_unavailable", reason=str(error), records=len(records))
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                await self._keep(records)
            except RecordRefusedError as error:
                if len(records) == 1:
                    for entry in records:
                        await self._bury(entry, str(error))
                    return
                # One bad record must not keep the others out.
                for entry, record in records.items():
                    await self._append({entry: record})
                return
            else:
                break
        # In this order: an entry that is there still will be told again, one that is gone never.
        await self._sink.on_appended(list(records.values()))
        await self._acknowledge(records)

    async def _keep(
        self, entries: Iterable[Entry], *, idle_ms: int = 0, deliveries: int | None = None
    ) -> None:
        """Say that *entries* are still ours: nobody shall take us for dead while SQL is away."""
        mine = (GROUP, self._worker_id, 0)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for stream, ids in ids_by_stream(entries).items():
                # Without the entries this does not count as a delivery.
                pipeline.xclaim(
                    stream, *mine, [*ids], idle=idle_ms, retrycount=deliveries, justid=True
                )
            await pipeline.execute()

    async def _leave(self, entries: Sequence[Entry]) -> None:
        """Leave *entries* to the workers of a later release, as if we had never taken them."""
        self._later |= {(entry.stream, entry.entry_id) for entry in entries}
        await self._keep(entries, idle_ms=self._claim_after_ms, deliveries=0)
        log.warning("journal_entries_left", entries=len(entries), reason="of a later release")

    async def _bury(self, entry: Entry, reason: str) -> None:
        # Its hold is not acknowledged: it has to be known to whoever tells the store again.
        name = f"{entry.stream.decode()}/{entry.entry_id.decode()}"
        await self._sink.keep_dead_letter(name, entry.text.decode("utf-8", "replace"), reason)
        log.error("journal_entry_refused", entry=name, reason=reason)
        await self._acknowledge([entry])

    async def _acknowledge(self, entries: Iterable[Entry]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for stream, ids in ids_by_stream(entries).items():
                pipeline.xack(stream, GROUP, *ids)
                pipeline.xdel(stream, *ids)
            await pipeline.execute()
