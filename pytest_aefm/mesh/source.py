"""YAML read with the line of every value, so that a message can point at what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment.source import MergingLoader

__all__ = ["Location", "YamlSource", "dotted"]

Location = tuple[str | int, ...]


def dotted(location: Location) -> str:
    """Return a location as the user would write it: ``services.search.endpoints[0].path``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class YamlSource:
    """The data of a YAML file, and the line at which each of its values is named (from 1)."""

    name: str
    data: object
    lines: dict[Location, int] = field(default_factory=dict, repr=False)

    def line(self, location: Location) -> int:
        """Return the line of the value, or of the nearest value around it that the file has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def error(self, location: Location, what: str, hint: str | None = None) -> ConfigurationError:
        """Return the error that says file, line, path and ``what``."""
        where = dotted(location)
        return ConfigurationError(
            f"{self.name}:{self.line(location)}", f"{where}: {what}" if where else what, hint=hint
        )

    @classmethod
    def read(cls, path: Path) -> YamlSource:
        """Read a file.

        Raises:
            ConfigurationError: the file cannot be read, is not YAML, repeats a key, or contains itself.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(str(path), f"cannot be read: {reason}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> YamlSource:
        """Parse YAML text; ``name`` stands for the file in messages.

        Raises:
            ConfigurationError: the text is not YAML, repeats a key, or contains itself.
        """
        source = cls(name, None)
        try:
            loader = MergingLoader(text)
            node = loader.get_single_node()
            data = None if node is None else _Reader(source, loader).read(node, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigurationError(f"{name}:{line}", f"not YAML: {error.problem}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigurationError(name, f"not YAML: {error}") from error
        return cls(name, data, source.lines)


class _Reader:
    """Turns YAML nodes into plain data while it notes their lines."""

    def __init__(self, source: YamlSource, loader: yaml.SafeLoader) -> None:
        self._source, self._loader = source, loader
        self._open: set[int] = set()

    def read(self, node: yaml.Node, location: Location) -> object:
        self._source.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._loader.construct_object(node)
        if id(node) in self._open:
            raise self._source.error(location, "contains itself through a YAML alias")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return {key: self.read(value, (*location, key)) for key, value in self._items(node, location)}
            assert isinstance(node, yaml.SequenceNode)
            return [self.read(item, (*location, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _items(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the pairs of a mapping; a merge key (``<<``) brings pairs that later ones replace."""
        own: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in own:
                self._source.lines[location] = key_node.start_mark.line + 1
                what = "expected a name as key" if key is None else f"key {key!r} is given twice"
                raise self._source.error(location, what)
            own.add(key)
        self._loader.flatten_mapping(node)
        merged = {key_node.value: (key_node, value) for key_node, value in node.value}
        for key, (key_node, value) in merged.items():
            self._source.lines[(*location, key)] = key_node.start_mark.line + 1
            yield key, value
