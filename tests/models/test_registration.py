# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Importing the package is light, and makes its models known to the Auto classes in whatever order things load."""

import subprocess
import sys

import pytest
from warm_python import BARE, run_python


def test_import_is_light():
    code = (
        "import sys, hf_audio_ssm; print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


CHECK = """
for model_type, name in (("ssamba", "Ssamba"), ("ssast", "Ssast")):
    config = transformers.AutoConfig.for_model(
        model_type, hidden_size=16, num_hidden_layers=2, max_length=32, num_mel_bins=32
    )
    names = [
        type(auto.from_config(config)).__name__
        for auto in (
            transformers.AutoModel,
            transformers.AutoModelForAudioClassification,
            transformers.AutoModelForAudioFrameClassification,
            transformers.AutoModelForPreTraining,
        )
    ]
    heads = ["Model", "ForAudioClassification", "ForAudioFrameClassification", "ForPreTraining"]
    assert names == [name + head for head in heads], names
    extractor = transformers.models.auto.feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING[type(config)]
    processor = transformers.models.auto.processing_auto.PROCESSOR_MAPPING[type(config)]
    assert processor is extractor and extractor.__name__ == "SsambaFeatureExtractor", (extractor, processor)
    print(model_type)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import hf_audio_ssm, transformers",
        "from transformers import AutoModel, AutoFeatureExtractor; import transformers, hf_audio_ssm",
        "import hf_audio_ssm; from hf_audio_ssm import SsambaModel; import transformers",
        "import hf_audio_ssm.models.ssamba.modeling_ssamba; import transformers",
        "import hf_audio_ssm; from transformers.modeling_layers import GradientCheckpointingLayer; import transformers",
        "import hf_audio_ssm; from transformers import ASTModel; import transformers",
        "import hf_audio_ssm; from transformers import Trainer; import transformers",
        "import hf_audio_ssm.models.ssast.configuration_ssast; import transformers",
        "import hf_audio_ssm.models.ssast.modeling_ssast; import transformers",
        "import hf_audio_ssm.models.filter_bank.feature_extraction_ssamba; import transformers",
    ],
)
def test_registered_in_any_order_of_imports(imports, tmp_path):
    not_yet = "import sys; assert not {'transformers', 'hf_audio_ssm', 'accelerate', 'peft'} & set(sys.modules)\n"
    result = run_python(["-c", not_yet + imports + CHECK], tmp_path, preloaded=BARE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ssamba", "ssast"]


def test_public_names():
    import hf_audio_ssm

    for name in hf_audio_ssm.__all__:
        assert getattr(hf_audio_ssm, name).__name__ in (name, f"hf_audio_ssm.{name}")
        assert name in dir(hf_audio_ssm)
    with pytest.raises(AttributeError, match="has no attribute 'SsambaForTextGeneration'"):
        hf_audio_ssm.SsambaForTextGeneration  # noqa: B018
