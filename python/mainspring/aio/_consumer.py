"""The consumer of event loops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, overload

from mainspring._client import Bootstrap, topic_name
from mainspring._config import Setting
from mainspring._consumer import (
    ConsumerCore,
    Place,
    Rebalance,
    Start,
    _assignment,
    _native_start,
    check_batches,
    closing_within,
    lag_of,
    some_topics,
)
from mainspring._native import Message, MessageBatch
from mainspring._topic import Topic
from mainspring._types import TopicPartition
from mainspring.aio import _loop
from mainspring.errors import ConfigError

__all__ = ["Consumer"]

K = TypeVar("K")
V = TypeVar("V")


class Consumer(ConsumerCore[K, V]):
    """Reads records in an event loop, alone or as a member of a group.

    The arguments are those of `mainspring.Consumer`; `on_assigned`, `on_revoked` and `on_lost` may be
    coroutine functions. A cancelled wait loses no message: the next one that is asked for is the one
    that was waited for.

    >>> async def main():
    ...     with mainspring.Broker() as broker:
    ...         async with mainspring.aio.Producer(broker.bootstrap) as producer:
    ...             await producer.send("orders", b"1")
    ...         async with mainspring.aio.Consumer(
    ...             broker.bootstrap, topics="orders", start="earliest"
    ...         ) as consumer:
    ...             async for message in consumer:
    ...                 return message.value
    >>> asyncio.run(main())
    b'1'
    """

    _is_begun = False
    _waited: asyncio.Future[None] | None = None
    _ended: asyncio.Future[None] | None = None

    @overload
    def __init__(
        self: Consumer[bytes, bytes],
        bootstrap: Bootstrap = None,
        *,
        topics: str | Iterable[str] | None = None,
        group: str | None = None,
        start: Start | None = None,
        auto_commit: bool | None = None,
        isolation: str | None = None,
        on_assigned: Rebalance | None = None,
        on_revoked: Rebalance | None = None,
        on_lost: Rebalance | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None: ...
    @overload
    def __init__(
        self,
        bootstrap: Bootstrap = None,
        *,
        topics: Topic[K, V] | Iterable[Topic[K, V]],
        group: str | None = None,
        start: Start | None = None,
        auto_commit: bool | None = None,
        isolation: str | None = None,
        on_assigned: Rebalance | None = None,
        on_revoked: Rebalance | None = None,
        on_lost: Rebalance | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None: ...
    @overload
    def __init__(
        self: Consumer[Any, Any],
        bootstrap: Bootstrap = None,
        *,
        topics: Iterable[str | Topic[Any, Any]],
        group: str | None = None,
        start: Start | None = None,
        auto_commit: bool | None = None,
        isolation: str | None = None,
        on_assigned: Rebalance | None = None,
        on_revoked: Rebalance | None = None,
        on_lost: Rebalance | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None: ...
    def __init__(self, bootstrap: Bootstrap = None, *, topics: Any = None, **options: Any) -> None:
        super().__init__(bootstrap, topics=topics, **options)

    async def _begin(self) -> None:
        self._is_begun = True
        if self._group is not None:
            await _loop.wait(self._join(), 60.0, "the subscription")
        elif self._topics:
            await self.assign(await _loop.wait(self._find(), 60.0, "finding the topics"))

    async def _told(self) -> None:
        """Calls what is to be called of the events that came."""
        while self._events:
            kind, places = self._events.pop(0)
            callback = self._callbacks[kind]
            if callback is not None:
                outcome = callback(places)
                if inspect.isawaitable(outcome):
                    await outcome

    async def poll(self, timeout: float | None = None) -> Message[K, V] | None:
        """Returns the next message, `None` where none comes for so many seconds, and after `stop`."""
        self._check_open()
        if timeout is not None and not timeout >= 0:
            why = f"{timeout} is no time to wait: give seconds from 0 on, or None to wait as long as it takes"
            raise ConfigError(why)
        if not self._is_begun and self._topics:
            await self._begin()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self.is_stopped:
            message = self._take()
            if message is not None:
                return message
            left = None if deadline is None else max(0.0, deadline - loop.time())
            if not await self._asked(left):
                return None
            if not self._accept():
                await self._told()
        return None

    async def _asked(self, limit: float | None) -> bool:
        """Waits for the next event; false after so many seconds, and after `stop`."""
        loop = asyncio.get_running_loop()
        # One future for a question, and one for the end, however often they are waited for.
        if self._waited is None or self._waited.get_loop() is not loop:
            call = self._ask()
            if call.done():
                return True
            self._waited = _loop.watch(call)
        if self._ended is None or self._ended.get_loop() is not loop:
            self._ended = _loop.watch(self._stopped())
        waiting = (self._waited, self._ended)
        await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not self._waited.done():
            return False
        self._waited = None
        return True

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    def __iter__(self) -> NoReturn:
        message = "this consumer is one of event loops: use `async for`, or mainspring.Consumer in threads"
        raise TypeError(message)

    def __next__(self) -> NoReturn:
        self.__iter__()

    async def __anext__(self) -> Message[K, V]:
        message = self._take() if not self.is_stopped else None
        if message is None and not self.is_stopped:
            message = await self.poll()
        if message is None:
            raise StopAsyncIteration
        return message

    def batches(
        self, max_records: int = 500, max_wait: float | None = None
    ) -> AsyncIterator[MessageBatch[K, V]]:
        """Yields messages in batches; a batch counts as processed once the next one is asked for. The
        arguments are those of `mainspring.Consumer.batches`. Where a wait for one is cancelled, the next goes on with
        what it had.
        """
        check_batches(self, max_records, max_wait)
        return _Batches(self, max_records, max_wait)

    async def subscribe(self, topics: str | Topic[K, V] | Iterable[str | Topic[K, V]]) -> None:
        """Goes on with these topics as a member of the group, as `mainspring.Consumer.subscribe`."""
        self._topics = some_topics(topics)
        await self._begin()

    async def assign(self, partitions: Mapping[Place, Start] | Iterable[Place]) -> None:
        """Reads these partitions without being a member of a group, as `mainspring.Consumer.assign`."""
        self._check_unsubscribed()
        self._is_begun = True
        await _loop.wait(self._assign(_assignment(partitions, self._start)), 60.0, "the assignment")

    async def seek(self, topic: str | Topic[K, V], partition: int, start: Start) -> None:
        """Goes on elsewhere in a partition: at an offset, a `datetime`, "earliest" or "latest".

        Raises:
            LookupError: The partition is not read by this consumer.
        """
        place = (topic_name(topic), partition)
        if not await _loop.wait(self._seek(place, _native_start(start)), 60.0, "the seek"):
            message = f"{place[0]}-{partition} is not read by this consumer at present"
            raise LookupError(message)

    async def rewind(self) -> None:
        """Goes back to the offsets that the group has stored, as `mainspring.Consumer.rewind`."""
        self._check_group()
        await _loop.wait(self._rewind(), 60.0, "the way back")

    async def pause(self, partitions: Iterable[Place]) -> None:
        """Holds partitions back, which stay with this consumer, until `resume`."""
        await _loop.wait(self._pause(list(partitions), True), 60.0, "the pause")

    async def resume(self, partitions: Iterable[Place]) -> None:
        """Goes on with partitions that were paused."""
        await _loop.wait(self._pause(list(partitions), False), 60.0, "the resumption")

    async def assignment(self) -> list[TopicPartition]:
        """The partitions that are read at present."""
        return list(await _loop.wait(self._positions(), 60.0, "the question"))

    async def positions(self) -> dict[TopicPartition, int | None]:
        """For each partition the offset of the next message, `None` while it is asked for."""
        held = await _loop.wait(self._positions(), 60.0, "the question")
        return {place: position for place, (position, _) in held.items()}

    async def lag(self) -> dict[TopicPartition, int | None]:
        """For each partition how many messages follow, as of the last fetch; `None` before it."""
        held = await _loop.wait(self._positions(), 60.0, "the question")
        return {place: lag_of(*known) for place, known in held.items()}

    async def commit(
        self,
        what: Message[K, V] | MessageBatch[K, V] | Mapping[Place, int] | None = None,
        timeout: float | None = 60.0,
    ) -> None:
        """Stores offsets in the group and waits for that, as `mainspring.Consumer.commit`."""
        self._check_group()
        await _loop.wait(self._commit(what), timeout, "the commit")

    async def committed(self, partitions: Iterable[Place]) -> dict[TopicPartition, int | None]:
        """For each partition the offset that the group has stored, `None` where there is none."""
        self._check_group()
        committed: dict[TopicPartition, int | None] = await _loop.wait(
            self._committed(list(partitions)), 60.0, "the question"
        )
        return committed

    async def close(self, timeout: float = 30.0) -> None:
        """Stores what is processed, where commits are automatic, leaves the group, and ends."""
        await _loop.wait(self._close(timeout), timeout + 5.0, "closing the consumer")

    async def __aenter__(self) -> Self:
        self._check_open()
        if self._topics and not self._is_begun:
            await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(closing_within(error))


class _Batches(AsyncIterator[MessageBatch[K, V]]):
    """Batches of a consumer, one after the other."""

    def __init__(self, consumer: Consumer[K, V], most: int, max_wait: float | None) -> None:
        self._consumer = consumer
        self._most = most
        self._max_wait = max_wait or 0.0
        # What was given out, and counts as processed once more is asked for.
        self._given: MessageBatch[K, V] | None = None
        # What is being gathered, also over a wait that was cancelled.
        self._filling: MessageBatch[K, V] = MessageBatch()

    async def __anext__(self) -> MessageBatch[K, V]:
        consumer = self._consumer
        if self._given is not None:
            consumer._processed(self._given)
            self._given = None
        if not consumer._is_begun and consumer._topics:
            await consumer._begin()
        await self._fill()
        batch, self._filling = self._filling, MessageBatch()
        if not len(batch):
            raise StopAsyncIteration
        self._given = batch
        return batch

    async def _fill(self) -> None:
        """Waits until the batch is full or has waited long enough, or until the consumer is stopped."""
        consumer, batch = self._consumer, self._filling
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while not consumer.is_stopped:
            consumer._fill(batch, self._most - len(batch))
            if len(batch) >= self._most:
                return
            if len(batch) and deadline is None:
                deadline = loop.time() + self._max_wait
            left = None if deadline is None else max(0.0, deadline - loop.time())
            if not await consumer._asked(left):
                return
            if not consumer._accept(len(batch) > 0):
                if len(batch):
                    return
                await consumer._told()
