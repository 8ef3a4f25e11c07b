"""
Targets: the head of a request, and what cannot be in one.
"""

import pytest

from relay_middleware.upstream.targets import Origin, target_of


@pytest.mark.parametrize(
    ("url", "origin", "line", "host"),
    [
        ("https://api.x.ai/v1/a", Origin("api.x.ai", 443, is_tls=True), "/v1/a", "api.x.ai"),
        ("http://a:80/", Origin("a", 80, is_tls=False), "/", "a"),
        ("http://a:8080", Origin("a", 8080, is_tls=False), "/", "a:8080"),
        ("http://[::1]:9/x", Origin("::1", 9, is_tls=False), "/x", "[::1]:9"),
        (
            "http://a/ü b%20c?q=ü%2F",
            Origin("a", 80, is_tls=False),
            "/%C3%BC%20b%20c?q=%C3%BC%2F",
            "a",
        ),
    ],
)
def test_addresses(url: str, origin: Origin, line: str, host: str) -> None:
    """
    Ports that are usual are not named; what an address may not hold is escaped, what is escaped
    stays so.
    """
    target = target_of(url, {"A": "b"})

    assert target.origin == origin
    assert (
        target.head.decode() == f"POST {line} HTTP/1.1\r\nHost: {host}\r\nA: b\r\nContent-Length: "
    )


def test_a_login_in_the_address() -> None:
    """
    `user:p@ss` of the address (RFC 7617, Basic), unless a key says who is asking.
    """
    url = "http://user:p%40ss@a/"

    assert b"\r\nAuthorization: Basic dXNlcjpwQHNz\r\n" in target_of(url, {}).head
    assert b"\r\nAuthorization: Bearer k\r\n" in target_of(url, {"Authorization": "Bearer k"}).head


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://a/", "sk-1"),
        ("a:80", "sk-1"),
        ("http:///v1", "sk-1"),
        ("http://a\x7fb/", "sk-1"),
        ("http://bücher/", "sk-1"),
        ("http://a b/", "sk-1"),
        ("http://a:0/", "sk-1"),
        ("http://a:65536/", "sk-1"),
        ("http://user:pass/word@a/", "sk-1"),
        ("http://[::1/", "sk-1"),
        ("http://a/", "sk-1\r\nX: y"),
        ("http://a/", "sk-1\x00"),
        ("http://a/", "schlüssel"),
    ],
)
def test_what_would_break_a_head_is_refused(url: str, key: str) -> None:
    """
    No address, no host's name in ASCII, no port, and characters that begin another header or none:
    the message repeats neither.
    """
    with pytest.raises(ValueError, match=r"^its address") as refused:
        target_of(url, {"Authorization": f"Bearer {key}"})

    assert key not in str(refused.value)
    assert "pass" not in str(refused.value)
