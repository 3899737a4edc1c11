# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What a user's program may look like, for type checkers: see test_typing.py. It is never run."""

import numpy as np
import torch
from typing_extensions import assert_type

from hf_audio_ssm import (
    Annotation,
    ClipEmbedding,
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaModel,
    SsastConfig,
    annotate,
    embed,
    ops,
)
from hf_audio_ssm.audio.decoding import read_audio


config = SsambaConfig.tiny(num_labels=3)
assert_type(config, SsambaConfig)
assert_type(SsastConfig.base(), SsastConfig)
assert_type(config.patch_grid(), tuple[int, int])

model = SsambaForAudioClassification(config)
outputs = model(torch.zeros(1, 100, 128))
encoder = SsambaModel(config)

clip = read_audio("clip.wav", sampling_rate=16000)
assert_type(embed(clip, 16000, encoder, SsambaFeatureExtractor()), ClipEmbedding | list[ClipEmbedding])
assert_type(embed(np.zeros(16000), 16000, "org/name", layers=[0, -1]), ClipEmbedding | list[ClipEmbedding])
assert_type(annotate("recording.wav", "org/name"), Annotation)
assert_type(ops.available_backends(), tuple[str, ...])

scan = ops.selective_scan(
    torch.zeros(1, 8, 4), torch.zeros(1, 8, 4), -torch.ones(4, 2), torch.zeros(1, 8, 2), torch.zeros(1, 8, 2)
)
assert_type(scan, torch.Tensor)
