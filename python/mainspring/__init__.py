"""Mainspring: a Kafka-compatible message queue, in your process.

>>> import mainspring
>>> with mainspring.Broker() as broker:
...     broker.bootstrap.startswith("127.0.0.1:")
True
"""

from mainspring._native import __version__
from mainspring.broker import Broker, SpawnedBroker
from mainspring.errors import (
    BrokerFailed,
    ConfigError,
    ForkedClientError,
    InternalError,
    MainspringError,
    OperationTimeout,
)

__all__ = [
    "Broker",
    "BrokerFailed",
    "ConfigError",
    "ForkedClientError",
    "InternalError",
    "MainspringError",
    "OperationTimeout",
    "SpawnedBroker",
    "__version__",
]
