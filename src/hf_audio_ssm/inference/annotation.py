# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels along recordings of any length: `annotate` reads, featurises and encodes within bounded memory."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModelForAudioFrameClassification, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.streaming import AudioStream
from ..common.errors import ClipError, InputError
from ..common.whole_files import replacing
from ..evaluation.events import decode_events
from ..models.heads.audio_frame_classification import SECONDS_PER_FRAME
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig


# Peak memory of an encoder without gradients, in floats a token and hidden dimension, and in floats a value of the
# filter bank; measured, with some reserve, see docs/long_audio.md.
TOKEN_FLOATS = 24
VALUE_FLOATS = 4
PICTURE_COLUMNS = 2048


class _PooledSpectrogram:
    """A spectrogram of at most twice `PICTURE_COLUMNS` columns: the more frames there are, the more a column averages."""

    def __init__(self) -> None:
        self.columns: list[np.ndarray] = []
        self.frames_per_column = 1
        self.rest = None

    def add(self, values: torch.Tensor) -> None:
        values = values.numpy() if self.rest is None else np.concatenate((self.rest, values.numpy()))
        whole = len(values) // self.frames_per_column * self.frames_per_column
        self.rest = values[whole:]
        self.columns.extend(values[:whole].reshape(-1, self.frames_per_column, values.shape[1]).mean(axis=1))
        while len(self.columns) >= 2 * PICTURE_COLUMNS:
            if len(self.columns) % 2:
                odd = np.repeat(self.columns.pop()[None], self.frames_per_column, axis=0)
                self.rest = np.concatenate((odd, self.rest))
            pairs = np.stack(self.columns)
            self.columns = list(pairs.reshape(-1, 2, pairs.shape[1]).mean(axis=1))
            self.frames_per_column *= 2

    def image(self) -> np.ndarray:
        """(mel bins, columns)"""
        return np.stack(self.columns or list(self.rest)).T


