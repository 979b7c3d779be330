"""
The command line: ``python -m airflow_provider_voucherify.local_voucherify``.

Prints one line, the base URL, once it accepts connections; ends with status 0 on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from threading import Event
from typing import Any

from airflow_provider_voucherify.local_voucherify.options import Options

try:
    from airflow_provider_voucherify.local_voucherify.server import LocalVoucherify
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: install airflow-provider-voucherify[local]") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Serve until a signal comes.

    :param arguments: command-line arguments, None for those of the process.
    """
    given = vars(_parser().parse_args(arguments))
    vouchers_file, log_requests = given.pop("vouchers_file"), given.pop("log_requests")
    if log_requests:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with LocalVoucherify(**given) as server:
        for code in _lines(vouchers_file):
            server.add_voucher(code)
        print(server.base_url, flush=True)
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_voucherify.local_voucherify", description="A local stand-in for Voucherify."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=0, type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--vouchers-file", type=Path, help="text file with the codes of existing vouchers, one a line")
    parser.add_argument("--log-requests", action="store_true", help="write a line to stderr for each request")
    for option in fields(Options):
        if "about" in option.metadata:
            _add_flag(parser, option)
    return parser


def _add_flag(parser: argparse.ArgumentParser, option: Field[Any]) -> None:
    flag, about = "--" + option.name.replace("_", "-"), option.metadata["about"]
    if isinstance(option.default, bool):
        parser.add_argument(flag, default=argparse.SUPPRESS, action=argparse.BooleanOptionalAction, help=about)
    else:
        parser.add_argument(
            flag,
            default=argparse.SUPPRESS,
            type=option.metadata["parse"],
            choices=option.metadata["choices"],
            help=about,
        )


def _lines(path: Path | None) -> list[str]:
    return [] if path is None else path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
