"""
What can be seen of the Dockerfile, .dockerignore and compose.yaml without an engine.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from fixtures.compose import ROOT, VARIABLE, compose_text, services

from proxy_app.cli import main
from relay_middleware.relay import DRAIN_S
from scripts.container_steps import Stage, instructions, is_sent, stages

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
DOCKERIGNORE = (ROOT / ".dockerignore").read_text("utf-8")

PINNED = re.compile(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z0-9.]+)*")

SECRET = re.compile(r"KEY|PASSWORD|SECRET|TOKEN")

ENVIRON = {"POSTGRES_PASSWORD": "hunter2", "OPENAI_API_KEY": "sk-0123456789abcdef"}


def last_stage() -> Stage:
    return stages(instructions(DOCKERFILE))[-1]


def values(stage: Stage, name: str) -> list[str]:
    return [step.value for step in stage.steps if step.name == name]


def test_every_image_has_a_version() -> None:
    """
    No image is `latest` or without a version: Python's has three numbers, the same in both stages.
    """
    bases = [stage.base for stage in stages(instructions(DOCKERFILE))]
    others = [services()[name]["image"] for name in ("relay", "redis", "postgres")]

    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", bases[0])
    assert [image for image in others if not PINNED.fullmatch(image)] == []


def test_the_version_is_the_projects_own() -> None:
    """
    The image that compose builds is called after the version in pyproject.toml.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert services()["relay"]["image"] == f"{project['name']}:{project['version']}"


def test_nothing_is_installed_or_built_in_the_last_stage() -> None:
    """
    The last stage takes what the first one made, removes pip, and copies nothing of the context.
    """
    stage = last_stage()

    copies = [step.options for step in stage.steps if step.name == "COPY"]
    commands = " ".join(values(stage, "RUN"))
    assert copies == [{"from": "build"}]
    assert "pip uninstall --yes" in commands
    assert not re.search(r"pip install|pip wheel|apt|gcc|curl", commands)


def test_it_does_not_run_as_root() -> None:
    """
    The user is set by number before the entry point, and is the one whom the state belongs to.
    """
    stage = last_stage()
    names = [step.name for step in stage.steps]
    (user,) = values(stage, "USER")

    assert names.index("USER") < names.index("ENTRYPOINT")
    assert user == "10001:10001"
    assert any(
        line.startswith("install") and "--owner=10001 --group=10001" in line
        for line in values(stage, "RUN")
    )


def test_signals_reach_relay() -> None:
    """
    Entry point, command and health check are lists, so that no shell stands between.
    """
    stage = last_stage()

    assert json.loads(values(stage, "ENTRYPOINT")[0]) == ["relay"]
    assert json.loads(values(stage, "CMD")[0]) == ["serve", "--host", "0.0.0.0"]  # noqa: S104
    assert json.loads(values(stage, "HEALTHCHECK")[0].removeprefix("CMD "))[0] == "python"


def test_no_secret_stands_in_a_file() -> None:
    """
    The image has no variable for a secret, and compose takes each one from the environment.
    """
    in_image = [line for stage in stages(instructions(DOCKERFILE)) for line in values(stage, "ENV")]
    variables = {
        name: value
        for service in services().values()
        for name, value in service.get("environment", {}).items()
    }

    assert "ARG" not in {step.name for step in instructions(DOCKERFILE)}
    assert not SECRET.search(" ".join(in_image))
    secrets = [value for name, value in variables.items() if SECRET.search(name)]
    assert len(secrets) == 2
    assert [value for value in secrets if not VARIABLE.fullmatch(value)] == []
    assert "relay:${POSTGRES_PASSWORD:?" in variables["RELAY_DATABASE_URL"]
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert not re.search(r"mr_sk_|sk-[a-z0-9]", DOCKERFILE + compose_text())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("relay_middleware/stores/lua/reserve.lua", True),
        ("proxy_app/demo.yaml", True),
        ("pyproject.toml", True),
        ("relay_middleware/core/__pycache__/money.cpython-311.pyc", False),
        ("tests/conftest.py", False),
        (".git/config", False),
        (".env", False),
        ("config/relay.yaml", False),
        (".venv/bin/relay", False),
        ("relay.db", False),
    ],
)
def test_what_is_sent_to_the_engine(path: str, *, expected: bool) -> None:
    """
    What the image is built of, and no secret, no history, no test.
    """
    assert is_sent(path, DOCKERIGNORE) is expected


