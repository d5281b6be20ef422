"""What can go wrong. Every class derives from `MainspringError`.

Many derive also from the class of Python's own that people catch already: `OperationTimeout` is a
`TimeoutError`, `TopicNotFound` a `LookupError`, `ConfigError` a `ValueError`.

>>> issubclass(OperationTimeout, TimeoutError)
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mainspring._codes import ErrorCode

__all__ = [
    "AlreadyDelivered",
    "AuthorizationError",
    "BrokerFailed",
    "BufferFull",
    "ClosedError",
    "ConfigError",
    "ConnectionLost",
    "DeserializationError",
    "ErrorCode",
    "FlushTimeout",
    "ForkedClientError",
    "GroupNotEmpty",
    "GroupNotFound",
    "InternalError",
    "KafkaError",
    "MainspringError",
    "MemberFenced",
    "MessageTooLarge",
    "NoStoredOffset",
    "OffsetOutOfRange",
    "OperationTimeout",
    "OutcomeUnknown",
    "ProducerFenced",
    "ProtocolError",
    "RebalanceInProgress",
    "RequestTimedOut",
    "SerializationError",
    "TopicAlreadyExists",
    "TopicNotFound",
    "TransactionAborted",
    "TransactionStateError",
    "UnsupportedByBroker",
]


class MainspringError(Exception):
    """Any error of this package. The text says what failed, why, and what to do next."""

    retriable: bool = False
    """Whether doing the same again may succeed."""

    fatal: bool = False
    """Whether the object that raised it is of no more use, so that a new one must be made."""

    context: dict[str, Any]
    """What it is about, by name: `topic`, `partition`, `offset`, `group` and the like."""

    def __init__(self, message: str = "", *, context: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.context = dict(context or {})


class ConfigError(MainspringError, ValueError):
    """A setting that is unknown, out of its bounds, or not supported."""


class BrokerFailed(MainspringError):
    """A broker of this package did not start, or ended by itself."""


class OperationTimeout(MainspringError, TimeoutError):
    """Something took longer than it was given. It may still come to its end."""

    retriable = True


class FlushTimeout(OperationTimeout):
    """Records had no report when the time was up.

    >>> FlushTimeout.of(3, 1.5).remaining
    3
    """

    remaining: int
    """How many there were."""

    def __init__(
        self, message: str = "", *, remaining: int = 0, context: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, context=context)
        self.remaining = remaining

    @classmethod
    def of(cls, remaining: int, timeout: float | None) -> FlushTimeout:
        """Makes one that says how many were left after how many seconds."""
        records = "1 record was" if remaining == 1 else f"{remaining} records were"
        message = f"{records} not acknowledged after {timeout} s; see whether the broker can be reached"
        return cls(message, remaining=remaining)


class ClosedError(MainspringError):
    """An object was used after it was closed."""

    fatal = True


class ForkedClientError(MainspringError):
    """An object was used in a forked child whose threads stayed in the parent."""

    fatal = True


class InternalError(MainspringError):
    """A fault of Mainspring itself; please report it."""

    fatal = True


class BufferFull(MainspringError, BufferError):
    """A producer had no room for a record."""

    retriable = True


class ConnectionLost(MainspringError, ConnectionError):
    """The connection broke before the broker answered; what was asked may have been done."""

    retriable = True


class ProtocolError(MainspringError):
    """What answered does not speak as a Kafka broker does."""


class UnsupportedByBroker(MainspringError):
    """The broker is too old, or too new, for what was asked of it."""


class OutcomeUnknown(MainspringError):
    """A record may or may not have been stored, and it cannot be found out any more."""


class TransactionStateError(MainspringError, RuntimeError):
    """A call that does not fit what the transaction, or the producer, does at present.

    Nothing has changed by it.
    """


class NoStoredOffset(MainspringError, LookupError):
    """The group has no offset for a partition, and `auto_offset_reset` is "none"."""


class SerializationError(MainspringError, ValueError):
    """A key or a value could not be made bytes; it was not sent."""


class DeserializationError(MainspringError, ValueError):
    """Bytes of a record are not what its topic's serializers read.

    `context` holds `topic`, `partition`, `offset` and `part` ("key" or "value"); the message's `raw`
    has the bytes.
    """


class KafkaError(MainspringError):
    """What a broker answered, by Kafka's number.

    >>> error = KafkaError("no room", code=ErrorCode.KAFKA_STORAGE_ERROR)
    >>> error.code, error.name
    (<ErrorCode.KAFKA_STORAGE_ERROR: 56>, 'KAFKA_STORAGE_ERROR')
    """

    _CODE: ClassVar[ErrorCode] = ErrorCode.UNKNOWN_SERVER_ERROR

    code: int
    """Kafka's number; an `ErrorCode` unless it is one that nobody here knows."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        retriable: bool | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, context=context)
        code = self._CODE if code is None else code
        try:
            self.code = ErrorCode(code)
        except ValueError:
            self.code = code
        if retriable is not None:
            self.retriable = retriable

    @property
    def name(self) -> str:
        """Kafka's name of the code."""
        return self.code.name if isinstance(self.code, ErrorCode) else f"UNKNOWN_CODE_{self.code}"


