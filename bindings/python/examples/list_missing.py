"""Lists what a push would upload: the paths of a closure that a cache lacks, with their sizes.

    python list_missing.py CACHE PATH... [--source db:FILE]
"""

import argparse

from nixcache import Cache, Graph


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache")
    parser.add_argument("paths", nargs="+", metavar="path")
    parser.add_argument("--source", help="db:FILE, json:FILE, registration:FILE; the Nix that is installed here, if not given")
    arguments = parser.parse_args()

    graph = Graph.load(arguments.source) if arguments.source else Graph.from_database()
    missing = Cache(arguments.cache).missing(graph.closure(arguments.paths))
    for path in missing:
        print(path.display(), graph.nar_size(path) or "?")
    total = sum(graph.nar_size(path) or 0 for path in missing)
    print(f"{len(missing)} paths, {total} bytes")


if __name__ == "__main__":
    main()
