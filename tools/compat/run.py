"""Runs every client program against one broker and counts what holds.

    run.py --binary target/world/mainspring          starts, stops and kills the broker itself
    run.py --bootstrap HOST:PORT [--restart COMMAND] uses a broker that is there

The second form is how these programs are proven against another broker: what fails there too is
their own fault. It ends with one line, `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common
import crowd
import files
import groups
import later
import orphans
import pipeline
import toolchains
import tools
import transactions
from broker import Broker, Elsewhere, advertised
from common import Record
from programs import CLIENTS, Program
from toolchains import Missing

HERE = Path(__file__).parent
# The API by whose presence a broker says that it serves consumer groups.
JOIN_GROUP = 11


class Checks:
    """What was checked, with its outcome."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0

    def note(self, name: str, problem: str | None) -> None:
        """Counts one check, which failed where there is a problem."""
        if problem is None:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: {problem}", flush=True)

    def skip(self, name: str, reason: str) -> None:
        """Counts one check that this machine cannot run."""
        self.skipped += 1
        print(f"skipped: {name}: {reason}", flush=True)


class Runner:
    """The checks over the clients that are there."""

    def __init__(
        self, broker: Broker | Elsewhere, checks: Checks, programs: dict[str, Program]
    ) -> None:
        self.broker = broker
        self.checks = checks
        self.programs = programs
        self.clients = list(programs)
        self.groups = JOIN_GROUP in advertised(broker.bootstrap)
        self.stamp = f"{time.time_ns() // 1_000_000 % 10**9}"

    def readers(self, what: str) -> list[str]:
        """Returns the clients that can read from this broker, and skips the others by name."""
        able = []
        for name, program in self.programs.items():
            if program.reads_in_groups and not self.groups:
                self.checks.skip(f"{what}, {name}", "it reads in groups, which the broker has not")
            else:
                able.append(name)
        return able

    def call(self, client: str, role: str, job: dict) -> dict:
        """Runs one role of one client in a process of its own."""
        return self.programs[client].call(self.broker.bootstrap, role, job)

    def several(self, calls: list[tuple[str, str, dict]]) -> list[dict | Exception]:
        """Runs roles at the same time."""

        def one(call: tuple[str, str, dict]) -> dict | Exception:
            try:
                return self.call(*call)
            except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(one, calls))

    def topics(self, names: list[str], partitions: int) -> None:
        """Makes topics by the admin client."""
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        made = admin.create_topics([NewTopic(name, partitions, 1) for name in names])
        for future in made.values():
            future.result(20)
        # Apache Kafka answers before the partitions can be written to.
        ends = dict.fromkeys(
            (TopicPartition(name, at) for name in names for at in range(partitions)),
            OffsetSpec.latest(),
        )
        patience = time.monotonic() + 20
        while True:
            try:
                for future in admin.list_offsets(ends).values():
                    future.result(20)
            except KafkaException:
                if time.monotonic() > patience:
                    raise
            else:
                return

    def matrix(self) -> None:
        """Every writer with every codec and acknowledgement level, read by every reader."""
        plans: dict[str, dict[str, list[Record]]] = {}
        jobs = []
        for client in self.clients:
            program = self.programs[client]
            topics = {}
            plans[client] = {}
            for codec, acks in program.variants:
                topic = f"m.{client}.{codec}.{acks}.{self.stamp}"
                records = program.plan(len(plans[client]), int(time.time() * 1000))
                plans[client][topic] = records
                topics[topic] = {
                    "codec": codec,
                    "acks": acks,
                    "records": [record.to_json() for record in records],
                }
            jobs.append((client, "write", {"topics": topics}))
        self.topics([topic for plan in plans.values() for topic in plan], common.PARTITIONS)
        for (client, _, _), result in zip(jobs, self.several(jobs), strict=True):
            if isinstance(result, Exception):
                self.checks.note(f"write by {client}", str(result))
                del plans[client]
                continue
            self.checks.note(f"write by {client}", None)
            for topic, offsets in result["sent"].items():
                for record, offset in zip(plans[client][topic], offsets, strict=True):
                    record.offset = offset
        wanted = {
            topic: {"partitions": common.PARTITIONS, "count": len(records)}
            for plan in plans.values()
            for topic, records in plan.items()
        }
        readers = self.readers("matrix")
        reads = [(client, "read", {"topics": wanted}) for client in readers]
        for (reader, _, _), result in zip(reads, self.several(reads), strict=True):
            for writer, plan in plans.items():
                for topic, records in plan.items():
                    name = f"{topic.rsplit('.', 1)[0]} read by {reader}"
                    if isinstance(result, Exception):
                        self.checks.note(name, str(result))
                        break
                    read = [Record.from_json(data) for data in result["read"][topic]]
                    loose = "kcat" in (reader, writer)
                    self.checks.note(name, common.difference(records, read, loose))

    def examples(self) -> None:
        """The programs that the documents show run as they stand."""
        for program in sorted((HERE.parents[1] / "examples").glob("*.py")):
            done = subprocess.run(
                [sys.executable, str(program), self.broker.bootstrap],
                capture_output=True,
                timeout=60,
                check=False,
            )
            problem = done.stderr.decode(errors="replace") if done.returncode else None
            self.checks.note(f"examples/{program.name}", problem)

    def automatic(self) -> None:
        """A topic that nobody made appears when each client first writes to it."""
        calls = []
        for client in self.clients:
            record = Record(0, b"first", client.encode()).to_json()
            topic = {"codec": "none", "acks": "all", "records": [record]}
            job = {"topics": {f"auto.{client}.{self.stamp}": topic}}
            calls.append((client, "write", job))
        for (client, _, _), result in zip(calls, self.several(calls), strict=True):
            name = f"topic made by the first write of {client}"
            self.checks.note(name, str(result) if isinstance(result, Exception) else None)

    def times(self) -> None:
        """Every client finds the first record at or after a time, and reads from there."""
        topic = f"times.{self.stamp}"
        self.topics([topic], 1)
        start = int(time.time() * 1000) - 10_000_000
        records = [Record(0, b"%d" % at, b"v" * 100, [], start + 1000 * at) for at in range(2000)]
        batches = {"codec": "lz4", "acks": "all", "records": [one.to_json() for one in records]}
        self.call("confluent", "write", {"topics": {topic: batches}})
        expected = {start - 5: 0, start: 0, start + 1: 1, start + 777_000: 777, start + 1_500_999: 1501}
        questions = [(topic, 0, when) for when in expected]
        missing = (topic, 0, start + 2_000_000)
        readers = self.readers("reading at a time")
        calls = [
            (client, "lookup", {"questions": [*questions, missing], "reads": client in readers})
            for client in self.clients
        ]
        for (client, _, _), result in zip(calls, self.several(calls), strict=True):
            if isinstance(result, Exception):
                self.checks.note(f"offsets by time, {client}", str(result))
                continue
            for (when, offset), (found, record) in zip(
                expected.items(), result["answers"], strict=False
            ):
                key = Record.from_json(record).key if record else None
                problem = None
                wanted = b"%d" % offset if client in readers else None
                if (found, key) != (offset, wanted):
                    problem = f"wanted {offset}, found {found} with key {key!r}"
                self.checks.note(f"record at {when - start} ms, {client}", problem)
            found = result["answers"][-1][0]
            # librdkafka's wrapper turns the answer -1 into the end of the partition.
            problem = None if found in (-1, len(records)) else f"found {found}"
            self.checks.note(f"time after the last record, {client}", problem)

    def restart(self) -> None:
        """Writers and readers that are at work go on when the broker was stopped and started."""
        topics = {client: f"restart.{client}.{self.stamp}" for client in self.clients}
        self.topics(list(topics.values()), 1)
        count = 300
        calls = []
        readers = self.readers("reading over a restart")
        for client, topic in topics.items():
            calls.append((client, "hold", {"topic": topic, "count": count, "pause": 0.02}))
            if client in readers and not self.programs[client].reads_to_the_end:
                calls.append((client, "follow", {"topic": topic, "count": count, "timeout": 90}))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.several, calls)
            time.sleep(3)
            self.broker.stop()
            time.sleep(0.5)
            self.broker.start()
            results = running.result()
        for (client, role, _), result in zip(calls, results, strict=True):
            name = f"{client} goes on after a restart ({role})"
            if isinstance(result, Exception):
                self.checks.note(name, str(result))
            elif role == "hold":
                acked = result["acked"]
                problem = None if acked == count else f"{acked} of {count} acknowledged"
                self.checks.note(name, problem)
            else:
                self.checks.note(name, in_order(result["numbers"], count))
        reader = self.call("kcat" if "kcat" in self.clients else "confluent", "read", {
            "topics": {topic: {"partitions": 1, "count": count} for topic in topics.values()},
        })
        for client, topic in topics.items():
            read = [common.number_of(Record.from_json(one).value) for one in reader["read"][topic]]
            self.checks.note(f"what {client} sent across a restart", in_order(read, count))

    def real_data(self) -> None:
        """Real files, record by record with keys, equal before and after kill -9."""
        files = data_sets()
        if not files:
            self.checks.skip("real data", "vega_datasets is not installed")
            return
        order = self.clients
        plan = {}
        writes = []
        for at, (name, records) in enumerate(files.items()):
            topic = f"data.{name}.{self.stamp}"
            plan[topic] = records
            topics = {
                topic: {
                    "codec": common.CODECS[at % 5],
                    "acks": "idempotent",
                    "records": [record.to_json() for record in records],
                }
            }
            writes.append((order[at % len(order)], "write", {"topics": topics}))
        self.topics(list(plan), common.PARTITIONS)
        for (client, _, _), topic, result in zip(writes, plan, self.several(writes), strict=True):
            failed = str(result) if isinstance(result, Exception) else None
            self.checks.note(f"{topic} sent by {client}", failed)
        self._compare(plan, "before the kill")
        self.broker.kill()
        self.broker.start()
        self._compare(plan, "after kill -9")

    def administration(self) -> None:
        """Every admin client makes, shows, changes and deletes a topic, and a group."""
        if not self.groups:
            self.checks.skip("groups of the admin clients", "the broker does not advertise them")
        clients = [name for name, program in self.programs.items() if "admin" in program.roles]
        found: dict[str, dict] = {client: {} for client in clients}
        for tries in range(self.broker.tries):
            names = {client: f"admin.{client}.{tries}.{self.stamp}" for client in clients}
            calls = [
                (client, "admin", {"topic": name, "group": name if self.groups else None})
                for client, name in names.items()
            ]
            for (client, _, _), result in zip(calls, self.several(calls), strict=True):
                if isinstance(result, Exception):
                    self.checks.note(f"administration by {client}", str(result))
                    clients.remove(client)
                    continue
                good = {step for step, was in found[client].items() if was == STEPS.get(step, True)}
                found[client] |= {k: v for k, v in result["steps"].items() if k not in good}
            clients = [client for client in clients if not as_wanted(found[client])]
            if not clients:
                break
        for client, steps in found.items():
            for step, was in steps.items():
                wanted = STEPS.get(step, True)
                problem = None if was == wanted else f"wanted {wanted!r}, found {was!r}"
                self.checks.note(f"{step}, {client}", problem)

    def kafka_tools(self) -> None:
        """The command line tools of Apache Kafka."""
        tools.run(self.broker.bootstrap, self.checks, self.stamp, self.groups)

    def files(self) -> None:
        """What the broker leaves on its disk, read by Apache Kafka's dump tool."""
        if isinstance(self.broker, Elsewhere):
            self.checks.skip("dump of Kafka's", "the files are somebody else's")
            return
        try:
            java = toolchains.java()
        except Missing as reason:
            self.checks.skip("dump of Kafka's", str(reason))
            return
        self.broker.stop()
        files.run(java, Path(self.broker.folder.name, "data"), self.checks)
        self.broker.start()

    def consumer_groups(self) -> None:
        """Members of groups, over rebalances and a kill -9."""
        if self.groups:
            groups.run(self)
        else:
            self.checks.skip("consumer groups", "the broker does not advertise them")

    def transactions(self) -> None:
        """Transactions of every client that has them."""
        transactions.run(self)

    def later(self) -> None:
        """Records that come later, by headers alone."""
        later.run(self)

    def orphans(self) -> None:
        """Transactions that their killed producers leave open hold nobody up for long."""
        name = "a killed producer's open transaction ends, and the next one goes on"
        program = self.programs.get("confluent")
        if program is None:
            return
        try:
            orphans.once(self.broker, program, self.stamp, orphans.LANES, orphans.ROUNDS)
        except orphans.Failed as problem:
            self.checks.note(name, str(problem))
        else:
            self.checks.note(name, None)

    def pipeline(self) -> None:
        """Three workers with transactions on three nodes, while workers and nodes are killed."""
        name = "each input of a pipeline has its effect once, through kills"
        if isinstance(self.broker, Elsewhere):
            self.checks.skip(name, "it needs nodes that can be killed")
            return
        try:
            programs = pipeline.three(list(pipeline.WORKERS))
            print(pipeline.once(self.broker.binary, programs, KILLS, time.time_ns() % 10**9))
        except pipeline.Failed as problem:
            self.checks.note(name, str(problem))
        else:
            self.checks.note(name, None)

    def crowd(self) -> None:
        """A crowd of members joins at once, one leaves, and the broker is killed under them."""
        name = f"{MEMBERS} members join at once, one leaves, the broker is killed"
        if not self.groups:
            self.checks.skip(name, "the broker does not advertise groups")
            return
        try:
            crowd.once(self.broker, MEMBERS, f"crowd.{self.stamp}")
        except crowd.Failed as problem:
            self.checks.note(name, str(problem))
        else:
            self.checks.note(name, None)

    def _compare(self, plan: dict[str, list[Record]], when: str) -> None:
        wanted = {
            topic: {"partitions": common.PARTITIONS, "count": len(records)}
            for topic, records in plan.items()
        }
        readers = self.readers(f"real data {when}")
        reads = [(client, "read", {"topics": wanted}) for client in readers]
        for (reader, _, _), result in zip(reads, self.several(reads), strict=True):
            for topic, records in plan.items():
                name = f"{topic} read by {reader} {when}"
                if isinstance(result, Exception):
                    self.checks.note(name, str(result))
                    continue
                read = [Record.from_json(one) for one in result["read"][topic]]
                bare = [Record(one.partition, one.key, one.value) for one in records]
                self.checks.note(name, common.difference(bare, read) or per_key(records, read))


