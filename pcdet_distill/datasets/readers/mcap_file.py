"""Read MCAP files of any profile: ROS 2, ROS 1, and those whose writer names none.

A file is a row of records: a byte for the kind, eight for the length, the content. Messages stand
in chunks, which may be compressed. The summary at the end names the channels and their numbers of
messages, so that only the chunks must be read for the messages themselves.
"""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ...errors import DataError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0B, 0x0F
RECORD_HEAD = struct.Struct("<BQ")
FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MAGIC)
# Modules with a function ``decompress``, the first that is installed; rosbags brings one of each.
DECOMPRESSORS = {
    "zstd": ("compression.zstd", "backports.zstd", "zstandard"),
    "lz4": ("lz4.frame",),
}


@dataclass(frozen=True)
class Encoding:
    """How the messages of a channel are written: ``cdr`` in ROS 2, ``ros1`` in ROS 1."""

    serialization_format: str


@dataclass(frozen=True)
class Channel:
    """A topic with its type, named as rosbags names them."""

    id: int
    topic: str
    msgtype: str
    ext: Encoding
    msgcount: int = 0


class McapFile:
    """An MCAP file as a context manager, with the two things that ``bags`` uses of rosbags."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: dict[int, int] = {}

    def __enter__(self) -> McapFile:
        self._file = self.path.open("rb")
        try:
            self._read_channels()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def connections(self) -> list[Channel]:
        """The channels, with their numbers of messages."""
        return [
            replace(channel, msgcount=self._counts.get(number, 0))
            for number, channel in self._channels.items()
        ]

    def messages(self, connections: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, time of recording in nanoseconds and bytes of each message of the channels."""
        channels = {channel.id: channel for channel in connections}
        self._file.seek(len(MAGIC))
        for kind, content in self._records(self._file):
            if kind != MESSAGE:
                continue
            number, _, logged_ns = struct.unpack_from("<HIQ", content)
            if number in channels:
                yield channels[number], logged_ns, content[22:]

    def _read_channels(self) -> None:
        """The channels and counts of the summary, or of the whole file if it has none."""
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(max(0, size - FOOTER_BYTES))
        footer = self._file.read()
        if size < FOOTER_BYTES + len(MAGIC) or not footer.endswith(MAGIC):
            raise DataError(f"{self.path}: truncated or damaged: its end is missing")
        (summary_start,) = struct.unpack_from("<Q", footer, RECORD_HEAD.size)
        if summary_start:
            self._file.seek(summary_start)
            for kind, content in self._records(self._file):
                if kind == STATISTICS:
                    self._counts = _counts_of(content)
        if self._counts and self._channels:
            return
        self._file.seek(len(MAGIC))
        self._counts = {}
        for kind, content in self._records(self._file):
            if kind == MESSAGE:
                (number,) = struct.unpack_from("<H", content)
                self._counts[number] = self._counts.get(number, 0) + 1

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """The records up to the end of the data or of the file, also those inside chunks."""
        while True:
            head = file.read(RECORD_HEAD.size)
            if len(head) < RECORD_HEAD.size:
                return
            kind, length = RECORD_HEAD.unpack(head)
            content = file.read(length)
            if len(content) < length or kind == DATA_END:
                return
            if kind == SCHEMA:
                self._add_schema(content)
            elif kind == CHANNEL:
                self._add_channel(content)
            elif kind == CHUNK:
                yield from self._records(io.BytesIO(self._inside(content)))
            yield kind, content

    def _add_schema(self, content: bytes) -> None:
        (number,) = struct.unpack_from("<H", content)
        self._schemas[number] = _text(content, 2)[0]

    def _add_channel(self, content: bytes) -> None:
        number, schema = struct.unpack_from("<HH", content)
        topic, position = _text(content, 4)
        encoding = Encoding(_text(content, position)[0])
        name = self._schemas.get(schema, "without schema")
        self._channels[number] = Channel(number, topic, name, encoding)

    def _inside(self, chunk: bytes) -> bytes:
        """The records of a chunk."""
        size, checksum = struct.unpack_from("<QI", chunk, 16)
        compression, position = _text(chunk, 28)
        records = chunk[position + 8 :]
        if compression:
            records = _decompressor(self.path, compression)(records)
        if len(records) != size or (checksum and zlib.crc32(records) != checksum):
            raise DataError(f"{self.path}: truncated or damaged: a chunk has a wrong checksum")
        return records


def _text(content: bytes, position: int) -> tuple[str, int]:
    """A text with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", content, position)
    end = position + 4 + length
    return content[position + 4 : end].decode(errors="replace"), end


def _counts_of(statistics: bytes) -> dict[int, int]:
    """Messages by the number of their channel."""
    pairs = statistics[46:]
    return dict(struct.iter_unpack("<HQ", pairs))


def _decompressor(path: Path, compression: str) -> Callable[[bytes], bytes]:
    for module in DECOMPRESSORS.get(compression, ()):
        try:
            return importlib.import_module(module).decompress
        except ImportError:
            continue
    raise DataError(f"{path}: its compression '{compression}' needs a package that is missing")
