"""Write the reference pages: ``make docs``. What they say is read from the code.

With ``--check`` nothing is written: pages that are out of date are named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm import decision, fixtures, hooks, model, slo, testbeds
from pytest_aefm.cli import command_parser
from pytest_aefm.collectors import Observations
from pytest_aefm.decision import requests_needed
from pytest_aefm.experiment import json_schema
from pytest_aefm.experiment.building import _REQUIRED
from pytest_aefm.experiment.schema import ExperimentFile, Options, _plain
from pytest_aefm.mesh.fields import Strict
from pytest_aefm.mesh.topology import Topology
from pytest_aefm.model import LOWER_BOUNDS
from pytest_aefm.settings import add_options

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
Row = Sequence[str]


def pages() -> dict[Path, str]:
    """Return the text of every generated file."""
    written = {
        "options.md": options(),
        "experiment.md": experiment(),
        "topology.md": topology(),
        "slos.md": slos(),
        "report.md": report(),
        "hooks.md": lifecycle(),
        "fixtures.md": fixture_page(),
        "objects.md": objects(),
        "exit-statuses.md": exit_statuses(),
    }
    found = {DOCS / "reference" / name: "\n".join(lines).rstrip() + "\n" for name, lines in written.items()}
    return found | {DOCS / "experiment.schema.json": json.dumps(json_schema(), indent=1) + "\n"}


def page(title: str, *intro: str) -> list[str]:
    """Return the beginning of a page."""
    generated = "<!-- Written by `make docs` from the code: change that. -->"
    return [generated, f"# {title}", "", *(line for text in intro for line in (text, ""))]


def table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Yield a table, and an empty line."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(markdown(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def markdown(text: str) -> str:
    """Return a docstring's text with Markdown's code spans."""
    return text.replace("``", "`")


def code(text: object) -> str:
    """Return a text as code."""
    return f"`{text}`"


# --- options ---------------------------------------------------------------------------------------------------------


class _Recorder:
    """Stands in for pytest's parser, and remembers what is registered."""

    def __init__(self) -> None:
        self.options: list[tuple[str, str, str]] = []
        self.inis: list[tuple[str, str, str]] = []

    def getgroup(self, name: str, description: str) -> _Recorder:
        return self

    def addoption(self, name: str, *, help: str, metavar: str = "", **_: object) -> None:
        self.options.append((name, metavar, help))

    def addini(self, name: str, help: str, type: str, default: object) -> None:
        self.inis.append((name, type, help))


def options() -> list[str]:
    """Return the page of pytest's options, their ini values and the command `aefm`."""
    seen = _Recorder()
    add_options(seen)  # type: ignore[arg-type] # it uses these methods only
    lines = page(
        "Options and commands",
        "An option on the command line wins over its ini value. A path on the command line is relative to the current "
        "folder, in the ini file to rootdir.",
    )
    inis = {name: (kind, text) for name, kind, text in seen.inis}
    lines += ["## Options of pytest", ""]
    rows = []
    for name, metavar, text in seen.options:
        ini = name.removeprefix("--").replace("-", "_")
        rows.append((code(f"{name} {metavar}".strip()), code(ini) if ini in inis else "", text))
    lines += table(("option", "ini value", "meaning"), rows)
    lines += ["## Ini values without an option", ""]
    known = {name.removeprefix("--").replace("-", "_") for name, _, _ in seen.options}
    lines += table(
        ("ini value", "type", "meaning"),
        ((code(name), kind, text) for name, (kind, text) in inis.items() if name not in known),
    )
    lines += ["## The command `aefm`", "", "`python -m pytest_aefm` is the same.", ""]
    return lines + list(table(("command", "meaning"), _commands(command_parser())))


