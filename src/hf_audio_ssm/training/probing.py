# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Probing: features of a frozen encoder computed once and kept, classifiers on them, and the few-shot protocol."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedModel

from ..common.errors import InputError
from ..common.printable import one_line
from ..common.whole_files import replacing
from ..data.labelled_collator import LabelledClipCollator
from ..models.heads.classification_heads import CLASSIFICATION_HEADS
from ..models.heads.configuration_heads import HeadConfig
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig


KNN_NEIGHBORS = 10
# Fields of the configuration that do not change features: those of heads, of labels and of saving.
HEAD_FIELDS = {field.name for field in fields(HeadConfig)} - {field.name for field in fields(PatchEncoderConfig)}
HEAD_FIELDS |= {"problem_type", "id2label", "label2id", "architectures", "dtype"}
# Any head of those that read the same, by the name of their features.
READERS = {head.features: head for head in CLASSIFICATION_HEADS.values()}
# Temperature of the softmax over the neighbours' similarities, as in the evaluation of DINO (arXiv 2104.14294).
KNN_TEMPERATURE = 0.07


class FeatureDataset(torch.utils.data.Dataset):
    """
    Features of clips and their labels for a `Trainer`: rows of `encoder_features`, `labels` and, where clips differ in
    length, `patch_attention_mask`.
    """

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, patch_attention_mask: torch.Tensor | None = None):
        self.features, self.labels, self.patch_attention_mask = features, labels, patch_attention_mask

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = {"encoder_features": self.features[index], "labels": self.labels[index]}
        if self.patch_attention_mask is not None:
            row["patch_attention_mask"] = self.patch_attention_mask[index]
        return row

    def select(self, indices: Iterable[int]) -> "FeatureDataset":
        """Some of the clips."""
        indices = torch.as_tensor(list(indices))
        mask = self.patch_attention_mask
        return FeatureDataset(self.features[indices], self.labels[indices], None if mask is None else mask[indices])


def features_of(classifier_types: Iterable[str]) -> list[str]:
    """The names of the features that heads of these types read; other methods ("knn") read the pooled output."""
    heads = (CLASSIFICATION_HEADS.get(name, CLASSIFICATION_HEADS["linear"]) for name in classifier_types)
    return sorted({head.features for head in heads})


