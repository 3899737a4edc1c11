# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
One folder an encoder, `patch_encoder`, `heads` and `filter_bank` for what encoders share. To add an encoder: its folder, and
its record here.

The modules also work as remote code, in one flat folder: their names are unique, and they import from one another by
`from .module import name` or `from ..folder.module import name`.
"""

from .records import EncoderRecord, OriginalWork


# By model type.
ENCODERS = {
    "ssamba": EncoderRecord(
        auto_classes={
            "AutoConfig": "ssamba.configuration_ssamba.SsambaConfig",
            "AutoFeatureExtractor": "filter_bank.feature_extraction_ssamba.SsambaFeatureExtractor",
            "AutoModel": "ssamba.modeling_ssamba.SsambaModel",
            "AutoModelForAudioClassification": "ssamba.modeling_ssamba.SsambaForAudioClassification",
            "AutoModelForAudioFrameClassification": "ssamba.modeling_ssamba.SsambaForAudioFrameClassification",
            "AutoModelForPreTraining": "ssamba.modeling_ssamba.SsambaForPreTraining",
        },
        # The projections of both directions.
        lora_target_modules=("in_proj", "x_proj", "dt_proj", "out_proj"),
        ia3_feedforward_modules=("out_proj",),
        no_weight_decay=("A_log", "cls_token", "position_embeddings"),
        original_work=OriginalWork(
            name="SSAMBA",
            meaning="Self-Supervised Audio Mamba",
            paper="https://arxiv.org/abs/2405.11831",
            repository="SiavashShams/ssamba",
            license="bsd-3-clause",
            citation="""\
@article{shams2024ssamba,
  title = {{SSAMBA}: Self-Supervised Audio Representation Learning with {Mamba} State Space Model},
  author = {Shams, Siavash and Dindar, Sukru Samet and Jiang, Xilin and Mesgarani, Nima},
  journal = {arXiv preprint arXiv:2405.11831},
  year = {2024}
}""",
        ),
    ),
    "ssast": EncoderRecord(
        auto_classes={
            "AutoConfig": "ssast.configuration_ssast.SsastConfig",
            "AutoFeatureExtractor": "filter_bank.feature_extraction_ssamba.SsambaFeatureExtractor",
            "AutoModel": "ssast.modeling_ssast.SsastModel",
            "AutoModelForAudioClassification": "ssast.modeling_ssast.SsastForAudioClassification",
            "AutoModelForAudioFrameClassification": "ssast.modeling_ssast.SsastForAudioFrameClassification",
            "AutoModelForPreTraining": "ssast.modeling_ssast.SsastForPreTraining",
        },
        lora_target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"),
        ia3_feedforward_modules=("fc2",),
        original_work=OriginalWork(
            name="SSAST",
            meaning="Self-Supervised Audio Spectrogram Transformer",
            paper="https://arxiv.org/abs/2110.09784",
            repository="YuanGongND/ssast",
            license="bsd-3-clause",
            citation="""\
@inproceedings{gong2022ssast,
  title = {{SSAST}: Self-Supervised Audio Spectrogram Transformer},
  author = {Gong, Yuan and Lai, Cheng-I and Chung, Yu-An and Glass, James},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {36},
  pages = {10699--10709},
  year = {2022}
}""",
        ),
    ),
}
