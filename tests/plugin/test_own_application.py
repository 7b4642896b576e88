"""An application of the user's own: its topology file is found and checked when tests are collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

_SHOP = """
app: shop
entry: front
smoke: [{path: /ok}]
services:
  front:
    endpoints: [{path: /ok, STEPS: [{cpu_us: 100}]}]
"""


def _name_app(folder: ExperimentFolder, app: str) -> None:
    """Have the folder's one test name this application."""
    (source,) = folder.path.glob("test_*.py")
    source.write_text(source.read_text().replace('app="shop"', f'app="{app}"'))


def test_topology_file_is_planned_under_its_name(folder: ExperimentFolder) -> None:
    """`app: apps/shop.yaml` lies in rootdir, and cases are named after the file."""
    path = folder.path / "apps" / "shop.yaml"
    path.parent.mkdir()
    path.write_text(_SHOP.replace("STEPS", "steps"))
    folder.test("rate=[200, 300]")
    _name_app(folder, "apps/shop.yaml")
    result = folder.run("--aefm-plan")
    assert 0 == result.ret
    result.stdout.fnmatch_lines(["*test_it[[]shop-200rps] *", "2 cases, about*"])


def test_mistake_in_a_topology_file_is_told_at_collection(folder: ExperimentFolder) -> None:
    """The message has file, line and path, and nothing is deployed."""
    (folder.path / "shop.yaml").write_text(_SHOP.replace("STEPS", "stpes"))
    folder.test()
    _name_app(folder, "shop.yaml")
    result = folder.run()
    assert 2 == result.ret
    result.stdout.fnmatch_lines(["*shop.yaml:7: services.front.endpoints[[]0].stpes: unknown key*"])
    assert [] == folder.asked()


def test_missing_topology_file_says_where_it_was_looked_up(folder: ExperimentFolder) -> None:
    """The message names the folders that were tried."""
    folder.test()
    _name_app(folder, "shop.yaml")
    result = folder.run()
    assert 2 == result.ret
    result.stdout.fnmatch_lines(["*app: topology file 'shop.yaml' not found; expected a file at one of *"])
