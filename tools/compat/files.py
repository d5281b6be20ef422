"""Apache Kafka's own dump tool reads the files that the broker under test has left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

DUMP = "org.apache.kafka.tools.DumpLogSegments"
# What the tool says of a file that it finds fault with.
FAULTS = ("isvalid: false", "Mismatches in", "Found ", "doesn't match", "is corrupt", "Exception")
KINDS = ("log", "index", "timeindex", "snapshot")
# Files of a kind that are dumped; one run of the compatibility tests leaves hundreds.
MOST = 12


def run(java: list[str], data: Path, checks) -> None:
    """Dumps the largest files of each kind, records opened."""
    machine = subprocess.Popen(
        [*java, "Tools"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for kind in KINDS:
            checks.note(f"dump of Kafka's: {kind}", fault(machine, data, kind))
    finally:
        machine.stdin.close()
        machine.wait(20)


def fault(machine: subprocess.Popen, data: Path, kind: str) -> str | None:
    """Returns what the tool finds wrong with the files of one kind."""
    files = [file for file in data.glob(f"*/*.{kind}") if file.stat().st_size]
    files = sorted(files, key=lambda file: -file.stat().st_size)[:MOST]
    if not files:
        return "there are none"
    for file in files:
        words = [DUMP, "--files", str(file)]
        if kind == "log":
            opened = "--cluster-metadata-decoder" if "metadata" in file.parent.name else "--deep-iteration"
            words.append(opened)
        machine.stdin.write(json.dumps(words) + "\n")
        machine.stdin.flush()
        result = json.loads(machine.stdout.readline())
        faults = [line for line in result["lines"] if any(word in line for word in FAULTS)]
        if result["code"] or faults or len(result["lines"]) < 2:
            said = faults or result["lines"]
            return f"{file.parent.name}/{file.name}: {result['code']} {'; '.join(said)[:400]}"
    return None
