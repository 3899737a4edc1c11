# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of clips and of their frames, from any encoder of patches, on a time axis in seconds."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..audio.frames import FRAMES_PER_SECOND
from ..common.errors import InputError
from ..hub.loading import load_encoder
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig


POOLINGS = ("mean", "cls")


@dataclass
class ClipEmbedding:
    """
    The embedding of a clip.

    Args:
        clip (`torch.Tensor` of shape `(hidden_size,)`, or `(layers, hidden_size)` where layers were chosen):
            The whole clip.
        frames (`torch.Tensor` of shape `(steps, hidden_size)` or `(layers, steps, hidden_size)`):
            Each column of patches: the mean of its patches, over frequency.
        timestamps (`torch.Tensor` of shape `(steps,)`, float64):
            The middle of each column, in seconds from the clip's beginning.
    """

    clip: torch.Tensor
    frames: torch.Tensor
    timestamps: torch.Tensor


@dataclass
class EncodedBatch:
    """
    Clips after the encoder.

    Args:
        prefix (`torch.Tensor` of shape `(clips, layers, hidden_size)`): The mean of the prefix tokens ([CLS]).
        frames (`torch.Tensor` of shape `(clips, layers, steps, hidden_size)`):
            The mean of each column's patches; zeros after a clip's end.
        steps (`torch.Tensor` of shape `(clips,)`): Columns that each clip has.
        timestamps (`torch.Tensor` of shape `(steps,)`, float64): The middle of each column, in seconds.
    """

    prefix: torch.Tensor
    frames: torch.Tensor
    steps: torch.Tensor
    timestamps: torch.Tensor

    def pooled(self, pooling: str) -> torch.Tensor:
        """One vector for each clip and layer, `(clips, layers, hidden_size)`."""
        if pooling == "cls":
            return self.prefix
        # Columns have the same number of patches: the mean of all patches is that of the columns.
        return self.frames.sum(dim=2) / self.steps[:, None, None]


def _check_encoder(model: Any) -> None:
    if not isinstance(model, PreTrainedModel) or not hasattr(model.config, "patch_grid"):
        raise InputError(f"`model` must be an encoder of patches of this package, got {type(model).__name__}")


def _check_layers(layers: Sequence[int] | None, config: PatchEncoderConfig) -> list[int] | None:
    if layers is None:
        return None
    depth, step = config.num_hidden_layers, config.layers_per_stream
    indices = [layer + depth + 1 if layer < 0 else layer for layer in layers]
    if not indices or not all(0 <= index <= depth and index % step == 0 for index in indices):
        allowed = (
            f"0, {step}, {2 * step} ... {depth}"
            if depth > 2 * step
            else ", ".join(map(str, range(0, depth + 1, step)))
        )
        raise InputError(
            f"`layers` must be some of {allowed} (0: before the first layer), or negative to count from the end, got "
            f"{list(layers)}"
        )
    return indices


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Puts a model in evaluation mode, and each of its modules back in its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def encode_clips(
    clips: Sequence[np.ndarray | torch.Tensor],
    sampling_rate: int,
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    layers: Sequence[int] | None = None,
) -> EncodedBatch:
    """
    Encodes a batch of clips in their whole length, each as if it came alone. Gradients flow into the model.

    Args:
        clips (`list`): Clips as the feature extractor takes them.
        sampling_rate (`int`): Their rate in hertz; converted, if it is not the feature extractor's.
        model (`PreTrainedModel`): The encoder, with or without a head.
        feature_extractor (`SequenceFeatureExtractor`): Its feature extractor.
        layers (`Sequence[int]`, *optional*):
            Layers whose residual stream is taken, counted as `hidden_states`; defaults to the final, normalised tokens.

    Returns:
        [`EncodedBatch`], float32 on the model's device.

    Raises:
        [`InputError`]: If `layers` names a layer that the model does not have, or the first of a pair.
        `ValueError`, `TypeError`: If the feature extractor refuses a clip.
    """
    config = model.config
    layers = _check_layers(layers, config)
    options = {"sampling_rate": sampling_rate, "resample": sampling_rate != feature_extractor.sampling_rate}
    options |= {"return_tensors": "pt", "return_attention_mask": True, "device": model.device}
    inputs = feature_extractor(clips, padding="longest", truncation=False, **options)
    patch_frames = config.patch_shape[1]
    if inputs["input_values"].shape[1] < patch_frames:
        inputs = feature_extractor(clips, padding="max_length", max_length=patch_frames, **options)
    # A clip shorter than one patch is padded to it.
    inputs["attention_mask"][:, :patch_frames] = 1
    steps = (inputs["attention_mask"].sum(dim=1) - patch_frames) // config.time_stride + 1

    outputs = model.base_model(**inputs, output_hidden_states=layers is not None, return_dict=True)
    streams = [outputs.last_hidden_state] if layers is None else [outputs.hidden_states[layer] for layer in layers]
    tokens = torch.stack(streams, dim=1).float()
    prefix, patches = tokens.tensor_split([config.num_prefix_tokens], dim=2)
    frames = patches.unflatten(2, (config.patch_grid()[0], -1)).mean(dim=2)
    centres = torch.tensor(config.column_centres(frames.shape[2]), dtype=torch.float64, device=frames.device)
    return EncodedBatch(prefix.mean(dim=2), frames, steps, centres / FRAMES_PER_SECOND)


