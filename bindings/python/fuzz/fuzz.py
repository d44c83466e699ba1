"""Hostile bytes and arguments across the boundary.

For any input, the worst outcome is an `Error`, a `TypeError` or the like: no crash, no panic.

    python fuzz/fuzz.py TARGET [OPTIONS OF libFuzzer]     # -max_total_time=60, say

Needs atheris, from PyPI.
"""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

import nixcache
from nixcache import Graph, Hash, NarInfo, PublicKey, SecretKey, Signature, StorePath, TrustedKeys, nar, nixbase32

KEY = SecretKey.generate("fuzz-1")
KEYS = TrustedKeys(KEY.public_key)
# What Python raises for wrong arguments. A panic derives from BaseException and ends the run.
EXPECTED = (nixcache.Error, TypeError, ValueError, OverflowError, KeyError, BufferError, OSError, AttributeError)


def narinfo(data: bytes) -> None:
    info = NarInfo.parse(data)
    for name in dir(info):
        value = getattr(info, name)
        if name in ("deviations", "references", "signatures"):
            repr(value)
    assert bytes(info) == data and NarInfo.parse(str(info)) == info
    assert pickle.loads(pickle.dumps(info)) == info
    assert KEYS.verify(info.sign(KEY)).keys == ("fuzz-1",)
    KEYS.verify_many([info, info])
    Graph.from_narinfos([info]).closure(info.store_path).treemap()


def archive(data: bytes) -> None:
    outcomes: list[Any] = []
    for read in (nar.check, nar.listing, lambda data: nar.check(io.BytesIO(data)), lambda data: nar.check(bytearray(data))):
        try:
            outcomes.append(read(data))
        except nixcache.Error:
            outcomes.append(None)
    assert len({outcome is None for outcome in outcomes}) == 1
    walk = nar.events(data)
    shown = [bytes(event) if isinstance(event, nar.Contents) else repr(event) for event in walk]
    assert shown and outcomes[0] is not None
    for node in nar.listing(data).values():
        if node.type == "regular":
            assert len(nar.open(data, node.path).read()) == node.size


def changing(data: bytes) -> None:
    """A buffer that changes while it is walked."""
    buffer = bytearray(data)
    place = 0
    for event in nar.events(buffer):
        repr(event)
        if buffer:
            place = (place * 31 + 17) % len(buffer)
            buffer[place] ^= data[place % len(data)]


def unpack(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        nar.unpack(data, Path(folder, "tree"))
        nar.hash(Path(folder, "tree"))


def texts(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    text = provider.ConsumeUnicode(400)
    kinds: list[Callable[[str], Any]] = [Hash, StorePath, StorePath.parse, PublicKey, Signature, nixcache.ContentAddress, nixbase32.decode]
    for kind in kinds:
        try:
            value = kind(text)
        except EXPECTED:
            continue
        assert pickle.loads(pickle.dumps(value)) == value


def graph(data: bytes) -> None:
    for read in (Graph.from_json, Graph.from_registration, nar.Listing.parse):
        try:
            repr(read(data))
        except nixcache.Error:
            pass


def arguments(data: bytes) -> None:
    """Anything at all, as arguments of anything."""
    provider = atheris.FuzzedDataProvider(data)
    values: list[Any] = [
        None, True, "", "x", b"", b"x" * 50, bytearray(b"xx"), 0, -1, 1 << 70, 1.5, [], {}, (), object(), KEY, KEYS,
        memoryview(b"abcdef")[::2], io.BytesIO(data), iter([1]), StorePath(f"{'0' * 32}-x"), Graph.from_narinfos([]),
    ]  # fmt: skip
    values += [provider.ConsumeUnicode(60), provider.ConsumeBytes(60), provider.ConsumeInt(8)]
    targets: list[Any] = [Hash, Hash.of, Hash.from_digest, StorePath, StorePath.parse, StorePath.from_content_address, NarInfo.parse, NarInfo.build]
    targets += [KEY.sign, KEY.sign_many, KEY.public_key.verify, KEYS.verify, KEYS.verify_many, nar.check, nar.listing, nar.events, nar.open]
    targets += [nar.hash, Graph.from_json, Graph.load, values[21].closure, values[21].why, values[21].difference, TrustedKeys, nar.File]
    target = targets[provider.ConsumeIntInRange(0, len(targets) - 1)]
    given = [values[provider.ConsumeIntInRange(0, len(values) - 1)] for _ in range(provider.ConsumeIntInRange(0, 4))]
    result = target(*given)
    if isinstance(result, nar.Events):
        list(result)
    repr(result)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (narinfo, archive, changing, unpack, texts, graph, arguments)
}


SEEDS: dict[str, list[str]] = {
    "narinfo": ["narinfo", "edit"],
    "archive": ["chunks", "identity"],
    "changing": ["chunks", "identity"],
    "unpack": ["chunks", "decode"],
    "texts": ["hash", "key", "store_path"],
    "graph": ["json", "registration", "listing"],
    "arguments": [],
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz.py {'|'.join(TARGETS)} [options of libFuzzer]")
    name = sys.argv.pop(1)
    target = atheris.instrument_func(TARGETS[name])

    @atheris.instrument_func  # type: ignore[misc, untyped-decorator, unused-ignore]
    def run(data: bytes) -> None:
        try:
            target(data)
        except EXPECTED:
            pass

    # Mutations begin with the corpus of the Rust fuzz targets. New inputs go into a directory that
    # is left in /tmp.
    corpus = Path(__file__).resolve().parents[3] / "fuzz/corpus"
    seeds = [str(corpus / folder) for folder in SEEDS[name] if (corpus / folder).is_dir()]
    atheris.Setup([*sys.argv, tempfile.mkdtemp(prefix=f"fuzz-{name}-"), *seeds], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
