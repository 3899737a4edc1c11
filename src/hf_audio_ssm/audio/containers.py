# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the bytes of an audio file say about themselves, before a decoder reads them: whether they are audio at all, whether their
sizes were ever written, and where they end. Nothing is decoded here, and nothing is believed that the file's size contradicts.
"""

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .mpeg import find_mpeg


# Sizes that writers to a pipe leave in a header: ffmpeg, SoX, arecord. No file holds as much.
UNKNOWN_SIZES = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**64 - 1)
# More chunks before the audio are not looked through.
MAX_CHUNKS = 1000
CHUNK_NAME = re.compile(rb"[ -~]{4}")
# Less behind the audio is a tag, or rubbish.
MIN_APPENDED_BYTES = 1024
# What the beginning of a file that is no audio says it is.
OTHER_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"{\\rtf", "RTF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"(\xb5/\xfd", "Zstandard"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "HDF5"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
)
# Audio that libsndfile does not decode.
OTHER_AUDIO = (
    (b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (b"#!AMR", "AMR"),
    (b"MAC ", "Monkey's Audio"),
    (b"wvpk", "WavPack"),
    (b"TTA1", "True Audio"),
    (b"DSD ", "DSD"),
    (b"MThd", "MIDI"),
    (b".RMF", "RealMedia"),
    (b"FLV\x01", "Flash video"),
    (b"\xff\xf1", "AAC"),
    (b"\xff\xf9", "AAC"),
)
# What libsndfile decodes and looks like text at first.
AUDIO_BEGINNINGS = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"fLaC", b"OggS", b"ID3", b".snd", b"dns.", b"caff"),
    *(b"NIST_1A", b"Creative Voice", b" paf", b"fap ", b"PVF1", b"2BIT", b"Extended Instrument", b"ALaw", b"MATLAB 5"),
)
MARKUP = (
    (re.compile(rb"<(!doctype html|html|head|body|title|script|meta|div|p>|!--)", re.IGNORECASE), "HTML"),
    (re.compile(rb"<\?xml|<[a-z]", re.IGNORECASE), "XML"),
    (re.compile(rb"[{\[]"), "JSON"),
)


def begins_like(beginning: bytes) -> str | None:
    """
    What a file that no decoder can read is, by its first bytes.

    Args:
        beginning (`bytes`): The first 512 bytes, or all of a shorter file.

    Returns:
        `str`, *optional*: Such as "HTML" or "a ZIP archive"; `None` if it may be audio.
    """
    if beginning.startswith(AUDIO_BEGINNINGS):
        return None
    if beginning[4:8] == b"ftyp":
        return "MP4, which is not supported: convert it to WAV or FLAC"
    for start, kind in OTHER_AUDIO:
        if beginning.startswith(start):
            return f"{kind}, which is not supported: convert it to WAV or FLAC"
    for start, kind in OTHER_KINDS:
        if beginning.startswith(start):
            return kind
    if not beginning.strip(b"\0"):
        return "zeros"
    return _text_kind(beginning)


def _text_kind(beginning: bytes) -> str | None:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if beginning.startswith(mark):
            beginning = beginning[: len(beginning) // 2 * 2].decode(encoding, "ignore").encode()
            break
    # The end may lie within a character.
    text = beginning.decode("utf-8", "ignore")
    if len(text.encode()) < len(beginning) - 3 or any(
        ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text
    ):
        return None
    stripped = beginning.lstrip()
    return next((kind for pattern, kind in MARKUP if pattern.match(stripped)), "text")


class Section(io.RawIOBase):
    """
    A part of a file that can seek, as a file of its own.

    Args:
        file (binary file): The file.
        start (`int`): Its first byte.
        end (`int`): The byte behind its last one.
        patches (`dict[int, bytes]`, *optional*): Bytes that are read in place of the file's own, by their position in the file.
        prefix (`bytes`, *optional*): What is read before it.
    """

    def __init__(
        self, file: BinaryIO, start: int, end: int, patches: dict[int, bytes] | None = None, prefix: bytes = b""
    ):
        self.file, self.start, self.end = file, start, end
        self.patches, self.prefix = patches or {}, prefix
        self.position = 0

    def reopened(self) -> "Section":
        """The same part, read from its beginning."""
        return Section(self.file, self.start, self.end, self.patches, self.prefix)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position of the section."""
        length = len(self.prefix) + self.end - self.start
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: length}[whence]
        # A damaged file may send its decoder anywhere.
        self.position = max(0, base + offset)
        return self.position

    def tell(self) -> int:
        """The position in the section."""
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer; returns how many bytes."""
        content: bytes | bytearray = b""
        if self.position < len(self.prefix):
            content = self.prefix[self.position : self.position + len(buffer)]
        elif (first := self.start + self.position - len(self.prefix)) < self.end:
            self.file.seek(first)
            content = bytearray(self.file.read(min(len(buffer), self.end - first)))
            for place, patch in self.patches.items():
                for index, value in enumerate(patch, place - first):
                    if 0 <= index < len(content):
                        content[index] = value
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)


@dataclass
class Layout:
    """
    Where the audio of a file lies.

    Args:
        sections (`list[Section]`): The links of a chained Ogg file (RFC 3533); one for all other files.
        is_plain (`bool`): Whether a decoder may read the file as it is.
        is_known (`bool`): Whether the form of the file was recognised.
        faults (`list[tuple[str, str]]`): What is wrong with it: a kind, see `Note`, and a predicate such as "was never finished".
        missing (`float`, *optional*, defaults to 0.0): The share of the audio that its header promises and it does not hold.
    """

    sections: list[Section]
    is_plain: bool = True
    is_known: bool = True
    faults: list[tuple[str, str]] = field(default_factory=list)
    missing: float = 0.0


# How chunks are written: the form of their heads, the bytes of it that a size counts, and what they are padded to.
_RIFF, _BIG_RIFF, _W64, _CAF = ("<4sI", 0, 2), (">4sI", 0, 2), ("<16sQ", 24, 8), (">4sQ", 0, 1)


@dataclass
class _Data:
    """The audio of an uncompressed file: the place and form of its size, the size, and where the audio begins."""

    size_at: int
    form: str
    size: int
    start: int
    # Bytes that the size counts beside the audio.
    overhead: int
    chunks: tuple[str, int, int] | None


def find_layout(file: BinaryIO) -> Layout:
    """
    Finds where the audio of a file lies.

    Args:
        file (binary file): A file that can seek.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    beginning = file.read(12)
    if beginning.startswith(b"OggS"):
        return _split_chain(file, end)
    data = _find_data(file, beginning, end)
    if data is not None:
        return _fit_data(file, beginning, data, end)
    mpeg = find_mpeg(file, beginning, end)
    if mpeg is not None:
        section = Section(file, mpeg.start, end, prefix=mpeg.prefix)
        faults = [_appended(mpeg.appended)] if mpeg.appended else []
        return Layout([section], mpeg.start == 0 and not mpeg.prefix, faults=faults)
    return Layout([Section(file, 0, end)], is_known=False)


