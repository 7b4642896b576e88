"""From a marker to cases: ids, order, plan, and what is refused before anything is deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder


def ids(result: pytest.RunResult) -> list[str]:
    """Return the ids that a --collect-only -q run has printed."""
    return [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line and "[" in line]


def collect(folder: ExperimentFolder, *arguments: str) -> list[str]:
    """Collect and return the ids in running order."""
    return ids(folder.run("--collect-only", "-q", *arguments))


def test_ids_hold_every_factor(folder: ExperimentFolder) -> None:
    """Every factor stands in the id, single-valued ones too, in a fixed order."""
    folder.test("rate=[150, 200], cpu=[0, 1], rounds=2, factors={'payload': [7]}, order='cost'")
    found = collect(folder)
    assert 8 == len(found)
    assert {"shop-cpu0-payload7-150rps-r1", "shop-cpu1-payload7-200rps-r2"} <= set(found)


def test_ids_are_legal_in_k(folder: ExperimentFolder) -> None:
    """-k takes an id's parts."""
    folder.test("rate=[150, 200], cpu=[0, 1]")
    assert ["shop-cpu1-150rps"] == collect(folder, "-k", "cpu1- and 150rps")


def test_orders_first_is_innermost(folder: ExperimentFolder) -> None:
    """An explicit orders wins: its first factor changes fastest."""
    folder.test("rate=[150, 200], cpu=[0, 1], orders=['cpu', 'rate']")
    assert ["shop-cpu0-150rps", "shop-cpu1-150rps", "shop-cpu0-200rps", "shop-cpu1-200rps"] == collect(folder)


def test_order_is_of_the_seed(folder: ExperimentFolder) -> None:
    """The same --aefm-seed gives the same order, and rounds are shuffled apart."""
    folder.path.joinpath("test_it.py").write_text(
        "import pytest\n\n"
        '@pytest.mark.aefm(app="shop", script="ok.lua", rate=list(range(150, 160)), rounds=3, duration=1)\n'
        "def test_it(aefm_run):\n    aefm_run()\n"
    )
    first = collect(folder, "--aefm-seed=1")
    assert first == collect(folder, "--aefm-seed=1")
    assert first != collect(folder, "--aefm-seed=2")
    rounds = [
        [name.replace(f"-r{number}", "") for name in first if name.endswith(f"r{number}")] for number in (1, 2, 3)
    ]
    assert rounds[0] != rounds[1] != rounds[2]


def test_only_our_items_move(folder: ExperimentFolder) -> None:
    """Our cases are put in order among the places that they occupy; other tests stay where they are."""
    folder.pytester.makeconftest(
        folder.path.joinpath("conftest.py").read_text()
        + "\ndef pytest_collection_modifyitems(items):\n    items[:] = [items[1], items[2], items[0], items[3]]\n"
    )
    folder.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.aefm(app="shop", script="ok.lua", rate=[150, 160], duration=1, order="cost")
        def test_ours(aefm_run):
            aefm_run()

        def test_one(): pass
        def test_two(): pass
        """
    )
    lines = [line.partition("::")[2] for line in folder.run("--collect-only", "-q").outlines if "::" in line]
    assert ["test_ours[shop-150rps]", "test_one", "test_ours[shop-160rps]", "test_two"] == lines


def test_markers_merge_and_the_closest_wins(folder: ExperimentFolder) -> None:
    """Module, class and function markers merge key by key."""
    folder.pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.aefm(app="shop", script="ok.lua", duration=1, rate=100)

        @pytest.mark.aefm(rate=150, rounds=2)
        class TestShop:
            @pytest.mark.aefm(rate=[160, 170])
            def test_it(self, aefm_run):
                aefm_run()
        """
    )
    assert {"shop-160rps-r1", "shop-170rps-r1", "shop-160rps-r2", "shop-170rps-r2"} == set(collect(folder))


def test_yaml_beside_the_test_then_in_rootdir(folder: ExperimentFolder) -> None:
    """A marker's path is relative to the test file, then to rootdir; keywords override the file."""
    (folder.path / "sub").mkdir()
    (folder.path / "shop.yaml").write_text("app: shop\nscript: ok.lua\nrate: 100\nduration: 3s\n")
    (folder.path / "sub" / "near.yaml").write_text("app: near\nscript: ok.lua\nrate: 100\nduration: 3s\n")
    (folder.path / "sub" / "test_it.py").write_text(
        "import pytest\n"
        '@pytest.mark.aefm("shop.yaml", rate=300)\ndef test_root(aefm_run): aefm_run()\n'
        '@pytest.mark.aefm("near.yaml")\ndef test_near(aefm_run): aefm_run()\n'
    )
    assert ["shop-300rps", "near-100rps"] == collect(folder)


