"""Kubernetes manifests as values: read from files, each with the place where it is written. No cluster needed.

A folder in AEFM's layout (``infra/``, ``under_test/``), any other folder of YAML, one file of many documents, or
what ``kubectl kustomize`` and ``helm template`` print.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment.source import MAX_VALUES, MergingLoader, shorten, spell

__all__ = [
    "INFRA",
    "INTERFERENCE",
    "LOAD",
    "ROLES",
    "ROLE_LABEL",
    "UNDER_TEST",
    "Manifest",
    "Steps",
    "dump",
    "load_manifests",
    "parse_manifests",
]

Steps = tuple[str | int, ...]

INFRA, UNDER_TEST = "infra", "under_test"
ROLES = (INFRA, UNDER_TEST)
"""What an object is for: ``infra`` lives through a reload, ``under_test`` is what the experiment measures."""

INTERFERENCE, LOAD = "interference", "load"
"""What our own pods are for: they belong to no application."""

ROLE_LABEL = "aefm.dev/role"
_ENDINGS = (".yaml", ".yml", ".json")
_MARKERS = {
    "kustomization.yaml": "kubectl kustomize",
    "kustomization.yml": "kubectl kustomize",
    "Kustomization": "kubectl kustomize",
    "Chart.yaml": "helm template",
}
"""Files that make a folder the source of manifests, and the program that makes them."""

_TEMPLATES: dict[str, Steps] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"), ("spec", "template")
    ),
}
_GROUPS = ("v1", "apps/v1", "batch/v1")
"""Where the kinds above live: a kind of the same name in another group is somebody else's."""


@dataclass(frozen=True)
class Manifest:
    """One object to be applied; ``place`` is what messages call it: file, line of the document, its number."""

    body: dict[str, Any]
    role: str = UNDER_TEST
    place: str = field(default="manifest", compare=False)

    @property
    def kind(self) -> str:
        """The object's kind, such as ``Deployment``."""
        return str(self.body["kind"])

    @property
    def api_version(self) -> str:
        """The object's group and version, such as ``apps/v1``."""
        return str(self.body["apiVersion"])

    @property
    def group(self) -> str:
        """The object's API group; empty for the core's."""
        return self.api_version.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace that is written in it."""
        value = self.body["metadata"].get("namespace")
        return None if value is None else str(value)

    @property
    def label(self) -> str:
        """The object as messages call it: ``Deployment 'geo'``."""
        return f"{self.kind} {self.name!r}"

    @property
    def template_steps(self) -> Steps | None:
        """The way to its pod template, None for an object that makes no pods."""
        return _TEMPLATES.get(self.kind) if self.api_version in _GROUPS else None

    @property
    def pod_template(self) -> dict[str, Any]:
        """Its pods as they are written, metadata and spec; empty for an object that makes none."""
        value: Any = self.body
        for step in self.template_steps or ():
            value = value.get(step) if isinstance(value, dict) else None
        return value if self.template_steps is not None and isinstance(value, dict) else {}

    def error(
        self, steps: Steps, what: str, expected: str | None = None, hint: str | None = None
    ) -> ConfigurationError:
        """Return the error that says file, document, object and field."""
        where = f"{self.label}: {spell(steps)}" if steps else self.label
        return ConfigurationError(f"{self.place}: {where}", what, expected, hint)

    def edited(self, edit: Callable[[dict[str, Any]], None]) -> Manifest:
        """Return a copy whose body ``edit`` has changed."""
        body = copy.deepcopy(self.body)
        edit(body)
        return replace(self, body=body)


class _Loader(MergingLoader):
    """YAML as Kubernetes reads it: no dates, no numbers to the base of 60, keys are texts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are texts."""
        return {_key(key): value for key, value in super().construct_mapping(node, deep=deep).items()}

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Read a text; JSON spells what is beyond 16 bits as two halves, which are joined."""
        text = str(super().construct_scalar(node))
        return text.encode("utf-16", "surrogatepass").decode("utf-16")


def _refuse_odd(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Return how many values a node stands for, aliases counted as often as they are used.

    Raises:
        yaml.MarkedYAMLError: a key is given twice or is no scalar, a value contains itself, or there are too many.
    """

    def wrong(what: str, where: yaml.Node) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=what, problem_mark=where.start_mark)

    if isinstance(node, yaml.ScalarNode):
        return 1
    known = sizes.get(id(node), 0)
    if known is None:
        raise wrong("the value contains itself", node)
    if known:
        return known
    sizes[id(node)] = None  # being counted
    pairs = [item if isinstance(node, yaml.MappingNode) else (None, item) for item in node.value]
    seen: set[str] = set()
    total = 1
    for key, value in pairs:
        if key is not None:
            if not isinstance(key, yaml.ScalarNode):
                raise wrong("a key is a list or a mapping", key)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise wrong(f"the key {key.value!r} is given twice", key)
            seen.add(key.value)
        total += _refuse_odd(value, sizes)
        if total > MAX_VALUES:
            raise wrong(f"more than {MAX_VALUES} values", node)
    sizes[id(node)] = total
    return total


def _key(key: Any) -> Any:
    """Return a key as JSON has it: a text, also where it looks like a number or a truth value."""
    return str(key).lower() if isinstance(key, bool) else key if isinstance(key, str) else str(key)


def _plain_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return PyYAML's rules for plain scalars without those that Kubernetes' reader does not have."""
    dropped = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
    integer = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)$")
    decimal = re.compile(
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?$"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    )
    own = {"tag:yaml.org,2002:int": integer, "tag:yaml.org,2002:float": decimal}
    rules = yaml.SafeLoader.yaml_implicit_resolvers
    return {
        first: [(tag, own.get(tag, rule)) for tag, rule in found if tag not in dropped]
        for first, found in rules.items()
    }


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or Kubernetes' own would take for something else."""


_Loader.yaml_implicit_resolvers = _plain_resolvers()
_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()), *rules]
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}


