# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The encoder class of X-ARES (arXiv 2505.16369), which loads this file by its path and evaluates HF_AUDIO_SSM_MODEL.
"""

import torch
from torch import nn

# X-ARES runs the file by itself, outside its package.
from hf_audio_ssm.audio.frames import FRAME_SHIFT_MS
from hf_audio_ssm.hub.loading import load_encoder
from hf_audio_ssm.inference.embedding import encode_clips
from hf_audio_ssm.integrations import chosen_model


class PatchEncoder(nn.Module):
    """
    Frame embeddings of a checkpoint.

    Args:
        model (`str`, *optional*): A folder or a Hub repository; defaults to that of HF_AUDIO_SSM_MODEL.
    """

    def __init__(self, model: str | None = None):
        super().__init__()
        self.encoder, self.feature_extractor = load_encoder(chosen_model(model))
        self.sampling_rate: int = self.feature_extractor.sampling_rate
        self.output_dim: int = self.encoder.config.hidden_size
        self.hop_size_in_ms: int = FRAME_SHIFT_MS * self.encoder.config.time_stride

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """From `(clips, samples)`, or one clip `(samples,)`, to embeddings `(clips, steps, output_dim)`."""
        clips = list(audio if audio.ndim == 2 else audio[None])
        return encode_clips(clips, self.sampling_rate, self.encoder, self.feature_extractor).frames[:, 0]