def _commands(parser: argparse.ArgumentParser, above: str = "aefm") -> Iterator[Row]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, command in action.choices.items():
            yield code(f"{above} {name}"), helps[name]
            yield from _commands(command, f"{above} {name}")
            for option in command._actions:
                if option.dest != "help" and not isinstance(option, argparse._SubParsersAction):
                    word = option.option_strings[-1] if option.option_strings else ""
                    spelled = " ".join([above, name, *filter(None, [word, str(option.metavar or "")])])
                    yield code(spelled), (option.help or "") + (" (required)" if option.required else "")


# --- experiment ------------------------------------------------------------------------------------------------------


def experiment() -> list[str]:
    """Return the page of the YAML's keys and the marker's keywords."""
    schema = json_schema()
    lines = page(
        "Keys of an experiment",
        "A YAML file is a mapping with these keys. [Writing experiments](../experiments.md) explains how they work "
        "together, [experiment.schema.json](../experiment.schema.json) is for editors.",
        f"Required, in the file or in the marker: {', '.join(map(code, _REQUIRED))}.",
    )
    lines += ["## Top level", "", *_keys(schema["properties"])]
    for name, part in schema["$defs"].items():
        lines += [f"## {name}", "", markdown(part.get("description", "")), "", *_keys(part)]
    only = [name for name in ExperimentFile.model_fields if name not in Options.model_fields]
    lines += [
        "## The marker",
        "",
        "`@pytest.mark.aefm(PATH, KEY=VALUE, ...)`: a path of a YAML file (relative to the test's file, then to "
        "rootdir), keywords, or both. The keywords are the keys of the top level, except "
        f"{', '.join(map(code, only))}. They override the file's. Markers on module, class and function merge, "
        "the closest wins per key.",
        "",
    ]
    return lines


# --- topology --------------------------------------------------------------------------------------------------------

_TOLD_FIRST = ("SmokeRequest", "Service", "Breaker", "Endpoint", "Step", "Wait", "Lognormal", "Pareto", "Call")


def topology() -> list[str]:
    """Return the page of the keys of a topology file."""
    schema, known = _plain(Topology.model_json_schema()), {part.__name__: part for part in Strict.__subclasses__()}
    lines = page(
        "Keys of a topology file",
        "[Topology files](../topology.md) explains how they work together. A size is a number of bytes, or such as "
        "`64Ki`, `256Mi`, `1G`.",
    )
    lines += ["## Top level", "", *_keys(schema)]
    parts = schema["$defs"]
    for name in (*_TOLD_FIRST, *(name for name in parts if name not in _TOLD_FIRST)):
        one_of = known[name].one_of
        chosen = [f"Exactly one of {', '.join(map(code, one_of))}.", ""] if one_of else []
        lines += [f"## {name}", "", markdown(parts[name].get("description", "")), "", *chosen, *_keys(parts[name])]
    return lines


def _keys(part: Mapping[str, Any]) -> Iterator[str]:
    properties = part.get("properties", part) if "type" in part or "properties" in part else part
    rows = []
    for name, key in properties.items():
        default = key.get("default")
        shown = code(json.dumps(default)) if default not in (None, [], {}, ()) else ""
        rows.append((code(name), spell_type(key), shown, key.get("description", "")))
    yield from table(("key", "value", "default", "meaning"), rows)


def spell_type(key: Mapping[str, Any]) -> str:
    """Spell a JSON Schema's type for a person."""
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in key:
            return _spell_choice([spell_type(one) for one in key[word]])
    if "const" in key:
        return code(json.dumps(key["const"]))
    if "enum" in key:
        return ", ".join(code("null" if one is None else one) for one in key["enum"])
    kind = key.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {spell_type(key.get('items') or key.get('prefixItems', [{}])[0])}"
    if kind == "object":
        return _spell_mapping(key)
    least = key.get("minimum", key.get("exclusiveMinimum"))
    if kind in ("integer", "number") and least is not None:
        return f"{kind} {'≥' if 'minimum' in key else '>'} {least}"
    return str(kind)


