"""What real Nix says, in every version at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Nix

from nixcache import Cache, Graph, Hash, NarInfo, PublicKey, SecretKey, StorePath, TrustedKeys, nar


def test_archives_are_those_of_nix(nix: Nix, tree: Path, tmp_path: Path) -> None:
    dumped = nix.run("nix-store", "--dump", tree)
    nar.pack(tree, tmp_path / "nar")
    assert (tmp_path / "nar").read_bytes() == dumped
    nar.unpack(dumped, tmp_path / "ours")
    nix.run("nix-store", "--restore", tmp_path / "theirs", stdin=dumped)
    assert nix.run("nix-store", "--dump", tmp_path / "ours") == dumped
    assert nar.hash(tmp_path / "theirs") == nar.hash(tree)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_hashes_are_those_of_nix(nix: Nix, tree: Path, algorithm: str) -> None:
    hash = nar.hash(tree, algorithm=algorithm)  # type: ignore[arg-type]
    assert nix.text("nix", "hash", "path", "--type", algorithm, tree) == f"{hash:sri}"
    assert nix.text("nix", "hash", "path", "--base32", "--type", algorithm, tree) == hash.display_digest()
    file = tree / "large"
    assert nix.text("nix", "hash", "file", "--type", algorithm, file) == Hash.of(file, algorithm).display("sri")  # type: ignore[arg-type]


def test_listings_are_those_of_nix(nix: Nix, tree: Path, tmp_path: Path) -> None:
    (tree / "large").unlink()
    for odd in [path for path in tree.iterdir() if not path.name.isprintable()]:
        odd.rmdir()
    nar.pack(tree, tmp_path / "nar")
    theirs = nix.run("nix", "nar", "ls", "--json", "--recursive", tmp_path / "nar", "/").strip()
    assert nar.listing(tmp_path / "nar") == nar.Listing.parse(b'{"root":' + theirs + b',"version":1}')


def test_signatures_go_both_ways(nix: Nix, tree: Path, tmp_path: Path) -> None:
    path = nix.add_built(f"/nix/store/{'0' * 32}-tree", tree)
    theirs = SecretKey.parse(nix.text("nix", "key", "generate-secret", "--key-name", "theirs-1"))
    public = nix.text("nix", "key", "convert-secret-to-public", stdin=theirs.to_text().encode())
    assert PublicKey(public) == theirs.public_key
    secret = tmp_path / "secret"
    secret.write_text(theirs.to_text())
    # Theirs verifies here.
    nix.run("nix", "copy", "--to", f"file://{tmp_path / 'cache'}?secret-key={secret}", path)
    cache = Cache(tmp_path / "cache")
    info = cache.narinfo(path)
    assert info is not None and info.is_canonical
    assert TrustedKeys(public).verify(info).keys == ("theirs-1",)
    assert info.nar_hash == nar.hash(tree)
    assert info.unsign("theirs-1").sign(theirs) == info
    # Ours verifies there: a store that trusts only our key takes the path.
    ours = SecretKey.generate("ours-1")
    assert cache.edit(path, lambda info: info.unsign("theirs-1").sign(ours))
    other = tmp_path / "other"
    copy = ["nix", "copy", "--to", other, "--from", f"file://{tmp_path / 'cache'}", path]
    with pytest.raises(AssertionError, match="signature"):
        nix.run(*map(str, copy), "--trusted-public-keys", public)
    nix.run(*map(str, copy), "--trusted-public-keys", str(ours.public_key))
    assert nar.hash(f"{other}{path}") == info.nar_hash


def test_what_is_pushed_is_a_cache_for_nix(nix: Nix, tree: Path, tmp_path: Path) -> None:
    path = nix.text("nix-store", "--add", tree)
    key = SecretKey.generate("push-1")
    cache = Cache(tmp_path / "cache", create=True)
    pushed = cache.push(path, source=f"db:{nix.database}", keys=[key])
    assert pushed and pushed.published == [StorePath.parse(path)]
    assert Graph.from_database(nix.database).roots() == pushed.published
    other = tmp_path / "other"
    trusted = ["--trusted-public-keys", key.public_key]
    nix.run("nix", "copy", "--to", other, "--from", f"file://{tmp_path / 'cache'}", path, *trusted)
    assert nar.hash(f"{other}{path}") == nar.hash(tree)
    # And what is pulled is what Nix registers.
    pulled = cache.pull(path, tmp_path / "root", trusted=TrustedKeys(key.public_key))
    assert pulled and nar.hash(tmp_path / f"root{path}") == nar.hash(tree)
    fresh = Nix(nix.bin, tmp_path)
    fresh.run("nix-store", "--load-db", stdin=pulled.registration())
    assert fresh.text("nix-store", "--query", "--hash", path) == str(nar.hash(tree))


def test_paths_of_trees_are_those_of_nix(nix: Nix, tree: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", create=True)
    [added] = cache.push(add={"tree": tree}).added
    assert added.display() == nix.text("nix-store", "--add", tree)
    [info] = cache
    assert info.store_path == added and TrustedKeys().verify(info).is_content_addressed
    assert NarInfo.parse(bytes(info)) == info