def as_wanted(steps: dict) -> bool:
    """Says whether every step of an admin client found what it should."""
    return all(found == STEPS.get(step, True) for step, found in steps.items())


def in_order(numbers: list[int], count: int) -> str | None:
    """Says how a sequence differs from 0..count."""
    if numbers == list(range(count)):
        return None
    lost = sorted(set(range(count)) - set(numbers))
    return f"{len(numbers)} records, {len(lost)} lost (first {lost[:3]}), or twice, or out of order"


def per_key(sent: list[Record], read: list[Record]) -> str | None:
    """Says for which key the values are not the ones that were sent, in their order."""
    for key in {record.key for record in sent}:
        ours = [record.value for record in sent if record.key == key]
        theirs = [record.value for record in read if record.key == key]
        if ours != theirs:
            return f"key {key!r}: values differ or are out of order"
    return None


def data_sets() -> dict[str, list[Record]]:
    """Returns the records of the real files, each with a key; empty where they are missing."""
    try:
        import importlib.util

        spec = importlib.util.find_spec("vega_datasets")
        folder = Path(spec.origin).parent / "_data"
    except (ImportError, AttributeError):
        return {}
    keys = {"stocks": 0, "airports": 0, "sf-temps": 1, "seattle-temps": 0}
    found = {}
    for name, column in keys.items():
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        found[name] = [record(row[column].split(" ")[0], ",".join(row)) for row in rows]
    cars = json.loads((folder / "cars.json").read_text())
    found["cars"] = [record(car["Name"], json.dumps(car)) for car in cars]
    return found


