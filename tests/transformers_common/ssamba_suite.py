# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""SSAMBA in transformers' own common tests; `test_transformers_common.py` puts this file among them."""

import unittest

import numpy as np
import torch
from transformers.pipelines import AudioClassificationPipeline
from transformers.testing_utils import torch_device

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
)

from ... import test_modeling_common
from ...test_configuration_common import ConfigTester
from ...test_modeling_common import ModelTesterMixin, floats_tensor
from ...test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin


# The common tests know by these names which labels a model takes.
test_modeling_common.MODEL_MAPPING_NAMES["ssamba"] = "SsambaModel"
test_modeling_common.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES["ssamba"] = "SsambaForAudioClassification"


class SsambaModelTester:
    batch_size = 3
    is_training = True
    hidden_size = 32
    num_hidden_layers = 2
    seq_length = 1 + 4 * 6

    def __init__(self, paired_layers: bool):
        self.paired_layers = paired_layers

    def get_config(self) -> SsambaConfig:
        return SsambaConfig(
            patch_size=2,
            frequency_stride=2,
            time_stride=2,
            max_length=12,
            num_mel_bins=8,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            hidden_dropout_prob=0.1,
            paired_layers=self.paired_layers,
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"input_values": floats_tensor([self.batch_size, 12, 8])}


class SsambaModelTests(ModelTesterMixin):
    all_model_classes = (
        SsambaModel,
        SsambaForAudioClassification,
        SsambaForAudioFrameClassification,
        SsambaForPreTraining,
    )
    test_resize_embeddings = False
    has_attentions = False
    paired_layers: bool

    def setUp(self):
        self.model_tester = SsambaModelTester(self.paired_layers)
        self.config_tester = ConfigTester(
            self,
            config_class=SsambaConfig,
            has_text_modality=False,
            common_properties=["hidden_size", "num_hidden_layers"],
            hidden_size=32,
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if model_class is SsambaForPreTraining:
            # Else each call draws a mask, and no two calls agree.
            mask = torch.zeros(inputs["input_values"].shape[0], 24, dtype=torch.bool, device=torch_device)
            mask[:, 1:10] = True
            inputs["bool_masked_pos"] = mask
        if model_class is SsambaForAudioFrameClassification and return_labels:
            inputs["labels"] = torch.zeros(inputs["input_values"].shape[0], 1, dtype=torch.long, device=torch_device)
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            assert isinstance(model.get_input_embeddings(), torch.nn.Module)
            assert model.get_output_embeddings() is None

    @unittest.skip("Spectrograms are the only input.")
    def test_inputs_embeds(self):
        pass


class PairedSsambaModelTest(SsambaModelTests, unittest.TestCase):
    paired_layers = True


class UnpairedSsambaModelTest(SsambaModelTests, unittest.TestCase):
    paired_layers = False


class SsambaFeatureExtractionTester:
    """As transformers tests the feature extractor of AST."""

    batch_size = 7
    feature_size = 1
    padding_value = 0.0
    min_seq_length = 400
    max_seq_length = 2000
    seq_length_diff = 266

    def prepare_feat_extract_dict(self):
        return {
            "feature_size": self.feature_size,
            "padding_value": self.padding_value,
            "sampling_rate": 16000,
            "return_attention_mask": True,
            "do_normalize": True,
        }

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        lengths = range(self.min_seq_length, self.max_seq_length, self.seq_length_diff)
        clips = [
            floats_tensor((self.max_seq_length if equal_length else length,)).tolist()
            for length in list(lengths)[: self.batch_size]
        ]
        return [np.asarray(clip) for clip in clips] if numpify else clips


class SsambaFeatureExtractionTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = SsambaFeatureExtractor

    def setUp(self):
        self.feat_extract_tester = SsambaFeatureExtractionTester()


class SsambaPipelineTest(unittest.TestCase):
    def test_audio_classification(self):
        model = SsambaForAudioClassification(SsambaConfig(hidden_size=32, num_hidden_layers=2))
        classifier = AudioClassificationPipeline(model=model, feature_extractor=SsambaFeatureExtractor())
        for samples in (34000, 14000):
            outputs = classifier(np.zeros((samples,)))
            assert [(type(o["score"]), type(o["label"])) for o in outputs] == [(float, str)] * 2
        assert len(classifier(np.zeros((14000,)), top_k=1)) == 1
        assert len(classifier([np.zeros((14000,)), np.zeros((34000,))], batch_size=2)) == 2
