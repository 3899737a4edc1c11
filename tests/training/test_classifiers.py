# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What training starts from: a checkpoint, or adapters, with the head for the clips' classes."""

import peft
import pytest
import torch
from labelled_tones import save_encoder
from transformers import AutoModelForAudioClassification

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.hub.adapters import adapter_config, merge_adapted, save_adapted
from hf_audio_ssm.training.classifiers import ClassifierArguments


@pytest.fixture
def clips(tones):
    return LabelledDataArguments(str(tones)).load()[0]


@pytest.mark.parametrize("num_labels", [2, 5])
def test_training_goes_on_from_adapters(clips, tmp_path, num_labels):
    """With their head, if it fits the clips' classes, or else a new one."""
    save_encoder(tmp_path / "encoder")
    base = AutoModelForAudioClassification.from_pretrained(tmp_path / "encoder", num_labels=num_labels)
    adapted = peft.get_peft_model(base, adapter_config(base, r=2, init_lora_weights=False))
    save_adapted(adapted, tmp_path / "adapters")
    feature_extractor, model = ClassifierArguments(str(tmp_path / "adapters")).load(clips)
    merged = merge_adapted(adapted)
    assert model.config.id2label == dict(enumerate(clips.names))
    for name, weight in merged.base_model.state_dict().items():
        assert torch.equal(model.base_model.state_dict()[name], weight)
    fits = num_labels == len(clips.names)
    assert (model.classifier.dense.weight.shape == merged.classifier.dense.weight.shape) == fits
    if fits:
        assert torch.equal(model.classifier.dense.weight, merged.classifier.dense.weight)


def test_fewer_layers_than_the_checkpoint_are_refused(clips, tmp_path):
    save_encoder(tmp_path / "encoder")
    arguments = ClassifierArguments(
        str(tmp_path / "encoder"), config_overrides='{"num_hidden_layers": 1, "paired_layers": false}'
    )
    with pytest.raises(
        InputError, match=r"--model .*encoder: holds weights that Ssamba.* does not have: ssamba\.layers"
    ):
        arguments.load_model(clips)
