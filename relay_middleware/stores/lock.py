"""
The lock that keeps a second process out of the embedded store.
"""

import fcntl
import os
from pathlib import Path

from relay_middleware.errors import ConfigurationError


class FolderLock:
    """One process's right to a folder. Free again as soon as the process is gone."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "embedded.lock"
        self._lock: int | None = None

    def take(self) -> None:
        """
        Take the lock. Calling it again does nothing.

        Raises:
            ConfigurationError: Another process has it, or the folder cannot be written to.
        """
        if self._lock is not None:
            return
        try:
            self._lock = locked(self._path)
        except BlockingIOError:
            raise ConfigurationError(
                f"another process uses the embedded store in {self._path.parent}. It counts in one"
                " process only, and a second one would double every limit: run one worker, or set"
                " redis_url"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the embedded store cannot write to {self._path.parent} ({error.strerror}): set"
                " state_dir to a folder of this process, or set redis_url"
            ) from error

    def free(self) -> None:
        """Give the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def locked(path: Path) -> int:
    """
    Return the descriptor of *path*, locked until it is closed.

    Raises:
        BlockingIOError: Somebody has it locked.
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