def load_manifests(path: Path) -> tuple[Manifest, ...]:
    """Read a folder or a file of manifests.

    In AEFM's layout the role of an object is the folder it lies in; elsewhere its label ``aefm.dev/role`` says it,
    and an object without is under test.

    Raises:
        ConfigurationError: nothing is there, or a document is no manifest: with file, line, document and field.
    """
    manifests: list[Manifest] = []
    for file, role in _files(path):
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigurationError(_shown(file), f"cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigurationError(f"{_shown(file)}:{line}", "the text is not UTF-8") from None
        manifests += parse_manifests(text, _shown(file), role)
    if not manifests:
        raise ConfigurationError(_shown(path), "no manifests in it", "YAML documents with apiVersion, kind, metadata")
    _refuse_twice(manifests)
    return tuple(manifests)


def parse_manifests(text: str, name: str, role: str | None = None) -> list[Manifest]:
    """Read the documents of a text; ``name`` stands for the file in messages, ``role`` None lets labels decide.

    Raises:
        ConfigurationError: the text is not YAML, or a document is no manifest.
    """
    found: list[Manifest] = []
    try:
        loader = _Loader(text)
        number = 0
        while loader.check_node():
            node, number = loader.get_node(), number + 1
            assert node is not None, "check_node said so"
            _refuse_odd(node, {})
            place = f"{name}:{node.start_mark.line + 1} (document {number})"
            body = loader.construct_document(node)
            found += (_manifest(one, where, role) for one, where in _objects(body, place))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigurationError(f"{name}:{line}", f"not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigurationError(name, f"not YAML: {shorten(str(error), 200)}") from None
    except RecursionError:
        raise ConfigurationError(name, "values are nested too deeply, or contain themselves") from None
    return found


def dump(manifests: Iterable[Manifest]) -> str:
    """Return manifests as the YAML of one file, each after the place that it comes from."""
    # A copy has no shared parts, and so no anchors.
    texts = (
        f"---\n# {item.place}\n{yaml.dump(_unshared(item.body), Dumper=_Dumper, sort_keys=False, width=120)}"
        for item in manifests
    )
    return "".join(texts)


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _files(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the files to read, each with the role that its folder gives it."""
    if path.is_file():
        yield path, None
        return
    if not path.is_dir():
        raise ConfigurationError(_shown(path), "not found", "a folder or a file of Kubernetes manifests")
    for marker, command in _MARKERS.items():
        if (path / marker).exists():
            hint = f"write '{command} {_shown(path)} > manifests.yaml' and name that file"
            raise ConfigurationError(_shown(path), f"holds a {marker}, which is no manifest", None, hint)
    if not any((path / role).is_dir() for role in ROLES):
        yield from ((file, None) for file in _yaml_files(path))
        return
    for file in _yaml_files(path):
        role = file.relative_to(path).parts[0]
        if role not in ROLES:
            expected = "only these two folders beside one another"
            raise ConfigurationError(_shown(file), "is neither in infra/ nor in under_test/", expected)
        yield file, role


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in _ENDINGS and file.is_file())


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _objects(body: Any, place: str) -> Iterator[tuple[Any, str]]:
    """Yield the objects of a document: itself, or the items of a List; an empty document has none."""
    if body is None:
        return
    if isinstance(body, dict) and body.get("kind") == "List" and isinstance(body.get("items"), list):
        for index, item in enumerate(body["items"]):
            yield from _objects(item, f"{place} items[{index}]")
        return
    yield body, place


def _manifest(body: Any, place: str, role: str | None) -> Manifest:
    if not isinstance(body, dict):
        raise ConfigurationError(place, f"got {shorten(body)}", "a Kubernetes object: a mapping")
    for key in ("apiVersion", "kind"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise ConfigurationError(place, f"{key}: got {shorten(body.get(key))}", "a text")
    kind, metadata = body["kind"], body.get("metadata")
    if not isinstance(metadata, dict):
        raise ConfigurationError(f"{place}: {kind}", f"metadata: got {shorten(metadata)}", "a mapping with a name")
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ConfigurationError(f"{place}: {kind}", f"metadata.name: got {shorten(metadata.get('name'))}", "a name")
    for key in ("labels", "annotations"):
        if metadata.get(key) is not None and not isinstance(metadata[key], dict):
            where = f"{place}: {kind} {metadata['name']!r}"
            raise ConfigurationError(where, f"metadata.{key}: got {shorten(metadata[key])}", "a mapping")
    manifest = Manifest(body, role or UNDER_TEST, place)
    if "helm.sh/hook" in (metadata.get("annotations") or {}):
        hint = "leave hooks out: helm template --no-hooks"
        raise manifest.error(("metadata", "annotations"), "is a hook of Helm's, which only Helm runs", None, hint)
    written = (metadata.get("labels") or {}).get(ROLE_LABEL)
    if role is None and written is not None:
        if written not in ROLES:
            raise manifest.error(("metadata", "labels", ROLE_LABEL), f"got {shorten(written)}", "infra or under_test")
        return replace(manifest, role=written)
    return manifest


def _refuse_twice(manifests: Iterable[Manifest]) -> None:
    seen: dict[tuple[str, str, str | None, str], Manifest] = {}
    for item in manifests:
        key = (item.group, item.kind, item.namespace, item.name)
        if key in seen:
            raise item.error((), f"is there twice, first in {seen[key].place}", None, "keep one of them")
        seen[key] = item