def test_script_is_found_beside_the_experiment(folder: ExperimentFolder) -> None:
    """A script is looked up beside the YAML file first."""
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "own.lua").write_text("-- nothing\n")
    (folder.path / "sub" / "shop.yaml").write_text("app: shop\nscript: own.lua\nrate: 100\nduration: 3s\n")
    folder.pytester.makepyfile(
        'import pytest\n@pytest.mark.aefm("sub/shop.yaml")\ndef test_root(aefm_run): aefm_run()\n'
    )
    assert ["shop-100rps"] == collect(folder)


def test_bundled_script_is_found(folder: ExperimentFolder) -> None:
    """A script that comes with the package needs no file of the user's."""
    folder.test('script="hotel/search.lua"')
    assert ["shop-200rps"] == collect(folder)


def test_user_parametrize_stays(folder: ExperimentFolder) -> None:
    """The user's own parametrize multiplies the cases and stands in the id."""
    folder.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("region", ["eu", "us"])
        @pytest.mark.aefm(app="shop", script="ok.lua", rate=200, duration=1)
        def test_it(aefm_run, region):
            aefm_run()
        """
    )
    assert {"shop-200rps-eu", "shop-200rps-us"} == set(collect(folder))


def test_getfixturevalue_works(folder: ExperimentFolder) -> None:
    """A test that asks for aefm_run by getfixturevalue is parametrized, too."""
    folder.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.aefm(app="shop", script="ok.lua", rate=200, duration=0.4, connections=96, warmup=0)
        def test_it(request, aefm_testbed):
            request.getfixturevalue("aefm_run")()
        """
    )
    folder.run().assert_outcomes(passed=1)


def test_overridden_run_keeps_its_case(folder: ExperimentFolder) -> None:
    """A conftest that wraps aefm_run loses no parametrization."""
    conftest = folder.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\n@pytest.fixture\ndef aefm_run(aefm_run):\n    return aefm_run\n")
    folder.test()
    folder.run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("rats=[1]", "did you mean 'rate'?"),
        ("rate=-5", "positive number"),
        ("duration=0", "duration"),
        ('slos=["p99 <"]', "malformed SLO 'p99 <'"),
        ('slos=["goodptu >= 99%"]', "did you mean 'goodput'?"),
        ('slos=["p99.9 < 1s"]', "needs at least 2995 requests"),
        ('script="none.lua"', "script 'none.lua' not found"),
        ('script="hotel/serch.lua"', "did you mean 'hotel/search.lua'?"),
        ("cpu='many'", "'many'"),
        ("orders=['cpuu']", "cpuu"),
        ('testbed="moon"', "moon"),
    ],
)
def test_mistakes_are_refused_at_collection(folder: ExperimentFolder, marker: str, words: str) -> None:
    """A mistake in a marker is told in one message without a traceback, and nothing is deployed."""
    folder.test(marker)
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    output = result.stdout.str()
    assert words in output
    assert "::test_it" in output
    assert "Traceback" not in output
    assert "pytest_aefm/collection.py" not in output
    assert [] == folder.asked()


def test_yaml_mistake_names_file_line_and_path(folder: ExperimentFolder) -> None:
    """A mistake in a YAML file is told with file, line and path."""
    (folder.path / "shop.yaml").write_text("app: shop\nscript: ok.lua\nrate: 200rps\nduration: 3s\n")
    folder.pytester.makepyfile('import pytest\n@pytest.mark.aefm("shop.yaml")\ndef test_it(aefm_run): aefm_run()\n')
    result = folder.run()
    result.stdout.fnmatch_lines(["*shop.yaml:3: rate: *200rps*"])


def test_missing_yaml(folder: ExperimentFolder) -> None:
    """A YAML file that is not there is named with the places where it was looked for."""
    folder.pytester.makepyfile('import pytest\n@pytest.mark.aefm("none.yaml")\ndef test_it(aefm_run): aefm_run()\n')
    folder.run().stdout.fnmatch_lines(["*experiment file 'none.yaml' not found; expected a file at *none.yaml*"])


def test_marked_without_fixture_is_refused(folder: ExperimentFolder) -> None:
    """A marked test without any of our fixtures is refused at collection."""
    folder.pytester.makepyfile(
        'import pytest\n@pytest.mark.aefm(app="shop", script="ok.lua", rate=200, duration=1)\ndef test_it(): pass\n'
    )
    folder.run().stdout.fnmatch_lines(["*the test has the marker 'aefm' but no fixture of it*"])


