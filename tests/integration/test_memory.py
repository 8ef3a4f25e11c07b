"""
Memory of a server that has started: what is there stays out of collections.
"""

import subprocess
import sys

STARTS = """
import gc
from proxy_app.memory import keep_what_is_there
before = len(gc.get_objects())
keep_what_is_there()
print(before, gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_what_is_there_is_left_out() -> None:
    """
    Of the thousands of objects of a process nearly all are left out, and fewer than 100 are not.
    """
    said = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", STARTS], stdout=subprocess.PIPE, check=True, timeout=30
    )
    before, left_out, collected = map(int, said.stdout.split())

    assert before > 1000
    assert left_out > 0.9 * before
    assert collected < 100