class TopicNotFound(KafkaError, LookupError):
    """There is no such topic, or no such partition of it."""

    _CODE = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class AlreadyDelivered(KafkaError):
    """A record that was to be cancelled or given another time has come: `context` has its `offset`."""

    _CODE = ErrorCode.INVALID_RECORD


class TopicAlreadyExists(KafkaError):
    """There is a topic of that name."""

    _CODE = ErrorCode.TOPIC_ALREADY_EXISTS


class GroupNotFound(KafkaError, LookupError):
    """There is no such group."""

    _CODE = ErrorCode.GROUP_ID_NOT_FOUND


class GroupNotEmpty(KafkaError):
    """The group has members, and what was asked needs it to have none."""

    _CODE = ErrorCode.NON_EMPTY_GROUP


class AuthorizationError(KafkaError, PermissionError):
    """The broker does not allow it."""

    _CODE = ErrorCode.TOPIC_AUTHORIZATION_FAILED


class RequestTimedOut(KafkaError, OperationTimeout):
    """The broker could not do it in time; it may still do it."""

    _CODE = ErrorCode.REQUEST_TIMED_OUT
    retriable = True


class MessageTooLarge(KafkaError):
    """A record is larger than the topic, or a request, may take."""

    _CODE = ErrorCode.MESSAGE_TOO_LARGE


class OffsetOutOfRange(KafkaError, LookupError):
    """The partition has no record at that offset, and no rule says where to go on."""

    _CODE = ErrorCode.OFFSET_OUT_OF_RANGE


class RebalanceInProgress(KafkaError):
    """The group is sharing its partitions anew, or has done so without this member.

    Offsets that were to be stored were not: whoever has the partitions now reads those records again.
    """

    _CODE = ErrorCode.REBALANCE_IN_PROGRESS
    retriable = True


class MemberFenced(KafkaError):
    """Another consumer has taken this one's `group_instance_id`."""

    _CODE = ErrorCode.FENCED_INSTANCE_ID
    fatal = True


class ProducerFenced(KafkaError):
    """The broker takes nothing from this producer any more, and what it had open is aborted.

    Another producer has taken its `transactional_id`, or an operator has ended its transaction, or that was
    open for longer than `transaction_timeout_ms`; the text says which. A new producer with the id takes
    the place back, and fences whoever has it.
    """

    _CODE = ErrorCode.PRODUCER_FENCED
    fatal = True


class TransactionAborted(KafkaError):
    """A transaction could not be committed: it is aborted, or is to be, and nothing of it counts.

    `__cause__` is what went wrong. Where it is `retriable`, the same again may succeed in another
    transaction; where it is not, as with a record that is too large or partitions that the group has
    given to others, it would fail again.
    """

    _CODE = ErrorCode.TRANSACTION_ABORTABLE
    retriable = True
