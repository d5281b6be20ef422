"""Half messages of event loops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mainspring import _native
from mainspring._half import (
    COMMIT,
    PAUSE_FIRST,
    PAUSE_LAST,
    ROLLBACK,
    UNKNOWN,
    CheckerCore,
    HalfCore,
    HalfMessage,
    TxStatus,
    check_status,
    is_open,
    note_failure,
    note_refusal,
    note_restart,
    note_rollback,
    read_question,
)
from mainspring._later import check_altered
from mainspring.aio import _loop
from mainspring.errors import MainspringError, TopicAlreadyExists

if TYPE_CHECKING:
    from mainspring.aio._producer import Producer

__all__ = ["Half"]

Checker = Callable[[HalfMessage], TxStatus | Awaitable[TxStatus]]


class Half(HalfCore):
    """A half message: `async with producer.half(...) as half:` sends it, and nobody sees it. The end of the block
    lets it out, an exception takes it back. A task that is cancelled in the block leaves it to the checker.

    >>> async def main():
    ...     with mainspring.Broker() as broker:
    ...         async with (
    ...             mainspring.aio.Admin(broker.bootstrap) as admin,
    ...             mainspring.aio.Producer(broker.bootstrap, producer_group="shop") as producer,
    ...         ):
    ...             await admin.create_topic("paid", config={"mainspring.features": "half"})
    ...             async with producer.half("paid", b"{}") as half:
    ...                 pass
    ...             return (await admin.schedule(half.schedule_id)).state
    >>> asyncio.run(main())
    'committed'
    """

    _BLOCK = "async with producer.half(...) as half:"
    _producer: Producer

    async def commit(self) -> None:
        """Lets it out before the end of the block, as `mainspring.Half.commit`."""
        told = await _loop.wait(self._verdict(COMMIT), None, "the verdict")
        check_altered(self.schedule_id, told)

    async def rollback(self) -> None:
        """Takes it back before the end of the block, as `mainspring.Half.rollback`."""
        told = await _loop.wait(self._verdict(ROLLBACK), None, "the verdict")
        check_altered(self.schedule_id, told)

    async def __aenter__(self) -> Self:
        self._must_be_new()
        await self._producer._need(self._name, "half")
        if any(self._more.get(name) is not None for name in ("delay", "deliver_at")):
            await self._producer.prepare(self._name)
        self._producer._begin_checker()
        self._sent(await self._send())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = self._gives(error)
        if status is COMMIT:
            await self.commit()
        elif status is ROLLBACK and error is not None:
            try:
                await self.rollback()
            except MainspringError as problem:
                note_rollback(error, problem)


class CheckerTask(CheckerCore):
    """Answers questions by a function or a coroutine function, in a task of the running loop."""

    def __init__(
        self, bootstrap: str, settings: list[tuple[str, str]], group: str, checker: Checker
    ) -> None:
        super().__init__(bootstrap, settings, group)
        self._checker = checker
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mainspring-checker")

    async def stop(self, timeout: float) -> None:
        """Ends it, and waits for that for so many seconds at most."""
        self._stopping = True
        loop = self._task.get_loop()
        if loop is asyncio.get_running_loop():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=timeout)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        pause = PAUSE_FIRST
        loop = asyncio.get_running_loop()
        while not self._stopping:
            begun = loop.time()
            try:
                await self._serve()
                return
            except Exception as problem:
                if loop.time() - begun > PAUSE_LAST:
                    pause = PAUSE_FIRST
                note_restart(self.topic, pause, problem)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_LAST)

    async def _serve(self) -> None:
        from mainspring.aio._consumer import Consumer

        admin = self._admin()
        try:
            try:
                await _loop.wait(self._make_topic(admin), None, "making a topic")
            except TopicAlreadyExists:
                pass
            async with Consumer(self._bootstrap, **self._consumes()) as consumer:
                async for message in consumer:
                    half = read_question(message)
                    if half is not None:
                        await self._answer(admin, half)
                    # A checker that takes no notice of its cancellation.
                    if self._stopping:
                        return
        finally:
            admin.close()

    async def _answer(self, admin: _native.Admin, half: HalfMessage) -> None:
        status = UNKNOWN
        try:
            call = admin.entry(half.schedule_id)
            if not is_open(await _loop.wait(call, None, "asking for a half message")):
                return
            try:
                answer = self._checker(half)
                if inspect.isawaitable(answer):
                    answer = await answer
                status = check_status(half, answer)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Something that it waited for was cancelled, and not this task.
                note_failure(half)
            except Exception:
                note_failure(half)
            if status is not UNKNOWN:
                call = admin.alter_entry(half.schedule_id, (status.value, 0))
                check_altered(half.schedule_id, await _loop.wait(call, None, "the verdict"))
        except MainspringError as problem:
            note_refusal(half, status, problem)