def _chunks(file: BinaryIO, position: int, end: int, form: str, overhead: int, padding: int) -> Iterator[tuple]:
    """The names, sizes and places of a file's chunks; a size counts `overhead` bytes of the chunk's own head."""
    head = struct.calcsize(form)
    for _ in range(MAX_CHUNKS):
        if position + head > end:
            return
        file.seek(position)
        content = file.read(head)
        if len(content) < head:
            return
        name, size = struct.unpack(form, content)
        yield name, size - overhead, position
        position += head + max(0, size - overhead)
        position += -position % padding


def _appended(size: int, is_file: bool = True) -> tuple[str, str]:
    what = f"another file of {size} bytes, which is" if is_file else f"{size} bytes that are no part of it, and"
    return "appended", f"is followed by {what} not read"


def _find_data(file: BinaryIO, beginning: bytes, end: int) -> _Data | None:
    """The audio of a WAV, RF64, W64, AIFF, AU or CAF file."""
    magic, kind = beginning[:4], beginning[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        chunks, long_size_at = _BIG_RIFF if magic == b"RIFX" else _RIFF, None
        for name, size, place in _chunks(file, 12, end, *chunks):
            if name == b"ds64":
                long_size_at = place + 16
            elif name == b"data" and long_size_at is not None and size == 0xFFFFFFFF:
                return _Data(long_size_at, "<Q", _read_number(file, long_size_at, "<Q"), place + 8, 0, chunks)
            elif name == b"data":
                return _Data(place + 4, chunks[0][0] + "I", size, place + 8, 0, chunks)
    elif magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        for name, size, place in _chunks(file, 12, end, *_BIG_RIFF):
            if name == b"SSND":
                return _Data(place + 4, ">I", size, place + 16, 8, _BIG_RIFF)
    elif magic == b"riff":
        for name, size, place in _chunks(file, 40, end, *_W64):
            if name[:4] == b"data":
                return _Data(place + 16, "<Q", size + 24, place + 24, 24, _W64)
    elif magic == b".snd":
        start, size = _read_number(file, 4, ">I"), _read_number(file, 8, ">I")
        return _Data(8, ">I", size, start, 0, None) if 24 <= start <= end else None
    elif magic == b"caff":
        for name, size, place in _chunks(file, 8, end, *_CAF):
            if name == b"data":
                return _Data(place + 4, ">Q", size, place + 16, 4, _CAF)
    return None


def _read_number(file: BinaryIO, position: int, form: str) -> int:
    file.seek(position)
    content = file.read(struct.calcsize(form))
    return struct.unpack(form, content)[0] if len(content) == struct.calcsize(form) else 0


def _fit_data(file: BinaryIO, beginning: bytes, data: _Data, end: int) -> Layout:
    """Compares the size of the audio in a header with the file's own."""
    held, promised = end - data.start, data.size - data.overhead
    whole = Section(file, 0, end)
    if promised <= 0 < held:
        if _are_chunks(file, data, end):
            return Layout([whole])
        # What a recorder leaves that lost its power: it writes the sizes last.
        faults = [("truncated", "was never finished: its header tells of no audio")]
        largest = held + data.overhead if data.form.endswith("Q") else 2**32 - 1
        return Layout([_with_size(whole, data, largest)], False, faults=faults)
    if promised > held:
        # libsndfile corrects all sizes itself but those of CAF.
        is_caf = beginning.startswith(b"caff")
        layout = Layout([_with_size(whole, data, held + data.overhead) if is_caf else whole], not is_caf)
        if data.size not in UNKNOWN_SIZES:
            layout.missing = 1 - max(0, held) / promised
            if held <= 0:
                layout.faults.append(("truncated", "is cut off before its audio"))
        return layout
    following = data.start + promised + promised % 2
    if data.chunks in (_RIFF, _BIG_RIFF) and end - following >= MIN_APPENDED_BYTES:
        file.seek(following)
        name = file.read(4)
        if name == b"RIFF":
            # libsndfile refuses such a file.
            return Layout([Section(file, 0, following)], False, faults=[_appended(end - following)])
        if not CHUNK_NAME.fullmatch(name) and name.strip(b"\0"):
            return Layout([whole], faults=[_appended(end - following, is_file=False)])
    return Layout([whole])


def _with_size(section: Section, data: _Data, size: int) -> Section:
    return Section(section.file, section.start, section.end, {data.size_at: struct.pack(data.form, size)})


def _are_chunks(file: BinaryIO, data: _Data, end: int) -> bool:
    """Whether what follows an empty chunk of audio is further chunks, up to the file's end."""
    if data.chunks is None:
        return False
    reached, head = data.start, struct.calcsize(data.chunks[0])
    for name, size, place in _chunks(file, data.start, end, *data.chunks):
        if not CHUNK_NAME.fullmatch(name[:4]) or size < 0:
            return False
        reached = place + head + size
    return data.start < reached <= end + data.chunks[2] and end - reached < head


def _split_chain(file: BinaryIO, end: int) -> Layout:
    """The links of a chained Ogg file, of which libsndfile reads only the first. A new link begins where pages that begin a
    stream follow other pages."""
    position, starts, in_beginning, is_ended, faults = 0, [], False, False, []
    stop = end
    while position < end:
        file.seek(position)
        header = file.read(27)
        if not header.startswith(b"OggS"[: len(header)]):
            # The rest belongs to the last link: libsndfile finds the next page.
            is_ended = True
            break
        table = file.read(header[26]) if len(header) == 27 else b""
        if len(header) < 27 or len(table) < header[26] or position + 27 + len(table) + sum(table) > end:
            # libsndfile refuses some files with half a page at the end.
            stop, is_ended = position, False
            break
        begins = bool(header[5] & 2)
        if begins and not in_beginning:
            starts.append(position)
        in_beginning, is_ended = begins, bool(header[5] & 4)
        position += 27 + len(table) + sum(table)
    if not is_ended and stop:
        faults.append(("truncated", "is cut off: its Ogg stream has no end"))
    starts = [start for start in starts if start < stop] or [0]
    sections = [Section(file, first, last) for first, last in zip(starts, [*starts[1:], stop or end], strict=True)]
    return Layout(sections, len(sections) == 1 and stop == end, faults=faults)
