"""Checks that a wheel holds the provider and its metadata, and nothing else."""

from __future__ import annotations

import sys
from configparser import ConfigParser
from email import message_from_string
from urllib.parse import urlsplit
from zipfile import ZipFile

PACKAGE = "airflow_provider_voucherify"
FILES = ("py.typed", "get_provider_info.py", "local_voucherify/contract.json", "plugins/static/syncs.js")
CLASSIFIERS = {
    "Framework :: Apache Airflow",
    "Framework :: Apache Airflow :: Provider",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Typing :: Typed",
}


OWN_PAGES = {"homepage", "documentation", "repository", "source", "source code", "issues", "bug tracker", "changelog"}
"""Labels of links (in lower case) that lead to pages of this project; Airflow shows the one to the documentation."""
VENDOR = "voucherify.io"


def is_honest(link: str) -> bool:
    """Say whether a ``Project-URL`` is a label and a whole URL, and names no page of the vendor's as this project's."""
    label, _, address = link.partition(",")
    url = urlsplit(address.strip())
    is_vendors = f".{url.hostname}".endswith(f".{VENDOR}")
    return bool(label.strip() and url.scheme == "https" and url.hostname) and not (
        is_vendors and label.strip().lower() in OWN_PAGES
    )


def main(path: str) -> None:
    """Exit with a message where something is missing or too much."""
    with ZipFile(path) as wheel:
        names = wheel.namelist()
        # Above all no airflow/: a file there would break the packages that share that namespace.
        if others := [name for name in names if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]:
            sys.exit(f"{path} also holds {others}")
        (info,) = {name.partition("/")[0] for name in names} - {PACKAGE}
        needed = [f"{PACKAGE}/{name}" for name in FILES]
        needed += [f"{info}/{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")]
        if missing := set(needed) - set(names):
            sys.exit(f"{path} lacks {sorted(missing)}")
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
        entry_points = ConfigParser()
        entry_points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    if missing := CLASSIFIERS - set(metadata.get_all("Classifier", ())):
        sys.exit(f"{path} lacks the classifiers {sorted(missing)}")
    for field in ("License-Expression", "Requires-Python", "Summary", "Description-Content-Type"):
        if not metadata[field]:
            sys.exit(f"{path} has no {field} in its metadata")
    if wrong := [link for link in metadata.get_all("Project-URL", ()) if not is_honest(link)]:
        sys.exit(f"{path} has links that are none, or that name the vendor's pages as this project's: {wrong}")
    entry_point = entry_points.get("apache_airflow_provider", "provider_info")
    if entry_point != f"{PACKAGE}.get_provider_info:get_provider_info":
        sys.exit(f"{path} has the entry point {entry_point}")
    print(f"{path}: {len(names)} files, all of {PACKAGE}; needs {', '.join(metadata.get_all('Requires-Dist', ()))}")


if __name__ == "__main__":
    main(sys.argv[1])
