"""The hotel's manifests fit together, and its experiment in AEFM's format loads as AEFM 0.2.0 wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.cli import main
from pytest_aefm.experiment import load
from pytest_aefm.testbeds.kubernetes.manifests import INFRA, UNDER_TEST, Manifest, load_manifests

FOLDER = Path(__file__).parents[2] / "experiments" / "kubernetes"
SERVICES = {"frontend", "geo", "profile", "rate", "recommendation", "reservation", "search", "user"}


@pytest.fixture(scope="module")
def manifests() -> tuple[Manifest, ...]:
    """Return the hotel's manifests as they are written."""
    return load_manifests(FOLDER / "hotel")


def templates(manifests: tuple[Manifest, ...]) -> Iterator[tuple[Manifest, dict[str, Any]]]:
    """Yield each Deployment with its pod template."""
    for item in manifests:
        if item.kind == "Deployment":
            yield item, item.body["spec"]["template"]


def test_eight_services_are_under_test(manifests: tuple[Manifest, ...]) -> None:
    """What AEFM measures has the image to be named; what it needs has one of its own, at a fixed version."""
    images = {item.name: (item.role, pod["spec"]["containers"][0]["image"]) for item, pod in templates(manifests)}
    assert SERVICES == {name for name, (role, _) in images.items() if role == UNDER_TEST}
    for role, image in images.values():
        assert image == "APP_IMG" if role == UNDER_TEST else re.fullmatch(r"[\w./-]+:\d+(\.\d+)+", image)


def test_each_service_leads_to_a_port_of_its_pods(manifests: tuple[Manifest, ...]) -> None:
    """Every Service selects one Deployment's pods, and its ports are theirs."""
    pods = {item.name: template for item, template in templates(manifests)}
    services = [item for item in manifests if item.kind == "Service"]
    assert set(pods) == {item.name for item in services}
    for service in services:
        template = pods[service.name]
        assert service.body["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        theirs = {port["name"]: (port["containerPort"], port.get("protocol", "TCP")) for port in container["ports"]}
        for port in service.body["spec"]["ports"]:
            assert (port["port"], port.get("protocol", "TCP")) == theirs[port["targetPort"]]


def test_what_is_waited_for_is_there(manifests: tuple[Manifest, ...]) -> None:
    """A service waits for what it needs, by names and ports that infra has."""
    infra = {
        (item.name, port["port"])
        for item in manifests
        if item.kind == "Service" and item.role == INFRA
        for port in item.body["spec"]["ports"]
    }
    waited = set()
    for item, template in templates(manifests):
        for container in template["spec"].get("initContainers", ()):
            found = {
                (name, int(port)) for name, port in re.findall(r"nc -z -w 1 (\S+) (\d+)", container["command"][-1])
            }
            assert ("consul", 8500) in found, item.place
            waited |= found
    assert waited == {(name, port) for name, port in infra if name != "jaeger"}


def test_experiment_is_one_of_aefm(capsys: pytest.CaptureFixture[str]) -> None:
    """27 cases for a cluster, and what it would apply can be seen."""
    experiment = load(FOLDER / "hotel.yaml")
    assert ("kubernetes", 27) == (experiment.testbed, len(list(experiment.cases())))
    assert 0 == main(["manifests", str(FOLDER / "hotel.yaml"), "--run", "r1"])
    printed = capsys.readouterr().out
    assert 38 == len(re.findall("^kind: ", printed, re.MULTILINE))
    assert 8 == printed.count("image: deathstarbench/hotel-reservation:latest")
    assert "APP_IMG" not in printed
