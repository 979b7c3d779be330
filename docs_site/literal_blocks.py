"""Griffe's part: docstrings are reStructuredText where they announce a literal block, and pages are Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ANNOUNCED = re.compile(r"::$", re.MULTILINE)


class LiteralBlocks(Extension):
    """Lets a paragraph that ends with two colons end with one, as it would be shown."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Change the docstring of an object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = ANNOUNCED.sub(":", obj.docstring.value)
