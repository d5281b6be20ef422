"""The producer of event loops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from mainspring import _callbacks, _native
from mainspring._client import Bootstrap, topic_name
from mainspring._config import Setting
from mainspring._half import HeaderPairs, check_group
from mainspring._later import Delay, ScheduleId, check_altered, handle_of
from mainspring._producer import INTERRUPTED_WITHIN, STILL_CALLED, ProducerCore, check_many, typed_records
from mainspring._topic import Topic
from mainspring.aio import _loop
from mainspring.aio._half import Checker, CheckerTask, Half
from mainspring.aio._transaction import Transaction
from mainspring.errors import ConfigError, FlushTimeout, MainspringError

__all__ = ["Producer"]

_WINDOW = 4096
_log = logging.getLogger("mainspring")


class Producer(ProducerCore):
    """Sends records to any Kafka-protocol broker, from an event loop.

    `send` takes a record and never blocks. What it returns can be awaited: once it is, the record is
    acknowledged. A cancelled `await` gives up the waiting, and never the record. Where records come
    faster than the broker takes them, `await drain()` waits for room; without it `send` raises
    `BufferFull` at last.

    The arguments are those of `mainspring.Producer`. A `checker` may be a coroutine function; it is asked from
    the beginning of the `async with` block on.

    >>> async def main():
    ...     with mainspring.Broker() as broker:
    ...         async with mainspring.aio.Producer(broker.bootstrap) as producer:
    ...             deliveries = [producer.send("numbers", b"%d" % n) for n in range(3)]
    ...             return [(await delivery).offset for delivery in deliveries]
    >>> asyncio.run(main())
    [0, 1, 2]
    """

    _BLOCKS = False

    def __init__(
        self,
        bootstrap: Bootstrap = None,
        *,
        producer_group: str | None = None,
        checker: Checker | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None:
        check_group(producer_group, checker)
        super().__init__(bootstrap, producer_group=producer_group, config=config, **settings)
        self._checker = checker
        self._checking: CheckerTask | None = None

    async def send_many(
        self,
        topic: str | Topic[Any, Any],
        records: Iterable[Any],
        *,
        keyed: bool = False,
        partition: int | None = None,
    ) -> int:
        """Sends many records at a fraction of the cost of one by one, waiting for room where there is
        none, and returns how many were taken. The arguments are those of
        `mainspring.Producer.send_many`. Where it is cancelled, a note of the `CancelledError` says how many were
        taken by then, which are sent all the same.
        """
        check_many(records)
        if isinstance(topic, Topic):
            records = typed_records(topic, records, keyed)
            keyed = True
        window = records if isinstance(records, list) else list(records)
        taken = 0
        try:
            while taken < len(window):
                done = self._send_some(topic_name(topic), window, taken, keyed, partition)
                taken += done
                if not done:
                    await self.drain()
                elif taken < len(window):
                    # Others have their turn.
                    await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            note = f"{taken} of {len(window)} records of send_many were taken before it, and are on their way"
            cancelled.add_note(note)
            raise
        return taken

    def transaction(self) -> Transaction:
        """A transaction, to be used in an `async with` block: its end commits, an exception aborts. The
        rest is as with `mainspring.Producer.transaction`.
        """
        self._check_id()
        return Transaction(self)

    async def prepare(self, *topics: str | Topic[Any, Any]) -> None:
        """Asks whether topics honour delays, so that `send` may take `delay` and `deliver_at` for them:
        `send` itself never waits.

        Raises:
            ConfigError: A topic lacks the feature: its records would come at once.
        """
        for topic in map(topic_name, topics):
            await self._need(topic, "schedule")

    async def _need(self, topic: str, feature: str) -> None:
        """Asks whether a topic has a feature."""
        if (topic, feature) not in self._honoured:
            call = self._admin().features(topic)
            told = await _loop.wait(call, self._max_block, "asking for the features of a topic")
            self._note_features(topic, feature, told)

    def half(
        self,
        topic: str | Topic[Any, Any],
        value: Any,
        key: Any = None,
        *,
        headers: HeaderPairs | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        delay: Delay | None = None,
        deliver_at: datetime | int | None = None,
        id: str | bytes | None = None,
        check_after: Delay | None = None,
    ) -> Half:
        """A half message, to be used in an `async with` block: nobody sees it before its end, which lets it out;
        an exception takes it back. The rest is as with `mainspring.Producer.half`.
        """
        return Half(
            self,
            topic,
            value,
            key,
            headers,
            check_after,
            id,
            partition=partition,
            timestamp=timestamp,
            delay=delay,
            deliver_at=deliver_at,
        )

    def _begin_checker(self) -> None:
        if self._checking is None and self._checker is not None and self._producer_group is not None:
            self._checking = CheckerTask(
                self._bootstrap, self._settings, self._producer_group, self._checker
            )

    def _check_honoured(self, topic: str) -> None:
        message = (
            f"topic {topic}: it is not known yet whether it honours delays; await "
            f'producer.prepare("{topic}") once before'
        )
        raise ConfigError(message, context={"topic": topic})

    async def cancel(self, handle: ScheduleId | _native.RecordMetadata) -> None:
        """Cancels a record that was sent with a delay, as `mainspring.Producer.cancel` does."""
        known = handle_of(handle)
        call = self._admin().alter_entry(known, ("cancel", 0))
        check_altered(known, await _loop.wait(call, None, "cancelling a record"))

    async def drain(self, timeout: float | None = None) -> None:
        """Waits until the buffer has room again.

        Raises:
            OperationTimeout: It took longer than so many seconds.
        """
        await _loop.wait(self._room(), timeout, "waiting for room")

    async def flush(self, timeout: float | None = None) -> None:
        """Sends what was taken so far and waits until all of it is reported, and callbacks of that have returned.

        Raises:
            FlushTimeout: Records had no report after so many seconds; they are still on their way.
            MainspringError: A record was not stored whose delivery nobody has kept, as with
                `mainspring.Producer.flush`.
        """
        begun = time.monotonic()
        call = self._flush()
        if not await _loop.done(call, timeout):
            raise FlushTimeout.of(self.pending, timeout)
        call.take()
        await _wait_for_callbacks(None if timeout is None else timeout - (time.monotonic() - begun))
        self._tell_lost()

    async def close(self, timeout: float = 30.0) -> None:
        """Sends what was taken, waits for its reports, and ends. Closing it again does nothing. A
        transaction that is open is aborted.

        Raises:
            FlushTimeout: Records had no report after so many seconds. They are not sent any more, and
                may or may not have been stored.
            MainspringError: A record was not stored whose delivery nobody has kept.
        """
        await self._finish(timeout)
        self._tell_lost()

    async def _finish(self, timeout: float) -> None:
        if self._checking is not None:
            checking, self._checking = self._checking, None
            await checking.stop(timeout)
        if self.is_closed:
            return
        begun = time.monotonic()
        self._end_helper()
        left = await _loop.wait(self._close(timeout), timeout + 5.0, "closing the producer")
        if left:
            raise FlushTimeout.of(left, timeout)
        await _wait_for_callbacks(timeout - (time.monotonic() - begun))

    async def __aenter__(self) -> Self:
        self._check_open()
        self._begin_checker()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
            return
        # What went wrong first is what counts; the log tells of the rest. Who is interrupted does not wait.
        try:
            await self._finish(30.0 if isinstance(error, Exception) else INTERRUPTED_WITHIN)
        except MainspringError as problem:
            error.add_note(f"The producer was closed with records on their way: {problem}")


async def _wait_for_callbacks(timeout: float | None) -> None:
    """Waits for what is called for deliveries that are done. Callbacks that take longer go on, and the log tells."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not future.done():
            future.set_result(None)

    def settled() -> None:
        # The loop may have been closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end)

    if _callbacks.settle(settled):
        await asyncio.wait([future], timeout=None if timeout is None else max(0.0, timeout))
        if not future.done():
            _log.warning(STILL_CALLED)
