# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The common API of HEAR (Holistic Evaluation of Audio Representations, arXiv 2203.03022):

    hear-validator hf_audio_ssm.integrations.hear --model org/ssamba-tiny
"""

import torch
from torch import nn

from ..hub.loading import load_encoder
from ..inference.embedding import EncodedBatch, encode_clips
from . import chosen_model


class HearModel(nn.Module):
    """An encoder with the attributes that HEAR asks for."""

    def __init__(self, model: str):
        super().__init__()
        self.encoder, self.feature_extractor = load_encoder(model)
        self.sample_rate: int = self.feature_extractor.sampling_rate
        self.scene_embedding_size: int = self.encoder.config.hidden_size
        self.timestamp_embedding_size: int = self.encoder.config.hidden_size

    def forward(self, audio: torch.Tensor) -> EncodedBatch:
        """Encodes sounds `(sounds, samples)`."""
        return encode_clips(list(audio), self.sample_rate, self.encoder, self.feature_extractor)


def load_model(model_file_path: str = "") -> HearModel:
    """
    Loads a checkpoint.

    Args:
        model_file_path (`str`, *optional*): A folder or a Hub repository; defaults to that of HF_AUDIO_SSM_MODEL.

    Raises:
        [`InputError`]: If there is none, or it cannot be loaded.
    """
    return HearModel(chosen_model(model_file_path)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """One embedding for each sound: `(sounds, samples)` to `(sounds, scene_embedding_size)`."""
    return model(audio).pooled(model.encoder.config.pooling)[:, 0]


@torch.no_grad()
def get_timestamp_embeddings(audio: torch.Tensor, model: HearModel) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Embeddings along time.

    Args:
        audio (`torch.Tensor` of shape `(sounds, samples)`): Sounds in [-1, 1] at `model.sample_rate`.
        model ([`HearModel`]): The model.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: embeddings `(sounds, steps, timestamp_embedding_size)`, and the middle of each
        step in milliseconds `(sounds, steps)`.
    """
    encoded = model(audio)
    timestamps = (1000 * encoded.timestamps).float()
    return encoded.frames[:, 0], timestamps.expand(len(audio), -1)
