# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels along recordings of any length: `annotate` reads, featurises and encodes within bounded memory."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.frames import frames_to_seconds
from ..audio.sound_files import NO_SAMPLES
from ..audio.streaming import AudioStream
from ..common.errors import ClipError
from ..common.printable import printable
from ..evaluation.events import decode_events
from ..hub.loading import load_feature_extractor, load_model
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from .annotation import Annotation
from .windows import PooledSpectrogram, WindowPlan, cut_windows, plan_windows


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

    The recording is read, resampled and featurised block by block. If `max_memory` allows, the encoder reads it in one
    pass, so that every label may depend on all of it. Otherwise it reads overlapping windows, and each time step is taken
    from the window in which it lies further from the edge.

    Args:
        audio (`str`, `PathLike`, binary file, or iterable):
            A path, an open file, or decoded blocks with `array` and `sampling_rate`; see [`AudioStream`].
        model (`str`, `PathLike` or `PreTrainedModel`):
            A model for audio frame classification, or the folder or name of its checkpoint or adapters.
        feature_extractor (`FeatureExtractionMixin`, *optional*): Defaults to that of the checkpoint.
        max_memory (`float`, *optional*, defaults to 2e9): Bytes that may be used beside the model.
        window_seconds (`float`, *optional*):
            The longest window, if the memory allows more: models may be best at the length that they were trained on.
        overlap_seconds (`float`, *optional*, defaults to 10.0):
            How much windows overlap: at most a quarter of a window, at least a patch and two of its strides.
        threshold, median_filter_seconds, min_seconds, background: As in [`decode_events`].
        output_dir (`str` or `PathLike`, *optional*):
            Where the result is written, see [`Annotation.save`]; also what was found before an interruption (Ctrl-C).

    Raises:
        `ValueError`, `TypeError`: If an argument cannot be used, such as a checkpoint without a trained head.
        [`ClipError`]: If the recording cannot be read, or has no samples.
        `KeyboardInterrupt`: If interrupted; the message says what was written.
    """
    model, feature_extractor = _load(model, feature_extractor)
    _check_output_dir(output_dir)
    decode = _make_decoder(
        model.config,
        threshold=threshold,
        median_filter_seconds=median_filter_seconds,
        min_seconds=min_seconds,
        background=background,
    )
    plan = plan_windows(model.config, max_memory, window_seconds, overlap_seconds)
    stream = AudioStream(audio, feature_extractor.sampling_rate)
    scored = _score_recording(model, feature_extractor, stream, plan)
    annotation = _make_annotation(stream, scored, model.config, decode)
    paths = [] if output_dir is None else annotation.save(output_dir)
    if scored.interrupted is not None:
        raise KeyboardInterrupt(_tell_interrupted(annotation, paths)) from scored.interrupted
    return annotation


def _load(
    model: str | os.PathLike | PreTrainedModel, feature_extractor: FeatureExtractionMixin | None
) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """The model and its feature extractor, loaded where `model` names a checkpoint."""
    if isinstance(model, (str, os.PathLike)):
        name = model
        model = load_model(name, "audio-frame-classification")
        feature_extractor = feature_extractor or load_feature_extractor(name)
    if not hasattr(model.config, "frames_per_label") or not hasattr(model, "frame_loss"):
        raise TypeError(f"`model` must be a model for audio frame classification, got {type(model).__name__}.")
    if feature_extractor is None:
        raise ValueError("`feature_extractor` must be given with a loaded model, got None.")
    return model, feature_extractor


def _check_output_dir(output_dir: str | os.PathLike | None) -> None:
    if output_dir is None:
        return
    existing = next(folder for folder in (Path(output_dir), *Path(output_dir).absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(
            f"`output_dir` must be a folder to write to, got {str(output_dir)!r}, but cannot write there."
        )


def _make_decoder(config: PatchEncoderConfig, **options: Any) -> Callable[[np.ndarray], pd.DataFrame]:
    """[`decode_events`] for the model's labels, with options that have been checked: better now than after hours."""
    labels = [config.id2label[index] for index in range(config.num_labels)]
    decode: Callable[[np.ndarray], pd.DataFrame] = functools.partial(
        decode_events,
        labels=labels,
        seconds_per_step=frames_to_seconds(config.frames_per_label),
        single_label=config.problem_type == "single_label_classification",
        **options,
    )
    decode(np.empty((0, len(labels))))
    return decode


