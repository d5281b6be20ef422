"""Mainspring: a Kafka-compatible message queue, in your process.

>>> import mainspring
>>> with mainspring.Broker() as broker:
...     broker.bootstrap.startswith("127.0.0.1:")
True
"""

from mainspring import serde
from mainspring._consumer import Consumer
from mainspring._native import Delivery, Message, MessageBatch, RecordMetadata, __version__
from mainspring._producer import Producer
from mainspring._topic import Topic
from mainspring._types import Headers, TopicPartition
from mainspring.broker import Broker, SpawnedBroker
from mainspring.errors import (
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
    ProtocolError,
    RebalanceInProgress,
    RequestTimedOut,
    SerializationError,
    TopicAlreadyExists,
    TopicNotFound,
    UnsupportedByBroker,
)

__all__ = [
    "AuthorizationError",
    "Broker",
    "BrokerFailed",
    "BufferFull",
    "ClosedError",
    "ConfigError",
    "ConnectionLost",
    "Consumer",
    "Delivery",
    "DeserializationError",
    "ErrorCode",
    "FlushTimeout",
    "ForkedClientError",
    "GroupNotEmpty",
    "GroupNotFound",
    "Headers",
    "InternalError",
    "KafkaError",
    "MainspringError",
    "MemberFenced",
    "Message",
    "MessageBatch",
    "MessageTooLarge",
    "NoStoredOffset",
    "OffsetOutOfRange",
    "OperationTimeout",
    "OutcomeUnknown",
    "Producer",
    "ProtocolError",
    "RebalanceInProgress",
    "RecordMetadata",
    "RequestTimedOut",
    "SerializationError",
    "SpawnedBroker",
    "Topic",
    "TopicAlreadyExists",
    "TopicNotFound",
    "TopicPartition",
    "UnsupportedByBroker",
    "__version__",
    "serde",
]
