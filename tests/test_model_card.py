# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The cards' metadata, by the Hub's rules."""

import pytest
from hub_server import card_errors

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification
from hf_audio_ssm.fine_tuning import FineTuningArguments
from hf_audio_ssm.model_card import classifier_card


@pytest.mark.parametrize("base_model", ["org/ssamba-tiny", "outputs/pretrained", "/somewhere/else", "pretrained"])
def test_classifier(tmp_path, monkeypatch, base_model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "pretrained").mkdir(parents=True)
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, problem_type="single_label_classification")
    card = classifier_card(
        model_name="org/mine",
        model=SsambaForAudioClassification(config),
        feature_extractor=SsambaFeatureExtractor(),
        base_model=base_model,
        data="my clips",
        names=["high", "low"],
        num_clips={"train": 4, "test": 2},
        training=FineTuningArguments(output_dir=str(tmp_path / "mine"), report_to="none", use_cpu=True),
        results={"accuracy": 0.5},
    )
    assert card_errors(str(card)) == []
    # A folder cannot be linked to; the table tells it all the same.
    assert card.data.base_model == (base_model if base_model == "org/ssamba-tiny" else None)
    assert f"| Started from | {base_model} |" in card.text
    assert card.data.eval_results[0].metric_value == 0.5
    assert card.data.eval_results[0].dataset_name == "test clips of my clips"
