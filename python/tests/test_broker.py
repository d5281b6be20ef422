"""The broker in this process and in a process of its own, used by a client that is not ours."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading

import mainspring
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition


def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value=value)
    assert producer.flush(20) == 0


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, timeout=20)
    consumer.close()
    return [message.value() for message in messages]


VALUES = [str(number).encode() for number in range(100)]


def test_a_broker_in_memory_serves_any_client():
    with mainspring.Broker() as broker:
        write(broker.bootstrap, "t", VALUES)
        assert read(broker.bootstrap, "t", 100) == VALUES
        assert broker.is_running
    assert not broker.is_running


def test_a_group_reads_at_once_and_goes_on_where_it_stopped(tmp_path):
    def subscribed(bootstrap: str, count: int) -> list[bytes]:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "g", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["t"])
        messages = consumer.consume(count, timeout=20)
        consumer.commit(asynchronous=False)
        consumer.close()
        return [message.value() for message in messages]

    with mainspring.Broker(tmp_path) as broker:
        write(broker.bootstrap, "t", VALUES)
        assert subscribed(broker.bootstrap, 60) == VALUES[:60]
    with mainspring.Broker(tmp_path) as broker:
        assert subscribed(broker.bootstrap, 40) == VALUES[60:]


def test_a_data_directory_keeps_records_and_identity(tmp_path):
    with mainspring.Broker(tmp_path / "data") as broker:
        write(broker.bootstrap, "t", VALUES)
        cluster_id = broker.cluster_id
    with mainspring.Broker(tmp_path / "data") as broker:
        assert read(broker.bootstrap, "t", 100) == VALUES
        assert broker.cluster_id == cluster_id


def test_many_brokers_live_side_by_side():
    brokers = [mainspring.Broker() for _ in range(5)]
    assert len({broker.bootstrap for broker in brokers}) == 5
    assert len({broker.cluster_id for broker in brokers}) == 5
    for broker in brokers:
        broker.stop()
        broker.stop()


def test_settings_are_taken_by_kafkas_names_and_wrong_ones_refused():
    with mainspring.Broker(settings={"num.partitions": 3, "auto.create.topics.enable": True}):
        pass
    with pytest.raises(mainspring.ConfigError, match=r"nearest known one is .num\.partitions"):
        mainspring.Broker(settings={"num.partition": 3})
    with pytest.raises(ValueError, match="not valid"):
        mainspring.Broker(settings={"num.partitions": "many"})


def test_a_directory_or_port_in_use_is_told(tmp_path):
    with mainspring.Broker(tmp_path) as broker:
        with pytest.raises(mainspring.BrokerFailed, match="in use"):
            mainspring.Broker(tmp_path)
        port = int(broker.bootstrap.rsplit(":", 1)[1])
        with pytest.raises(mainspring.BrokerFailed, match="cannot listen"):
            mainspring.Broker(port=port)
    with mainspring.Broker(tmp_path):
        pass


def test_it_goes_on_while_python_is_busy():
    with mainspring.Broker() as broker:
        stop = threading.Event()
        spinning = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
        spinning.start()
        try:
            write(broker.bootstrap, "t", VALUES)
        finally:
            stop.set()
            spinning.join()


def test_a_forked_child_is_told_that_the_broker_stayed_behind():
    with mainspring.Broker() as broker:
        code = subprocess.run(
            [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False
        )
        assert code.returncode == 0, code.stderr
        assert broker.is_running


def test_a_broker_that_stops_after_a_fork_lets_go_of_its_address_directory_and_clients(tmp_path):
    code = subprocess.run(
        [sys.executable, "-c", FORKED_AND_STOPPED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert code.returncode == 0, code.stderr


FORKED_AND_STOPPED = """
import os, signal, socket, sys, mainspring
broker = mainspring.Broker(data_dir=sys.argv[1])
port = int(broker.bootstrap.rpartition(":")[2])
client = socket.create_connection(("127.0.0.1", port))
mainspring.Producer(broker.bootstrap).send("t", b"v").result(10)
child = os.fork()
if child == 0:
    signal.pause()
try:
    broker.stop()
    client.settimeout(5)
    assert client.recv(1) == b"", "the connection has not ended"
    with mainspring.Broker(data_dir=sys.argv[1], port=port) as again:
        consumer = mainspring.Consumer(again.bootstrap, topics="t", start="earliest")
        assert consumer.poll(10).value == b"v"
