"""What is installed from this tree: by ``pip install .``, by way of an sdist, and where the engine cannot be built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAN = """\
import pytest

@pytest.mark.aefm(app="hotel", script="hotel/search.lua", rate=[20, 40], duration="10s", slos=["p50 < 1s"])
def test_search(aefm_run):
    aefm_run()
"""


def _run(command: Sequence[str | Path], cwd: Path, **variables: str) -> str:
    """Run a command as from a shell of its own: without this run's pytest settings; return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    environment = inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _wheel(tree: Path, folder: Path, *options: str, **variables: str) -> zipfile.ZipFile:
    """Build a wheel of ``tree`` with pip, as ``pip install`` does."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    _run([*pip, *options, tree], folder.parent, **variables)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def _engine(wheel: zipfile.ZipFile) -> dict[str, object]:
    """Read what the build wrote down about the engine."""
    found = json.loads(wheel.read("pytest_aefm/load/engine.json"))
    assert isinstance(found, dict)
    return found


def _programs(wheel: zipfile.ZipFile) -> list[str]:
    """Return the compiled programs that a wheel installs."""
    return [Path(name).name for name in wheel.namelist() if ".data/scripts/" in name]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what git knows or would add, so that no build of the checkout is seen or changed."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build a wheel with all that the engine needs."""
    return _wheel(tree, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def sdist_and_wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tarfile.TarFile, zipfile.ZipFile]:
    """Build an sdist, and a wheel out of that alone."""
    folder = tmp_path_factory.mktemp("sdist") / "dist"
    _run([sys.executable, "-m", "build", "--outdir", folder, tree], folder.parent)
    (sdist,), (built,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return tarfile.open(sdist), zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def installed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install as docs/tutorial.md has it, system packages aside; return the environment's ``bin``."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "pytest-aefm").symlink_to(tree)
    page = (ROOT / "docs" / "tutorial.md").read_text()
    block = page.partition("```console by=tests/packaging/test_packaging.py\n")[2].partition("```")[0]
    commands = [line.removeprefix("$ ") for line in block.splitlines() if not line.startswith("$ sudo apt-get ")]
    assert "pip install ./pytest-aefm" in commands
    _run(["bash", "-ec", "\n".join(commands)], folder)
    return folder / ".venv" / "bin"


def test_wheel_ships_every_lua_script(wheel: zipfile.ZipFile, tree: Path) -> None:
    """The scripts of ``lua/`` are in the package, so that they are found after ``pip install`` alone."""
    expected = {f"pytest_aefm/{path.relative_to(tree)}" for path in (tree / "lua").rglob("*") if path.is_file()}
    actual = {name for name in wheel.namelist() if name.startswith("pytest_aefm/lua/")}
    assert expected == actual
    assert "pytest_aefm/lua/hotel/search.lua" in actual


def test_wheel_ships_the_whole_package(wheel: zipfile.ZipFile, tree: Path) -> None:
    """Every file of the package is in the wheel: topologies, manifests and ``py.typed``, too."""
    expected = {str(path.relative_to(tree)) for path in (tree / "pytest_aefm").rglob("*") if path.is_file()}
    assert set() == expected - set(wheel.namelist())
    assert "pytest_aefm/apps/hotel/topology.yaml" in expected


def test_wheel_installs_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Beside the package and its metadata there are the commands only: no tests, no C, no experiments."""
    actual = {name.split("/")[0] for name in wheel.namelist()}
    assert {"pytest_aefm", "pytest_aefm-0.3.0.dist-info", "pytest_aefm-0.3.0.data"} == actual
    assert ["aefm-mesh", "aefm-wrk"] == sorted(_programs(wheel))


def test_wheel_says_that_the_engine_was_built(wheel: zipfile.ZipFile) -> None:
    """``engine.json`` tells the driver whether to look for the engine."""
    assert _engine(wheel)["built"] is True


def test_builds_without_luajit(tree: Path, tmp_path: Path) -> None:
    """Where LuaJIT's headers are missing there is a wheel with the mesh alone, which says why it has no engine."""
    hidden = ["-C", "cmake.define.LUAJIT_INCLUDE_DIRS=OFF", "-C", f"build-dir={tmp_path / 'build'}"]
    wheel = _wheel(tree, tmp_path / "dist", *hidden, PKG_CONFIG_LIBDIR=str(tmp_path))
    engine = _engine(wheel)
    assert engine["built"] is False
    assert "libluajit-5.1-dev" in str(engine["reason"])
    assert ["aefm-mesh"] == _programs(wheel)


def test_builds_without_openssl(tree: Path, tmp_path: Path) -> None:
    """Where OpenSSL is not, the engine is built all the same; asked for https, it says what it lacks, exit 1."""
    off = ["-C", "cmake.define.AEFM_TLS=OFF", "-C", f"build-dir={tmp_path / 'build'}"]
    wheel = _wheel(tree, tmp_path / "dist", *off)
    assert _engine(wheel)["tls"] is False
    (program,) = [name for name in wheel.namelist() if name.endswith("/aefm-wrk")]
    engine = Path(wheel.extract(program, tmp_path))
    engine.chmod(0o755)
    done = subprocess.run([engine, "-R1", "https://localhost"], capture_output=True, text=True)
    assert (1, "aefm-wrk: https needs OpenSSL, which this aefm-wrk was built without;") == (
        done.returncode,
        done.stderr.split(" expected ")[0],
    )


def test_builds_without_a_compiler(tree: Path, tmp_path: Path) -> None:
    """Where there is no C compiler there is a wheel all the same, which says why it has no engine."""
    wheel = _wheel(tree, tmp_path / "dist", "-C", f"build-dir={tmp_path / 'build'}", CC=str(tmp_path / "no-cc"))
    engine = _engine(wheel)
    assert engine["built"] is False
    assert "C compiler" in str(engine["reason"])
    assert [] == _programs(wheel)


def test_sdist_holds_what_a_build_needs(sdist_and_wheel: tuple[tarfile.TarFile, zipfile.ZipFile]) -> None:
    """The C sources, the Lua scripts and the licence are in the sdist."""
    top = "pytest_aefm-0.3.0"
    needed = {f"{top}/{name}" for name in ("native/main.c", "lua/hotel/search.lua", "CMakeLists.txt", "LICENSE")}
    assert set() == needed - set(sdist_and_wheel[0].getnames())


def test_wheel_from_sdist_is_the_wheel_from_the_tree(
    sdist_and_wheel: tuple[tarfile.TarFile, zipfile.ZipFile], wheel: zipfile.ZipFile
) -> None:
    """Nothing is lost on the way through an sdist."""
    assert sorted(wheel.namelist()) == sorted(sdist_and_wheel[1].namelist())


def test_installation_is_a_plugin_of_pytest(installed: Path, tmp_path: Path) -> None:
    """After ``pip install .`` pytest has the plugin's options, in any folder."""
    assert "--aefm-report" in _run([installed / "pytest", "--help"], tmp_path)


def test_installation_plans_an_experiment_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """The bundled application and script are found after ``pip install .``, away from the checkout."""
    (tmp_path / "test_plan.py").write_text(PLAN)
    plan = _run([installed / "pytest", "-p", "no:cacheprovider", "--aefm-plan"], tmp_path)
    assert "40rps" in plan


def test_installation_has_the_engine_beside_pytest(installed: Path, tmp_path: Path) -> None:
    """``aefm-wrk`` is installed as a command."""
    assert "aefm-wrk" in _run([installed / "aefm-wrk", "-v"], tmp_path)


def test_installation_has_the_command(installed: Path, tmp_path: Path) -> None:
    """``aefm`` and ``python -m pytest_aefm`` are the same command."""
    expected = _run([installed / "aefm", "--help"], tmp_path)
    assert expected == _run([installed / "python", "-m", "pytest_aefm", "--help"], tmp_path)
