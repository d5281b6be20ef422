"""Transactions of a producer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mainspring import _native
from mainspring._client import wait
from mainspring.errors import MainspringError, TransactionAborted, TransactionStateError

if TYPE_CHECKING:
    from mainspring._consumer import Consumer, Place
    from mainspring._later import Delay
    from mainspring._native import Message, MessageBatch
    from mainspring._producer import Producer, ProducerCore
    from mainspring._topic import Topic

__all__ = ["Transaction"]

K = TypeVar("K")
V = TypeVar("V")

Headers = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]
Buffer = bytes | bytearray | memoryview

_WORDS: dict[str, str] = {
    "new": "this transaction is not begun; use it by `{block}`",
    "open": "this transaction is open already; each is used once",
    "committing": "this transaction is being committed; tx.commit() waits for the end of that",
    "committed": "this transaction is committed; begin another by `{block}`",
    "aborting": "this transaction is being aborted; tx.abort() waits for the end of that",
    "aborted": "this transaction is aborted; begin another by `{block}`",
}


class TransactionCore:
    """What the transactions of threads and those of event loops share."""

    _BLOCK = "with producer.transaction() as tx:"
    _state: str = "new"

    def __init__(self, producer: ProducerCore) -> None:
        self._core = producer

    def _must_be(self, *states: str) -> None:
        if self._state not in states:
            message = _WORDS[self._state].format(block=self._BLOCK)
            raise TransactionStateError(
                message, context={"transactional_id": self._core.transactional_id}
            )

    @property
    def is_open(self) -> bool:
        """Whether it is begun, and neither committed nor aborted."""
        return self._state == "open"

    def send(
        self,
        topic: str | Topic[K, V],
        value: V | Buffer | None,
        key: K | Buffer | None = None,
        *,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        delay: Delay | None = None,
        deliver_at: datetime | int | None = None,
        id: str | bytes | None = None,
    ) -> _native.Delivery:
        """Sends a record as the producer does, as part of this transaction. One that comes later waits if the
        transaction commits.

        Raises:
            TransactionStateError: The transaction is not open.
            TransactionAborted: It cannot be committed any more: leave the block.
        """
        self._must_be("open")
        return self._core.send(
            topic,
            value,
            key,
            headers=headers,
            partition=partition,
            timestamp=timestamp,
            delay=delay,
            deliver_at=deliver_at,
            id=id,
        )

    def _begin(self) -> _native.Call:
        self._must_be("new")
        return self._core._begin()

    def _not_begun(self, call: _native.Call, error: BaseException) -> None:
        """Sees to it that nothing stays open that nobody knows of."""
        call.give_up()
        if isinstance(error, TransactionAborted):
            # The one before was given up while it was being committed, and has failed since.
            self._core._end(False)

    def _commit(self) -> _native.Call:
        self._must_be("open", "committing")
        call = self._core._end(True)
        self._state = "committing"
        return call

    def _abort(self) -> _native.Call:
        self._must_be("open", "aborting")
        call = self._core._end(False)
        self._state = "aborting"
        return call

    def __repr__(self) -> str:
        return f"<mainspring.{type(self).__name__} {self._state}>"


class Transaction(TransactionCore):
    """Records of many partitions, and offsets of a group, that count together or not at all.

    It is what `with producer.transaction() as tx:` gives. The end of the block commits it, an
    exception aborts it. Consumers with `isolation="read_committed"` see its records once it is
    committed, and those of an aborted one never.

    >>> with mainspring.Broker() as broker:
    ...     with mainspring.Producer(broker.bootstrap, transactional_id="bank") as producer:
    ...         with producer.transaction() as tx:
    ...             _ = tx.send("accounts", b"-10", key=b"eva")
    ...             _ = tx.send("accounts", b"+10", key=b"max")
    ...     with mainspring.Consumer(
    ...         broker.bootstrap, topics="accounts", start="earliest", isolation="read_committed"
    ...     ) as consumer:
    ...         [next(consumer).value for _ in range(2)]
    [b'-10', b'+10']
    """

    _core: Producer

    def send_many(
        self,
        topic: str | Topic[Any, Any],
        records: Iterable[Any],
        *,
        keyed: bool = False,
        partition: int | None = None,
    ) -> int:
        """Sends many records as `Producer.send_many` does, as part of this transaction."""
        self._must_be("open")
        return self._core.send_many(topic, records, keyed=keyed, partition=partition)

    def commit_offsets(
        self,
        consumer: Consumer[Any, Any],
        what: Message[Any, Any] | MessageBatch[Any, Any] | Mapping[Place, int],
    ) -> None:
        """Makes the offsets of what was read part of this transaction: the group has them stored once
        it is committed, and not before. The consumer stores none by itself from then on.

        Where a transaction takes in several batches, `on_revoked` and `on_lost` tell when it must be
        aborted, since others read what it has read.

        Args:
            consumer: The consumer that has read it, a member of a group.
            what: A batch, a message and all before it in its partition, or offsets of the next message
                by partition.

        Raises:
            RebalanceInProgress: The group has taken partitions of it away. The block is to end by this
                error; `Consumer.rewind` lets the consumer go on.
        """
        self._must_be("open")
        call = consumer._offsets_for_transaction(what)
        offsets = wait(call, 60.0, "asking the consumer")
        wait(self._core._send_offsets(offsets), None, "sending offsets")

    def commit(self) -> None:
        """Commits it before the end of the block, which then does nothing more.

        Raises:
            TransactionAborted: It could not be committed, and is aborted: nothing of it counts.
            ProducerFenced: Another producer has the `transactional_id`.
            OperationTimeout: It is not done after `max_block_ms`, and goes on; calling this again
                waits for it.
        """
        call = self._commit()
        try:
            wait(call, None, "the commit")
        except TransactionAborted as error:
            self._state = "open"
            self._abort_after(error)
            raise
        self._state = "committed"

    def abort(self) -> None:
        """Aborts it before the end of the block, which then does nothing more.

        Raises:
            OperationTimeout: It is not done after `max_block_ms`, and goes on; the next transaction
                waits for it.
        """
        wait(self._abort(), None, "the abort")
        self._state = "aborted"

    def _abort_after(self, error: BaseException) -> None:
        """Aborts it because of an error, which is told rather than what goes wrong with that."""
        try:
            self.abort()
        except MainspringError as problem:
            note_abort(error, problem)

    def __enter__(self) -> Self:
        call = self._begin()
        try:
            wait(call, None, "beginning a transaction")
        except BaseException as error:
            self._not_begun(call, error)
            raise
        self._state = "open"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._state in ("open", "committing"):
            self.commit()
        elif error is not None and self._state in ("open", "aborting"):
            self._abort_after(error)


def note_abort(error: BaseException, problem: MainspringError) -> None:
    """Notes at an error what went wrong with the abort after it.

    Raises:
        MainspringError: The producer is of no more use, which matters more than what was aborted for.
    """
    if type(error) is type(problem):
        return
    if problem.fatal and isinstance(error, MainspringError):
        raise problem from error
    error.add_note(f"The transaction was not aborted at once: {problem}")
