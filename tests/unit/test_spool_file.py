"""
Write-ahead files on a disk: what they are called, how they break, and how they stay small.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from fixtures.holds import hold_of
from fixtures.records import ended
from fixtures.spooled import crashed, full_disk, names_of, remembered, wal_of
from structlog.testing import capture_logs

from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.journaled import encode_hold, encode_record
from relay_middleware.errors import ConfigurationError
from relay_middleware.ports.books import Remembered
from relay_middleware.stores.spool import FileSpool, under_way

pytestmark = pytest.mark.anyio

CUT_LOG = {"log_level": "warning", "event": "spool_lines_cut", "file": "dead.wal", "lines": 1}


async def opened(state_dir: Path, worker_id: str = "one", **bounds: int) -> FileSpool:
    """Return a spool that has started."""
    spool = FileSpool(state_dir=state_dir, worker_id=worker_id, **bounds)
    await spool.start()
    return spool


async def taken_over(state_dir: Path, text: bytes) -> list[Remembered]:
    """Return what a worker takes over from a dead one that left a file with *text* in it."""
    spool = await opened(state_dir)
    (state_dir / "spool/dead.wal").write_bytes(text)
    taken = spool.take_over()
    assert spool.remembered() == taken
    spool.drop([item.hold.hold_id for item in taken])
    await spool.aclose()
    return list(taken)


def line(kind: str, content: object) -> bytes:
    return orjson.dumps([kind, content]) + b"\n"


def files(state_dir: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in (state_dir / "spool").iterdir()}


async def test_a_file_is_called_after_its_worker(tmp_path: Path) -> None:
    """
    Worker `host:7:ab` writes `host:7:ab.wal`, which only its user reads; start may be repeated.
    """
    spool = await opened(tmp_path, "host:7:ab")
    await spool.start()

    assert list(files(tmp_path)) == ["host:7:ab.wal"]
    assert wal_of(tmp_path).stat().st_mode & 0o777 == 0o600
    await spool.aclose()


async def test_a_name_is_no_path(tmp_path: Path) -> None:
    """
    A worker id with slashes in it names a file inside the folder.
    """
    spool = await opened(tmp_path, "../../host")

    assert list(files(tmp_path)) == ["..%2F..%2Fhost.wal"]
    await spool.aclose()


async def test_a_file_without_anything_pending_is_removed(tmp_path: Path) -> None:
    """
    On closing, a file all of which was dropped goes; one with a request left stays, for the next.
    """
    spool = await opened(tmp_path)
    spool.dispatching(hold_of("a"))
    spool.drop([HoldId("a")])
    await spool.aclose()
    assert files(tmp_path) == {}

    await spool.start()
    spool.dispatching(hold_of("b"))
    await spool.aclose()
    await spool.aclose()
    assert list(files(tmp_path)) == ["one.wal"]
    assert spool.remembered() == []


async def test_two_relays_of_one_worker_have_a_file_each(tmp_path: Path) -> None:
    """
    Of the same id, in one process or one after the other, nobody writes to another's file.
    """
    first, second = await opened(tmp_path), await opened(tmp_path)
    first.dispatching(hold_of("a"))
    second.dispatching(hold_of("b"))
    assert second.take_over() == []
    await first.aclose()

    third = await opened(tmp_path)

    assert sorted(files(tmp_path)) == ["one.1.wal", "one.2.wal", "one.wal"]
    assert names_of(third.take_over()) == ["a"]
    assert names_of(second.remembered()) == ["b"]
    await second.aclose()
    await third.aclose()


async def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """
    A file where the folder should be is a mistake in the configuration, told with its remedy.
    """
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(ConfigurationError, match=r"file/spool \(Not a directory\): set state_dir"):
        await opened(in_the_way)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_permission(tmp_path: Path) -> None:
    """
    A folder that belongs to somebody else is told in the same way.
    """
    (tmp_path / "spool").mkdir(mode=0o500)

    with pytest.raises(ConfigurationError, match=r"\(Permission denied\): set state_dir"):
        await opened(tmp_path)


async def test_notes_before_the_start_are_written_at_it(tmp_path: Path) -> None:
    """
    While there is no file writing fails, and nothing is lost by it.
    """
    spool = FileSpool(state_dir=tmp_path, worker_id="one")
    with capture_logs() as logs:
        spool.dispatching(hold_of("a"))
        assert spool.is_failing
        await spool.start()

    assert not spool.is_failing
    assert [entry["event"] for entry in logs] == ["spool_write_failed", "spool_written_again"]
    assert wal_of(tmp_path).read_bytes().lstrip() == line("d", encode_hold(hold_of("a")))
    await spool.aclose()


async def test_lines_say_what_is_documented(tmp_path: Path) -> None:
    """
    A dispatch, an end and a drop are a line each.
    """
    spool = await opened(tmp_path)
    spool.ended(hold_of("a"), ended("a", 7))
    spool.drop([HoldId("a")])

    assert wal_of(tmp_path).read_bytes() == (
        line("d", encode_hold(hold_of("a")))
        + line("e", encode_record(ended("a", 7)))
        + line("x", "a")
    )
    await spool.aclose()


async def test_a_last_line_cut_anywhere_is_skipped(tmp_path: Path) -> None:
    """
    Wherever its writer was killed in the line of an end, the request is one that has not ended.
    """
    first, last = line("d", encode_hold(hold_of("a"))), line("e", encode_record(ended("a", 7)))

    with capture_logs():
        taken = [await taken_over(tmp_path, first + last[:cut]) for cut in range(len(last))]

    assert taken == [[remembered("a")]] * len(last)


async def test_a_dispatch_that_is_noted_twice_takes_no_end_back(tmp_path: Path) -> None:
    """
    A second line for a dispatch, after that for the end, says nothing new.
    """
    first, last = line("d", encode_hold(hold_of("a"))), line("e", encode_record(ended("a", 7)))

    assert await taken_over(tmp_path, first + last + first) == [remembered("a", 7)]


async def test_a_line_cut_in_the_middle_hides_no_other(tmp_path: Path) -> None:
    """
    What follows a line that was cut is read, and the cut one is logged.
    """
    cut = line("d", encode_hold(hold_of("a")))[:100] + b"\n"

    with capture_logs() as logs:
        taken = await taken_over(tmp_path, cut + line("d", encode_hold(hold_of("b"))))

    assert taken == [remembered("b")]
    assert CUT_LOG in logs
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "strange",
    [
        line("d", [2, "a", "a later release knows more"]),
        line("e", [2, "b"]),
        line("e", encode_record(ended("unknown", 7))),
        line("z", "b"),
        line("x", 7),
        b'{"kind": "d"}\n',
        b"\0\0\0\0\0\0\n",
    ],
    ids=["hold", "record", "end without a hold", "kind", "drop", "no list", "no JSON"],
)
async def test_a_file_with_what_is_not_known_is_kept(tmp_path: Path, strange: bytes) -> None:
    """
    A line of a later release is kept aside with its file, and what else is there is taken over; a
    second such file of the same name does not replace the first.
    """
    text = strange + line("d", encode_hold(hold_of("b")))

    with capture_logs() as logs:
        assert await taken_over(tmp_path, text) == [remembered("b")]
        assert await taken_over(tmp_path, text) == [remembered("b")]

    assert files(tmp_path) == {"dead.unreadable": text, "dead.1.unreadable": text}
    kept = [entry["kept"] for entry in logs if entry["event"] == "spool_lines_unreadable"]
    assert [Path(path).name for path in kept] == ["dead.unreadable", "dead.1.unreadable"]


async def test_text_that_is_none_is_refused_and_fails_nobody(tmp_path: Path) -> None:
    """
    A name that UTF-8 cannot write is logged; the request goes on, unnoted.
    """
    spool = await opened(tmp_path)
    with capture_logs() as logs:
        spool.ended(hold_of("\ud800"), ended("\ud800", 1))
        spool.dispatching(hold_of("a"))
        spool.ended(hold_of("a"), ended("a", 2**64))

    assert [entry["event"] for entry in logs] == ["spool_note_refused"] * 2
    assert spool.remembered() == [remembered("a")]
    await spool.aclose()


FIRST_BYTES = len(line("d", encode_hold(hold_of("a"))))


@pytest.mark.parametrize(
    "room_bytes", [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, 2 * FIRST_BYTES]
)
async def test_a_full_disk_loses_nothing(tmp_path: Path, room_bytes: int) -> None:
    """
    While the disk is full, with room for less than a line, one, or two, all is remembered and one
    error is logged; with the first line that can be written, all the others are.
    """
    spool = await opened(tmp_path)
    with full_disk(wal_of(tmp_path), room_bytes=room_bytes) as logs:
        for name in ("a", "b", "c"):
            spool.dispatching(hold_of(name))
        spool.ended(hold_of("b"), ended("b", 7))
        assert spool.is_failing
        assert spool.remembered() == [remembered("a"), remembered("b", 7), remembered("c")]
    spool.dispatching(hold_of("d"))

    assert not spool.is_failing
    assert [entry["event"] for entry in logs] == ["spool_write_failed"]
    heir = await opened(crashed(tmp_path, tmp_path / "copy"), "two")
    taken = heir.take_over()
    assert taken[1] == remembered("b", 7)
    assert names_of(taken) == ["a", "b", "c", "d"]
    await spool.aclose()
    await heir.aclose()


async def test_a_line_that_lacks_only_its_end_was_not_written(tmp_path: Path) -> None:
    """
    Cut by a full disk just before its end, and dropped, a request does not come back with the line
    that is written next.
    """
    spool = await opened(tmp_path)
    with full_disk(wal_of(tmp_path), room_bytes=FIRST_BYTES - 1):
        spool.dispatching(hold_of("a"))
        spool.drop([HoldId("a")])
    spool.dispatching(hold_of("b"))

    copy = crashed(tmp_path, tmp_path / "copy")
    heir = await opened(copy, "two")
    assert heir.take_over() == [remembered("b")]
    assert list(files(copy)) == ["two.wal"]
    await spool.aclose()
    await heir.aclose()


async def test_a_disk_that_stays_full_is_told_once(tmp_path: Path) -> None:
    """
    With room for ten bytes more, and no line, nothing is said to be written again.
    """
    spool = await opened(tmp_path)
    with full_disk(wal_of(tmp_path)):
        spool.dispatching(hold_of("a"))
    with full_disk(wal_of(tmp_path), room_bytes=10) as logs:
        spool.dispatching(hold_of("b"))

    assert spool.is_failing
    assert logs == []
    await spool.aclose()


async def test_what_was_dropped_while_the_disk_was_full_stays_dropped(tmp_path: Path) -> None:
    """
    Drops of what the file has are made good when there is room; what it never had is not written.
    """
    spool = await opened(tmp_path)
    spool.dispatching(hold_of("a"))
    with full_disk(wal_of(tmp_path)):
        spool.ended(hold_of("a"), ended("a", 1))
        spool.dispatching(hold_of("b"))
        spool.drop([HoldId("a"), HoldId("b")])
    spool.dispatching(hold_of("c"))

    # The empty line tried whether there is room.
    assert wal_of(tmp_path).read_bytes() == (
        line("d", encode_hold(hold_of("a")))
        + b"\n"
        + line("x", "a")
        + line("d", encode_hold(hold_of("c")))
    )
    await spool.aclose()


async def test_a_failing_file_recovers_without_traffic(tmp_path: Path) -> None:
    """
    With all dropped that could not be written, dropping nothing finds out that there is room again.
    """
    spool = await opened(tmp_path)
    with full_disk(wal_of(tmp_path)):
        spool.dispatching(hold_of("a"))
        spool.drop([HoldId("a")])
        assert spool.is_failing

    spool.drop([])

    assert not spool.is_failing
    heir = await opened(crashed(tmp_path, tmp_path / "copy"), "two")
    assert heir.take_over() == []
    assert list(files(tmp_path / "copy")) == ["two.wal"]
    await spool.aclose()
    await heir.aclose()


async def test_what_was_given_up_is_not_touched(tmp_path: Path) -> None:
    """
    A file left with something pending stays as it is, whatever its former owner is told after that.
    """
    spool = await opened(tmp_path, compact_above_bytes=100)
    spool.dispatching(hold_of("a"))
    await spool.aclose()

    with capture_logs():
        spool.ended(hold_of("b"), ended("b", 7))
        spool.drop([HoldId("a"), HoldId("b")])
        assert spool.take_over() == []

    assert wal_of(tmp_path).read_bytes() == line("d", encode_hold(hold_of("a")))


async def test_closing_on_a_full_disk_says_what_is_lost(tmp_path: Path) -> None:
    """
    Two lines that could not be written until the end are counted in the log.
    """
    spool = await opened(tmp_path)
    with full_disk(wal_of(tmp_path)) as logs:
        spool.ended(hold_of("a"), ended("a", 1))
        await spool.aclose()

    assert logs[-1] == {
        "log_level": "error",
        "event": "spool_lines_lost",
        "file": "one.wal",
        "lines": 2,
    }


async def test_a_file_stays_small(tmp_path: Path) -> None:
    """
    Of 1,000 requests one is never dropped: with a bound of 4,000 bytes the file stays below 5,000,
    and still has it.
    """
    spool = await opened(tmp_path, compact_above_bytes=4000)
    spool.ended(hold_of("kept"), ended("kept", 7))
    sizes = []
    for number in range(1000):
        name = f"r{number}"
        spool.dispatching(hold_of(name))
        spool.ended(hold_of(name), ended(name, 1))
        spool.drop([HoldId(name)])
        sizes.append(wal_of(tmp_path).stat().st_size)

    assert max(sizes) < 5000
    assert list(files(tmp_path)) == ["one.wal"]
    assert spool.remembered() == [remembered("kept", 7)]
    heir = await opened(crashed(tmp_path, tmp_path / "copy"), "two")
    assert heir.take_over() == [remembered("kept", 7)]
    await spool.aclose()
    await heir.aclose()


async def test_a_file_that_cannot_be_written_anew_stays(tmp_path: Path) -> None:
    """
    Where the new file cannot be made the old one goes on; it is tried again once it has grown by
    the bound, and not before.
    """
    spool = await opened(tmp_path, compact_above_bytes=1000)
    in_the_way = tmp_path / "spool/one.new"
    in_the_way.mkdir()
    with capture_logs() as logs:
        spool.ended(hold_of("a"), ended("a", 7))
        for number in range(4):
            spool.dispatching(hold_of(f"r{number}"))
            spool.drop([HoldId(f"r{number}")])
    in_the_way.rmdir()

    # Each of the four adds some 330 bytes to the first one's 640, which are pending.
    assert [entry["event"] for entry in logs] == ["spool_not_rewritten"]
    assert spool.remembered() == [remembered("a", 7)]
    sizes = []
    for number in range(20):
        spool.dispatching(hold_of(f"s{number}"))
        spool.drop([HoldId(f"s{number}")])
        sizes.append(wal_of(tmp_path).stat().st_size)
    assert 1900 < sizes[0] < 2400
    assert max(sizes[5:]) < 1400
    assert spool.remembered() == [remembered("a", 7)]
    await spool.aclose()


async def test_an_end_that_another_replaced_is_not_pending(tmp_path: Path) -> None:
    """
    Of a request that is noted to have ended 100 times, all but the last end can be left out.
    """
    spool = await opened(tmp_path, compact_above_bytes=1000)
    for charge in range(100):
        spool.ended(hold_of("a"), ended("a", charge))
    spool.drop([])

    assert len(wal_of(tmp_path).read_bytes().splitlines()) == 2
    assert spool.remembered() == [remembered("a", 99)]
    await spool.aclose()


async def test_who_cannot_write_takes_nothing_over(tmp_path: Path) -> None:
    """
    On a full disk a dead worker's file stays as it is, and is taken over when there is room; one
    with nothing in it goes at once.
    """
    own = await opened(tmp_path)
    dead = tmp_path / "spool/dead.wal"
    text = line("d", encode_hold(hold_of("a"))) + line("e", encode_record(ended("a", 7)))
    dead.write_bytes(text)
    (tmp_path / "spool/empty.wal").touch()

    with full_disk(tmp_path / "spool/one.wal", room_bytes=500) as logs:
        assert own.take_over() == []
        assert own.take_over() == []
        assert own.remembered() == []
        assert files(tmp_path).keys() == {"dead.wal", "one.wal"}
    assert dead.read_bytes() == text
    assert logs[0]["event"] == "spool_write_failed"

    assert own.take_over() == [remembered("a", 7)]
    assert list(files(tmp_path)) == ["one.wal"]
    await own.aclose()


async def test_who_is_killed_between_taking_over_and_removing_loses_nothing(tmp_path: Path) -> None:
    """
    With the dead one's file still there beside its heir's, who has gone on with it, the next one
    finds each request once, as the heir has it.
    """
    dead = await opened(tmp_path, "dead")
    dead.dispatching(hold_of("a"))
    dead.dispatching(hold_of("b"))
    dead.ended(hold_of("c"), ended("c", 8))
    await dead.aclose()
    text = wal_of(tmp_path).read_bytes()
    for heir_id in ("alive", "zoe"):
        # One comes before the dead one in the order of names, the other after it.
        heir = await opened(tmp_path, heir_id)
        heir.take_over()
        heir.ended(hold_of("b"), ended("b", 7))
        (tmp_path / "spool/dead.wal").write_bytes(text)
        copy = crashed(tmp_path, tmp_path / heir_id)
        await heir.aclose()

        next_one = await opened(copy, "next")
        assert next_one.take_over() == [remembered("a"), remembered("b", 7), remembered("c", 8)]
        assert list(files(copy)) == ["next.wal"]
        # Three dispatches and two ends.
        assert len(wal_of(copy).read_bytes().splitlines()) == 5
        await next_one.aclose()


async def test_half_of_a_new_file_goes_with_its_dead_owners(tmp_path: Path) -> None:
    """
    What was left of a file that was being written anew is removed, unread.
    """
    own = await opened(tmp_path)
    (tmp_path / "spool/dead.wal").write_bytes(line("d", encode_hold(hold_of("a"))))
    (tmp_path / "spool/dead.new").write_bytes(line("d", encode_hold(hold_of("b"))))

    assert own.take_over() == [remembered("a")]

    assert list(files(tmp_path)) == ["one.wal"]
    await own.aclose()


async def test_a_file_that_cannot_be_removed_is_left_alone(tmp_path: Path) -> None:
    """
    A dead one's file that can be read and not removed is taken over once, and said to be there; so
    is, without the first, one that cannot be read.
    """
    own = await opened(tmp_path)
    (tmp_path / "spool/dead.wal").write_bytes(line("d", encode_hold(hold_of("a"))))
    (tmp_path / "spool/dead.new").mkdir()
    (tmp_path / "spool/folder.wal").mkdir()

    with capture_logs() as logs:
        assert own.take_over() == [remembered("a")]
        own.drop([HoldId("a")])
        assert own.take_over() == []

    left = [entry["file"] for entry in logs if entry["event"] == "spool_left_alone"]
    assert left == ["dead.wal", "folder.wal"]
    await own.aclose()


async def test_closing_without_its_folder(tmp_path: Path) -> None:
    """
    A file whose folder somebody has removed is closed all the same, and that is logged.
    """
    spool = await opened(tmp_path)
    shutil.rmtree(tmp_path / "spool")

    with capture_logs() as logs:
        await spool.aclose()

    assert [entry["event"] for entry in logs] == ["spool_not_removed"]


async def test_what_has_ended_is_known_without_reading(tmp_path: Path) -> None:
    """
    Of two requests the one that has ended is named, as what to ask the ledger for.
    """
    spool = await opened(tmp_path)
    spool.dispatching(hold_of("a"))
    spool.ended(hold_of("b"), ended("b", 7))

    assert spool.ended_ids() == ["b"]
    await spool.aclose()


async def test_what_is_under_way_can_be_read(tmp_path: Path) -> None:
    """
    Of two workers below one folder, one has two requests under way and one that has ended, the
    other has nothing.
    """
    first, second = await opened(tmp_path / "a", "host:1:a/b"), await opened(tmp_path / "b", "two")
    for name in ("h1", "h2", "h3"):
        first.dispatching(hold_of(name))
    first.ended(hold_of("h2"), ended("h2", 7))

    assert under_way(tmp_path) == {"host:1:a/b": 2, "two": 0}
    for spool in (first, second):
        await spool.aclose()
