"""The poller that all triggers of a connection in an event loop share: opened for the first, closed by the last."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_provider_voucherify.triggers.turns import in_turns

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.triggers.poller import Poller, Watch

Kind = Literal["async actions", "exports"]
"""What is waited for: each kind has a poller of its own."""

OPENING_SECONDS = 30.0
"""Longest time for one attempt to open a connection: a secrets backend that hangs must not block a trigger forever."""


async def shared_poller(
    voucherify_conn_id: str, seconds: float = OPENING_SECONDS, kind: Kind = "async actions"
) -> SharedPoller:
    """
    Return what all triggers of a connection and a kind in this event loop share, to be used with ``async with``.

    A client for each trigger would cost 0.9 MB, block the loop for 20 ms, and send as many GETs as there are triggers.
    After polling has failed for all of them the next trigger gets a new poller: the connection may have been changed.

    :param seconds: how long opening the connection may take.
    :param kind: what is waited for.
    :raises TimeoutError: it took longer.
    """
    here = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    place = (voucherify_conn_id, kind)
    shared = here.shared.get(place) or await here.opened(place, seconds)
    shared.users += 1
    return shared


@dataclass(eq=False)
class SharedPoller:
    """A connection's client and poller, and the number of triggers that use them; the last one to leave closes them."""

    place: tuple[str, Kind]
    client: AsyncVoucherifyClient
    poller: Poller
    users: int = 0
    closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Poller:
        return self.poller

    async def __aexit__(self, *_: object) -> None:
        self.users -= 1
        shared = _loops[asyncio.get_running_loop()].shared
        if (not self.users or self.poller.gave_up) and shared.get(self.place) is self:
            del shared[self.place]
        if not self.users:
            self.closing = asyncio.create_task(self._close())
            await asyncio.shield(self.closing)  # Airflow cancels a trigger once a second, until it has ended

    async def _close(self) -> None:
        await self.poller.aclose()
        await self.client.aclose()


@dataclass(eq=False)
class _Opening:
    """An attempt to open a connection: the triggers that wait for it, and its error."""

    task: asyncio.Task[None] | None = None
    waiting: dict[asyncio.Future[None], None] = field(default_factory=dict)
    error: Exception | None = None


@dataclass
class _Loop:
    """What the triggers of one event loop share, by connection id and what they wait for."""

    opening: dict[tuple[str, Kind], _Opening] = field(default_factory=dict)
    shared: dict[tuple[str, Kind], SharedPoller] = field(default_factory=dict)

    async def opened(self, place: tuple[str, Kind], seconds: float) -> SharedPoller:
        """
        Return what a connection's triggers share.

        Only one attempt at a time opens a connection, and it continues after those waiting for it have given up: a
        thread that hangs in a secrets backend cannot be stopped, and a second one would hang beside it.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                while place not in self.shared:
                    await self._attempt(place)
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"looking it up took more than {seconds:.0f} s") from None
            raise
        return self.shared[place]

    async def _attempt(self, place: tuple[str, Kind]) -> None:
        """Wait for the attempt in progress, or else for a new one, and raise its error."""
        opening = self.opening.get(place)
        if opening is None:
            opening = self.opening[place] = _Opening()
            opening.task = asyncio.create_task(self._open(place, opening))
        turn = asyncio.get_running_loop().create_future()
        opening.waiting[turn] = None
        try:
            await turn
        finally:
            del opening.waiting[turn]
        if opening.error is not None:
            raise opening.error.with_traceback(None)

    async def _open(self, place: tuple[str, Kind], opening: _Opening) -> None:
        """Open a connection and tell those who wait for it; if nobody takes it, it is closed again."""
        try:
            shared = self.shared[place] = SharedPoller(place, *await _client_and_poller(*place), users=1)
        except Exception as error:
            opening.error = error
        finally:
            del self.opening[place]
        if opening.error is not None:
            await in_turns(list(opening.waiting))
            return
        async with shared:
            await in_turns(list(opening.waiting))


async def _client_and_poller(conn_id: str, kind: Kind) -> tuple[AsyncVoucherifyClient, Poller]:
    hook, watch, poller_of = await asyncio.to_thread(_prepared, conn_id, kind)
    from asgiref.sync import ThreadSensitiveContext

    async with ThreadSensitiveContext():  # its own thread, not the one that all others share
        client = await hook.get_async_conn()
    return client, poller_of(client, watch)


def _prepared(conn_id: str, kind: Kind) -> tuple[VoucherifyHook, Watch, type[Poller]]:
    """Import all that polling needs, in a thread: it takes longer than an event loop may be blocked."""
    import asgiref.sync  # noqa: F401

    import airflow_provider_voucherify.client.http  # noqa: F401
    from airflow_provider_voucherify.client.retry import RetryPolicy
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.waiting.export_watch import ExportWatch
    from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
    from airflow_provider_voucherify.triggers.poller import Poller

    hook = VoucherifyHook(conn_id, retry=RetryPolicy(attempts=2, max_rate_limit_wait=600))
    return hook, ExportWatch() if kind == "exports" else QueueWatch(), Poller


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
