"""
Facts about the project itself.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

import relay_middleware
from relay_middleware.config import load_config
from relay_middleware.config.loading import parse_config

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for package in ("relay_middleware", "proxy_app", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
)

HOME_OF_VENDOR = {
    "litellm": {"relay_middleware/upstream"},
    "httptools": {"relay_middleware/upstream/http.py"},
    "aiohappyeyeballs": {"relay_middleware/upstream/http.py"},
    "aiohttp": {"proxy_app/selftest"},
    "redis": {"relay_middleware/stores", "benchmarks"},
    "hiredis": {"relay_middleware/stores"},
    "limits": {"relay_middleware/stores", "relay_middleware/config", "benchmarks"},
    "sqlalchemy": {"relay_middleware/ledger"},
    "alembic": {"relay_middleware/ledger"},
    "pydantic": {"relay_middleware/config"},
    "pydantic_settings": {"relay_middleware/config"},
    "yaml": {"relay_middleware/config", "benchmarks"},
    "click": {"proxy_app"},
    "uvicorn": {"proxy_app", "relay_middleware/testing"},
}
"""Packages of others, and the one part of Relay that may import each."""


def relative(path: Path) -> str:
    """Return *path* as it is called inside the project."""
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level names of all packages that *tree* imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_public_names() -> None:
    """`relay_middleware.__all__` is sorted, and each of its names can be imported, as no other."""
    homes = {name: getattr(relay_middleware, name).__module__ for name in relay_middleware.__all__}

    assert relay_middleware.__all__ == sorted(relay_middleware.__all__)
    assert {home.split(".")[0] for home in homes.values()} == {"relay_middleware"}
    with pytest.raises(AttributeError, match="has no attribute 'Router'"):
        _ = relay_middleware.Router  # type: ignore[attr-defined]


def test_the_command_line_does_not_load_the_engine() -> None:
    """A command that only writes SQL imports neither the OpenAI client nor the providers' code."""
    program = "import sys, proxy_app.administration; print(*sys.modules)"

    run = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )

    loaded = set(run.stdout.split())
    assert loaded & {"aiohttp", "litellm", "openai", "redis", "starlette"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_module(path: Path) -> None:
    """A module has at most 400 lines, a docstring, functions of at most 50, and its own vendors."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        # What a migration creates is a table of columns, of whatever length.
        and path.parent.name != "versions"
    ]
    strangers = {
        vendor
        for vendor in imported(tree)
        if not any(relative(path).startswith(home) for home in HOME_OF_VENDOR.get(vendor, {""}))
    }

    assert len(text.splitlines()) <= 400
    assert not text or ast.get_docstring(tree)
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50] == []
    assert strangers == set()


def test_sample_configuration() -> None:
    """The configuration that an operator begins with is right."""
    config = load_config(ROOT / "config/relay.yaml", {"OPENAI_API_KEY": "sk-test"})

    assert set(config.tiers) == {"free", "pro", "enterprise"}
    assert config.customers.default_tier == "free"


def test_demo_is_the_sample() -> None:
    """What the demo shows of models, tiers and fallbacks is what the sample configuration has."""
    template = Template((ROOT / "proxy_app/demo.yaml").read_text(encoding="utf-8"))
    text = template.substitute(provider="http://127.0.0.1:9000", state_dir=".relay/demo/8000")

    demo = parse_config(text, "demo.yaml", {})

    sample = load_config(ROOT / "config/relay.yaml", {"OPENAI_API_KEY": "sk-test"})
    assert demo.tiers == sample.tiers
    assert demo.customers == sample.customers
    assert demo.router_settings == sample.router_settings
    assert [entry.litellm_params.model for entry in demo.model_list] == [
        entry.litellm_params.model for entry in sample.model_list
    ]


def test_constraints_name_every_dependency() -> None:
    """Each package that the project asks for has its exact version in `constraints.txt`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    wanted = {
        name_of(requirement)
        for requirement in [*project["project"]["dependencies"], *groups["test"], *groups["lint"]]
    }
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name_of(line) for line in lines if "==" in line}

    assert wanted - pinned == set()


def name_of(requirement: str) -> str:
    """Return the normalised name of the package that *requirement* is about."""
    name = requirement
    for end in "<>=!;[ ":
        name = name.split(end)[0]
    return name.lower().replace("_", "-")


def test_command_line_imports_no_engine() -> None:
    """
    `relay --help` is quick, because what takes long to import is imported by the commands.
    """
    program = "import sys, proxy_app.cli; print(*sys.modules)"

    loaded = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()

    heavy = {"litellm", "sqlalchemy", "redis", "starlette", "pydantic", "uvicorn", "structlog"}
    assert heavy & set(loaded) == set()