def _spell_choice(forms: Sequence[str]) -> str:
    """Spell several forms; a factor's values, where one stands for itself, in fewer words."""
    lists = [form for form in forms if form.startswith("list of ") and form.removeprefix("list of ") in forms]
    alone = [form.removeprefix("list of ") for form in lists]
    others = [form for form in dict.fromkeys(forms) if form not in (*lists, *alone)]
    return "; ".join([f"{form}, or a list of such" for form in alone] + [" or ".join(others)] * bool(others))


def _spell_mapping(key: Mapping[str, Any]) -> str:
    if set(key.get("properties", ())) == {"min", "max", "step"}:
        return "`{min, max, step}`"
    others = key.get("additionalProperties")
    return f"mapping to {spell_type(others)}" if isinstance(others, Mapping) and others else "mapping"


# --- SLOs ------------------------------------------------------------------------------------------------------------

_EXAMPLES = {"ms": "250ms", "share": "80%", "count": "0", "cores": "0.5", "bytes": "200Mi"}


def slos() -> list[str]:
    """Return the page of the grammar of SLOs."""
    lines = page(
        "SLOs",
        "An SLO is one condition on one metric of a trial: `METRIC OPERATOR LIMIT`. Spaces do not matter. "
        "[What each number and verdict means](../definitions.md) defines the metrics and says how each is decided.",
    )
    operators = " | ".join(f'"{operator}"' for operator in slo._OPERATORS)
    outcomes = " | ".join(f'"{outcome}"' for outcome in slo.OUTCOMES)
    lines += [
        "```text",
        "slo        = metric operator number [unit]",
        'metric     = percentile [labels] | name [labels] | name "(" service ["," percentile] ")"',
        'labels     = "{" label ["," label] "}"         which requests: of an outcome, of a tag, or both',
        'label      = "outcome=" outcome | "tag=" name   a tag is what the script or tags calls a request',
        'percentile = "p" number | "p(" number ")"      between 0 and 100, such as p99 or p(99.9)',
        f"operator   = {operators}      a percentile takes < and <= only",
        f"outcome    = {outcomes}",
        "```",
        "",
        "## Metrics",
        "",
    ]
    latency = "percentile of the latency of successes, with lower bounds of those that never ended"
    rows = [
        (code("pNN"), latency, "ms", code("p99 < 250ms")),
        (code("pNN{outcome=...}"), "percentile of another outcome", "ms", code("p99{outcome=5xx} < 1s")),
        (code("pNN{tag=...}"), "percentile of the requests of a tag", "ms", code("p99{tag=search} < 200ms")),
        *(_metric_row(name, *metric) for name, metric in slo._METRICS.items()),
    ]
    lines += table(("metric", "meaning", "unit", "example"), rows)
    lines += ["## Units", ""]
    units = ((kind, ", ".join(code(unit) if unit else "none" for unit in known)) for kind, known in slo._UNITS.items())
    lines += table(("of", "units of the limit"), units)
    lines += [
        "## Defaults",
        "",
        "These hold unless an SLO on the same metric replaces them: " + ", ".join(map(code, slo.DEFAULT_SLOS)) + ". "
        "`slos: none` judges nothing but the apparatus.",
        "",
        "## Outcomes",
        "",
        "Every request of the window has exactly one: " + ", ".join(map(code, slo.OUTCOMES)) + ". Of "
        + ", ".join(map(code, LOWER_BOUNDS)) + " only a lower bound of the latency is known.",
        "",
        "## Requests that a percentile needs",
        "",
        "At 95 % confidence, with none above the limit (`self_time` is judged by its point value):",
        "",
    ]  # fmt: skip
    percents = (50, 75, 90, 95, 99, 99.9)
    return lines + list(
        table(("percentile", "requests"), ((f"p{one:g}", f"{requests_needed(one, 0.95):,}") for one in percents))
    )


