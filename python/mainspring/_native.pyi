import os
from collections.abc import Sequence
from typing import final

__all__ = [
    "Broker",
    "__version__",
    "check_settings",
    "client_settings",
    "error_codes",
    "error_of_answer",
    "explain_setting",
    "run_cli",
]

__version__: str

def run_cli(argv: Sequence[str]) -> int: ...
def error_codes() -> list[tuple[int, str, bool]]: ...
def error_of_answer(
    code: int, message: str | None = None, **context: str
) -> BaseException | None: ...
def client_settings(kind: str) -> list[tuple[str, str, str]]: ...
def explain_setting(kind: str, name: str) -> tuple[str, str | None] | None: ...
def check_settings(kind: str, bootstrap: str, given: Sequence[tuple[str, str]]) -> None: ...
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
