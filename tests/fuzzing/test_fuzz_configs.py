# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whatever stands in a config.json or preprocessor_config.json: a configuration whose models can be made, or one line that names the
field; at once, and without memory.
"""

import json
import time

import pytest
import torch
from fuzzing import check_examples, many_examples
from huggingface_hub.errors import StrictDataclassError
from hypothesis import strategies as st
from transformers.utils import logging

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsastConfig,
    SsastForAudioClassification,
)


MODELS = {SsambaConfig: SsambaForAudioClassification, SsastConfig: SsastForAudioClassification}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64, "num_mel_bins": 32}

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 8, 16, 64, 1e-5, 0.5, 1.0, 16.0, 1e300, 10**9, 10**12, 10**30, 10**400]),
    st.floats(),
    st.integers(),
    st.booleans(),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "16", "mean", "cls", "auto", "silu", "os.system", "float16", "linear", "evil/kernel", "\x1b[31m\n"]
    ),
    st.text(max_size=4),
)
VALUES = st.one_of(
    NUMBERS,
    TEXTS,
    st.none(),
    st.lists(st.one_of(NUMBERS, TEXTS), max_size=4),
    st.dictionaries(st.one_of(TEXTS, st.sampled_from(["0", "1", "2"])), st.one_of(NUMBERS, TEXTS), max_size=3),
    st.recursive(st.none(), lambda inner: st.lists(inner, min_size=1, max_size=2), max_leaves=6),
)
OTHERS = [
    "num_labels",
    "attn_implementation",
    "auto_map",
    "per_layer_config",
    "torch_dtype",
    "patch_grid",
    "model_type",
    "x",
]
OTHERS += [
    "__init__",
    "to_dict",
    "rope_scaling",
    "name_or_path",
    "num_prefix_tokens",
    "quantization_config",
    "layer_types",
]
FIELDS = {config: sorted({*config.__dataclass_fields__, *OTHERS}) for config in MODELS}


@pytest.fixture(autouse=True)
def quiet():
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    yield
    logging.set_verbosity(level)


def check_message(error, fields):
    assert "\n" not in str(error), repr(str(error))
    assert any(name in str(error) for name in fields), (str(error), fields)


@st.composite
def configurations(draw):
    config_class = draw(st.sampled_from(list(MODELS)))
    fields = draw(st.dictionaries(st.sampled_from(FIELDS[config_class]), VALUES, min_size=1, max_size=3))
    return config_class, fields


@many_examples
def test_configurations(num_examples):
    def check(example):
        config_class, fields = example
        # As JSON gives them.
        fields = json.loads(json.dumps(fields))
        start = time.perf_counter()
        try:
            config = config_class.from_dict({**SMALL, **fields})
        except (ValueError, StrictDataclassError) as error:
            check_message(error, {*fields, *SMALL, "position_grid", "time_step_rank", "dtype"})
        else:
            config_class.from_dict(json.loads(json.dumps(config.to_dict())))
            if fields.get("attn_implementation") is not None:
                return  # transformers refuses it when a model is made.
            with torch.device("meta"):
                model = MODELS[config_class](config)
            assert model.num_parameters() < 10**12
        assert time.perf_counter() - start < 20

    check_examples(num_examples, check, configurations())


@many_examples
def test_settings_of_feature_extractors(num_examples):
    names = sorted(
        {*SsambaFeatureExtractor().to_dict(), "window", "mel_filters", "normalize", "auto_map", "x", "__class__"}
    )

    def check(fields):
        fields = json.loads(json.dumps(fields))
        try:
            extractor = SsambaFeatureExtractor.from_dict(dict(fields))
        except ValueError as error:
            check_message(error, fields)
        else:
            json.loads(extractor.to_json_string())
            assert extractor.mel_filters.shape[1] == extractor.num_mel_bins

    check_examples(num_examples, check, st.dictionaries(st.sampled_from(names), VALUES, min_size=1, max_size=3))


@many_examples
def test_texts(num_examples, tmp_path):
    """Beside damage to the text, which transformers refuses, damaged values."""
    SsambaConfig(**SMALL).save_pretrained(tmp_path)
    SsambaFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(tmp_path)
    paths = [tmp_path / "config.json", tmp_path / "preprocessor_config.json"]
    texts = [path.read_text() for path in paths]
    loaders = [SsambaConfig.from_pretrained, SsambaFeatureExtractor.from_pretrained]

    def check(example):
        index, position, junk, length = example
        text = texts[index]
        start = position % len(text)
        paths[index].write_text(text[:start] + junk + text[start + length :])
        try:
            loaders[index](tmp_path)
        except (OSError, ValueError, StrictDataclassError) as error:
            check_message(error, [""])

    junk = st.sampled_from(
        ["", "0", "-", "e9", "9" * 40, '"', "null", "NaN", "true", "[", "]", ",", "}", '"a": 1,', "\\u0000"]
    )
    positions = st.integers(0, 10**6)
    check_examples(num_examples, check, st.tuples(st.integers(0, 1), positions, junk, st.integers(0, 12)))
