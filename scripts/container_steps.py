"""
Run the steps of the Dockerfile in a folder: for machines that have no container engine.

    python scripts/container_steps.py FOLDER

Each stage gets FOLDER/image as its file system: a virtual environment plays the base image's
Python, absolute paths of the Dockerfile are meant inside, and COPY takes what .dockerignore lets
through. What this does not show: the base image itself and its libraries, the user (steps that make
one are passed over), and whatever the kernel keeps apart.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent

_BASE_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""Of the base image. Source: the Dockerfile of Docker's image `python`, read 2026-11-24."""

_INSIDE = re.compile(r"(?<![\w./-])/(?=(?:etc/relay|opt|src|usr/local|var/lib/relay|wheels)\b)")
"""Where an absolute path of the Dockerfile begins that is meant inside of the image."""

_MAKES_USERS = ("groupadd ", "useradd ")

_OPTION = re.compile(r"--([a-z-]+)=(\S+)\s+")


class DockerfileError(Exception):
    """The Dockerfile says what this program does not know, or a step failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """
    A line of the Dockerfile.

    Attributes:
        name: In capitals, as `COPY`.
        options: As `from` of `--from=build`.
        value: All behind them.
    """

    name: str
    options: Mapping[str, str]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What stands between one `FROM` and the next; *name* is empty where it has none."""

    name: str
    base: str
    steps: list[Instruction] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Image:
    """
    What a stage comes to. Paths are the Dockerfile's own; `real` says where they are.

    Attributes:
        folder: What plays the file system.
        user: As in `USER`; nobody runs as that user here.
        skipped: Steps that were passed over.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(_BASE_ENVIRONMENT))
    workdir: str = "/"
    user: str = "root"
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    healthcheck: Sequence[str] = ()
    skipped: list[str] = field(default_factory=list)

    def real(self, text: str) -> str:
        """Return *text* with the image's absolute paths in it as those of this machine."""
        return _INSIDE.sub(f"{self.folder}/", text)

    def path(self, text: str) -> Path:
        """Return where the path *text* is, relative ones from the working directory."""
        absolute = os.path.join(self.workdir, text)  # noqa: PTH118 - `Path` drops a final slash
        return Path(self.real(absolute))

    def process_environment(self, more: dict[str, str]) -> dict[str, str]:
        """Return the variables of a process in this image, and *more*, which are this machine's."""
        return {name: self.real(value) for name, value in self.environment.items()} | more


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of the Dockerfile *text*."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, value = line.strip().partition(" ")
        options = {}
        while found := _OPTION.match(value):
            options[found[1]] = found[2]
            value = value[found.end() :]
        if name:
            yield Instruction(name=name.upper(), options=options, value=value.strip())


def is_sent(path: str, dockerignore: str) -> bool:
    """
    Say whether *path*, relative to the context, gets past *dockerignore*: the last match decides.
    """
    parts = path.split("/")
    candidates = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    sent = True
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        is_exception = pattern.startswith("!")
        matcher = _matcher(pattern.removeprefix("!").strip("/"))
        if any(matcher.fullmatch(candidate) for candidate in candidates):
            sent = is_exception
    return sent


def stages(steps: Iterable[Instruction]) -> list[Stage]:
    """Return the stages of a Dockerfile, in their order."""
    found: list[Stage] = []
    for step in steps:
        if step.name == "FROM":
            base, _, name = step.value.partition(" AS ")
            found.append(Stage(name=name, base=base))
        else:
            found[-1].steps.append(step)
    return found


def build(context: Path, folder: Path, *, packages: Path | None = None) -> Image:
    """
    Run the Dockerfile of *context* in *folder*, and return its last stage.

    Args:
        packages: Where packages are installed already. Stages before the last then find there all
            that they ask for, and fetch nothing.

    Raises:
        DockerfileError: A step failed, or is not known.
    """
    sources = {"": folder / "context"}
    _send(context, sources[""])
    text = (context / "Dockerfile").read_text("utf-8")
    *earlier, last = stages(instructions(text))
    offline = {} if packages is None else {"PYTHONPATH": str(packages), "PIP_NO_INDEX": "1"}
    for stage in earlier:
        image = _run_stage(stage, folder, sources, offline)
        sources[stage.name] = image.folder.rename(folder / stage.name)
    return _run_stage(last, folder, sources, {})


