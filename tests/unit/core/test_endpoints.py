"""
The endpoints: what is below `/v1/`.
"""

from relay_middleware.core.endpoints.table import ENDPOINTS


def test_what_there_is() -> None:
    """
    There are chat completions and embeddings, each at its own path.
    """
    assert {path: endpoint.path for path, endpoint in ENDPOINTS.items()} == {
        "chat/completions": "chat/completions",
        "embeddings": "embeddings",
    }
