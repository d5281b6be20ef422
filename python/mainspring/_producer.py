"""The producer."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mainspring import _callbacks, _native
from mainspring._client import (
    Bootstrap,
    bootstrap_text,
    no_attribute,
    topic_name,
    wait,
    watch_exit,
)
from mainspring._config import Setting, meant, to_settings
from mainspring._half import Checker, CheckerThread, Half, HeaderPairs, check_group
from mainspring._later import (
    Delay,
    ScheduleId,
    check_altered,
    check_features,
    handle_of,
    helper,
    later_headers,
)
from mainspring._topic import Topic
from mainspring._transaction import Transaction
from mainspring.errors import (
    ClosedError,
    ConfigError,
    FlushTimeout,
    MainspringError,
    TransactionStateError,
)

__all__ = ["Producer"]


# What producers of other packages have, and what there is here.
_ELSEWHERE = {
    "abort_transaction": "an exception in the block of transaction(), or tx.abort()",
    "begin_transaction": "with producer.transaction() as tx:",
    "commit_transaction": "the end of the block of transaction(), or tx.commit()",
    "init_transactions": "not needed: transaction() does it",
    "list_topics": "Admin.topics()",
    "poll": "not needed: threads of its own send; flush() waits for all, and a delivery for one",
    "produce": "send(topic, value, key=...)",
    "send_and_wait": "send(...).result(), awaited in event loops",
    "send_offsets_to_transaction": "tx.commit_offsets(consumer, batch)",
}

# How long a producer whose block an interrupt ends sends what it has taken, in seconds.
INTERRUPTED_WITHIN = 1.0

STILL_CALLED = "callbacks of deliveries have not returned in time; they go on"
_log = logging.getLogger("mainspring")


class ProducerCore(_native.ProducerBase):
    """What the producer of threads and that of event loops share."""

    _BLOCKS = True

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, _ELSEWHERE)

    def __init__(
        self,
        bootstrap: Bootstrap = None,
        *,
        producer_group: str | None = None,
        config: Mapping[str, Setting] | None = None,
        **settings: Setting,
    ) -> None:
        for name in settings:
            close = meant(name, ("checker", "producer_group"))
            if close is not None:
                message = f"there is no setting {name}; did you mean {close}?"
                raise ConfigError(message, context={"setting": name})
        self._producer_group = producer_group
        pairs = dict(to_settings("producer", settings, config))
        if pairs.get("transactional.id") == "":
            message = "the transactional_id is empty; give it a name, or leave it out where there are no transactions"
            raise ConfigError(message, context={"setting": "transactional_id"})
        max_block = _seconds(pairs.get("max.block.ms", "60000")) if self._BLOCKS else 0.0
        self._bootstrap = bootstrap_text(bootstrap)
        self._settings = list(pairs.items())
        self._max_block = max_block or None
        self._helper: _native.Admin | None = None
        self._helping = threading.Lock()
        # Topics with a feature that they have, as far as that was asked.
        self._honoured: set[tuple[str, str]] = set()
        self._open(self._bootstrap, self._settings, max_block)
        watch_exit(self)

    def _send_typed(
        self,
        topic: Topic[Any, Any],
        value: Any,
        key: Any,
        headers: Any,
        partition: int | None,
        timestamp: Any,
        delay: Delay | None,
        deliver_at: datetime | int | None,
        id: str | bytes | None,
    ) -> _native.Delivery:
        if not isinstance(topic, Topic):
            message = f"a topic is a str or a Topic, and not of type {type(topic).__name__}"
            raise TypeError(message)
        raw, raw_key = topic.serialize(value, key)
        return self.send(
            topic.name,
            raw,
            raw_key,
            headers=headers,
            partition=partition,
            timestamp=timestamp,
            delay=delay,
            deliver_at=deliver_at,
            id=id,
        )

    def _later(
        self,
        topic: str,
        delay: Delay | None,
        deliver_at: datetime | int | None,
        id: str | bytes | None,
    ) -> list[tuple[str, bytes]]:
        """The headers of a record that comes later, once it is known that the topic honours them."""
        headers = later_headers(delay, deliver_at, id)
        if (delay is not None or deliver_at is not None) and (topic, "schedule") not in self._honoured:
            self._check_honoured(topic)
        return headers

    def _check_honoured(self, topic: str) -> None:
        raise NotImplementedError

    def _note_features(self, topic: str, feature: str, features: list[str]) -> None:
        check_features(topic, feature, features)
        self._honoured.add((topic, feature))

    def _check_open(self) -> None:
        if self.is_closed:
            message = "this producer is closed; make another one"
            raise ClosedError(message)

    def _admin(self) -> _native.Admin:
        """The administrator behind this producer, made at its first use."""
        self._check_open()
        with self._helping:
            if self._helper is None:
                self._helper = helper(self._bootstrap, self._settings)
            return self._helper

    def _end_helper(self) -> None:
        with self._helping:
            if self._helper is not None:
                self._helper.close()
                self._helper = None

    def _check_id(self) -> None:
        """Refuses what is about transactions where there are none."""
        if self.transactional_id is None:
            message = (
                "this producer has no transactional_id, and so no transactions; make one by "
                'Producer(..., transactional_id="NAME")'
            )
            raise TransactionStateError(message)

    def _tell_lost(self) -> None:
        """Raises why a record was not stored whose delivery nobody has kept, once."""
        lost = self._take_lost()
        if lost is not None:
            error, count = lost
            if count > 1:
                note = f"so it was with the first of {count} records that were not stored, and whose deliveries nobody has kept"
                error.add_note(note)
            raise error

    def _at_exit(self, limit: float) -> _native.Call | None:
        return self._close(limit) if self._is_here and not self.is_closed else None

    def __reduce__(self) -> str:
        kind = type(self).__name__
        message = f"a {kind} cannot be pickled; make one in the other process"
        raise TypeError(message)

    def __repr__(self) -> str:
        if not self._is_here:
            return f"<mainspring.{type(self).__name__} of another process>"
        state = "closed" if self.is_closed else f"{self.pending} pending"
        return f"<mainspring.{type(self).__name__} {state}>"


class Producer(ProducerCore):
    """Sends records to any Kafka-protocol broker, from any thread.

    Records are gathered into batches and sent by threads of their own, which never take the
    interpreter's lock. Each is stored once and in the order of its partition, also where the
    connection or the broker fails in between (`enable_idempotence`, on unless it is turned off).

    Args:
        bootstrap: Brokers to ask first, `"HOST:PORT,HOST:PORT"` or a list of them. By default those of
            the variable `MAINSPRING_BOOTSTRAP`, else `127.0.0.1:9092`.
        config: Settings by Kafka's names, such as `{"linger.ms": 5}`.
        settings: The same as keywords: `acks` ("all", 1, 0), `linger_ms`, `batch_size` (bytes),
            `compression` ("none", "gzip", "snappy", "lz4", "zstd"), `buffer_memory` (bytes),
            `max_block_ms`, `delivery_timeout_ms`, `enable_idempotence`, `transactional_id`,
            `client_id` and so on, with Kafka's meanings and defaults.
        producer_group: Who is asked about half messages without a verdict: all that have it.
        checker: What they are asked: it is called with a `HalfMessage`, in a thread of its own, and answers
            `COMMIT`, `ROLLBACK` or `UNKNOWN`.

    Raises:
        ConfigError: A setting is unknown, given twice, or out of its bounds.

    >>> with mainspring.Broker() as broker, mainspring.Producer(broker.bootstrap) as producer:
    ...     delivery = producer.send("orders", b"{}", key=b"42")
    ...     delivery.result(timeout=5).offset
    0
    """

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
        self._checker: CheckerThread | None = None
        if checker is not None and producer_group is not None:
            asked = CheckerThread(self._bootstrap, self._settings, producer_group, checker)
            self._checker = asked
            weakref.finalize(self, asked.stop)

    def send_many(
        self,
        topic: str | Topic[Any, Any],
        records: Iterable[Any],
        *,
        keyed: bool = False,
        partition: int | None = None,
    ) -> int:
        """Sends many records at a fraction of the cost of one by one, and returns how many were taken.

        Args:
            topic: The topic, or a typed one.
            records: Values, or with `keyed` tuples `(key, value)`; many of them, and not one.
            keyed: Whether each record brings its key.
            partition: The partition of all of them; by default by the key, or in turn.

        Raises:
            BufferFull: There was no room for `max_block_ms`; records before that are on their way.
            TypeError, SerializationError: A record is not bytes, or not of the topic's type. Those before it are on
                their way; a note says how many.
            ClosedError: The producer is closed.

        >>> with mainspring.Broker() as broker, mainspring.Producer(broker.bootstrap) as producer:
        ...     producer.send_many("numbers", [b"1", b"2", b"3"])
        3
        """
        check_many(records)
        if isinstance(topic, Topic):
            records = typed_records(topic, records, keyed)
            keyed = True
        return self._send_many(topic_name(topic), records, keyed, partition)

    def transaction(self) -> Transaction:
        """A transaction, to be used in a `with` block: its end commits, an exception aborts.

        The producer needs a `transactional_id`: a name that it keeps over restarts, and that no other
        producer has at the same time. With it records are sent in transactions alone, by `tx.send` or
        by `send`, and one is open at a time.

        Raises:
            TransactionStateError: There is no `transactional_id`, or a transaction is open.
            ProducerFenced: Another producer has taken the `transactional_id`.
            OperationTimeout: No broker has let it begin for `max_block_ms`.

        >>> with mainspring.Broker() as broker:
        ...     with mainspring.Producer(broker.bootstrap, transactional_id="shop") as producer:
        ...         with producer.transaction() as tx:
        ...             order = tx.send("orders", b"1")
        ...             bill = tx.send("bills", b"1")
        ...         order.done(), bill.done()
        (True, True)
        """
        self._check_id()
        return Transaction(self)

    def cancel(self, handle: ScheduleId | _native.RecordMetadata) -> None:
        """Cancels a record that was sent with a delay: once this returns, it never comes.

        Args:
            handle: Its `schedule_id`, from the result of its delivery, or that result.

        Raises:
            AlreadyDelivered: It has come.
            KafkaError: Nothing is known of it, or an open transaction decides about it.
            UnsupportedByBroker: The broker is not of Mainspring.

        >>> with mainspring.Broker() as broker, mainspring.Admin(broker.bootstrap) as admin:
        ...     _ = admin.create_topic("reminders", config={"mainspring.features": "schedule"})
        ...     with mainspring.Producer(broker.bootstrap) as producer:
        ...         delivery = producer.send("reminders", b"hi", delay=60)
        ...         producer.cancel(delivery.result(timeout=5).schedule_id)
        ...     admin.scheduled("reminders")
        []
        """
        known = handle_of(handle)
        call = self._admin().alter_entry(known, ("cancel", 0))
        check_altered(known, wait(call, None, "cancelling a record"))

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
        """A half message, to be used in a `with` block: nobody sees it before its end, which lets it out; an
        exception takes it back. Where the program dies in the block, the broker asks the `checker` of
        whoever has the same `producer_group`.

        Args:
            topic: A topic with the feature `half`.
            value: The value, and so on as with `send`.
            key: The key.
            headers: Headers, which the checker gets too.
            partition: The partition.
            timestamp: The timestamp.
            delay: How long it waits after its verdict; the topic needs `schedule` as well.
            deliver_at: In place of it, when it comes.
            id: What it is called; by default a new name that nothing else has.
            check_after: Seconds until the broker asks first; by default what the topic says.

        Raises:
            ConfigError: The producer has no `producer_group`, or the topic lacks the feature.
            TransactionStateError: The producer has a `transactional_id`.
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

    def _check_honoured(self, topic: str) -> None:
        self._need(topic, "schedule")

    def _need(self, topic: str, feature: str) -> None:
        """Asks whether a topic has a feature."""
        if (topic, feature) not in self._honoured:
            call = self._admin().features(topic)
            told = wait(call, self._max_block, "asking for the features of a topic")
            self._note_features(topic, feature, told)

    def flush(self, timeout: float | None = None) -> None:
        """Sends what was taken so far and waits until all of it is reported, and callbacks of that have returned.

        Args:
            timeout: Most seconds to wait, `None` for as long as it takes; each record is reported
                within `delivery_timeout_ms`.

        Raises:
            FlushTimeout: Records had no report by then; they are still on their way.
            MainspringError: A record was not stored whose delivery nobody has kept, as those of `send_many`: the error
                of the first since the last `flush`. A delivery that is kept tells of its own.

        >>> with mainspring.Broker() as broker, mainspring.Producer(broker.bootstrap) as producer:
        ...     _ = producer.send("orders", b"1")
        ...     producer.flush(timeout=10)
        ...     producer.pending
        0
        """
        begun = time.monotonic()
        call = self._flush()
        if not call.wait(timeout):
            raise FlushTimeout.of(self.pending, timeout)
        call.take()
        _wait_for_callbacks(None if timeout is None else timeout - (time.monotonic() - begun))
        self._tell_lost()

    def close(self, timeout: float = 30.0) -> None:
        """Sends what was taken, waits for its reports and their callbacks, and ends. Closing it again does
        nothing. A transaction that is open is aborted.

        Args:
            timeout: Most seconds to wait.

        Raises:
            FlushTimeout: Records had no report by then. They are not sent any more, and may or may
                not have been stored.
            MainspringError: A record was not stored whose delivery nobody has kept, as with `flush`.
        """
        self._finish(timeout)
        self._tell_lost()

    def _finish(self, timeout: float) -> None:
        begun = time.monotonic()
        if self._checker is not None:
            self._checker.stop()
        try:
            if not self.is_closed:
                self._end_helper()
                left = wait(self._close(timeout), timeout + 5.0, "closing the producer")
                if left:
                    raise FlushTimeout.of(left, timeout)
                _wait_for_callbacks(timeout - (time.monotonic() - begun))
        finally:
            if self._checker is not None:
                self._checker.join(max(0.0, timeout - (time.monotonic() - begun)))

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        # What went wrong first is what counts; the log tells of the rest. Who is interrupted does not wait.
        try:
            self._finish(30.0 if isinstance(error, Exception) else INTERRUPTED_WITHIN)
        except MainspringError as problem:
            error.add_note(f"The producer was closed with records on their way: {problem}")


def _wait_for_callbacks(timeout: float | None) -> None:
    """Waits for what is called for deliveries that are done. Callbacks that take longer go on, and the log tells."""
    event = threading.Event()
    if _callbacks.settle(event.set) and not event.wait(None if timeout is None else max(0.0, timeout)):
        _log.warning(STILL_CALLED)


def check_many(records: object) -> None:
    """Refuses what is one record and not many."""
    is_one = isinstance(records, str | bytes | bytearray | memoryview | Mapping)
    if is_one or not isinstance(records, Iterable):
        message = f"send_many takes many records, such as a list of them, and not one of type \
{type(records).__name__}; send(topic, value) sends one"
        raise TypeError(message)


def typed_records(topic: Topic[Any, Any], records: Iterable[Any], keyed: bool) -> Iterable[Any]:
    """Serializes records of a typed topic to pairs of key and value."""
    for record in records:
        key, value = record if keyed else (None, record)
        raw, raw_key = topic.serialize(value, key)
        yield (raw_key, raw)


def _seconds(millis: str) -> float:
    try:
        return float(int(millis)) / 1000
    except ValueError:
        message = f"max.block.ms is a number of milliseconds, and not {millis}"
        raise ConfigError(message) from None
