"""
The README says what is so.
"""

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay_middleware.config.schema import Settings
from relay_middleware.core import limit_refusals, refusals

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def codes() -> set[str]:
    """Every error code that a refusal has in its source."""
    source = inspect.getsource(refusals) + inspect.getsource(limit_refusals)
    return set(re.findall(r'code="([a-z_]+)"', source)) | {"invalid_value", "provider_refused"}


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_error_is_in_the_table(code: str) -> None:
    """
    A code that a client can get stands in the README.
    """
    assert f"`{code}`" in README


@pytest.mark.parametrize("key", sorted(Settings.model_fields))
def test_every_setting_is_in_the_table(key: str) -> None:
    """
    A key that the file may have stands in the README.
    """
    assert f"`{key}" in README


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.anyio
async def test_middleware_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The example mounts Relay: below /v1 it answers, elsewhere the application does.
    """
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "relay.yaml", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    (example,) = (block for block in code_blocks("python") if "RelayMiddleware" in block)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - the README's own code
    transport = httpx.ASGITransport(app=names["app"])

    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        relays = await client.get("/v1/models")
        hosts = await client.get("/elsewhere")
    await names["relay"].aclose()

    assert (relays.status_code, relays.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (hosts.status_code, hosts.text) == (404, "Not Found")