def test_plan_prints_and_runs_nothing(folder: ExperimentFolder) -> None:
    """--aefm-plan prints the cases in running order with what changes and the time, and runs nothing."""
    folder.test("rate=[150, 200], cpu=[0, 1], orders=['cpu', 'rate']")
    result = folder.run("--aefm-plan")
    assert 0 == result.ret
    result.stdout.fnmatch_lines(
        [
            "1  test_it?shop-cpu0-150rps?  deploy shop *s",
            "2  test_it?shop-cpu1-150rps?  cpu 0 -> 1 *s",
            "3  test_it?shop-cpu0-200rps?  cpu 1 -> 0, rate 150 -> 200 *s",
            "4  test_it?shop-cpu1-200rps?  cpu 0 -> 1 *s",
            "4 cases, about * s; nothing was run",
        ]
    )
    assert [] == folder.asked()
    assert not (folder.path / ".aefm").exists()


def test_plan_names_a_new_script(folder: ExperimentFolder) -> None:
    """Between two tests of one experiment the plan says that the script changes."""
    (folder.path / "shop.yaml").write_text("{app: shop, rate: 200, duration: 0.4}")
    tests = [
        f'@pytest.mark.aefm("shop.yaml", script="{name}.lua")\ndef test_{name}(aefm_run): aefm_run()\n'
        for name in ("ok", "slow")
    ]
    folder.pytester.makepyfile("import pytest\n" + "\n".join(tests))
    folder.run("--aefm-plan").stdout.fnmatch_lines(["2  test_slow?shop-200rps?  script slow.lua *s"])


def test_plan_works_under_xdist(folder: ExperimentFolder) -> None:
    """--aefm-plan with -n 2 prints the plan, too."""
    folder.test("rate=[150, 200]")
    folder.run("--aefm-plan", "-n2").stdout.fnmatch_lines(["2 cases, about * s; nothing was run"])


def test_plan_after_a_collection_error_fails(folder: ExperimentFolder) -> None:
    """--aefm-plan of a broken experiment shows the error and exits as pytest does."""
    folder.test("rats=[1]")
    result = folder.run("--aefm-plan")
    assert pytest.ExitCode.INTERRUPTED == result.ret
    assert "nothing was run" not in result.stdout.str()


NODES = "app: shop\nscript: ok.lua\nrate: 100\nduration: 3s\nnodes: [{name: a, roles: [testbed]}]\n"


def test_nodes_mean_a_cluster(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment with nodes belongs on Kubernetes: it can be planned; run, it says at once what is missing."""
    folder.pytester.makeconftest("")
    monkeypatch.setenv("KUBECONFIG", str(folder.path / "none"))
    (folder.path / "shop.yaml").write_text(NODES)
    folder.pytester.makepyfile('import pytest\n@pytest.mark.aefm("shop.yaml")\ndef test_it(aefm_run): aefm_run()\n')
    folder.run("--aefm-plan").stdout.fnmatch_lines(["1  test_it?shop-100rps?  deploy shop*"])
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*kubeconfig */none: not found; name it with KUBECONFIG*"])


def test_a_session_has_one_testbed(folder: ExperimentFolder) -> None:
    """Beside local experiments those of a cluster are refused, saying so; --aefm-testbed chooses for all."""
    (folder.path / "shop.yaml").write_text(NODES)
    tests = [
        f"@pytest.mark.aefm({chosen})\ndef test_{name}(aefm_run): aefm_run()\n"
        for name, chosen in (("there", '"shop.yaml"'), ("here", '"shop.yaml", testbed="local", duration="3s"'))
    ]
    folder.pytester.makepyfile("import pytest\n" + "\n".join(tests))
    result = folder.run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*belongs on the testbed 'kubernetes', and this session has experiments of both*"])
    folder.run("--aefm-testbed=local").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--aefm-confidence=2", "from 0 to below 1"),
        ("--aefm-inconclusive=maybe", "fail, warn or pass"),
        ("--aefm-testbed=moon", "local or kubernetes"),
        ("--aefm-seed=x", "a whole number"),
        ("--aefm-report=tox.ini/report.json", "tox.ini is no folder"),
        ("--aefm-report=.", "is a folder"),
    ],
)
def test_bad_options_are_usage_errors(folder: ExperimentFolder, option: str, words: str) -> None:
    """A bad option is refused before anything is collected, with exit 4."""
    folder.test()
    result = folder.run(option, subprocess=True)
    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines([f"*{option.partition('=')[0]}*{words}*"])
