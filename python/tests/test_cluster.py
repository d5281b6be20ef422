"""Several nodes of one cluster in this process, killed, held still and started again."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import mainspring
import pytest
from mainspring.testing import TestBroker

# A broker that answers no more is given up after this long, so that tests need not wait for long.
SETTINGS = {"request_timeout_ms": 2000}


@pytest.fixture
def cluster() -> Iterator[TestBroker]:
    with TestBroker(nodes=3) as broker:
        yield broker


def states(broker: mainspring.Broker) -> list[str]:
    return [node.state for node in broker.nodes.values()]


def asked(cluster: TestBroker, topic: str) -> Any:
    """What the nodes that run say of the topic's only partition."""
    running = [node.address for node in cluster.nodes.values() if node.state == "running"]
    with mainspring.Admin(running) as admin:
        return admin.topic(topic).details[0]


def leader(cluster: TestBroker, topic: str) -> int:
    return asked(cluster, topic).leader


def until(wanted: Callable[[], Any], timeout: float = 30.0) -> None:
    """Asks again and again, and each time the nodes have to answer."""
    deadline = time.monotonic() + timeout
    while not wanted():
        assert time.monotonic() < deadline, "it takes too long"


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def test_the_cluster_is_formed_when_the_constructor_returns(cluster):
    assert states(cluster) == ["running"] * 3
    assert cluster.is_running
    addresses = [node.address for node in cluster.nodes.values()]
    assert cluster.bootstrap == ",".join(addresses)
    cluster.admin.create_topic("t", partitions=3, replication=3)
    found = cluster.admin.cluster()
    assert found.id == cluster.cluster_id
    assert [f"{broker.host}:{broker.port}" for broker in found.brokers] == addresses
    assert [broker.id for broker in found.brokers] == list(cluster.nodes) == [1, 2, 3]
    details = cluster.admin.topic("t").details
    assert {part.leader for part in details} == {1, 2, 3}
    for address in addresses:
        with mainspring.Admin(address) as admin:
            assert len(admin.cluster().brokers) == 3


def test_every_record_is_there_once_when_its_leaders_are_killed_and_come_back(cluster):
    cluster.admin.create_topic("t", partitions=1, replication=3)
    killed = []
    with cluster.producer(acks="all", linger_ms=0, **SETTINGS) as producer:
        for turn in range(3):
            first = turn * 200
            sent = [producer.send("t", value) for value in numbers(first, first + 100)]
            killed.append(leader(cluster, "t"))
            cluster.kill(killed[-1])
            sent += [producer.send("t", value) for value in numbers(first + 100, first + 200)]
            assert [one.result(60).offset for one in sent] == list(range(first, first + 200))
            assert leader(cluster, "t") != killed[-1]
            cluster.restart(killed[-1])
            assert states(cluster) == ["running"] * 3
    assert cluster.values("t", timeout=30) == numbers(0, 600)
    # Whoever was killed has everything again.
    until(lambda: not cluster.admin.topic("t").under_replicated)


def test_a_leader_that_is_paused_is_replaced_and_follows_when_it_goes_on(cluster):
    cluster.admin.create_topic("t", partitions=1, replication=3)
    before = leader(cluster, "t")
    with cluster.producer(linger_ms=0, **SETTINGS) as producer:
        producer.send("t", b"1").result(30)
        cluster.pause(before)
        assert cluster.nodes[before].state == "paused"
        producer.send("t", b"2").result(60)
        assert leader(cluster, "t") != before
        cluster.resume(before)
        until(lambda: leader(cluster, "t") != before and len(asked(cluster, "t").isr) == 3)
        producer.send("t", b"3").result(30)
    assert cluster.values("t", timeout=30) == [b"1", b"2", b"3"]


def test_what_was_acknowledged_outlives_all_nodes_at_once(cluster):
    cluster.admin.create_topic("t", partitions=2, replication=3)
    cluster.produce("t", numbers(0, 100), timeout=30)
    cluster.kill()
    assert states(cluster) == ["killed"] * 3
    assert not cluster.is_running
    cluster.restart()
    assert sorted(cluster.values("t", timeout=30)) == sorted(numbers(0, 100))


def test_one_node_of_three_serves_once_another_one_runs(cluster):
    cluster.kill()
    with pytest.raises(TimeoutError, match=r"node 2 does not serve after 10ms, .* more than half"):
        cluster.restart(2, timeout=0.01)
    assert states(cluster) == ["killed", "starting", "killed"]
    cluster.restart(1)
    until(lambda: states(cluster) == ["running", "running", "killed"])


def test_a_killed_node_refuses_connections_and_a_paused_one_lets_them_wait(cluster):
    def connected(node: int) -> socket.socket:
        host, port = cluster.nodes[node].address.split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    # ApiVersions of version 0, with the correlation id "corr".
    question = b"\0\0\0\x0a\0\x12\0\0corr\xff\xff"
    with connected(2) as before:
        cluster.kill(2)
        with suppress(ConnectionResetError):
            assert before.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(2)
    cluster.pause(3)
    with connected(3) as waiting:
        waiting.sendall(question)
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(8)
        waiting.settimeout(20)
        cluster.resume(3)
        assert waiting.recv(8)[4:] == b"corr"


