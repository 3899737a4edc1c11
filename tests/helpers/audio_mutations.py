# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Small audio files with mutated headers and bytes, and what has to hold when they are read."""

import io
import struct
import warnings
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from odd_files import encode, half, without_info

from hf_audio_ssm.audio.decoding import FAULTS, read_clip, read_seconds
from hf_audio_ssm.audio.streaming import AudioStream
from hf_audio_ssm.common.errors import ClipError


RATE = 16_000
SECONDS = 0.1
SEEDS = {
    "wav": encode("WAV", seconds=SECONDS),
    "rifx": encode("WAV", seconds=SECONDS, endian="BIG"),
    "float": encode("WAV", "FLOAT", seconds=SECONDS),
    "adpcm": encode("WAV", "IMA_ADPCM", seconds=SECONDS),
    "ms_adpcm": encode("WAV", "MS_ADPCM", seconds=SECONDS),
    "gsm": encode("WAV", "GSM610", seconds=SECONDS),
    "wavex": encode("WAVEX", "PCM_24", seconds=SECONDS),
    "rf64": encode("RF64", seconds=SECONDS),
    "w64": encode("W64", seconds=SECONDS),
    "aiff": encode("AIFF", seconds=SECONDS),
    "aifc": encode("AIFF", "ULAW", seconds=SECONDS),
    "au": encode("AU", "G721_32", seconds=SECONDS),
    "caf": encode("CAF", seconds=SECONDS),
    "alac": encode("CAF", "ALAC_16", seconds=SECONDS),
    "flac": encode("FLAC", seconds=SECONDS),
    "vorbis": encode("OGG", "VORBIS", seconds=SECONDS),
    "opus": encode("OGG", "OPUS", seconds=SECONDS),
    "chain": encode("OGG", "OPUS", seconds=SECONDS) + encode("OGG", "OPUS", seconds=SECONDS, rate=48_000),
    "mp3": encode("MP3", seconds=SECONDS),
    "mp3_no_length": without_info(encode("MP3", seconds=SECONDS)),
    "tagged": b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + encode("MP3", seconds=SECONDS, rate=44_100),
    "nist": encode("NIST", seconds=SECONDS),
    "voc": encode("VOC", seconds=SECONDS),
    "svx": encode("SVX", seconds=SECONDS),
    "mat5": encode("MAT5", seconds=SECONDS),
    "paf": encode("PAF", seconds=SECONDS),
    "sds": encode("SDS", seconds=SECONDS),
    "xi": encode("XI", "DPCM_16", seconds=SECONDS),
    "avr": encode("AVR", seconds=SECONDS),
    "text": b"<!DOCTYPE html><html></html>",
}
# Numbers that headers lie with.
EXTREMES = (
    0,
    1,
    2,
    7,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**36 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
)


@st.composite
def _mutation(draw: st.DrawFn, content: bytes) -> bytes:
    """Content with one change, mostly in its first bytes."""
    last = len(content)
    place = draw(st.one_of(st.integers(0, min(last, 100)), st.integers(0, min(last, 600)), st.integers(0, last)))
    kind = draw(st.sampled_from(["number", "number", "bytes", "insert", "delete", "cut", "repeat", "zeros"]))
    if kind == "number":
        size, order = draw(st.sampled_from("BHIQ")), draw(st.sampled_from("<>"))
        patch = struct.pack(order + "Q", draw(st.sampled_from(EXTREMES)))
        width = struct.calcsize(size)
        patch = patch[:width] if order == "<" else patch[-width:]
        return content[:place] + patch + content[place + width :]
    if kind == "bytes":
        patch = draw(st.binary(min_size=1, max_size=8))
        return content[:place] + patch + content[place + len(patch) :]
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=40)) + content[place:]
    count = draw(st.integers(1, 300))
    if kind == "delete":
        return content[:place] + content[place + count :]
    if kind == "repeat":
        return content[:place] + content[max(0, place - count) : place] * draw(st.integers(1, 20)) + content[place:]
    if kind == "zeros":
        return content[:place] + bytes(count) + content[place + count :]
    return half(content) if place > last // 2 else content[:place]


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """An audio file with some changes, or any bytes behind what an audio file begins with."""
    content = SEEDS[draw(st.sampled_from(list(SEEDS)))]
    if draw(st.integers(0, 19)) == 0:
        return content[: draw(st.integers(0, 60))] + draw(st.binary(max_size=2000))
    for _ in range(draw(st.integers(1, 4))):
        content = draw(_mutation(content))
    return content


def read_every_way(content: bytes) -> np.ndarray | None:
    """
    Reads a file as clips, as recordings and as crops are read, and checks that all agree.

    Returns:
        `np.ndarray`, *optional*: The samples; `None` if the file is refused.
    """
    row = {"bytes": content, "path": "file"}
    with warnings.catch_warnings():
        # Nothing may divide by zero or overflow on the way.
        warnings.simplefilter("error")
        samples, told = _outcome(lambda: _read_clip(row))
        streamed, told_of_stream = _outcome(lambda: _read_stream(content))
        assert told_of_stream == told
        assert (samples is None) == (streamed is None)
        assert samples is None or (np.array_equal(streamed, samples) and np.isfinite(samples).all())
        # The length, and crops: each is read or refused.
        for crop in ({"max_seconds": 0.02}, {"max_seconds": 0.02, "generator": np.random.default_rng(0)}):
            _outcome(lambda crop=crop: _read_clip(row, **crop))
        _outcome(lambda: (np.array([read_seconds(row)]), []))
    return samples


def _read_clip(row: dict, **crop) -> tuple[np.ndarray, list[str]]:
    clip = read_clip(row, RATE, **crop)
    return clip.samples, [note.detail for note in clip.notes]


def _read_stream(content: bytes) -> tuple[np.ndarray, list[str]]:
    stream = AudioStream(io.BytesIO(content), RATE)
    samples = np.concatenate([np.empty(0, dtype=np.float32), *stream])
    notes = stream.notes
    return samples, notes["detail"][notes["kind"].isin(FAULTS)].tolist()


def _outcome(read: Callable[[], tuple[np.ndarray, list[str]]]) -> tuple[np.ndarray | None, list[str]]:
    """What is read and what is said about it, or nothing and why."""
    try:
        samples, told = read()
    except ClipError as error:
        samples, told = None, [error.reason]
    # Line breaks are not printable.
    assert all(words.isprintable() and len(words) < 500 for words in told)
    return samples, told
