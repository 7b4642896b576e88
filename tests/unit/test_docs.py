"""The documentation says what is: examples can be planned, options and links exist, self-checks are all explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_aefm import judgement
from pytest_aefm.slo import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = [page for page in PAGES if " file=" in page.read_text() and page.name != "CONTRIBUTING.md"]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks: the words of the first line, the text."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> set[str]:
    """Return the commands of a page."""
    return {command for words, text in blocks(page) for command in re.findall(r"^\$ (.*)", text, re.MULTILINE)}


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_every_example_is_executed(page: Path) -> None:
    """On a page that is followed there is no block that is neither a file nor run, here or by what it names."""
    for words, text in blocks(page):
        assert "file=" in words or words.startswith("console") or words == "text", words
        if named := re.search(r"by=(\S+)", words):
            program = (ROOT / named[1]).read_text()
            ran = (
                [f"docs/{page.name}"] if named[1].startswith("tests/") else re.findall(r"^\$ (.*)", text, re.MULTILINE)
            )
            assert all(one.replace("docs/", "") in program or one in program for one in ran)


def test_every_how_to_guide_is_followed() -> None:
    """README, tutorial and all guides are among the pages that are followed."""
    guides = {ROOT / "README.md", ROOT / "docs" / "tutorial.md", *(ROOT / "docs" / "how-to").glob("*.md")}
    assert len(guides) >= 11
    assert guides <= set(FOLLOWED)


def test_commands_of_ci_jobs_are_executed() -> None:
    """What the examples of CI jobs run is what their pages, or the tutorial, run."""
    found = 0
    for page in FOLLOWED:
        executed = commands(page) | commands(ROOT / "docs" / "tutorial.md")
        for words, text in blocks(page):
            if ".github" in words or ".gitlab" in words:
                jobs = yaml.safe_load(text)
                steps = [step.get("run") for job in jobs.get("jobs", {}).values() for step in job["steps"]]
                lines = [*filter(None, steps), *jobs.get("performance", {}).get("script", ())]
                assert any(line.startswith("pytest ") for line in lines)
                assert [] == [
                    line for line in lines if not {line, f"sudo {line}"} & executed and "apt-get install" not in line
                ]
                found += 1
    assert 3 == found


def test_packages_are_those_of_set_up() -> None:
    """The system packages that pages name are those that `make setup` installs, which CI does."""
    setup = (ROOT / "tools" / "setup.sh").read_text()
    lists = [line for page in PAGES for line in re.findall(r"apt-get install -y (.*)", page.read_text())]
    assert len(lists) >= 4
    packages = {package for line in lists for package in line.split()} - {"python3-venv"}
    assert set() == {package for package in packages if package not in setup}


def test_options_exist() -> None:
    """Every option that the documentation names is one of pytest's."""
    known = subprocess.run([sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, cwd=ROOT).stdout
    named = {option for page in PAGES for option in re.findall(r"--aefm-[a-z]+", page.read_text())}
    assert named
    assert set() == {option for option in named if option not in known}


def test_links_lead_somewhere() -> None:
    """Every relative link leads to a file of the project."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_exist() -> None:
    """Every `make` command that the documentation names has its target."""
    makefile = (ROOT / "Makefile").read_text()
    named = {target for page in PAGES for target in re.findall(r"^\$ make ([\w-]+)", page.read_text(), re.MULTILINE)}
    assert named
    assert set() == {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)}


def test_slos_of_the_table_parse() -> None:
    """Every SLO in the table of SLOs is one."""
    table = (ROOT / "docs" / "experiments.md").read_text().partition("| SLO | about |")[2].partition("\n\n")[0]
    slos = [
        text for row in table.splitlines() for text in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert len(slos) >= 12
    assert [slo.strip() for slo in slos] == [parse(slo).text for slo in slos]


def test_self_checks_are_explained() -> None:
    """Every self-check that can make a trial invalid stands in the definitions."""
    source = Path(judgement.__file__).read_text()
    names = set(re.findall(r'CheckResult\(\s*"([a-z ]+\d*)"', source)) - {"load complete"}
    text = (ROOT / "docs" / "definitions.md").read_text()
    assert {"pacer lag p99", "generator cpu", "clock step"} <= names
    assert set() == {name for name in names if name not in text}
