"""Manifests are read as Kubernetes reads them, and every mistake is refused with file, document and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.testbeds.kubernetes.manifests import dump, load_manifests, parse_manifests

GEO = """\
# Source: hotel/templates/geo.yaml
apiVersion: v1
kind: Service
metadata: {name: geo}
---
# a document without a word
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: geo
  labels: {aefm.dev/role: infra}
spec: {template: {spec: {containers: [{name: geo, image: APP_IMG}]}}}
"""


def refusal(text: str) -> str:
    """Return the message with which a text is refused."""
    with pytest.raises(ConfigurationError) as caught:
        parse_manifests(text, "geo.yaml")
    return str(caught.value)


def test_documents_of_one_file_are_manifests() -> None:
    """Empty documents are left out; without a folder's role the label decides, and under_test is the rest."""
    found = parse_manifests(GEO, "geo.yaml")
    assert [("Service 'geo'", "under_test"), ("Deployment 'geo'", "infra")] == [(one.label, one.role) for one in found]
    assert ["geo.yaml:2 (document 1)", "geo.yaml:8 (document 3)"] == [one.place for one in found]


def test_the_folders_of_aefm_give_roles(tmp_path: Path) -> None:
    """infra/ and under_test/ say the role, at any depth, in the order of names; other files are no manifests."""
    for name in ("infra/mongo/a.yaml", "infra/README.md", "under_test/geo.yml", "under_test/rate.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        stem = file.stem.lower()
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": stem}}))
    found = load_manifests(tmp_path)
    assert [("a", "infra"), ("geo", "under_test"), ("rate", "under_test")] == [(one.name, one.role) for one in found]


def test_a_file_beside_the_folders_is_refused(tmp_path: Path) -> None:
    """What would be left out silently is refused: a manifest that is in neither folder."""
    (tmp_path / "infra").mkdir()
    (tmp_path / "stray.yaml").write_text(GEO)
    with pytest.raises(ConfigurationError, match=r"stray\.yaml: is neither in infra/ nor in under_test/"):
        load_manifests(tmp_path)


@pytest.mark.parametrize(
    ("marker", "command"), [("kustomization.yaml", "kubectl kustomize"), ("Chart.yaml", "helm template")]
)
def test_sources_of_manifests_are_not_manifests(tmp_path: Path, marker: str, command: str) -> None:
    """A kustomize folder and a chart are refused with the command that makes manifests of them."""
    (tmp_path / marker).write_text("{}")
    with pytest.raises(ConfigurationError, match=f"write '{command} .* > manifests.yaml'"):
        load_manifests(tmp_path)


def test_lists_are_taken_apart() -> None:
    """The items of a List are manifests; messages say which item."""
    items = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}} for name in ("a", "b")]
    (_, second) = parse_manifests(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), "x.json")
    assert ("b", "x.json:1 (document 1) items[1]") == (second.name, second.place)


def test_plain_scalars_are_those_of_kubernetes() -> None:
    """Dates and 22:22 are texts, = is a text, keys are texts; 0644 is octal, 1e3 a number, on a truth value."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: "
    values = "{day: 2015-04-09, ratio: 22:22, sign: =, 8080: x, mode: 0644, many: 1e3, on: on, count: 12, part: 1.5}"
    (found,) = parse_manifests(text + values, "x.yaml")
    expected = {"day": "2015-04-09", "ratio": "22:22", "sign": "=", "8080": "x", "mode": 0o644, "many": 1000.0}
    assert {**expected, "true": True, "count": 12, "part": 1.5} == found.body["data"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "geo.yaml:1 (document 1): got [1]; expected a Kubernetes object: a mapping"),
        ("a: {b: 1\n", "geo.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("kind: A\nkind: B", "geo.yaml:2: not YAML: the key 'kind' is given twice"),
        ("a: &a [*a]", "geo.yaml:1: not YAML: the value contains itself"),
        ("? [1]\n: 2", "geo.yaml:1: not YAML: a key is a list or a mapping"),
        ("a: !!python/none x", "geo.yaml:1: not YAML: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/none'"),
        ("---\n---\nkind: X", "geo.yaml:3 (document 2): apiVersion: got nothing; expected a text"),
        ("apiVersion: v1\nkind: Pod", "geo.yaml:1 (document 1): Pod: metadata: got nothing; expected a mapping with a "
         "name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}",
         "geo.yaml:1 (document 1): Pod: metadata.name: got nothing; expected a name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: [a]}",
         "geo.yaml:1 (document 1): Pod 'x': metadata.labels: got ['a']; expected a mapping"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: {aefm.dev/role: both}}",
         "geo.yaml:1 (document 1): Pod 'x': metadata.labels['aefm.dev/role']: got 'both'; expected infra or "
         "under_test"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {helm.sh/hook: test}}",
         "geo.yaml:1 (document 1): Pod 'x': metadata.annotations: is a hook of Helm's, which only Helm runs; leave "
         "hooks out: helm template --no-hooks"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(text: str, message: str) -> None:
    """The message says file, line, document and field."""
    assert message == refusal(text)


def test_few_characters_that_stand_for_very_much_are_refused() -> None:
    """Aliases of aliases are counted as often as they are used, before anything is built."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 30)]
    assert "more than 200000 values" in refusal("\n".join(lines))


def test_anchors_and_merge_keys_work() -> None:
    """A value may be merged where it stands below another that merges, too."""
    text = "p: {q: &q {<<: &a {x: 1, y: 2}, x: 3}}\nr: {<<: *q, z: 4}\napiVersion: v1\nkind: X\nmetadata: {name: n}"
    (found,) = parse_manifests(text, "x.yaml")
    assert ({"x": 3, "y": 2}, {"x": 3, "y": 2, "z": 4}) == (found.body["p"]["q"], found.body["r"])


def test_the_same_object_twice_is_refused(tmp_path: Path) -> None:
    """Two documents that would overwrite each other are named both."""
    (tmp_path / "a.yaml").write_text(GEO)
    (tmp_path / "b.yaml").write_text(GEO)
    with pytest.raises(
        ConfigurationError, match=r"b\.yaml:2 \(document 1\): Service 'geo': is there twice, first in .*a\.y"
    ):
        load_manifests(tmp_path)


def test_nothing_to_apply_is_refused(tmp_path: Path) -> None:
    """A folder without manifests, and one that is not there, are no application."""
    with pytest.raises(ConfigurationError, match="no manifests in it"):
        load_manifests(tmp_path)
    with pytest.raises(ConfigurationError, match="not found; expected a folder or a file"):
        load_manifests(tmp_path / "none")


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8) | st.sampled_from(
    ["2015-04-09", "22:22", "=", "0644", "1e3", "on", "null", "~", "1_000", "08", "0o7", "-.inf", "<<", "12"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(_VALUES)
def test_what_is_printed_reads_back_the_same(value: Any) -> None:
    """Any JSON value survives printing and reading, by us and by a plain YAML 1.1 reader."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": value}
    (manifest,) = parse_manifests(json.dumps(body), "x.json")
    assert body == manifest.body
    printed = dump([manifest])
    assert [manifest] == parse_manifests(printed, "x.yaml")
    assert body == yaml.safe_load(printed)
