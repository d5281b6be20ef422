"""The consumer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from mainspring import _native
from mainspring._client import (
    Bootstrap,
    bootstrap_text,
    no_attribute,
    topic_list,
    topic_name,
    wait,
    watch_exit,
)
from mainspring._config import Setting, to_settings
from mainspring._native import Message, MessageBatch
from mainspring._producer import INTERRUPTED_WITHIN
from mainspring._topic import Topic
from mainspring._types import TopicPartition, _millis
from mainspring.errors import ConfigError

__all__ = ["Consumer"]

K = TypeVar("K")
V = TypeVar("V")

# What consumers of other packages have, and what there is here.
_ELSEWHERE = {
    "consume": "batches(max_records=...)",
    "getmany": "batches(max_records=...)",
    "getone": "poll()",
    "get_watermark_offsets": "lag(), or Admin.topic(name)",
    "list_topics": "Admin.topics()",
    "position": "positions()",
    "store_offsets": "commit(message), with auto_commit=False",
    "subscription": "the topics that it was made with",
    "topics": "Admin.topics()",
    "unsubscribe": "close()",
}

Start = str | int | datetime
Place = TopicPartition | tuple[str, int]
Rebalance = Callable[[list[TopicPartition]], object]


class ConsumerCore(_native.ConsumerBase[K, V], Generic[K, V]):
    """What the consumer of threads and that of event loops share."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, _ELSEWHERE)

    def __init__(
        self,
        bootstrap: Bootstrap = None,
        *,
        topics: Any = None,
        group: str | None = None,
        start: Start | None = None,
        auto_commit: bool | None = None,
        isolation: str | None = None,
        on_assigned: Rebalance | None = None,
        on_revoked: Rebalance | None = None,
        on_lost: Rebalance | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None:
        given: dict[str, Setting] = {
            **settings,
            "group": group,
            "auto_commit": auto_commit,
            "isolation": isolation,
            "start": _reset_of(start),
        }
        self._bootstrap = bootstrap_text(bootstrap)
        self._settings = to_settings("consumer", given, config)
        told = dict(self._settings)
        # By whatever name it was given.
        self._group = told.get("group.id")
        if self._group == "":
            message = "the group has an empty name; leave it out where there is none"
            raise ConfigError(message)
        if start is None or isinstance(start, str):
            self._start: Start = told.get("auto.offset.reset", "latest")
        elif self._group is not None:
            message = 'with a group, start is "earliest", "latest" or "none": the group has offsets'
            raise ConfigError(message)
        else:
            self._start = start
        self._topics = topic_list(topics)
        if self._group is None and any(topic_name(topic).startswith("^") for topic in self._topics):
            raise ConfigError("a pattern of topics needs a group; or name the topics")
        if self._group is None and self._start == "none":
            raise ConfigError('start="none" is for a group, which has offsets; without one, say where to begin')
        self._callbacks = {"assigned": on_assigned, "revoked": on_revoked, "lost": on_lost}
        self._events: list[tuple[str, list[TopicPartition]]] = []
        forms = [
            (topic.name, topic.read_key, topic.read_value)
            for topic in self._topics
            if isinstance(topic, Topic)
        ]
        self._open(self._bootstrap, self._settings, forms)
        watch_exit(self)

    def _on_event(self, kind: str, places: list[TopicPartition]) -> None:
        self._events.append((kind, places))

    def _at_exit(self, limit: float) -> _native.Call | None:
        return self._close(limit) if self._is_here and not self.is_stopped else None

    def _names(self) -> list[str]:
        return [topic_name(topic) for topic in self._topics]

    def _check_unsubscribed(self) -> None:
        """Refuses to assign what the group would take back at once."""
        if self._group is not None and self._topics:
            message = (
                "the group gives this consumer its partitions, since it subscribes to topics; make one "
                "without topics to assign them, with group=... too where offsets are to be stored"
            )
            raise ConfigError(message)

    def _check_group(self) -> None:
        """Refuses to store or to look up offsets of no group."""
        if self._group is None:
            message = "this consumer is in no group, and so nothing is stored; make one with group=..."
            raise ConfigError(message)

    def _join(self) -> _native.Call:
        """Joins the group for the topics, or for a pattern of topics."""
        names = self._names()
        patterns = [name for name in names if name.startswith("^")]
        if not patterns:
            return self._subscribe(names)
        if len(names) > 1:
            message = "a pattern stands alone; join several as one: ^(metrics-.*|traces-.*)"
            raise ConfigError(message)
        return self._subscribe_pattern(patterns[0])

    def _find(self) -> _native.Call:
        """Asks for the partitions of the topics."""
        return _native._topic_partitions(self._bootstrap, self._settings, self._names())

    def __reduce__(self) -> str:
        message = f"a {type(self).__name__} cannot be pickled; make one in the other process"
        raise TypeError(message)

    def __repr__(self) -> str:
        state = "stopped" if self.is_stopped else "open"
        return f"<mainspring.{type(self).__name__} {state}>"


class Consumer(ConsumerCore[K, V]):
    """Reads records, alone or as a member of a group.

    It reads ahead and stays in its group on threads of its own, which never take the interpreter's
    lock. A message counts as processed once the next one is asked for; offsets of what is processed
    are stored every 5 s and at the end (`auto_commit`), or by `commit`. So a program that fails sees
    the message again that it failed at.

    Args:
        bootstrap: Brokers to ask first, `"HOST:PORT,HOST:PORT"` or a list of them. By default those of
            the variable `MAINSPRING_BOOTSTRAP`, else `127.0.0.1:9092`.
        topics: Topics by their names or as `Topic`, one or many. With a group also a pattern that begins
            with `^`, such as `^metrics-.*`, for all that match, now and later.
        group: The group to be a member of. Without one all partitions of the topics are read, and
            nothing is stored; they are asked for at once, and that waits for a broker (`request_timeout_ms`).
        start: Where to begin where the group has no offset: "earliest", "latest" (the default), or "none",
            which fails. Without a group also an offset or a `datetime` with a zone.
        auto_commit: Whether a group's offsets are stored by themselves; they are by default.
        isolation: "read_uncommitted" (the default) or "read_committed" (KIP-98).
        on_assigned: Called with the partitions that the group gives, in the thread that reads.
        on_revoked: Called with those that it takes away; they can still be committed there.
        on_lost: Called with those that others have already.
        config: Settings by Kafka's names, such as `{"session.timeout.ms": 10000}`.
        settings: The same as keywords. Each setting means the same in each of its spellings: `group`, `group_id`
            and `config={"group.id": ...}` are one.

    Read by a `for` loop, `poll`, or `batches`; `commit` stores offsets, `seek`, `pause` and `resume` move, `stop` ends
    a loop from elsewhere, and `close`, or the end of a `with` block, leaves the group.

    Raises:
        ConfigError: A setting is unknown, given twice, or out of its bounds.
        TopicNotFound: Without a group: there is no such topic.
        OperationTimeout: Without a group: no broker has answered.

    >>> with mainspring.Broker() as broker:
    ...     with mainspring.Producer(broker.bootstrap) as producer:
    ...         _ = producer.send_many("numbers", [b"1", b"2"])
    ...     with mainspring.Consumer(
    ...         broker.bootstrap, topics="numbers", group="sum", start="earliest"
    ...     ) as consumer:
    ...         [next(consumer).value for _ in range(2)]
    [b'1', b'2']
    """

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
        if self._topics:
            self._begin()

    def _begin(self) -> None:
        if self._group is not None:
            wait(self._join(), 60.0, "the subscription")
        else:
            self.assign(wait(self._find(), 60.0, "finding the topics"))

    def _on_event(self, kind: str, places: list[TopicPartition]) -> None:
        callback = self._callbacks[kind]
        if callback is not None:
            callback(places)

    def poll(self, timeout: float | None = None) -> Message[K, V] | None:
        """Returns the next message, `None` where none comes for so many seconds, and after `stop`.

        Raises:
            ClosedError: The consumer is closed. A loop that is under way ends then.
            DeserializationError: Not here, but where the `key` or the `value` of the message is looked at.
            KafkaError: What a broker refused, such as `OffsetOutOfRange` with `start="none"`.
        """
        return self._next(timeout)

    def batches(
        self, max_records: int = 500, max_wait: float | None = None
    ) -> Iterator[MessageBatch[K, V]]:
        """Yields messages in batches; a batch counts as processed once the next one is asked for.

        Args:
            max_records: Most messages of a batch.
            max_wait: Seconds that a batch which is not full waits for more after its first message.
                By default it takes what there is.

        >>> with mainspring.Broker() as broker:
        ...     with mainspring.Producer(broker.bootstrap) as producer:
        ...         _ = producer.send_many("numbers", [b"1", b"2", b"3"])
        ...     with mainspring.Consumer(broker.bootstrap, topics="numbers", start="earliest") as c:
        ...         next(c.batches()).values()
        [b'1', b'2', b'3']
        """
        check_batches(self, max_records, max_wait)
        while True:
            batch = self._gather(max_records, max_wait)
            if batch is None:
                return
            yield batch
            self._processed(batch)

    def _gather(self, most: int, max_wait: float | None) -> MessageBatch[K, V] | None:
        batch: MessageBatch[K, V] = MessageBatch()
        deadline: float | None = None
        size = 0
        while not self.is_stopped:
            size += self._fill(batch, most - size)
            if size >= most:
                return batch
            if size and deadline is None:
                deadline = time.monotonic() + (max_wait or 0.0)
            call = self._ask()
            if deadline is None:
                # In slices, so that `stop` is seen.
                while not call.wait(0.1):
                    if self.is_stopped:
                        return None
            elif not call.wait(max(0.0, deadline - time.monotonic())):
                return batch
            if not self._accept(size > 0) and size:
                return batch
        return batch if size else None

    def subscribe(self, topics: str | Topic[K, V] | Iterable[str | Topic[K, V]]) -> None:
        """Goes on with these topics as a member of the group; without a group, with all their partitions.

        Raises:
            ConfigError: There is no topic among them, or one that no topic can be called.
        """
        self._topics = some_topics(topics)
        self._begin()

    def assign(self, partitions: Mapping[Place, Start] | Iterable[Place]) -> None:
        """Reads these partitions without being a member of a group, each from its start.

        Args:
            partitions: Partitions with an offset, a `datetime`, "earliest", "latest" or "stored"
                (the group's offset) each; without that, the start of the constructor.

        Raises:
            ConfigError: It subscribes to topics in a group, which gives partitions out.
        """
        self._check_unsubscribed()
        wait(self._assign(_assignment(partitions, self._start)), 60.0, "the assignment")

    def seek(self, topic: str | Topic[K, V], partition: int, start: Start) -> None:
        """Goes on elsewhere in a partition: at an offset, a `datetime`, "earliest" or "latest".

        Raises:
            LookupError: The partition is not read by this consumer.
        """
        place = (topic_name(topic), partition)
        if not wait(self._seek(place, _native_start(start)), 60.0, "the seek"):
            message = f"{place[0]}-{partition} is not read by this consumer at present"
            raise LookupError(message)

    def rewind(self) -> None:
        """Goes back to the offsets that the group has stored, of all partitions that are read at present.

        So a program goes on after a transaction that was aborted: what it had read is read again, by
        whoever has the partitions now.

        Raises:
            ConfigError: There is no group.
        """
        self._check_group()
        wait(self._rewind(), 60.0, "the way back")

    def pause(self, partitions: Iterable[Place]) -> None:
        """Holds partitions back, which stay with this consumer, until `resume`."""
        wait(self._pause(list(partitions), True), 60.0, "the pause")

    def resume(self, partitions: Iterable[Place]) -> None:
        """Goes on with partitions that were paused."""
        wait(self._pause(list(partitions), False), 60.0, "the resumption")

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read at present."""
        return list(wait(self._positions(), 60.0, "the question"))

    def positions(self) -> dict[TopicPartition, int | None]:
        """For each partition the offset of the next message, `None` while it is asked for."""
        held = wait(self._positions(), 60.0, "the question")
        return {place: position for place, (position, _) in held.items()}

    def lag(self) -> dict[TopicPartition, int | None]:
        """For each partition how many messages follow, as of the last fetch; `None` before it."""
        held = wait(self._positions(), 60.0, "the question")
        return {place: lag_of(*known) for place, known in held.items()}

    def commit(
        self,
        what: Message[K, V] | MessageBatch[K, V] | Mapping[Place, int] | None = None,
        timeout: float | None = 60.0,
    ) -> None:
        """Stores offsets in the group and waits for that.

        Args:
            what: A message and all before it in its partition, a batch, or offsets of the next
                message by partition. By default all that was taken so far.
            timeout: Most seconds to wait.

        Raises:
            RebalanceInProgress: The group is at changing hands; ask for the next message first.
            OperationTimeout: It took longer.
            ConfigError: There is no group.
        """
        self._check_group()
        wait(self._commit(what), timeout, "the commit")

    def committed(self, partitions: Iterable[Place]) -> dict[TopicPartition, int | None]:
        """For each partition the offset that the group has stored, `None` where there is none.

        Raises:
            ConfigError: There is no group.
        """
        self._check_group()
        committed: dict[TopicPartition, int | None] = wait(
            self._committed(list(partitions)), 60.0, "the question"
        )
        return committed

    def close(self, timeout: float = 30.0) -> None:
        """Stores what is processed, where commits are automatic, leaves the group, and ends.

        Args:
            timeout: Most seconds to wait for the group, which may not be reached. What could not be stored is read
                again, and the log `mainspring` has a warning. A block that an error ends waits for 5 s, and one
                that Ctrl-C ends for 1 s.
        """
        wait(self._close(timeout), timeout + 5.0, "closing the consumer")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(closing_within(error))


def closing_within(error: BaseException | None) -> float:
    """How long a consumer whose block ends so waits for its group, in seconds: what went wrong first is what counts, and
    what is not stored is read again."""
    if error is None:
        return 30.0
    return 5.0 if isinstance(error, Exception) else INTERRUPTED_WITHIN


def check_batches(consumer: ConsumerCore[Any, Any], most: int, max_wait: float | None) -> None:
    """Refuses batches of nothing, and those of a closed consumer."""
    if most < 1:
        message = f"max_records is at least 1, and not {most}"
        raise ConfigError(message)
    if max_wait is not None and not max_wait >= 0:
        message = f"max_wait is a number of seconds from 0 on, and not {max_wait}"
        raise ConfigError(message)
    consumer._check_open()


def some_topics(topics: Any) -> list[Any]:
    """Topics to go on with, of which there is one at least."""
    found = topic_list(topics)
    if not found:
        raise ConfigError("subscribe() takes a topic, or several; close() is how to read none any more")
    return found


def lag_of(position: int | None, end: int | None) -> int | None:
    """How many messages follow."""
    return None if position is None or end is None else max(0, end - position)


def _reset_of(start: Start | None) -> str | None:
    """The setting that a start is, `None` where it is none: there is no start, or an offset, or a time."""
    if start is None or start in ("earliest", "latest", "none"):
        return None if start is None else str(start)
    if isinstance(start, int | datetime) and not isinstance(start, bool):
        return None
    message = f'start is "earliest", "latest", "none", an offset or a datetime, and not {start!r}'
    raise ConfigError(message)


def _native_start(start: Start) -> str | int | tuple[str, int]:
    return ("time", _millis(start)) if isinstance(start, datetime) else start


def _assignment(partitions: Mapping[Place, Start] | Iterable[Place], start: Start) -> list[Any]:
    if isinstance(partitions, Mapping):
        return [(place, _native_start(begin)) for place, begin in partitions.items()]
    return [(place, _native_start(start)) for place in partitions]
