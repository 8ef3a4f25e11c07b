"""
What `relay selftest` does: run the proof where it leaves nothing behind, and print what it shows.
"""

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import click

from proxy_app.selftest.plan import Plan
from proxy_app.selftest.proof import prove
from proxy_app.selftest.verdict import Findings, failures, sentence, to_row
from proxy_app.tables import to_json


def selftest(redis_url: str, plan: Plan, *, is_json: bool, kept: Path | None) -> bool:
    """
    Run *plan* against the Redis at *redis_url*, print what it shows, and return whether that is
    what it must be.

    Args:
        kept: Where the configuration, the ledger and the logs are left; None: they are removed.

    Raises:
        RelayError: The proof could not be run.
    """
    with contextlib.ExitStack() as stack:
        folder = kept
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="relay-selftest-")
            folder = Path(stack.enter_context(made))
        elif folder.exists() and any(folder.iterdir()):
            raise click.UsageError(
                f"--keep {folder} is not empty: what is there would mix with it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        found = _run(redis_url, plan, folder.resolve())
    failed = failures(found)
    row = to_row(found)
    if is_json:
        told = {"is_proven": not failed, "failures": failed, "verdict": sentence(found)}
        click.echo(to_json({**row, **told}))
    else:
        width = max(map(len, row))
        for name, value in row.items():
            click.echo(f"{name.ljust(width)}  {value:>15,}")
        click.echo(f"\n{sentence(found)}")
    return not failed


def _run(redis_url: str, plan: Plan, folder: Path) -> Findings:
    try:
        return asyncio.run(_prove(redis_url, plan, folder))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _prove(redis_url: str, plan: Plan, folder: Path) -> Findings:
    task = asyncio.current_task()
    if task is not None:
        # As Ctrl-C does: either way what was made is removed.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await prove(redis_url, plan, folder, _say)


def _say(text: str) -> None:
    click.echo(text, err=True)