@pytest.mark.parametrize(
    ("dockerignore", "path", "expected"),
    [
        ("", "a/b", True),
        ("# a\n\na", "a/b", False),
        ("a/*", "a/b/c", False),
        ("*.db", "a/b.db", True),
        ("**/*.db", "a/b.db", False),
        ("?.py", "a.py", False),
        ("!a\na", "a", False),
        ("a\n!a/b", "a/b/c", True),
    ],
)
def test_how_dockerignore_is_read(dockerignore: str, path: str, *, expected: bool) -> None:
    """
    The last pattern that fits the path, or a folder above it, decides.

    Source: Docker, "Build context", `.dockerignore` files, read 2026-11-24.
    """
    assert is_sent(path, dockerignore) is expected


def test_relay_waits_for_healthy_stores() -> None:
    """
    Both stores have a health check, and Relay starts when both have passed.
    """
    found = services()

    assert found["relay"]["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "postgres": {"condition": "service_healthy"},
    }
    assert found["redis"]["healthcheck"]["test"][0] == "CMD-SHELL"
    assert found["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_stores_keep_what_they_are_told() -> None:
    """
    Redis appends to its file and refuses when it is full; every store has a declared volume.
    """
    found = services()
    command = found["redis"]["command"]
    declared = set(re.findall(r"^  (\w+): \{\}$", compose_text(), re.MULTILINE))

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert declared == {"state", "redis", "postgres"}
    assert found["redis"]["volumes"] == ["redis:/data"]
    assert found["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "state:/var/lib/relay" in found["relay"]["volumes"]


def test_relay_is_shut_in() -> None:
    """
    Relay's file system and configuration cannot be written, it has no rights of root, and only this
    machine reaches it; Redis and PostgreSQL are reached by Relay alone.
    """
    found = services()
    relay = found["relay"]

    assert relay["volumes"][0] == "./config:/etc/relay:ro"
    assert (relay["read_only"], relay["cap_drop"]) == (True, ["ALL"])
    assert relay["security_opt"] == ["no-new-privileges:true"]
    assert relay["ports"] == ["127.0.0.1:8000:8000"]
    assert [name for name in found if "ports" in found[name]] == ["relay"]


def test_there_is_time_to_drain() -> None:
    """
    An engine kills after answers, their charges and the ledger have had their time, 60 s each.
    """
    grace_s = int(services()["relay"]["stop_grace_period"].removesuffix("s"))

    assert grace_s > 2 * DRAIN_S


def test_the_mounted_configuration_is_right(tmp_path: Path) -> None:
    """
    What compose mounts passes `relay check` with the variables that compose and the image set:
    limits in Redis, the ledger in PostgreSQL, no warning.
    """
    environ = services(ENVIRON)["relay"]["environment"] | {"RELAY_STATE_DIR": str(tmp_path)}

    result = CliRunner(env=environ).invoke(main, ["check", str(ROOT / "config/relay.yaml")])

    assert result.exit_code == 0
    assert result.stdout.endswith(
        "Limits are counted in Redis at redis:6379; the ledger is in postgres/relay.\n"
    )
    assert "Warnings" not in result.stdout
    assert "hunter2" not in result.stdout


PAGE = (ROOT / "docs/container.md").read_text("utf-8")

COMMANDS = sorted(set(re.findall(r"docker compose exec relay relay ([a-z -]+)", PAGE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_commands_are_relays(command: str) -> None:
    """
    What the page runs inside of the container, the command line knows, options too.
    """
    words = command.split()
    names = [word for word in words if not word.startswith("-")]
    options = [word for word in words if word.startswith("-")]

    result = CliRunner().invoke(main, [*names, "--help"])

    assert result.exit_code == 0
    assert [option for option in options if option not in result.stdout] == []


def test_the_page_says_how_long_it_may_take_to_end() -> None:
    """
    The page has compose's number of seconds.
    """
    grace_s = services()["relay"]["stop_grace_period"].removesuffix("s")

    assert f"is {grace_s} seconds for that" in " ".join(PAGE.split())
