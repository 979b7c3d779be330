"""
Runs the tests on each supported pair of Airflow and Python: ``make test-versions``.

Each pair has an environment of its own in ``.versions``, made from the committed constraints by uv, and a log
beside it.
Interpreters are those of pyenv, or else the ``python3.x`` on the path. One pair at a time is built and tested.

    python -m harness.versions                  all pairs; their rows go into docs/compatibility.md
    python -m harness.versions 2.11-py3.12      these pairs alone
    python -m harness.versions --failed PAIR    of these pairs what failed in the last run, which has been fixed since
    python -m harness.versions --pin 3.0        make a constraints file anew

The table has what was run: the example DAGs on every pair, the provider's tests once for each Airflow, and those of
engine and client on the lowest versions.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import ROOT

FOLDER = ROOT / ".versions"
PAGE = ROOT / "docs" / "compatibility.md"
UV = ROOT / ".venv" / "bin" / "uv"
PARTS = {
    "examples": ["tests/examples"],
    "provider": ["tests/examples", "tests/provider"],
    "all": ["tests/examples", "tests/provider", "tests/probe", "tests/sync", "tests/client", "tests/local_voucherify"],
}
LIMIT = 3_600
"""Seconds after which a run of tests is killed."""

NEW = ("apache-airflow-providers-common-compat", "asgiref")
"""Packages that are newer than the Airflow: the first has its compatibility code, the second is asked for by it."""

OTHER_GROUPS = ("browser", "docs", "lint", "scale-out")
"""Dependency groups of the newest Airflow's pins, beside the tests' own."""


@dataclass(frozen=True)
class Line:
    """
    A line of Airflow versions.

    :param release: the version that is tested.
    :param day: only packages of this day or older are installed, since newer ones break older Airflows; None for any.
    :param pythons: the Pythons that it supports and this provider too.
    :param lowest: install the lowest versions that this provider declares.
    """

    release: str
    day: str | None
    pythons: tuple[str, ...]
    lowest: bool = False

    @property
    def constraints(self) -> Path:
        """The file with the pinned packages."""
        return ROOT / ("constraints/lowest.txt" if self.lowest else f"constraints/airflow-{self.release}.txt")


LINES = {
    "lowest": Line("2.11.0", "2025-05-22", ("3.11",), lowest=True),
    "2.11": Line("2.11.2", "2026-03-15", ("3.12", "3.11")),
    "3.0": Line("3.0.6", "2025-08-30", ("3.12", "3.11")),
    "3.1": Line("3.1.8", "2026-03-12", ("3.13", "3.12", "3.11")),
    "3.2": Line("3.2.2", "2026-05-30", ("3.13", "3.12", "3.11")),
    "3.3": Line("3.3.2", None, ("3.13", "3.12", "3.11")),
}


@dataclass(frozen=True)
class Pair:
    """A line of Airflow with one Python."""

    line: str
    python: str

    def __str__(self) -> str:
        return f"{self.line}-py{self.python}"

    @property
    def airflow(self) -> Line:
        """The line of Airflow."""
        return LINES[self.line]

    @property
    def part(self) -> Literal["examples", "provider", "all"]:
        """What is run: everything that applies on the lowest versions, and little where it is run on another Python."""
        if self.airflow.pythons[0] != self.python:
            return "examples"
        return "all" if self.airflow.lowest else "provider"


PAIRS = [Pair(line, python) for line, airflow in LINES.items() for python in airflow.pythons]


@dataclass(frozen=True)
class Outcome:
    """What a run of tests came to."""

    pair: Pair
    passed: int
    skipped: int
    failed: int
    day: str

    def row(self) -> str:
        """Return a row of the table."""
        lowest = " (lowest declared versions)" if self.pair.airflow.lowest else ""
        what = ", ".join(path.removeprefix("tests/") for path in PARTS[self.pair.part])
        counts = f"{self.passed:,} | {self.skipped:,} | {self.failed:,} | {self.day}"
        return f"| {self.pair.airflow.release}{lowest} | {self.pair.python} | {what} | {counts} |"


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = ArgumentParser(description="Runs the tests on pairs of Airflow and Python.")
    parser.add_argument(
        "pairs", nargs="*", choices=[[], *map(str, PAIRS)], metavar="pair", help=", ".join(map(str, PAIRS))
    )
    parser.add_argument(
        "--pin", choices=LINES, help="make the constraints file of an Airflow anew, and do nothing else"
    )
    parser.add_argument("--failed", action="store_true", help="run what failed in the last run of the pairs alone")
    arguments = parser.parse_args()
    if arguments.pin:
        pin(LINES[arguments.pin])
        return 0
    pairs = [pair for pair in PAIRS if not arguments.pairs or str(pair) in arguments.pairs]
    outcomes = [run_failed(pair) if arguments.failed else run(pair) for pair in pairs]
    for outcome in outcomes:
        print(outcome.row())
        write(outcome)
    return int(any(outcome.failed for outcome in outcomes))


def write(outcome: Outcome) -> None:
    """Put what a pair came to into its row of the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
    row = f"{outcome.row()}\n"
    name = row.split("|")[1:3]
    (number,) = (number for number, line in enumerate(lines) if line.split("|")[1:3] == name)
    lines[number] = row
    PAGE.write_text("".join(lines), encoding="utf-8")


def report_of(pair: Pair) -> Path:
    """Return where pytest's report of a pair is."""
    return FOLDER / f"{pair}.xml"


