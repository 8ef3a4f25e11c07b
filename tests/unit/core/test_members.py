"""
Bodies that are too much to look at.
"""

import pytest

from relay_middleware.core.endpoints import members


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Four values at most, and three objects and arrays.
    """
    monkeypatch.setattr(members, "MAX_VALUES", 4)
    monkeypatch.setattr(members, "MAX_CONTAINERS", 3)


@pytest.mark.parametrize(
    ("body", "is_too_much"),
    [
        pytest.param(b"[1,2,3,4]", False, id="as many as may be"),
        pytest.param(b"[1,2,3,4,5]", True, id="one more"),
        pytest.param(b"[[],{}]", False, id="three containers"),
        pytest.param(b"[[],[],[]]", True, id="four containers"),
        pytest.param(b'["a,b,c,[[[[{{{{,,,"]', False, id="in a text"),
        pytest.param(b'["a\\",\\",\\",\\",\\","]', False, id="after quotes in a text"),
        pytest.param(b'["a\\\\",1,2,3,4,5]', True, id="after a text that ends with a backslash"),
        pytest.param(b'["\\\\\\",\\",,,,,,,"]', False, id="after a backslash and a quote"),
        pytest.param(b'["a,,,,,,,,', False, id="in a text without an end"),
        pytest.param(b'",' * 17, True, id="more texts than values"),
    ],
)
def test_what_is_counted(body: bytes, is_too_much: bool) -> None:  # noqa: FBT001
    """
    Commas, objects and arrays count, but not those in a text, wherever its end is.
    """
    assert members.has_too_many_values(body) is is_too_much


def test_members_of_a_name_are_found_at_any_depth() -> None:
    """
    Also inside of one that was found, and not where there is null.
    """
    body = {"a": [{"x": 1}, [[{"x": {"x": 2}}]], "x"], "x": None}

    found = list(members.named(body, "x"))

    assert sorted(map(str, found)) == ["1", "2", "{'x': 2}"]
    assert not list(members.named("x", "x"))
