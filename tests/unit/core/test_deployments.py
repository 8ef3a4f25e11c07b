"""
Deployments: what is printed of them.
"""

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId


def test_a_key_is_not_printed() -> None:
    """
    A deployment in a log or a traceback does not tell its credential.
    """
    deployment = Deployment(
        deployment_id=DeploymentId("one"),
        model="smart",
        provider="openai",
        deployment_model="gpt-a",
        api_base=None,
        api_key="sk-secret",
    )

    assert "sk-secret" not in repr(deployment)
