"""
`relay deployments`: what the workers last saw of them, or how they answer now.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_app.administration import opened
from proxy_app.reports import iso
from proxy_app.tables import Row, to_json, to_table
from relay_middleware.composition import compose
from relay_middleware.config import Config, load_config
from relay_middleware.core.deployments import DeploymentStatus, Probe
from relay_middleware.ledger.workers import WorkerReport, list_workers

STATUS_COLUMNS = {
    "deployment_id": "DEPLOYMENT",
    "served_by": "SERVED BY",
    "last_outcome": "LAST",
    "last_status_code": "STATUS",
    "last_at": "AT",
    "cooling_s": "LEFT OUT FOR",
    "worker_id": "WORKER",
}
PROBE_COLUMNS = {
    "deployment_id": "DEPLOYMENT",
    "served_by": "SERVED BY",
    "answer": "ANSWER",
    "status_code": "STATUS",
    "latency": "LATENCY",
    "complaint": "COMPLAINT",
}


def show(path: Path, *, is_json: bool) -> None:
    """Print what each worker that writes into this configuration's database last saw."""
    config = load_config(path, is_serving=False)

    async def work() -> Sequence[WorkerReport]:
        async with opened(config.database_url) as database:
            return await list_workers(database, datetime.now(UTC))

    workers = asyncio.run(work())
    rows = sorted(
        (_status_row(worker, each) for worker in workers for each in worker.deployments),
        key=lambda row: str(row["deployment_id"]),
    )
    if is_json:
        click.echo(to_json(rows))
    elif rows:
        click.echo(to_table([_shown(row) for row in rows], STATUS_COLUMNS))
    else:
        click.echo("No server is running; --probe calls the deployments from here.", err=True)


def probe(path: Path, *, is_json: bool) -> bool:
    """Call each deployment once, print how it answered, and return whether all of them did."""
    probes = asyncio.run(_probe(load_config(path)))
    rows = [_probe_row(status, each) for status, each in probes]
    if is_json:
        click.echo(to_json(rows))
    else:
        click.echo(to_table([_shown_probe(row) for row in rows], PROBE_COLUMNS))
    return all(each.is_ok for _, each in probes)


async def _probe(config: Config) -> Sequence[tuple[DeploymentStatus, Probe]]:
    parts = compose(config)
    try:
        known = parts.upstream.status()
        probes = [parts.upstream.probe(each.deployment_id) for each in known]
        return list(zip(known, await asyncio.gather(*probes), strict=True))
    finally:
        await parts.upstream.aclose()
        await parts.spend.aclose()
        await parts.database.aclose()


def _status_row(worker: WorkerReport, status: DeploymentStatus) -> Row:
    return {
        "deployment_id": status.deployment_id,
        "served_by": _served_by(status),
        "last_outcome": None if status.last_outcome is None else status.last_outcome.value,
        "last_status_code": status.last_status_code,
        "last_at": None if status.last_at is None else iso(status.last_at),
        "cooling_s": round(status.cooling_s),
        "worker_id": worker.worker_id,
    }


def _shown(row: Row) -> Row:
    cooling_s = row["cooling_s"]
    return {
        **row,
        "last_outcome": row["last_outcome"] or "not called",
        "cooling_s": f"{cooling_s} s" if cooling_s else None,
    }


def _probe_row(status: DeploymentStatus, probe: Probe) -> Row:
    return {
        "deployment_id": probe.deployment_id,
        "served_by": _served_by(status),
        "is_ok": probe.is_ok,
        "status_code": probe.status_code,
        "latency_ms": round(probe.latency_s * 1000),
        "complaint": probe.complaint,
    }


def _shown_probe(row: Row) -> Row:
    return {
        **row,
        "answer": "ok" if row["is_ok"] else "failed",
        "latency": f"{row['latency_ms']} ms",
    }


def _served_by(status: DeploymentStatus) -> str:
    return f"{status.provider}/{status.deployment_model}"
