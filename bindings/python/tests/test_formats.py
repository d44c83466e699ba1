"""Hashes, store paths, narinfos and signatures."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, TEXT, infos
from hypothesis import given
from hypothesis import strategies as st

from nixcache import (
    ContentAddress,
    Error,
    Hash,
    HashError,
    NarInfo,
    NarInfoError,
    PublicKey,
    SecretKey,
    Signature,
    SignatureError,
    StorePath,
    TrustedKeys,
    nixbase32,
)

NAMES = st.text("abcxyzABCXYZ0189+-_?=.", min_size=1, max_size=50).filter(lambda name: name[0] != ".")
PARTS = st.binary(min_size=20, max_size=20).map(nixbase32.encode)
PATHS = st.builds(lambda part, name: StorePath(f"{part}-{name}"), PARTS, NAMES)
ALGORITHMS = st.sampled_from(["md5", "sha1", "sha256", "sha512", "blake3"])


@given(st.binary())
def test_nixbase32_goes_round(data: bytes) -> None:
    assert nixbase32.decode(nixbase32.encode(data)) == data
    assert set(nixbase32.encode(data)) <= set(nixbase32.ALPHABET)


@given(ALGORITHMS, st.binary(), st.sampled_from(["base16", "nix32", "base64", "sri"]))
def test_hashes_go_round(algorithm: str, data: bytes, form: str) -> None:
    hash = Hash.of(data, algorithm)  # type: ignore[arg-type]
    if algorithm != "blake3":
        assert hash.digest == hashlib.new(algorithm, data).digest()
    assert Hash(hash.display(form)) == hash  # type: ignore[arg-type]
    assert Hash(hash.display_digest(form), algorithm) == hash  # type: ignore[arg-type]
    assert Hash.from_digest(hash.algorithm, hash.digest) == hash
    assert format(hash, form) == hash.display(form)  # type: ignore[arg-type]


def test_a_hash_has_the_texts_of_other_tools() -> None:
    hash = Hash.of(b"abc")
    assert f"{hash:sri}" == "sha256-" + base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    assert f"{hash:base16}" == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert f"{hash}" == str(hash) == "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"


def test_a_hash_is_of_buffers_files_and_paths(tmp_path: Path) -> None:
    kinds: list[Any]
    data = bytes(range(256)) * 5000
    file = tmp_path / "file"
    file.write_bytes(data)
    with file.open("rb") as opened:
        kinds = [data, bytearray(data), memoryview(data), io.BytesIO(data), file, str(file), opened]
        assert len({Hash.of(kind) for kind in kinds}) == 1


@given(PATHS)
def test_store_paths_go_round(path: StorePath) -> None:
    assert StorePath(str(path)) == path == StorePath.parse(path.display())
    assert StorePath.parse(Path(path.display("/other/store")), store_dir="/other/store") == path
    assert str(path) == f"{path.hash_part}-{path.name}"


@pytest.mark.parametrize("text", ["", "x", "/nix/store/x", "00bgd045z0d4icpbc2yyz4gx48ak44la-", "\ud800", "\0"])
def test_what_is_no_store_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        StorePath(text)


def test_paths_are_made_of_content_addresses() -> None:
    address = ContentAddress.from_hash("flat", "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s")
    assert str(StorePath.from_content_address("abc", address)) == "0y839a054fcnhjcd2w1pb6a4k4fl38iw-abc"
    assert address == ContentAddress(str(address))
    with pytest.raises(ValueError):
        ContentAddress.from_hash("other", address.hash)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [str, lambda text: text.encode(), lambda text: bytearray(text.encode()), lambda text: memoryview(text.encode())])
def test_a_narinfo_tells_its_fields(kind: Any) -> None:
    info = NarInfo.parse(kind(TEXT))
    assert str(info) == TEXT and bytes(info) == TEXT.encode()
    assert info.store_path.name == "net-tools-1.60_p20170221182432"
    assert info.store_dir == "/nix/store"
    assert info.url == "nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz"
    assert (info.compression, info.file_size, info.nar_size) == ("xz", 114980, 464152)
    assert str(info.file_hash) == "sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d"
    assert str(info.nar_hash) == "sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6"
    assert [reference.name for reference in info.references] == ["glibc-2.27"]
    assert info.deriver is not None and info.deriver.is_derivation
    assert len(info.signatures) == 1
    assert info.content_address is None
    assert info.is_canonical and info.deviations == ()


def test_deviations_have_names_and_lines() -> None:
    info = NarInfo.parse(TEXT[:-1] + "\nUnknown: field")
    assert not info.is_canonical
    kinds = {deviation.kind: deviation for deviation in info.deviations}
    unknown = next(deviation for deviation in info.deviations if deviation.field == "Unknown")
    assert unknown.line == 11 and unknown.explanation and unknown.nix_accepts == "yes"
    assert any(deviation.nix_accepts != "yes" for deviation in kinds.values())


def test_keys_are_read_from_text_files_and_the_settings_of_nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = SecretKey.generate("one-1"), SecretKey.generate("other-1")
    (tmp_path / "secret").write_text(f"  {one.to_text()}\r\n\n")
    assert SecretKey.load(tmp_path / "secret") == one
    both = f"{one.public_key} {other.public_key}"
    assert len(TrustedKeys(both)) == 2
    (tmp_path / "nix.conf").write_text(f"# keys\ntrusted-public-keys = {both}\n")
    assert len(TrustedKeys.load(tmp_path / "nix.conf")) == 2
    assert TrustedKeys.load(both, require=2).require == 2
    monkeypatch.setenv("NIX_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert TrustedKeys.load("nix.conf").get("other-1") == other.public_key
    for text in (one.to_text(), str(tmp_path / "secret")):
        with pytest.raises(SignatureError, match="secret key") as caught:
            TrustedKeys.load(text)
        assert one.to_text()[8:] not in str(caught.value)
    with pytest.raises(ValueError, match="not a file") as caught:
        SecretKey.load(one.to_text())
    assert one.to_text()[8:] not in str(caught.value)


def test_editing_returns_new_ones_and_leaves_the_rest() -> None:
    text = TEXT + "Unknown: field\n"
    info = NarInfo.parse(text)
    key = SecretKey.generate("test-1")
    signed = info.sign(key)
    assert str(info) == text
    assert signed != info and signed.unsign("test-1") == info
    assert signed.signatures == (*info.signatures, str(key.sign(info)))
    assert info.sign(Signature(signed.signatures[1])) == signed == info.sign(signed.signatures[1])
    moved = info.replace(url="elsewhere.nar", compression="none", file_hash=None, file_size=None)
    assert (moved.url, moved.compression, moved.file_hash, moved.file_size) == ("elsewhere.nar", "none", None, None)
    assert "Unknown: field" in str(moved)
    assert moved.nar_hash == info.nar_hash
    for bad in ({"nar_size": 1}, {"url": ""}, {"compression": "rar"}, {"url": "a\nb"}):
        with pytest.raises((TypeError, Error)):
            info.replace(**bad)


@given(PATHS, st.lists(PATHS, max_size=4), st.integers(1, 2**64 - 1), st.sampled_from(["none", "xz", "zstd", "br"]))
def test_what_is_built_reads_back(path: StorePath, references: list[StorePath], size: int, compression: str) -> None:
    built = NarInfo.build(
        path,
        url="nar/x",
        nar_hash=Hash.of(b""),
        nar_size=size,
        compression=compression,
        file_size=size,
        references=references,
        deriver=StorePath(f"{path}.drv"),
    )
    again = NarInfo.parse(bytes(built))
    assert again == built and again.is_canonical
    assert again.references == tuple(sorted(set(references)))
    assert (again.store_path, again.nar_size, again.file_size, again.compression) == (path, size, size, compression)


@given(st.one_of(st.binary(), st.text()))
def test_parsing_never_fails_otherwise(data: "bytes | str") -> None:
    try:
        NarInfo.parse(data)
    except (NarInfoError, UnicodeEncodeError):
        pass


@given(st.binary())
def test_signatures_verify(message: bytes) -> None:
    key = SecretKey.generate("test-1")
    signature = key.sign(message)
    assert key.public_key.verify(message, signature) and key.public_key.verify(message, str(signature))
    assert not key.public_key.verify(message + b"x", signature)
    assert not SecretKey.generate("test-1").public_key.verify(message, signature)
    assert len(bytes(signature)) == 64 and len(bytes(key.public_key)) == 32


def test_verify_many_agrees_with_verify() -> None:
    mine, other = SecretKey.generate("mine-1"), SecretKey.generate("other-1")
    unsigned = list(infos(100))
    signed = [info.sign(mine) if n % 2 else info.sign(other) for n, info in enumerate(unsigned)]
    forged = [info.sign(str(mine.sign(b"something else"))) for info in unsigned]
    for keys in (TrustedKeys(mine.public_key), TrustedKeys([mine.public_key, str(other.public_key)], require=2), TrustedKeys()):
        every = unsigned + signed + forged
        expected = [keys.verify(info) for info in every]
        assert keys.verify_many(every) == expected
        assert keys.verify_many(iter(every), threads=1) == expected
        assert keys.verify_many((info for info in every), threads=7) == expected
    assert mine.sign_many(unsigned) == [mine.sign(info) for info in unsigned]
    with pytest.raises(TypeError):
        TrustedKeys().verify_many([1])  # type: ignore[list-item]
    with pytest.raises(ValueError):
        TrustedKeys().verify_many([], threads=0)


def test_a_verdict_says_what_held() -> None:
    info = NarInfo.parse(TEXT)
    keys = TrustedKeys([KEY])
    verdict = keys.verify(info)
    assert verdict and verdict.keys == ("cache.nixos.org-1",)
    assert verdict.signatures == (("cache.nixos.org-1", "holds"),)
    assert not verdict.is_content_addressed
    untrusted = TrustedKeys().verify(info)
    assert not untrusted and untrusted.signatures == (("cache.nixos.org-1", "unknown"),)
    assert len(keys) == 1 and list(keys) == [PublicKey(KEY)] and PublicKey(KEY) in keys
    assert keys.get("cache.nixos.org-1") == PublicKey(KEY) and keys.get("other") is None


def test_nixbase32_says_where_it_is_wrong() -> None:
    with pytest.raises(HashError) as raised:
        nixbase32.decode("0e")
    assert raised.value.offset == 1
