"""Nix's base32: an alphabet without `e`, `o`, `t` and `u`, and the last digit first."""

from _typeshed import ReadableBuffer

__all__ = ["ALPHABET", "decode", "encode"]

ALPHABET: str

def decode(text: str, /) -> bytes: ...
def encode(data: ReadableBuffer, /) -> str: ...
