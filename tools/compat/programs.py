"""The client programs: how each is started, and what its library can do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import common
import toolchains
from common import Record

HERE = Path(__file__).parent
PYTHON = {
    "confluent": "confluent_client",
    "kafka-python": "kafka_python_client",
    "aiokafka": "aiokafka_client",
    "kcat": "kcat_client",
}
ALL = frozenset({"admin", "session", "transact"})
# Which libraries have static members (KIP-345), and the cooperative protocol (KIP-429).
STATIC = {"confluent", "kafka-python", "aiokafka", "java", "franz-go", "sarama"}
COOPERATIVE = {"confluent", "java", "franz-go"}
# Which agree on an assignor, and so can be members of one group.
RANGE = {"confluent", "kafka-python", "aiokafka", "java", "franz-go", "sarama"}


@dataclass
class Program:
    """One client program, which runs one role in a process of its own."""

    name: str
    command: list[str]
    variants: list[tuple[str, str]]
    plan: Callable[[int, int], list[Record]]
    environment: dict[str, str] = field(default_factory=dict)
    # Roles beyond those that all have.
    roles: frozenset[str] = frozenset()
    # It can consume as the member of a group only.
    reads_in_groups: bool = False
    # It ends at the end of a partition, so it cannot follow one.
    reads_to_the_end: bool = False

    def arguments(self, bootstrap: str, role: str) -> list[str]:
        """Returns the command line of one role."""
        return [*self.command, "--bootstrap", bootstrap, "--role", role]

    def call(self, bootstrap: str, role: str, job: dict) -> dict:
        """Runs one role to its end and returns its result."""
        done = subprocess.run(
            self.arguments(bootstrap, role),
            input=json.dumps(job).encode() + b"\n",
            capture_output=True,
            env={**os.environ, **self.environment},
            timeout=240,
            check=False,
        )
        if done.returncode:
            message = f"{self.name} {role}: {done.stderr.decode(errors='replace')[-1500:]}"
            raise RuntimeError(message)
        return json.loads(done.stdout)


def python(name: str) -> Program:
    """Returns one of the programs in Python, which say themselves what their library can do."""
    if name == "kcat" and not shutil.which("kcat"):
        message = "kcat is not installed"
        raise toolchains.Missing(message)
    module = __import__(PYTHON[name])
    make = next(
        member
        for member in vars(module).values()
        if isinstance(member, type) and getattr(member, "name", None) == name
    )
    client = make("")
    roles = frozenset({
        "session",
        *(["admin"] if hasattr(client, "admin") else []),
        *(["transact"] if hasattr(client, "transactor") else []),
    })
    command = [sys.executable, str(HERE / f"{PYTHON[name]}.py")]
    return Program(
        name,
        command,
        client.variants(),
        client.plan,
        roles=roles,
        reads_to_the_end=name == "kcat",
    )


def kafkajs(name: str) -> Program:
    """Returns the program in JavaScript."""
    command, environment = toolchains.node()
    variants = common.all_variants()
    return Program(name, command, variants, common.full_plan, environment, ALL, reads_in_groups=True)


def java(name: str) -> Program:
    """Returns the program with the client of Apache Kafka."""
    command = [*toolchains.java(), "Client"]
    return Program(name, command, common.all_variants(), common.full_plan, roles=ALL)


def go(name: str) -> Program:
    """Returns one of the programs in Go."""
    command = toolchains.go({"franz-go": "franz"}.get(name, name))
    return Program(name, command, common.all_variants(), common.full_plan, roles=ALL)


CLIENTS: dict[str, Callable[[str], Program]] = {
    **dict.fromkeys(PYTHON, python),
    "kafkajs": kafkajs,
    "java": java,
    "franz-go": go,
    "sarama": go,
}
