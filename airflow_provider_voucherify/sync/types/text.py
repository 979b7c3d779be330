"""Text that is safe for logs, XComs and files, whatever it was made from."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any


def json_safe_text(value: Any) -> str:
    """Return a value's text with everything that UTF-8 cannot carry escaped."""
    try:
        text = str(bytes(value) if isinstance(value, bytearray | memoryview) else value)
    except Exception:
        text = f"(a {type(value).__name__} that has no text)"
    return text.encode("utf-8", "backslashreplace").decode()


MAX_TEXT = 500
"""Maximum length of a message that is kept: an error text of any size must not swell logs or XComs."""


def shortened(text: str | None) -> str | None:
    """Return at most ``MAX_TEXT`` characters of a text, on one line, without control characters."""
    if text is None:
        return None
    line = "".join(c if c.isprintable() else " " for c in json_safe_text(text[: MAX_TEXT + 1]))
    return line if len(text) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def on_one_line(text: str) -> str:
    """Return a text without line breaks and other runs of blanks."""
    return " ".join(text.split())


def counted(count: int, one: str, many: str | None = None) -> str:
    """
    Return a number with what it counts, such as ``1 row`` or ``2,000 rows``.

    :param one: what follows a 1, with a verb if there is one: ``row was``.
    :param many: what follows any other number, zero too; None for ``one`` with an ``s``.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def cut(text: str, characters: int) -> str:
    """Return at most some characters of a text; a longer one ends with ``…``."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def whole_lines(text: str, characters: int) -> str:
    """Return as many whole lines of a text as fit, and how many are left out."""
    lines = text.split("\n")
    if len(text) <= characters or len(lines) == 1:
        return text
    shown, more = lines, ""
    while shown and len("\n".join([*shown, more])) > characters:
        shown = shown[:-1]
        more = f"… and {counted(len(lines) - len(shown), 'more line')}"
    return "\n".join([*shown, more])


def short_digest(text: str) -> str:
    """Return 32 characters that stand for a text, where a place limits the length or the characters of names."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
