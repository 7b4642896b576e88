"""Pages that are followed to the letter: their files are written, their commands are run, in order, in a fresh folder.

The first line of a fenced block says what it is:

- ``yaml file=hotel.yaml`` (any language): a file of that name;
- ``console``: commands, each after ``$ ``, and what they print; ``exit=1`` is the exit status of the last one;
- ``console by=tests/...``: commands that the named test (or script) runs, because they need more than a folder;
- ``console needs=cluster``: the same as ``console``; the page is followed where there is a cluster.

What is shown is compared loosely: each line must be among those printed, numbers with their units and the width of
tables aside; a line that ends with ``...`` is the beginning of one, and ``...`` alone stands for any lines.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.noise import patience

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.:]\d+)*(?: ?(?:us|ms|s|min|h)\b)?")
_RULE = re.compile(r"([=_-])\1+")
_TIMEOUT_S = 600.0  # other runs may have the machine first


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words after it, its text."""

    language: str
    words: dict[str, str]
    text: str

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each command, with its continuation lines, and the lines that it is said to print."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            first, *rest = part.rstrip("\n").split("\n")
            while first.endswith("\\"):
                first = f"{first}\n{rest.pop(0).removeprefix('> ')}"
            yield first, [line for line in rest if line.strip() not in ("", "...")]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = _FENCE.findall(page.read_text())
    return [
        Block(language, dict(word.partition("=")[::2] for word in words.split()), text)
        for language, words, text in found
    ]


def plain(line: str) -> str:
    """Return a line without what differs from run to run."""
    return " ".join(_RULE.sub(r"\1", _NUMBER.sub("#", line)).split())


class Reader:
    """Somebody who follows a page in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "AEFM_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = inherited | {"PATH": path, "COLUMNS": "100"}

    def follow(self, page: Path) -> int:
        """Write the page's files and run its commands; return how many commands there were."""
        count = 0
        for block in blocks_of(page):
            if "file" in block.words:
                path = self.folder / block.words["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == "console" and "by" not in block.words:
                commands = list(block.commands())
                for number, (command, shown) in enumerate(commands, 1):
                    last = number == len(commands)
                    self._run(command, block.words.get("exit", "0") if last else "0", shown)
                count += len(commands)
        return count

    def _run(self, command: str, statuses: str, shown: list[str]) -> None:
        """Run one command and compare it with the page; loads that a busy machine disturbed run again."""
        for last in patience():
            before = self._reports()
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT_S,
            )
            problem = difference(done, statuses, shown)
            if last or not problem or not self._measured(self._reports() - before):
                break
        assert not problem, f"$ {command}\n{problem}\n\n{done.stdout}"

    def _reports(self) -> set[Path]:
        return set(self.folder.glob(".aefm/runs/*/report.json"))

    def _measured(self, reports: set[Path]) -> bool:
        """Return whether there were loads, and nothing else went wrong: how fast they were is the machine's matter."""
        trials = [trial for path in reports for trial in json.loads(path.read_text())["trials"]]
        return bool(trials) and all(trial["verdict"] != "broken" for trial in trials)


def difference(done: subprocess.CompletedProcess[str], statuses: str, shown: list[str]) -> str:
    """Return how a command that has run differs from its page, empty where it does not."""
    if str(done.returncode) not in statuses.split("|"):
        return f"exit status {done.returncode}, not {statuses}"
    printed = [plain(line) for line in done.stdout.splitlines()]
    for line in shown:
        wanted = plain(line)
        start = wanted.removesuffix("...").rstrip() if wanted.endswith("...") else None
        if not any(one == wanted if start is None else one.startswith(start) for one in printed):
            return f"shown, but not printed: {line}"
    return ""


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody who has an empty folder and the project installed."""
    return Reader(tmp_path)
