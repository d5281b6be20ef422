"""A pipeline of three workers with transactions on three nodes, while workers and nodes are killed.

    pipeline.py --binary target/world/mainspring [--kills N] [--seed S] [--workers NAME,NAME,NAME]

Each input has its effect exactly once, and in order; nothing stands still for longer than `STALLED`. What
does is described by the broker's own commands, and the folder with all logs is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from programs import CLIENTS, HERE, Program
from toolchains import Missing

NODES = (1, 2, 3)
PARTITIONS = 3
# Records at the start, and with each kill.
FIRST = 1500
MORE = 150
# Seconds between two kills, and that a node is away.
PAUSE = (0.5, 4.0)
AWAY = (0.0, 2.0)
# Longest time that a partition with work left may stand still once nothing is killed any more. A dead member
# keeps its partitions for the six seconds of its session, a round of the group waits for it, and a transaction
# that it left open ends after ten; clients wait up to twenty seconds for one step, and a worker whose library
# hangs ends after `pipes.HANGS`.
STALLED = 70
# Workers in the order of preference; three are taken of those that are there.
WORKERS = ("confluent", "franz-go", "mainspring", "java")


class Failed(Exception):
    """What is not as it should be."""


def steady_port() -> int:
    """Returns a port that nobody listens on, and that the system gives to no connection meanwhile."""
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Cluster:
    """Three processes of the broker."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.ports = {node: (steady_port(), steady_port()) for node in NODES}
        self.bootstrap = ",".join(f"127.0.0.1:{listen}" for listen, _ in self.ports.values())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, node: int) -> None:
        """Starts one and does not wait for it."""
        listen, peer = self.ports[node]
        voters = ",".join(f"{one}@127.0.0.1:{peer}" for one, (_, peer) in self.ports.items())
        command = [self.binary, "serve", "--node-id", str(node), "--voters", voters]
        command += ["--data-dir", str(self.folder / f"node-{node}"), "--listen", f"127.0.0.1:{listen}"]
        command += ["--peer-listen", f"127.0.0.1:{peer}", "--console", "off"]
        with (self.folder / f"node-{node}.log").open("ab") as log:
            quiet = subprocess.DEVNULL
            self.processes[node] = subprocess.Popen(command, stdout=quiet, stderr=log)

    def kill(self, node: int) -> None:
        """Pulls the plug on one."""
        self.processes[node].kill()
        self.processes[node].wait()

    def ask(self, *words: str) -> str:
        """Returns what a command of the broker says, from whichever node answers it."""
        command = [self.binary, *words, "--bootstrap", self.bootstrap]
        try:
            said = subprocess.run(command, capture_output=True, timeout=15, check=False)
        except subprocess.TimeoutExpired:
            return f"$ {' '.join(words)}\nno answer\n"
        return f"$ {' '.join(words)}\n{(said.stdout + said.stderr).decode(errors='replace')}\n"

    def close(self) -> None:
        """Ends all."""
        for node in self.processes:
            self.kill(node)


class Worker:
    """One worker, which is started again after each kill."""

    def __init__(self, number: int, program: Program, cluster: Cluster, job: dict) -> None:
        self.number = number
        self.program = program
        self.cluster = cluster
        self.job = job
        self.log = cluster.folder / f"worker-{number}-{program.name}.log"

    def start(self) -> None:
        """Starts it; its lines go to a file."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.arguments(self.cluster.bootstrap, "pipe"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.program.environment},
            )
        self.process.stdin.write(json.dumps(self.job).encode() + b"\n")
        self.process.stdin.flush()

    def transactions(self) -> int:
        """Counts what it has committed by its own word."""
        return self.log.read_text(errors="replace").count('"committed"')

    def revive(self) -> bool:
        """Starts it again where it has ended by itself, and says whether it had."""
        ended = self.process.poll() is not None
        if ended:
            self.process.stdin.close()
            self.start()
        return ended

    def kill(self) -> None:
        """Pulls the plug."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


class Reader(threading.Thread):
    """Reads the target at read_committed from its beginning."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.bootstrap = bootstrap
        self.topic = topic
        self.read: dict[int, list[int]] = defaultdict(list)
        self.moved = dict.fromkeys(range(PARTITIONS), time.monotonic())
        self.ended = threading.Event()

    def run(self) -> None:
        """Reads until it is ended."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        })
        consumer.assign([TopicPartition(self.topic, at, 0) for at in range(PARTITIONS)])
        while not self.ended.is_set():
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                self.read[message.partition()].append(int(message.value()))
                self.moved[message.partition()] = time.monotonic()
        consumer.close()


