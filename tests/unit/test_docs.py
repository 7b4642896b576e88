"""The documentation says what is: examples can be planned, options and links exist, self-checks are all explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_aefm import judgement
from pytest_aefm.slo import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "experiments.md"], ids=lambda page: page.name)
def test_examples_can_be_planned(page: Path, tmp_path: Path) -> None:
    """Every example of a test is collected and planned, with the page's YAML beside it."""
    for text in blocks(page, "yaml"):
        (tmp_path / "hotel.yaml").write_text(text)
    examples = blocks(page, "python")
    assert examples
    for number, text in enumerate(examples):
        (tmp_path / f"test_{number}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "--aefm-plan", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout
    assert "nothing was run" in done.stdout


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
