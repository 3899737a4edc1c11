# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Kaldi-compatible log-mel filter banks in PyTorch."""

import threading
import warnings
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from ...audio.frames import FRAME_LENGTH_MS, FRAME_SHIFT_MS


PREEMPHASIS = 0.97
MIN_FREQUENCY = 20.0
MEL_FLOOR = 1.1920928955078125e-07

# Frames worked on at a time: few enough to stay in a CPU core's cache, many enough to fill a GPU.
CPU_BLOCK_FRAMES = 512
ACCELERATOR_BLOCK_FRAMES = 32768

# Adjacent filters share few FFT bins: multiplying them in bands skips most of the filter matrix's zeros.
CPU_BAND_FILTERS = 32

_local = threading.local()


def frame_sizes(sampling_rate: int) -> tuple[int, int, int]:
    """Returns the samples of a frame, the samples between two frames, and the FFT size, as Kaldi rounds them."""
    frame_length = sampling_rate * FRAME_LENGTH_MS // 1000
    frame_shift = sampling_rate * FRAME_SHIFT_MS // 1000
    return frame_length, frame_shift, 1 << (frame_length - 1).bit_length()


def hann_window(sampling_rate: int) -> torch.Tensor:
    """Returns the symmetric Hann window, float32 (frame length,), on the CPU."""
    return torch.hann_window(frame_sizes(sampling_rate)[0], periodic=False, dtype=torch.float32, device="cpu")


@lru_cache(maxsize=16)
def kaldi_mel_filters(sampling_rate: int, num_mel_bins: int) -> np.ndarray:
    """Returns Kaldi's mel filters, float64 (FFT size / 2 + 1, mel bins), read-only because they are shared."""
    with warnings.catch_warnings():
        # 128 filters on 257 FFT bins leave the narrowest ones empty; the published weights were trained like this.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        filters = mel_filter_bank(
            num_frequency_bins=frame_sizes(sampling_rate)[2] // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=MIN_FREQUENCY,
            max_frequency=sampling_rate / 2,
            sampling_rate=sampling_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    filters.flags.writeable = False
    return filters


@lru_cache(maxsize=16)
def _front_end_tensors(
    sampling_rate: int, num_mel_bins: int, device: torch.device
) -> tuple[torch.Tensor, list[tuple[slice, slice, torch.Tensor]]]:
    """
    Returns, on `device`, the window without its first value (which is zero), and the mel filters in bands:
    (FFT bins, mel bins, weights (FFT bins, mel bins)).
    """
    # On CUDA float64, because TensorFloat-32, when a user allows it, would cost the filter bank three digits.
    dtype = torch.float64 if device.type == "cuda" else torch.float32
    band_size = CPU_BAND_FILTERS if device.type == "cpu" else num_mel_bins
    filters = kaldi_mel_filters(sampling_rate, num_mel_bins)
    bands = []
    # Tensors made in inference mode could not be used outside of it later.
    with torch.inference_mode(False):
        for start in range(0, num_mel_bins, band_size):
            mel_bins = slice(start, min(start + band_size, num_mel_bins))
            used = np.flatnonzero(filters[:, mel_bins].any(axis=1))
            fft_bins = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
            weights = torch.tensor(filters[fft_bins, mel_bins], dtype=dtype, device=device)
            bands.append((fft_bins, mel_bins, weights))
        window = hann_window(sampling_rate)[1:].to(device)
    return window, bands


def _work_arrays(
    num_clips: int, block_frames: int, frame_length: int, fft_size: int, num_mel_bins: int, device: torch.device | str
) -> tuple[torch.Tensor, ...]:
    """Returns float32 memory for a block's centred frames, frames padded with zeros, power spectra and mel values."""
    shapes = (
        (num_clips, block_frames, frame_length),
        (num_clips, block_frames, fft_size),
        (num_clips, block_frames, fft_size // 2 + 1),
        (num_clips * block_frames, num_mel_bins),
    )
    return tuple(torch.zeros(shape, dtype=torch.float32, device=device) for shape in shapes)


def _shared_work_arrays(*sizes: int) -> tuple[torch.Tensor, ...]:
    """Returns this thread's `_work_arrays` on the CPU: taking fresh memory for each clip would cost as much as its FFTs."""
    if getattr(_local, "sizes", None) != sizes:
        with torch.inference_mode(False):
            _local.arrays = _work_arrays(*sizes, "cpu")  # type: ignore[arg-type, call-arg]
        _local.sizes = sizes
    return _local.arrays


def log_mel_blocks(
    waveforms: torch.Tensor, sampling_rate: int, num_mel_bins: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """
    Yields the log-mel filter bank of `waveforms`, float32 (clips, samples), block by block in time: the block's first
    frame and its values, float32 (clips, frames, mel bins), so that no array over all frames but the result is needed.
    The next block is written over the values.
    """
    frame_length, frame_shift, fft_size = frame_sizes(sampling_rate)
    window, bands = _front_end_tensors(sampling_rate, num_mel_bins, waveforms.device)
    num_clips, num_samples = waveforms.shape
    num_frames = 1 + (num_samples - frame_length) // frame_shift
    if waveforms.device.type == "cpu":
        block_frames = CPU_BLOCK_FRAMES
        arrays = _shared_work_arrays(num_clips, block_frames, frame_length, fft_size, num_mel_bins)
    else:
        block_frames = min(num_frames, max(1, ACCELERATOR_BLOCK_FRAMES // num_clips))
        arrays = _work_arrays(num_clips, block_frames, frame_length, fft_size, num_mel_bins, waveforms.device)
    centred_block, padded_block, power_block, mel_block = arrays

    for start in range(0, num_frames, block_frames):
        length = min(block_frames, num_frames - start)
        first_sample = start * frame_shift
        samples = waveforms[:, first_sample : first_sample + (length - 1) * frame_shift + frame_length]
        frames = samples.unfold(1, frame_length, frame_shift)
        centred = centred_block[:, :length]
        padded = padded_block[:, :length]

        # Each step rounds as Kaldi's ports to PyTorch do: between a loud tone and the floor, float32's rounding is what
        # is heard, so fused or reordered operations would be as precise but miss the published features by 1e-2.
        torch.sub(frames, frames.mean(-1, keepdim=True), out=centred)
        # A frame's first sample stays zero in `padded`, because the window is zero there.
        emphasised = padded[..., 1:frame_length]
        torch.mul(centred[..., :-1], PREEMPHASIS, out=emphasised)
        torch.sub(centred[..., 1:], emphasised, out=emphasised).mul_(window)

        squares = torch.view_as_real(torch.fft.rfft(padded)).square_()
        power = torch.add(squares[..., 0], squares[..., 1], out=power_block[:, :length]).flatten(0, 1)
        mel = mel_block.to(bands[0][2].dtype)[: num_clips * length]
        for fft_bins, mel_bins, weights in bands:
            # `out=` also keeps autocast from lowering the precision of the product.
            torch.mm(power[:, fft_bins].to(weights.dtype), weights, out=mel[:, mel_bins])
        yield start, mel.clamp_(min=MEL_FLOOR).log_().to(torch.float32).view(num_clips, length, num_mel_bins)
