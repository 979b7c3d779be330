"""Finding secrets in bytes, however they are written."""

from __future__ import annotations

import html
import json
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus


def written(secret: str, application_id: str) -> Mapping[str, set[bytes]]:
    """Return by name the forms in which a secret is looked for."""
    pair = f"{application_id}:{secret}"
    base64 = {
        encode(text.encode()).rstrip(b"=")[:-1] for text in (secret, pair) for encode in (b64encode, urlsafe_b64encode)
    }
    return {
        "plain": {secret.encode()},
        "URL-quoted": {form.encode() for form in (quote(secret, safe=""), quote(secret), quote_plus(secret))},
        "base64": base64,
        "JSON or HTML": {json.dumps(secret)[1:-1].encode(), html.escape(secret).encode()},
        "hex": {secret.encode().hex().encode()},
    }


def found_in(text: bytes, secrets: Mapping[str, str], application_id: str) -> set[tuple[str, str]]:
    """Return which secrets (by name) a text has, and in which form."""
    return {
        (name, form)
        for name, secret in secrets.items()
        for form, looks in written(secret, application_id).items()
        if any(look in text for look in looks)
    }


def texts_of(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Give the names and contents of files; what zlib has packed is given unpacked as well."""
    for file in files:
        if file.is_file() and not file.is_symlink():
            raw = file.read_bytes()
            yield str(file), raw
            yield from ((str(file), unpacked) for unpacked in [unzipped(raw)] if unpacked)


def unzipped(raw: bytes) -> bytes:
    """Return what was packed with zlib, nothing where that is not so."""
    try:
        return zlib.decompress(raw)
    except zlib.error:
        return b""
