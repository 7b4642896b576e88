"""YAML files are tests, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_aefm.yaml_files import is_experiment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import ExperimentFolder

YAML = "app: shop\nscript: ok.lua\nrate: [150, 200]\nduration: 400ms\nwarmup: 0\nconnections: 96\n"


def collected(result: pytest.RunResult) -> list[str]:
    """Return the node ids that --collect-only -q printed."""
    return [line for line in result.outlines if "::" in line]


def test_named_pattern_is_collected(folder: ExperimentFolder) -> None:
    """*.aefm.yaml is a test with the file's stem as its name; other YAML files are left alone."""
    (folder.path / "shop.aefm.yaml").write_text(YAML)
    (folder.path / "values.yaml").write_text("nothing: of ours\n")
    found = collected(folder.run("--collect-only", "-q"))
    assert {"shop.aefm.yaml::test_shop[shop-150rps]", "shop.aefm.yaml::test_shop[shop-200rps]"} == set(found)


def test_file_on_the_command_line_runs(folder: ExperimentFolder) -> None:
    """Any YAML file that is named is an experiment: conftest's fixtures, -k, report and all."""
    (folder.path / "my-shop.yaml").write_text(YAML)
    folder.run("my-shop.yaml", "-k", "150rps").assert_outcomes(passed=1, deselected=1)
    assert "my-shop.yaml::test_my_shop[shop-150rps]" == folder.trial()["id"]


def test_pattern_is_an_ini_value(folder: ExperimentFolder) -> None:
    """aefm_files changes which files are collected, whatever python_functions says."""
    ini = folder.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naefm_files = exp_*.yaml\npython_functions = check_*\n")
    (folder.path / "exp_shop.yaml").write_text(YAML)
    (folder.path / "shop.aefm.yaml").write_text(YAML)
    found = collected(folder.run("--collect-only", "-q"))
    assert {"exp_shop.yaml"} == {line.partition("::")[0] for line in found}


def test_mistake_names_file_and_line(folder: ExperimentFolder) -> None:
    """A mistake is told with file, line and path."""
    (folder.path / "shop.aefm.yaml").write_text(YAML.replace("rate: [150, 200]", "rats: 1"))
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    result.stdout.fnmatch_lines(["*shop.aefm.yaml:3: rats: unknown key*did you mean 'rate'?*"])


def test_runs_under_xdist(folder: ExperimentFolder) -> None:
    """The file's cases are shared out to workers like other tests."""
    (folder.path / "shop.aefm.yaml").write_text(YAML)
    folder.run("-n2", subprocess=True).assert_outcomes(passed=2)
    assert 2 == len(folder.report()["trials"])


def test_yaml_of_others_is_left_to_them(folder: ExperimentFolder) -> None:
    """A file that is named and has none of our keys is another plugin's; a pattern may be a path below rootdir."""
    ini = folder.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naefm_files = exp/*.yaml\n")
    (folder.path / "api.tavern.yaml").write_text("test_name: api\nstages: []\n")
    (folder.path / "exp").mkdir()
    (folder.path / "exp" / "shop.yaml").write_text(YAML)
    (folder.path / "shop.yaml").write_text(YAML)
    assert [] == collected(folder.run("--collect-only", "-q", "api.tavern.yaml"))
    assert {"exp/shop.yaml"} == {line.partition("::")[0] for line in collected(folder.run("--collect-only", "-q"))}


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("name: x\napp: hotel\n", True),
        ('{"name": "x", "app": "hotel"}', True),
        ("test_name: api\nstages: []\n", False),
        ("stages: [{app: x}]\n", False),
    ],
)
def test_experiments_are_told_from_other_yaml(text: str, ours: bool, tmp_path: Path) -> None:
    """By a key at the top, also where the mapping is written in braces, as JSON is."""
    (tmp_path / "x.yaml").write_text(text)
    assert ours == is_experiment(tmp_path / "x.yaml")


def test_a_case_lies_in_its_file(folder: ExperimentFolder) -> None:
    """Where pytest says where a case is, it names the YAML file."""
    folder.use("deploy")
    (folder.path / "shop.aefm.yaml").write_text(YAML)
    folder.run("--junitxml=junit.xml", "-ojunit_family=xunit1", "-k150rps").assert_outcomes(errors=1, deselected=1)
    assert 'file="shop.aefm.yaml"' in (folder.path / "junit.xml").read_text()
