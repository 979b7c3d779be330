"""Checks that a wheel holds the provider and its metadata, and nothing else."""

from __future__ import annotations

import sys
from zipfile import ZipFile

PACKAGE = "airflow_provider_voucherify"


def main(path: str) -> None:
    """Exit with a message where something is missing or too much."""
    names = ZipFile(path).namelist()
    others = [name for name in names if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]
    if others:
        sys.exit(f"{path} also holds {others}")
    for needed in (f"{PACKAGE}/py.typed", f"{PACKAGE}/get_provider_info.py"):
        if needed not in names:
            sys.exit(f"{path} has no {needed}")
    if not any(name.endswith(".dist-info/entry_points.txt") for name in names):
        sys.exit(f"{path} has no entry points")
    print(f"{path}: {len(names)} files, all of {PACKAGE}")


if __name__ == "__main__":
    main(sys.argv[1])
