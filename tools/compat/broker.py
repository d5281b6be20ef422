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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.bootstrap = f"127.0.0.1:{free.getsockname()[1]}"
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
