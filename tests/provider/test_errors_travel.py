"""Errors go from one process to another (``multiprocessing``) and are copied: nothing of them is lost."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import airflow_provider_voucherify
from airflow_provider_voucherify.models.errors import (
    VoucherifyNotFoundError,
    VoucherifyRateLimitError,
    VoucherifyRecordsRejectedError,
)
from tests.installed import AIRFLOW

NOT_IMPORTED = {"__main__"} if AIRFLOW >= (3, 1) else {"__main__", "app", "memory", "runs"}
"""Last parts of the names of modules; what serves the page of all syncs needs Airflow 3.1."""


def classes() -> list[type[BaseException]]:
    """Return all exception classes of the package."""

    def defined() -> Iterator[type[BaseException]]:
        for module in pkgutil.walk_packages(airflow_provider_voucherify.__path__, "airflow_provider_voucherify."):
            if module.name.rpartition(".")[2] not in NOT_IMPORTED:
                for value in vars(importlib.import_module(module.name)).values():
                    if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name:
                        yield value

    return sorted(defined(), key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


EXAMPLES: dict[str, Any] = {
    "status": 418,
    "async_action_ids": ["aa_1", "aa_2"],
    "summary": {"failed": 3},
    "body": {"code": 418},
    "until": 1.5,
    "retry_at": 2.5,
    "sent": False,
    "fetched": 2,
    "error": VoucherifyRateLimitError("GET /v1/customers", 429, retry_at=3.5),
}


def example(kind: type[BaseException]) -> BaseException:
    """Make an error with an argument for each of its class's parameters."""
    if kind.__init__ is BaseException.__init__ or "self" not in inspect.signature(kind.__init__).parameters:
        return kind("what has happened")
    _, *parameters = inspect.signature(kind.__init__).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    given = {one.name: EXAMPLES.get(one.name, f"some {one.name}") for one in named}
    return kind(**given) if given else kind("what has happened")


def everything(error: BaseException) -> Any:
    attributes = {name: str(value) for name, value in vars(error).items()}
    return type(error), str(error), error.args, attributes


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_an_error_arrives_whole(kind: type[BaseException]) -> None:
    error = example(kind)
    error.add_note("by the way")

    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert other is not error
        assert everything(other) == everything(error)


def test_so_does_what_to_do_about_it() -> None:
    error = VoucherifyNotFoundError("GET /v1/async-actions/aa_1", 404, key="not_found", asked="GET https://host/v1")
    error.advice = "Look elsewhere."

    assert (
        str(pickle.loads(pickle.dumps(error)))
        == str(error)
        == ("GET https://host/v1 was answered with 404 (key not_found). Look elsewhere.")
    )


def test_the_package_has_all_the_errors_that_are_documented() -> None:
    assert VoucherifyRecordsRejectedError in classes()
    assert len(classes()) > 25