class Pipeline:
    """One run."""

    def __init__(self, binary: str, programs: list[Program], seed: int, say: bool) -> None:
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="mainspring-pipeline-"))
        self.cluster = Cluster(binary, self.folder)
        self.say = say
        self.sent = 0
        self.hung = 0
        self.longest = 0.0
        job = {"source": "in", "target": "out", "group": "pipeline"}
        self.workers = [
            Worker(number, program, self.cluster, {**job, "id": f"worker-{number}"})
            for number, program in enumerate(programs)
        ]

    def tell(self, what: str) -> None:
        """Prints and keeps a line of what is done."""
        line = f"{time.time():.2f} {what}"
        with (self.folder / "driver.log").open("a") as log:
            print(line, file=log)
        if self.say:
            print(line, flush=True)

    def run(self, kills: int) -> float:
        """Runs it and returns the longest time that a partition stood still at the end."""
        from confluent_kafka import Producer

        for node in NODES:
            self.cluster.start(node)
        self._topics()
        producer = Producer({
            "bootstrap.servers": self.cluster.bootstrap,
            "enable.idempotence": True,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        })
        self._send(producer, FIRST)
        reader = Reader(self.cluster.bootstrap, "out")
        reader.start()
        for worker in self.workers:
            worker.start()
        self._all_at_work(producer)
        for _ in range(kills):
            time.sleep(self.random.uniform(*PAUSE))
            self._revive()
            self._send(producer, MORE)
            producer.poll(0)
            self._kill_one()
        if producer.flush(60):
            message = "the input could not be written within a minute"
            raise Failed(message)
        self.tell(f"{self.sent} records, the last kill was {self._drain(reader):.1f} s ago")
        # What comes twice would come now.
        time.sleep(1)
        reader.ended.set()
        reader.join()
        self._judge(reader)
        counts = [f"{one.program.name} {one.transactions()}" for one in self.workers]
        self.tell(f"transactions: {', '.join(counts)}")
        return self.longest

    def _topics(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient, NewTopic

        # Until the nodes have found each other there is no controller.
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap, "log_level": 0})
        end = time.monotonic() + 60
        left = {"in", "out"}
        while left:
            topics = [NewTopic(name, PARTITIONS, 3) for name in left]
            for name, made in admin.create_topics(topics, request_timeout=5).items():
                try:
                    made.result(10)
                except (KafkaException, TimeoutError) as error:
                    if "TOPIC_ALREADY_EXISTS" in str(error):
                        left.discard(name)
                else:
                    left.discard(name)
            if left and time.monotonic() > end:
                message = f"{left} could not be made within a minute"
                raise Failed(message)
            time.sleep(0.1)

    def _send(self, producer, count: int) -> None:
        for number in range(self.sent, self.sent + count):
            value = b"%d" % number
            producer.produce("in", value, b"%d" % (number % 30), partition=number % PARTITIONS)
        self.sent += count

    def _all_at_work(self, producer) -> None:
        """Sends until every worker has committed something: one that cannot would prove nothing."""
        end = time.monotonic() + 60
        while idle := [one for one in self.workers if not one.transactions()]:
            if time.monotonic() > end:
                message = f"{[one.program.name for one in idle]} committed nothing within a minute"
                raise Failed(message)
            self._send(producer, PARTITIONS * 10)
            producer.poll(0)
            time.sleep(0.3)

    def _kill_one(self) -> None:
        if self.random.random() < 0.5:
            node = self.random.choice(NODES)
            self.tell(f"node {node} is killed")
            self.cluster.kill(node)
            time.sleep(self.random.uniform(*AWAY))
            self.cluster.start(node)
        else:
            worker = self.random.choice(self.workers)
            self.tell(f"worker {worker.number} is killed")
            worker.kill()
            worker.start()

    def _revive(self) -> None:
        for worker in self.workers:
            if worker.revive():
                self.hung += 1
                self.tell(f"worker {worker.number} had ended: its library hung")

    def _wanted(self, partition: int) -> list[int]:
        return list(range(partition, self.sent, PARTITIONS))

    def _drain(self, reader: Reader) -> float:
        """Waits until all is through."""
        start = time.monotonic()
        described = False
        while True:
            self._revive()
            now = time.monotonic()
            left = [at for at in range(PARTITIONS) if len(reader.read[at]) < len(self._wanted(at))]
            if not left:
                return now - start
            still = max(now - max(start, reader.moved[at]) for at in left)
            self.longest = max(self.longest, still)
            if still > STALLED / 2 and not described:
                described = True
                self._describe(f"partitions {left} have stood still for {still:.0f} s")
            if still > STALLED:
                self._describe("and still do")
                message = f"partitions {left} have stood still for {still:.0f} s"
                raise Failed(message)
            time.sleep(0.1)

    def _describe(self, why: str) -> None:
        self.tell(why)
        ids = [worker.job["id"] for worker in self.workers]
        questions = (
            ("txn", "list"),
            ("txn", "describe", *ids),
            ("group", "describe", "pipeline"),
            ("group", "lag", "pipeline"),
            ("topic", "describe", "out"),
            ("topic", "describe", "__transaction_state"),
            ("topic", "describe", "__consumer_offsets"),
        )
        for words in questions:
            self.tell(self.cluster.ask(*words))
        for worker in self.workers:
            # Those in Python tell in their logs where they are.
            if "python" in Path(worker.program.command[0]).name:
                worker.process.send_signal(signal.SIGUSR1)

    def _judge(self, reader: Reader) -> None:
        for partition in range(PARTITIONS):
            wanted, read = self._wanted(partition), reader.read[partition]
            if read != wanted:
                lost = sorted(set(wanted) - set(read))
                twice = sorted({one for one in read if read.count(one) > 1})
                message = (
                    f"partition {partition}: {len(read)} of {len(wanted)} records, "
                    f"{len(lost)} lost (first {lost[:3]}), {len(twice)} twice (first {twice[:3]}), "
                    f"{'in' if read == sorted(read) else 'out of'} order"
                )
                raise Failed(message)

    def close(self) -> None:
        """Ends everything that was started."""
        for worker in self.workers:
            if hasattr(worker, "process"):
                worker.kill()
        self.cluster.close()


