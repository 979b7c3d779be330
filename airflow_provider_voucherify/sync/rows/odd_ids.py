"""Ids that are probably not intended: padded, quoted, marked or shortened on their way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import ne

_SHORTENED = re.compile(r"\d+([.,]\d+)?[Ee]\+\d+", re.ASCII)
_INVISIBLE = re.compile("[\ufeff\u200b-\u200d\u2060]")
_CHARACTERS = " \t\r\v\f\x1c\x1d\x1e\x1f'\"+"
_MARKS = ("\n'", "'\n", '\n"', '"\n', "E+", "e+")
"""Lines of ASCII ids contain one of these characters if one of the ids is odd."""

_KINDS: dict[str, Callable[[str], object]] = {
    "begin or end with a blank, as a column of type CHAR pads them": lambda text: text != text.strip(),
    "begin or end with a quote": lambda text: text.strip()[:1] in "'\"" or text.strip()[-1:] in "'\"",
    "have an invisible character, such as a byte order mark": _INVISIBLE.search,
    "are numbers that a spreadsheet has shortened": _SHORTENED.fullmatch,
}


class OddIds:
    """
    Counts odd ids, at the cost of a few searches for a character per thousand ids.

    :param shows_examples: whether warnings may quote an id.
    """

    def __init__(self, *, shows_examples: bool = True) -> None:
        self._shows_examples = shows_examples
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def look_at(self, ids: Sequence[str]) -> None:
        """Count the odd ones among some ids."""
        if not _may_be_odd(ids):
            return
        for kind, is_odd in _KINDS.items():
            if odd := [text for text in ids if text and is_odd(text)]:
                self._counts[kind] += len(odd)
                self._examples.setdefault(kind, odd[0])

    def warnings(self) -> Iterator[str]:
        """Return a warning for each kind, with the number."""
        for kind, number in self._counts.items():
            example = self._examples[kind]
            quoted = ascii(example if len(example) <= 60 else example[:59] + "…")
            shown = f", such as {quoted}" if self._shows_examples else ""
            yield f"ids that {kind}: {number:,}{shown}; they are sent exactly as they are"


def _may_be_odd(ids: Sequence[str]) -> bool:
    lines = "\n" + "\n".join(ids) + "\n"
    if lines.isascii() and not any(character in lines for character in _CHARACTERS):  # the usual case, made fast
        return False
    if any(mark in lines for mark in _MARKS) or any(map(ne, map(str.strip, ids), ids)):
        return True
    return not lines.isascii() and _INVISIBLE.search(lines) is not None
