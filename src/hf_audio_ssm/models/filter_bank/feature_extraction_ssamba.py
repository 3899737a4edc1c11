# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Feature extractor of all encoders: audio of many kinds to padded, normalised filter banks."""

import math
import os
import reprlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import PaddingStrategy, TensorType, logging

from ...audio.frames import FRAME_SHIFT_MS, count_frames, samples_spanned, seconds_spanned
from ..patch_encoder.saved_code import SavesCode
from .kaldi_filter_bank import frame_sizes, hann_window, kaldi_mel_filters, log_mel_blocks


logger = logging.get_logger(__name__)

NORMALIZATION_PRESETS = {
    "audioset": {"mean": -4.2677393, "std": 4.5689974, "max_length": 1024},
    "librispeech": {"mean": -4.2677393, "std": 4.5689974, "max_length": 1024},
    "esc50": {"mean": -6.6268077, "std": 5.358466, "max_length": 512},
    "speech_commands": {"mean": -6.845978, "std": 5.5654526, "max_length": 128},
    "urbansound8k": {"mean": -5.138443946838379, "std": 4.229961395263672, "max_length": 6144},
}

# Ambisonics of seventh order; a clip does not have more channels.
MAX_CHANNELS = 64

# Below 100 Hz a step of 10 ms holds no sample.
MIN_SAMPLING_RATE = 100
# Settings beyond these are mistakes, and would take gigabytes.
MAX_SAMPLING_RATE = 2_000_000
MAX_MEL_BINS = 4096

# Of an array with more samples no whole copy is made: it is read in pieces.
LONG_CLIP_SAMPLES = 1 << 24
PIECE_SAMPLES = 1 << 22

# Audio in [-1, 1] has a root mean square of 1 at most.
LARGEST_RMS = 2.0

# The machine's, in bytes, where the system says it.
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf

