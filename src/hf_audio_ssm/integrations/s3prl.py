# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The upstream of SUPERB's toolkit s3prl. Put a file `hubconf.py` with this line into a folder of s3prl's upstreams:

    from hf_audio_ssm.integrations.s3prl import hf_audio_ssm
"""

import math

import torch
from torch import nn

from ..audio.frames import FRAMES_PER_SECOND
from ..hub.loading import load_encoder
from ..inference.embedding import encode_clips
from . import chosen_model


class UpstreamExpert(nn.Module):
    """
    Hidden states of all complete layers, along time.

    Args:
        ckpt (`str`, *optional*): A folder or a Hub repository; defaults to that of HF_AUDIO_SSM_MODEL.
    """

    def __init__(self, ckpt: str | None = None, **kwargs):
        super().__init__()
        self.model, self.feature_extractor = load_encoder(chosen_model(ckpt))
        config = self.model.config
        self.layers = list(range(0, config.num_hidden_layers + 1, config.layers_per_stream))

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples from one step to the next."""
        return self.model.config.time_stride * self.feature_extractor.sampling_rate // FRAMES_PER_SECOND

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """
        Encodes clips `(samples,)` at the feature extractor's rate.

        Returns:
            `dict`: `hidden_states`, one tensor `(clips, steps, hidden_size)` for each layer (of pairs, the second),
            the embeddings first; zeros after a clip's end. The longest clip's last step is repeated until the number of
            steps matches the rate.
        """
        clips = [wav.detach() for wav in wavs]
        rate = self.feature_extractor.sampling_rate
        frames = encode_clips(clips, rate, self.model, self.feature_extractor, self.layers).frames
        # Patches end with the clip. s3prl adds missing steps by itself, but not if that doubles their number.
        lacking = math.ceil(max(map(len, clips)) / self.get_downsample_rates()) - frames.shape[2]
        last = frames[:, :, -1:].expand(-1, -1, max(lacking, 0), -1)
        return {"hidden_states": list(torch.cat([frames, last], dim=2).unbind(dim=1))}


def hf_audio_ssm(ckpt: str | None = None, **kwargs) -> UpstreamExpert:
    """Makes the upstream, under the name that s3prl lists."""
    return UpstreamExpert(ckpt, **kwargs)
