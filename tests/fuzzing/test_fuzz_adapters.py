# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Configurations of adapters: a loaded model that computes, or one line; no hang, no code, no memory that the file does not explain."""

import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from fuzzing import check_examples, many_examples
from hypothesis import strategies as st

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.hub.adapter_configs import check_adapter_shapes, make_adapter_config
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted
from hf_audio_ssm.hub.saved_files import read_object, read_shapes, reading


PATTERNS = (
    ".*in_proj",
    "(a+)+$",
    "((.*)*)*!",
    r"(\w|\w\w|.)*x!",
    ".*.*.*.*.*.*.*.*.*.*.*.*!",
    "(",
    "",
    "all-linear",
    "in_proj",
    "classifier",
    ".*",
    "\x1b[31m",
    r"layers\.\d\.mixer\.(in|out)_proj",
    "(?R)",
    "a{99999}",
)
NUMBERS = (0, -1, 1, 2, 2.5, 10**4, 10**9, 2**63, 10**400, 1e300, float("nan"), float("inf"), True)
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-10, 100), st.floats(allow_nan=True))
strings = st.one_of(st.sampled_from(PATTERNS), st.text(max_size=8))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, strings),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(strings, inner, max_size=3)),
    max_leaves=4,
)
fitting = {
    "r": numbers,
    "lora_alpha": numbers,
    "lora_dropout": numbers,
    "target_modules": st.one_of(strings, st.lists(strings, max_size=3)),
    "exclude_modules": st.one_of(strings, st.lists(strings, max_size=3)),
    "rank_pattern": st.dictionaries(strings, numbers, max_size=2),
    "alpha_pattern": st.dictionaries(strings, numbers, max_size=2),
    "layers_pattern": st.one_of(strings, st.lists(strings, max_size=2)),
    "layers_to_transform": st.one_of(numbers, st.lists(numbers, max_size=2)),
    "modules_to_save": st.lists(strings, max_size=2),
    "target_parameters": st.lists(strings, max_size=2),
    "bias": st.sampled_from(["none", "all", "lora_only", "evil"]),
    "peft_type": st.sampled_from(
        ["LORA", "IA3", "LOHA", "LOKR", "VERA", "OFT", "HRA", "XLORA", "PROMPT_TUNING", "EVIL"]
    ),
    "task_type": st.sampled_from(["FEATURE_EXTRACTION", "SEQ_CLS", "EVIL"]),
    "init_lora_weights": st.sampled_from([True, False, "gaussian", "pissa", "loftq", "evil"]),
    "use_dora": st.booleans(),
    "use_rslora": st.booleans(),
    "auto_mapping": st.fixed_dictionaries(
        {}, optional={"base_model_class": strings, "parent_library": st.just("antigravity"), "id2label": values}
    ),
    "megatron_config": values,
    "megatron_core": st.just("antigravity"),
    "layer_replication": values,
    "trainable_token_indices": values,
    "base_model_name_or_path": strings,
    "revision": strings,
}
ALL_FIELDS = sorted(
    {*fitting, "loftq_config", "eva_config", "corda_config", "runtime_config", "inference_mode", "fan_in_fan_out"}
)


@st.composite
def changes(draw) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(ALL_FIELDS), min_size=1, max_size=3, unique=True))
    return {name: draw(st.one_of(fitting[name], values) if name in fitting else values) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=8, num_hidden_layers=2, state_size=2, max_length=32, num_labels=2)
    SsambaForAudioClassification(config).save_pretrained(folder / "base")
    model = SsambaForAudioClassification.from_pretrained(folder / "base")
    peft.get_peft_model(model, adapter_config(model, r=2)).save_pretrained(folder / "saved")
    return folder


@many_examples
def test_adapter_configs(num_examples, folder):
    saved = json.loads((folder / "saved" / "adapter_config.json").read_text())
    shapes = read_shapes(folder / "saved" / "adapter_model.safetensors")
    base = SsambaForAudioClassification.from_pretrained(folder / "base")
    names = [name for name, _ in base.named_modules()]
    path = folder / "adapter_config.json"

    def check(changed: dict[str, Any]) -> None:
        path.write_text(json.dumps({**saved, **changed}))
        started, refusal = time.monotonic(), None
        try:
            with warnings.catch_warnings(), reading(str(folder)):
                warnings.simplefilter("ignore")
                config = make_adapter_config(read_object(path), names, shapes)
                check_adapter_shapes(config, base, shapes, str(folder))
        except InputError as error:
            refusal = str(error)
        assert time.monotonic() - started < 10
        assert "antigravity" not in sys.modules
        if refusal is None:
            assert isinstance(config, peft.PeftConfig)
        else:
            assert refusal.isprintable()
            assert str(folder) in refusal

    check_examples(num_examples, check, changes())


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_loading_adapters(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "saved" / "adapter_config.json"
    saved = {**json.loads(path.read_text()), "base_model_name_or_path": "../base"}
    inputs = torch.randn(1, 32, 128)

    def check(changed: dict[str, Any]) -> None:
        path.write_text(json.dumps({**saved, **changed}))
        started, refusal = time.monotonic(), None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = load_adapted(path.parent)
        except (InputError, OSError) as error:
            refusal = str(error)
        if refusal is None:
            with torch.no_grad():
                outputs = loaded.eval()(input_values=inputs)[0]
            assert outputs.isfinite().all()
        else:
            assert refusal.isprintable()
            assert str(path.parent) in refusal
        assert time.monotonic() - started < 20
        assert "antigravity" not in sys.modules

    check_examples(2000, check, changes())
