"""
Databases: which of them are the same.
"""

from pathlib import Path

import pytest

from relay_middleware.ledger.database import Database


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("postgresql://a:x@db/relay", "postgresql://b:y@db:5432/relay", True),
        ("postgresql://db/relay", "postgresql://db:5433/relay", False),
        ("postgresql://db/relay_1", "postgresql://db/relay-1", False),
        ("postgresql://db/relay", "postgresql://db2/relay", False),
        ("postgresql:///relay?host=/run/1", "postgresql:///relay?host=/run/2", False),
        ("sqlite:///relay.db", "sqlite:///./relay.db", True),
        ("sqlite:///relay.db", "sqlite:///relay-db", False),
    ],
)
def test_fingerprints(one: str, other: str, is_same: bool) -> None:  # noqa: FBT001
    """
    Whatever user, spelling or default: two have one fingerprint exactly where they are one
    database. What a dead worker has left must not be charged in another one's ledger.
    """
    fingerprints = {Database(url).fingerprint for url in (one, other)}

    assert len(fingerprints) == (1 if is_same else 2)


def test_a_relative_file_is_another_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `relay.db` of two working folders is two databases.
    """
    here = Database("sqlite:///relay.db").fingerprint
    monkeypatch.chdir(tmp_path)

    assert Database("sqlite:///relay.db").fingerprint != here
