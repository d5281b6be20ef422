"""The broker of tests: what replaces sleeps and hand-written clients in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import count as counting
from types import TracebackType
from typing import Any, TypeVar, overload

from mainspring._admin import Admin, TopicName
from mainspring._config import Setting
from mainspring._consumer import Consumer
from mainspring._native import Message, RecordMetadata
from mainspring._producer import Producer
from mainspring._topic import Topic
from mainspring.broker import Broker
from mainspring.errors import GroupNotFound, MainspringError, OperationTimeout

__all__ = ["TestBroker"]

K = TypeVar("K")
V = TypeVar("V")

# Where groups store their offsets; asking for a group makes it.
_OFFSETS = "__consumer_offsets"

# How long nothing may be stored before the lag is looked at all the same: retention and deletion lower it
# too, and tell nobody.
_LOOK = 1.0

# How often it is asked who leads a partition that has no leader: metadata tells nobody when it changes.
_PAUSE = 0.005


class TestBroker(Broker):
    """A broker with what tests do to one. The fixture `mainspring_broker` is one.

    Everything blocks; in a test of an event loop, call what waits by `asyncio.to_thread`.

    >>> with TestBroker() as broker:
    ...     _ = broker.produce("orders", [b"1", b"2"])
    ...     broker.values("orders")
    [b'1', b'2']
    """

    # Its name is no reason for pytest to collect it.
    __test__ = False

    _numbers = counting(1)

    @cached_property
    def admin(self) -> Admin:
        """An administrator of this broker."""
        self._check_open()
        return Admin(self.bootstrap)

    def mend(self) -> str | None:
        """Has all nodes run again, and tells what one was left as; `None` where all run."""
        if self._is_stopped:
            return "stopped"
        states = {node.state for node in self.nodes.values()}
        # What does not start again is told by the next that uses it.
        with suppress(MainspringError):
            if "paused" in states:
                self.resume()
            if states & {"killed", "failed"}:
                self.restart()
        return next((state for state in ("failed", "killed", "paused") if state in states), None)

    def new_topic(
        self,
        name: str = "topic",
        *,
        partitions: int | None = None,
        config: Mapping[str, Setting] | None = None,
    ) -> str:
        """Makes a topic whose name begins with `name` and is no other's, and returns the name.

        >>> with TestBroker() as broker:
        ...     broker.new_topic("orders") != broker.new_topic("orders")
        True
        """
        unique = f"{name[:200]}-{next(self._numbers)}"
        self.admin.create_topic(unique, partitions=partitions, config=config)
        return unique

    def produce(
        self,
        topic: str | Topic[Any, Any],
        records: Iterable[Any],
        *,
        keyed: bool = False,
        partition: int | None = None,
        timeout: float = 10.0,
    ) -> list[RecordMetadata]:
        """Sends records, waits until all are stored, and returns where.

        Args:
            topic: The topic, or a typed one.
            records: Values, or with `keyed` tuples `(key, value)`.
            keyed: Whether each record brings its key.
            partition: The partition of all of them; by default by the key, or in turn.
            timeout: Most seconds to wait.
        """
        pairs = records if keyed else ((None, value) for value in records)
        # One that stayed would ask for topics of tests that are over, and so make them again.
        with Producer(self.bootstrap, linger_ms=0) as producer:
            sent = [producer.send(topic, value, key, partition=partition) for key, value in pairs]
            producer.flush(timeout)
        return [delivery.result(timeout) for delivery in sent]

    @overload
    def history(self, topic: str, *, timeout: float = 10.0) -> list[Message[bytes, bytes]]: ...
    @overload
    def history(self, topic: Topic[K, V], *, timeout: float = 10.0) -> list[Message[K, V]]: ...
    def history(
        self, topic: str | Topic[Any, Any], *, timeout: float = 10.0
    ) -> list[Message[Any, Any]]:
        """Reads all messages that a topic holds now, in the order of partitions and offsets.

        >>> with TestBroker() as broker:
        ...     _ = broker.produce("orders", [(b"a", b"1")], keyed=True)
        ...     [(message.offset, message.key) for message in broker.history("orders")]
        [(0, b'a')]
        """
        deadline = time.monotonic() + timeout
        ends = self._ends(topic, deadline, timeout)
        found: list[Message[Any, Any]] = []
        left = set(ends)
        with self._reader(topic) as consumer:
            while left:
                message = consumer.poll(timeout=0.05)
                if message is not None:
                    found.append(message)
                    if message.offset + 1 >= ends[message.partition]:
                        left.discard(message.partition)
                    continue
                # What readers are not shown may stand at the end.
                for place, position in consumer.positions().items():
                    if position is not None and position >= ends.get(place.partition, 0):
                        left.discard(place.partition)
                if left and time.monotonic() > deadline:
                    message_text = f"the messages of {topic} were not read within {timeout} s"
                    raise OperationTimeout(message_text)
        found.sort(key=lambda message: (message.partition, message.offset))
        return found

    @overload
    def values(self, topic: str, *, timeout: float = 10.0) -> list[bytes]: ...
    @overload
    def values(self, topic: Topic[Any, V], *, timeout: float = 10.0) -> list[V]: ...
    def values(self, topic: str | Topic[Any, Any], *, timeout: float = 10.0) -> list[Any]:
        """Reads the values of all messages that a topic holds now."""
        return [message.value for message in self.history(topic, timeout=timeout)]

    @overload
    def wait_for(
        self,
        topic: str,
        count: int = 1,
        *,
        where: Callable[[Message[bytes, bytes]], object] | None = None,
        timeout: float = 5.0,
    ) -> list[Message[bytes, bytes]]: ...
    @overload
    def wait_for(
        self,
        topic: Topic[K, V],
        count: int = 1,
        *,
        where: Callable[[Message[K, V]], object] | None = None,
        timeout: float = 5.0,
    ) -> list[Message[K, V]]: ...
    def wait_for(
        self,
        topic: str | Topic[Any, Any],
        count: int = 1,
        *,
        where: Callable[[Message[Any, Any]], object] | None = None,
        timeout: float = 5.0,
    ) -> list[Message[Any, Any]]:
        """Waits until a topic holds so many messages, from its beginning on, and returns them in the
        order in which they were read.

        Args:
            topic: The topic, or a typed one; it is made if it is not there.
            count: How many messages.
            where: Which ones count; by default all.
            timeout: Most seconds to wait.

        Raises:
            OperationTimeout: There were fewer; the text says how many.

        >>> with TestBroker() as broker:
        ...     _ = broker.produce("orders", [b"1", b"22"])
        ...     [message.value for message in broker.wait_for("orders", where=lambda m: len(m.value) > 1)]
        [b'22']
        """
        found: list[Message[Any, Any]] = []
        seen = 0
        deadline = time.monotonic() + timeout
        self.admin.create_topic(topic, exist_ok=True)
        with self._reader(topic) as consumer:
            while len(found) < count:
                left = deadline - time.monotonic()
                message = consumer.poll(timeout=left) if left > 0 else None
                if message is None:
                    such = "" if where is None else f"; {seen} messages were looked at"
                    text = f"{topic} has {len(found)} of {count} messages after {timeout} s{such}"
                    raise OperationTimeout(text, context={"topic": str(topic)})
                seen += 1
                if where is None or where(message):
                    found.append(message)
        return found

    def wait_lag(
        self,
        group: str,
        topic: TopicName | None = None,
        lag: int = 0,
        *,
        timeout: float = 5.0,
    ) -> None:
        """Waits until a group has at most so many messages of a topic to go, by the offsets that it has
        stored.

        Args:
            group: The group; it need not be there yet.
            topic: The topic; by default all that the group reads.
            lag: How many messages may be left.
            timeout: Most seconds to wait.

        Raises:
            OperationTimeout: There were more; the text says how many.
        """
        deadline = time.monotonic() + timeout
        if _is_within(self._lag(group, topic), lag):
            return
        # What is stored wakes whoever reads it, once it counts.
        with Consumer(
            self.bootstrap, topics=_OFFSETS, start="latest", isolation="read_committed"
        ) as stored:
            # What is stored before it stands at the end is seen by the first look.
            while None in stored.positions().values() and time.monotonic() < deadline:
                stored.poll(_PAUSE)
            while not _is_within(left := self._lag(group, topic), lag):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    state = "has stored nothing" if left is None else f"is {left} messages behind"
                    about = "" if topic is None else f" in {topic}"
                    text = f"the group {group} {state}{about} after {timeout} s; {lag} was waited for"
                    raise OperationTimeout(text, context={"group": group})
                stored.poll(min(remaining, _LOOK))

    def _lag(self, group: str, topic: TopicName | None) -> int | None:
        """How far a group is behind; `None` where it has stored nothing, or there is no such group."""
        try:
            rows = self.admin.group(group).progress
        except GroupNotFound:
            return None
        rows = tuple(row for row in rows if topic is None or row.topic == str(topic))
        if all(row.offset is None for row in rows):
            return None
        # A partition that nothing is stored of is still to be read as a whole.
        return sum((row.end or 0) - (row.start or 0) if row.lag is None else row.lag for row in rows)

    def _ends(self, topic: TopicName, deadline: float, timeout: float) -> dict[int, int]:
        """Where the partitions end that hold something. In a cluster one may be without a leader, or whoever
        is asked may not know yet who leads it; then it is asked again."""
        while True:
            try:
                details = self.admin.topic(topic).details
            except MainspringError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                details = ()
            bounds = {part.partition: (part.start, part.end) for part in details}
            known = {
                partition: (start, end)
                for partition, (start, end) in bounds.items()
                if start is not None and end is not None
            }
            if known and len(known) == len(bounds):
                return {partition: end for partition, (start, end) in known.items() if end > start}
            if time.monotonic() > deadline:
                text = f"nobody told within {timeout} s where the partitions of {topic} end"
                raise OperationTimeout(text, context={"topic": str(topic)})
            time.sleep(_PAUSE)

    def _reader(self, topic: str | Topic[Any, Any]) -> Consumer[Any, Any]:
        consumer: Consumer[Any, Any]
        consumer = Consumer(self.bootstrap, topics=[topic], start="earliest", fetch_max_wait_ms=50)
        return consumer

    def stop(self, timeout: float = 10.0) -> None:
        """Stops the broker, and its administrator before."""
        if "admin" in vars(self):
            vars(self).pop("admin").close()
        super().stop(timeout)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _is_within(left: int | None, lag: int) -> bool:
    return left is not None and left <= lag