def record(key: str, value: str) -> Record:
    """Returns a record whose partition depends on its key alone."""
    data = key.encode()
    return Record(sum(data) % common.PARTITIONS, data, value.encode())


# Kills of the pipeline; `pipeline.py` takes as many as are asked for.
KILLS = 6
# Members of the crowd; `crowd.py` takes as many as are asked for.
MEMBERS = 30
# What the steps of an admin client find; the others find that what they did is so.
STEPS = {
    "partitions": 3,
    "config": "3600000",
    "alter": "2000000",
    "add partitions": 5,
    "delete records": 4,
    "latest": 10,
    "cluster": 1,
    "commit": 7,
    "metadata": "note",
    "lag": 3,
    "group state": "Empty",
}
# Parts that stop the broker.
KILLING = ("restart", "real_data", "consumer_groups", "crowd")
PARTS = (
    "examples",
    "automatic",
    "administration",
    "kafka_tools",
    "matrix",
    "times",
    "transactions",
    "later",
    "restart",
    "real_data",
    "consumer_groups",
    "orphans",
    "pipeline",
    "crowd",
    "files",
)


def main() -> None:
    """Runs the parts that were asked for."""
    parser = argparse.ArgumentParser()
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--binary", metavar="PATH")
    where.add_argument("--bootstrap", metavar="HOST:PORT")
    parser.add_argument("--restart", metavar="COMMAND")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--clients", default=",".join(CLIENTS))
    options = parser.parse_args()
    checks = Checks()
    programs = {}
    for name in options.clients.split(","):
        try:
            programs[name] = CLIENTS[name](name)
        except Missing as reason:
            checks.skip(name, str(reason))
    if options.binary:
        broker = Broker(options.binary, "group.initial.rebalance.delay.ms=0")
        broker.start()
    else:
        broker = Elsewhere(options.bootstrap, options.restart)
    runner = Runner(broker, checks, programs)
    try:
        for part in options.parts.split(","):
            if options.bootstrap and not options.restart and part in KILLING:
                checks.skip(part, "no command that restarts the broker")
                continue
            start = time.monotonic()
            before = checks.failed
            try:
                getattr(runner, part)()
            except Exception as error:  # One broken part must not hide the others.
                checks.note(part, f"{type(error).__name__}: {error}")
            if checks.failed > before:
                print(broker.messages(), flush=True)
            print(f"{part}: {time.monotonic() - start:.1f} s", flush=True)
    finally:
        broker.close()
    print(f"{checks.passed} passed, {checks.failed} failed, {checks.skipped} skipped")
    raise SystemExit(1 if checks.failed or not checks.passed else 0)


if __name__ == "__main__":
    main()
