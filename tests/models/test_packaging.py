# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The code that checkpoints carry."""

import json

import pytest
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification
from warm_python import run_python

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaModel
from hf_audio_ssm.models import ENCODERS
from hf_audio_ssm.models.packaging import flat_code


# The package cannot be imported there, as on a machine without it.
LOAD_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
import torch, transformers
folder, auto_class = sys.argv[1:]
loaded = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True)
assert type(loaded).__module__.startswith("transformers_modules."), type(loaded)
if auto_class == "AutoFeatureExtractor":
    print(loaded(torch.ones(8000), sampling_rate=16000, max_length=64, return_tensors="pt")["input_values"].shape[1:])
else:
    print(loaded(torch.ones(1, 64, 128)).logits.shape)
    loaded.save_pretrained(folder + "/again")
    getattr(transformers, auto_class).from_pretrained(folder + "/again", trust_remote_code=True)
"""


def load_without_package(folder, auto_class, tmp_path):
    result = run_python(
        ["-c", LOAD_WITHOUT_PACKAGE, str(folder), auto_class],
        tmp_path,
        {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("model_type", ENCODERS)
def test_modules_are_flat(model_type):
    files = flat_code(model_type)
    for name, text in files.items():
        assert "from .." not in text
        for line in text.splitlines():
            if line.startswith("from ."):
                assert f"{line.split()[1][1:]}.py" in files, (name, line)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_saved_model_and_feature_extractor_load_without_the_package(model_type, tmp_path):
    config = AutoConfig.for_model(model_type, hidden_size=16, num_hidden_layers=2, max_length=64, num_labels=3)
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path / "saved")
    SsambaFeatureExtractor(max_length=64).save_pretrained(tmp_path / "saved")
    assert (
        load_without_package(tmp_path / "saved", "AutoModelForAudioClassification", tmp_path) == "torch.Size([1, 3])"
    )
    assert load_without_package(tmp_path / "saved", "AutoFeatureExtractor", tmp_path) == "torch.Size([64, 128])"


def test_packaged_classes_need_no_registration(tmp_path):
    for cls in (SsambaModel, SsambaConfig, SsambaFeatureExtractor):
        cls.register_for_auto_class()
        assert cls._auto_class is None
    SsambaFeatureExtractor().save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "preprocessor_config.json").read_text())["auto_map"]
    assert auto_map == {"AutoFeatureExtractor": "feature_extraction_ssamba.SsambaFeatureExtractor"}
    assert isinstance(AutoFeatureExtractor.from_pretrained(tmp_path), SsambaFeatureExtractor)


def test_classes_of_others_are_left_alone(tmp_path):
    class TheirConfig(SsambaConfig):
        pass

    TheirConfig().save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    TheirConfig.register_for_auto_class()
    assert TheirConfig._auto_class == "AutoConfig"
