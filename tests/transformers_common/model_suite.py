# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The models in transformers' own common tests; `test_transformers_common.py` puts this file among them."""

import unittest
import unittest.mock

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
    SsastConfig,
    SsastForAudioClassification,
    SsastForAudioFrameClassification,
    SsastForPreTraining,
    SsastModel,
)

from ... import test_modeling_common
from ...test_configuration_common import ConfigTester
from ...test_modeling_common import ModelTesterMixin, floats_tensor
from ...test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin


# The common tests know by these names which labels a model takes.
for model_type, name in (("ssamba", "Ssamba"), ("ssast", "Ssast")):
    test_modeling_common.MODEL_MAPPING_NAMES[model_type] = f"{name}Model"
    test_modeling_common.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[model_type] = f"{name}ForAudioClassification"


class EncoderModelTester:
    batch_size = 3
    is_training = True
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    # Of patches, for the tests that make masks for themselves.
    num_masks = 9
    mask_length = 24

    def __init__(self, config_class: type, fields: dict):
        self.config_class = config_class
        self.fields = fields
        self.seq_length = config_class.num_prefix_tokens + 4 * 6

    def get_config(self):
        return self.config_class(
            patch_size=2,
            frequency_stride=2,
            time_stride=2,
            max_length=12,
            num_mel_bins=8,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            hidden_dropout_prob=0.1,
            **self.fields,
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"input_values": floats_tensor([self.batch_size, 12, 8])}


class EncoderModelTests(ModelTesterMixin):
    config_class: type
    fields: dict = {}
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = EncoderModelTester(self.config_class, self.fields)
        self.config_tester = ConfigTester(
            self,
            config_class=self.config_class,
            has_text_modality=False,
            common_properties=["hidden_size", "num_hidden_layers"],
            hidden_size=32,
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if inputs.get("attention_mask") is not None:
            # Ours has frames, not tokens, and padding at the end.
            inputs["attention_mask"] = torch.ones(inputs["input_values"].shape[:2], dtype=torch.long)
            inputs["attention_mask"][-1, -4:] = 0
        if model_class.__name__.endswith("ForPreTraining"):
            # Else each call draws a mask, and no two calls agree.
            mask = torch.zeros(inputs["input_values"].shape[0], 24, dtype=torch.bool, device=torch_device)
            mask[:, 1:10] = True
            inputs["bool_masked_pos"] = mask
        if model_class.__name__.endswith("ForAudioFrameClassification") and return_labels:
            inputs["labels"] = torch.zeros(inputs["input_values"].shape[0], 1, dtype=torch.long, device=torch_device)
        return inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            assert isinstance(model.get_input_embeddings(), torch.nn.Module)
            assert model.get_output_embeddings() is None

    def test_model_outputs_equivalence(self):
        # The comparison subtracts, which torch refuses for the mask that frame classification returns.
        classes = [cls for cls in self.all_model_classes if not cls.__name__.endswith("FrameClassification")]
        with unittest.mock.patch.object(self, "all_model_classes", tuple(classes)):
            super().test_model_outputs_equivalence()

    @unittest.skip("Spectrograms are the only input.")
    def test_inputs_embeds(self):
        pass


class SsambaModelTests(EncoderModelTests):
    config_class = SsambaConfig
    all_model_classes = (
        SsambaModel,
        SsambaForAudioClassification,
        SsambaForAudioFrameClassification,
        SsambaForPreTraining,
    )
    has_attentions = False


class PairedSsambaModelTest(SsambaModelTests, unittest.TestCase):
    fields = {"paired_layers": True}


class UnpairedSsambaModelTest(SsambaModelTests, unittest.TestCase):
    fields = {"paired_layers": False}


class SsastModelTest(EncoderModelTests, unittest.TestCase):
    config_class = SsastConfig
    all_model_classes = (
        SsastModel,
        SsastForAudioClassification,
        SsastForAudioFrameClassification,
        SsastForPreTraining,
    )
    fields = {"num_attention_heads": 4, "intermediate_size": 37}


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
