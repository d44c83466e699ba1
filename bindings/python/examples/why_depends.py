"""Finds which package brings in a dependency: the shortest chain of references to a path of that name.

    python why_depends.py PATH NAME [--source db:FILE]
"""

import argparse
import sys

from nixcache import Graph


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("name", help="the beginning of the dependency's name: openssl-1")
    parser.add_argument("--source", help="db:FILE, json:FILE, registration:FILE; the Nix that is installed here, if not given")
    arguments = parser.parse_args()

    graph = Graph.load(arguments.source) if arguments.source else Graph.from_database()
    closure = graph.closure(arguments.path)
    chains = [graph.why(arguments.path, path) or [] for path in closure if path.name.startswith(arguments.name)]
    if not chains:
        print(f"nothing in the closure is named {arguments.name}", file=sys.stderr)
        return 1
    shortest = min(chains, key=lambda chain: len(chain))
    for depth, path in enumerate(shortest):
        print("  " * depth + path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
