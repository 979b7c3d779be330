"""Hints at names that a person may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], least_alike: float = 0.6) -> str:
    """
    Return a hint such as `` (did you mean 'email'?)``, to put after a name; nothing if no known one is like it.

    :param name: what was given; capitals make no difference.
    :param known: the names that there are.
    :param least_alike: how alike two names must be, from 0 to 1 (they are equal).
    """
    from difflib import get_close_matches  # here, since DAG files that have no mistake need not pay for it

    by_small_letters = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), list(by_small_letters), 1, least_alike)
    return f" (did you mean {by_small_letters[close[0]]!r}?)" if close else ""
