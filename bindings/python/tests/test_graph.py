"""Graphs: closures, referrers, sizes, differences, and how they show themselves."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from conftest import digits, infos

from nixcache import Graph, GraphError, Hash, NarInfo, PathInfoError, StorePath


def path(number: int) -> StorePath:
    return StorePath(f"{digits(number)}-p{number}")


def test_a_chain_is_followed() -> None:
    graph = Graph.from_narinfos(infos(5))
    assert len(graph) == 5 and list(graph) == [path(n) for n in range(5)]
    assert list(graph.closure(path(3))) == [path(n) for n in range(4)]
    assert list(graph.referrers_closure(path(3))) == [path(4), path(3)] or set(graph.referrers_closure(path(3))) == {path(3), path(4)}
    assert graph.references(path(3)) == [path(2), path(3)]
    assert graph.referrers(path(3)) == [path(3), path(4)]
    assert graph.roots() == [path(4)]
    assert graph.nar_size(path(3)) == 1003
    assert graph.closure_size(path(3)) == 4006
    assert graph.closure_sizes()[path(3)] == 4006
    assert graph.why(path(4), path(2)) == [path(4), path(3), path(2)]
    assert graph.why(path(2), path(4)) is None
    assert graph.added_sizes(path(4)) == {path(n): graph.closure_size(path(n)) for n in range(5)}
    assert graph.between(path(4), [path(2)]) == [path(2), path(3), path(4)]
    assert graph.between(path(2), path(4)) == []
    assert graph.closure(path(4)).named("p2") == [path(2)]


@pytest.mark.parametrize("name", [lambda p: p, str, lambda p: p.display(), lambda p: p.hash_part, lambda p: Path(p.display())])
def test_paths_are_named_in_many_ways(name: object) -> None:
    graph = Graph.from_narinfos(infos(3))
    named = name(path(1))  # type: ignore[operator]
    assert graph.closure_size(named) == 2001
    assert named in graph and named in graph.closure(named) and graph.is_present(named)
    assert len(graph.closure([named, path(0)])) == 2


def test_random_graphs_agree_with_a_simple_search() -> None:
    chance = random.Random(1)
    edges = {n: {chance.randrange(60) for _ in range(chance.randrange(4))} for n in range(60)}
    built = [
        NarInfo.build(path(n), url="x", nar_hash=Hash.of(b""), nar_size=n + 1, references=[path(m) for m in edges[n]])
        for n in edges
    ]
    chance.shuffle(built)
    graph = Graph.from_narinfos(built)
    sizes = graph.closure_sizes()
    for start in edges:
        found, todo = {start}, [start]
        while todo:
            new = edges[todo.pop()] - found
            found |= new
            todo += new
        closure = graph.closure(path(start))
        assert set(closure) == {path(n) for n in found} and len(closure) == len(found)
        assert closure.nar_size == sizes[path(start)] == sum(n + 1 for n in found)
        for other in range(60):
            assert (graph.why(path(start), path(other)) is None) == (other not in found)
            assert (path(start) in set(graph.referrers_closure(path(other)))) == (other in found)


def test_differences_say_what_is_missing_and_where_the_rest_is() -> None:
    graph = Graph.from_narinfos(infos(5))
    difference = graph.difference(path(4), [path(0)], [str(path(1)), path(0).hash_part])
    assert difference.missing == [path(2), path(3), path(4)]
    assert difference.found == [(path(0), 0), (path(1), 1)]
    assert difference.missing_size == 1002 + 1003 + 1004
    assert difference.unknown == []
    assert repr(difference) == "<Difference: 3 paths missing, 3009 bytes; 2 found>"
    holes = Graph.from_narinfos(list(infos(3))[1:])
    assert holes.difference(path(2)).unknown == [path(0)]
    assert path(0) in holes and not holes.is_present(path(0)) and holes.nar_size(path(0)) is None


def test_closures_are_sequences() -> None:
    closure = Graph.from_narinfos(infos(5)).closure(path(4))
    assert closure[0] == path(0) and closure[-1] == path(4) and closure[1:3] == [path(1), path(2)]
    with pytest.raises(IndexError):
        closure[5]
    assert closure.roots == [path(4)] and closure.cycles == []


def test_json_and_registrations_are_read(tmp_path: Path) -> None:
    records = [
        {"path": info.store_path.display(), "narHash": f"{info.nar_hash:sri}", "narSize": info.nar_size,
         "references": [reference.display() for reference in info.references]}
        for info in infos(4)
    ]
    text = json.dumps(records)
    (tmp_path / "infos.json").write_text(text)
    registration = "".join(
        f"{info.store_path.display()}\n{info.nar_hash.display_digest('base16')}\n{info.nar_size}\n\n"
        f"{len(info.references)}\n" + "".join(f"{reference.display()}\n" for reference in info.references)
        for info in infos(4)
    ).encode()
    (tmp_path / "registration").write_bytes(registration)
    expected = Graph.from_narinfos(infos(4)).closure_sizes()
    for graph in (
        Graph.from_json(text.encode()),
        Graph.from_json(tmp_path / "infos.json"),
        Graph.from_json((tmp_path / "infos.json").open("rb")),
        Graph.from_registration(registration),
        Graph.from_registration(io.BytesIO(registration)),
        Graph.load(f"json:{tmp_path / 'infos.json'}"),
        Graph.load(f"registration:{tmp_path / 'registration'}", f"json:{tmp_path / 'infos.json'}"),
    ):
        assert graph.closure_sizes() == expected
    with pytest.raises(PathInfoError):
        Graph.from_registration(registration[:-5])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(PathInfoError) as raised:
        Graph.load(f"json:{tmp_path / 'bad.json'}")
    assert raised.value.path == str(tmp_path / "bad.json")


def test_contradictions_are_refused() -> None:
    first, second = infos(2)
    liar = NarInfo.build(first.store_path, url="x", nar_hash=first.nar_hash, nar_size=7)
    with pytest.raises(GraphError) as raised:
        Graph.from_narinfos([first, second, liar])
    assert raised.value.paths == (first.store_path,)
    for call in (Graph.closure, Graph.references, Graph.closure_size):
        with pytest.raises(GraphError, match="not in the graph"):
            call(Graph.from_narinfos([first]), path(7))


def test_notebooks_show_a_table_and_a_treemap() -> None:
    graph = Graph.from_narinfos(infos(60))
    html = graph.closure(path(59))._repr_html_()
    assert html.startswith("<table>") and html.endswith("</table>") and html.count("<tr>") == 52
    assert "p59" in html and "and 10 more" in html and "60 paths" in html
    assert "<table>" in graph._repr_html_()
    page = graph.closure(path(59)).treemap()
    assert page.lower().startswith("<!doctype html>") and "Closure of p59" in page and "treemap" in page.lower()
    assert len(graph.treemap()) > 1000
