"""A template for Chaos Mesh becomes objects of the run's own pods, and what their controller says becomes a dose."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import from_options
from pytest_aefm.interference import check
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.chaos import ChaosReading, ChaosState, ChaosStressors, state_of
from pytest_aefm.testbeds.kubernetes.chaos_objects import keeper_job, make_objects, read_template

DELAY = """
apiVersion: chaos-mesh.org/v1alpha1
kind: NetworkChaos
metadata: {name: slow}
spec:
  action: delay
  mode: all
  selector: {labelSelectors: {app: back}}
  delay: {latency: "${level}0ms"}
"""
KEEPER = {"metadata": {"name": "aefm-chaos-r1-1", "uid": "u1"}}


def spec(text: str = DELAY, level: int = 3) -> InterferenceSpec:
    """Return a disturbance of this template."""
    return InterferenceSpec("chaos", level, manifest=text)


def test_a_template_becomes_an_object_of_the_run() -> None:
    """Level, namespace and labels are filled in; it selects the run's pods alone, and goes with its keeper."""
    (item,) = make_objects(spec(), "shop", "r1", KEEPER)
    metadata, body = item.body["metadata"], item.body["spec"]
    assert ("slow", "shop", "r1") == (metadata["name"], metadata["namespace"], metadata["labels"]["aefm.dev/run"])
    assert "interference" == metadata["labels"]["aefm.dev/role"]
    owners = [(one["kind"], one["name"], one["uid"]) for one in metadata["ownerReferences"]]
    assert [("Job", "aefm-chaos-r1-1", "u1")] == owners
    assert "30ms" == body["delay"]["latency"]
    assert {"labelSelectors": {"app": "back"}, "namespaces": ["shop"]} == body["selector"]
    assert "4h" == body["duration"]


def test_the_other_end_is_the_runs_own_too() -> None:
    """A NetworkChaos may name pods at the other end."""
    (item,) = make_objects(spec(DELAY + "  target: {mode: all, selector: {}}\n"), "shop", "r1", KEEPER)
    assert ["shop"] == item.body["spec"]["target"]["selector"]["namespaces"]


def test_its_keeper_has_no_pods_and_a_deadline() -> None:
    """Where nobody puts it off the Job ends, goes, and takes along what belongs to it."""
    job = keeper_job("aefm-chaos-r1-1", "shop", "r1")["spec"]
    assert (0, 0, 0) == (job["parallelism"], job["backoffLimit"], job["ttlSecondsAfterFinished"])
    assert 0 < job["activeDeadlineSeconds"] <= 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DELAY.replace("${level}", "${strength}"), "unknown placeholder 'strength'; expected $level"),
        (DELAY.replace("NetworkChaos", "PodChaos"), "is of chaos-mesh.org/v1alpha1; expected StressChaos or Network"),
        (DELAY.replace("chaos-mesh.org/v1alpha1", "v1"), "is of v1; expected StressChaos or NetworkChaos"),
        (DELAY + "  duration: 30s\n", "spec.duration: is set; leave it out"),
        (DELAY.replace("{name: slow}", "{name: slow, namespace: prod}"), "is prod; expected none: it is made in shop"),
        (DELAY.replace("{labelSelectors", "{namespaces: [prod], labelSelectors"), "names prod; expected shop alone"),
        (DELAY.replace("{labelSelectors", "{nodes: [n1], labelSelectors"), "spec.selector.nodes: names pods of others"),
        ("# nothing", "has no object; expected StressChaos or NetworkChaos"),
    ],
)
def test_what_may_not_be_made_is_refused(text: str, message: str) -> None:
    """Other kinds, pods of others, an end of its own."""
    with pytest.raises(ConfigurationError) as error:
        read_template(spec(text), "shop")
    assert message in str(error.value)


def test_chaos_needs_a_cluster_and_a_template() -> None:
    """The local testbed has no Chaos Mesh."""
    with pytest.raises(ConfigurationError, match="is made by Chaos Mesh; expected a cluster that has it"):
        check(spec())
    with pytest.raises(ConfigurationError, match="manifest is missing"):
        check(InterferenceSpec("chaos", 1), quota=True)


def chaos(*, injected: str = "True", paused: str = "False", **more: Any) -> dict[str, Any]:
    """Return an object as Chaos Mesh leaves it."""
    said = {"Selected": "True", "AllInjected": injected, "AllRecovered": "False", "Paused": paused}
    conditions = [{"type": name, "status": status} for name, status in said.items()]
    record = {"id": "shop/back-1", "injectedCount": 1, "recoveredCount": 0, **more}
    status = {"conditions": conditions, "experiment": {"desiredPhase": "Run", "containerRecords": [record]}}
    return {"metadata": {"uid": "u2"}, "status": status}


def test_what_is_injected_lacks_nothing() -> None:
    """Its records tell of each container how often."""
    assert ChaosState("u2", "", {"shop/back-1": (1, 0)}) == state_of(chaos())


@pytest.mark.parametrize(
    ("body", "lacking"),
    [
        ({"metadata": {"uid": "u2"}}, "no controller has seen it"),
        (chaos(paused="True"), "it is paused"),
        (chaos(injected="False"), "it is not in all of its pods"),
        ({"metadata": {"uid": "u2", "deletionTimestamp": "x"}}, "it is being deleted"),
        (
            chaos(injected="False", events=[{"type": "Failed", "message": "tc: no such device"}]),
            "it is not in all of its pods: tc: no such device",
        ),
    ],
)
def test_what_is_not_at_work_says_why(body: dict[str, Any], lacking: str) -> None:
    """In the controller's words where it has any."""
    assert lacking == state_of(body).lacking


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (state_of(chaos()), state_of(chaos()), "chaos: injected into 1 containers over the whole window"),
        (state_of(chaos(paused="True")), state_of(chaos()), "chaos: slow when the window began: it is paused"),
        (state_of(chaos()), ChaosState("", "it is gone"), "chaos: slow when the window ended: it is gone"),
        (state_of(chaos()), state_of(chaos(injectedCount=2, recoveredCount=1)), "chaos: slow was undone, or injected"),
    ],
)
def test_a_dose_is_proven_over_the_whole_window(before: ChaosState, after: ChaosState, message: str) -> None:
    """At work at both edges, and never undone in between."""
    nobody: Any = None
    stressors = ChaosStressors(nobody, nobody, namespace="shop", run="r1")
    stressors._specs = (spec(),)
    (dose,) = stressors.prove(ChaosReading({"slow": before}), ChaosReading({"slow": after}))
    assert dose.message.startswith(message)
    assert ("chaos", 3, "over the whole" in message) == (dose.kind, dose.count, dose.ok)


def test_an_experiment_names_it() -> None:
    """Levels are a factor like those of any other kind."""
    options = {"app": "hotel", "script": "hotel/search.lua", "rate": 10, "duration": "1s", "slos": "none"}
    options |= {"chaos": [0, 2], "interference": {"chaos": {"manifest": DELAY}}}
    cases = from_options(options, where="a test", name="x").cases()
    assert [(), (spec(level=2),)] == sorted((case.interference for case in cases), key=len)
