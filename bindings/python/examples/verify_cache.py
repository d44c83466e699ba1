"""Verifies a cache, and fails if anything in it is not good: for a job in CI.

    python verify_cache.py CACHE PUBLIC_KEY... [--contents]
"""

import argparse
import sys

from nixcache import Cache, TrustedKeys


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache")
    parser.add_argument("keys", nargs="+", metavar="key", help="name:base64, as `nix key convert-secret-to-public` prints it")
    parser.add_argument("--contents", action="store_true", help="read all NARs, too")
    arguments = parser.parse_args()

    cache = Cache(arguments.cache)
    audited = cache.audit(trusted=TrustedKeys(arguments.keys), contents=arguments.contents, notes=False)
    for finding in audited.faults:
        print(f"{finding} ({finding.path})", file=sys.stderr)
    if audited.faults:
        return 1
    print(f"{audited.narinfos} paths, all of them good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