@dataclass
class Annotation:
    """
    What [`annotate`] finds in a recording.

    Args:
        name (`str`): What the recording is called: its file's name without the suffix.
        seconds (`float`): Its length, as far as it was annotated.
        events (`pd.DataFrame`): The columns `onset` and `offset` (seconds), `label` and `score`.
        notes (`pd.DataFrame`): What is to be known of the recording, see `AudioStream.notes`; `kind` may also be "interrupted".
        scores (`np.ndarray` of shape `(steps, labels)`): Probabilities along time.
        labels (`list[str]`): Their labels.
        seconds_per_step (`float`): Length of a time step.
        num_windows (`int`): Passes of the encoder that it took.
        spectrogram (`np.ndarray` of shape `(mel bins, columns)`): The normalised filter bank, averaged to a picture's width.
    """

    name: str
    seconds: float
    events: pd.DataFrame
    notes: pd.DataFrame
    scores: np.ndarray
    labels: list[str]
    seconds_per_step: float
    num_windows: int
    spectrogram: np.ndarray

    def write_table(self, path: str | os.PathLike) -> None:
        """Writes the events to a .csv or .json file (a list of objects)."""
        if Path(path).suffix not in (".csv", ".json"):
            raise ValueError(f"`path` must end in .csv or .json, got {str(path)!r}.")
        if Path(path).suffix == ".csv":
            _write(path, self.events.to_csv(index=False, float_format="%.3f"))
        else:
            _write(path, self.events.to_json(orient="records", double_precision=3, indent=1) + "\n")

    def write_rttm(self, path: str | os.PathLike) -> None:
        """Writes the events in NIST's Rich Transcription Time Marked format; spaces in names become underscores."""
        name = "_".join(self.name.split()) or "audio"
        lines = [
            f"SPEAKER {name} 1 {onset:.3f} {offset - onset:.3f} <NA> <NA> {'_'.join(label.split())} {score:.3f} <NA>\n"
            for onset, offset, label, score in self.events.itertuples(index=False)
        ]
        _write(path, "".join(lines))

    def write_audacity(self, path: str | os.PathLike) -> None:
        """Writes the events as a label track that Audacity imports."""
        lines = [
            f"{onset:.6f}\t{offset:.6f}\t{' '.join(label.split())}\n"
            for onset, offset, label in self.events[["onset", "offset", "label"]].itertuples(index=False)
        ]
        _write(path, "".join(lines))

    def draw(self, path: str | os.PathLike) -> None:
        """Draws the spectrogram with the events and the notes below it, to a PNG file."""
        figure = Figure(figsize=(14, 4 + 0.25 * len(self.labels)), layout="constrained")
        heights = (1, 0.4 + 0.12 * len(self.labels))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        extent = (0, self.seconds, 0, len(self.spectrogram))
        top.imshow(
            self.spectrogram, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest"
        )
        top.set(ylabel="mel bin")
        # Names may hold dollars, which are no formulas, and bytes that are no UTF-8.
        top.set_title(self.name.encode(errors="replace").decode(), parse_math=False)
        # A collection for each label: thousands of single bars would take longer than annotating.
        for row, label in enumerate(self.labels):
            events = self.events[self.events["label"] == label]
            bars = list(zip(events["onset"], events["offset"] - events["onset"], strict=True))
            bottom.broken_barh(bars, (row - 0.4, 0.8), color="tab:blue", linewidth=0)
        widths = (self.notes["offset"] - self.notes["onset"]).clip(lower=self.seconds / 1000)
        bars = list(zip(self.notes["onset"], widths, strict=True))
        bottom.broken_barh(bars, (-0.5, len(self.labels)), color="tab:red", alpha=0.25, linewidth=0)
        named_until = -math.inf
        for onset, kind in zip(self.notes["onset"], self.notes["kind"], strict=True):
            # Where there is room.
            if onset >= named_until:
                bottom.annotate(kind, (onset, len(self.labels) - 0.5), fontsize=7, color="tab:red", va="top")
                named_until = onset + self.seconds / 20
        bottom.set(xlabel="time (s)", xlim=(0, self.seconds), ylim=(-0.5, len(self.labels) - 0.5))
        bottom.set_yticks(range(len(self.labels)), self.labels, parse_math=False)
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)

    def save(self, output_dir: str | os.PathLike) -> list[Path]:
        """
        Writes everything: NAME.csv, NAME.json, NAME.rttm, NAME.txt (Audacity), NAME.notes.csv and NAME.png.

        Returns:
            `list[Path]`: The files.
        """
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        writers: dict[str, Callable] = {
            ".csv": self.write_table,
            ".json": self.write_table,
            ".rttm": self.write_rttm,
            ".txt": self.write_audacity,
            ".notes.csv": lambda path: _write(path, self.notes.to_csv(index=False, float_format="%.3f")),
            ".png": self.draw,
        }
        paths = []
        for suffix, write in writers.items():
            paths.append(folder / f"{self.name}{suffix}")
            write(paths[-1])
        return paths


