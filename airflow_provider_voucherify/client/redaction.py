"""Removing credentials from what an error shows: texts that quote a request, and the local variables of frames."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from urllib.parse import quote, quote_plus, urlsplit

MIN_LENGTH = 8
"""Shorter credentials are not real keys, and could be part of ordinary words."""

_FIRST_OF_ITS_OWN = (0, 2, 3)
"""The first base64 character that depends on the credential alone, by the number of bytes before it modulo 3."""


def forms(credential: str) -> frozenset[str]:
    """
    Return how a credential may be written in a text: as it is, URL-quoted, in JSON or HTML, or in base64.

    The base64 forms are the parts that depend on the credential alone, so they are found whatever was encoded together
    with it (``id:key``, say).

    :param credential: of ``MIN_LENGTH`` characters or more; a shorter one has no forms.
    """
    if len(credential) < MIN_LENGTH:
        return frozenset()
    texts = {credential, json.dumps(credential)[1:-1], html.escape(credential)}
    texts |= {quote(credential, safe=""), quote(credential), quote_plus(credential)}
    texts |= {re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), form) for form in texts}
    raw = credential.encode()
    for before in range(3):
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            texts.add(encode(bytes(before) + raw)[_FIRST_OF_ITS_OWN[before] : last].decode())
    return frozenset(texts)


def redact(text: bytes, credentials: Iterable[str]) -> bytes:
    """Return a text with every form of some credentials replaced by ``***``, longest forms first."""
    texts = {form for credential in credentials for form in forms(credential)}
    for form in sorted(texts, key=len, reverse=True):
        text = text.replace(form.encode(), b"***")
    return text


def redacted_url(url: str) -> str:
    """Return a URL without its user, and without its query except for a mark: both may hold a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?…' if parts.query else ''}"


@contextmanager
def without_locals() -> Iterator[None]:
    """
    Clear the local variables of all frames that an error leaves on its way out of a block, and of those of its causes.

    Headers, bodies and tokens are in variables of this package, httpx, httpcore and h11 while a call is made, and some
    tools keep or print the variables of a traceback (Sentry, ``airflow dags test``). The function that holds the block
    keeps its own.
    """
    try:
        yield
    except BaseException as error:
        seen: set[int] = set()
        chain: list[BaseException | None] = [error]
        while chain:
            one = chain.pop()
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                clear_frames(one.__traceback__)
                chain += [one.__cause__, one.__context__]
        raise
