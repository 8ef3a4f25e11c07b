"""
Every block of code in the documentation does what it says: pasted, in its order, by a reader whose
folder is empty. How a block says how it is checked stands in `fixtures/pages.py`.
"""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from fixtures.pages import ROOT, Block, named, page_paths, read_page
from fixtures.terminal import Terminals

from benchmarks.redis_server import free_port
from relay_middleware.config.loading import examine

PAGES = [read_page(path) for path in page_paths()]
BLOCKS = [block for page in PAGES for block in page.blocks]

PASTED = {"run", "serve", "output", "file"}
CHECKS = PASTED | {"config", "part", "of", "make", "engine"}

CONTAINER_PAGES = {"docs/container.md"}
"""Where blocks may stand that are not run here: those that need a container engine."""

BASE = """\
model_list:
  - model_name: smart
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
  - model_name: smart-backup
    litellm_params: {model: openai/gpt-4.1-mini, api_key: os.environ/OPENAI_API_KEY}
tiers:
  free: {models: [smart], spend_limits: [{cents: 50, per: day}]}
customers: {default_tier: free}
"""
"""What a part of a configuration is a part of."""


def those(check: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a test each block that is to be checked in this way."""
    return pytest.mark.parametrize(
        "block", [block for block in BLOCKS if block.check == check], ids=str
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_how_it_is_checked(block: Block) -> None:
    """
    A block that nothing checks cannot be added: its language is followed by a check there is, and
    only a page about containers may leave one to a container engine.
    """
    assert block.check in CHECKS, f"{block}: a block says after its language how it is checked"
    assert block.check != "engine" or named(block.page) in CONTAINER_PAGES


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [page.path for page in PAGES if PASTED & {block.check for block in page.blocks}],
    ids=named,
)
def test_page_can_be_pasted(path: Path, tmp_path: Path) -> None:
    """
    A reader with an empty folder pastes the page's commands from its top, and sees what it shows.

    Only the ports are others: free ones, in place of 8000 to 8009.
    """
    port_by_shown: dict[str, int] = {}

    def with_free_ports(text: str) -> str:
        return re.sub(
            r"(127\.0\.0\.1:|--port )(800\d)",
            lambda found: f"{found[1]}{port_by_shown.setdefault(found[2], free_port())}",
            text,
        )

    printed = ""
    with Terminals(tmp_path) as terminals:
        for block in read_page(path).blocks:
            text = with_free_ports(block.text)
            match block.check:
                case "file":
                    save(tmp_path / block.options["file"], text)
                case "serve":
                    printed = terminals.serve(text)
                case "run":
                    if block.language == "python":
                        save(tmp_path / ".pasted.py", text)
                        text = "python .pasted.py"
                    printed = terminals.run(text, exit_code=int(block.options.get("exit", "0")))
                case "output":
                    assert is_shown(block.language, text, printed), f"{block} shows:\n{printed}"


def save(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def is_shown(language: str, shown: str, printed: str) -> bool:
    """Say whether a page that shows *shown* is right about a command that printed *printed*."""
    if language == "json":
        return is_alike(json.loads(shown), json.loads(printed))
    return re.fullmatch(as_pattern(shown), squeezed(printed)) is not None


def is_alike(shown: object, actual: object) -> bool:
    """
    Compare JSON: `"…"` stands for any value, `"…": "…"` for further members, `["…"]` for any list.
    """
    if shown == "…" or (shown == ["…"] and isinstance(actual, list)):
        return True
    if isinstance(shown, Mapping) and isinstance(actual, Mapping):
        names = shown.keys() - {"…"}
        is_complete = "…" in shown or names == actual.keys()
        return is_complete and all(
            name in actual and is_alike(shown[name], actual[name]) for name in names
        )
    if isinstance(shown, list) and isinstance(actual, list):
        return len(shown) == len(actual) and all(map(is_alike, shown, actual))
    return shown == actual


def as_pattern(shown: str) -> str:
    """Return what matches text like *shown*, where a line `…` stands for any number of lines."""
    lines = (
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*?") + r"\n"
        for line in squeezed(shown).splitlines()
    )
    return "".join(lines)


def squeezed(text: str) -> str:
    """Return *text* without its alignment and its empty lines."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@pytest.mark.parametrize(
    ("shown", "printed", "is_right"),
    [
        ("key_… is  revoked.", "key_ab12 is revoked.\n", True),
        ("key_… is revoked.", "key_ab12 is in force.\n", False),
        ("first\n…\nlast", "first\n1\n2\nlast\n", True),
        ("first\n…\nlast", "first\n1\n2\n", False),
    ],
)
def test_an_output_is_compared(shown: str, printed: str, *, is_right: bool) -> None:
    """
    What a page shows must be there, but for `…` and alignment.
    """
    assert is_shown("text", shown, printed) is is_right


@pytest.mark.parametrize(
    ("shown", "printed", "is_right"),
    [
        ('{"a": "…", "b": 1.5}', '{"a":"x","b":1.5}', True),
        ('{"a": "…", "b": 1.5}', '{"a":"x","b":1.6}', False),
        ('{"a": "…"}', '{"a":"x","b":1.5}', False),
        ('{"a": "x", "…": "…"}', '{"a":"x","b":1.5}', True),
        ('{"a": ["…"]}', '{"a":[{},{}]}', True),
        ('{"a": [{"b": 1}]}', '{"a":[{"b":1},{}]}', False),
    ],
)
def test_json_is_compared(shown: str, printed: str, *, is_right: bool) -> None:
    """
    Every member that a page shows has its value, and without `…` there are no others.
    """
    assert is_shown("json", shown, printed) is is_right


@those("config")
def test_configuration(block: Block) -> None:
    """
    A whole configuration has no mistake.
    """
    assert [str(mistake) for mistake in examine(block.text, {}).mistakes] == []


@those("part")
def test_part_of_a_configuration(block: Block) -> None:
    """
    A part of a configuration, put into a whole one, has no mistake.
    """
    whole = merged(yaml.safe_load(BASE), yaml.safe_load(block.text))

    mistakes = examine(yaml.safe_dump(whole), {"OPENAI_API_KEY": "sk-test"}).mistakes

    assert [str(mistake) for mistake in mistakes] == []


def merged(whole: object, part: object) -> object:
    """Return *whole* with *part* over it: mappings are merged, all else is replaced."""
    if not isinstance(whole, Mapping) or not isinstance(part, Mapping):
        return part
    return {**whole, **{key: merged(whole.get(key), value) for key, value in part.items()}}


@those("of")
def test_excerpt(block: Block) -> None:
    """
    An excerpt stands in the file that it is of.
    """
    whole = (ROOT / block.options["of"]).read_text(encoding="utf-8")

    assert block.text in whole


@those("make")
def test_make_target(block: Block) -> None:
    """
    What a page says to make, the Makefile can.
    """
    for line in block.text.splitlines():
        command = line.split("#")[0].replace("make ", "make -n ", 1)
        subprocess.run(  # noqa: S602 - what our own pages say
            command, shell=True, cwd=ROOT, check=True, capture_output=True
        )
