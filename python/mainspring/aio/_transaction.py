"""Transactions of a producer of event loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mainspring._transaction import TransactionCore, note_abort
from mainspring.aio import _loop
from mainspring.errors import MainspringError, TransactionAborted

if TYPE_CHECKING:
    from mainspring._consumer import Place
    from mainspring._native import Message, MessageBatch
    from mainspring._topic import Topic
    from mainspring.aio._consumer import Consumer
    from mainspring.aio._producer import Producer

__all__ = ["Transaction"]


class Transaction(TransactionCore):
    """Records of many partitions, and offsets of a group, that count together or not at all.

    It is what `async with producer.transaction() as tx:` gives, and does what
    `mainspring.Transaction` does. A task that is cancelled in the block aborts it. One that is
    cancelled while the block commits does not: the commit goes on, and the next transaction waits
    for it.

    >>> async def main():
    ...     with mainspring.Broker() as broker:
    ...         async with mainspring.aio.Producer(broker.bootstrap, transactional_id="a") as producer:
    ...             async with producer.transaction() as tx:
    ...                 return (await tx.send("orders", b"1")).offset
    >>> asyncio.run(main())
    0
    """

    _BLOCK = "async with producer.transaction() as tx:"
    _core: Producer

    async def send_many(
        self,
        topic: str | Topic[Any, Any],
        records: Iterable[Any],
        *,
        keyed: bool = False,
        partition: int | None = None,
    ) -> int:
        """Sends many records as `Producer.send_many` does, as part of this transaction."""
        self._must_be("open")
        return await self._core.send_many(topic, records, keyed=keyed, partition=partition)

    async def commit_offsets(
        self,
        consumer: Consumer[Any, Any],
        what: Message[Any, Any] | MessageBatch[Any, Any] | Mapping[Place, int],
    ) -> None:
        """Makes the offsets of what was read part of this transaction, as
        `mainspring.Transaction.commit_offsets`.
        """
        self._must_be("open")
        call = consumer._offsets_for_transaction(what)
        offsets = await _loop.wait(call, 60.0, "asking the consumer")
        await _loop.wait(self._core._send_offsets(offsets), None, "sending offsets")

    async def commit(self) -> None:
        """Commits it before the end of the block, as `mainspring.Transaction.commit`."""
        call = self._commit()
        try:
            await _loop.wait(call, None, "the commit")
        except TransactionAborted as error:
            self._state = "open"
            await self._abort_after(error)
            raise
        self._state = "committed"

    async def abort(self) -> None:
        """Aborts it before the end of the block, as `mainspring.Transaction.abort`."""
        await _loop.wait(self._abort(), None, "the abort")
        self._state = "aborted"

    async def _abort_after(self, error: BaseException) -> None:
        try:
            await self.abort()
        except MainspringError as problem:
            note_abort(error, problem)

    async def __aenter__(self) -> Self:
        call = self._begin()
        try:
            await _loop.wait(call, None, "beginning a transaction")
        except BaseException as error:
            self._not_begun(call, error)
            raise
        self._state = "open"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._state in ("open", "committing"):
            await self.commit()
        elif error is not None and self._state in ("open", "aborting"):
            await self._abort_after(error)
