# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are whole, damaged, unfinished, truncated, lying or no audio at all, and what is to become of each."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf


RATE = 16_000
NUM_SAMPLES = 24_000


class OddFile(NamedTuple):
    """
    A file, and what is to become of it.

    Args:
        content (`bytes`): The file.
        samples (`int`): How many samples it gives at 16 kHz; 0 if it is refused.
        said (`str`): What is said about it: a note, or the error; empty if nothing is wrong.
        tolerance (`int`): By how many samples the codec may miss.
    """

    content: bytes
    samples: int = NUM_SAMPLES
    said: str = ""
    tolerance: int = 0


def encode(
    form: str, subtype: str | None = None, seconds: float = NUM_SAMPLES / RATE, rate: int = RATE, **options
) -> bytes:
    """Noise, which no codec makes small, as a file."""
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)
    file = io.BytesIO()
    sf.write(file, samples, rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def patched(content: bytes, position: int, patch: bytes) -> bytes:
    """Content with other bytes at a position."""
    return content[:position] + patch + content[position + len(patch) :]


def half(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


def without_info(content: bytes) -> bytes:
    """An MP3 file of libsndfile without its first frame, which tells the number of the others."""
    place = content.index(b"\xff", 4)
    while content[place + 1] & 0xF0 != 0xF0:
        place = content.index(b"\xff", place + 1)
    return content[place:]


def _waves() -> dict[str, OddFile]:
    wav, cut = encode("WAV"), "is cut off or damaged: "
    unfinished = "was never finished: its header tells of no audio"
    data = wav.index(b"data")
    stereo = encode("WAV")
    extensible = encode("WAVEX")
    rf64 = encode("RF64")
    sizes = rf64.index(b"ds64") + 8
    w64 = encode("W64")
    w64_data = w64.index(b"data") + 16
    promised = " of the 1.50 s that its header promises"
    return {
        "whole.wav": OddFile(wav),
        "big_endian.wav": OddFile(encode("WAV", endian="BIG")),
        "extensible.wav": OddFile(extensible),
        "extensible_half.wav": OddFile(half(extensible), 11_980, f"{cut}0.75 s can be read{promised}", 30),
        "adpcm.wav": OddFile(encode("WAV", "MS_ADPCM"), tolerance=1000),
        "gsm.wav": OddFile(encode("WAV", "GSM610"), tolerance=400),
        "half.wav": OddFile(half(wav), 11_989, f"{cut}0.75 s can be read{promised}"),
        "half_and_a_byte.wav": OddFile(wav[: len(wav) // 2 + 1], 11_989, f"{cut}0.75 s can be read{promised}"),
        "only_a_header.wav": OddFile(wav[: data + 8], 0, "holds 0 ms of audio: it is cut off before its audio"),
        "half_a_header.wav": OddFile(wav[:30], 0, "cannot be read as audio ("),
        "only_magic.wav": OddFile(b"RIFF", 0, "cannot be read as audio ("),
        "never_finished.wav": OddFile(patched(patched(wav, 4, bytes(4)), data + 4, bytes(4)), said=unfinished),
        "no_data_size.wav": OddFile(patched(wav, data + 4, bytes(4)), said=unfinished),
        "no_riff_size.wav": OddFile(patched(wav, 4, bytes(4))),
        "to_a_pipe.wav": OddFile(patched(patched(wav, 4, b"\xff" * 4), data + 4, b"\xff" * 4)),
        "to_a_pipe_of_sox.wav": OddFile(patched(wav, data + 4, struct.pack("<I", 0x7FFFF000))),
        "odd_chunk.wav": OddFile(wav[:12] + b"junk" + struct.pack("<I", 3) + b"abc\0" + wav[12:]),
        "thousands_of_chunks.wav": OddFile(wav[:12] + b"junk\0\0\0\0" * 3000 + wav[12:]),
        "garbage_behind.wav": OddFile(wav + b"garbage" * 100),
        "more_audio_behind.wav": OddFile(
            wav + wav[44:8044], said="is followed by 8000 bytes that are no part of it, and not read"
        ),
        "padded.wav": OddFile(wav + bytes(30_000)),
        "two_in_one.wav": OddFile(
            wav + wav, said=f"is followed by another file of {len(wav)} bytes, which is not read"
        ),
        "rate_0.wav": OddFile(patched(wav, 24, bytes(4)), 0, "cannot be read as audio ("),
        "rate_1.wav": OddFile(patched(wav, 24, struct.pack("<I", 1)), 0, "its header claims a sampling rate of 1 Hz"),
        "rate_2_31.wav": OddFile(
            patched(wav, 24, struct.pack("<I", 2**31 - 1)), 0, "its header claims a sampling rate of 2147483647 Hz"
        ),
        "channels_0.wav": OddFile(patched(wav, 22, bytes(2)), 0, "cannot be read as audio ("),
        "channels_1000.wav": OddFile(patched(wav, 22, struct.pack("<H", 1000)), 0, "its header claims 1000 channels"),
        "channels_65535.wav": OddFile(patched(wav, 22, b"\xff\xff"), 0, "cannot be read as audio ("),
        "bits_0.wav": OddFile(patched(wav, 34, bytes(2)), 0, "cannot be read as audio ("),
        "no_samples.wav": OddFile(encode("WAV", seconds=0), 0, "holds 0 ms of audio: it has no samples"),
        "nan.wav": OddFile(
            patched(encode("WAV", "FLOAT"), 2000, struct.pack("<f", float("nan"))),
            said="1 samples that are NaN, infinite or beyond 1e+15 are read as zeros",
        ),
        "whole.rf64": OddFile(rf64),
        "half.rf64": OddFile(half(rf64), 11_974, f"{cut}0.75 s can be read{promised}", 30),
        "never_finished.rf64": OddFile(patched(rf64, sizes, bytes(24)), said=unfinished),
        "claims_2_62.rf64": OddFile(
            patched(rf64, sizes + 8, struct.pack("<QQ", 2**62, 2**61)), said=f"{cut}1.50 s can be read of"
        ),
        "whole.w64": OddFile(w64),
        "half.w64": OddFile(half(w64), 11_974, f"{cut}0.75 s can be read{promised}", 30),
        "never_finished.w64": OddFile(patched(w64, w64_data, bytes(8)), said=unfinished),
        "claims_2_62.w64": OddFile(
            patched(w64, w64_data, struct.pack("<Q", 2**62)), said=f"{cut}1.50 s can be read of"
        ),
    } | {"stereo.wav": OddFile(stereo)}


def _others() -> dict[str, OddFile]:
    cut, unfinished = "is cut off or damaged: ", "was never finished: its header tells of no audio"
    promised = " of the 1.50 s that its header promises"
    aiff, au, caf = encode("AIFF"), encode("AU"), encode("CAF")
    sound, caf_data = aiff.index(b"SSND") + 4, caf.index(b"data") + 4
    flac = encode("FLAC")
    hidden = patched(patched(flac, 21, bytes([flac[21] & 0xF0])), 22, bytes(4))
    claiming = patched(patched(flac, 21, bytes([flac[21] | 0x0F])), 22, b"\xff" * 4)
    no_end = "is cut off: its Ogg stream has no end"
    vorbis, opus = encode("OGG", "VORBIS", 6), encode("OGG", "OPUS", 6)
    link = encode("OGG", "VORBIS", 2)
    mp3 = encode("MP3")
    quiet_first = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, NUM_SAMPLES).astype(np.float32)
    samples[: NUM_SAMPLES // 2] *= 1e-4
    sf.write(quiet_first, samples, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    return {
        "whole.aiff": OddFile(aiff),
        "whole.aifc": OddFile(encode("AIFF", "ULAW")),
        "half.aiff": OddFile(half(aiff), 11_986, f"{cut}0.75 s can be read{promised}", 30),
        "never_finished.aiff": OddFile(
            patched(patched(aiff, 4, bytes(4)), sound, struct.pack(">I", 8)), said=unfinished
        ),
        "whole.au": OddFile(au),
        "to_a_pipe.au": OddFile(patched(au, 8, b"\xff" * 4)),
        "never_finished.au": OddFile(patched(au, 8, bytes(4)), said=unfinished),
        "half.au": OddFile(half(au), 11_988, f"{cut}0.75 s can be read{promised}", 30),
        "whole.caf": OddFile(caf),
        "to_a_pipe.caf": OddFile(patched(caf, caf_data, b"\xff" * 8)),
        "half.caf": OddFile(half(caf), 10_000, f"{cut}", 2100),
        "alac.caf": OddFile(encode("CAF", "ALAC_16")),
        "whole.flac": OddFile(flac),
        "no_length.flac": OddFile(hidden),
        "claims_2_36.flac": OddFile(
            claiming, said=f"{cut}1.50 s can be read of the 4294967.30 s that its header promises"
        ),
        "half.flac": OddFile(half(flac), 12_000, cut, 4100),
        "damaged.flac": OddFile(patched(flac, len(flac) // 2, bytes(200)), 10_000, cut, 4100),
        "garbage_behind.flac": OddFile(flac + b"garbage" * 1000),
        "tagged.flac": OddFile(b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + flac),
        "only_a_header.flac": OddFile(
            flac[:45], 0, "holds 0 ms of audio: it is cut off or damaged: 0.00 s can be read"
        ),
        "half_a_header.flac": OddFile(flac[:20], 0, "cannot be read as audio ("),
        "whole.ogg": OddFile(vorbis, 6 * RATE),
        "half.ogg": OddFile(half(vorbis), 2 * RATE, no_end, RATE),
        "only_headers.ogg": OddFile(vorbis[:100], 0, "cannot be read as audio ("),
        "garbage_behind.ogg": OddFile(vorbis + b"garbage" * 100, 6 * RATE),
        "whole.opus": OddFile(opus, 6 * RATE),
        "half.opus": OddFile(half(opus), 2 * RATE, no_end, RATE),
        "chained_with_damage.ogg": OddFile(
            vorbis + patched(link, 30, bytes(20)) + link,
            8 * RATE,
            f"is damaged: {len(link)} bytes of a link of its Ogg chain cannot be read",
        ),
        "chained.ogg": OddFile(vorbis + link, 8 * RATE),
        "whole.mp3": OddFile(mp3),
        "half.mp3": OddFile(half(mp3), 12_000, cut, 2500),
        "damaged.mp3": OddFile(patched(mp3, len(mp3) // 2, bytes(1000)), 20_000, cut, 4000),
        "no_length.mp3": OddFile(without_info(mp3), tolerance=4000),
        "variable_rate_no_length.mp3": OddFile(without_info(quiet_first.getvalue()), tolerance=4000),
        "two_in_one.mp3": OddFile(
            mp3 + mp3, said=f"is followed by another file of {len(mp3)} bytes, which is not read"
        ),
        "claims_2_32.mp3": OddFile(patched(mp3, mp3.index(b"Xing") + 8, b"\xff" * 4), said=cut, tolerance=2304),
        "zeros_first.mp3": OddFile(bytes(1000) + mp3),
        "tagged.mp3": OddFile(b"ID3\x04\0\0\0\0\0\x64" + bytes(100) + mp3 + b"TAG" + bytes(125)),
    }


def _no_audio() -> dict[str, OddFile]:
    def refused(content: bytes, kind: str) -> OddFile:
        return OddFile(content, 0, f"cannot be read as audio (not audio: begins like {kind})")

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "a")
    page = b"\n<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n" * 50
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    unknown = "cannot be read as audio (it begins like no known format)"
    return {
        "empty.wav": OddFile(b"", 0, "the file is empty"),
        "empty.mp3": OddFile(b"", 0, "the file is empty"),
        "page.mp3": refused(page, "HTML"),
        "page.wav": refused(page, "HTML"),
        "page.flac": refused(b"\xef\xbb\xbf" + page, "HTML"),
        "page_utf16.mp3": refused(page.decode().encode("utf-16"), "HTML"),
        "feed.mp3": refused(b'<?xml version="1.0"?><rss></rss>', "XML"),
        "answer.mp3": refused(json.dumps({"error": "not found"}).encode(), "JSON"),
        "text.wav": refused("Größe und Länge".encode(), "text"),
        "pointer.wav": refused(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
            "a Git LFS pointer: the file itself was not fetched",
        ),
        "archive.mp3": refused(archive.getvalue(), "a ZIP archive"),
        "picture.mp3": refused(b"\x89PNG\r\n\x1a\n" + noise, "a PNG image"),
        "picture.wav": refused(b"\xff\xd8\xff\xe0" + noise, "a JPEG image"),
        "paper.mp3": refused(b"%PDF-1.7\n" + noise, "PDF"),
        "video.mp3": refused(b"\0\0\0\x20ftypM4A " + noise, "MP4, which is not supported: convert it to WAV or FLAC"),
        "voice.opus": refused(
            b"\x1aE\xdf\xa3" + noise, "Matroska or WebM, which is not supported: convert it to WAV or FLAC"
        ),
        "zeros.wav": refused(bytes(3000), "zeros"),
        "zeros.mp3": refused(bytes(3000), "zeros"),
        "noise.mp3": OddFile(noise, 0, unknown),
        "noise.wav": OddFile(noise, 0, unknown),
        "samples.raw": OddFile(noise, 0, unknown),
        "samples.wav": OddFile((np.arange(5000) % 999 + 7).astype("<i2").tobytes(), 0, unknown),
    }


def odd_files() -> dict[str, OddFile]:
    """The files by their names."""
    return {**_waves(), **_others(), **_no_audio()}


def write_odd_files(folder: Path) -> dict[Path, OddFile]:
    """Writes the files into a folder; returns them by their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {folder / name: file for name, file in odd_files().items()}
    for path, file in found.items():
        path.write_bytes(file.content)
    return found