class _Scored(NamedTuple):
    """
    A recording, or its beginning, after the model.

    Args:
        scores (`np.ndarray` of shape `(steps, labels)`): Probabilities.
        num_windows (`int`): Passes of the encoder that it took.
        spectrogram (`np.ndarray` of shape `(mel bins, columns)`): The filter bank at a picture's width.
        interrupted (`KeyboardInterrupt`, *optional*): What ended it early.
    """

    scores: np.ndarray
    num_windows: int
    spectrogram: np.ndarray
    interrupted: KeyboardInterrupt | None


def _score_recording(
    model: PreTrainedModel, feature_extractor: FeatureExtractionMixin, stream: AudioStream, plan: WindowPlan
) -> _Scored:
    """Scores a recording window by window, with progress."""
    config = model.config
    step, patch = config.frames_per_label, config.patch_shape[1]
    spectrogram, scores, num_windows = PooledSpectrogram(), np.empty((0, config.num_labels)), 0
    was_training, interrupted = model.training, None
    with tqdm(
        total=stream.total_seconds, desc=f"Annotating {printable(stream.name)}", unit="s", unit_scale=True
    ) as progress:

        def read() -> Iterator[torch.Tensor]:
            for values in feature_extractor.stream(stream):
                progress.total = stream.total_seconds
                spectrogram.add(values)
                yield values

        model.eval()
        try:
            for start, values in cut_windows(read(), plan):
                if len(values) < patch:
                    if start > 0:
                        break
                    values = _pad_to_patch(values, patch, feature_extractor)
                found = _score(model, values)
                # The middle of the overlap.
                kept = 0 if start == 0 else plan.overlap // step // 2
                scores = np.concatenate((scores[: start // step + kept], found[kept:]))
                num_windows += 1
                # A short recording was padded.
                progress.update(min(frames_to_seconds(start + len(values)), stream.seconds) - progress.n)
        except KeyboardInterrupt as error:
            interrupted = error
        finally:
            model.train(was_training)
    if not len(scores):
        if interrupted is not None:
            raise KeyboardInterrupt("Interrupted before anything was annotated; nothing was written.") from interrupted
        raise ClipError(stream.called, NO_SAMPLES)
    return _Scored(scores, num_windows, spectrogram.image(), interrupted)


def _pad_to_patch(values: torch.Tensor, patch: int, feature_extractor: FeatureExtractionMixin) -> torch.Tensor:
    """The frames of a recording that is shorter than one patch, filled up with silence, as [`embed`] does."""
    return torch.nn.functional.pad(values, (0, 0, 0, patch - len(values)), value=feature_extractor.normalized_padding)


@torch.inference_mode()
def _score(model: PreTrainedModel, values: torch.Tensor) -> np.ndarray:
    """Probabilities `(steps, labels)` of one window `(frames, mel bins)`."""
    logits = model(input_values=values[None].to(model.device), return_dict=True).logits[0].float()
    is_single = model.config.problem_type == "single_label_classification"
    return (logits.softmax(dim=-1) if is_single else logits.sigmoid()).cpu().numpy()


def _make_annotation(
    stream: AudioStream, scored: _Scored, config: PatchEncoderConfig, decode: Callable[[np.ndarray], pd.DataFrame]
) -> Annotation:
    """Decodes the scores of a recording that was read, and notes where it was interrupted."""
    seconds, seconds_per_step = stream.seconds, frames_to_seconds(config.frames_per_label)
    if scored.interrupted is not None:
        seconds = min(seconds, len(scored.scores) * seconds_per_step)
        stream.note(seconds, seconds, "interrupted", "what comes after was not annotated")
    events = decode(scored.scores)
    events["offset"] = events["offset"].clip(upper=seconds)
    return Annotation(
        name=stream.name,
        seconds=seconds,
        events=events,
        notes=stream.notes,
        scores=scored.scores,
        labels=[config.id2label[index] for index in range(config.num_labels)],
        seconds_per_step=seconds_per_step,
        num_windows=scored.num_windows,
        spectrogram=scored.spectrogram,
    )


def _tell_interrupted(annotation: Annotation, paths: Sequence[Path]) -> str:
    if not paths:
        return f"Interrupted: the first {annotation.seconds:.1f} s were annotated; without `output_dir`, nothing was written."
    return f"Interrupted: the first {annotation.seconds:.1f} s are annotated, in {', '.join(map(str, paths))}."
