"""
Write-ahead files: what is noted survives its process, and is forgotten when it is dropped.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fixtures.holds import hold_of
from fixtures.records import ended
from fixtures.spooled import crashed, full_disk, names_of, remembered, wal_of
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_middleware.core.identifiers import HoldId
from relay_middleware.ports.books import Remembered, Spool
from relay_middleware.stores.spool import FileSpool

pytestmark = pytest.mark.anyio


@pytest.fixture(name="spool")
async def _spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """
    The one implementation.
    """
    spool = FileSpool(state_dir=tmp_path, worker_id="one")
    await spool.start()
    yield spool
    await spool.aclose()


async def test_remembers_until_dropped(spool: Spool) -> None:
    """
    Of three requests the one that was dropped is forgotten; one of the others has its end.
    """
    for name in ("a", "b", "c"):
        spool.dispatching(hold_of(name))
    spool.ended(hold_of("c"), ended("c", 7))
    spool.drop([HoldId("b"), HoldId("unknown")])

    assert spool.remembered() == [remembered("a"), remembered("c", 7)]
    assert spool.remembered([HoldId("c"), HoldId("b")]) == [remembered("c", 7)]
    assert spool.remembered([]) == []
    assert not spool.is_failing


async def test_an_end_that_nobody_announced_is_remembered(spool: Spool) -> None:
    """
    A request whose dispatch was not noted, or was dropped already, is remembered with its end.
    """
    spool.ended(hold_of("a"), ended("a", 1))
    spool.drop([HoldId("a")])
    spool.ended(hold_of("a"), ended("a", 2))

    assert spool.remembered() == [remembered("a", 2)]


async def test_the_last_end_counts(spool: Spool) -> None:
    """
    Noted as ended for 1 and then for 2, a request is remembered with 2, in its old place.
    """
    spool.ended(hold_of("a"), ended("a", 1))
    spool.dispatching(hold_of("b"))
    spool.ended(hold_of("a"), ended("a", 2))
    spool.dispatching(hold_of("a"))

    assert spool.remembered() == [remembered("a", 2), remembered("b")]


async def test_what_lives_is_not_taken_over(spool: Spool, tmp_path: Path) -> None:
    """
    A worker whose process lives keeps what it has, from itself and from others.
    """
    spool.dispatching(hold_of("a"))
    other = FileSpool(state_dir=tmp_path, worker_id="two")
    await other.start()

    assert other.take_over() == []
    assert spool.take_over() == []

    await other.aclose()
    assert names_of(spool.remembered()) == ["a"]


async def test_what_died_is_taken_over(spool: Spool, tmp_path: Path) -> None:
    """
    Left by a process that is gone, requests become the next one's own, once, and go on from there.
    """
    spool.dispatching(hold_of("a"))
    spool.ended(hold_of("b"), ended("b", 7))
    spool.dispatching(hold_of("c"))
    spool.drop([HoldId("c")])
    heir = FileSpool(state_dir=crashed(tmp_path, tmp_path / "copy"), worker_id="two")
    await heir.start()

    assert heir.take_over() == [remembered("a"), remembered("b", 7)]
    assert heir.take_over() == []

    heir.drop([HoldId("b")])
    assert heir.remembered() == [remembered("a")]
    await heir.aclose()


NAMES = st.sampled_from("abcdef")
COMMANDS = st.one_of(
    st.tuples(st.just("dispatching"), NAMES),
    st.tuples(st.just("ended"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("drop"), st.lists(NAMES, max_size=3)),
    st.tuples(st.sampled_from(["crash", "restart"])),
    # How many bytes a full disk still takes: less than a line, as much as one, or as some.
    st.tuples(st.just("full"), st.integers(0, 800), NAMES, st.integers(0, 9)),
)


@dataclass(slots=True)
class Model:
    """
    What should be remembered, and the folder and worker that should remember it.
    """

    folder: Path
    spool: FileSpool
    noted: dict[str, int | None] = field(default_factory=dict)
    workers: int = 1

    def do(self, command: tuple[object, ...]) -> None:
        """Give a command to both."""
        match command:
            case ["dispatching", str(name)]:
                self.noted.setdefault(name, None)
                self.spool.dispatching(hold_of(name))
            case ["ended", str(name), int(charge)]:
                self.noted[name] = charge
                self.spool.ended(hold_of(name), ended(name, charge))
            case ["drop", list(names)]:
                for name in names:
                    self.noted.pop(name, None)
                self.spool.drop([HoldId(name) for name in names])
            case ["full", int(room_bytes), str(name), int(charge)]:
                with full_disk(wal_of(self.folder), room_bytes=room_bytes):
                    self.do(("ended", name, charge))
                    self.do(("drop", [name]) if charge == 0 else ("dispatching", name))

    async def end(self, how: object, copy: Path) -> None:
        """End the worker, and let the next one take over what it has left."""
        before = self.spool
        if how == "crash":
            # What the disk has not taken yet is the only thing that a crash may lose.
            before.drop([])
            self.folder = crashed(self.folder, copy)
        await before.aclose()
        self.workers += 1
        self.spool = small(self.folder, str(self.workers))
        await self.spool.start()
        assert self.spool.take_over() == self.remembered()

    def remembered(self) -> list[Remembered]:
        return [remembered(name, charge) for name, charge in self.noted.items()]


def small(folder: Path, worker_id: str) -> FileSpool:
    """Return a spool that writes its file anew from 2,000 bytes on: some 6 lines."""
    return FileSpool(state_dir=folder, worker_id=worker_id, compact_above_bytes=2000)


@settings(max_examples=150, deadline=None)
@given(commands=st.lists(COMMANDS, max_size=40))
async def test_any_life_leaves_what_was_noted_and_not_dropped(
    commands: list[tuple[object, ...]],
) -> None:
    """
    After any notes, drops, full disks, crashes and restarts, exactly what was noted and not dropped
    is remembered, with its last end, in the order in which it was noted.
    """
    with TemporaryDirectory() as folder:
        model = Model(Path(folder) / "0", small(Path(folder) / "0", "1"))
        await model.spool.start()
        for number, command in enumerate(commands, start=1):
            if command[0] in {"crash", "restart"}:
                await model.end(command[0], Path(folder) / str(number))
            else:
                model.do(command)

            assert model.spool.remembered() == model.remembered()
        await model.spool.aclose()
