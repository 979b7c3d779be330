"""Paths as they are given: text, objects, lists, folders and patterns."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_provider_voucherify.compat import ObjectStoragePath
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

LOCAL = ("", "file", "local")


_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


_TABLES = ("_delta_log", "_spark_metadata", ".hoodie")


def path_text(parameter: str, path: Any) -> str:
    """
    Return a path, given as text, ``pathlib.Path`` or ``ObjectStoragePath``, as text.

    :raises VoucherifyConfigurationError: it is something else, or pathlib has made something else of a URI.
    """
    text = str(path) if isinstance(path, str | os.PathLike | ObjectStoragePath) else ""
    if not text.strip():
        raise VoucherifyConfigurationError(f"{parameter} must be a path or an object storage URI, not {path!r:.100}")
    if isinstance(path, Path) and _LOST_SLASH.match(text):
        raise VoucherifyConfigurationError(
            f"{parameter}: pathlib.Path takes a slash out of the URI {text!r}; give it as text or as ObjectStoragePath"
        )
    return text


def given_paths(path: Any) -> list[str]:
    """
    Return what is given as ``path=``, one path or a list of them, as text.

    :raises VoucherifyConfigurationError: it is something else, empty, or has a path twice.
    """
    paths = [path_text("path", one) for one in (path if isinstance(path, list | tuple) else [path])]
    if not paths:
        raise VoucherifyConfigurationError("path is an empty list: there is nothing to read")
    _check_distinct(paths)
    return paths


def source_files(path: Any) -> list[str]:
    """
    Return the files of ``path=`` in the order in which they are read.

    A path may be a folder, which stands for the files in it by name, without those that begin with ``_`` or a dot, or a
    pattern with ``*``.

    :param path: a path, or a list of them, local or in object storage.
    :raises VoucherifyConfigurationError: the folder has other folders in it, or is a table of Delta Lake or the like.
    :raises OSError: there is no such file, or the folder is still being written.
    """
    files = [file for one in given_paths(path) for file in _files(one)]
    _check_distinct(files)
    return files


def _check_distinct(paths: Sequence[str]) -> None:
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise VoucherifyConfigurationError(f"path has {', '.join(twice[:3])} more than once")


def _files(path: str) -> list[str]:
    target = ObjectStoragePath(path)
    if "*" in path:
        return _matching(path)
    if target.is_dir() if target.protocol in LOCAL else target.fs.info(target.path)["type"] == "directory":
        return _files_in(path)
    return [path]


def _matching(pattern: str) -> list[str]:
    """Return the files that match a pattern, under URIs as the pattern's own."""
    base = pattern.partition("*")[0].rpartition("/")[0]
    target = ObjectStoragePath(f"{base}/" if base or pattern.startswith("/") else ".")
    target.fs.invalidate_cache()
    root = target.fs._strip_protocol(target.path).rstrip("/")
    entries = target.fs.glob(f"{root}/{pattern[len(base) :].lstrip('/')}", detail=True)
    names = sorted(name for name, entry in entries.items() if entry["type"] != "directory" and _is_data(name))
    if not names:
        raise FileNotFoundError(f"no file matches {pattern}")
    prefix = f"{base}/" if base or pattern.startswith("/") else ""
    return [f"{prefix}{name.removeprefix(root).lstrip('/')}" for name in names]


def _files_in(folder: str) -> list[str]:
    target = ObjectStoragePath(folder)
    target.fs.invalidate_cache()
    entries = {entry["name"].rstrip("/"): entry["type"] for entry in target.fs.ls(target.path, detail=True)}
    entries.pop(target.fs._strip_protocol(target.path).rstrip("/"), None)
    names = {PurePosixPath(name).name: kind for name, kind in entries.items()}
    if table := [name for name in _TABLES if name in names]:
        raise VoucherifyConfigurationError(
            f"{folder} is a table ({table[0]}), whose files have rows that were deleted from it: export it, or "
            "read it with a query"
        )
    if "_temporary" in names and "_SUCCESS" not in names:
        raise OSError(f"{folder} is still being written: it has _temporary and no _SUCCESS")
    data = {name: kind for name, kind in names.items() if _is_data(name)}
    if folders := sorted(name for name, kind in data.items() if kind == "directory"):
        raise VoucherifyConfigurationError(
            f"{folder} has folders in it ({', '.join(folders[:3])}), which are not read; a pattern such as "
            f"{folder.rstrip('/')}/*/* reads their files, but not a column that is only in a folder's name"
        )
    if not data:
        raise FileNotFoundError(f"there are no files in the folder {folder}")
    return [f"{folder.rstrip('/')}/{name}" for name in sorted(data)]


def _is_data(path: str) -> bool:
    """Say whether a file is not one of those that Spark and Hadoop leave beside the data."""
    name = PurePosixPath(path).name
    return not name.startswith(("_", ".")) and not name.endswith("_$folder$")


def place_of(target: ObjectStoragePath) -> tuple[str, str]:
    """Return a form that is the same for two spellings of a place; connections are not distinguished."""
    if target.protocol in LOCAL:
        return "", os.path.realpath(target.path)
    return str(target.fs.protocol), str(target.fs._strip_protocol(target.path))
