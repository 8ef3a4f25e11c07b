"""
Deployments: concrete places where a model is served.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import datetime

from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.pricing import ModelPrice
from relay_middleware.core.records import AttemptOutcome
from relay_middleware.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """
    How long a provider may take, in seconds.

    Attributes:
        connect_s: Until the connection stands.
        first_event_s: From then to the first content of a stream.
        non_stream_s: From then to the end of an answer that is not a stream.
        between_chunks_s: Silence inside a stream.
    """

    connect_s: float = 5.0
    first_event_s: float = 60.0
    non_stream_s: float = 600.0
    between_chunks_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """
    One entry of the configuration's `model_list`.

    Attributes:
        deployment_id: Unique, stable across restarts with the same file.
        model: Name that clients ask for; deployments that share it are alternatives.
        provider: Company or wire that serves it, LiteLLM's word (`openai`, `xai`).
        deployment_model: Name at the provider.
        api_base: Where the provider listens, or None for the provider's own address.
        api_key: Credential; never printed.
        credentials: What else the provider wants of that kind, by LiteLLM's names, such as
            `aws_region_name`; never printed.
        weight: Share of the traffic among the alternatives, or None.
        order: Preference among the alternatives, lowest first, or None.
        reasoning_in_output: Whether the provider's output count includes reasoning.
        is_output_capped: Whether the output cap bounds all output, reasoning too; where not, only
            the model's own limit does.
        reasons_unasked: Whether its model may think before it answers although nobody asks.
        is_embedding: Whether its model makes embeddings, and writes nothing.
        is_translated: Whether it speaks a wire of its own, so that LiteLLM translates.
        encoding: Vocabulary by which its model's tokens can be counted here, or None.
        is_upgradable: Whether the provider may serve a request that names no service tier by a
            dearer one.
        writes_cache_unasked: Whether the provider may write input to its cache, at a price of its
            own, that the request does not mark.
        stores_marked_input: Whether marked input is stored for a fee by the hour, which no answer
            tells.
        price: None where unknown: then it is refused to customers with a spend limit.
        alike_id: The first deployment at which every request has the same bound; None: itself.
    """

    deployment_id: DeploymentId
    model: str
    provider: str
    deployment_model: str
    api_base: str | None
    api_key: str | None = field(repr=False)
    credentials: Mapping[str, object] = field(repr=False, default_factory=dict)
    weight: float | None = None
    order: int | None = None
    timeouts: Timeouts = Timeouts()
    reasoning_in_output: bool = True
    is_output_capped: bool = True
    reasons_unasked: bool = True
    is_embedding: bool = False
    is_translated: bool = False
    encoding: str | None = None
    is_upgradable: bool = False
    writes_cache_unasked: bool = True
    stores_marked_input: bool = False
    price: ModelPrice | None = None
    alike_id: DeploymentId | None = None

    @property
    def bound_id(self) -> DeploymentId:
        """The deployment that stands for this one where requests are bounded."""
        return self.deployment_id if self.alike_id is None else self.alike_id


def with_alikes(deployments: Iterable[Deployment]) -> list[Deployment]:
    """
    Return *deployments* with the `alike_id` of each that is like an earlier one but for where it
    is, by whose key, and how often it is asked.

    A request is bounded once for all that are alike: of hundreds that share a model nothing is
    worked out hundreds of times.
    """
    first: list[tuple[Deployment, DeploymentId]] = []
    found = []
    for each in deployments:
        likeness = replace(
            each,
            deployment_id=DeploymentId(""),
            alike_id=None,
            api_base=None,
            api_key=None,
            credentials={},
            weight=None,
            order=None,
            timeouts=Timeouts(),
        )
        alike_id = next((known_id for known, known_id in first if known == likeness), None)
        if alike_id is None:
            first.append((likeness, each.deployment_id))
        found.append(replace(each, alike_id=alike_id))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStatus:
    """
    What one process last saw of a deployment.

    Attributes:
        last_outcome: None where it was not called yet; as are the two after it.
        last_status_code: HTTP status of the provider, or None where no answer came.
        last_at: End of that attempt; aware, UTC.
        cooling_s: Seconds for which it is still left out; 0 where it is in use.
    """

    deployment_id: DeploymentId
    model: str
    provider: str
    deployment_model: str
    last_outcome: AttemptOutcome | None
    last_status_code: int | None
    last_at: datetime | None
    cooling_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    How one deployment answered a trial call.

    Attributes:
        latency_s: From the call to its whole answer or failure.
        status_code: HTTP status of the provider, or None where no answer came.
        complaint: What the provider said was wrong, hosts and keys redacted; None where it served.
    """

    deployment_id: DeploymentId
    is_ok: bool
    latency_s: float
    status_code: int | None
    complaint: str | None
