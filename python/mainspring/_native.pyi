import os
from collections.abc import Sequence
from typing import final

__all__ = ["Broker", "__version__", "run_cli"]

__version__: str

def run_cli(argv: Sequence[str]) -> int: ...
@final
class Broker:
    def __new__(
        cls,
        data_dir: str | os.PathLike[str] | None,
        host: str,
        port: int,
        node_id: int,
        settings: Sequence[tuple[str, str]],
    ) -> Broker: ...
    @property
    def bootstrap(self) -> str: ...
    @property
    def cluster_id(self) -> str: ...
    @property
    def is_running(self) -> bool: ...
    def stop(self, timeout: float) -> None: ...
