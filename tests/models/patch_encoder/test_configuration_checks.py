# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Configurations that anybody may have written: refused in one line that names the field, before memory is taken."""

import json
import logging
import time
import warnings

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForAudioClassification
from transformers.utils import logging as transformers_logging

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, SsastConfig


NAN, INFINITE = float("nan"), float("inf")

BAD_OF_ALL = [
    {"time_stride": 0},
    {"frequency_stride": -1},
    {"time_stride": "16"},
    {"time_stride": True},
    {"time_stride": 16.0},
    {"time_stride": None},
    {"hidden_size": 10**12},
    {"hidden_size": INFINITE},
    {"num_hidden_layers": 10**9},
    {"num_mel_bins": 10**9},
    {"max_length": 10**12},
    {"frames_per_label": 10**30},
    {"position_grid": [10**9, 10**9]},
    {"position_grid": "ab"},
    {"position_grid": [1, 2, 3]},
    {"patch_size": []},
    {"patch_size": ["a", 1]},
    {"mask_cluster_sizes": [10**9]},
    {"mask_cluster_sizes": "345"},
    {"initializer_range": 1e300},
    {"initializer_range": NAN},
    {"generative_loss_weight": INFINITE},
    {"layer_norm_eps": NAN},
    {"hidden_dropout_prob": NAN},
    {"patchout": -INFINITE},
    {"num_labels": 10**9},
    {"num_labels": -1},
    {"num_labels": "3"},
    {"num_labels": True},
    {"id2label": ["a", "b"]},
    {"id2label": {"a": "b"}},
    {"id2label": {"0": "a", "5": "b"}},
    {"id2label": {"0": 1, "1": 2}},
    {"problem_type": "foo"},
    {"classifier_type": "os.system"},
    {"hidden_act": "os.system"},
    {"pooling": ["mean"]},
    {"dtype": "os"},
    {"dtype": "float33"},
    {"dtype": "Tensor"},
    {"return_dict": "no"},
    {"output_hidden_states": 3},
    {"output_attentions": "x"},
    {"architectures": "x"},
    {"patch_grid": 3},
    {"save_pretrained": "x"},
    {"num_prefix_tokens": 7},
    {"__class__": "x"},
    {"per_layer_config": {"0": {"hidden_size": 7}}},
]
BAD = [(SsambaConfig, fields) for fields in BAD_OF_ALL] + [
    *((SsastConfig, fields) for fields in BAD_OF_ALL),
    (SsambaConfig, {"time_step_rank": "evil"}),
    (SsambaConfig, {"time_step_rank": 10**12}),
    (SsambaConfig, {"time_step_rank": True}),
    (SsambaConfig, {"expand": 10**9}),
    (SsambaConfig, {"state_size": 10**9}),
    (SsambaConfig, {"conv_kernel": 10**9}),
    (SsambaConfig, {"time_step_floor": 1e300}),
    (SsambaConfig, {"drop_path_rate": NAN}),
    (SsambaConfig, {"intermediate_size": 3}),
    (SsastConfig, {"num_attention_heads": 0}),
    (SsastConfig, {"num_attention_heads": 7}),
    (SsastConfig, {"intermediate_size": 10**12}),
    (SsastConfig, {"attention_probs_dropout_prob": NAN}),
]


@pytest.mark.parametrize(
    ("config_class", "fields"), BAD, ids=[f"{config_class.model_type}-{fields}"[:60] for config_class, fields in BAD]
)
def test_refused_in_one_line_that_names_the_field(config_class, fields, tmp_path):
    (name,) = fields
    # As a whole, from a file, and in place of a file's.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": config_class.model_type, **fields}))
    config_class().save_pretrained(tmp_path / "saved")
    ways = [lambda: config_class(**fields), lambda: AutoConfig.from_pretrained(tmp_path)]
    # What is not a field, `from_pretrained` hands back to its caller.
    if name in config_class.__dataclass_fields__ and name != "dtype":
        ways.append(lambda: config_class.from_pretrained(tmp_path / "saved", **fields))
    for way in ways:
        start = time.perf_counter()
        with pytest.raises((StrictDataclassError, ValueError)) as error:
            way()
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 50_000},
        {"hidden_size": 4096, "num_hidden_layers": 2000},
        {"hidden_size": 1024, "max_length": 10**8},
        {"num_labels": 10**5, "num_prototypes": 1000, "classifier_type": "prototypical"},
        {"num_labels": 10**5, "classifier_type": "cgp"},
        {"num_labels": 10**5, "classifier_type": "protobin"},
        {"num_labels": 10**5, "classifier_type": "statistics", "frequency_stride": 1, "hidden_size": 512},
    ],
)
def test_models_beyond_any_memory(fields):
    with pytest.raises(StrictDataclassError, match=r"would have \d+ x .* parameters, more than the 10000000000"):
        SsambaConfig(**fields)


def test_a_repository_of_kernels_in_a_file(tmp_path):
    config = {"model_type": "ssast", "attn_implementation": "evil/kernel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="`attn_implementation` must not name a repository in a configuration"):
        AutoConfig.from_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, attn_implementation="sdpa")._attn_implementation == "sdpa"


def test_fields_that_are_set_later(tmp_path):
    config = SsambaConfig()
    with pytest.raises(StrictDataclassError, match="hidden_size") as error:
        config.hidden_size = "wide"
    assert "\n" not in str(error.value)
    config.time_stride = 0
    with pytest.raises(StrictDataclassError, match="`time_stride` must be a positive integer, got 0") as error:
        config.validate()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [{0: "a\x1b[31m", 1: "<b>\n"}, {0: "a", 1: "a"}, {"0": "x", "1": "y"}])
def test_any_names_of_labels(labels, tmp_path):
    """They are made printable where they are printed."""
    config = SsambaConfig(id2label=labels)
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {int(index): name for index, name in labels.items()}


def test_labels_agree():
    assert SsambaConfig(id2label={0: "no", 1: "yes"}).label2id == {"no": 0, "yes": 1}
    assert SsambaConfig(num_labels=3).label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert SsambaConfig(id2label={0: "no"}, label2id={"no": "0"}).num_labels == 1
    with pytest.raises(ValueError, match="`label2id` must be the inverse of `id2label`"):
        SsambaConfig(id2label={0: "no", 1: "yes"}, label2id={"no": 1, "yes": 0})


@pytest.fixture
def messages(monkeypatch):
    """What transformers logs; warnings are errors."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    transformers_logging.add_handler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield found
    transformers_logging.remove_handler(handler)


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"num_labels": 2}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 10}, [str(index) for index in range(10)]),
        ({"id2label": {0: "no", 1: "yes"}}, ["no", "yes"]),
        ({"id2label": {0: "no", 1: "yes"}, "num_labels": 2}, ["no", "yes"]),
        ({"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}, "num_labels": 2}, ["no", "yes"]),
    ],
)
def test_other_labels_than_the_saved_ones(fields, labels, tmp_path, messages):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 32, "num_mel_bins": 32}
    model = SsambaForAudioClassification(SsambaConfig(**sizes, id2label={i: str(i) for i in range(10)}))
    model.save_pretrained(tmp_path)
    config = SsambaConfig.from_pretrained(tmp_path, **fields)
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **fields)
    for labelled in (config, loaded.config, SsambaConfig.from_dict(model.config.to_dict(), **fields)):
        assert list(labelled.id2label.values()) == labels
        assert labelled.label2id == {name: index for index, name in enumerate(labels)}
        assert labelled.num_labels == len(labels)
    # Beside the report of weights that do not fit.
    assert [message for message in messages if "LOAD REPORT" not in message] == []