def _metric_row(name: str, unit: str, takes: str, meaning: str) -> Row:
    arguments = ", ".join([*(["service"] if takes == "must" else []), *(["pNN"] if name == "self_time" else [])])
    spelled = f"{name}({arguments})" if arguments else name
    if takes == "may":
        spelled += f"`, `{name}(service)"
    example = spelled.partition("`")[0].replace("service", "search").replace("pNN", "p95")
    operator = ">=" if name == "goodput" else "==" if unit == "count" else "<"
    return code(spelled), meaning, unit, code(f"{example} {operator} {_EXAMPLES[unit]}")


# --- report ----------------------------------------------------------------------------------------------------------


def report() -> list[str]:
    """Return the page of the report's fields."""
    schema = json.loads((DOCS / "report.schema.json").read_text())
    lines = page(
        "Fields of the report",
        f"{schema['description']} [report.schema.json](../report.schema.json) is for programs. Fields may be added "
        "within a schema version.",
    )
    lines += ["## Document", "", *_fields({name: part for name, part in schema["properties"].items() if name != "run"})]
    lines += ["## run", "", *_fields(schema["properties"]["run"]["properties"])]
    for name, part in schema["$defs"].items():
        if "properties" in part:
            lines += [f"## {name}", "", *_fields(part["properties"])]
        elif "enum" in part:
            lines += [f"## {name}", "", spell_type(part), ""]
    return lines


def _fields(properties: Mapping[str, Any]) -> Iterator[str]:
    yield from table(("field", "value", "meaning"), _field_rows(properties, ""))


def _field_rows(properties: Mapping[str, Any], prefix: str) -> Iterator[Row]:
    for name, part in properties.items():
        yield code(prefix + name), _spell_field(part), part.get("description", "")
        for variant in (part, *part.get("oneOf", ())):
            inner = variant.get("items", variant)
            step = f"{prefix}{name}[]." if inner is not variant else f"{prefix}{name}."
            yield from _field_rows(inner.get("properties", {}), step)
            others = variant.get("additionalProperties")
            if isinstance(others, Mapping):
                yield from _field_rows(others.get("properties", {}), f"{step}*.")


def _spell_field(part: Mapping[str, Any]) -> str:
    return spell_type({name: value for name, value in part.items() if name != "description"}).replace(
        "[optional_histogram](#optional_histogram)", "null or [histogram](#histogram)"
    )


# --- hooks, fixtures, exit statuses ----------------------------------------------------------------------------------


def lifecycle() -> list[str]:
    """Return the page of the hooks, each with its example."""
    about, _, rest = (hooks.__doc__ or "").partition("\n\n")
    lines = page("Hooks", markdown(about), markdown(rest.strip()))
    for name, function in inspect.getmembers(hooks, inspect.isfunction):
        if name not in hooks.__all__:
            continue
        text, _, example = (inspect.getdoc(function) or "").partition("Example::")
        signature = str(inspect.signature(function)).replace("'", "")
        lines += [f"## {name}", "", "```text", f"{name}{signature}", "```", "", markdown(text.strip()), ""]
        lines += ["```python", textwrap.dedent(example).strip(), "```", ""]
    return lines


def fixture_page() -> list[str]:
    """Return the page of the fixtures: their scope and what they are, from the source."""
    lines = page(
        "Fixtures",
        "Overriding one in a `conftest.py` replaces that component. A marked test uses at least one of them, usually "
        "`aefm_run`.",
    )
    rows = []
    files = sorted(Path(fixtures.__file__).parent.glob("*.py"))
    for function in [one for file in files for one in ast.parse(file.read_text()).body]:
        if isinstance(function, ast.FunctionDef) and function.name in fixtures.__all__:
            scopes = [
                ast.literal_eval(keyword.value)
                for decorator in function.decorator_list
                if isinstance(decorator, ast.Call)
                for keyword in decorator.keywords
                if keyword.arg == "scope"
            ]
            about = " ".join((ast.get_docstring(function) or "").split())
            gives = ast.unparse(function.returns) if function.returns else ""
            gives = gives.removeprefix("Iterator[").removesuffix("]") if gives.startswith("Iterator[") else gives
            rows.append((code(function.name), *(scopes or ["function"]), code(gives), about))
    return lines + list(table(("fixture", "scope", "value", "meaning"), sorted(rows)))


