"""The command `mainspring`, also as `python -m mainspring`."""

import signal
import sys

from mainspring._native import run_cli


def main() -> int:
    """Runs the command line and returns its exit code."""
    # The command has its own handling of Ctrl-C; Python's would only take the signal from it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_cli(["mainspring", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
