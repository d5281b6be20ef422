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
    "pytest_runtest_teardown",
]

# The broker of the test run, while there is one.
_shared: TestBroker | None = None

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
    """A broker in memory that lives as long as the test run, a `TestBroker`.

    A test may kill it and restart it. One that leaves it killed, paused or stopped fails at its end.
    """
    global _shared
    from mainspring._testing import TestBroker

    with TestBroker() as broker:
        _shared = broker
        try:
            yield broker
        finally:
            _shared = None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Sees to it that no test suffers from what another has done to the broker of the test run."""
    left = _shared.mend() if _shared is not None else None
    if left is not None:
        message = (
            f"the test has left the broker of the test run {left}; restart() or resume() it, or use "
            "mainspring_cluster, or a Broker of the test's own"
        )
        item.addfinalizer(lambda: pytest.fail(message, pytrace=False))


@pytest.fixture
def mainspring_cluster(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A cluster of the test's own, a `TestBroker` of three nodes, which it may kill, pause and restart.

    It is there in about half a second. `@pytest.mark.mainspring_cluster(nodes=5, settings={...})` says what
    it is made of.
    """
    from mainspring._testing import TestBroker

    asked = _asked_by_marker(request, "mainspring_cluster", ("nodes", "settings"))
    with TestBroker(**{"nodes": 3, **asked}) as broker:
        yield broker


@pytest.fixture
def mainspring_topic(
    mainspring_broker: TestBroker, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The name of a topic of the test's own, which is deleted after it.

    It has one partition, unless the test is marked: `@pytest.mark.mainspring_topic(partitions=3)`.
    """
    asked = _asked_by_marker(request, "mainspring_topic", ("partitions", "config"))
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.node.name)
    topic = mainspring_broker.new_topic(name, **asked)
    yield topic
    mainspring_broker.admin.delete_topic(topic, missing_ok=True)


def _asked_by_marker(
    request: pytest.FixtureRequest, name: str, known: tuple[str, ...]
) -> dict[str, Any]:
    """What a test asks for by its marker."""
    marker = request.node.get_closest_marker(name)
    if marker is None:
        return {}
    if marker.args or not set(marker.kwargs) <= set(known):
        pytest.fail(f"@pytest.mark.{name} takes {' and '.join(known)}, by name", pytrace=False)
    return dict(marker.kwargs)


def __getattr__(name: str) -> Any:
    if name == "TestBroker":
        from mainspring._testing import TestBroker

        return TestBroker
    message = f"module 'mainspring.testing' has no attribute {name!r}"
    raise AttributeError(message)
