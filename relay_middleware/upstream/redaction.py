"""
Redaction: what may be shown of a provider's message.

A client learns what is wrong with its request, not where it went and with which key.
"""

import re
from collections.abc import Iterable

MAX_MESSAGE_CHARACTERS = 500
"""A reason fits; a page of HTML, or the prompt sent back, does not."""

MASK = "[redacted]"

# What is looked at: bounds the work that a provider's answer can cause.
_MAX_READ_CHARACTERS = 4096

_TOP_LEVELS = (
    "ai|app|arpa|biz|ca|ch|cloud|cluster|cn|co|com|corp|de|dev|edu|eu|example|fr|gov|home|in|info"
    "|int|internal|invalid|io|jp|lan|local|localdomain|me|mil|net|nl|org|run|sh|svc|test|tech|uk"
    "|us|xyz"
)

_SECRETS = re.compile(
    "|".join(
        (
            r"[a-z][a-z0-9+.-]*://\S+",
            r"\b(?:bearer|basic)\s+\S+",
            # Keys and names of accounts: `sk-…`, `xai-…`, `org-…`, `proj_…`, also masked in part.
            r"\b(?:sk|pk|rk|key|xai|gsk|mr|org|proj|user|acct|sess)[-_][\w*.-]{4,}",
            r"\bAIza[\w-]{10,}",
            r"\beyJ[\w.-]{10,}",
            # Random text of any other form. Identifiers of models and fields are shorter.
            r"[A-Za-z0-9+/_-]{40,}={0,2}",
            r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
            r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",
            r"(?:\b[0-9a-f]{0,4}|\B):(?::?[0-9a-f]{1,4}){2,8}\b",
            # A host: with a port, or under a name that ends addresses and not a path into JSON.
            r"\b[a-z][\w.-]*:\d{2,5}\b",
            r"\blocalhost\b",
            rf"\b(?:[a-z0-9_](?:[\w-]*[a-z0-9])?\.)+(?:{_TOP_LEVELS})\b",
        )
    ),
    re.IGNORECASE,
)


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """
    Return *text* without addresses, host names, keys and names of accounts, and not too long.

    Args:
        secrets: Strings that are known to be secret here; removed whatever they look like.

    Returns:
        At most `MAX_MESSAGE_CHARACTERS` characters.
    """
    shown = _beginning(text)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        shown = shown.replace(secret, MASK)
    return _SECRETS.sub(MASK, shown)[:MAX_MESSAGE_CHARACTERS]


def _beginning(text: str) -> str:
    """The part that is read, without the word that its end may have cut in two."""
    if len(text) <= _MAX_READ_CHARACTERS:
        return text
    return text[:_MAX_READ_CHARACTERS].rpartition(" ")[0]
