"""Tests of those that run alone, on a machine that a hypervisor takes away."""

from __future__ import annotations

import pytest

from tests import noise

TESTS = """
    import pytest

    runs = []

    @pytest.mark.parametrize("tried", ["{marker}"])
    @pytest.mark.{marker}
    def test_measured(tried):
        runs.append(tried)
        assert len(runs) > 1
"""


@pytest.mark.parametrize(
    ("marker", "steal", "passed"),
    [("alone", 0.2, 1), ("alone", 0.02, 0), ("other", 0.2, 0)],
    ids=["disturbed", "quiet machine", "not alone"],
)
def test_a_failure_on_a_disturbed_machine_is_void(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str, steal: float, passed: int
) -> None:
    """A test that runs alone and fails while a hypervisor takes the machine runs again, and the summary says so."""
    monkeypatch.setattr(noise, "steal_share", lambda before, after: steal)
    monkeypatch.setattr(noise, "_PAUSES_S", (0.0, 0.0))
    pytester.makepyfile(TESTS.format(marker=marker))
    done = pytester.inline_run("-p", "no:randomly", "-p", "no:aefm", plugins=[noise.VoidRuns()])
    done.assertoutcome(passed=passed, failed=1 - passed)


def test_a_void_run_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often, and why, a test ran again is in the summary."""
    monkeypatch.setattr(noise, "steal_share", lambda before, after: 0.2)
    monkeypatch.setattr(noise, "_PAUSES_S", (0.0, 0.0))
    pytester.makepyfile(TESTS.format(marker="alone"))
    done = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:aefm", plugins=[noise.VoidRuns()])
    done.stdout.fnmatch_lines(["*void runs*", "*::test_measured?alone? failed while a hypervisor took 20.0% of a core"])
