"""
The pages hang together: links lead somewhere, the index has all of them, the changelog is current.
"""

import re
import tomllib
from pathlib import Path

import pytest
from fixtures.pages import ROOT, named, page_paths, read_page

PAGES = [read_page(path) for path in [*page_paths(), ROOT / "CONTRIBUTING.md"]]

LINKS = [(page.path, link) for page in PAGES for link in sorted(page.links) if "://" not in link]


@pytest.mark.parametrize(
    ("path", "link"), LINKS, ids=[f"{named(path)} {link}" for path, link in LINKS]
)
def test_link(path: Path, link: str) -> None:
    """
    A link inside the project leads to a file that is there, and to one of its headings.
    """
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path

    assert target.exists()
    assert not anchor or anchor in read_page(target).anchors


def test_the_index_has_every_page() -> None:
    """
    Every page below `docs/` is linked from its index.
    """
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in read_page(index).links}

    assert {path for path in (ROOT / "docs").rglob("*.md") if path != index} - linked == set()


def test_the_readme_leads_to_the_index() -> None:
    """
    Who reads the README finds the documentation.
    """
    assert "docs/README.md" in read_page(ROOT / "README.md").links


def test_the_changelog_is_of_this_version() -> None:
    """
    The newest part of the changelog names the version that the project has.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    headings = [section.heading for section in read_page(ROOT / "CHANGELOG.md").sections]

    newest = read_page(ROOT / "CHANGELOG.md").sections[headings.index("[Unreleased]")]

    assert project["version"] in newest.text


def test_the_changelog_has_its_form() -> None:
    """
    Below a version stand the kinds of changes that Keep a Changelog has, each once.
    """
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    _, title, *rest = (section.heading for section in read_page(ROOT / "CHANGELOG.md").sections)

    assert title == "Changelog"
    assert {heading for heading in rest if not heading.startswith("[")} <= kinds


def test_the_tests_that_show_each_fault() -> None:
    """
    The page about hard limits names tests that there are, one at least for each of its 29 faults.
    """
    text = (ROOT / "docs/concepts/hard-limits.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = set(re.findall(r"def (test_\w+)", "".join(sources)))
    rows = [line for line in text.splitlines() if "`test_" in line]

    assert set(re.findall(r"`(test_\w+)`", text)) - there == set()
    assert len(rows) == 29
