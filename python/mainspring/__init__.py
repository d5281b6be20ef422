"""Mainspring: a Kafka-compatible message queue, in your process.

>>> import mainspring
>>> with mainspring.Broker() as broker:
...     broker.bootstrap.startswith("127.0.0.1:")
True
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainspring import errors, serde
    from mainspring._admin import (
        Admin,
        BrokerInfo,
        ClusterInfo,
        GroupInfo,
        GroupMember,
        GroupProgress,
        GroupSummary,
        LogDir,
        LogSize,
        PartitionInfo,
        PlannedOffset,
        TopicInfo,
    )
    from mainspring._consumer import Consumer
    from mainspring._half import COMMIT, ROLLBACK, UNKNOWN, Half, HalfMessage, TxStatus
    from mainspring._later import ScheduledMessage, ScheduleId
    from mainspring._native import Delivery, Message, MessageBatch, RecordMetadata, __version__
    from mainspring._producer import Producer
    from mainspring._topic import Topic
    from mainspring._transaction import Transaction
    from mainspring._types import Headers, TopicPartition
    from mainspring.broker import Broker, NodeInfo, SpawnedBroker
    from mainspring.errors import (
        AlreadyDelivered,
        AuthorizationError,
        BrokerFailed,
        BufferFull,
        ClosedError,
        ConfigError,
        ConnectionLost,
        DeserializationError,
        ErrorCode,
        FlushTimeout,
        ForkedClientError,
        GroupNotEmpty,
        GroupNotFound,
        InternalError,
        KafkaError,
        MainspringError,
        MemberFenced,
        MessageTooLarge,
        NoStoredOffset,
        OffsetOutOfRange,
        OperationTimeout,
        OutcomeUnknown,
        ProducerFenced,
        ProtocolError,
        RebalanceInProgress,
        RequestTimedOut,
        SerializationError,
        TopicAlreadyExists,
        TopicNotFound,
        TransactionAborted,
        TransactionStateError,
        UnsupportedByBroker,
    )

__all__ = [
    "COMMIT",
    "ROLLBACK",
    "UNKNOWN",
    "Admin",
    "AlreadyDelivered",
    "AuthorizationError",
    "Broker",
    "BrokerFailed",
    "BrokerInfo",
    "BufferFull",
    "ClosedError",
    "ClusterInfo",
    "ConfigError",
    "ConnectionLost",
    "Consumer",
    "Delivery",
    "DeserializationError",
    "ErrorCode",
    "FlushTimeout",
    "ForkedClientError",
    "GroupInfo",
    "GroupMember",
    "GroupNotEmpty",
    "GroupNotFound",
    "GroupProgress",
    "GroupSummary",
    "Half",
    "HalfMessage",
    "Headers",
    "InternalError",
    "KafkaError",
    "LogDir",
    "LogSize",
    "MainspringError",
    "MemberFenced",
    "Message",
    "MessageBatch",
    "MessageTooLarge",
    "NoStoredOffset",
    "NodeInfo",
    "OffsetOutOfRange",
    "OperationTimeout",
    "OutcomeUnknown",
    "PartitionInfo",
    "PlannedOffset",
    "Producer",
    "ProducerFenced",
    "ProtocolError",
    "RebalanceInProgress",
    "RecordMetadata",
    "RequestTimedOut",
    "ScheduleId",
    "ScheduledMessage",
    "SerializationError",
    "SpawnedBroker",
    "Topic",
    "TopicAlreadyExists",
    "TopicInfo",
    "TopicNotFound",
    "TopicPartition",
    "Transaction",
    "TransactionAborted",
    "TransactionStateError",
    "TxStatus",
    "UnsupportedByBroker",
    "__version__",
    "errors",
    "serde",
]

# Names are looked up at their first use: whoever only collects tests, with the plugin of pytest that
# comes along, loads no native code.
_WHERE = {
    "Admin": "mainspring._admin",
    "BrokerInfo": "mainspring._admin",
    "ClusterInfo": "mainspring._admin",
    "GroupInfo": "mainspring._admin",
    "GroupMember": "mainspring._admin",
    "GroupProgress": "mainspring._admin",
    "GroupSummary": "mainspring._admin",
    "LogDir": "mainspring._admin",
    "LogSize": "mainspring._admin",
    "PartitionInfo": "mainspring._admin",
    "PlannedOffset": "mainspring._admin",
    "TopicInfo": "mainspring._admin",
    "Consumer": "mainspring._consumer",
    "Delivery": "mainspring._native",
    "Message": "mainspring._native",
    "MessageBatch": "mainspring._native",
    "RecordMetadata": "mainspring._native",
    "__version__": "mainspring._native",
    "COMMIT": "mainspring._half",
    "Half": "mainspring._half",
    "HalfMessage": "mainspring._half",
    "ROLLBACK": "mainspring._half",
    "TxStatus": "mainspring._half",
    "UNKNOWN": "mainspring._half",
    "ScheduleId": "mainspring._later",
    "ScheduledMessage": "mainspring._later",
    "Producer": "mainspring._producer",
    "Topic": "mainspring._topic",
    "Transaction": "mainspring._transaction",
    "Headers": "mainspring._types",
    "TopicPartition": "mainspring._types",
    "Broker": "mainspring.broker",
    "NodeInfo": "mainspring.broker",
    "SpawnedBroker": "mainspring.broker",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("aio", "errors", "serde"):
        return import_module(f"mainspring.{name}")
    if name not in __all__:
        message = f"module 'mainspring' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(_WHERE.get(name, "mainspring.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