def mainspring() -> Program:
    """Returns the worker with our own client, where the package is built."""
    python = HERE.parents[1] / "target/venv-package/bin/python"
    if not python.exists():
        message = "the Python package is not built"
        raise Missing(message)
    return Program("mainspring", [str(python), str(HERE / "pipes.py")], [], lambda *_: [])


def program(name: str) -> Program:
    """Returns a worker's program."""
    return mainspring() if name == "mainspring" else CLIENTS[name](name)


def three(names: list[str]) -> list[Program]:
    """Returns three workers; those that are there stand in for those that are not."""
    there = []
    for name in names:
        try:
            there.append(program(name))
        except Missing as reason:
            print(f"without {name}: {reason}")
    if not there:
        message = "there is no worker"
        raise Missing(message)
    return (there * 3)[:3]


def once(binary: str, programs: list[Program], kills: int, seed: int, say: bool = False) -> str:
    """Runs one pipeline and returns what to say of it."""
    pipeline = Pipeline(binary, programs, seed, say)
    start = time.monotonic()
    try:
        longest = pipeline.run(kills)
    except BaseException as problem:
        pipeline.tell(f"{type(problem).__name__}: {problem}")
        message = f"{problem}; seed {seed}, logs in {pipeline.folder}"
        raise Failed(message) from problem
    finally:
        pipeline.close()
    subprocess.run(["rm", "-rf", str(pipeline.folder)], check=False)
    return (
        f"{pipeline.sent} records through {kills} kills in {time.monotonic() - start:.0f} s, "
        f"at the end nothing stood still for longer than {longest:.1f} s"
        f"{f'; {pipeline.hung} times the library of a worker hung' if pipeline.hung else ''}"
    )


def main() -> None:
    """Runs as many kills as are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--workers", default=",".join(WORKERS))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        programs = three(options.workers.split(","))
        print(once(options.binary, programs, options.kills, options.seed, say=True))
    except (Failed, Missing) as problem:
        print(f"FAILED {problem}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
