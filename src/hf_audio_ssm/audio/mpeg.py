# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The frames of an MPEG audio file (MP3), counted by their headers. A file whose first frame does not tell their number gets one that
does: decoders estimate it by the size of the first frames, which loses most of a file whose bit rate varies.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


# Kilobits a second by the header's four bits, for layers 1 to 3 of MPEG-1, and of MPEG-2 and 2.5.
BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)
# How far into a file the first frame is looked for.
MAX_LEADING_BYTES = 2**16
READ_BYTES = 2**20


class _Frame(NamedTuple):
    size: int
    samples: int
    layer: int
    # Bytes between the header and an Info tag.
    side: int


class Mpeg(NamedTuple):
    """
    Where the frames of an MPEG audio file begin, and a first frame with their number where the file's own has none.

    Args:
        start (`int`): The first byte to read: 0, or what lies before the first frame is left out.
        prefix (`bytes`): The frame to read before it; empty if the file tells the number itself.
        appended (`int`, *optional*, defaults to 0): Bytes of another file that follows, which decoders do not read.
    """

    start: int
    prefix: bytes
    appended: int = 0


def _parse(header: bytes) -> _Frame | None:
    """The frame of a header of four bytes, if it is one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    hertz = RATES[rate] // (1 if is_first else 2 if version == 2 else 4)
    bit_rate = 1000 * BIT_RATES[is_first, layer][bits - 1]
    if layer == 1:
        return _Frame((12 * bit_rate // hertz + padding) * 4, 384, layer, 0)
    samples = 576 if layer == 3 and not is_first else 1152
    is_mono = header[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(samples // 8 * bit_rate // hertz + padding, samples, layer, side)


def _windows(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Consecutive parts of a file, each with the first bytes of the next."""
    while position < end:
        file.seek(position)
        content = file.read(min(READ_BYTES + 4, end - position))
        if not content:
            return
        yield position, content
        position += READ_BYTES


def _skip_tags(file: BinaryIO, end: int) -> int:
    """Where the ID3 tags at a file's beginning end."""
    position = 0
    while position + 10 <= end:
        file.seek(position)
        header = file.read(10)
        if header[:3] != b"ID3":
            break
        size = sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(header[6:10]))
        position += 10 + size + (10 if header[5] & 0x10 else 0)
    return position


def _find_first(file: BinaryIO, position: int, end: int) -> tuple[int, bytes, _Frame] | None:
    """The first frame that another one follows, or that ends the file."""
    file.seek(position)
    content = file.read(min(end - position, MAX_LEADING_BYTES + 2**13))
    place = content.find(b"\xff")
    while 0 <= place <= MAX_LEADING_BYTES:
        frame = _parse(content[place : place + 4])
        if frame is not None:
            following = content[place + frame.size : place + frame.size + 4]
            after = _parse(following)
            at_end = position + place + frame.size >= end
            if (at_end and place == 0) or (after is not None and after.samples == frame.samples):
                return position + place, content[place : place + frame.size], frame
        place = content.find(b"\xff", place + 1)
    return None


def _count_frames(file: BinaryIO, position: int, end: int) -> int:
    """The frames from the first one on; what lies between frames is skipped."""
    count = 0
    for first, content in _windows(file, position, end):
        last = min(len(content), READ_BYTES)
        while position - first < last:
            place = position - first
            frame = _parse(content[place : place + 4])
            if frame is not None and position + frame.size <= end:
                count += 1
                position += frame.size
            else:
                place = content.find(b"\xff", place + 1, last)
                position = first + (last if place < 0 else place)
    return count


def find_mpeg(file: BinaryIO, beginning: bytes, end: int) -> Mpeg | None:
    """
    Finds the frames of an MPEG audio file.

    Args:
        file (binary file): A file that can seek.
        beginning (`bytes`): Its first bytes, four at least.
        end (`int`): Its size.

    Returns:
        [`Mpeg`], *optional*: `None` if it is no such file.
    """
    is_tagged = beginning.startswith(b"ID3")
    # A frame, a tag, or zeros before the first frame.
    if not (is_tagged or beginning[:1] == b"\xff" or not beginning[:4].strip(b"\0")):
        return None
    found = _find_first(file, _skip_tags(file, end) if is_tagged else 0, end)
    if found is None:
        return None
    start, content, frame = found
    tag = content[4 + frame.side : 4 + frame.side + 16]
    if tag[:4] in (b"Xing", b"Info") and len(tag) == 16 and tag[7] & 1:
        # With both flags, the number of bytes follows that of frames.
        size = struct.unpack(">I", tag[12:])[0] if tag[7] & 2 else 0
        following = _find_first(file, start + size, end) if 0 < size < end - start else None
        appended = end - following[0] if following is not None else 0
        return Mpeg(0 if is_tagged or start == 0 else start, b"", appended)
    if frame.layer != 3:
        # Their bit rate is constant, so decoders estimate well.
        return Mpeg(start, b"")
    # Without a checksum, and of 128 or 80 kilobits a second, so that the tag fits.
    header = bytes([content[0], content[1] | 1, content[2] & 0x0F | 0x90, content[3]])
    size = _parse(header).size  # type: ignore[union-attr]
    tag = b"Info" + struct.pack(">II", 1, _count_frames(file, start, end))
    info = header + bytes(frame.side) + tag
    return Mpeg(start, info.ljust(size, b"\0"))
