# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Audio state-space models for Hugging Face.

Importing the package registers its models with the Auto classes of transformers. It imports neither torch nor transformers
until one of the names below, or an Auto class, is used.
"""

import importlib
from typing import TYPE_CHECKING

from .common.moved_modules import find_moved_modules
from .common.version import __version__
from .models.registration import register_with_auto_classes


# Public name -> module that defines it.
_MODULES = {
    "Annotation": ".inference.annotation",
    "ClipEmbedding": ".inference.embedding",
    "MaskedPatchModelingOutput": ".models.patch_encoder.masked_patch_modeling",
    "SsambaConfig": ".models.ssamba.configuration_ssamba",
    "SsambaFeatureExtractor": ".models.filter_bank.feature_extraction_ssamba",
    "SsambaForAudioClassification": ".models.ssamba.modeling_ssamba",
    "SsambaForAudioFrameClassification": ".models.ssamba.modeling_ssamba",
    "SsambaForPreTraining": ".models.ssamba.modeling_ssamba",
    "SsambaModel": ".models.ssamba.modeling_ssamba",
    "SsambaPreTrainedModel": ".models.ssamba.modeling_ssamba",
    "SsastConfig": ".models.ssast.configuration_ssast",
    "SsastForAudioClassification": ".models.ssast.modeling_ssast",
    "SsastForAudioFrameClassification": ".models.ssast.modeling_ssast",
    "SsastForPreTraining": ".models.ssast.modeling_ssast",
    "SsastModel": ".models.ssast.modeling_ssast",
    "SsastPreTrainedModel": ".models.ssast.modeling_ssast",
    "annotate": ".inference.annotate",
    "embed": ".inference.embedding",
}

__all__ = sorted([*_MODULES, "ops"])

if TYPE_CHECKING:
    from . import ops
    from .inference.annotate import annotate
    from .inference.annotation import Annotation
    from .inference.embedding import ClipEmbedding, embed
    from .models.filter_bank.feature_extraction_ssamba import SsambaFeatureExtractor
    from .models.patch_encoder.masked_patch_modeling import MaskedPatchModelingOutput
    from .models.ssamba.configuration_ssamba import SsambaConfig
    from .models.ssamba.modeling_ssamba import (
        SsambaForAudioClassification,
        SsambaForAudioFrameClassification,
        SsambaForPreTraining,
        SsambaModel,
        SsambaPreTrainedModel,
    )
    from .models.ssast.configuration_ssast import SsastConfig
    from .models.ssast.modeling_ssast import (
        SsastForAudioClassification,
        SsastForAudioFrameClassification,
        SsastForPreTraining,
        SsastModel,
        SsastPreTrainedModel,
    )


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES.get(name, f".{name}"), __name__)
    globals()[name] = getattr(module, name) if name in _MODULES else module
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


find_moved_modules()
register_with_auto_classes()
