# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From rows of labelled clips to a batch of a classifier's inputs: reading, augmenting, filter banks and labels."""

from typing import Any

import numpy as np
import torch
from transformers import SequenceFeatureExtractor

from ..audio.decoding import read_audio
from ..audio.frames import seconds_spanned
from .augmentation import Augmentation


# Share of a clip's length that is read for augmentation, which may speed the clip up.
SPARE = 1.25


class LabelledClipCollator:
    """
    The `data_collator` of a `Trainer` on [`LabelledClips`]. It reads the audio, so that `dataloader_num_workers` share all of
    the work.

    Args:
        feature_extractor (`SequenceFeatureExtractor`): The model's.
        num_labels (`int`): Number of classes.
        multi_hot (`bool`): Whether labels are shares of each class, float32 (batch_size, num_labels), not class indices.
        augmentation (`Augmentation`, *optional*): What is done to the clips.
        padding (`str`, *optional*, defaults to `"max_length"`):
            Whether clips are padded to the feature extractor's `"max_length"` or to the `"longest"` of the batch.
        min_frames (`int`, *optional*, defaults to 1):
            Smallest number of frames in an attention mask, those of one patch. A shorter clip is read with padding.

    Raises:
        `ValueError`: If the augmentation mixes labels and `multi_hot` is false.
    """

    def __init__(
        self,
        feature_extractor: SequenceFeatureExtractor,
        num_labels: int,
        multi_hot: bool,
        augmentation: Augmentation | None = None,
        padding: str = "max_length",
        min_frames: int = 1,
    ):
        if augmentation is not None and augmentation.mixes_labels and not multi_hot:
            raise ValueError("`multi_hot` must be true for an augmentation that mixes labels, got False.")
        self.feature_extractor = feature_extractor
        self.num_labels = num_labels
        self.multi_hot = multi_hot
        self.augmentation = augmentation or Augmentation()
        self.padding, self.min_frames = padding, min_frames

    @property
    def silence(self) -> float:
        """The value of silence for augmentation: that of padding after normalisation."""
        return self.feature_extractor.normalized_padding

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        A batch of `input_values` `(clips, frames, mel bins)` and `labels`, `(clips,)` or, multi-hot, `(clips, classes)`. Where
        all rows have a `place`, (epoch, index), the augmentation depends on the places alone.

        Raises:
            [`ClipError`]: If a clip cannot be used.
        """
        rate = self.feature_extractor.sampling_rate
        seconds = seconds_spanned(self.feature_extractor.max_length)
        seconds = seconds * SPARE if self.augmentation else seconds
        waveforms = [read_audio(row["audio"], rate, max_seconds=seconds) for row in rows]
        labels = np.zeros((len(rows), self.num_labels), dtype=np.float32)
        for row, label in enumerate(rows):
            labels[row, label["label"]] = 1
        places = [row["place"] for row in rows if "place" in row]
        self.augmentation.begin_batch(places if len(places) == len(rows) else None)
        waveforms, labels = self.augmentation.waveforms(waveforms, labels, rate)
        batch = self._extract_features(waveforms, rate)
        if self.augmentation.spectrogram_transforms:
            lengths = (
                batch.get("attention_mask", torch.ones(batch["input_values"].shape[:2])).sum(dim=1).int().tolist()
            )
            for values, length in zip(batch["input_values"], lengths, strict=True):
                values[:length] = self.augmentation.spectrogram(values[:length], self.silence)
        targets = torch.from_numpy(labels)
        return {**batch, "labels": targets if self.multi_hot else targets.argmax(dim=1)}

    def _extract_features(self, waveforms: list[np.ndarray], rate: int) -> dict[str, torch.Tensor]:
        options = {"sampling_rate": rate, "return_tensors": "pt"}
        batch = dict(self.feature_extractor(waveforms, padding=self.padding, **options))
        if batch["input_values"].shape[1] < self.min_frames:
            batch = dict(
                self.feature_extractor(waveforms, padding="max_length", max_length=self.min_frames, **options)
            )
        if "attention_mask" in batch:
            batch["attention_mask"][:, : self.min_frames] = 1
        return batch
