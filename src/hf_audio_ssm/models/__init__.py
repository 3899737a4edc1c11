# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
One folder per model, and `patch_encoder` with what they share. To add an encoder: its folder, and its entry here.

The modules also work as remote code, in one flat folder: their names are unique, and they import from one another by
`from .module import name` or `from ..folder.module import name`.
"""

# Model type -> Auto class -> the class it gives, by its place below this folder.
AUTO_CLASSES = {
    "ssamba": {
        "AutoConfig": "ssamba.configuration_ssamba.SsambaConfig",
        "AutoFeatureExtractor": "filter_bank.feature_extraction_ssamba.SsambaFeatureExtractor",
        "AutoModel": "ssamba.modeling_ssamba.SsambaModel",
        "AutoModelForAudioClassification": "ssamba.modeling_ssamba.SsambaForAudioClassification",
        "AutoModelForAudioFrameClassification": "ssamba.modeling_ssamba.SsambaForAudioFrameClassification",
        "AutoModelForPreTraining": "ssamba.modeling_ssamba.SsambaForPreTraining",
    },
    "ssast": {
        "AutoConfig": "ssast.configuration_ssast.SsastConfig",
        "AutoFeatureExtractor": "filter_bank.feature_extraction_ssamba.SsambaFeatureExtractor",
        "AutoModel": "ssast.modeling_ssast.SsastModel",
        "AutoModelForAudioClassification": "ssast.modeling_ssast.SsastForAudioClassification",
        "AutoModelForAudioFrameClassification": "ssast.modeling_ssast.SsastForAudioFrameClassification",
        "AutoModelForPreTraining": "ssast.modeling_ssast.SsastForPreTraining",
    },
}

# Model type -> the linear modules that adapters such as LoRA change. A name stands for all modules called so: in SSAMBA the
# projections of both directions.
LORA_TARGET_MODULES = {
    "ssamba": ["in_proj", "x_proj", "dt_proj", "out_proj"],
    "ssast": ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"],
}