def _is_batch(waveform: Any) -> bool:
    if isinstance(waveform, list | tuple):
        return len(waveform) > 0 and np.ndim(waveform[0]) > 0
    return np.ndim(waveform) == 2


@torch.no_grad()
def embed(
    waveform: np.ndarray | torch.Tensor | list,
    sampling_rate: int,
    model: str | os.PathLike | PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor | None = None,
    pooling: str | None = None,
    layers: Sequence[int] | None = None,
    batch_size: int = 8,
) -> ClipEmbedding | list[ClipEmbedding]:
    """
    Embeds a clip, or several, of any length.

    Each clip is encoded whole and by itself, without padding, whatever else is in the batch. Only a clip shorter than one
    patch is filled up with silence.

    Args:
        waveform (`np.ndarray`, `torch.Tensor` or `list`):
            A mono clip `(samples,)`, or several: a list of clips, or an array `(clips, samples)`. Clips of several
            channels belong in a list.
        sampling_rate (`int`):
            Its rate in hertz; it is converted to the model's.
        model (`str`, `PathLike` or `PreTrainedModel`):
            The encoder, with or without a head; or a folder or Hub repository, which each call loads anew.
        feature_extractor (`SequenceFeatureExtractor`, *optional*):
            The model's feature extractor; needed if `model` is a loaded model.
        pooling (`str`, *optional*):
            How tokens become the clip's embedding: `"mean"` of the patches, or the `"cls"` token. Defaults to the
            model's `config.pooling`.
        layers (`Sequence[int]`, *optional*):
            Layers whose residual stream is taken, counted as transformers counts `hidden_states`: 0 before the first
            layer, -1 after the last. If layers run in pairs, only those that end a pair. Defaults to the final tokens,
            after the last layer norm.
        batch_size (`int`, *optional*, defaults to 8):
            Clips that are encoded at once.

    Returns:
        [`ClipEmbedding`], or a list of them where there are several clips; float32 on the model's device.

    Raises:
        [`InputError`]: If `model`, `pooling`, `layers` or `batch_size` cannot be used.
        `ValueError`, `TypeError`: If a clip cannot be used; the message names it.

    Example:

    ```python
    >>> import numpy as np
    >>> from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaModel, embed

    >>> model = SsambaModel(SsambaConfig.tiny(num_hidden_layers=2))
    >>> embedding = embed(np.random.randn(16000), 16000, model, SsambaFeatureExtractor())
    >>> embedding.clip.shape, embedding.frames.shape
    (torch.Size([192]), torch.Size([6, 192]))
    ```
    """
    if pooling is not None and pooling not in POOLINGS:
        raise InputError(f"`pooling` must be one of {', '.join(POOLINGS)}, or None for the model's, got {pooling!r}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {batch_size!r}")
    if isinstance(model, (str, os.PathLike)):
        model, own = load_encoder(model)
        feature_extractor = own if feature_extractor is None else feature_extractor
    _check_encoder(model)
    if feature_extractor is None:
        raise InputError("`feature_extractor` must be given with a model that is loaded already, got None")
    is_batch = _is_batch(waveform)
    clips: list[Any] = list(waveform) if is_batch else [waveform]
    embeddings = []
    with _evaluating(model):
        for start in range(0, len(clips), batch_size):
            batch = encode_clips(clips[start : start + batch_size], sampling_rate, model, feature_extractor, layers)
            pooled, frames = batch.pooled(pooling or model.config.pooling), batch.frames
            if layers is None:
                pooled, frames = pooled[:, 0], frames[:, 0]
            for vector, columns, steps in zip(pooled, frames, batch.steps.tolist(), strict=True):
                embeddings.append(ClipEmbedding(vector, columns[..., :steps, :], batch.timestamps[:steps]))
    return embeddings if is_batch else embeddings[0]
