"""
`relay check`: what a configuration says, what is wrong with it, and what is dangerous.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import click

from proxy_app.reports import NO_LIMIT, pace_row
from proxy_app.tables import Row, to_json, to_table
from relay_middleware.composition import plan
from relay_middleware.config import Config
from relay_middleware.config.document import ENVIRONMENT
from relay_middleware.config.loading import examine, read_text
from relay_middleware.config.mistakes import Finding, report
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.money import format_cents, format_usd
from relay_middleware.core.tiers import Margin, Tier
from relay_middleware.ledger.database import Database
from relay_middleware.stores.connection import address_of

MODEL_COLUMNS = {
    "model": "MODEL",
    "served_by": "SERVED BY",
    "wire": "WIRE",
    "per_million_input_usd": "$/M INPUT",
    "per_million_output_usd": "$/M OUTPUT",
    "fallbacks": "FALLBACKS",
}
TIER_COLUMNS = {
    "tier": "TIER",
    "models": "MODELS",
    "spend_limits": "SPEND LIMITS",
    "rate_limits": "RATE LIMITS",
    "token_limits": "TOKENS",
    "max_concurrency": "CONCURRENT",
    "margin": "MARGIN",
    "is_default": "NEW CUSTOMERS",
}


_SELDOM = ("token_limits", "max_concurrency")


def check(path: Path, *, is_json: bool) -> bool:
    """
    Print what the configuration at *path* says, or every mistake in it; return whether it is right.

    A variable that this environment lacks is a warning: the server's may have it.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    examined = examine(read_text(path), os.environ)
    planned = plan(examined.entries)
    mistakes = _by_line(*examined.mistakes, *examined.find(planned.mistakes))
    told = [each for each in planned.warnings if each.path[1] not in examined.incomplete]
    warnings = _by_line(*examined.unset, *examined.warnings, *examined.find(told))
    config = examined.config
    models = [] if config is None else _model_rows(planned.deployments, config)
    if is_json:
        facts = {
            "is_right": not mistakes,
            "mistakes": _finding_rows(mistakes),
            "warnings": _finding_rows(warnings),
            "models": models,
            "tiers": [] if config is None else _tier_rows(config),
        }
        click.echo(to_json(facts))
    elif mistakes or config is None:
        click.echo(report(str(path), mistakes))
        _print_warnings(warnings)
    else:
        _print_summary(path, config, models)
        _print_warnings(warnings)
    return not mistakes


def _print_summary(path: Path, config: Config, models: Sequence[Row]) -> None:
    click.echo(f"{path} is right.\n")
    click.echo(to_table(models, MODEL_COLUMNS) + "\n")
    tiers = _tier_rows(config)
    click.echo(to_table(tiers, _used_columns(tiers)) + "\n")
    click.echo(f"Limits are counted {_store(config)}; the ledger is in {_database(config)}.")


def _used_columns(tiers: Sequence[Row]) -> Mapping[str, str]:
    """The columns of the table of tiers, without limits that no tier has: it is wide as it is."""
    return {
        key: heading
        for key, heading in TIER_COLUMNS.items()
        if key not in _SELDOM or any(tier[key] not in (None, NO_LIMIT) for tier in tiers)
    }


def _print_warnings(warnings: Sequence[Finding]) -> None:
    if warnings:
        click.echo("\nWarnings:\n" + "\n".join(f"  {text}" for text in _once(warnings)))


def _once(warnings: Iterable[Finding]) -> Iterator[str]:
    """One line for each thing that is told: a key that forty deployments share is set once."""
    places_by_message: dict[str, list[Finding]] = {}
    for warning in warnings:
        places_by_message.setdefault(warning.message, []).append(warning)
    for first, *others in places_by_message.values():
        yield f"{first} ({len(others)} more like it)" if others else str(first)


def _by_line(*findings: Finding) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.line or 0)


def _finding_rows(findings: Iterable[Finding]) -> list[Row]:
    return [
        {"line": finding.line, "place": finding.place, "message": finding.message}
        for finding in findings
    ]


def _model_rows(deployments: Iterable[Deployment], config: Config) -> list[Row]:
    fallbacks = config.router_settings.fallbacks
    return [
        {
            "model": each.model,
            "served_by": f"{each.provider}/{each.deployment_model}",
            "wire": "translated" if each.is_translated else "direct",
            **_price(each),
            "fallbacks": ", ".join(fallbacks.get(each.model, ())) or None,
        }
        for each in deployments
    ]


def _price(deployment: Deployment) -> Mapping[str, str | None]:
    price = deployment.price
    rates = None if price is None else price.standard.base
    return {
        "per_million_input_usd": None if rates is None else _per_million(rates.input_usd),
        "per_million_output_usd": None if rates is None else _per_million(rates.output_usd),
    }


def _per_million(usd_per_token: Decimal) -> str:
    return f"{usd_per_token.scaleb(6).normalize():f}"


def _tier_rows(config: Config) -> list[Row]:
    return [_tier_row(tier, config) for tier in config.tiers.values()]


def _tier_row(tier: Tier, config: Config) -> Row:
    limits = (f"${format_usd(most)}/{period.value}" for period, most in tier.spend_limits.items())
    return {
        "tier": tier.name,
        "models": "all" if tier.models is None else ", ".join(sorted(tier.models)),
        "spend_limits": ", ".join(limits) or NO_LIMIT,
        **pace_row(tier, has_spend_limit=bool(tier.spend_limits)),
        "margin": _margin(tier.margin),
        "is_default": "yes" if tier.name == config.customers.default_tier else None,
    }


def _margin(margin: Margin) -> str:
    parts = [f"{margin.percent:f} %"] if margin.percent else []
    if margin.per_request_nano_usd:
        parts.append(f"{format_cents(margin.per_request_nano_usd)} cents a request")
    return " and ".join(parts) or "none"


def _store(config: Config) -> str:
    if config.redis_url is None:
        return f"in this one process (redis_url is null, the lock is in {config.state_dir})"
    return f"in Redis at {_unless_unset(config.redis_url) or address_of(config.redis_url)}"


def _database(config: Config) -> str:
    return _unless_unset(config.database_url) or Database(config.database_url).place


def _unless_unset(url: str) -> str | None:
    """The variable that should have said *url*, and did not."""
    return url if url.startswith(ENVIRONMENT) else None
