"""The integration tests of the crate rskafka, an independent client in Rust, against Mainspring's broker.

They are fetched from the registry and built with librdkafka, which takes minutes, so they run on demand
only. Arguments after `--` go to the tests; `--bootstrap` names a broker that runs already.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from broker import Broker

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.6.0"
TESTS = ["client", "consumer", "producer", "produce_consume"]


def source() -> Path:
    """The crate's source, unpacked where it can be built."""
    folder = ROOT / "target/rskafka"
    crate = folder / f"rskafka-{VERSION}"
    if crate.exists():
        return crate
    probe = folder / "probe"
    (probe / "src").mkdir(parents=True, exist_ok=True)
    (probe / "src/lib.rs").write_text("")
    (probe / "Cargo.toml").write_text(
        '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2021"\n\n[workspace]\n\n'
        f'[dependencies]\nrskafka = "={VERSION}"\n'
    )
    vendored = folder / "vendored"
    subprocess.run(
        ["cargo", "vendor", "-q", "--versioned-dirs", str(vendored)],
        cwd=probe,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.copytree(vendored / f"rskafka-{VERSION}", crate)
    shutil.rmtree(vendored)
    # It is no member of the workspace that it lies in.
    manifest = crate / "Cargo.toml"
    manifest.write_text(manifest.read_text() + "\n[workspace]\n")
    (crate / "rust-toolchain.toml").unlink(missing_ok=True)
    # rsasl 2.2.0, which it pins, is refused by compilers of today.
    subprocess.run(["cargo", "update", "-q", "-p", "rsasl"], cwd=crate, check=True)
    return crate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="HOST:PORT of a broker that runs already")
    parser.add_argument("--binary", default=str(ROOT / "target/release/mainspring"))
    parser.add_argument("rest", nargs="*", help="arguments of the tests")
    chosen = parser.parse_args()
    crate = source()
    build = ["cargo", "test", "-q", *[word for name in TESTS for word in ("--test", name)]]
    subprocess.run([*build, "--no-run"], cwd=crate, check=True)
    # As its own brokers are set: one test asks for a topic that must not be made by that.
    broker = Broker(chosen.binary, "auto.create.topics.enable=false")
    try:
        if chosen.bootstrap is None:
            broker.start()
        environment = {
            "TEST_INTEGRATION": "1",
            "TEST_BROKER_IMPL": "kafka",
            "KAFKA_CONNECT": chosen.bootstrap or broker.bootstrap,
        }
        tests = [*build, "--no-fail-fast", "--", *chosen.rest]
        ended = subprocess.run(tests, cwd=crate, env={**os.environ, **environment}, check=False)
    finally:
        broker.close()
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
