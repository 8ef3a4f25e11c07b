"""
The endpoints that Relay serves.
"""

from collections.abc import Mapping

from relay_middleware.core.endpoints import chat, embeddings
from relay_middleware.core.endpoints.endpoint import Endpoint

ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint for endpoint in (chat.ENDPOINT, embeddings.ENDPOINT)
}
"""By path."""
