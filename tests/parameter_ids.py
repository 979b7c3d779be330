"""Names of parametrised tests that are the same in every process: pytest-xdist refuses others."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def without_address(value: object) -> str:
    """Return a value's ``repr`` without where in memory it is."""
    return _ADDRESS.sub("", repr(value))


def has_address(name: str) -> bool:
    """Say whether a test's name says where in memory something is."""
    return _ADDRESS.search(name) is not None
