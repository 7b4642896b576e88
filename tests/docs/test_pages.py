"""Whoever follows a page gets what it shows: every file is written, every command run, in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.docs.conftest import Reader

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if " file=" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed(reader: Reader, page: Path) -> None:
    """The page's files and commands work as written, in an empty folder, and print what is shown."""
    if " needs=cluster" in page.read_text():
        pytest.skip("it needs a cluster: tests/cluster/test_pages.py follows it")
    assert reader.follow(page)
