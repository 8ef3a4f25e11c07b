"""
Calls: what the simulated providers have received.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
_SHOWN_CHARACTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """
    One call, as it was received.

    Attributes:
        number: Which call of its profile, from 1 since the start or the last reset.
        path: As requested, profile included.
        headers: Names in lower case. Of a key only its last 4 characters are kept.
        body: The bytes as they came.
    """

    number: int
    profile: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def mark(self) -> dict[str, object]:
        """Return the member `x_simulator` of the answer: which call this is, of which profile."""
        return {"profile": self.profile, "call": self.number}

    def to_json(self) -> dict[str, object]:
        """Return what `GET /simulator/requests` shows; the body as text, not decoded further."""
        return {
            "number": self.number,
            "profile": self.profile,
            "method": self.method,
            "path": self.path,
            "headers": dict(self.headers),
            "body": self.body.decode(errors="replace"),
        }


class CallLog:
    """
    Count calls and disconnects by profile, and keep the latest calls.

    May be read from other threads than the one that serves.

    Args:
        kept_calls: How many calls are kept; older ones are only counted.
    """

    def __init__(self, kept_calls: int) -> None:
        self._changed = threading.Condition()
        self._calls: Counter[str] = Counter()
        self._disconnects: Counter[str] = Counter()
        self._recent: deque[RecordedCall] = deque(maxlen=kept_calls)

    def record(
        self, *, profile: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> RecordedCall:
        """Count a call whose body has been received, and return it with its number."""
        with self._changed:
            self._calls[profile] += 1
            call = RecordedCall(
                number=self._calls[profile],
                profile=profile,
                method=method,
                path=path,
                headers={name: _shown(name, value) for name, value in headers.items()},
                body=body,
            )
            self._recent.append(call)
            self._changed.notify_all()
        return call

    def record_disconnect(self, profile: str) -> None:
        """Count a client that went away before its answer was finished."""
        with self._changed:
            self._disconnects[profile] += 1
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._calls.clear()
            self._disconnects.clear()
            self._recent.clear()
            self._changed.notify_all()

    def calls(self, profile: str | None) -> int:
        """Return the number of calls to *profile*, or to all for None."""
        return self._count(self._calls, profile)

    def disconnects(self, profile: str | None) -> int:
        """Return how many clients of *profile*, or of all for None, went away early."""
        return self._count(self._disconnects, profile)

    def recent(self) -> tuple[RecordedCall, ...]:
        """Return the calls that are kept, oldest first."""
        with self._changed:
            return tuple(self._recent)

    def counts(self) -> dict[str, object]:
        """Return what `GET /simulator/calls` shows."""
        with self._changed:
            return {
                "total": self._calls.total(),
                "by_profile": dict(self._calls),
                "disconnects": self._disconnects.total(),
                "disconnects_by_profile": dict(self._disconnects),
            }

    def wait_until(self, is_reached: Callable[[], bool], timeout_s: float) -> bool:
        """Block until *is_reached*, which is asked at every change; False after *timeout_s*."""
        with self._changed:
            return self._changed.wait_for(is_reached, timeout_s)

    def _count(self, counter: Counter[str], profile: str | None) -> int:
        with self._changed:
            return counter.total() if profile is None else counter[profile]


def _shown(name: str, value: str) -> str:
    return value[-_SHOWN_CHARACTERS:] if name in _KEY_HEADERS else value
