"""Prints one file out of a NAR, compressed or not.

    python read_member.py NAR PATH
"""

import argparse
import shutil
import sys

from nixcache import nar


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("nar")
    parser.add_argument("member", help="bin/hello")
    arguments = parser.parse_args()

    try:
        with nar.open(arguments.nar, arguments.member) as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    except KeyError:
        print(f"{arguments.nar}: has no {arguments.member}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