# How many times both a clip's length and the usual one `max_length` is where it counts something else than frames.
SAMPLES_FOR_FRAMES = 5
FRAMES_FOR_SECONDS = 20


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor)) or (
        hasattr(value, "__array__") and not isinstance(value, np.generic)
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array, if possible without reading it; `None` for anything else."""
    if not _is_array(value):
        return None
    return tuple(value.shape) if hasattr(value, "shape") else np.shape(value)


def _describe(value: Any) -> str:
    # Of bytes and strings, which may be whole files, only the beginning is written out.
    text = reprlib.repr(value[:60] if isinstance(value, (str, bytes, bytearray)) else value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _read_values(values: Any, name: str) -> torch.Tensor:
    """
    Turns an array, a tensor or a (nested) list of numbers into a float32 tensor of the same shape, on its device.
    Integer samples of a fixed width become fractions of full scale.

    Raises `TypeError` for anything but real numbers, `ValueError` for ragged lists and for integers of unknown scale: Python's
    own, and 16-bit samples, say, in 64 bits.
    """
    if isinstance(values, (str, bytes, bytearray, os.PathLike)):
        raise TypeError(
            f"`{name}` must hold audio samples, got {_describe(values)}. Read audio files first, for example with"
            " `transformers.audio_utils.load_audio(path, sampling_rate=16000)`."
        )
    if not isinstance(values, (list, tuple)) and not _is_array(values):
        hint = ' Pass its "array" entry.' if isinstance(values, dict) and "array" in values else ""
        raise TypeError(
            f"`{name}` must be a NumPy array, a torch tensor or a list of numbers, got {_describe(values)}.{hint}"
        )
    from_list = isinstance(values, (list, tuple))

    if isinstance(values, torch.Tensor):
        tensor = values.detach()
        if tensor.dtype == torch.bool or tensor.is_complex() or tensor.is_quantized:
            raise TypeError(f"`{name}` must hold real floats or integers, got a tensor of {tensor.dtype}.")
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "without data" if tensor.is_meta else f"of layout {tensor.layout}"
            raise TypeError(f"`{name}` must be a dense tensor, got a tensor {kind}.")
    else:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"`{name}` must be an array of numbers or lists of equal length; converting it failed: {reason}"
            ) from error
        if array.dtype.kind not in "fiu":
            raise TypeError(f"`{name}` must hold real floats or integers, got values of dtype {array.dtype}.")
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        # PyTorch takes only writeable arrays with positive strides, in the machine's byte order.
        array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
        # Of an axis of length 1, NumPy does not look at the stride.
        tensor = torch.from_numpy(array.copy() if min(array.strides, default=0) < 0 else array)

    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    info = torch.iinfo(tensor.dtype)
    samples = tensor.to(torch.float32)
    if info.bits == 64 and samples.numel():
        largest = int(samples.abs().max())
        advice = "Convert them to the type that they were recorded in (for example int16), or to floats in [-1, 1]."
        if from_list and largest:
            raise ValueError(
                f"`{name}` is a list of integers of at most {largest}, whose full scale is unknown. {advice[:-1]}: "
                "`numpy.array(samples, dtype=numpy.int16)`."
            )
        if 0 < largest < 2**31:
            raise ValueError(
                f"`{name}` holds {tensor.dtype} samples of at most {largest}, far below that type's full scale, so their own"
                f" scale is unknown. {advice}"
            )
    full_scale = 2.0 ** (info.bits - 1)
    return (samples - full_scale if info.min == 0 else samples) / full_scale


def _check_clip_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (1, 2):
        expected = "a clip is 1-D (samples,) or, inside a list, 2-D (channels, samples) or (samples, channels)"
        raise ValueError(f"`{name}` has {len(shape)} dimensions, shape {shape}; {expected}.")
    if 0 in shape:
        raise ValueError(f"`{name}` is empty (shape {shape}); expected audio samples.")
    if len(shape) == 2 and (shape[0] == shape[1] > 1 or min(shape) > MAX_CHANNELS):
        raise ValueError(
            f"`{name}` has shape {shape}; expected a shorter axis of at most {MAX_CHANNELS}, the channels of a 2-D clip."
            " Pass one mono clip as (samples,), several as a list of them."
        )


def _refuse_samples_first(shape: tuple[int, int]) -> None:
    raise ValueError(
        f"`raw_speech` has shape {shape}, which reads as {shape[0]} clips of {shape[1]} samples; a multi-channel clip belongs in"
        " a list. (A 2-D array, or a list of lists, is a batch of mono clips, (clips, samples).)"
    )


def _check_batch_array(shape: tuple[int, ...]) -> None:
    """Checks the shape of an array of clips before anything is made for each of its rows."""
    if len(shape) > 2:
        raise ValueError(
            f"`raw_speech` has {len(shape)} dimensions, shape {shape}; expected one mono clip (samples,) or a batch of mono"
            " clips (clips, samples). Pass multi-channel clips as a list."
        )
    if len(shape) == 2 and shape[0] == 0:
        raise ValueError(f"`raw_speech` is an empty batch (shape {shape}); expected at least one clip.")
    if len(shape) == 2 and 0 < shape[1] <= MAX_CHANNELS and shape[1] < shape[0]:
        _refuse_samples_first(shape)


def _check_batch_list(clips: Sequence, frame_length: int) -> None:
    """Refuses a list of frames, the rows of a clip (samples, channels). Clips may be short, but hardly so many of them."""
    if len(clips) < frame_length:
        return
    first = clips[0]
    is_row = (
        isinstance(first[0], Real) if isinstance(first, (list, tuple)) and first else len(_shape(first) or ()) == 1
    )
    if is_row and 0 < len(first) <= MAX_CHANNELS:
        if all(hasattr(clip, "__len__") and len(clip) == len(first) for clip in clips):
            _refuse_samples_first((len(clips), len(first)))


def _to_mono(samples: torch.Tensor, name: str) -> torch.Tensor:
    """Averages the channels, the shorter axis of a 2-D clip; checks the shape."""
    _check_clip_shape(tuple(samples.shape), name)
    if samples.ndim == 1:
        return samples
    return samples.mean(dim=0 if samples.shape[0] < samples.shape[1] else 1)


def _refuse_infinite(clip: torch.Tensor, name: str) -> None:
    bad = int((~torch.isfinite(clip)).sum())
    found = f"{bad} samples that are NaN or infinite" if bad else "samples too large for float32 sums"
    raise ValueError(f"`{name}` holds {found}; expected finite amplitudes, usually in [-1, 1].")


def _read_in_pieces(values: Any, name: str, longest: int | None) -> tuple[torch.Tensor, int]:
    """
    Returns the first `longest` samples of a long clip, mono, minus the mean of all, and the number of all. Takes memory for
    these, and for one piece.
    """
    values = values.detach() if isinstance(values, torch.Tensor) else np.asarray(values)
    time = values.shape.index(max(values.shape))
    num_samples = values.shape[time]
    device = values.device if isinstance(values, torch.Tensor) else "cpu"
    clip = torch.empty(
        num_samples if longest is None else min(longest, num_samples), dtype=torch.float32, device=device
    )
    total = 0.0
    for start in range(0, num_samples, PIECE_SAMPLES):
        window = slice(start, start + PIECE_SAMPLES)
        samples = _read_values(values[window] if time == 0 else values[:, window], name)
        if samples.ndim == 2:
            samples = samples.mean(dim=1 - time)
        total += samples.sum(dtype=torch.float64).item()
        if not math.isfinite(total):
            _refuse_infinite(samples, name)
        clip[window] = samples[: max(0, len(clip) - start)]
    return clip.sub_(total / num_samples), num_samples


def _warn_if_loud(clips: Iterable[torch.Tensor], stacklevel: int) -> None:
    """Warns of 16-bit samples, say, that became floats without scaling; their values still are those of a call."""
    # One number for all clips, as reading a number back waits for the device.
    energies = [torch.dot(clip, clip) / len(clip) for clip in clips]
    if torch.stack(energies).amax() > LARGEST_RMS**2:
        warnings.warn(
            f"`raw_speech` holds floats whose root mean square is above {LARGEST_RMS:g}; full scale is 1. Integers that became"
            " floats, such as `samples.astype(float)` of int16 samples, have to be divided by their full scale (32768), or"
            " passed as the integer array that they were.",
            stacklevel=stacklevel + 1,
        )


def _samples_for_frames(max_length: int, usual: int, sampling_rate: int) -> str:
    meant = max(1, count_frames(max_length / sampling_rate))
    return (
        f"`max_length` counts frames of {FRAME_SHIFT_MS} ms, not samples: {max_length} frames are"
        f" {seconds_spanned(max_length):.0f} s, many times this feature extractor's own {usual} frames. For {max_length} samples"
        f' pass `max_length={meant}`; to pad to the longest clip, `padding="longest"`.'
    )


def _check_positive_int(name: str, value: Any, minimum: int = 1, maximum: float = math.inf) -> int:
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not minimum <= int(value) <= maximum:
        limits = f"at least {minimum}" + (f" and at most {maximum}" if maximum < math.inf else "")
        raise ValueError(f"`{name}` must be an integer of {limits}, got {value!r}.")
    return int(value)


def _check_number(name: str, value: Any, positive: bool = False) -> float:
    try:
        # An integer may be too large for a float.
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"`{name}` must be a finite{' positive' if positive else ''} number, got {value!r}.")
    return number


def _check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be a bool, got {value!r}.")
    return bool(value)


def pad_to_frame(clip: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """Pads a clip (samples,) that is shorter than a frame with zeros at its end to one frame."""
    missing = frame_sizes(sampling_rate)[0] - clip.numel()
    return torch.nn.functional.pad(clip, (0, missing)) if missing > 0 else clip


class SsambaFeatureExtractor(SavesCode, SequenceFeatureExtractor):
    r"""
    Constructs a SSAMBA feature extractor.

    Turns audio into the input of SSAMBA (arXiv 2405.11831): the waveform minus its mean, Kaldi's log-mel filter bank
    (25 ms Hann frames every 10 ms, pre-emphasis 0.97, power spectrum, from 20 Hz to half the sampling rate, natural
    logarithm with floor 1.1920929e-07, no dither, amplitude not scaled to 16-bit integers), padded or cut to `max_length`
    frames, then normalised as `(x - mean) / (2 * std)`. A clip that is shorter than one frame is first padded with zeros to
    one frame.

    Args:
        feature_size (`int`, *optional*, defaults to 1):
            Values per step of the sequences that the inherited `pad` method works on.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the audio, in hertz, from 100 to 2 000 000.
        num_mel_bins (`int`, *optional*, defaults to 128):
            Number of mel frequency bins, at most 4096.
        max_length (`int`, *optional*, defaults to 1024):
            Number of frames to pad or cut to; a frame is 10 ms.
        padding_value (`float`, *optional*, defaults to 0.0):
            Value of padded frames, before normalisation.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether to normalise with `mean` and `std`.
        mean (`float`, *optional*, defaults to -4.2677393):
            Mean of the log-mel values, AudioSet's by default; see also [`~SsambaFeatureExtractor.from_preset`] and
            [`~SsambaFeatureExtractor.compute_mean_std`].
        std (`float`, *optional*, defaults to 4.5689974):
            Standard deviation of the log-mel values, AudioSet's by default.
        return_attention_mask (`bool`, *optional*, defaults to `False`):
            Whether to return `attention_mask` unless a call says otherwise.

    Raises:
        `ValueError`: for an argument out of range.
    """

    model_input_names = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        padding_value: float = 0.0,
        do_normalize: bool = True,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        return_attention_mask: bool = False,
        **kwargs,
    ):
        sampling_rate = _check_positive_int("sampling_rate", sampling_rate, MIN_SAMPLING_RATE, MAX_SAMPLING_RATE)
        feature_size = _check_positive_int("feature_size", feature_size)
        padding_value = _check_number("padding_value", padding_value)
        if kwargs.get("padding_side", "right") not in ("right", "left"):
            raise ValueError(f'`padding_side` must be "right" or "left", got {kwargs["padding_side"]!r}.')
        for name in kwargs:
            # transformers makes attributes of unknown settings.
            if callable(getattr(type(self), name, None)) or isinstance(getattr(type(self), name, None), property):
                raise ValueError(f"`{name}` is no setting of a feature extractor, but a name of its code.")
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.num_mel_bins = _check_positive_int("num_mel_bins", num_mel_bins, maximum=MAX_MEL_BINS)
        self.max_length = _check_positive_int("max_length", max_length)
        self.do_normalize = _check_bool("do_normalize", do_normalize)
        self.mean = _check_number("mean", mean)
        self.std = _check_number("std", std, positive=True)
        self.return_attention_mask = _check_bool("return_attention_mask", return_attention_mask)

    @classmethod
    def from_preset(cls, name: str, **kwargs) -> "SsambaFeatureExtractor":
        """
        Makes a feature extractor with the mean, standard deviation and length that the authors use for a data set.

        Args:
            name (`str`):
                `"audioset"`, `"librispeech"`, `"esc50"`, `"speech_commands"`, or `"urbansound8k"` (scenes of one
                minute).
            kwargs:
                Further arguments of the class, which also override the preset's.

        Raises:
            `ValueError`: for an unknown name.
        """
        if name not in NORMALIZATION_PRESETS:
            raise ValueError(f"`name` must be one of {sorted(NORMALIZATION_PRESETS)}, got {name!r}.")
        return cls(**{**NORMALIZATION_PRESETS[name], **kwargs})

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs) -> Any:
        """As transformers' own. A `max_length` in place of the saved one may be meant as samples: a warning says so."""
        if not isinstance(feature_extractor_dict, dict):
            raise ValueError(
                f"A feature extractor's configuration must be a mapping, got {_describe(feature_extractor_dict)}."
            )
        max_length, saved = kwargs.get("max_length"), feature_extractor_dict.get("max_length")
        loaded = super().from_dict(feature_extractor_dict, **kwargs)
        rate = feature_extractor_dict.get("sampling_rate", 16000)
        # Half a second, in samples, is more than a minute, in frames.
        if (
            isinstance(saved, int)
            and isinstance(max_length, int)
            and max_length >= max(saved * SAMPLES_FOR_FRAMES, rate // 2)
        ):
            warnings.warn(_samples_for_frames(max_length, saved, rate), stacklevel=3)
        return loaded

    @property
    def window(self) -> np.ndarray:
        """The Hann window, float32 of shape (samples of a frame,)."""
        return hann_window(self.sampling_rate).numpy()

    @property
    def mel_filters(self) -> np.ndarray:
        """Kaldi's mel filters, float64 of shape (FFT size / 2 + 1, num_mel_bins)."""
        return kaldi_mel_filters(self.sampling_rate, self.num_mel_bins)

    def _check_sampling_rate(self, sampling_rate: int | None, resample: bool) -> None:
        if sampling_rate is None:
            if resample:
                raise ValueError("`resample=True` needs `sampling_rate`, the rate of `raw_speech`; got None.")
            logger.warning(
                f"It is strongly recommended to pass the `sampling_rate` argument to `{self.__class__.__name__}()`. "
                "Failing to do so can result in silent errors that might be hard to debug."
            )
        elif resample:
            _check_number("sampling_rate", sampling_rate, positive=True)
            if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
                limits = f"{MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz"
                raise ValueError(f"`sampling_rate` must be {limits} to be converted, got {sampling_rate!r}.")
        elif not isinstance(sampling_rate, Real) or sampling_rate != self.sampling_rate:
            raise ValueError(
                f"`sampling_rate` is {sampling_rate!r}, but this feature extractor expects audio sampled at"
                f" {self.sampling_rate} Hz. Pass audio at that rate, or `resample=True` to have it converted."
            )

    def _read_clip(
        self,
        values: Any,
        name: str,
        sampling_rate: int | None,
        resample: bool,
        device: torch.device,
        max_frames: int | None = None,
    ) -> tuple[torch.Tensor, int]:
        """
        Returns one clip as float32 (samples,) on `device`, mono, minus its mean, of at least one frame and of at most
        `max_frames`; and the frames that it has in all. Raises for unusable input.
        """
        longest = None if max_frames is None else samples_spanned(max_frames, self.sampling_rate)
        resample = resample and sampling_rate != self.sampling_rate
        if not resample and math.prod(_shape(values) or (0,)) > LONG_CLIP_SAMPLES:
            clip, num_samples = _read_in_pieces(values, name, longest)
            return clip.to(device), self._num_frames(num_samples)
        clip = _to_mono(_read_values(values, name), name)
        if resample:
            try:
                import soxr
            except ImportError as error:
                raise ImportError("`resample=True` needs the soxr package: pip install soxr") from error
            resampled = soxr.resample(clip.cpu().numpy(), sampling_rate, self.sampling_rate)
            clip = torch.from_numpy(np.ascontiguousarray(resampled, dtype=np.float32))
        clip = pad_to_frame(clip.to(device), self.sampling_rate)
        mean = clip.mean()
        # A sum is finite only if every sample is, which spares a pass over the samples.
        if not math.isfinite(mean):
            _refuse_infinite(clip, name)
        return clip[:longest] - mean, self._num_frames(clip.numel())

    def _num_frames(self, num_samples: int) -> int:
        frame_length, frame_shift, _ = frame_sizes(self.sampling_rate)
        return 1 + (num_samples - frame_length) // frame_shift

    def _extract_fbank_features(
        self, clips: list[torch.Tensor], lengths: list[int], name: str, outputs: list[torch.Tensor]
    ) -> None:
        """Writes the first `lengths[i]` log-mel frames of `clips[i]` to `outputs[i]`, (lengths[i], mel bins)."""
        used = [
            clip[: samples_spanned(length, self.sampling_rate)] for clip, length in zip(clips, lengths, strict=True)
        ]
        groups: list[tuple[Sequence[int], torch.Tensor]]
        if used[0].device.type == "cpu":
            # One by one, a clip's result cannot depend on what else is in the batch, down to the last bit.
            groups = [([i], clip[None]) for i, clip in enumerate(used)]
        else:
            groups = [(range(len(used)), torch.nn.utils.rnn.pad_sequence(used, batch_first=True))]

        for indices, waveforms in groups:
            for start, block in log_mel_blocks(waveforms, self.sampling_rate, self.num_mel_bins):
                if not math.isfinite(block.sum()):
                    row = int((~torch.isfinite(block.sum(dim=(1, 2)))).nonzero()[0])
                    raise ValueError(
                        f"`{name.format(indices[row])}` holds samples too large for a float32 power spectrum; expected"
                        " amplitudes usually in [-1, 1]."
                    )
                for i, values in zip(indices, block, strict=True):
                    target = outputs[i][start : start + len(values)]
                    target.copy_(values[: len(target)])

    def crop(self, values: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """
        Cuts a filter bank to `max_length` frames.

        Args:
            values (`np.ndarray` of shape (frames, num_mel_bins)): The filter bank.
            generator (`np.random.Generator`, *optional*): Draws the first frame; the beginning by default.

        Returns:
            `np.ndarray`: the filter bank, or a part of it, without a copy.
        """
        length = min(len(values), self.max_length)
        start = 0 if generator is None else int(generator.integers(len(values) - length + 1))
        return values[start : start + length]

    def pad_frames(self, values: np.ndarray) -> np.ndarray:
        """
        Pads a filter bank to `max_length` frames with `padding_value`, before normalisation.

        Args:
            values (`np.ndarray` of shape (frames, num_mel_bins)): The filter bank, of `max_length` frames at most.

        Returns:
            `np.ndarray` of shape (max_length, num_mel_bins), float32, a new array.
        """
        padded = np.empty((self.max_length, self.num_mel_bins), np.float32)
        padded[self._fill_padding(padded, len(values))] = values
        return padded

    def _fill_padding(self, values: np.ndarray | torch.Tensor, length: int) -> slice:
        """Writes `padding_value` beside `length` frames of audio; returns where these belong."""
        start = len(values) - length if self.padding_side == "left" else 0
        values[:start] = self.padding_value
        values[start + length :] = self.padding_value
        return slice(start, start + length)

    def normalize(self, values: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """
        Normalises log-mel values in place as `(x - mean) / (2 * std)`, if `do_normalize`.

        Args:
            values (`np.ndarray` or `torch.Tensor`): The values, float32 of any shape.

        Returns:
            `np.ndarray` or `torch.Tensor`: `values`.
        """
        if self.do_normalize:
            values -= self.mean
            values /= self.std * 2
        return values

    @property
    def normalized_padding(self) -> float:
        """The value of padded frames after normalisation."""
        return self.normalize(np.full(1, self.padding_value, np.float32)).item()

    @torch.no_grad()
    def __call__(
        self,
        raw_speech: np.ndarray | torch.Tensor | list,
        sampling_rate: int | None = None,
        return_tensors: str | TensorType | None = None,
        padding: bool | str | PaddingStrategy = "max_length",
        truncation: bool = True,
        max_length: int | None = None,
        return_attention_mask: bool | None = None,
        resample: bool = False,
        device: str | torch.device | None = None,
    ) -> BatchFeature:
        """
        Turns one clip or several into the model's input.

        Args:
            raw_speech (`np.ndarray`, `torch.Tensor` or `list`):
                One mono clip, (samples,) or a list of numbers; or a batch of mono clips, a 2-D array or tensor (clips,
                samples); or a list of clips, each (samples,), (channels, samples) or (samples, channels). In a list,
                the shorter axis of a 2-D clip is its channels; they are averaged. Floats of any width keep their
                values; a warning says where they are far beyond full scale, [-1, 1]. Integer types are PCM samples and
                are scaled to [-1, 1) by the type's full scale (int16 by 32768; unsigned types after subtracting half of
                their range, uint8 as (x - 128) / 128). Python's integers have no full scale and are refused: make an
                array of them, such as `np.array(samples, dtype=np.int16)`.
            sampling_rate (`int`, *optional*):
                Sampling rate of `raw_speech`, in hertz. Without it a wrong rate stays unnoticed: a warning says so.
            return_tensors (`str` or [`~utils.TensorType`], *optional*):
                `"pt"` for tensors (on the device that computed them), `"np"` for arrays, `None` for lists of arrays.
            padding (`bool`, `str` or [`~utils.PaddingStrategy`], *optional*, defaults to `"max_length"`):
                `"max_length"` pads to `max_length` frames, `"longest"` or `True` to the batch's longest clip;
                `"do_not_pad"` or `False` leaves the lengths, which must then be equal where tensors or arrays are
                asked for.
            truncation (`bool`, *optional*, defaults to `True`):
                Whether clips are cut to `max_length` frames. Without it longer clips stay whole, hours if need be,
                with `padding="longest"`, and are refused with `padding="max_length"`.
            max_length (`int`, *optional*):
                Frames of 10 ms to pad or cut to instead of the feature extractor's own `max_length`. Other feature
                extractors count samples here. A warning says where the number is likely meant as samples or seconds: it
                is far from both the longest clip's frames and the feature extractor's own `max_length`.
            return_attention_mask (`bool`, *optional*):
                Whether to return `attention_mask`; the feature extractor's own setting by default.
            resample (`bool`, *optional*, defaults to `False`):
                Whether to convert audio at another `sampling_rate`, with the soxr package.
            device (`str` or `torch.device`, *optional*):
                Where to compute; by default where the tensors in `raw_speech` are, else the CPU.

        Returns:
            [`BatchFeature`] with `input_values`, float32 of shape (clips, frames, num_mel_bins), and, if asked for,
            `attention_mask`, int32 of shape (clips, frames), 1 for frames of audio and 0 for padding.

        Raises:
            `ValueError`, `TypeError`: if an argument cannot be used, naming it, what it was and what is expected: no
            clip, an empty one, NaN or infinite samples, another sampling rate, a shape that no audio has, values that are
            not numbers, Python's integers. Shapes are checked before any clip is read.
            `ImportError`: if `resample` needs soxr and it is not installed.
        """
        self._check_sampling_rate(sampling_rate, resample)
        strategy = self._padding_strategy(padding)
        max_length = self.max_length if max_length is None else _check_positive_int("max_length", max_length)
        truncation, resample = _check_bool("truncation", truncation), _check_bool("resample", resample)
        if return_tensors not in (None, "pt", "np", TensorType.PYTORCH, TensorType.NUMPY):
            raise ValueError(f'`return_tensors` must be "pt", "np" or None, got {return_tensors!r}.')
        if return_attention_mask is None:
            return_attention_mask = self.return_attention_mask
        return_attention_mask = _check_bool("return_attention_mask", return_attention_mask)

        raw_clips, name = self._split_batch(raw_speech)
        device = self._choose_device(device, raw_clips)
        max_frames = max_length if truncation else None
        self._check_memory(raw_clips, max_length if strategy == PaddingStrategy.MAX_LENGTH else 1, max_frames)
        read = [
            self._read_clip(raw_clips[index], name.format(index), sampling_rate, resample, device, max_frames)
            for index in range(len(raw_clips))
        ]
        clips = [clip for clip, _ in read]
        _warn_if_loud(clips, stacklevel=3)
        lengths = [self._num_frames(len(clip)) for clip in clips]
        if max_length != self.max_length:
            is_padded = strategy == PaddingStrategy.MAX_LENGTH
            self._check_unit(max_length, max(num_frames for _, num_frames in read), is_padded, truncation)
        padded_lengths = self._padded_lengths(lengths, name, padding, max_length, return_tensors is not None)
        input_values, attention_mask, outputs = self._allocate(lengths, padded_lengths, device)
        self._extract_fbank_features(clips, lengths, name, outputs)
        for values in input_values:
            self.normalize(values)

        features: dict[str, Any] = {"input_values": input_values}
        if return_attention_mask:
            features["attention_mask"] = attention_mask
        if return_tensors is None:
            features = {key: [row.cpu().numpy() for row in value] for key, value in features.items()}
        elif TensorType(return_tensors) == TensorType.NUMPY:
            features = {key: value.cpu().numpy() for key, value in features.items()}
        return BatchFeature(features)

    def _check_memory(
        self, clips: Sequence | np.ndarray | torch.Tensor, num_frames: int, max_frames: int | None
    ) -> None:
        """Refuses what does not fit into the machine's memory, before a clip is read."""
        # Of a list of clips, only what comes out is known.
        num_samples = clips.shape[1] if isinstance(clips, (np.ndarray, torch.Tensor)) else 0
        if max_frames is not None:
            num_samples = min(num_samples, samples_spanned(max_frames, self.sampling_rate))
        num_samples = max(num_samples, samples_spanned(1, self.sampling_rate))
        needed = 4 * len(clips) * (num_frames * self.num_mel_bins + num_samples)
        if needed > MEMORY / 2:
            raise ValueError(
                f"{len(clips)} clips of {num_frames} frames take {needed / 1e9:.0f} GB, more than half of the"
                f" {MEMORY / 1e9:.0f} GB of this machine; pass fewer clips in `raw_speech`, or a smaller `max_length`."
            )

    def _check_unit(self, max_length: int, longest: int, is_padded: bool, is_cut: bool) -> None:
        """
        Warns of a `max_length` that is far from this feature extractor's own and from the longest clip's frames: it may be
        meant as samples, which other feature extractors count, or as seconds.
        """
        usual = self.max_length
        if is_padded and max_length >= SAMPLES_FOR_FRAMES * max(usual, longest):
            warnings.warn(_samples_for_frames(max_length, usual, self.sampling_rate), stacklevel=4)
        elif is_cut and max_length * FRAMES_FOR_SECONDS <= min(usual, longest):
            warnings.warn(
                f"`max_length` counts frames of {FRAME_SHIFT_MS} ms, not seconds: {max_length} frames are"
                f" {seconds_spanned(max_length):g} s, a small part of the longest clip and of this feature extractor's own"
                f" {usual} frames. For {max_length} s pass `max_length={count_frames(max_length)}`.",
                stacklevel=4,
            )

    def _padded_lengths(
        self,
        lengths: list[int],
        name: str,
        padding: bool | str | PaddingStrategy,
        max_length: int,
        as_array: bool,
    ) -> list[int]:
        """Returns the frames of each clip with its padding; `as_array` asks for equal ones."""
        strategy, longest = self._padding_strategy(padding), max(lengths)
        if strategy == PaddingStrategy.MAX_LENGTH and longest > max_length:
            raise ValueError(
                f"`{name.format(lengths.index(longest))}` has {longest} frames, more than `max_length` ({max_length}); allow"
                ' `truncation=True`, or pad with `padding="longest"`.'
            )
        if strategy == PaddingStrategy.DO_NOT_PAD:
            if as_array and min(lengths) != longest:
                raise ValueError(
                    f"`padding={padding!r}` leaves clips of {min(lengths)} to {longest} frames, which fit no single array;"
                    ' pad with "longest" or "max_length", or pass `return_tensors=None`.'
                )
            return lengths
        return [max_length if strategy == PaddingStrategy.MAX_LENGTH else longest] * len(lengths)

    def _allocate(
        self, lengths: list[int], padded_lengths: list[int], device: torch.device
    ) -> tuple[torch.Tensor | list[torch.Tensor], torch.Tensor | list[torch.Tensor], list[torch.Tensor]]:
        """Returns memory for the input values, filled where there is padding; attention masks; the rest of the memory."""
        input_values: torch.Tensor | list[torch.Tensor]
        attention_mask: torch.Tensor | list[torch.Tensor]
        # One allocation where the clips come out equally long: splitting it into rows costs nothing.
        if min(padded_lengths) == max(padded_lengths):
            shape = (len(lengths), padded_lengths[0], self.num_mel_bins)
            input_values = torch.empty(shape, dtype=torch.float32, device=device)
            attention_mask = torch.zeros(shape[:2], dtype=torch.int32, device=device)
        else:
            input_values = [
                torch.empty((n, self.num_mel_bins), dtype=torch.float32, device=device) for n in padded_lengths
            ]
            attention_mask = [torch.zeros(n, dtype=torch.int32, device=device) for n in padded_lengths]
        outputs = []
        for values, mask, length in zip(input_values, attention_mask, lengths, strict=True):
            audio = self._fill_padding(values, length)
            mask[audio] = 1
            outputs.append(values[audio])
        return input_values, attention_mask, outputs

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """
        The filter bank of a recording of any length, block by block, normalised as in a call, and not padded. Only one block
        is in memory. A call first subtracts the recording's mean, which a stream cannot know. As each frame's own mean is
        subtracted as well, both agree up to float32's rounding.

        Args:
            blocks (iterable of `np.ndarray`):
                The recording's consecutive mono samples at the feature extractor's rate, each (samples,), of any length.

        Yields:
            `torch.Tensor` of shape (frames, num_mel_bins): the frames that each block completes, if any. A recording that
            is shorter than one frame gives one, padded with zeros, after its last block.

        Raises:
            `ValueError`, `TypeError`: if a block cannot be used, see a call. Blocks may be shorter than a frame.
        """
        frame_length, frame_shift, _ = frame_sizes(self.sampling_rate)
        rest, is_begun = torch.empty(0), False
        for index, block in enumerate(blocks):
            name = f"blocks[{index}]"
            samples = _read_values(block, name)
            if samples.ndim != 1:
                raise ValueError(f"`{name}` must have the shape (samples,), got {tuple(samples.shape)}.")
            rest = torch.cat((rest, samples.cpu()))
            if len(rest) < frame_length:
                continue
            values = self._stream_frames(rest, name)
            rest = rest[len(values) * frame_shift :]
            is_begun = True
            yield values
        if len(rest) and not is_begun:
            yield self._stream_frames(pad_to_frame(rest, self.sampling_rate), name)

    def _stream_frames(self, samples: torch.Tensor, name: str) -> torch.Tensor:
        """The normalised filter bank of samples (samples,) on the CPU, of at least one frame."""
        values = torch.empty((self._num_frames(len(samples)), self.num_mel_bins), dtype=torch.float32)
        self._extract_fbank_features([samples], [len(values)], name, [values])
        return self.normalize(values)  # type: ignore[return-value]

    @staticmethod
    def _padding_strategy(padding: bool | str | PaddingStrategy) -> PaddingStrategy:
        if isinstance(padding, bool):
            return PaddingStrategy.LONGEST if padding else PaddingStrategy.DO_NOT_PAD
        try:
            return PaddingStrategy(padding)
        except ValueError as error:
            allowed = [strategy.value for strategy in PaddingStrategy]
            raise ValueError(f"`padding` must be a bool or one of {allowed}, got {padding!r}.") from error

    def _split_batch(self, raw_speech: Any) -> tuple[Sequence | np.ndarray | torch.Tensor, str]:
        """
        Checks the shapes of `raw_speech`. Returns its clips, unconverted, and what they are called in error messages, to be
        formatted with the clip's index.
        """
        shape, name = _shape(raw_speech), "raw_speech[{}]"
        if shape is not None:
            _check_batch_array(shape)
            if len(shape) == 2:
                _check_clip_shape(shape[1:], name.format(0))
                return raw_speech if isinstance(raw_speech, torch.Tensor) else np.asarray(raw_speech), name
            _check_clip_shape(shape, "raw_speech")
            return [raw_speech], "raw_speech"
        if not isinstance(raw_speech, (list, tuple)):
            return [raw_speech], "raw_speech"
        if len(raw_speech) == 0:
            raise ValueError("`raw_speech` is an empty list; expected at least one clip.")
        first = raw_speech[0]
        if not isinstance(first, (list, tuple, dict, str, bytes, os.PathLike)) and not _shape(first):
            return [raw_speech], "raw_speech"
        _check_batch_list(raw_speech, frame_sizes(self.sampling_rate)[0])
        for index, clip in enumerate(raw_speech):
            clip_shape = _shape(clip)
            if clip_shape is not None:
                _check_clip_shape(clip_shape, name.format(index))
        return raw_speech, name

    @staticmethod
    def _choose_device(device: str | torch.device | None, clips: Sequence | np.ndarray | torch.Tensor) -> torch.device:
        if device is not None:
            try:
                chosen = torch.device(device)
                # Fails where the machine does not have it.
                torch.empty(0, device=chosen)
            except (AssertionError, RuntimeError, TypeError) as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(
                    f"`device` must name a torch device of this machine, got {device!r}: {reason}"
                ) from error
            if chosen.type == "meta":
                raise ValueError("`device` must be one that computes, got 'meta'.")
            return chosen
        if isinstance(clips, (np.ndarray, torch.Tensor)):
            clips = clips[:1]
        devices = {clip.device if isinstance(clip, torch.Tensor) else torch.device("cpu") for clip in clips}
        if len(devices) > 1:
            found = sorted(str(found) for found in devices)
            raise ValueError(f"`raw_speech` holds clips on {found}; pass `device` to say where to compute.")
        return devices.pop()

    @torch.no_grad()
    def compute_mean_std(
        self,
        clips: Iterable[np.ndarray | torch.Tensor | list],
        sampling_rate: int | None = None,
        resample: bool = False,
        include_padding: bool = False,
        device: str | torch.device | None = None,
    ) -> tuple[float, float]:
        """
        Computes the mean and standard deviation of a data set's log-mel values before normalisation, for the class's
        `mean` and `std`. The clips are read one at a time, cut to `max_length` frames, and summed up in float64; a
        progress bar is shown.

        Args:
            clips (iterable of `np.ndarray`, `torch.Tensor` or `list`):
                The clips, each like an element of a list in a call. A generator is fine.
            sampling_rate (`int`, *optional*):
                Sampling rate of the clips, in hertz.
            resample (`bool`, *optional*, defaults to `False`):
                Whether to convert clips at another `sampling_rate`, with the soxr package.
            include_padding (`bool`, *optional*, defaults to `False`):
                Whether frames padded up to `max_length` count, as in the original, whose figures therefore depend on
                the chosen length.
            device (`str` or `torch.device`, *optional*):
                Where to compute; by default where each clip is.

        Returns:
            `tuple[float, float]`: the mean and the standard deviation over all frames and mel bins.

        Raises:
            `ValueError`, `TypeError`: if there is no clip, or one cannot be used (see a call).
        """
        self._check_sampling_rate(sampling_rate, resample)
        count, mean, squared_deviations = 0, 0.0, 0.0

        def add(other_count: int, other_mean: float, other_squared_deviations: float) -> None:
            # Chan, Golub and LeVeque's update: sums of squares would cancel.
            nonlocal count, mean, squared_deviations
            total = count + other_count
            delta = other_mean - mean
            mean += delta * other_count / total
            squared_deviations += other_squared_deviations + delta**2 * count * other_count / total
            count = total

        for index, raw_clip in enumerate(logging.tqdm(clips, desc="Filter bank statistics", unit="clip")):
            name = f"clips[{index}]"
            clip_device = self._choose_device(device, [raw_clip])
            clip, _ = self._read_clip(raw_clip, name, sampling_rate, resample, clip_device, self.max_length)
            _warn_if_loud([clip], stacklevel=3)
            length = self._num_frames(len(clip))
            values = torch.empty((length, self.num_mel_bins), dtype=torch.float32, device=clip.device)
            self._extract_fbank_features([clip], [length], name, [values])
            variance, clip_mean = torch.var_mean(values.cpu().double(), correction=0)
            add(values.numel(), clip_mean.item(), variance.item() * values.numel())
            if include_padding and length < self.max_length:
                add((self.max_length - length) * self.num_mel_bins, float(self.padding_value), 0.0)
        if count == 0:
            raise ValueError("`clips` holds no clip; expected at least one.")
        return mean, math.sqrt(squared_deviations / count)


__all__ = ["SsambaFeatureExtractor"]
