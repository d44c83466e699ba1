"""Caches: published to, fetched from, looked over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nixcache import (
    Cache,
    CacheContentError,
    CacheError,
    GraphError,
    NarInfo,
    Progress,
    PullError,
    Queue,
    SecretKey,
    SourceError,
    StorePath,
    TrustedKeys,
    doctor,
    nar,
)

KEY = SecretKey.generate("test-1")
TRUSTED = TrustedKeys(KEY.public_key)


@pytest.fixture
def cache(tmp_path: Path, tree: Path) -> Cache:
    cache = Cache(tmp_path / "cache", create=True)
    assert cache.push(add={"tree": tree, "other": tree / "bin"}, keys=[KEY])
    return cache


def test_trees_are_published_and_found(cache: Cache, tree: Path, tmp_path: Path) -> None:
    infos = {info.store_path.name: info for info in cache}
    assert sorted(infos) == ["other", "tree"]
    path = infos["tree"].store_path
    assert cache.narinfo(path) == infos["tree"] == cache.narinfo(path.display()) == cache.narinfo(path.hash_part)
    assert all(TRUSTED.verify_many(cache))
    absent = StorePath(f"{'0' * 32}-absent")
    assert cache.missing([absent, path]) == [absent] and cache.missing([str(path)]) == []
    assert cache.narinfo(absent) is None and cache.read("absent") is None
    listing = cache.read(f"{infos['other'].store_path.hash_part}.ls")
    assert listing is not None and nar.Listing.parse(listing) == nar.pack(tree / "bin", listing=True).listing
    assert cache.url == str(tmp_path / "cache") or cache.url.endswith("cache")
    assert (cache.store_dir, cache.priority) == ("/nix/store", 50)
    again = Cache(f"file://{tmp_path / 'cache'}").push(add={"tree": tree})
    assert again and again.published == [] and again.present == [path]


@pytest.mark.parametrize("kind", ["store", "cache", "archives"])
def test_paths_are_fetched(cache: Cache, tree: Path, tmp_path: Path, kind: str) -> None:
    path = next(info.store_path for info in cache if info.store_path.name == "tree")
    into: Any = Cache(tmp_path / "into", create=True) if kind == "cache" else tmp_path / "into"
    pulled = cache.pull(path, into, trusted=TRUSTED, archives=kind == "archives")
    assert pulled and pulled.fetched == [path] and pulled.present == []
    if kind == "store":
        assert nar.hash(tmp_path / f"into/nix/store/{path}") == nar.hash(tree)
    elif kind == "archives":
        assert nar.check(tmp_path / f"into/{path}.nar").hash == nar.hash(tree)
    else:
        assert into.narinfo(path) == cache.narinfo(path)
    assert cache.pull([path.hash_part], into, trusted=None, archives=kind == "archives").present == [path]


def test_what_another_cache_vouches_for_is_not_published(cache: Cache, tmp_path: Path) -> None:
    path = next(iter(cache)).store_path
    pulled = cache.pull(path, tmp_path / "into", trusted=TRUSTED)
    (tmp_path / "registration").write_bytes(pulled.registration())
    to, source, store = Cache(tmp_path / "to", create=True), f"registration:{tmp_path / 'registration'}", tmp_path / "into"
    with pytest.raises(ValueError, match="trusted"):
        to.push(path, source=source, store=store, skip=[cache])
    assert to.push(path, source=source, store=store, skip=[cache], trusted=TRUSTED).published == []
    assert to.push(path, source=source, store=store, skip=[to], trusted=TRUSTED).published == [path]


def test_unsigned_paths_are_not_fetched(cache: Cache, tmp_path: Path) -> None:
    info = next(iter(cache))
    forged = NarInfo.parse(str(info).replace("CA:", "Unknown:")).unsign("test-1")
    (tmp_path / f"cache/{info.store_path.hash_part}.narinfo").write_text(str(forged))
    with pytest.raises(PullError, match="no valid signature"):
        cache.pull(info.store_path, tmp_path / "into", trusted=TRUSTED)
    assert cache.pull(info.store_path, tmp_path / "into", trusted=None)
    with pytest.raises(PullError, match="in no cache"):
        cache.pull(f"{'0' * 32}-absent", tmp_path / "into", trusted=TRUSTED)


def test_an_audit_tells_what_is_wrong(cache: Cache, tmp_path: Path) -> None:
    sound = cache.audit(trusted=TRUSTED, contents=True)
    assert (sound.narinfos, sound.nars, sound.faults) == (2, 2, [])
    info = next(iter(cache))
    (tmp_path / f"cache/{info.url}").unlink()
    [finding] = cache.audit().faults
    assert (finding.kind, finding.path, finding.is_note) == ("missing-nar", info.store_path, False)
    assert finding.object == f"{info.store_path.hash_part}.narinfo" and finding.remedy and finding.message
    assert str(finding).startswith(f"{finding.object}: missing-nar: ")
    (tmp_path / f"cache/{finding.object}").write_text("no narinfo")
    assert {finding.kind for finding in cache.audit().faults} == {"unparsable-narinfo"}
    with pytest.raises(CacheContentError) as raised:
        list(cache)
    assert raised.value.line == 1 and raised.value.path is not None and raised.value.path.endswith(finding.object)


def test_a_repair_publishes_again_what_it_withdraws(cache: Cache, tmp_path: Path) -> None:
    info = next(iter(cache))
    pulled = cache.pull(info.store_path, tmp_path / "into", trusted=TRUSTED)
    (tmp_path / "registration").write_bytes(pulled.registration())
    source, store, narinfo = f"registration:{tmp_path / 'registration'}", tmp_path / "into", f"{info.store_path.hash_part}.narinfo"
    (tmp_path / f"cache/{info.url}").write_text("spoilt")
    with pytest.raises(OSError):
        cache.repair(contents=True, source="registration:/nowhere", store=store)
    assert cache.narinfo(info.store_path) == info
    would = cache.repair(contents=True, source=source, store=store, dry_run=True)
    assert would.withdrawn == [narinfo] and would.republished is None
    repaired = cache.repair(contents=True, source=source, store=store, keys=[KEY])
    assert repaired.republished and repaired.republished.published == [info.store_path] and repaired.not_in_source == []
    assert not cache.audit(trusted=TRUSTED, contents=True).faults
    (tmp_path / f"cache/{info.url}").write_text("spoilt")
    (tmp_path / "registration").write_text("")
    repaired = cache.repair(contents=True, source=source, store=store)
    assert repaired.not_in_source == [narinfo] and cache.narinfo(info.store_path) is None


def test_narinfos_are_edited_in_place(cache: Cache) -> None:
    new = SecretKey.generate("new-1")
    for info in cache:
        assert cache.edit(info.store_path, lambda info: info.sign(new).unsign("test-1"))
        assert not cache.edit(info.store_path, lambda info: info)
        assert not cache.edit(info.store_path, lambda info: None)
    assert all(verdict.keys == ("new-1",) for verdict in TrustedKeys(new.public_key).verify_many(cache))

    def fail(info: NarInfo) -> NarInfo:
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        cache.edit(next(iter(cache)).store_path, fail)
    with pytest.raises(TypeError):
        cache.edit(next(iter(cache)).store_path, lambda info: "text")  # type: ignore[arg-type, return-value]
    assert not cache.edit(f"{'0' * 32}-absent", lambda info: info)


def test_progress_is_told_on_the_calling_thread(cache: Cache, tree: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []

    def progress(event: Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(event)

    cache.push(add={"more": tree / "README"}, progress=progress)
    assert [event.count for event in seen if event.kind == "planned"] == [1]
    assert {event.kind for event in seen} >= {"planned", "started", "packed", "uploaded", "published"}
    assert repr(seen[0]).startswith("<Progress planned")
    seen.clear()
    cache.pull([info.store_path for info in cache], tmp_path / "into", trusted=None, progress=progress)
    assert {event.kind for event in seen} >= {"planned", "started", "received", "fetched", "published"}
    seen.clear()
    cache.audit(contents=True, progress=progress)
    assert {event.kind for event in seen} >= {"listed", "read", "contents", "contents-read"}


def test_an_exception_in_a_callback_ends_the_work(cache: Cache, tmp_path: Path) -> None:
    def progress(event: Progress) -> None:
        raise RuntimeError(event.kind)

    with pytest.raises(RuntimeError, match="planned"):
        cache.pull([info.store_path for info in cache], tmp_path / "into", trusted=None, progress=progress)
    with pytest.raises(RuntimeError):
        cache.audit(progress=progress)


def test_what_is_no_cache_is_told(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheError, match="is it a cache"):
        Cache(tmp_path / "empty")
    with pytest.raises(CacheContentError, match="is for the store"):
        Cache(tmp_path / "cache", create=True, store_dir="/other/store")
    with pytest.raises(GraphError, match="not in the graph"):
        (tmp_path / "none.json").write_text("[]")
        cache.push(f"{'0' * 32}-absent", source=f"json:{tmp_path / 'none.json'}")


def test_a_forked_process_reaches_caches_too(cache: Cache) -> None:
    import multiprocessing

    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.apply_async(count, (cache.url,)).get(30) == 2


def count(url: str) -> int:
    return len(list(Cache(url)))


def test_a_collection_empties_no_cache_and_removes_nothing_that_no_root_has_listed(tmp_path: Path, tree: Path) -> None:
    cache = Cache(tmp_path / "cache", create=True)
    cache.push(add={"tree": tree}, root=None)
    none = timedelta()
    kept = cache.gc(grace=none, keep_last=3)
    assert (len(kept), kept.unrooted, kept.problems) == (0, 1, [])
    for _ in range(2):
        with pytest.raises(CacheError, match="no root, lease or named path"):
            cache.gc(grace=none, keep_last=3, unrooted="remove")
    assert len(list(cache)) == 1
    assert len(cache.gc(grace=none, unrooted=timedelta(days=1), dry_run=True)) == 0
    with pytest.raises(ValueError, match="unrooted is"):
        cache.gc(unrooted="all")  # type: ignore[arg-type]
    assert len(cache.gc(grace=none, unrooted="remove", allow_empty=True, patience=none, rate=1000)) > 0
    assert len(list(cache)) == 0


def test_a_path_to_keep_that_the_cache_has_not_is_told(cache: Cache) -> None:
    absent = StorePath(f"{'0' * 32}-absent")
    with pytest.warns(RuntimeWarning, match="0-absent: is to be kept"):
        assert cache.gc(root_paths=[absent], dry_run=True).absent == [absent]


class Plain(SimpleHTTPRequestHandler):
    """A web server that takes files, and lists none."""

    def do_PUT(self) -> None:
        file = Path(self.translate_path(self.path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    handler = partial(Plain, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_named_root_that_cannot_be_left_is_an_error(
    plain: str, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(plain, create=True)
    for root in ["release", "default"]:
        with pytest.raises(CacheError, match=f"everything is published, but the root {root} was not left: .*") as raised:
            cache.push(add={"tree": tree}, root=root)
        assert raised.value.path == cache.url
    pushed = cache.push(add={"tree": tree})
    assert pushed and pushed.root is None and pushed.notes and cache.narinfo(pushed.added[0])
    assert any("no root release can be left" in message for message in caplog.messages)
    caplog.clear()
    assert cache.push(add={"tree": tree}, root=None).root is None
    assert not any("root" in message for message in caplog.messages)


def test_a_broken_root_is_told_and_stops_no_other(tmp_path: Path, tree: Path) -> None:
    cache = Cache(tmp_path / "cache", create=True)
    cache.push(add={"tree": tree}, root="feature/x")
    broken = tmp_path / "cache/nixcache/v1/roots/other/1.json"
    broken.parent.mkdir()
    broken.write_text("{")
    with pytest.warns(RuntimeWarning, match="other/1.json"):
        assert [root.name for root in cache.roots()] == ["feature/x"]
    with pytest.warns(RuntimeWarning, match="kept all that it may list"):
        assert len(cache.gc(grace=timedelta()).problems) == 1
    assert cache.remove_roots("other", generation="1") == 1
    assert len(cache.roots()) == 1


def test_what_a_root_keeps_stays_and_the_rest_goes(tmp_path: Path, tree: Path) -> None:
    cache = Cache(tmp_path / "cache", create=True)
    kept = cache.push(add={"tree": tree}, root="main", labels={"commit": "abc"}).added
    cache.push(add={"other": tree / "bin"}, root="feature")
    main, feature = cache.roots("main")[0], cache.roots("feature")[0]
    assert (main.targets, main.paths, main.pinned, main.labels) == (kept, 1, False, {"commit": "abc"})
    assert main.used is not None and main.file_size > 0 and {root.name for root in cache.roots()} == {"main", "feature"}
    none = timedelta()
    assert len(cache.gc(grace=none)) == 0
    cache.remove_root(feature)
    assert cache.amend_root(main, pinned=True, labels={}).pinned
    would = cache.gc(grace=none, keep_last=0, dry_run=True)
    assert {why for why, _ in would.objects} == {"listing", "path"} and len(list(cache)) == 2
    cache.gc(grace=none, keep_last=0)
    gone = cache.gc(grace=none, keep_last=0)
    assert {why for why, _ in gone.objects} == {"nar", "snapshot"} and gone.size > 0
    assert [info.store_path for info in cache] == kept
    assert [(root.pinned, root.labels) for root in cache.roots()] == [(True, {})]
    assert not cache.audit(contents=True).faults
    with pytest.raises(ValueError, match="no name for a root"):
        cache.roots("a//b")
    cache.push(add={"third": tree / "bin"}, root=None)
    assert len(cache.roots()) == 1


def test_roots_go_with_their_closures_to_another_cache(tmp_path: Path, tree: Path) -> None:
    source = Cache(tmp_path / "cache", create=True)
    pushed = source.push(add={"tree": tree}, root="main", keys=[KEY], labels={"commit": "abc"})
    assert pushed.root is not None and pushed.notes == [] and len(pushed.root.signatures) == 1
    trusted = TRUSTED
    copy = Cache(tmp_path / "copy", create=True)
    pulled = source.pull(None, copy, trusted=trusted, roots=True, touch=True)
    assert pulled and [(root.generation, root.labels) for root in pulled.roots] == [
        (pushed.root.generation, {"commit": "abc"})
    ]
    assert len(source.pull(None, tmp_path / "store", trusted=trusted, root="main").fetched) == 1
    named = source.pull(pushed.added, copy, trusted=trusted, root="mine")
    assert [root.name for root in named.roots] == ["mine"] and {root.name for root in copy.roots()} == {"main", "mine"}
    absent = "/nix/store/00000000000000000000000000000000-absent"
    some = source.pull([*pushed.added, absent], tmp_path / "some", trusted=trusted, keep_going=True)
    assert not some and len(some.fetched) == 1 and [path for path, _ in some.missing] == [absent]
    with pytest.raises(ValueError, match="says what to fetch"):
        source.pull(None, copy, trusted=trusted)
    with pytest.raises(ValueError, match="another cache"):
        source.pull(pushed.added, tmp_path / "store", trusted=trusted, root="x")


def test_a_root_that_a_pull_leaves_has_labels_and_signatures(cache: Cache, tmp_path: Path) -> None:
    path = next(iter(cache)).store_path
    into = Cache(tmp_path / "into", create=True)
    labels = {"commit": "abc"}
    assert cache.pull(path, into, trusted=TRUSTED, root="release", labels=labels, keys=[KEY])
    [root] = into.roots()
    assert (root.name, root.labels, root.targets) == ("release", labels, [path])
    assert [signature.split(":")[0] for signature in root.signatures] == [KEY.name]
    for arguments in [{"labels": labels}, {"keys": [KEY]}]:
        with pytest.raises(ValueError, match="labels and keys are for the root"):
            cache.pull(path, into, trusted=TRUSTED, **arguments)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="labels and keys are for the root"):
            cache.pull(None, into, trusted=TRUSTED, root="release", **arguments)  # type: ignore[arg-type]


def test_a_queue_is_published_and_what_cannot_be_is_set_aside(cache: Cache, tmp_path: Path) -> None:
    paths = [info.store_path for info in cache]
    pulled = cache.pull(paths, tmp_path / "store", trusted=TRUSTED)
    (tmp_path / "registration").write_bytes(pulled.registration())
    source, store = f"registration:{tmp_path / 'registration'}", tmp_path / "store"
    (tmp_path / "queue").mkdir()
    queue, to = Queue(tmp_path / "queue"), Cache(tmp_path / "to", create=True)
    assert queue.is_empty and queue.directory == tmp_path / "queue" and "queue" in repr(queue)
    for path in paths:
        entry = queue.add(path)
        assert entry.parent == queue.directory and entry.read_text() == f"{path.display()}\n"
    wrong = queue.add([f"/nix/store/{'0' * 32}-absent"])
    seen: list[str] = []
    drained = queue.drain(
        to, source=source, store=store, root="builds", keys=[KEY], progress=lambda event: seen.append(event.kind)
    )
    assert not drained and (drained.published, drained.kept) == (2, [])
    [(name, [reason])] = drained.set_aside
    assert name == wrong.name and "not in the store" in reason
    assert (tmp_path / "queue/failed" / f"{name}.reason").exists() and queue.is_empty
    assert sorted(drained.pushed.published) == sorted(paths) and "published" in seen
    assert [root.name for root in to.roots()] == ["builds"] and to.missing(paths) == []
    assert repr(drained) == "<Drained: 2 entries; 1 set aside, 0 kept>"
    assert queue.drain(to, source=source, store=store)
    with pytest.raises(ValueError, match="one path at least"):
        queue.add([])
    with pytest.raises(ValueError, match="whole paths"):
        queue.add(paths[0].hash_part)
    with pytest.raises(SourceError) as raised:
        Queue(tmp_path / "nowhere").drain(to, source=source)
    assert raised.value.path == str(tmp_path / "nowhere") and raised.value.errno == 2


def test_a_push_that_keeps_going_names_the_absent_paths(cache: Cache, tmp_path: Path) -> None:
    paths = [info.store_path for info in cache]
    pulled = cache.pull(paths, tmp_path / "store", trusted=TRUSTED)
    (tmp_path / "registration").write_bytes(pulled.registration())
    source, absent = f"registration:{tmp_path / 'registration'}", f"{'0' * 32}-absent"
    with pytest.raises(GraphError, match="absent"):
        Cache(tmp_path / "to", create=True).push([absent, *paths], source=source, store=tmp_path / "store")
    # The push that failed has removed the cache that was made for it.
    to = Cache(tmp_path / "to", create=True)
    pushed = to.push([absent, *paths], source=source, store=tmp_path / "store", keep_going=True)
    assert not pushed and sorted(pushed.published) == sorted(paths)
    assert pushed.failed == [(absent, "not in the source")]


def test_a_set_up_is_checked(cache: Cache, tmp_path: Path) -> None:
    checks = {check.subject: check for check in doctor(cache.url, keys=[KEY], trusted=TRUSTED, write=True)}
    assert {checks[name].outcome for name in ["cache", "listing", "nars", "signatures", "write", "delete"]} == {"ok"}
    assert not [name for name in (tmp_path / "cache/nixcache/v1").iterdir() if "doctor" in name.name]
    [problem] = [check for check in doctor(tmp_path / "missing") if check.outcome == "problem"]
    assert problem.subject == "cache" and problem.advice and "missing" in problem.message and "cache" in repr(problem)
