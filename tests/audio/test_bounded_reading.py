# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Headers are not believed: memory follows what a file holds, and one file that lies does not end a run over many."""

import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from odd_files import encode, half, patched, write_odd_files
from torch.utils.data import DataLoader

from hf_audio_ssm.audio import decoding
from hf_audio_ssm.audio.decoder_messages import without_decoder_messages
from hf_audio_ssm.audio.decoding import check_clips, read_audio, read_clip, read_seconds
from hf_audio_ssm.audio.streaming import AudioStream
from hf_audio_ssm.common.errors import ClipError, InputError


def peak_megabytes(call: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def long_file(tmp_path_factory) -> Path:
    """A minute of 8 channels: 46 MB as float32, 1 MB as mono samples of 4 kHz."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    sf.write(path, np.zeros((60 * 24_000, 8), dtype=np.int16), 24_000)
    return path


def test_memory_is_that_of_the_result_and_a_block(long_file):
    assert peak_megabytes(lambda: read_clip(long_file, 4_000)) < 32
    assert peak_megabytes(lambda: read_clip(long_file, 4_000, 1.28)) < 10
    assert peak_megabytes(lambda: read_seconds(long_file)) < 1
    assert peak_megabytes(lambda: sum(map(len, AudioStream(long_file, 4_000)))) < 32


def test_memory_for_headers_that_lie(tmp_path):
    for path, file in write_odd_files(tmp_path).items():

        def read(path=path) -> None:
            for read in (
                lambda: read_clip(path, 16_000),
                lambda: read_seconds(path),
                lambda: list(AudioStream(path, 16_000)),
            ):
                try:
                    read()
                except ClipError:
                    pass

        # tracemalloc slows what it counts: only headers that claim or hide something.
        if any(word in path.name for word in ("claims", "rate_", "channels", "no_length", "finished", "noise")):
            assert peak_megabytes(read) < 5 + 300 * len(file.content) / 1e6, path.name


def test_what_grows_beyond_measure_is_refused(tmp_path, monkeypatch):
    """Digital silence: FLAC packs thousands of samples into a byte."""
    path = tmp_path / "silence.flac"
    sf.write(path, np.zeros(60 * 16_000), 16_000)
    assert len(read_audio(path, 16_000)) == 60 * 16_000
    monkeypatch.setattr(decoding, "MAX_WHOLE_SECONDS", 1)
    with pytest.raises(ClipError, match=r"silence.flac: decodes to over \d+ samples, far more than its size explains"):
        read_audio(path, 16_000)
    assert len(read_audio(path, 16_000, max_seconds=1)) == 16_000
    assert sum(map(len, AudioStream(path, 16_000))) == 60 * 16_000


def test_a_run_goes_on_after_a_file_that_lies(tmp_path):
    wav = encode("WAV")
    (tmp_path / "a.wav").write_bytes(patched(wav, 24, (2**31 - 1).to_bytes(4, "little")))
    flac = encode("FLAC")
    (tmp_path / "b.flac").write_bytes(patched(patched(flac, 21, bytes([flac[21] | 0x0F])), 22, b"\xff" * 4))
    (tmp_path / "c.wav").write_bytes(wav)
    with pytest.warns(UserWarning, match="b.flac: is cut off or damaged"), pytest.raises(InputError) as error:
        check_clips(sorted(tmp_path.iterdir()), 16_000)
    assert str(error.value).startswith("1 clips cannot be used")


def test_the_length_of_variable_bit_rates(tmp_path):
    """A decoder would estimate it by the first, quiet frames, and read a tenth of the file."""
    path = tmp_path / "loud_end.mp3"
    loud = np.random.default_rng(0).normal(0, 0.3, 16_000 * 4).astype(np.float32)
    loud[:16_000] *= 1e-4
    sf.write(path, loud, 16_000, bitrate_mode="VARIABLE", compression_level=0.5)
    whole = read_audio(path, 16_000)
    content = path.read_bytes()
    frame = content.index(content[:2], 4)
    path.write_bytes(content[frame:])
    assert read_seconds(path) == pytest.approx(4, abs=0.2)
    samples = read_audio(path, 16_000)
    assert len(samples) / 16_000 == pytest.approx(4, abs=0.2)
    assert np.abs(samples[-16_000:]).max() == pytest.approx(np.abs(whole).max(), rel=0.2)


def read_half_an_mp3(path: str) -> int:
    print("before", file=sys.stderr, flush=True)
    count = len(read_clip(path, 16_000).samples)
    print("after", file=sys.stderr, flush=True)
    return count


def test_decoders_are_silent_in_workers_too(tmp_path, capfd):
    paths = []
    for index in range(4):
        paths.append(str(tmp_path / f"{index}.mp3"))
        Path(paths[-1]).write_bytes(half(encode("MP3", seconds=0.5 + index / 10)))
    loader = DataLoader(paths, batch_size=None, collate_fn=read_half_an_mp3, num_workers=2)
    assert all(count > 1000 for count in loader)
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.split()) == ["after"] * 4 + ["before"] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc lets its streams be replaced")
def test_only_decoders_are_silent(capfd):
    """What Python and the system print meanwhile is printed, in this thread and in others."""
    import ctypes

    library = ctypes.CDLL(None)
    with without_decoder_messages(), without_decoder_messages():
        library.printf(b"hidden\n")
        library.perror(b"hidden")
        print("python")
        print("python", file=sys.stderr)
        os.write(2, b"system\n")
        thread = threading.Thread(target=print, args=("thread",), kwargs={"file": sys.stderr})
        thread.start()
        thread.join()
    library.perror(b"shown")
    out, err = capfd.readouterr()
    assert out == "python\n"
    assert err.splitlines()[:3] == ["python", "system", "thread"]
    assert err.splitlines()[3].startswith("shown: ")


def test_threads_read_at_once(tmp_path):
    """Also while one of them makes a decoder complain."""
    paths = [
        path for path, file in write_odd_files(tmp_path).items() if file.samples and path.suffix in (".mp3", ".wav")
    ]
    expected = [read_clip(path, 16_000) for path in paths]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda path: read_clip(path, 16_000), paths * 3))
    for clip, other in zip(expected * 3, found, strict=True):
        np.testing.assert_array_equal(other.samples, clip.samples)
        assert other.notes == clip.notes
