"""Another process that runs a DAG, forked from the tests: one that can be killed, or be at work at the same time."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

_of_parent: list[Any] = []


class OtherProcess:
    """
    A forked process that does something when it is told to, and then ends.

    :param work: what it does.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        begin, self._begin = os.pipe()
        with warnings.catch_warnings(
            action="ignore", category=DeprecationWarning
        ):  # of threads, which it does not need
            self.pid = os.fork()
        if not self.pid:
            os.close(self._begin)
            self._work(begin, work)
        os.close(begin)

    def run(self) -> int:
        """Let it work, and return how it ended: 0, 1 if there was an error, or the signal, negative, that killed it."""
        os.write(self._begin, b".")
        os.close(self._begin)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @staticmethod
    def _work(begin: int, work: Callable[[], object]) -> None:
        failed = True
        try:
            if os.read(begin, 1):
                _leave_to_parent()
                work()
                failed = False
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(failed)


def _leave_to_parent() -> None:
    """Use none of the database connections and threads of Airflow that are the parent's."""
    from airflow import settings
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    settings.engine.dispose(close=False)
    settings.async_engine.sync_engine.dispose(close=False)
    server = in_process_api_server()
    _of_parent.append(server.transport)  # else its end would be waited for in a thread that is not in this process
    del server.transport
