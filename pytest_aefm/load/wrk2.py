"""An installed wrk2 as a driver, Gil Tene's or DeathStarBench's: its run under accounts of our own (``wrk2.lua``).

wrk2 counts whole runs, and latencies only after it has calibrated itself for ten seconds. So the calibration is the
warm-up, ``wrk2.lua`` counts in the window alone, and what nobody can tell is absent from the result.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytest_aefm.errors import LoadError, ScriptError
from pytest_aefm.load import LoadRun
from pytest_aefm.load.program import LEAD_S, ProgramRun, exit_error, run_dry
from pytest_aefm.load.wrk2_accounts import read_result
from pytest_aefm.load.wrk2_plan import Dialect, Plan, dry_run
from pytest_aefm.model import LoadSpec, Window
from pytest_aefm.supervisor import Supervisor, SupervisorError

__all__ = ["Wrk2"]

_SCRIPT_ERROR = re.compile(r"^aefm-script: (?P<what>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Wrk2:
    """The driver. ``program`` is where wrk2 lies, ``version`` what it says of itself."""

    program: Path
    dialect: Dialect
    version: str

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.dialect.name

    def check_script(self, script: Path) -> None:
        """Run the script dry in wrk2's own interpreter, without a network.

        Raises:
            ScriptError: it has an error; the subject is its file and line.
            LoadError: wrk2 cannot be run.
        """
        url = "http://127.0.0.1:1"
        with tempfile.TemporaryDirectory(prefix="aefm-") as folder:
            dry = Path(folder) / "check.lua"
            dry.write_text(dry_run(script.absolute(), url))
            done = run_dry("wrk2", [self.program, "-t1", "-c1", "-d1", "-R1", "-s", dry, url], script)
        if done.returncode:
            raise _failure(script, done.returncode, done.stderr + done.stdout)

    def start(
        self,
        load: LoadSpec,
        script: Path,
        url: str,
        *,
        supervisor: Supervisor,
        cpus: Collection[int],
        artifacts: Path,
        own_cores: bool = False,
    ) -> LoadRun:
        """Start wrk2; see :class:`pytest_aefm.load.Driver`.

        Raises:
            ConfigurationError: wrk2 cannot send such a load.
            LoadError: it cannot be started.
        """
        del own_cores  # it has no way to spin
        plan, folder = Plan.of(load, self.dialect), artifacts.absolute()
        accounts, result = folder / "load.lua", folder / "load.json"
        start_s = time.monotonic() + LEAD_S
        accounts.write_text(plan.lua(script.absolute(), start_s, result))
        try:
            # Not in real time: when the application goes away it spins, and would starve what shares its core.
            argv = plan.command_line(self.program, accounts, url)
            process = supervisor.spawn(argv, name="wrk2", log=folder / "load.log", cpus=cpus)
        except SupervisorError as error:
            raise LoadError("load driver wrk2", str(error)) from error
        begin_s = start_s + plan.warmup_s
        window = Window(begin_s + time.time() - time.monotonic(), begin_s, load.duration_s)
        read = partial(read_result, plan=plan, version=self.version)
        return ProgramRun("wrk2", process, window, result, read, partial(_failure, script))


def _script_error(text: str, script: Path) -> ScriptError:
    """Turn Lua's ``file.lua:LINE: message`` into an error; Lua knows the script by its name alone."""
    where = re.match(r"(?P<file>[^:]+):(?P<line>\d+): ", text)
    if where is None:
        return ScriptError(str(script), text, None, "mend the script")
    file = str(script) if where["file"] == script.name else where["file"]
    return ScriptError(f"{file}:{where['line']}", text[where.end() :], None, "mend the script")


def _failure(script: Path, status: int, output: str) -> LoadError:
    """Turn an exit status and the words of wrk2 or of its accounts into an error."""
    if found := _SCRIPT_ERROR.search(output):
        return _script_error(found["what"], script)
    return exit_error("wrk2", status, output)
