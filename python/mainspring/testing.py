"""The plugin of pytest, which is loaded by itself: a broker for the test run, a topic for each test.

    def test_billing(mainspring_broker, mainspring_topic):
        mainspring_broker.produce(mainspring_topic, [b"1", b"2"])
        run_consumer(mainspring_broker.bootstrap, mainspring_topic, count=2)
        mainspring_broker.wait_lag("billing", mainspring_topic, timeout=5)

The broker is a real one, in memory, in the process of the tests; with pytest-xdist each worker has its
own. `mainspring_cluster` is a cluster for one test, whose nodes it may kill. Nothing native is loaded before
a test asks for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mainspring._testing import TestBroker

__all__ = [
    "TestBroker",
    "mainspring_broker",
    "mainspring_cluster",
    "mainspring_topic",
    "pytest_configure",
]

_MARKERS = (
    "mainspring_topic(partitions=None, config=None): how the topic of the fixture mainspring_topic is made",
    "mainspring_cluster(nodes=3, settings=None): what the fixture mainspring_cluster is made of",
)


def pytest_configure(config: pytest.Config) -> None:
    """Tells pytest about the markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.fixture(scope="session")
def mainspring_broker() -> Iterator[TestBroker]:
    """A broker in memory that lives as long as the test run, a `TestBroker`."""
    from mainspring._testing import TestBroker

    with TestBroker() as broker:
        yield broker


@pytest.fixture
def mainspring_cluster(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A cluster of the test's own, a `TestBroker` of three nodes, which it may kill, pause and restart.

    It is there in about half a second. `@pytest.mark.mainspring_cluster(nodes=5, settings={...})` says what
    it is made of.
    """
    from mainspring._testing import TestBroker

    marker = request.node.get_closest_marker("mainspring_cluster")
    asked = marker.kwargs if marker is not None else {}
    with TestBroker(**{"nodes": 3, **asked}) as broker:
        yield broker


@pytest.fixture
def mainspring_topic(
    mainspring_broker: TestBroker, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The name of a topic of the test's own, which is deleted after it.

    It has one partition, unless the test is marked: `@pytest.mark.mainspring_topic(partitions=3)`.
    """
    marker = request.node.get_closest_marker("mainspring_topic")
    asked = marker.kwargs if marker is not None else {}
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.node.name)
    topic = mainspring_broker.new_topic(name, **asked)
    yield topic
    mainspring_broker.admin.delete_topic(topic, missing_ok=True)


def __getattr__(name: str) -> Any:
    if name == "TestBroker":
        from mainspring._testing import TestBroker

        return TestBroker
    message = f"module 'mainspring.testing' has no attribute {name!r}"
    raise AttributeError(message)