finally:
    os.kill(child, signal.SIGKILL)
"""


FORKING = """
import os, mainspring
broker = mainspring.Broker()
child = os.fork()
if child == 0:
    try:
        broker.bootstrap
    except mainspring.ForkedClientError as error:
        os._exit(0 if not broker.is_running and "after the fork" in str(error) else 2)
    os._exit(3)
_, status = os.waitpid(child, 0)
broker.stop()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


def test_ctrl_c_ends_the_wait_for_a_broker_that_does_not_stop():
    program = "import mainspring, os, signal\n" + INTERRUPTED
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert ended.returncode == 0


INTERRUPTED = """
broker = mainspring.Broker()
def raising(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, raising)
signal.setitimer(signal.ITIMER_REAL, 0.0001)
try:
    while True:
        mainspring.Broker().stop()
except KeyboardInterrupt:
    pass
"""


def test_a_broker_that_nobody_stopped_does_not_keep_the_interpreter():
    program = "import mainspring; broker = mainspring.Broker(); print(broker.bootstrap)"
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr


def test_a_broker_that_was_stopped_opens_no_clients():
    broker = mainspring.Broker()
    broker.stop()
    for work in (broker.producer, lambda: broker.consumer("t"), broker.__enter__):
        with pytest.raises(mainspring.ClosedError, match="was stopped; make another one"):
            work()
    for nodes in ("3", 1.0, True, 0, 10):
        with pytest.raises(mainspring.ConfigError, match="1 to 9"):
            mainspring.Broker(nodes=nodes)


def test_a_broker_is_shown_to_the_network_by_order_alone():
    for open_one in (mainspring.Broker, mainspring.Broker.spawn):
        with pytest.raises(mainspring.ConfigError, match="insecure=True if the network is trusted"):
            open_one(host="192.0.2.1")
        with pytest.raises(mainspring.ConfigError, match="stands for all addresses"):
            open_one(host="0.0.0.0", insecure=True)
    for host in ("localhost", "127.0.0.1", "::1"):
        with mainspring.Broker(host=host) as broker:
            assert broker.is_running


def test_a_broker_is_not_pickled():
    with mainspring.Broker() as broker, pytest.raises(TypeError, match="bootstrap"):
        pickle.dumps(broker)


def test_a_killed_process_has_lost_nothing(tmp_path):
    broker = mainspring.Broker.spawn(tmp_path)
    write(broker.bootstrap, "t", VALUES)
    broker.kill()
    assert not broker.is_running
    with mainspring.Broker.spawn(tmp_path) as again:
        assert again.cluster_id == broker.cluster_id
        assert again.pid != os.getpid()
        assert read(again.bootstrap, "t", 100) == VALUES


def test_a_process_ends_with_the_program_that_started_it():
    code = """
import mainspring
print(mainspring.Broker.spawn().pid, flush=True)
kept = mainspring.Broker.spawn()
print(kept.pid)
"""
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for pid in map(int, program.stdout.split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_ends_with_a_program_that_is_killed():
    code = """
import signal
import mainspring
kept = mainspring.Broker.spawn()
print(kept.bootstrap, flush=True)
signal.pause()
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program, program.stdout as said:
        host, port = said.readline().strip().split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            program.kill()
            # The broker closes it when it stops.
            assert connection.recv(1) == b""


def test_a_process_is_started_again_at_its_address(tmp_path):
    with mainspring.Broker.spawn(tmp_path) as broker:
        write(broker.bootstrap, "t", VALUES)
        with pytest.raises(mainspring.ConfigError, match="kill"):
            broker.restart()
        address, pid = broker.bootstrap, broker.pid
        broker.kill()
        broker.restart()
        assert (broker.bootstrap, broker.is_running) == (address, True)
        assert broker.pid != pid
        assert read(broker.bootstrap, "t", 100) == VALUES


def test_a_process_that_cannot_start_says_why(tmp_path):
    with mainspring.Broker(tmp_path), pytest.raises(mainspring.BrokerFailed, match="in use"):
        mainspring.Broker.spawn(tmp_path)


def test_the_command_of_the_package_is_the_broker(tmp_path):
    command = [sys.executable, "-m", "mainspring"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"mainspring {mainspring.__version__}\n"
    wrong = subprocess.run([*command, "serv"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "serve" in wrong.stderr
    serve = [*command, "serve", "--listen", "127.0.0.1:0", "--console", "off", "--data-dir", tmp_path]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as running:
        assert "ready" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
