"""Read a YAML file into plain values and remember the line of every path in it.

Every defect of the text becomes a ConfigurationError with file and line; no value is judged here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pytest_aefm.errors import ConfigurationError

__all__ = ["MergingLoader", "Origin", "Steps", "read_yaml", "shorten", "spell"]

Steps = tuple["str | int", ...]
"""A path in a document: ``("test_cases", "workload", "range", 0)``."""

MAX_VALUES = 200_000
"""Aliases can multiply a small text without end; nobody writes so many values by hand."""


@dataclass(frozen=True)
class Origin:
    """Where settings were written: a file, whose ``lines`` are known by path, or a marker (``file`` None)."""

    shown: str
    file: Path | None = None
    lines: Mapping[Steps, int] = field(default_factory=dict, repr=False)

    def line(self, steps: Steps) -> int:
        """Return the line of a path, or of the nearest part of it that is written."""
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)

    def subject(self, steps: Steps = ()) -> str:
        """Return what an error about a path calls its place: ``experiments/hotel.yaml:12``."""
        return f"{self.shown}:{self.line(steps)}" if self.file is not None else self.shown

    def error(
        self, steps: Steps, what: str, expected: str | None = None, hint: str | None = None
    ) -> ConfigurationError:
        """Return the error that says what is wrong at a path."""
        return ConfigurationError(self.subject(steps), f"{spell(steps)}: {what}" if steps else what, expected, hint)


def spell(steps: Steps) -> str:
    """Spell a path as messages show it: ``test_cases.workload.range[0]``."""
    plain = re.compile(r"[\w$-][\w$. -]*")
    spelled = "".join(
        f".{step}" if isinstance(step, str) and plain.fullmatch(step) else f"[{shorten(step)}]" for step in steps
    )
    return spelled.removeprefix(".")


def shorten(value: Any, limit: int = 60) -> str:
    """Show a value in a message, cut to about ``limit`` characters; None is what YAML has for nothing."""
    if value is None:
        return "nothing"
    try:
        shown = repr(value)
    except Exception:  # a marker takes any object; an integer may have more digits than Python prints
        return f"a {type(value).__name__} that cannot be shown"
    return shown if len(shown) <= limit else f"{shown[: limit - 4]} ..."


def read_yaml(path: Path, shown: str | None = None) -> tuple[dict[Any, Any], Origin]:
    """Return the mapping in a file and where its parts are written.

    ``shown`` is what messages call the file; by default its path relative to the working directory, if it is
    below that.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, is not one mapping, or repeats a key.
    """
    name = shown or _relative(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(name, f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{name}:{line}", "the text is not UTF-8") from None
    try:
        return _Reader(name, path).read(text)
    except RecursionError:
        raise ConfigurationError(f"{name}:1", "values are nested too deeply") from None


def _relative(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


class MergingLoader(yaml.SafeLoader):
    """Leaves one pair for each key where ``<<`` merges: PyYAML 6.0.4 merges a replaced pair further, if both stay."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Bring in what ``<<`` names; of the pairs with the same scalar key the last, the nearest one, stays."""
        super().flatten_mapping(node)
        pairs = {key.value if isinstance(key, yaml.ScalarNode) else key: (key, value) for key, value in node.value}
        node.value = list(pairs.values())


class _Reader:
    """Turns the nodes of one document into values; ``lines`` grows with every path."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.lines: dict[Steps, int] = {}
        self.open: set[int] = set()
        self.values = 0

    def read(self, text: str) -> tuple[dict[Any, Any], Origin]:
        try:
            self.loader = yaml.SafeLoader(text)
            root = self.loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = text[: int(error.position)].count("\n") + 1
            raise ConfigurationError(f"{self.name}:{line}", f"not YAML: {error.reason}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self.error(mark, "not YAML: " + ", ".join(filter(None, (error.context, error.problem)))) from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"{self.name}:1", f"not YAML: {error}") from None
        if root is None:
            raise ConfigurationError(f"{self.name}:1", "the file is empty", "an experiment such as 'app: hotel'")
        if not isinstance(root, yaml.MappingNode):
            raise self.error(root.start_mark, "expected a mapping such as 'app: hotel', got something else")
        self.lines[()] = root.start_mark.line + 1
        value = self.mapping(root, ())
        return value, Origin(self.name, self.path, self.lines)

    def error(self, mark: yaml.Mark | None, what: str, steps: Steps = ()) -> ConfigurationError:
        line = mark.line + 1 if mark is not None else 1
        return ConfigurationError(f"{self.name}:{line}", f"{spell(steps)}: {what}" if steps else what)

    def value(self, node: yaml.Node, steps: Steps) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(node.start_mark, f"more than {MAX_VALUES} values", steps)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, steps)
        if id(node) in self.open:
            raise self.error(node.start_mark, "the value contains itself", steps)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
                return self.mapping(node, steps)
            if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
                return [self.item(item, (*steps, number)) for number, item in enumerate(node.value)]
        finally:
            self.open.discard(id(node))
        raise self.error(node.start_mark, f"the tag {node.tag!r} has no meaning here", steps)

    def item(self, node: yaml.Node, steps: Steps) -> Any:
        self.lines[steps] = node.start_mark.line + 1
        return self.value(node, steps)

    def scalar(self, node: yaml.ScalarNode, steps: Steps) -> Any:
        try:
            value = self.loader.construct_object(node)
            if isinstance(value, str):
                value.encode()  # a lone surrogate cannot be printed
        except yaml.MarkedYAMLError as error:
            raise self.error(node.start_mark, str(error.problem), steps) from None
        except (ValueError, OverflowError, LookupError, TypeError, AttributeError):
            raise self.error(node.start_mark, f"{shorten(node.value)} cannot be read", steps) from None
        return value

    def mapping(self, node: yaml.MappingNode, steps: Steps) -> dict[Any, Any]:
        """Build a mapping; its own keys go before those merged with ``<<``."""
        result: dict[Any, Any] = {}
        for key_node, value_node in self.pairs(node, steps):
            key = self.key(key_node, steps)
            if key in result:
                first = self.lines[(*steps, key)]
                raise self.error(key_node.start_mark, f"the key is given twice, first in line {first}", (*steps, key))
            self.lines[(*steps, key)] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, (*steps, key))
        for merged in self.merged(node, steps):
            for key_node, value_node in self.pairs(merged, steps):
                key = self.key(key_node, steps)
                if key not in result:
                    self.lines[(*steps, key)] = key_node.start_mark.line + 1
                    result[key] = self.value(value_node, (*steps, key))
        return result

    def pairs(self, node: yaml.MappingNode, steps: Steps) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        return ((key, value) for key, value in node.value if key.tag != "tag:yaml.org,2002:merge")

    def merged(self, node: yaml.MappingNode, steps: Steps, depth: int = 0) -> Iterator[yaml.MappingNode]:
        """Yield the mappings that ``<<`` names, nearest first."""
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(other, yaml.MappingNode):
                    raise self.error(other.start_mark, "'<<' takes a mapping or a list of mappings", steps)
                self.values += 1
                if depth > 20 or self.values > MAX_VALUES:
                    raise self.error(other.start_mark, "'<<' goes round in circles", steps)
                yield other
                yield from self.merged(other, steps, depth + 1)

    def key(self, node: yaml.Node, steps: Steps) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node.start_mark, "a key is a list or a mapping", steps)
        return self.scalar(node, steps)
