# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots inside a qcow2 image: ``savevm`` and ``snapshot-save`` write the stream there.

QEMU documents the format in docs/interop/qcow2.rst.  The VM state of a snapshot is stored like
the disk's content, from the first entry of the snapshot's L1 table that is not the disk's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from .source import Source, shown

__all__ = ["MAGIC", "VMState", "open_snapshot"]

MAGIC = b"QFI\xfb"

_DIRTY, _CORRUPT, _EXTERNAL, _COMPRESSION, _EXTENDED = (1 << bit for bit in range(5))
_READABLE = _DIRTY | _CORRUPT | _COMPRESSION | _EXTENDED
_OFFSET = (1 << 56) - (1 << 9)
_COMPRESSED, _ZERO = 1 << 62, 1

# QEMU's own limits.
_MOST_SNAPSHOTS = 1 << 16
_LONGEST_TABLE = 1 << 26
_MOST_EXTRA = 1 << 10
_LONGEST_L1 = 1 << 25
_MOST_LISTED = 20
_CONFIGURATION = 1 << 12
"""How much of a VM state surely has the configuration, which names the capabilities."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """An entry of the snapshot table."""

    id: str
    name: str
    l1_offset: int
    l1_size: int
    state_size: int
    disk_size: int

    def __str__(self) -> str:
        state = f"VM state of {self.state_size} bytes" if self.state_size else "without VM state"
        return f"{self.name!r} (id {self.id}, {state})"


class _Image:
    """The header of an image, and its snapshots."""

    def __init__(self, source: Source, at: int) -> None:
        self.source = source
        if at:
            self.refuse(f"begins at byte {at}, and is read only from the beginning of a file")
        what = "the qcow2 header"
        version = source.be32(4, what)
        if version not in (2, 3):
            self.refuse(f"is of version {version}, and 2 and 3 are known")
        self.cluster_bits = source.be32(20, what)
        if not 9 <= self.cluster_bits <= 21:
            self.refuse(
                f"has clusters of 2**{self.cluster_bits} bytes, and 2**9 to 2**21 are known"
            )
        if method := source.be32(32, what):
            self.refuse(f"is encrypted (crypt_method {method}), which is not read")
        self.disk_size = source.be64(24, what)
        features = source.be64(72, what) if version == 3 else 0
        if features & _EXTERNAL:
            self.refuse("has its data in another file, and such an image has no snapshots")
        if unknown := features & ~_READABLE:
            self.refuse(f"has unknown incompatible features ({unknown:#x})")
        self.extended = bool(features & _EXTENDED)
        if self.extended and self.cluster_bits < 14:
            self.refuse(f"has extended L2 entries in clusters of 2**{self.cluster_bits} bytes")
        self.snapshots = self._read_snapshots(source.be32(60, what), source.be64(64, what))

    def refuse(self, reason: str) -> NoReturn:
        raise self.source.error(f"this qcow2 image {reason}")

    def _read_snapshots(self, count: int, begin: int) -> list[_Snapshot]:
        if count > _MOST_SNAPSHOTS:
            self.refuse(f"has {count} snapshots, and {_MOST_SNAPSHOTS} is the most")
        snapshots, at = [], begin
        for _ in range(count):
            snapshot, at = self._read_snapshot(at)
            if at - begin > _LONGEST_TABLE:
                self.refuse(f"has a snapshot table of more than {_LONGEST_TABLE} bytes")
            snapshots.append(snapshot)
        return snapshots

    def _read_snapshot(self, at: int) -> tuple[_Snapshot, int]:
        """Return the entry of the snapshot table at *at*, and where the next one begins."""
        source, what = self.source, "the snapshot table"
        id_length, name_length = source.be16(at + 12, what), source.be16(at + 14, what)
        extra = source.be32(at + 36, what)
        if extra > _MOST_EXTRA:
            self.refuse(f"has {extra} bytes of extra data in the snapshot table at byte {at}")
        words = at + 40 + extra
        end = words + id_length + name_length
        snapshot = _Snapshot(
            id=shown(source.at(words, id_length, what)),
            name=shown(source.at(words + id_length, name_length, what)),
            l1_offset=source.be64(at, what),
            l1_size=source.be32(at + 8, what),
            # What the extra data lacks is that of an image before version 3.
            state_size=source.be64(at + 40, what) if extra >= 8 else source.be32(at + 32, what),
            disk_size=source.be64(at + 48, what) if extra >= 16 else self.disk_size,
        )
        return snapshot, at + (end - at + 7) // 8 * 8

    def find(self, wanted: str) -> _Snapshot:
        """Return the snapshot of that name, or else of that id."""
        same = [s for s in self.snapshots if s.name == wanted]
        same = same or [s for s in self.snapshots if s.id == wanted]
        if not same:
            self.refuse(f"has no snapshot {wanted!r}: {self.listed()}")
        if len(same) > 1:
            self.refuse(
                f"has several snapshots {wanted!r}, which only their id tells apart: "
                f"{self.listed()}"
            )
        if not same[0].state_size:
            self.refuse(
                f"has no VM state in the snapshot {wanted!r}: it is in another disk of the VM, or "
                f"the VM was off; {self.listed()}"
            )
        return same[0]

    def listed(self) -> str:
        """Return a part of a sentence with all snapshots."""
        if not self.snapshots:
            return "it has none"
        few = ", ".join(map(str, self.snapshots[:_MOST_LISTED]))
        more = len(self.snapshots) - _MOST_LISTED
        return f"it has {few}" + (f" and {more} more" if more > 0 else "")


class VMState(Source):
    """The VM state of a snapshot, which closes the image's *source* when it is closed."""

    noun = "VM state"

    def __init__(self, image: _Image, snapshot: _Snapshot) -> None:
        self.path, self.size = image.source.path, snapshot.state_size
        self.permissions = image.source.permissions
        self._base, self._window = 0, b""
        self._image = image.source
        self._snapshot = snapshot
        self._cluster_bits = image.cluster_bits
        self._extended = image.extended
        self._entry_size = 16 if image.extended else 8
        self._l2_reach = (1 << image.cluster_bits) // self._entry_size << image.cluster_bits
        self._first = -(-snapshot.disk_size // self._l2_reach)
        self._l2_index, self._l2 = -1, b""
        room = max(0, snapshot.l1_size - self._first) * self._l2_reach
        if snapshot.l1_size * 8 > _LONGEST_L1 or self.size > room:
            image.refuse(
                f"has the snapshot {snapshot}, and its L1 table of {snapshot.l1_size} entries "
                f"({_LONGEST_L1 // 8} at most) has room for {room} bytes of VM state"
            )

        # With mapped-ram QEMU counts what it writes in sequence, and neither bitmaps nor pages.
        if b"mapped-ram" in self._pread(0, _CONFIGURATION):
            self.size = max(self.size, self._end_of_clusters(snapshot.l1_size - self._first))

    def __exit__(self, *exc: object) -> None:
        self._image.__exit__(*exc)

    def _end_of_clusters(self, count: int) -> int:
        """Return the end of the VM state's last cluster; *count* L1 entries are its."""
        at = self._snapshot.l1_offset + 8 * self._first
        l1 = self._image.at(at, 8 * count, f"the L1 table of the snapshot {self._snapshot.name!r}")
        tables = -(-len(l1.rstrip(b"\0")) // 8)
        clusters = -(-len(self._load_l2(tables - 1).rstrip(b"\0")) // self._entry_size)
        return (tables - 1) * self._l2_reach + (clusters << self._cluster_bits)

    def _pread(self, offset: int, length: int) -> bytes:
        parts = []
        end = min(offset + length, self.size)
        while offset < end:
            host, count = self._find(offset)
            count = min(count, end - offset)
            what = f"the VM state of the snapshot {self._snapshot.name!r}"
            parts.append(bytes(count) if host is None else self._image.at(host, count, what))
            offset += count
        return b"".join(parts)

    def _find(self, offset: int) -> tuple[int | None, int]:
        """Return where in the file the byte at *offset* is, if anywhere, and how many follow."""
        table = self._load_l2(offset // self._l2_reach)
        cluster_size = 1 << self._cluster_bits
        number, within = divmod(offset % self._l2_reach, cluster_size)
        if not table:
            return None, self._l2_reach - offset % self._l2_reach
        at = number * self._entry_size
        entry = int.from_bytes(table[at : at + 8])
        if entry & _COMPRESSED:
            raise self._image.error(
                f"the VM state of the snapshot {self._snapshot.name!r} has a compressed cluster at "
                f"its byte {offset - within}, which QEMU never writes there"
            )
        host = self._aligned(entry & _OFFSET, f"the cluster of its byte {offset - within}")
        if not self._extended:
            is_hole = not host or entry & _ZERO
            return None if is_hole else host + within, cluster_size - within
        size = cluster_size // 32
        bit = 1 << within // size
        allocated = int.from_bytes(table[at + 8 : at + 16]) & bit
        return host + within if host and allocated else None, size - within % size

    def _load_l2(self, index: int) -> bytes:
        """Return an L2 table, by its number among those of the VM state; empty if there is none."""
        if index != self._l2_index:
            at = self._snapshot.l1_offset + 8 * (self._first + index)
            entry = self._image.be64(at, f"the L1 table of the snapshot {self._snapshot.name!r}")
            what = f"the L2 table {index}"
            offset = self._aligned(entry & _OFFSET, what)
            size = 1 << self._cluster_bits
            self._l2 = self._image.at(offset, size, what) if offset else b""
            self._l2_index = index
        return self._l2

    def _aligned(self, offset: int, what: str) -> int:
        if offset % (1 << self._cluster_bits):
            raise self._image.error(
                f"{what} of the VM state of the snapshot {self._snapshot.name!r} is at byte "
                f"{offset}, which is inside a cluster of 2**{self._cluster_bits} bytes"
            )
        return offset


def open_snapshot(source: Source, at: int, wanted: str | None) -> tuple[VMState, str]:
    """Return the VM state of the snapshot called *wanted*, and a description of where it is."""
    image = _Image(source, at)
    if wanted is None:
        image.refuse(f"is read by the name of a snapshot (--snapshot NAME): {image.listed()}")
    snapshot = image.find(wanted)
    return VMState(
        image, snapshot
    ), f"snapshot {snapshot.name!r} (id {snapshot.id}) in a qcow2 image"
