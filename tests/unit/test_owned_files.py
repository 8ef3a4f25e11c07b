"""
Files that belong to whoever has them locked, while others want them.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay_middleware.stores.owned_files import (
    create_file,
    lock_file,
    read_file,
    remove_file,
    replace_file,
)


@contextmanager
def remover(folder: Path) -> Iterator[list[Path]]:
    """Remove what can be locked in *folder*, without a pause; gives what was removed so far."""
    removed: list[Path] = []
    enough = threading.Event()

    def remove() -> None:
        while not enough.is_set():
            for path in folder.glob("*.wal"):
                file = lock_file(path)
                if file is not None:
                    remove_file(path)
                    os.close(file)
                    removed.append(path)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        yield removed
    finally:
        enough.set()
        thread.join()


def test_what_is_gone_belongs_to_nobody(tmp_path: Path) -> None:
    """
    A file that was removed since somebody saw it is not there to be locked.
    """
    assert lock_file(tmp_path / "gone.wal") is None


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    """
    What one has locked another cannot lock, until it is closed.
    """
    path, file = create_file(tmp_path, "one")
    assert lock_file(path) is None
    os.write(file, b"text")
    os.close(file)

    again = lock_file(path)

    assert again is not None
    assert read_file(again) == b"text"
    os.close(again)


def test_many_files_of_one_name(tmp_path: Path) -> None:
    """
    Of 100 files that 4 threads make, all of one name, nobody gets another's.
    """
    with ThreadPoolExecutor(max_workers=4) as threads:
        made = list(threads.map(lambda _: create_file(tmp_path, "one"), range(100)))

    assert len({path for path, _ in made}) == 100
    for _, file in made:
        os.close(file)


@pytest.mark.slow
def test_who_made_a_file_owns_it(tmp_path: Path) -> None:
    """
    Of 1,000 files, made while another thread removes all that it can lock, each is its maker's: the
    name still means it, until it is closed.
    """
    with remover(tmp_path) as removed:
        for _ in range(1000):
            path, file = create_file(tmp_path, "one")

            assert os.path.samestat(os.fstat(file), path.stat())
            os.close(file)

    assert removed


@pytest.mark.slow
def test_a_file_that_is_replaced_stays_its_owners(tmp_path: Path) -> None:
    """
    Replaced 300 times while another thread tries to lock it, a file has its last lines in the end.
    """
    path, file = create_file(tmp_path, "one")
    with remover(tmp_path) as removed:
        for number in range(300):
            fresh = replace_file(path, [b"%d\n" % number])
            os.close(file)
            file = fresh

    assert removed == []
    assert path.read_bytes() == b"299\n"
    os.close(file)
