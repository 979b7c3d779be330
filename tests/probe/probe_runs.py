"""A run of the probe against a local Voucherify, which waits for little."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connections import APP_ID, SECRET_KEY

from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.probe.command import parser, probe
from airflow_provider_voucherify.probe.run import Pace

QUICK = Pace(settle=0.0, pauses=(0.02, 0.1, 0.3, 1.0, 2.0))


def settings_of(server: LocalVoucherify, conn_id: str = "voucherify_sandbox", **extra: Any) -> ConnectionSettings:
    return ConnectionSettings.build(
        application_id=APP_ID, secret_key=SECRET_KEY, host=server.base_url, extra=extra, conn_id=conn_id
    )


@dataclass(frozen=True)
class Probed:
    """
    A run of the probe.

    :param status: of the process.
    """

    status: int
    content: dict[str, Any]

    @property
    def readings(self) -> dict[str, str]:
        return {answer["question"]: answer["reading"] for answer in self.content["answers"]}

    @property
    def evidence(self) -> dict[str, str]:
        return {answer["question"]: answer["evidence"] for answer in self.content["answers"]}


def run_probe(
    server: LocalVoucherify, output: Path, *flags: str, conn_id: str = "voucherify_sandbox", **extra: Any
) -> Probed:
    """Run the probe with the flags of the command line."""
    status = probe(settings_of(server, conn_id, **extra), arguments(output, *flags), QUICK)
    text = output.read_text(encoding="utf-8") if output.exists() else ""
    return Probed(status, json.loads(text) if text else {})


def arguments(output: Path, *flags: str) -> Namespace:
    """Return what the command line makes of flags."""
    return parser().parse_args(["--output", str(output), *flags])


if __name__ == "__main__":  # ``python -m tests.probe.probe_runs URL FILE``, to be interrupted
    here = ConnectionSettings.build(application_id=APP_ID, secret_key=SECRET_KEY, host=sys.argv[1])
    sys.exit(probe(here, arguments(Path(sys.argv[2]), "--yes"), QUICK))