def test_a_group_reads_on_when_its_coordinator_is_killed(cluster):
    cluster.admin.create_topic("t", partitions=1, replication=3)
    cluster.produce("t", numbers(0, 10), timeout=30)
    reading = {"group": "g", "start": "earliest", "auto_commit": False, **SETTINGS}
    with cluster.consumer("t", **reading) as consumer:
        taken = [consumer.poll(30).value for _ in range(5)]
        consumer.commit()
        cluster.kill(cluster.admin.group("g").coordinator)
        taken += [consumer.poll(30).value for _ in range(5)]
        consumer.commit()
    assert taken == numbers(0, 10)
    cluster.wait_lag("g", "t", timeout=30)


def test_librdkafka_loses_nothing_when_the_leader_is_killed(cluster):
    cluster.admin.create_topic("t", partitions=1, replication=3)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "log_level": 0}
    )
    for value in numbers(0, 100):
        producer.produce("t", value=value)
    cluster.kill(leader(cluster, "t"))
    for value in numbers(100, 200):
        producer.produce("t", value=value)
    assert producer.flush(60) == 0
    assert cluster.values("t", timeout=30) == numbers(0, 200)


def test_a_directory_keeps_a_cluster_and_is_opened_with_all_its_nodes(tmp_path):
    with TestBroker(tmp_path, nodes=3) as cluster:
        cluster.admin.create_topic("t", partitions=1, replication=3)
        cluster.produce("t", numbers(0, 10), timeout=30)
        cluster_id = cluster.cluster_id
        cluster.kill(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node-1", "node-2", "node-3"]
    for nodes in (1, 2):
        with pytest.raises(mainspring.ConfigError, match=r"with the nodes 1, 2, 3; ask for nodes=3"):
            mainspring.Broker(tmp_path, nodes=nodes)
    with TestBroker(tmp_path, nodes=3) as cluster:
        assert cluster.cluster_id == cluster_id
        assert cluster.values("t", timeout=30) == numbers(0, 10)
    with TestBroker(tmp_path, nodes=4) as cluster:
        cluster.admin.create_topic("wide", partitions=1, replication=4)
        assert cluster.values("t", timeout=30) == numbers(0, 10)


def test_a_broker_of_one_node_is_killed_and_restarted_too(tmp_path):
    with TestBroker(tmp_path) as kept, TestBroker() as forgotten:
        for broker in (kept, forgotten):
            broker.produce("t", [b"1"])
            address = broker.bootstrap
            broker.kill()
            assert states(broker) == ["killed"]
            broker.restart()
            assert broker.bootstrap == address
        assert kept.values("t") == [b"1"]
        assert forgotten.admin.topics() == []
        kept.pause(1)
        kept.resume(1)
        assert kept.values("t") == [b"1"]


def test_ports_follow_each_other_and_the_nodes_their_first_number():
    # Which ports are free is found out by asking; another program may be faster.
    for _ in range(20):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        try:
            broker = mainspring.Broker(nodes=2, node_id=7, port=port)
        except mainspring.BrokerFailed as error:
            assert "cannot listen" in str(error)
            continue
        with broker:
            addresses = {node.id: node.address for node in broker.nodes.values()}
            assert addresses == {7: f"127.0.0.1:{port}", 8: f"127.0.0.1:{port + 1}"}
        break


@pytest.mark.parametrize("nodes", [0, -1, 10])
def test_a_number_of_nodes_that_cannot_be_is_refused(nodes):
    with pytest.raises(mainspring.ConfigError, match=f"has 1 to 9 nodes, and {nodes} were asked"):
        mainspring.Broker(nodes=nodes)


def test_what_a_node_cannot_do_is_told_in_one_line(cluster):
    cluster.kill(3)
    cluster.pause(2)
    for act, nodes, said in [
        (cluster.kill, (1, 4), "cannot kill node 4: this broker has the nodes 1, 2, 3"),
        (cluster.kill, (3,), "cannot kill node 3: it does not run; restart it first"),
        (cluster.restart, (1,), "cannot restart node 1: it already runs"),
        (cluster.restart, (2,), "cannot restart node 2: it is paused; resume it first"),
        (cluster.pause, (2,), "cannot pause node 2: it is paused; resume it first"),
        (cluster.resume, (1,), "cannot resume node 1: it already runs"),
    ]:
        with pytest.raises(mainspring.ConfigError) as error:
            act(*nodes)
        assert str(error.value) == said
    assert states(cluster) == ["running", "paused", "killed"]
    cluster.stop()
    assert states(cluster) == ["stopped", "stopped", "killed"]
    with pytest.raises(mainspring.ClosedError, match="was stopped"):
        cluster.restart()


def temporary(folder: Path) -> list[Path]:
    return list(folder.glob("mainspring-*"))


def test_a_temporary_directory_goes_with_its_broker(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with mainspring.Broker(nodes=3):
        assert len(temporary(tmp_path)) == 1
    assert not temporary(tmp_path)
    forgotten = mainspring.Broker(nodes=3)
    del forgotten
    assert not temporary(tmp_path)
    with pytest.raises(mainspring.ConfigError):
        mainspring.Broker(nodes=10)
    assert not temporary(tmp_path)


def test_a_cluster_that_nobody_stopped_leaves_nothing_behind(tmp_path):
    program = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
import mainspring
broker = mainspring.Broker(nodes=3)
child = os.fork()
if child == 0:
    # The directory is its parent's.
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert len(os.listdir(sys.argv[1])) == 1
broker.kill(1)
broker.pause(2)
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c",
         program, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert not temporary(tmp_path)
