"""The command `mainspring` in a process that ends with the one that started it, as `python -m mainspring._spawned`."""

import os
import signal
import sys
import threading

from mainspring.__main__ import main


def _end_with_owner() -> None:
    """Stops the command in good order once nobody holds the other end of standard input, as after a kill -9."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_owner, name="mainspring-owner", daemon=True).start()
    sys.exit(main())
