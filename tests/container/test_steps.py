"""
The Dockerfile's steps in a folder, and what comes of them as compose.yaml would run it, with a real
Redis and a real PostgreSQL.
"""

import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from fixtures.compose import ROOT, services
from fixtures.redis_server import PATIENCE, running_redis
from fixtures.world import CUSTOMER_HEADER, MESSAGES

from benchmarks.redis_server import free_port
from relay_middleware.testing import Simulator
from scripts.container_steps import DockerfileError, Image, Instruction, build, instructions

pytestmark = pytest.mark.slow

PACKAGES = None if os.environ.get("CONTAINER_FETCH") else Path(sysconfig.get_paths()["purelib"])
"""Where dependencies are found; with CONTAINER_FETCH=1 they are fetched, as by an engine: that
takes a minute and the package index."""

KEY = {"OPENAI_API_KEY": "sk-simulated", "POSTGRES_PASSWORD": "unused"}


@pytest.fixture(scope="module", name="image")
def _image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """
    The last stage.
    """
    return build(ROOT, tmp_path_factory.mktemp("container"), packages=PACKAGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    An image with the variables that its service has in compose.yaml.
    """

    image: Image
    environ: dict[str, str]

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run *command* in it, as `docker compose exec` does, to its end."""
        return subprocess.run(  # noqa: S603 - our own program
            [self.image.real(word) for word in command],
            cwd=self.image.path(""),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """
        Run entry point and command until they serve; then SIGTERM, which they end well of.

        Only loopback is listened on: all addresses are a container's own, and this machine's.
        """
        command = [*self.image.entrypoint, *self.image.command]
        command[command.index("--host") + 1] = "127.0.0.1"
        with subprocess.Popen(  # noqa: S603 - our own program
            command,
            cwd=self.image.path(""),
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if "Relay listens on" in line:
                    break
            else:
                pytest.fail(f"ended early:\n{said}")
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(timeout=60) == 0, said
            assert "Traceback" not in said


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[str]:
    """
    Redis as compose.yaml starts it.
    """
    program, *arguments = services()["redis"]["command"]
    assert program == "redis-server"
    with running_redis(tmp_path, *arguments) as url:
        yield url.partition("?")[0].removeprefix("redis://")


@pytest.fixture(name="container")
def _container(image: Image, redis: str, postgres_url: str) -> Container:
    """
    Relay's service: its variables as compose.yaml has them, with the stores where they are here.
    """
    given = services(KEY)["relay"]["environment"]
    address = given["RELAY_REDIS_URL"].replace("redis:6379", redis)
    stores = {"RELAY_REDIS_URL": f"{address}?{PATIENCE}", "RELAY_DATABASE_URL": postgres_url}
    here = {"PORT": str(free_port())}
    if PACKAGES is not None:
        here["PYTHONPATH"] = str(PACKAGES)
    environ = image.process_environment({**given, **stores, **here})
    return Container(image=image, environ=environ)


@pytest.fixture(name="provider")
def _provider() -> Iterator[str]:
    with Simulator().run_in_thread() as url:
        yield url


def mount_configuration(image: Image, provider: str) -> None:
    """
    Put the sample configuration where compose.yaml mounts it, with the simulator as its provider.
    """
    source, target, mode = services()["relay"]["volumes"][0].split(":")
    config = yaml.safe_load((ROOT / source / "relay.yaml").read_text("utf-8"))
    for entry in config["model_list"]:
        entry["litellm_params"]["api_base"] = f"{provider}/live/v1"
    path = image.path(f"{target}/relay.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert mode == "ro"


def files(image: Image) -> set[str]:
    """All that the image holds, but for what Python compiles where it may."""
    return {
        path.relative_to(image.folder).as_posix()
        for path in image.folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def ask(url: str, secret: str) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret}", CUSTOMER_HEADER: "alice"},
        json={"model": "smart", "messages": MESSAGES, "max_tokens": 5},
        timeout=30,
    )


@pytest.mark.anyio
async def test_the_steps_as_compose_runs_them(container: Container, provider: str) -> None:
    """
    It serves, is healthy, makes a key, answers, and ends well at SIGTERM with the request in
    PostgreSQL; outside of the mounted volume nothing was written.
    """
    mount_configuration(container.image, provider)
    before = files(container.image)

    program = "import relay_middleware; print(relay_middleware.__file__)"
    assert str(container.image.path("/opt/relay")) in container.exec("python", "-c", program).stdout
    assert container.exec(*container.image.healthcheck).returncode != 0
    with container.serving():
        healthy = container.exec(*container.image.healthcheck)
        created = container.exec("relay", "keys", "create", "--may-name-customers")
        answer = ask(f"http://127.0.0.1:{container.environ['PORT']}", created.stdout.strip())
    usage = container.exec("relay", "usage", "--json")

    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert created.stdout.startswith("mr_sk_")
    assert answer.status_code == 200, answer.text
    assert answer.json()["relay"]["provider"] == "openai"
    assert [(each["customer_id"], each["requests"]) for each in json.loads(usage.stdout)] == [
        ("alice", 1)
    ]
    written = files(container.image) - before
    assert [path for path in written if not path.startswith("var/lib/relay/")] == []


def test_what_the_image_holds(image: Image) -> None:
    """
    Relay is there with its scripts and migrations; pip, tests and the sources it was built of are
    not. Only the making of a user was passed over, and the state belongs to that user where the
    steps may say so.
    """
    held = files(image)
    packages = "opt/relay/lib/python3.11/site-packages".replace("3.11", _minor())

    assert "opt/relay/bin/relay" in held
    assert f"{packages}/relay_middleware/stores/lua/reserve.lua" in held
    assert f"{packages}/relay_middleware/ledger/migrations/versions/0001_first.py" in held
    assert [path for path in held if path.endswith(("/pip", "/setuptools", "/hatchling"))] == []
    assert [path for path in held if path.startswith(("src", "wheels"))] == []
    assert f"{packages}/tests" not in held
    assert image.skipped[0].startswith("groupadd --gid 10001")
    owner = image.path("/var/lib/relay").stat().st_uid
    assert owner == (10001 if os.geteuid() == 0 else os.geteuid())


def _minor() -> str:
    return sysconfig.get_python_version()


UNKNOWN: dict[str, Sequence[str]] = {
    "an instruction": ("ADD a b", "ADD: not known here"),
    "a source": ("COPY a b", "there is no a"),
    "a step": ("RUN exit 3", "'exit 3' failed"),
}


@pytest.mark.parametrize(("line", "expected"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_step_that_cannot_be_done(tmp_path: Path, line: str, expected: str) -> None:
    """
    What the program does not know, or what fails, is not passed over.
    """
    context = tmp_path / "project"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM python:3.11.15-slim-trixie\n{line}\n", "utf-8")
    (context / ".dockerignore").write_text("*", "utf-8")
    # Not used, so anything plays the base image.
    (tmp_path / "work/base").mkdir(parents=True)

    with pytest.raises(DockerfileError, match=expected):
        build(context, tmp_path / "work")


def test_how_an_instruction_is_read() -> None:
    """
    A line may be continued, a comment is none, and options are apart from the rest.
    """
    text = "# FROM a\nCOPY --from=build --chown=1:1 /a \\\n  /b\n\nrun true # here\n"

    assert list(instructions(text)) == [
        Instruction(name="COPY", options={"from": "build", "chown": "1:1"}, value="/a    /b"),
        Instruction(name="RUN", options={}, value="true # here"),
    ]