# Not in inference mode, whose tensors no training may use.
@torch.no_grad()
def extract_features(
    model: PreTrainedModel,
    clips: datasets.Dataset,
    collator: LabelledClipCollator,
    names: Iterable[str] = ("pooler_output",),
    batch_size: int = 16,
    num_workers: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> dict[str, FeatureDataset]:
    """
    Runs the encoder over clips once, in evaluation mode.

    Args:
        model (`PreTrainedModel`): A classifier or a bare encoder.
        clips (`datasets.Dataset`): Labelled clips, see [`LabelledClips`].
        collator (`LabelledClipCollator`): Makes the inputs, without augmentation.
        names (`Iterable[str]`, *optional*): Names of features, see [`features_of`].
        batch_size (`int`, *optional*, defaults to 16): Clips at a time.
        num_workers (`int`, *optional*, defaults to 0): Processes that read the clips.
        cache_dir (`str`, *optional*):
            Folder that keeps features for the same encoder, feature extractor and clips.

    Returns:
        `dict[str, FeatureDataset]`: by name.

    Raises:
        `ValueError`: If no head reads features of a name, or the collator augments: features would be kept of one version of
            each clip.
    """
    if collator.augmentation:
        raise ValueError("`collator` must not augment the clips that frozen features are computed of.")
    names = list(names)
    for name in names:
        if name not in READERS:
            raise ValueError(f"`names` must be among {', '.join(sorted(READERS))}, got {name!r}.")
    encoder = model.base_model
    cache = None
    if cache_dir is not None:
        cache = Path(cache_dir) / f"{_fingerprint(encoder, clips, collator, names)}.safetensors"
        if cache.is_file():
            try:
                return _to_datasets(load_file(cache), names)
            except (KeyError, SafetensorError) as error:
                print(f"{cache} is damaged ({one_line(error)}): the features are computed again")

    loader = DataLoader(clips, batch_size=batch_size, num_workers=num_workers, collate_fn=collator)
    was_training = encoder.training
    tensors = _read_all(encoder.eval(), loader, names)
    encoder.train(was_training)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as partial:
            save_file(tensors, partial)
    return _to_datasets(tensors, names)


def _read_all(encoder: PreTrainedModel, loader: DataLoader, names: list[str]) -> dict[str, torch.Tensor]:
    """The features of all batches by name, with `labels` and, where clips differ in length, `patch_attention_mask`."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in (*names, "labels", "patch_attention_mask")}
    reads_hidden_states = any(READERS[name].reads_hidden_states for name in names)
    differ_in_length = False
    for batch in tqdm(loader, desc="Computing features", unit="batch"):
        parts["labels"].append(batch.pop("labels"))
        batch = {name: tensor.to(encoder.device) for name, tensor in batch.items()}
        outputs = encoder(**batch, output_hidden_states=reads_hidden_states, return_dict=True)
        for name in names:
            parts[name].append(READERS[name].read(outputs, encoder.config, **batch).float().cpu())
        mask = outputs.patch_attention_mask
        differ_in_length |= mask is not None
        if mask is None:
            # Other batches may have one.
            mask = outputs.last_hidden_state.new_ones(outputs.last_hidden_state.shape[:2], dtype=torch.bool)
            mask = mask[:, encoder.config.num_prefix_tokens :]
        parts["patch_attention_mask"].append(mask.cpu())
    if not differ_in_length and len({mask.shape[1] for mask in parts["patch_attention_mask"]}) == 1:
        del parts["patch_attention_mask"]
    return {name: _join(tensors) for name, tensors in parts.items()}


def _join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Joins batches, which may differ in their longest clip, with zeros after the ends of shorter ones; masks leave them out."""
    shape = [max(lengths) for lengths in zip(*(part.shape[1:] for part in parts), strict=True)]
    missing = [[length - own for length, own in zip(shape, part.shape[1:], strict=True)] for part in parts]
    paddings = [[end for length in reversed(lengths) for end in (0, length)] for lengths in missing]
    return torch.cat([F.pad(part, padding) for part, padding in zip(parts, paddings, strict=True)])


def _to_datasets(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> dict[str, FeatureDataset]:
    return {
        name: FeatureDataset(tensors[name], tensors["labels"], tensors.get("patch_attention_mask")) for name in names
    }


def _fingerprint(
    encoder: PreTrainedModel, clips: datasets.Dataset, collator: LabelledClipCollator, names: list[str]
) -> str:
    """A digest of all that decides the features: weights, configuration, feature extractor, clips and labels."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())

    config = encoder.config.to_diff_dict()
    add([{key: value for key, value in config.items() if key not in HEAD_FIELDS and key[0] != "_"}, names])
    add([collator.feature_extractor.to_dict(), collator.multi_hot, collator.num_labels])
    add([collator.padding, collator.min_frames])
    for name, tensor in encoder.state_dict().items():
        add([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for row in clips:
        audio = row["audio"] or {}
        add(row["label"])
        if audio.get("bytes") is not None:
            digest.update(audio["bytes"])
        elif audio.get("path") is not None:
            stat = os.stat(audio["path"])
            add([os.path.abspath(audio["path"]), stat.st_size, stat.st_mtime_ns])
    return digest.hexdigest()[:32]


def knn_scores(train: FeatureDataset, features: torch.Tensor, num_neighbors: int = KNN_NEIGHBORS) -> np.ndarray:
    """
    Scores the classes by the nearest training clips (cosine), without any training: a neighbour counts by the softmax of its
    similarity.

    Args:
        train (`FeatureDataset`): Pooled features of the training clips, with class indices or zeros and ones as labels.
        features (`torch.Tensor` of shape `(clips, hidden_size)`): Pooled features of the clips to classify.
        num_neighbors (`int`, *optional*, defaults to 10): How many neighbours count; all clips where there are fewer.

    Returns:
        `np.ndarray` of shape `(clips, classes)`: for class indices, with a column for each index up to the highest.
    """
    labels = train.labels if train.labels.ndim == 2 else F.one_hot(train.labels)
    neighbors = NearestNeighbors(n_neighbors=min(num_neighbors, len(train)), metric="cosine", algorithm="brute")
    distances, indices = neighbors.fit(train.features.numpy()).kneighbors(features.numpy())
    weights = softmax(-distances / KNN_TEMPERATURE, axis=1)
    return np.einsum("nk,nkc->nc", weights, labels.numpy()[indices])


def draw_few_shot(labels: Iterable[int], shots: int, seed: int) -> list[int]:
    """
    Draws `shots` clips of each class.

    Args:
        labels (`Iterable[int]`): The class of each clip.
        shots (`int`): Clips a class.
        seed (`int`): Seed of the draw.

    Returns:
        `list[int]`: indices of the clips drawn.

    Raises:
        [`InputError`]: If a class has fewer clips.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        if shots < 1 or len(indices) < shots:
            raise InputError(
                f"`shots` must be at least 1 and at most {len(indices)}, the clips of class {label}, got {shots}"
            )
        drawn.extend(rng.permutation(indices)[:shots].tolist())
    return drawn
