"""Fetches and builds the client programs that are not Python, below `target/compat`.

Every version is pinned by the lock files beside the programs. What is there from an earlier run is used
as it is. A toolchain that the machine lacks, or packages that cannot be fetched in time, make a
`Missing`, whose text says which and why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "target" / "compat"


class Missing(Exception):
    """A client program that cannot be had on this machine."""


def node() -> tuple[list[str], dict[str, str]]:
    """Returns the command of the KafkaJS program and what it needs in its environment."""
    needed("node")
    needed("npm")
    folder = TARGET / "js"
    source = HERE / "js"
    if not fresh(folder, [source / "package-lock.json"]):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder / name)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        call(["npm", "ci", *quiet], folder, 120)
        done(folder, [source / "package-lock.json"])
    return ["node", str(source / "client.js")], {"NODE_PATH": str(folder / "node_modules")}


def java() -> list[str]:
    """Returns the start of a command that runs a class of the programs in Java."""
    for program in ("java", "javac", "mvn"):
        needed(program)
    folder = TARGET / "java"
    source = HERE / "java"
    pom = source / "pom.xml"
    libraries = folder / "libraries"
    if not fresh(libraries, [pom]):
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        quiet = ["-q", "-B", f"-Dmaven.repo.local={folder / 'repository'}"]
        call(["mvn", *quiet, "-f", str(pom), goal, f"-DoutputDirectory={libraries}"], folder, 150)
        done(libraries, [pom])
    programs = sorted(source.glob("*.java"))
    classes = folder / "classes"
    if not fresh(classes, [pom, *programs]):
        path = ["-d", str(classes), "-cp", f"{libraries}/*"]
        call(["javac", *path, *map(str, programs)], folder, 60)
        done(classes, [pom, *programs])
    light = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return ["java", *light, "-cp", f"{classes}:{libraries}/*"]


def go(name: str) -> list[str]:
    """Returns the command of one of the programs in Go."""
    needed("go")
    folder = TARGET / "go"
    source = HERE / "go"
    files = [source / "go.mod", source / "go.sum", *sorted(source.glob("*/*.go"))]
    if not fresh(folder / "bin", files):
        environment = {
            "GOMODCACHE": str(folder / "modules"),
            "GOCACHE": str(folder / "cache"),
            "GOFLAGS": "-modcacherw -buildvcs=false -mod=readonly",
            # A toolchain that is too old is a reason to skip, not to fetch another one.
            "GOTOOLCHAIN": "local",
        }
        build = ["go", "build", "-o", str(folder / "bin") + "/", "./franz", "./sarama"]
        call(build, source, 240, **environment)
        done(folder / "bin", files)
    return [str(folder / "bin" / name)]


def needed(program: str) -> None:
    """Checks that a program is installed."""
    if not shutil.which(program):
        message = f"{program} is not installed"
        raise Missing(message)


def fresh(folder: Path, sources: list[Path]) -> bool:
    """Says whether a folder was made of these sources; makes the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "made-of"
    return stamp.is_file() and stamp.read_text() == digest(sources)


def done(folder: Path, sources: list[Path]) -> None:
    """Notes what a folder was made of."""
    (folder / "made-of").write_text(digest(sources))


def digest(sources: list[Path]) -> str:
    """Returns a hash over the contents of files."""
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def call(command: list[str], folder: Path, timeout: float, **environment: str) -> None:
    """Runs one step of a build."""
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} took longer than {timeout} s"
        raise Missing(message) from error
    if ended.returncode:
        said = ended.stdout.decode(errors="replace").strip()[-600:]
        message = f"{' '.join(command[:2])} ended with {ended.returncode}: {said}"
        raise Missing(message)
