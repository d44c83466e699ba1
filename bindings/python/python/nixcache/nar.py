"""NARs: trees as one deterministic stream of bytes.

Sources are paths, buffers and binary file objects. All functions except `events` also accept
compressed sources. The compression is detected by the first bytes, except for brotli.
"""

from ._member import Member, open
from ._nixcache import nar as _nar

Contents = _nar.Contents
Directory = _nar.Directory
End = _nar.End
Events = _nar.Events
File = _nar.File
Listing = _nar.Listing
Node = _nar.Node
Observation = _nar.Observation
Symlink = _nar.Symlink
check = _nar.check
events = _nar.events
hash = _nar.hash
listing = _nar.listing
pack = _nar.pack
unpack = _nar.unpack

__all__ = [
    "Contents",
    "Directory",
    "End",
    "Events",
    "File",
    "Listing",
    "Member",
    "Node",
    "Observation",
    "Symlink",
    "check",
    "events",
    "hash",
    "listing",
    "open",
    "pack",
    "unpack",
]
