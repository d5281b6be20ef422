"""What can go wrong. Every class derives from `MainspringError`."""

__all__ = [
    "BrokerFailed",
    "ConfigError",
    "ForkedClientError",
    "InternalError",
    "MainspringError",
    "OperationTimeout",
]


class MainspringError(Exception):
    """Any error of this package. The text says what failed, why, and what to do next."""

    retriable: bool = False
    """Whether doing the same again may succeed."""


class ConfigError(MainspringError, ValueError):
    """A setting that is unknown, out of its bounds, or not supported."""


class BrokerFailed(MainspringError):
    """A broker did not start, or ended by itself."""


class OperationTimeout(MainspringError, TimeoutError):
    """Something took longer than it was given."""

    retriable = True


class ForkedClientError(MainspringError):
    """An object was used in a forked child whose threads stayed in the parent."""


class InternalError(MainspringError):
    """A fault of Mainspring itself; please report it."""
