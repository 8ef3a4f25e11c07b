"""
Write-ahead files between processes: some are killed, some want the same file.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fixtures.holds import hold_of
from fixtures.records import ended
from fixtures.spooled import names_of, remembered
from fixtures.spooling import left_after

from relay_middleware.core.identifiers import HoldId
from relay_middleware.stores.spool import FileSpool

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def program(does: str, state_dir: Path, worker_id: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `fixtures/spooling.py` in a process of its own, which is killed in the end."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "fixtures.spooling", does, str(state_dir), worker_id],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert heard(process) == "ready"
            yield process
        finally:
            process.kill()


def heard(process: "subprocess.Popen[str]") -> str:
    """Return the next line that the program tells."""
    assert process.stdout is not None
    return process.stdout.readline().removesuffix("\n")


def go(process: "subprocess.Popen[str]") -> None:
    """Let the program begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


async def opened(state_dir: Path, worker_id: str, **bounds: int) -> FileSpool:
    """Return a spool that has started."""
    spool = FileSpool(state_dir=state_dir, worker_id=worker_id, **bounds)
    await spool.start()
    return spool


async def leave(state_dir: Path, worker_id: str, names: list[str]) -> None:
    """Leave the file of a worker that is gone, with requests of these *names*."""
    dead = await opened(state_dir, worker_id)
    for name in names:
        dead.ended(hold_of(name), ended(name, 7))
    await dead.aclose()


@pytest.mark.parametrize("notes", [1, 1_000, 5_000, 20_000])
async def test_a_killed_worker_has_written_all_it_was_told(tmp_path: Path, notes: int) -> None:
    """
    Killed with -9 after a thousand notes or many, while its file is written anew time and again, a
    worker leaves exactly what it had noted and not dropped, and at most the one note beyond that it
    was about.
    """
    with program("write", tmp_path, "killed") as writer:
        go(writer)
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= notes:
                break
        writer.kill()
        done = int([line, *writer.stdout][-1])
    heir = await opened(tmp_path, "heir")

    taken = heir.take_over()

    assert taken in (left_after(done), left_after(done + 1))
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["heir.wal"]
    await heir.aclose()


async def test_each_dead_workers_file_is_taken_over_by_one(tmp_path: Path) -> None:
    """
    Of 40 dead workers' 200 requests, 3 processes that want them all at once get each exactly once.
    """
    names = [f"r{number}" for number in range(200)]
    for number in range(40):
        await leave(tmp_path, f"dead-{number:02}", names[5 * number : 5 * number + 5])

    with ExitStack() as stack:
        takers = [stack.enter_context(program("take", tmp_path, f"{n}")) for n in range(3)]
        for taker in takers:
            go(taker)
        taken = [name for taker in takers for name in heard(taker).split()]

    assert sorted(taken) == sorted(names)


@pytest.mark.parametrize("written_bytes", [0, 1, 500_000])
async def test_an_heir_that_is_killed_loses_nothing(tmp_path: Path, written_bytes: int) -> None:
    """
    Killed before it has copied any of 2,000 requests (1 MB), in the middle, or after, a
    worker that takes over leaves each of them, once, to the next.
    """
    names = [f"r{number}" for number in range(2000)]
    await leave(tmp_path, "dead", names)
    with program("take", tmp_path, "killed") as taker:
        go(taker)
        while (tmp_path / "spool/killed.wal").stat().st_size < written_bytes:
            assert taker.poll() is None
        taker.kill()
        taker.wait()
    heir = await opened(tmp_path, "heir")

    taken = heir.take_over()

    assert taken == [remembered(name, 7) for name in names]
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["heir.wal"]
    await heir.aclose()


async def test_what_lives_is_never_taken(tmp_path: Path) -> None:
    """
    Beside a process that takes over without a pause, a file that is written anew 100 times and 100
    files that are begun and given up stay their owner's.
    """
    own = await opened(tmp_path, "own", compact_above_bytes=2_000)
    with program("watch", tmp_path, "watcher") as watcher:
        go(watcher)
        for number in range(300):
            own.ended(hold_of(f"r{number}"), ended(f"r{number}", 7))
            own.drop([HoldId(f"r{number - 1}")])
        for number in range(100):
            short = await opened(tmp_path, f"short-{number}")
            short.dispatching(hold_of(f"s{number}"))
            assert names_of(short.remembered()) == [f"s{number}"]
            short.drop([HoldId(f"s{number}")])
            await short.aclose()
        (tmp_path / "enough").touch()

        assert heard(watcher) == "0"
    assert own.remembered() == [remembered("r299", 7)]
    await own.aclose()