def main() -> None:
    """Build into the folder that is named, and say what the image holds."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    image = build(ROOT, folder)
    size_mb = sum(path.lstat().st_size for path in image.folder.rglob("*")) / 1e6
    print(f"{image.folder}: {size_mb:.0f} MB without the base image's own")  # noqa: T201
    print(f"runs {shlex.join([*image.entrypoint, *image.command])} as {image.user}")  # noqa: T201
    for skipped in image.skipped:
        print(f"passed over: {skipped}")  # noqa: T201


def _run_stage(
    stage: Stage, folder: Path, sources: Mapping[str, Path], more: dict[str, str]
) -> Image:
    image = Image(folder=folder / "image")
    _base(folder, image.folder)
    for step in stage.steps:
        if step.name == "COPY":
            _copy(step, image, sources[step.options.get("from", "")])
        elif step.name == "RUN":
            _run(step.value, image, more)
        else:
            _note(step, image)
    return image


def _matcher(pattern: str) -> re.Pattern[str]:
    translated = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(translated.replace(r"\?", "[^/]"))


def _send(context: Path, target: Path) -> None:
    dockerignore = (context / ".dockerignore").read_text("utf-8")
    for top, folders, files in os.walk(context):
        inside = Path(top).relative_to(context)
        # A folder that is out stays unread, as .venv is large; no exception lies inside of one.
        folders[:] = [name for name in folders if is_sent((inside / name).as_posix(), dockerignore)]
        for name in files:
            if is_sent((inside / name).as_posix(), dockerignore):
                (target / inside).mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(top, name), target / inside / name)


def _base(folder: Path, root: Path) -> None:
    """Put a fresh Python with pip at `/usr/local` of *root*."""
    spare = folder / "base"
    if not spare.exists():
        _call([sys.executable, "-m", "venv", str(root / "usr/local")], root.parent, os.environ)
        shutil.copytree(root, spare, symlinks=True)
    else:
        shutil.copytree(spare, root, symlinks=True)


def _copy(step: Instruction, image: Image, source: Path) -> None:
    *names, target = step.value.split()
    for name in names:
        origin = source / name.lstrip("/")
        place = image.path(target)
        if origin.is_dir():
            shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True)
        elif origin.is_file():
            place = place / origin.name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)
        else:
            raise DockerfileError(f"COPY {step.value}: there is no {name}")


def _run(line: str, image: Image, more: dict[str, str]) -> None:
    if line.startswith(_MAKES_USERS):
        image.skipped.append(line)
        return
    if os.geteuid() and line.startswith("install "):
        image.skipped.append(f"the owner in: {line}")
        line = re.sub(r"--(owner|group)=\w+ ", "", line)
    given = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = image.process_environment({**given, **more})
    _call(["/bin/sh", "-c", image.real(line)], image.path(""), environment)


def _call(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - the project's own Dockerfile
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DockerfileError(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")


def _note(step: Instruction, image: Image) -> None:
    match step.name:
        case "ENV":
            for name, value in (word.split("=", 1) for word in shlex.split(step.value)):
                image.environment[name] = value.replace("$PATH", image.environment["PATH"])
        case "WORKDIR":
            image.workdir = step.value
            image.path("").mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = step.value
        case "ENTRYPOINT":
            image.entrypoint = json.loads(step.value)
        case "CMD":
            image.command = json.loads(step.value)
        case "HEALTHCHECK":
            image.healthcheck = json.loads(step.value.removeprefix("CMD "))
        case "EXPOSE":
            pass
        case _:
            raise DockerfileError(f"{step.name}: not known here; teach {Path(__file__).name}")


if __name__ == "__main__":
    main()
