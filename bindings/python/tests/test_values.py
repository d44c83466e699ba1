"""Values behave as a Python author expects: compared, hashed, pickled, copied, shown, taken apart by patterns."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
from conftest import KEY, TEXT, infos

import nixcache
from nixcache import (
    ContentAddress,
    Graph,
    Hash,
    NarInfo,
    PublicKey,
    SecretKey,
    Signature,
    StorePath,
    TrustedKeys,
    nar,
)

HASH = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"
PATH = "00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60"
SIGNATURE = TEXT.splitlines()[-1].removeprefix("Sig: ")


def listing() -> nar.Listing:
    return nar.Listing.parse('{"root":{"entries":{"a":{"size":1,"type":"regular"}},"type":"directory"},"version":1}')


VALUES: list[Any] = [
    Hash(HASH),
    StorePath(PATH),
    ContentAddress(f"fixed:r:{HASH}"),
    PublicKey(KEY),
    Signature(SIGNATURE),
    NarInfo.parse(TEXT),
    nar.Directory("name"),
    nar.End(),
    nar.File("name\udcff", True, 3),
    nar.Symlink("name", "target"),
    listing(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_under_all_protocols(value: Any, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(value, protocol))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_copies_are_equal(value: Any) -> None:
    assert copy.copy(value) == value == copy.deepcopy(value)
    assert value != object()
    if not isinstance(value, nar.Listing):
        assert hash(copy.deepcopy(value)) == hash(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_cannot_be_changed(value: Any) -> None:
    for name in getattr(type(value), "__match_args__", ()):
        with pytest.raises(AttributeError):
            setattr(value, name, None)


@pytest.mark.parametrize("value", [*VALUES[:5], *VALUES[6:10]], ids=lambda value: type(value).__name__)
def test_repr_evaluates_to_the_value(value: Any) -> None:
    assert eval(repr(value), {**vars(nixcache), **vars(nar)}) == value


def test_repr_says_what_it_is() -> None:
    assert repr(NarInfo.parse(TEXT)) == (
        "<NarInfo 00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432, "
        "464152 bytes, 1 reference, 1 signature>"
    )
    graph = Graph.from_narinfos(infos(3))
    assert repr(graph) == "<Graph of 3 paths, 5 references>"
    assert repr(graph.closure(list(graph))) == "<Closure of p0, p1, p2: 3 paths, 3003 bytes>"
    keys = TrustedKeys(KEY)
    assert repr(keys) == "<TrustedKeys 'cache.nixos.org-1'>"
    assert repr(keys.verify(NarInfo.parse(TEXT))) == "<Verdict valid; 'cache.nixos.org-1': holds>"


def test_order_is_that_of_the_texts() -> None:
    paths = [StorePath(text) for text in (f"{PATH}b", PATH, "7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27")]
    assert sorted(paths) == sorted(paths, key=str)
    assert Hash.of(b"", "md5") < Hash.of(b"", "sha1") < Hash.of(b"")
    with pytest.raises(TypeError):
        paths[0] < PATH  # type: ignore[operator]  # noqa: B015


def test_a_secret_key_is_neither_shown_nor_pickled() -> None:
    key = SecretKey.generate("test-1")
    assert key == SecretKey.parse(key.to_text() + "\n")
    assert key.to_text() not in repr(key) and "test-1" in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        hash(key)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="patterns are of 3.10")
def test_patterns_take_values_apart() -> None:
    source = """
match value:
    case StorePath(hash_part, name): found = name
    case Hash("sha256", digest): found = digest
    case NarInfo(StorePath(_, name), _, size): found = (name, size)
    case ContentAddress("nar", Hash(algorithm)): found = algorithm
    case Signature(name) | PublicKey(name): found = name
    case nar.File(name, True, size): found = size
    case nar.Symlink(_, target): found = target
    case nar.End(): found = "end"
    case nar.Directory(name): found = name
"""
    found = []
    for value in VALUES[:10]:
        scope = {**vars(nixcache), "value": value}
        exec(source, scope)
        found.append(scope["found"])
    assert found == [
        Hash(HASH).digest,
        "net-tools-1.60",
        "sha256",
        "cache.nixos.org-1",
        "cache.nixos.org-1",
        ("net-tools-1.60_p20170221182432", 464152),
        "name",
        "end",
        3,
        "target",
    ]


def fail(kind: str) -> Any:
    calls: dict[str, Any] = {
        "HashError": lambda: Hash("sha256:" + "e" * 52),
        "StorePathError": lambda: StorePath(f"{PATH}/"),
        "SignatureError": lambda: PublicKey("no colon"),
        "NarInfoError": lambda: NarInfo.parse("StorePath: /nix/store/x\n"),
        "NarError": lambda: nar.check(b"no NAR"),
        "ListingError": lambda: nar.Listing.parse("{"),
        "CompressionError": lambda: nar.check(b"\xfd7zXZ\0truncated"),
        "PathInfoError": lambda: Graph.from_json(b"[\n1}"),
        "GraphError": lambda: Graph.from_narinfos([]).closure(PATH),
        "CacheUrlError": lambda: nixcache.Cache("ftp://example.org"),
        "PackError": lambda: nar.hash("/there/is/nothing"),
        "UnpackError": lambda: nar.unpack(VALID, "/"),
        "SourceError": lambda: nar.check("/there/is/nothing"),
        "CacheError": lambda: nixcache.Cache("/there/is/nothing"),
    }
    with pytest.raises(getattr(nixcache, kind)) as raised:
        calls[kind]()
    return raised.value


VALID = b"".join(
    len(word).to_bytes(8, "little") + word + bytes(-len(word) % 8)
    for word in (b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"", b")")
)


@pytest.mark.parametrize(
    ("kind", "base", "attributes"),
    [
        ("HashError", ValueError, {"offset": 7}),
        ("StorePathError", ValueError, {"offset": len(PATH)}),
        ("SignatureError", ValueError, {"offset": None}),
        ("NarInfoError", ValueError, {"line": 1, "field": "StorePath", "path": None}),
        ("NarError", ValueError, {"offset": 0}),
        ("ListingError", ValueError, {}),
        ("CompressionError", ValueError, {}),
        ("PathInfoError", ValueError, {"line": 2, "column": 2}),
        ("GraphError", ValueError, {"paths": ()}),
        ("CacheUrlError", ValueError, {}),
        ("PackError", OSError, {"path": "/there/is/nothing", "errno": 2}),
        ("UnpackError", OSError, {}),
        ("SourceError", OSError, {"path": "/there/is/nothing", "errno": 2}),
        ("CacheError", OSError, {"errno": 2}),
    ],
)
def test_exceptions_tell_their_kind_and_where(kind: str, base: type[Exception], attributes: dict[str, Any]) -> None:
    error = fail(kind)
    assert isinstance(error, nixcache.Error) and isinstance(error, base)
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert str(error) == error.message != ""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error) and str(again) == str(error)
        assert {name: getattr(again, name) for name in attributes} == attributes