_OBJECTS = (
    model.Trial, model.LoadResult, model.Account, decision.SLOResult, model.Finding, model.CheckResult, model.Dose,
    model.Blame, model.Suspect, model.Window, model.Case, model.LoadSpec, model.InterferenceSpec, model.AppSpec,
    testbeds.Deployment, Observations,
)  # fmt: skip


def objects() -> list[str]:
    """Return the page of the values that tests, hooks and components are given: their attributes and methods."""
    lines = page(
        "Objects",
        "What `aefm_run()`, `aefm_case`, `aefm_app` and the hooks give, and what these hold. All are frozen: a test "
        "reads them. `trial.metrics` maps the names of [SLOs](slos.md), such as `p99` or `cpu(search)`, to numbers.",
    )
    for one in _OBJECTS:
        above = next((base.__name__ for base in one.__mro__[1:] if base in _OBJECTS), None)
        about = [f"Has all that [{above}](#{above.lower()}) has, and:", ""] if above else []
        lines += [f"## {one.__name__}", "", markdown(inspect.getdoc(one) or ""), "", *about]
        lines += table(("attribute", "value", "default"), _attributes(one))
        lines += table(("it also has", "meaning"), methods) if (methods := list(_methods(one))) else []
    return lines


def _attributes(one: type[Any]) -> Iterator[Row]:
    for part in dataclasses.fields(one):
        if part.name in one.__annotations__:
            made = part.default if part.default_factory is dataclasses.MISSING else part.default_factory()
            yield code(part.name), code(part.type), "" if made is dataclasses.MISSING else code(repr(made))


def _methods(one: type[Any]) -> Iterator[Row]:
    for name, value in vars(one).items():
        if not name.startswith("_") and (isinstance(value, property) or inspect.isfunction(value)):
            takes = "" if isinstance(value, property) else str(inspect.signature(value)).partition(" ->")[0]
            spelled = name + takes.replace("self, ", "").replace("self", "").replace("'", "")
            yield code(spelled), (inspect.getdoc(value) or "").partition("\n\n")[0]


_MEANINGS = {
    "OK": "every case passed, or the options let pass what did not",
    "TESTS_FAILED": "a case failed (violated, no_data, inconclusive) or is an error (invalid, broken); something could "
    "not be removed; a report could not be written",
    "INTERRUPTED": "Ctrl-C or SIGTERM, or an experiment that is wrong: found when tests were collected",
    "INTERNAL_ERROR": "a defect of pytest or a plugin",
    "USAGE_ERROR": "an option or ini value is wrong, or a file that was named does not exist",
    "NO_TESTS_COLLECTED": "nothing was selected",
}


def exit_statuses() -> list[str]:
    """Return the page of exit statuses."""
    lines = page("Exit statuses", "## pytest")
    statuses = ((str(int(status)), _MEANINGS[status.name]) for status in pytest.ExitCode if status.name in _MEANINGS)
    lines += table(("status", "means"), statuses)
    lines += ["## aefm", ""]
    rows = [
        ("0", "done"),
        ("1", "what is wrong was printed; `aefm doctor`: something is bad; `aefm clean`: something sticks"),
        ("2", "wrong usage"),
    ]
    lines += table(("status", "means"), rows)
    return [*lines, "Those of the load generator are in [aefm-wrk](../aefm-wrk.md#options).", ""]


def main() -> int:
    """Write what is out of date, or name it; return the exit status."""
    check = "--check" in sys.argv[1:]
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}: {'out of date; run `make docs`' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
