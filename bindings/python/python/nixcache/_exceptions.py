"""The exceptions: one class for each kind of error, each also a ValueError or an OSError.

Attributes say where the error is. They are None where that is unknown.
"""

from __future__ import annotations

import os
# Importing `typing` would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import StorePath


class Error(Exception):
    """The base class of all exceptions of this package, except for arguments of a wrong type."""

    message: str

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        from . import _restore

        return _restore.error, (type(self), dict(self.__dict__))


class HashError(Error, ValueError):
    """A text is not a hash or not nixbase32, or an algorithm is unknown."""

    offset: int | None
    """The offset in the text, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class StorePathError(Error, ValueError):
    """A text is not a store path, a store directory or a content address."""

    offset: int | None
    """The offset in the base name, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class SignatureError(Error, ValueError):
    """A text is not a key or a signature."""

    offset: int | None
    """The offset in the text, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class NarInfoError(Error, ValueError):
    """A text is not a narinfo."""

    line: int | None
    """The line, starting at 1."""
    field: str | None
    """The field, if the error is in a known one."""
    path: str | None
    """The file, if the narinfo comes from one."""

    def __init__(
        self, message: str, *, line: int | None = None, field: str | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.field = field
        self.path = path


class NarError(Error, ValueError):
    """The data is not a valid NAR."""

    offset: int | None
    """The offset in the NAR, in bytes."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class ListingError(Error, ValueError):
    """A text is not the listing of a NAR, or a listing cannot be written as JSON."""


class CompressionError(Error, ValueError):
    """Data cannot be decompressed, or cannot be compressed in this way."""


class PathInfoError(Error, ValueError):
    """The data is not path infos: neither JSON nor a registration."""

    line: int | None
    """The line, starting at 1."""
    column: int | None
    """The column in bytes, starting at 1."""
    path: str | None
    """The file, if the data comes from a named one."""

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.path = path


class GraphError(Error, ValueError):
    """Records contradict each other, references form a cycle, or a path is missing."""

    paths: tuple[StorePath, ...]
    """The paths that the error is about."""

    def __init__(self, message: str, *, paths: tuple[StorePath, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class CacheUrlError(Error, ValueError):
    """A text is not the URL of a cache."""


class CacheContentError(Error, ValueError):
    """The contents of a cache are not valid."""

    path: str | None
    """The object: the cache, followed by the name in it."""
    line: int | None
    """The line of a narinfo, starting at 1."""
    field: str | None
    """The field of a narinfo."""

    def __init__(
        self, message: str, *, path: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        self.field = field


class _SystemError(Error, OSError):
    """An error of the system. `errno` is its number, if there is one."""

    path: str | None
    """The file, or the object of a cache."""

    def __init__(self, message: str, *, path: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.errno = errno

    def __reduce__(self) -> tuple[Any, ...]:
        from . import _restore

        return _restore.error, (type(self), {**self.__dict__, "errno": self.errno})

    @property
    def strerror(self) -> str | None:  # type: ignore[override]
        """The system's message for `errno`."""
        return None if self.errno is None else os.strerror(self.errno)


class PackError(_SystemError):
    """A tree cannot be packed."""


class UnpackError(_SystemError):
    """A NAR cannot be unpacked to its destination."""


class SourceError(_SystemError):
    """A file, a file object or a database cannot be opened, read or written."""


class CacheError(_SystemError):
    """A cache cannot be reached, read or written."""


class PushError(_SystemError):
    """Paths cannot be published."""


class PullError(_SystemError):
    """Paths are in no cache, or cannot be written to their destination."""
