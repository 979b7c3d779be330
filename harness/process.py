"""Processes: every measurement has one of its own, and so has every server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import ROOT


class MeasurementError(Exception):
    """Something could not be measured, or not as it should have been."""


SECONDS_AT_MOST = 7_200


def measured(module: str, job: dict[str, Any], *, python: str = sys.executable) -> dict[str, Any]:
    """
    Run ``python -m harness.benchmarks.<module>`` with a job, and return what it printed.

    :param python: the interpreter of the environment that has what is to be measured.
    :raises MeasurementError: it came to nothing.
    """
    with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as home:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "PYTHONDONTWRITEBYTECODE": "",
        }
        done = subprocess.run(
            [python, "-m", f"harness.benchmarks.{module}", json.dumps(job)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_AT_MOST,
        )
    if done.returncode:
        raise MeasurementError(f"harness.benchmarks.{module} {job} failed:\n{done.stderr[-4_000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def job() -> dict[str, Any]:
    """Return the job that this process was given."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run a module that prints a URL and serves it, and give the URL."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield re.findall(r"http://[\w.:]+", server.stdout.readline())[0]
        finally:
            server.terminate()


def ask(url: str, method: str = "GET") -> dict[str, Any]:
    """Ask the counting server for ``/_counts`` or tell it to ``/_reset``."""
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        said: dict[str, Any] = json.load(answer)
        return said


def busy() -> str:
    """Say how many processes wanted a processor of late, since times on a machine that is busy are longer."""
    return f"- On {os.cpu_count()} cores, which {os.getloadavg()[1]:.1f} processes wanted in the last five minutes."


def resident_mb() -> float:
    """Return this process's resident memory, in MB (10**6 bytes)."""
    return _status("VmRSS")


def peak_mb() -> float:
    """Return the highest resident memory of this process so far, or since ``forget_peak``, in MB."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew at the memory that is resident now, where the kernel permits that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    return int(re.findall(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024 / 1e6
