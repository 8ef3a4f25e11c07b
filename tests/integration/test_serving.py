"""
The server's socket.
"""

import socket
import sys

import pytest

from proxy_app.serving import listen


@pytest.mark.skipif(sys.platform != "linux", reason="the option is Linux's")
def test_a_connection_that_takes_nothing_has_an_end() -> None:
    """
    Linux ends a connection of which nobody has taken anything for 60 s, after which its client
    counts as gone: uvicorn would wait until all is taken.
    """
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            limit_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    assert limit_ms == 60_000
