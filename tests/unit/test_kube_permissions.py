"""One table of permissions: the shipped roles are it, and no row is without a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import pytest_aefm
from pytest_aefm.cli import main
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.testbeds.kubernetes.edits import CLUSTER_SCOPED
from pytest_aefm.testbeds.kubernetes.permissions import PERMISSIONS, rbac_manifests

RBAC = Path(pytest_aefm.__file__).parent / "testbeds" / "kubernetes" / "rbac"


def objects(text: str) -> dict[str, Any]:
    """Return the objects of a text by kind."""
    return {body["kind"]: body for body in yaml.safe_load_all(text)}


@pytest.mark.parametrize(("file", "arguments"), [("cluster.yaml", []), ("namespaced.yaml", ["--namespace", "aefm"])])
def test_the_shipped_roles_are_what_is_printed(
    file: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`aefm rbac > FILE` writes them anew after the table has changed."""
    assert 0 == main(["rbac", *arguments])
    assert (RBAC / file).read_text() == capsys.readouterr().out


def test_the_namespaced_role_has_all_but_the_cluster() -> None:
    """Every row of the table is a rule of the cluster role; of the namespaced one, where a namespace suffices."""
    cluster, inside = objects(rbac_manifests()), objects(rbac_manifests("hotel"))
    assert len(PERMISSIONS) == len(cluster["ClusterRole"]["rules"])
    assert len([row for row in PERMISSIONS if row.scope != "cluster"]) == len(inside["Role"]["rules"])
    assert {"hotel"} == {inside[kind]["metadata"]["namespace"] for kind in ("Role", "RoleBinding", "ServiceAccount")}
    bound = inside["RoleBinding"]
    assert ("Role", "aefm") == (bound["roleRef"]["kind"], bound["roleRef"]["name"])
    assert [{"kind": "ServiceAccount", "name": "aefm", "namespace": "hotel"}] == bound["subjects"]


def test_no_role_may_do_everything() -> None:
    """No wildcard, no right to act as somebody else, to run commands in pods, or to grant more than one has."""
    rules = [*objects(rbac_manifests())["ClusterRole"]["rules"], *objects(rbac_manifests("x"))["Role"]["rules"]]
    words = {word for rule in rules for words in rule.values() for word in words}
    assert not words & {"*", "escalate", "bind", "impersonate", "deletecollection", "update", "pods/exec"}


def test_every_row_says_why_and_what_is_lost() -> None:
    """No row asks for the same twice, and what lies outside of namespaces is the cluster's."""
    assert all(row.why and row.lost and row.verbs and row.resources for row in PERMISSIONS)
    asked = [(row.scope, row.group, resource) for row in PERMISSIONS for resource in row.resources]
    assert len(set(asked)) == len(asked)
    outside = {(group, f"{kind.lower()}s") for group, kind in CLUSTER_SCOPED} | {("storage.k8s.io", "storageclasses")}
    found = {(group, resource) for scope, group, resource in asked if scope == "run"}
    assert {("", "namespaces")} == found & outside


@pytest.mark.parametrize("name", ["Hotel", "a b", "1", "", "x" * 64, "a: b"])
def test_a_name_that_no_namespace_can_have_is_refused(name: str) -> None:
    """It would be YAML of something else."""
    with pytest.raises(ConfigurationError, match="namespace: "):
        rbac_manifests(name)
