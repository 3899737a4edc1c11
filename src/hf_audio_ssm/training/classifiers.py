# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The classifier that training starts from: any checkpoint of the package's encoders, with a head for the clips' classes."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel

from ..audio.frames import FRAMES_PER_SECOND
from ..common.errors import InputError
from ..data.labelled import LabelledClips
from ..data.statistics import filter_bank_statistics
from ..hub.loading import find_model_class, load_config, load_feature_extractor, load_model
from ..hub.weights import EncoderWeightsError
from .arguments import ClassifierFields


# Silence beside the longest clip that fits into the window, and the longest window that is chosen for the user.
ROOM_SECONDS = 0.6
MAX_WINDOW_SECONDS = 60.0
# A window has whole blocks of frames.
BLOCK = 16


def fit_window(clips: LabelledClips, config: PreTrainedConfig) -> int:
    """
    Chooses the frames that clips are cut or padded to: those of the longest clip, and of some silence, as other recordings may
    have more of it before and after a sound.

    Args:
        clips (`LabelledClips`): The clips of all splits.
        config (`PreTrainedConfig`): That of the checkpoint. The window holds one of its patches at least.
    """
    seconds = min(max(clips.seconds) + ROOM_SECONDS, MAX_WINDOW_SECONDS)
    # Encoders that are not the package's are refused later.
    patch = getattr(config, "patch_shape", (1, 1))[1]
    return BLOCK * math.ceil(max(seconds * FRAMES_PER_SECOND, patch) / BLOCK)


@dataclass
class ClassifierArguments(ClassifierFields):
    """The model that training starts from. HfArgumentParser reads the fields from the command line or a file."""

    def load(self, clips: LabelledClips) -> tuple[FeatureExtractionMixin, PreTrainedModel]:
        """[`load_feature_extractor`] and [`load_model`]."""
        return self.load_feature_extractor(clips), self.load_model(clips)

    def load_feature_extractor(self, clips: LabelledClips | None = None) -> FeatureExtractionMixin:
        """
        Loads the checkpoint's feature extractor, with the length, the mask and the normalisation that the arguments ask for.

        Args:
            clips (`LabelledClips`, *optional*):
                The clips that the length is fitted to, and of which `--normalization data` reads the training clips. Without
                clips, the checkpoint's length and normalisation stay.

        Raises:
            [`InputError`]: If it cannot be loaded, or there is no such normalisation.
        """
        try:
            feature_extractor = load_feature_extractor(self.model)
            if self.max_length is not None:
                feature_extractor.max_length = self.max_length
            elif clips is not None:
                feature_extractor.max_length = fit_window(clips, load_config(self.model))
        except (OSError, ValueError) as error:
            raise InputError(f"--model {self.model}: its feature extractor cannot be loaded ({error})") from error
        if self.return_attention_mask:
            feature_extractor.return_attention_mask = True
        if self.normalization == "data":
            if clips is not None:
                statistics = filter_bank_statistics(feature_extractor, clips.splits["train"])
                feature_extractor.mean, feature_extractor.std = statistics
        elif self.normalization != "keep":
            try:
                preset = type(feature_extractor).from_preset(self.normalization)
            except (KeyError, ValueError) as error:
                raise InputError(f"--normalization must be keep, data or a preset: {error}") from error
            feature_extractor.mean, feature_extractor.std = preset.mean, preset.std
        return feature_extractor

    def load_model(self, clips: LabelledClips, **kwargs: Any) -> PreTrainedModel:
        """
        Loads the model with a head for the clips' classes: the checkpoint's own, if its kind and size fit, or a new one.

        Args:
            clips (`LabelledClips`): The clips.
            kwargs: More arguments of `from_pretrained`, such as `quantization_config`.

        Raises:
            [`InputError`]: If the checkpoint cannot be loaded, or is not an encoder of the package, or a field of the
                configuration cannot be what the arguments say, or the encoder's weights do not fit the configuration.
        """
        task, called = "audio-classification", f"--model {self.model}:"
        is_binary = self.binary_cross_entropy and not clips.is_multi_label
        fields = {
            **self.overrides,
            "num_labels": len(clips.names),
            "id2label": dict(enumerate(clips.names)),
            "label2id": {name: index for index, name in enumerate(clips.names)},
            "problem_type": "multi_label_classification" if is_binary else clips.problem_type,
        }
        try:
            config = load_config(self.model)
            find_model_class(config, task, called)
            if "max_length" not in fields:
                fields["max_length"] = fit_window(clips, config)
            config, unused = type(config).from_dict(config.to_dict(), return_unused_kwargs=True, **fields)
            if unused:
                raise InputError(f"--config_overrides: {type(config).__name__} has no field {next(iter(unused))!r}")
            # Fields that are set on a loaded configuration are not checked by it.
            config.validate()
            options = {"dtype": torch.float32, "called": called, "new_head": True, **kwargs}
            model = load_model(self.model, task, config=config, **options)
        except EncoderWeightsError as error:
            raise InputError(f"{error}; --config_overrides must keep the encoder's shapes") from error
        except InputError:
            raise
        except (OSError, ValueError, TypeError, StrictDataclassError) as error:
            raise InputError(f"{called} cannot be loaded: {error}") from error
        if self.freeze_base_model:
            model.freeze_base_model()
        return model
