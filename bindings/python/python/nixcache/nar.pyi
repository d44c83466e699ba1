"""NARs: trees as one deterministic stream of bytes."""

from _typeshed import ReadableBuffer, StrPath, SupportsRead, SupportsWrite
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Protocol, TypeVar, final, overload
from typing_extensions import Self, TypeAlias

from . import Hash, StorePath
from ._member import Member as Member

__all__ = [
    "Contents",
    "Directory",
    "End",
    "Events",
    "File",
    "Listing",
    "Member",
    "Node",
    "Observation",
    "Symlink",
    "check",
    "events",
    "hash",
    "listing",
    "open",
    "pack",
    "unpack",
]

_Source: TypeAlias = StrPath | ReadableBuffer | SupportsRead[bytes]
_Algorithm: TypeAlias = Literal["md5", "sha1", "sha256", "sha512", "blake3"]

class _Seekable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...
    def readinto(self, buffer: bytearray | memoryview, /) -> int | None: ...
    def seek(self, offset: int, /) -> int: ...

def pack(
    path: StrPath,
    file: StrPath | SupportsWrite[bytes] | None = None,
    /,
    *,
    algorithm: _Algorithm = "sha256",
    compression: str = "none",
    listing: bool = False,
    candidates: Sequence[StorePath] | None = None,
    threads: int | None = None,
) -> Observation: ...
def hash(path: StrPath, /, *, algorithm: _Algorithm = "sha256", threads: int | None = None) -> Hash: ...
def unpack(
    source: _Source,
    path: StrPath,
    /,
    *,
    algorithm: _Algorithm = "sha256",
    canonical: bool = False,
    sync: bool = False,
    listing: bool = False,
    candidates: Sequence[StorePath] | None = None,
    threads: int | None = None,
) -> Observation: ...
def check(
    source: _Source,
    /,
    *,
    algorithm: _Algorithm = "sha256",
    listing: bool = False,
    candidates: Sequence[StorePath] | None = None,
) -> Observation: ...
def listing(source: _Source, /) -> Listing: ...
def events(buffer: ReadableBuffer, /) -> Events: ...
def open(nar: StrPath | ReadableBuffer | _Seekable, member: StrPath, /, *, listing: Listing | None = None) -> Member: ...

@final
class Observation:
    """The result of one pass over a NAR."""

    __match_args__: ClassVar[tuple[Literal["hash"], Literal["size"]]]
    @property
    def hash(self) -> Hash: ...
    @property
    def size(self) -> int: ...
    @property
    def listing(self) -> Listing | None: ...
    @property
    def references(self) -> tuple[StorePath, ...]: ...

@final
class Events:
    """An iterator over the events of a NAR."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Directory | End | File | Contents | Symlink: ...

@final
class Directory:
    """A directory begins. Its entries follow, then an `End`."""

    __match_args__: ClassVar[tuple[Literal["name"]]]
    def __new__(cls, name: StrPath) -> Self: ...
    @property
    def name(self) -> str: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class End:
    """The innermost open directory ends."""

    __match_args__: ClassVar[tuple[()]]
    def __new__(cls) -> Self: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class File:
    """A regular file. Its contents follow, unless it is empty."""

    __match_args__: ClassVar[tuple[Literal["name"], Literal["executable"], Literal["size"]]]
    def __new__(cls, name: StrPath, executable: bool, size: int) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def executable(self) -> bool: ...
    @property
    def size(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Symlink:
    """A symbolic link."""

    __match_args__: ClassVar[tuple[Literal["name"], Literal["target"]]]
    def __new__(cls, name: StrPath, target: StrPath) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Contents:
    """The contents of the preceding file: a memoryview of the buffer, not a copy."""

    __match_args__: ClassVar[tuple[Literal["contents"]]]
    @property
    def contents(self) -> memoryview: ...
    @property
    def offset(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...

_T = TypeVar("_T")

@final
class Listing:
    """The listing of a NAR: a mapping of paths to nodes, in the order of the NAR."""

    @staticmethod
    def parse(data: str | ReadableBuffer, /) -> Listing: ...
    def to_json(self) -> bytes: ...
    def children(self, path: StrPath | None = None, /) -> list[Node]: ...
    @overload
    def get(self, path: StrPath, /) -> Node | None: ...
    @overload
    def get(self, path: StrPath, default: _T, /) -> Node | _T: ...
    def keys(self) -> list[str]: ...
    def values(self) -> list[Node]: ...
    def items(self) -> list[tuple[str, Node]]: ...
    def __getitem__(self, path: StrPath, /) -> Node: ...
    def __contains__(self, path: StrPath, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Node:
    """A file, directory or symbolic link in a listing."""

    __match_args__: ClassVar[tuple[Literal["path"], Literal["type"]]]
    @property
    def path(self) -> str: ...
    @property
    def type(self) -> Literal["regular", "directory", "symlink"]: ...
    @property
    def size(self) -> int | None: ...
    @property
    def executable(self) -> bool: ...
    @property
    def offset(self) -> int | None: ...
    @property
    def target(self) -> str | None: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
