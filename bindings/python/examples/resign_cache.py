"""Signs all of a cache with a new key, and drops the signatures of an old one.

Nothing else of a narinfo changes. Other writers may work at the same time.

    python resign_cache.py CACHE SECRET_KEY_FILE [--remove OLD_KEY_NAME]
"""

import argparse
from pathlib import Path

from nixcache import Cache, NarInfo, SecretKey


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache")
    parser.add_argument("key", type=Path)
    parser.add_argument("--remove", action="append", default=[], metavar="NAME")
    arguments = parser.parse_args()

    key = SecretKey.parse(arguments.key.read_text())

    def change(info: NarInfo) -> NarInfo:
        for name in arguments.remove:
            info = info.unsign(name)
        return info.sign(key)

    cache = Cache(arguments.cache)
    changed = [cache.edit(info.store_path, change) for info in cache]
    print(f"{sum(changed)} of {len(changed)} narinfos changed")


if __name__ == "__main__":
    main()