def run_failed(pair: Pair) -> Outcome:
    """Run what has failed of a pair again; return what its last whole run has come to by that."""
    whole, tests = count(pair), failed_of(pair)
    if not tests:
        return whole
    again = run(pair, tests)
    passed, skipped = whole.passed + again.passed, whole.skipped + again.skipped
    return Outcome(pair, passed, skipped, again.failed + whole.failed - len(tests), whole.day)


def run(pair: Pair, tests: Sequence[str] = ()) -> Outcome:
    """Make the environment of a pair, if need be, and run its tests in it, or some of them."""
    started = time.monotonic()
    python = install(pair)
    report, log = (FOLDER / f"{pair}.failed.xml" if tests else report_of(pair)), FOLDER / f"{pair}.log"
    report.unlink(missing_ok=True)
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--numprocesses=logical",
        "--dist=worksteal",
        "--junit-xml",
        str(report),
        *(tests or PARTS[pair.part]),
    ]
    with log.open("wb") as output:
        status = subprocess.run(
            ["timeout", "--kill-after=5", str(LIMIT), *command], cwd=ROOT, stdout=output, stderr=output, check=False
        ).returncode
    seconds = time.monotonic() - started
    outcome = count(pair, report) if report.exists() else Outcome(pair, 0, 0, 1, "")
    print(f"{pair}: {outcome.passed} passed, {outcome.skipped} skipped, {outcome.failed} failed in {seconds:.0f} s")
    if status or outcome.failed:
        print(f"pytest ended with {status}; the end of {log.relative_to(ROOT)}:")
        print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]))
    sys.stdout.flush()
    return outcome


def failed_of(pair: Pair) -> list[str]:
    """Return the tests that failed in the last whole run of a pair."""
    cases = ElementTree.parse(report_of(pair)).getroot().iter("testcase")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return [_test(case.attrib["classname"].split("."), case.attrib["name"]) for case in failed]


def _test(names: list[str], name: str) -> str:
    """Return a test as pytest takes it, by the names of its module, and of its class if it has one."""
    if names == [""]:  # a module that cannot be imported
        return name.replace(".", "/") + ".py"
    module = next(
        place for place in range(len(names), 0, -1) if ROOT.joinpath(*names[:place]).with_suffix(".py").exists()
    )
    return "::".join(["/".join(names[:module]) + ".py", *names[module:], name])


def count(pair: Pair, report: Path | None = None) -> Outcome:
    """Read pytest's report of a run, the last whole one by default."""
    (suite,) = ElementTree.parse(report or report_of(pair)).getroot()
    tests, skipped, failures, errors = (int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors"))
    day = suite.get("timestamp", "").partition("T")[0]
    return Outcome(pair, tests - skipped - failures - errors, skipped, failures + errors, day)


def install(pair: Pair) -> Path:
    """Return the Python of a pair's environment, which is made anew when what it is made from has changed."""
    folder = FOLDER / str(pair)
    python, stamp = folder / "bin" / "python", folder / "installed"
    made_from = (ROOT / "pyproject.toml").read_bytes() + pair.airflow.constraints.read_bytes()
    digest = hashlib.sha256(made_from).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"{pair}: installing", flush=True)
    uv("venv", "--clear", "--python", interpreter(pair.python), str(folder))
    constraint = ("--constraint", str(pair.airflow.constraints))
    uv("pip", "install", "--python", str(python), *constraint, "--editable", ".[local,parquet]", "--group", "dev")
    stamp.write_text(digest)
    return python


def pin(line: Line) -> None:
    """Make a constraints file: the newest packages of the line's day, or the lowest that this provider declares."""
    options = ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"]
    if line.day is not None:
        options += ["--exclude-newer", line.day]
        options += [option for name in NEW for option in ("--exclude-newer-package", f"{name}=2026-11-21")]
    extras = ["--extra", "parquet", "--extra", "local"]
    FOLDER.mkdir(exist_ok=True)
    given = FOLDER / "given.txt"
    given.write_text(f"apache-airflow=={line.release}\n", encoding="utf-8")
    if line.lowest:
        lowest = FOLDER / "lowest.txt"
        only = ["--resolution", "lowest-direct", "--output-file", str(lowest)]
        uv("pip", "compile", "pyproject.toml", *extras, "--constraint", str(given), *options, *only)
        declared = {name for name in lowest.read_text(encoding="utf-8").splitlines() if is_declared(name)}
        given.write_text("\n".join(sorted(declared)), encoding="utf-8")
    out = ["--upgrade", "--output-file", str(line.constraints)]
    names = ("dev", *OTHER_GROUPS) if line.day is None and not line.lowest else ("dev",)
    groups = [option for name in names for option in ("--group", name)]
    uv("pip", "compile", "pyproject.toml", *groups, *extras, "--constraint", str(given), *options, *out)


def is_declared(requirement: str) -> bool:
    """Say whether a pinned package is one that this provider declares itself."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    return requirement.partition("==")[0] in {one.partition(">=")[0] for one in declared}


def interpreter(version: str) -> str:
    """Return the path of a Python."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for found in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")):
        return str(found)
    if found_on_path := shutil.which(f"python{version}"):
        return found_on_path
    sys.exit(f"there is no Python {version} here: neither in {pyenv} nor on the path")


def uv(*arguments: str) -> None:
    """Run uv quietly; what it says is shown where it fails."""
    program = str(UV) if UV.exists() else shutil.which("uv") or sys.exit("there is no uv; run `make install` first")
    environment = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"} | os.environ
    done = subprocess.run([program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"uv {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
