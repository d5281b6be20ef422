"""A broker that can be stopped, killed and started again on the same address and data."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path


class Broker:
    """One process of the broker under test, `mainspring serve`."""

    # What it has answered is so for everybody, at once.
    tries = 1

    def __init__(self, binary: str, *settings: str) -> None:
        self.binary = binary
        self.settings = settings
        self.folder = tempfile.TemporaryDirectory(prefix="mainspring-compat-")
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self.log = Path(self.folder.name, "log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the broker and waits until it says that it serves."""
        command = [self.binary, "serve", "--data-dir", f"{self.folder.name}/data"]
        command += ["--listen", self.bootstrap, "--console", "off"]
        for setting in self.settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline()
        if not line or json.loads(line).get("event") != "ready":
            message = f"the broker did not get ready: {line!r}\n{self.messages()}"
            raise RuntimeError(message)

    def stop(self) -> None:
        """Stops it in good order; anything but a clean exit within ten seconds is an error."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        if code:
            message = f"the broker ended with {code}\n{self.messages()}"
            raise RuntimeError(message)

    def kill(self) -> None:
        """Pulls the plug on the process."""
        self.process.kill()
        self.process.wait()

    def messages(self) -> str:
        """Returns the end of what it wrote to standard error."""
        return Path(self.folder.name, "log").read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Ends it and removes its data."""
        if self.process and self.process.poll() is None:
            self.kill()
        self.log.close()
        self.folder.cleanup()


class Kafka:
    """A node of Apache Kafka, as a yardstick, from a folder with its jars."""

    def __init__(self, libraries: Path) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mainspring-kafka-")
        self.java = ["java", "-Xms512m", "-Xmx512m", "-cp", f"{libraries}/*"]
        port, control = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self.settings = Path(self.folder.name, "server.properties")
        self.settings.write_text(
            KAFKA.format(port=port, control=control, data=f"{self.folder.name}/data")
        )
        self.log = Path(self.folder.name, "log").open("ab")
        made = self._tool("random-uuid").strip().splitlines()[-1]
        self._tool("format", "-t", made, "-c", str(self.settings))
        self.process: subprocess.Popen[bytes] | None = None

    def _tool(self, *words: str) -> str:
        command = [*self.java, "kafka.tools.StorageTool", *words]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [*self.java, "kafka.Kafka", str(self.settings)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                advertised(self.bootstrap)
            except (OSError, struct.error):
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Pulls the plug on the process."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends it and removes its data."""
        if self.process:
            self.kill()
        self.log.close()
        self.folder.cleanup()


KAFKA = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=16
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
"""


class Elsewhere:
    """A broker that somebody else runs, with a command that restarts it if there is one."""

    # Apache Kafka answers changes before every later request sees them.
    tries = 4

    def __init__(self, bootstrap: str, restart: str | None) -> None:
        self.bootstrap = bootstrap
        self.command = restart

    def start(self) -> None:
        """Runs the command, which stops the broker and starts it again, and waits for every leader."""
        from confluent_kafka.admin import AdminClient

        subprocess.run(self.command, shell=True, check=True)
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        end = time.monotonic() + 60
        while time.monotonic() < end:
            topics = admin.list_topics(timeout=60).topics.values()
            if all(one.leader >= 0 for topic in topics for one in topic.partitions.values()):
                return

    def stop(self) -> None:
        """Left to the command."""

    def kill(self) -> None:
        """Left to the command."""

    def messages(self) -> str:
        """Knows none."""
        return ""

    def close(self) -> None:
        """Leaves it alone."""


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def advertised(bootstrap: str) -> set[int]:
    """Returns the keys of the APIs that a broker lists in its answer to ApiVersions 0."""
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
        stream = connection.makefile("rb")
        (length,) = struct.unpack(">i", stream.read(4))
        answer = stream.read(length)
    _, _, count = struct.unpack_from(">ihi", answer)
    return {struct.unpack_from(">h", answer, 10 + 6 * at)[0] for at in range(count)}
