"""
From the configuration's `model_list` to deployments, priced.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from relay_middleware.config.values import ModelEntry
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.upstream.dialects import dialect_of
from relay_middleware.upstream.prices import PriceTable, resolve_price

_DEFAULT_PROVIDER = "openai"
"""Of a model named without one, as at LiteLLM."""


def to_deployments(
    entries: Sequence[ModelEntry], table: PriceTable
) -> tuple[tuple[Deployment, ...], tuple[str, ...]]:
    """
    Return the deployments in the order of *entries*, and warnings about their prices.

    Raises:
        ConfigurationError: A provider's wire is not supported, or a price is incomplete.
    """
    seen: Counter[str] = Counter()
    deployments, warnings = [], []
    for entry in entries:
        seen[entry.model_name] += 1
        deployment, warning = _deploy(entry, seen[entry.model_name], table)
        deployments.append(deployment)
        warnings += [warning] if warning is not None else []
        if deployment.price is None:
            warnings.append(
                f"{entry.model_name}: {entry.litellm_params.model} has no known price; it is"
                " refused to customers with a spend limit, and costs others nothing. Set one under"
                " prices."
            )
    return tuple(deployments), tuple(warnings)


def _deploy(entry: ModelEntry, number: int, table: PriceTable) -> tuple[Deployment, str | None]:
    params = entry.litellm_params
    provider, slash, model = params.model.partition("/")
    if not slash:
        provider, model = _DEFAULT_PROVIDER, params.model
    resolved = resolve_price(
        table,
        provider=provider,
        deployment_model=model,
        rates_usd=params.rates_usd,
        source=entry.model_name,
    )
    deployment = Deployment(
        deployment_id=DeploymentId(f"{entry.model_name}#{number}"),
        model=entry.model_name,
        provider=provider,
        deployment_model=model,
        api_base=params.api_base,
        api_key=params.api_key,
        weight=params.weight,
        order=params.order,
        timeouts=entry.timeouts,
        price=resolved.price,
    )
    dialect = dialect_of(deployment)
    return (
        replace(
            deployment,
            reasoning_in_output=dialect.reasoning_in_output,
            is_reasoning_capped=dialect.is_reasoning_capped,
        ),
        resolved.warning,
    )
