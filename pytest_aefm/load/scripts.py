"""Where Lua scripts are looked up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, did_you_mean

__all__ = ["bundled_folder", "changes_data", "find_script"]


def bundled_folder() -> Path:
    """Return the folder of the scripts that come with the package (in a checkout: its ``lua/``)."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "lua"
    return inside if inside.is_dir() else package.parent / "lua"


def find_script(name: str, folders: Iterable[Path], where: str) -> Path:
    """Find a script by its name: absolute, else in each of ``folders``, else among the bundled ones.

    Raises:
        ConfigurationError: there is none; names where it was looked up and the nearest bundled one.
    """
    if Path(name).is_absolute():
        candidates = [Path(name)]
    else:
        candidates = [folder / name for folder in (*folders, bundled_folder())]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    bundled = sorted(str(path.relative_to(bundled_folder())) for path in bundled_folder().rglob("*.lua"))
    looked = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise ConfigurationError(
        where, f"script {name!r} not found", f"a file at one of {looked}", did_you_mean(name, bundled)
    )


def changes_data(script: Path) -> bool:
    """Return whether a script says of itself, by a line ``mutates = true``, that it changes the application's data."""
    return re.search(r"^[ \t]*mutates[ \t]*=[ \t]*true\b", script.read_text(errors="replace"), re.MULTILINE) is not None