def _write(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as partial:
        # Of names that are no UTF-8, what is none is replaced.
        partial.write_text(text, encoding="utf-8", errors="replace")


def _count_window_frames(config: PatchEncoderConfig, max_memory: float) -> int:
    """Frames that one pass of the encoder can take within so many bytes."""
    tokens_per_frame = config.patch_grid()[0] / config.time_stride
    values = config.num_mel_bins * VALUE_FLOATS + tokens_per_frame * config.hidden_size * TOKEN_FLOATS
    return int(max_memory / (4 * values))


def _cut_windows(blocks: Iterable[torch.Tensor], window: int, overlap: int) -> Iterator[tuple[int, torch.Tensor]]:
    """
    Windows of consecutive frames: the first frame of each, and its values `(frames, mel bins)`. Each but the last has
    `window` frames, and each but the first begins `overlap` frames before the one before it ends.
    """
    start, length, parts = 0, 0, []
    for block in blocks:
        parts.append(block)
        length += len(block)
        # Only once there is more than a window: the last window then holds at least the overlap and a frame.
        while length > window:
            values = torch.cat(parts)
            del parts
            yield start, values[:window]
            start += window - overlap
            parts = [values[window - overlap :].clone()]
            length = len(parts[0])
            del values
    if parts:
        values = torch.cat(parts)
        parts.clear()
        yield start, values


def annotate(
    audio: str | os.PathLike | BinaryIO | Iterable[Mapping[str, Any]],
    model: str | os.PathLike | PreTrainedModel,
    feature_extractor: FeatureExtractionMixin | None = None,
    max_memory: float = 2e9,
    window_seconds: float | None = None,
    overlap_seconds: float = 10.0,
    threshold: float | Mapping[str, float] = 0.5,
    median_filter_seconds: float = 0.0,
    min_seconds: float = 0.0,
    background: Sequence[str] = (),
    output_dir: str | os.PathLike | None = None,
) -> Annotation:
    """
    Finds the events in a recording of any length, with a model of labels along time.

    The recording is read, resampled and featurised block by block. Where `max_memory` allows, one pass of the encoder
    reads it as a whole, so that every label may depend on all of it; else overlapping windows do, and each time step is
    taken from the window in which it lies further from the edge.

    Args:
        audio (`str`, `PathLike`, binary file, or iterable):
            A path, an open file, or decoded blocks with `array` and `sampling_rate`; see [`AudioStream`].
        model (`str`, `PathLike` or `PreTrainedModel`):
            A model for audio frame classification, or the folder or name of its checkpoint.
        feature_extractor (`FeatureExtractionMixin`, *optional*): By default, that of the checkpoint.
        max_memory (`float`, *optional*, defaults to 2e9): Bytes that may be used beside the model.
        window_seconds (`float`, *optional*):
            Longest window, where the memory allows more: what a model was trained on may be what it does best.
        overlap_seconds (`float`, *optional*, defaults to 10.0):
            By how much windows overlap: at most a quarter of a window, at least a patch and two of its strides.
        threshold, median_filter_seconds, min_seconds, background: As in [`decode_events`].
        output_dir (`str` or `PathLike`, *optional*):
            Where to write what is found, see [`Annotation.save`]. Interrupted (Ctrl-C), it writes what was found until then,
            and says so.

    Returns:
        [`Annotation`]

    Raises:
        `ValueError`, `TypeError`: for arguments that cannot be used, such as a checkpoint without a trained head.
        [`ClipError`]: If the recording cannot be read, or is shorter than one patch.
        `KeyboardInterrupt`: with what was written, if interrupted.
    """
    if isinstance(model, (str, os.PathLike)):
        feature_extractor = feature_extractor or AutoFeatureExtractor.from_pretrained(model)
        name = model
        model, info = AutoModelForAudioFrameClassification.from_pretrained(name, output_loading_info=True)
        # Of a clip's classifier, a linear head serves as well; of another one, only parts would be used.
        wrong = {*info["missing_keys"], *(key for key in info["unexpected_keys"] if key.startswith("classifier."))}
        if wrong:
            raise InputError(
                f"`model` {str(name)!r} has no trained head for labels along time: {', '.join(sorted(wrong))} of its head do "
                "not fit; train one by examples/run_scene_labelling.py, or a linear classifier of clips"
            )
    if not hasattr(model.config, "frames_per_label") or not hasattr(model, "frame_loss"):
        raise TypeError(f"`model` must be one for audio frame classification, got {type(model).__name__}.")
    if feature_extractor is None:
        raise ValueError("`feature_extractor` must be given with a model that is not a checkpoint, got None.")
    for name, value in (("max_memory", max_memory), ("window_seconds", window_seconds)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be a positive number, got {value!r}.")
    if not 0 <= overlap_seconds < math.inf:
        raise ValueError(f"`overlap_seconds` must be zero or a positive number, got {overlap_seconds!r}.")
    if output_dir is not None:
        existing = next(
            folder for folder in (Path(output_dir), *Path(output_dir).absolute().parents) if folder.exists()
        )
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(
                f"`output_dir` must be a folder to write to, got {str(output_dir)!r}, but cannot write there."
            )
    config = model.config
    step, patch = config.frames_per_label, config.patch_shape[1]
    labels = [config.id2label[index] for index in range(config.num_labels)]
    decoding = {
        "labels": labels,
        "seconds_per_step": step * SECONDS_PER_FRAME,
        "threshold": threshold,
        "median_filter_seconds": median_filter_seconds,
        "min_seconds": min_seconds,
        "single_label": config.problem_type == "single_label_classification",
        "background": background,
    }
    # Refused now rather than after hours.
    decode_events(np.empty((0, len(labels))), **decoding)

    window = _count_window_frames(config, max_memory)
    if window_seconds is not None:
        window = min(window, round(window_seconds / SECONDS_PER_FRAME))
    # Windows begin where time steps begin.
    window -= window % step
    overlap = min(round(overlap_seconds / SECONDS_PER_FRAME), window // 4)
    # The last step of a window is that of its last column's centre, up to a stride and half a patch before its end: the next
    # window's steps, which begin in the middle of the overlap, have to follow on it.
    overlap = max(overlap - overlap % step, math.ceil((patch + 2 * config.time_stride) / step) * step)
    if window < 2 * overlap:
        raise ValueError(
            f"`max_memory` and `window_seconds` leave windows of {window * SECONDS_PER_FRAME:g} s; at least "
            f"{2 * overlap * SECONDS_PER_FRAME:g} s are needed, with time steps of {step * SECONDS_PER_FRAME:g} s."
        )

    stream = AudioStream(audio, feature_extractor.sampling_rate)
    spectrogram, scores, num_windows = _PooledSpectrogram(), np.empty((0, len(labels))), 0
    was_training, interrupted = model.training, None
    with tqdm(total=stream.total_seconds, desc=f"Annotating {stream.name}", unit="s", unit_scale=True) as progress:

        def read() -> Iterator[torch.Tensor]:
            for values in feature_extractor.stream(stream):
                progress.total = stream.total_seconds
                spectrogram.add(values)
                yield values

        model.eval()
        try:
            for start, values in _cut_windows(read(), window, overlap):
                if len(values) < patch:
                    break
                found = _score(model, values)
                # The middle of the overlap.
                kept = 0 if start == 0 else overlap // step // 2
                scores = np.concatenate((scores[: start // step + kept], found[kept:]))
                num_windows += 1
                progress.update((start + len(values)) * SECONDS_PER_FRAME - progress.n)
        except KeyboardInterrupt as error:
            interrupted = error
        finally:
            model.train(was_training)
    seconds = min(stream.seconds, len(scores) * decoding["seconds_per_step"]) if interrupted else stream.seconds
    if interrupted is None and not len(scores):
        raise ClipError(
            stream.name,
            f"{stream.seconds:.3f} s of audio, less than one patch of {patch} frames of {SECONDS_PER_FRAME} s",
        )
    if interrupted is not None:
        stream.note(seconds, seconds, "interrupted", "what comes after was not annotated")
        if not len(scores):
            raise KeyboardInterrupt("Interrupted before anything was annotated; nothing was written.") from interrupted
        if output_dir is None:
            message = (
                f"Interrupted: the first {seconds:.1f} s were annotated; without `output_dir`, nothing was written."
            )
            raise KeyboardInterrupt(message) from interrupted
    events = decode_events(scores, **decoding)
    events["offset"] = events["offset"].clip(upper=seconds)
    annotation = Annotation(
        name=stream.name,
        seconds=seconds,
        events=events,
        notes=stream.notes,
        scores=scores,
        labels=labels,
        seconds_per_step=decoding["seconds_per_step"],
        num_windows=num_windows,
        spectrogram=spectrogram.image(),
    )
    if output_dir is not None:
        paths = annotation.save(output_dir)
        if interrupted is not None:
            written = ", ".join(map(str, paths))
            raise KeyboardInterrupt(
                f"Interrupted: the first {seconds:.1f} s are annotated, in {written}."
            ) from interrupted
    return annotation


@torch.inference_mode()
def _score(model: PreTrainedModel, values: torch.Tensor) -> np.ndarray:
    """Probabilities `(steps, labels)` of one window `(frames, mel bins)`."""
    logits = model(input_values=values[None].to(model.device)).logits[0].float()
    is_single = model.config.problem_type == "single_label_classification"
    return (logits.softmax(dim=-1) if is_single else logits.sigmoid()).cpu().numpy()
