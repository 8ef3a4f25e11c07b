"""
Files that belong to whoever has them locked: how one is made, replaced, and taken from the dead.

The lock of a process that was killed is free, so nobody has to be asked whether it lives. A name
can be given to another file between opening and locking it: a lock counts only where the name still
means the file that was locked.
"""

import fcntl
import os
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from urllib.parse import quote

_OPEN = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_MODE = 0o600


def create_file(folder: Path, name: str) -> tuple[Path, int]:
    """
    Make a new file in *folder*, and lock it.

    Args:
        name: What it is called if no file is called that, else a number is added.

    Returns:
        Its path, `NAME.wal`, and its descriptor.

    Raises:
        OSError: The folder cannot be written to, or its file system has no locks.
    """
    # A name is one name, whatever is in it.
    first = folder / f"{quote(name, safe=':@')}.wal"
    while True:
        path = _free(first)
        try:
            file = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, _MODE)
        except FileExistsError:
            continue
        # Waits for nobody but a process that took the empty file for a dead one's, to remove it.
        if _is_locked(file, path, fcntl.LOCK_EX):
            return path, file


def lock_file(path: Path) -> int | None:
    """
    Return the descriptor of *path*, locked; None where somebody else has it, or it is gone.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        file = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    return file if _is_locked(file, path, fcntl.LOCK_EX | fcntl.LOCK_NB) else None


def _is_locked(file: int, path: Path, how: int) -> bool:
    """Lock *file*; if it cannot be, or is not called *path* any more, close it."""
    with ExitStack() as stack:
        stack.callback(os.close, file)
        try:
            fcntl.flock(file, how)
            is_path = os.path.samestat(os.fstat(file), path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False
        if is_path:
            stack.pop_all()
        return is_path


def replace_file(path: Path, lines: Iterable[bytes]) -> int:
    """
    Put a file with *lines* in the place of *path*, which this process has locked, and lock it.

    Whoever is killed in the middle leaves the old file as it was, and half a new one of another
    name, which `remove_file` removes with it.

    Returns:
        The descriptor of the new file. That of the old one is still open.

    Raises:
        OSError: There is no room for it; then nothing has changed.
    """
    draft = _draft_of(path)
    with ExitStack() as stack:
        file = os.open(draft, _OPEN | os.O_CREAT | os.O_TRUNC, _MODE)
        stack.callback(os.close, file)
        stack.callback(draft.unlink, missing_ok=True)
        # Before it gets the name under which the others look for it.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(file, "wb", closefd=False) as stream:
            stream.writelines(lines)
        draft.rename(path)
        stack.pop_all()
    return file


def read_file(file: int) -> bytes:
    """Return all that is in *file*."""
    with open(file, "rb", closefd=False) as stream:
        stream.seek(0)
        return stream.read()


def remove_file(path: Path) -> None:
    """
    Remove *path*, which this process has locked, and what is left of replacing it.

    Raises:
        OSError: The folder cannot be written to.
    """
    _draft_of(path).unlink(missing_ok=True)
    path.unlink()


def keep_aside(path: Path) -> Path:
    """
    Call *path*, which this process has locked, what nobody looks for: `NAME.unreadable`.

    Returns:
        Its path from now on.

    Raises:
        OSError: The folder cannot be written to.
    """
    _draft_of(path).unlink(missing_ok=True)
    # Free until the next line too: who gives that name must have the lock of *path*.
    return path.rename(_free(path.with_suffix(".unreadable")))


def _draft_of(path: Path) -> Path:
    return path.with_suffix(".new")


def _free(path: Path) -> Path:
    """Return *path*, with a number before its suffix if need be, that no file is called."""
    numbered = (path.with_suffix(f".{number}{path.suffix}") for number in count(1))
    return next(free for free in chain((path,), numbered) if not free.exists())
