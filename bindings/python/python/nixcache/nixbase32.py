"""Nix's base32: an alphabet without `e`, `o`, `t` and `u`, and the last digit first."""

from ._nixcache import nixbase32 as _nixbase32

ALPHABET = _nixbase32.ALPHABET
decode = _nixbase32.decode
encode = _nixbase32.encode

__all__ = ["ALPHABET", "decode", "encode"]
