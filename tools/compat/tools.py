"""The command line tools of Apache Kafka, against the broker under test.

Each check runs one tool and looks for lines in what it prints. All but the verifiable clients run in
one Java machine (`java/Tools.java`).
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import toolchains

PACKAGE = "org.apache.kafka.tools."
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "consumer.group.ConsumerGroupCommand"
RECORDS = 1000
DELETED = 5


class Tools:
    """Runs tools and checks what they print."""

    def __init__(self, java: list[str], bootstrap: str, checks) -> None:
        self.java = java
        self.bootstrap = ["--bootstrap-server", bootstrap]
        self.checks = checks
        self.machine = subprocess.Popen(
            [*java, "Tools"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, tool: str, *words: str) -> tuple[int, list[str]]:
        """Runs one tool and returns its exit code and its lines."""
        name = tool if tool == CONFIGS else PACKAGE + tool
        self.machine.stdin.write(json.dumps([name, *self.bootstrap, *words]) + "\n")
        self.machine.stdin.flush()
        result = json.loads(self.machine.stdout.readline())
        return result["code"], result["lines"]

    def check(self, name: str, tool: str, *words: str, find: str, code: int = 0) -> None:
        """Runs one tool, and looks for its exit code and an expression in one of its lines."""
        ended, lines = self.run(tool, *words)
        problem = None
        if ended != code or not any(re.search(find, line) for line in lines):
            problem = f"ended with {ended}, wanted {code} and {find!r} in: {'; '.join(lines)[:900]}"
        self.checks.note(name, problem)

    def events(self, tool: str, *words: str) -> list[dict]:
        """Runs a verifiable client, which prints a line of JSON for each event."""
        done = subprocess.run(
            [*self.java, PACKAGE + tool, *self.bootstrap, *words],
            capture_output=True,
            timeout=60,
            check=False,
        )
        lines = done.stdout.decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def close(self) -> None:
        """Ends the Java machine."""
        self.machine.stdin.close()
        self.machine.wait(20)


def run(bootstrap: str, checks, stamp: str, groups: bool) -> None:
    """Runs all of them."""
    try:
        java = toolchains.java()
    except toolchains.Missing as reason:
        checks.skip("tools of Apache Kafka", str(reason))
        return
    tools = Tools(java, bootstrap, checks)
    try:
        topics(tools, f"tools-{stamp}")
        records(tools, f"verifiable-{stamp}")
        if groups:
            group(tools, f"verifiable-{stamp}", f"tools-group-{stamp}")
        else:
            checks.skip("kafka-consumer-groups, VerifiableConsumer", "the broker has no groups")
        delete = ("TopicCommand", "--delete", "--topic", f"verifiable-{stamp}")
        checks.note("kafka-topics --delete", None if tools.run(*delete)[0] == 0 else "it failed")
        _, left = tools.run("TopicCommand", "--list")
        gone = f"verifiable-{stamp}" not in left and f"tools-{stamp}" in left
        checks.note("kafka-topics --list without it", None if gone else f"{left}")
    finally:
        tools.close()


def topics(tools: Tools, topic: str) -> None:
    """Topics, their settings, and what tells of the cluster."""
    named = ("--topic", topic)
    create = ("TopicCommand", "--create", *named, "--partitions", "3")
    made = f"Created topic {topic}"
    config = ("--config", "retention.ms=3600000")
    tools.check("kafka-topics --create", *create, *config, find=made)
    tools.check("kafka-topics --create, again", *create, find="already exists", code=1)
    tools.check("kafka-topics --if-not-exists", *create, "--if-not-exists", find="")
    tools.check("kafka-topics --list", "TopicCommand", "--list", find=f"^{topic}$")
    tools.check("kafka-topics --alter", "TopicCommand", "--alter", *named, "--partitions", "5", find="")
    described = r"PartitionCount: 5\s+ReplicationFactor: 1\s+Configs: .*retention.ms=3600000"
    tools.check("kafka-topics --describe", "TopicCommand", "--describe", *named, find=described)
    entity = ("--entity-type", "topics", "--entity-name", topic)
    change = ("--alter", *entity, "--add-config", "max.message.bytes=2000000")
    tools.check("kafka-configs --alter", CONFIGS, *change, find="Completed updating")
    found = "max.message.bytes=2000000 .*DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000"
    tools.check("kafka-configs --describe", CONFIGS, "--describe", *entity, find=found)
    found = "segment.bytes=1073741824 .*DEFAULT_CONFIG"
    tools.check("kafka-configs --all", CONFIGS, "--describe", "--all", *entity, find=found)
    change = ("--alter", *entity, "--delete-config", "max.message.bytes")
    tools.check("kafka-configs --delete-config", CONFIGS, *change, find="Completed updating")
    _, lines = tools.run(CONFIGS, "--describe", *entity)
    left = [line for line in lines if "max.message.bytes" in line]
    tools.checks.note("kafka-configs after a deletion", "; ".join(left) or None)
    broker = ("--describe", "--all", "--entity-type", "brokers", "--entity-name", "1")
    tools.check("kafka-configs of a broker", CONFIGS, *broker, find="log.retention")
    tools.check("kafka-broker-api-versions", "BrokerApiVersionsCommand", find=r"Produce\(0\): 0 to 13")
    directories = ("LogDirsCommand", "--describe", "--topic-list", topic)
    tools.check("kafka-log-dirs", *directories, find=f'"partition":"{topic}-0"')


def records(tools: Tools, topic: str) -> None:
    """Records that the verifiable producer writes, their offsets, and their deletion."""
    named = ("--topic", topic)
    create = ("TopicCommand", "--create", *named, "--partitions", "1")
    tools.check("kafka-topics --create for records", *create, find="Created topic")
    count = ("--max-messages", str(RECORDS))
    events = tools.events("VerifiableProducer", *named, *count, "--acks", "-1")
    acked = [event["offset"] for event in events if event["name"] == "producer_send_success"]
    problem = None if acked == list(range(RECORDS)) else f"{len(acked)} acknowledged: {events[-2:]}"
    tools.checks.note("VerifiableProducer", problem)
    offsets = ("GetOffsetShell", *named)
    tools.check("kafka-get-offsets", *offsets, find=f"^{topic}:0:{RECORDS}$")
    latest = ("--time", "max-timestamp")
    tools.check("kafka-get-offsets max-timestamp", *offsets, *latest, find=rf"^{topic}:0:\d+$")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "offsets.json")
        wanted = [{"topic": topic, "partition": 0, "offset": DELETED}]
        file.write_text(json.dumps({"version": 1, "partitions": wanted}))
        delete = ("DeleteRecordsCommand", "--offset-json-file", str(file))
        tools.check("kafka-delete-records", *delete, find=f"low_watermark: {DELETED}")
    earliest = ("--time", "earliest")
    tools.check("kafka-get-offsets earliest", *offsets, *earliest, find=f"^{topic}:0:{DELETED}$")
    where = ("--partition", "0", "--offset", "earliest", "--max-messages", "3")
    read = ("consumer.ConsoleConsumer", *named, *where, "--timeout-ms", "10000")
    tools.check("kafka-console-consumer", *read, find="Processed a total of 3 messages")


def group(tools: Tools, topic: str, name: str) -> None:
    """A group of the verifiable consumer, and what the tool for groups does with it."""
    count = str(RECORDS - DELETED)
    start = ("--topic", topic, "--group-id", name, "--reset-policy", "earliest", "--verbose")
    events = tools.events("VerifiableConsumer", *start, "--max-messages", count)
    read = [event["offset"] for event in events if event["name"] == "record_data"]
    problem = None if read == list(range(DELETED, RECORDS)) else f"{len(read)} read: {events[-2:]}"
    tools.checks.note("VerifiableConsumer", problem)
    commits = [event for event in events if event["name"] == "offsets_committed"]
    good = commits and all(event["success"] for event in commits)
    tools.checks.note("VerifiableConsumer commits", None if good else f"{commits[-1:]}")
    one = ("--group", name)
    tools.check("kafka-consumer-groups --list", GROUPS, "--list", find=f"^{name}$")
    tools.check("kafka-groups --list", "GroupsCommand", "--list", find=rf"^{name}\s+Classic\s+consumer")
    lag = rf"^{name}\s+{topic}\s+0\s+{RECORDS}\s+{RECORDS}\s+0\s"
    tools.check("kafka-consumer-groups --describe", GROUPS, "--describe", *one, find=lag)
    state = rf"^{name}\s.*Empty\s+0"
    tools.check("kafka-consumer-groups --state", GROUPS, "--describe", "--state", *one, find=state)
    members = "has no active members"
    tools.check("kafka-consumer-groups --members", GROUPS, "--describe", "--members", *one, find=members)
    reset = ("--reset-offsets", "--to-earliest", "--execute", *one, "--topic", topic)
    found = rf"^{name}\s+{topic}\s+0\s+{DELETED}\b"
    tools.check("kafka-consumer-groups --reset-offsets", GROUPS, *reset, find=found)
    lag = rf"^{name}\s+{topic}\s+0\s+{DELETED}\s+{RECORDS}\s+{RECORDS - DELETED}\s"
    tools.check("kafka-consumer-groups, lag after it", GROUPS, "--describe", *one, find=lag)
    done = "was successful"
    tools.check("kafka-consumer-groups --delete", GROUPS, "--delete", *one, find=done)
    again = ("--describe", *one)
    tools.check("kafka-consumer-groups, gone", GROUPS, *again, find="not found")
