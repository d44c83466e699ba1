"""Cases gathered from other implementations, where they are there: those on which these agree."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Callable

import pytest

from nixcache import Hash, NarInfo, PublicKey, SecretKey, Signature, StorePath, nar


def cases(vectors: Path, name: str) -> "list[dict[str, Any]]":
    every = json.loads((vectors / f"cases/{name}.json").read_text())
    return [case for case in every if not case.get("disagree") and not case.get("policy")]


def outcome(read: Callable[[], object]) -> str:
    try:
        read()
    except ValueError:
        return "error"
    return "ok"


def is_there(vectors: Path, case: "dict[str, Any]") -> bool:
    """Some cases name files that are only on the machine where they were gathered."""
    return not isinstance(case["input"], dict) or (vectors / case["input"]["file"]).is_file()


def compare(vectors: Path, name: str, read: Callable[[Any], object]) -> None:
    known = cases(vectors, name)
    assert known
    wrong = [case["id"] for case in known if is_there(vectors, case) and outcome(lambda: read(case["input"])) != case["expect"]]
    assert not wrong


def test_hashes(vectors: Path) -> None:
    compare(vectors, "hash", Hash)
    for case in cases(vectors, "hash"):
        if case["expect"] == "ok":
            assert Hash(case["input"]) == Hash(case["value"])


def test_store_paths(vectors: Path) -> None:
    compare(vectors, "store-path", StorePath.parse)


def test_signatures(vectors: Path) -> None:
    compare(vectors, "signature", Signature)


def test_narinfos(vectors: Path) -> None:
    compare(vectors, "narinfo", lambda input: NarInfo.parse((vectors / input["file"]).read_bytes()))


@pytest.mark.parametrize(
    "read",
    [nar.check, nar.listing, lambda data: list(nar.events(data)), lambda data: nar.check(io.BytesIO(data))],
    ids=["check", "listing", "events", "file object"],
)
def test_archives(vectors: Path, read: Callable[[bytes], object]) -> None:
    def read_bare(input: Any) -> None:
        data = (vectors / input["file"]).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            raise ValueError("compressed, which is read here, and no NAR to others")
        read(data)

    compare(vectors, "nar", read_bare)


def test_signing(vectors: Path) -> None:
    for case in cases(vectors, "sign"):
        if case["expect"] == "ok" and "message" in case["input"]:
            key = SecretKey.parse(case["input"]["secret_key"])
            assert str(key.sign(case["input"]["message"].encode())) == case["value"]


def test_verifying(vectors: Path) -> None:
    for case in cases(vectors, "verify"):
        if not {"public_key", "signature", "message"} <= set(case["input"]):
            continue
        key, signature = case["input"]["public_key"], case["input"]["signature"]
        message = case["input"]["message"].encode()
        valid = False
        if outcome(lambda: (PublicKey(key), Signature(signature))) == "ok":
            valid = PublicKey(key).verify(message, signature)
        assert valid == (case["expect"] == "true"), case["id"]
