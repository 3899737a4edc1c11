# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of checkpoints and adapters that are damaged, or made to harm: one line that names the file, and no code runs."""

import json
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from code_in_pickles import WRITERS
from safetensors.torch import load_file, save_file

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted
from hf_audio_ssm.hub.loading import load_checkpoint, load_config, load_feature_extractor


Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with adapters and their base model, which is a checkpoint."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, max_length=64, num_labels=3)
    SsambaForAudioClassification(config).save_pretrained(folder / "base")
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder / "base")
    model = SsambaForAudioClassification.from_pretrained(folder / "base")
    peft.get_peft_model(model, adapter_config(model, r=2)).save_pretrained(folder / "adapters")
    return folder


@pytest.fixture
def copied(made, tmp_path) -> Path:
    for name in ("base", "adapters"):
        shutil.copytree(made / name, tmp_path / name)
    fields = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    (tmp_path / "adapters" / "adapter_config.json").write_text(
        json.dumps({**fields, "base_model_name_or_path": "../base"})
    )
    return tmp_path


def to_code(weights: str, write: Callable[[Path, Path], None]) -> Change:
    def change(folder: Path) -> None:
        next(folder.glob("*.safetensors")).unlink()
        write(folder / weights, folder / "ran")

    return change


def edit(name: str, **fields) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **fields}))

    return change


def put(name: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def cut(pattern: str, keep: Callable[[int], int]) -> Change:
    def change(folder: Path) -> None:
        path = next(folder.glob(pattern))
        content = path.read_bytes()
        path.write_bytes(content[: keep(len(content))])

    return change


def point_outside(target: str) -> Change:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        (folder.parent / "outside").mkdir()
        save_file(weights, folder.parent / "outside" / "model.safetensors", metadata={"format": "pt"})
        table = {"metadata": {}, "weight_map": {name: target.format(folder=folder.parent) for name in weights}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(table))

    return change


DEEP = "[" * 100_000
HEADERS = {
    "truncated": (cut("*.safetensors", lambda size: size // 2), "safetensors"),
    "header only": (cut("*.safetensors", lambda size: 100), "safetensors"),
    "empty": (cut("*.safetensors", lambda size: 0), "safetensors"),
}
SAFETENSORS = {
    "claims 2^60": struct.pack("<Q", 2**60) + b"{}",
    "claims 2^40": struct.pack("<Q", 2**40) + b"{}" * 8,
    "no JSON": struct.pack("<Q", 8) + b"{]]]]]]]",
    "a list": struct.pack("<Q", 8) + b"[      ]",
    "deep JSON": struct.pack("<Q", len(DEEP)) + DEEP.encode(),
    "tensor of 2^60": struct.pack("<Q", 72)
    + b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}'
    + bytes(4),
    "tensors that overlap": struct.pack("<Q", 120)
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(
        120
    )
    + bytes(4),
    "HTML": b"<!doctype html><html><body>404</body></html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "zeros": bytes(64),
}
BASE_CHANGES: dict[str, tuple[Change, str]] = {
    **HEADERS,
    **{name: (put("model.safetensors", content), "safetensors") for name, content in SAFETENSORS.items()},
    **{
        write.__name__: (to_code("pytorch_model.bin", write), "pytorch_model.bin|weights_only|nsafe")
        for write in WRITERS
    },
    "config is a list": (put("config.json", "[]"), "config.json must hold a JSON object, got a list"),
    "config is a number": (put("config.json", "1e5"), "config.json must hold a JSON object, got a float"),
    "config is no JSON": (put("config.json", "{"), "config.json cannot be read as JSON"),
    "config is deep": (put("config.json", DEEP), "config.json cannot be read as JSON"),
    "config is empty": (put("config.json", ""), "config.json cannot be read as JSON"),
    "config is binary": (put("config.json", b"\xff\xfe\x00\x01"), "config.json cannot be read as JSON"),
    "config has no type": (put("config.json", "{}"), "model_type"),
    "config of NaN": (
        put("config.json", '{"model_type": "ssamba", "drop_path_rate": NaN}'),
        "NaN is not a finite number",
    ),
    "config of 1e999": (
        put("config.json", '{"model_type": "ssamba", "drop_path_rate": 1e999}'),
        "1e999 is not a finite number",
    ),
    "10^9 labels": (edit("config.json", num_labels=10**9, id2label=None), "num_labels"),
    "10^9 layers": (edit("config.json", num_hidden_layers=10**9), "`num_hidden_layers` must be at most"),
    "more layers than tensors": (
        edit("config.json", num_hidden_layers=4000),
        "describes 4000 layers, but there are only",
    ),
    "hidden size of 2^15": (
        edit("config.json", hidden_size=2**15),
        "describes a model of .* parameters, but the weights are",
    ),
    "unknown type": (edit("config.json", model_type="evil"), "evil|custom code"),
    "type is a list": (edit("config.json", model_type=["ssamba"]), "model_type|list"),
    "labels are a list": (edit("config.json", id2label=["a", "b", "c"]), "id2label"),
    "feature extractor is a list": (
        put("preprocessor_config.json", "[]"),
        "preprocessor_config.json must hold a JSON object",
    ),
    "feature extractor is no JSON": (
        put("preprocessor_config.json", "]"),
        "preprocessor_config.json cannot be read as JSON",
    ),
    "no feature extractor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json|feature extractor",
    ),
    "index points to the parent": (
        point_outside("../outside/model.safetensors"),
        "`weight_map` must name files beside it, got",
    ),
    "index points to the root": (
        point_outside("{folder}/outside/model.safetensors"),
        "`weight_map` must name files beside it, got",
    ),
    "index is a list": (put("model.safetensors.index.json", "[]"), "index.json must hold a JSON object"),
    "index maps to numbers": (
        put("model.safetensors.index.json", '{"weight_map": {"a": 1}}'),
        "must name files beside it, got 1",
    ),
    "index maps to no file": (
        put("model.safetensors.index.json", '{"weight_map": {"a": ".."}}'),
        "must name files beside it",
    ),
}


def check_refusal(load: Callable, path: Path, message: str) -> None:
    started = time.monotonic()
    with pytest.raises((InputError, OSError)) as caught:
        load(path)
    text = str(caught.value)
    assert text.isprintable()
    assert re.search(message, text), text
    assert str(path) in text
    assert time.monotonic() - started < 10
    assert not (path / "ran").exists()


@pytest.mark.parametrize("name", BASE_CHANGES)
def test_checkpoint(copied, name):
    change, message = BASE_CHANGES[name]
    change(copied / "base")
    check_refusal(lambda path: load_checkpoint(path, "audio-classification"), copied / "base", message)
    assert "evil" not in sys.modules


@pytest.mark.parametrize("name", ["config is a list", "config is deep", "10^9 labels"])
def test_parts_of_a_checkpoint(copied, name):
    change, message = BASE_CHANGES[name]
    change(copied / "base")
    check_refusal(load_config, copied / "base", message)
    if name != "10^9 labels":
        put("preprocessor_config.json", (copied / "base" / "config.json").read_text())(copied / "base")
        check_refusal(
            load_feature_extractor, copied / "base", message.replace("config.json", "preprocessor_config.json")
        )


CONFIG = "adapter_config.json"
ADAPTER_CHANGES: dict[str, tuple[Change, str]] = {
    **HEADERS,
    **{name: (put("adapter_model.safetensors", content), "safetensors") for name, content in SAFETENSORS.items()},
    **{write.__name__: (to_code("adapter_model.bin", write), "nsafe|weights_only|Weights only") for write in WRITERS},
    "list": (put(CONFIG, "[]"), "adapter_config.json must hold a JSON object, got a list"),
    "no JSON": (put(CONFIG, "{"), "adapter_config.json cannot be read as JSON"),
    "deep": (put(CONFIG, DEEP), "adapter_config.json cannot be read as JSON"),
    "object without fields": (put(CONFIG, "{}"), "names no base model"),
    "no base": (edit(CONFIG, base_model_name_or_path=None), "names no base model"),
    "base is a list": (edit(CONFIG, base_model_name_or_path=["../base"]), "`base_model_name_or_path` must not be"),
    "revision is a number": (edit(CONFIG, revision=1), "`revision` must not be 1"),
    "mapping is a list": (edit(CONFIG, auto_mapping=[]), r"`auto_mapping` must not be \[\]"),
    "no such type": (edit(CONFIG, peft_type="EVIL"), "`peft_type` must be one of PEFT's adapters of modules.*'EVIL'"),
    "type is a list": (edit(CONFIG, peft_type=["LORA"]), "`peft_type` must not be"),
    "no type": (edit(CONFIG, peft_type=None), "`peft_type` must be one of .* got None"),
    "prompts": (
        edit(CONFIG, peft_type="PROMPT_TUNING", num_virtual_tokens=4),
        "got 'PROMPT_TUNING', which needs a model of text",
    ),
    "more adapters": (edit(CONFIG, peft_type="XLORA", adapters={"a": "org/a"}), "got 'XLORA', which needs"),
    "another type": (edit(CONFIG, peft_type="LOHA"), "lacks"),
    "another method": (edit(CONFIG, peft_type="IA3", feedforward_modules=["in_proj"]), "lacks"),
    "rank of 10^9": (edit(CONFIG, r=10**9), "`r` must be explained by the size of the weights, got 1000000000"),
    "rank of 10^4": (edit(CONFIG, r=10**4), "has the shape .*, expected .*10000"),
    "rank of a module": (edit(CONFIG, rank_pattern={"in_proj": 10**9}), "`rank_pattern` must be explained"),
    "rank is zero": (edit(CONFIG, r=0), "`r` should be a positive integer"),
    "rank is negative": (edit(CONFIG, r=-1), "`r` should be a positive integer"),
    "rank is text": (edit(CONFIG, r="2"), "`r` must not be '2'"),
    "rank is true": (edit(CONFIG, r=True), "`r` must not be True"),
    "alpha is NaN": (edit(CONFIG, lora_alpha=float("nan")), "NaN is not a finite number"),
    "alpha is infinite": (edit(CONFIG, lora_alpha=float("inf")), "Infinity is not a finite number"),
    "alpha of a module": (
        edit(CONFIG, alpha_pattern={"in_proj": "much"}),
        "`alpha_pattern` must map modules to numbers, got 'much'",
    ),
    "alpha is a list": (edit(CONFIG, lora_alpha=[1]), r"`lora_alpha` must not be \[1\]"),
    "backtracking": (
        edit(CONFIG, target_modules="(([a-z_.0-9]+)+)+!"),
        "`target_modules` takes too long to match|matches no module",
    ),
    "backtracking far": (
        edit(CONFIG, target_modules=".*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*!"),
        "`target_modules` takes too long|matches no",
    ),
    "backtracking ranks": (
        edit(CONFIG, rank_pattern={"((.*)*)*!": 2}),
        "`rank_pattern` takes too long|lacks|shape|adapters",
    ),
    "backtracking alphas": (
        edit(CONFIG, alpha_pattern={r"(\w|\w\w|.)*x!": 2}),
        "`alpha_pattern` takes too long|adapters",
    ),
    "backtracking layers": (
        edit(CONFIG, layers_pattern="(a+)+", layers_to_transform=[0]),
        "`layers_pattern` must be the name of a module",
    ),
    "backtracking module to save": (
        edit(CONFIG, modules_to_save=["(([a-z_.0-9]+)+)+!"]),
        "`modules_to_save` must be the name of a module",
    ),
    "backtracking exclusion": (
        edit(CONFIG, exclude_modules="(([a-z_.0-9]+)+)+!"),
        "`exclude_modules` takes too long|adapters",
    ),
    "no expression": (edit(CONFIG, target_modules="("), "`target_modules` is no regular expression"),
    "matches nothing": (edit(CONFIG, target_modules="nothing"), "`target_modules` matches no module"),
    "targets nothing": (edit(CONFIG, target_modules=["nothing"]), "nothing"),
    "targets are numbers": (edit(CONFIG, target_modules=[1]), r"`target_modules` must not be \[1\]"),
    "targets are a mapping": (edit(CONFIG, target_modules={"in_proj": 1}), "target_modules"),
    "names of code": (
        edit(CONFIG, megatron_config={}, megatron_core="antigravity"),
        "`megatron_config` names code to be imported",
    ),
    "bias": (edit(CONFIG, bias="evil"), "`bias` must not be 'evil'"),
    "task": (edit(CONFIG, task_type="EVIL"), "EVIL"),
    "module to save is text": (
        edit(CONFIG, modules_to_save="classifier"),
        "`modules_to_save` must not be 'classifier'",
    ),
    "layers to transform": (edit(CONFIG, layers_to_transform=[10**9]), "`layers_to_transform` must be explained"),
    "labels are a list": (put("classifier_config.json", "[]"), "classifier_config.json must hold a JSON object"),
    "labels have no type": (put("classifier_config.json", "{}"), "classifier_config.json names no `model_type`"),
    "labels of another model": (put("classifier_config.json", '{"model_type": "evil"}'), "evil"),
    "10^9 labels": (
        put("classifier_config.json", '{"model_type": "ssamba", "num_labels": 1000000000}'),
        "`num_labels` must be at most",
    ),
}
# What changes nothing of the model is loaded: these are allowed to be.
HARMLESS = {"backtracking ranks", "backtracking alphas", "backtracking exclusion"}


@pytest.mark.parametrize("name", ADAPTER_CHANGES)
def test_adapters(copied, name):
    change, message = ADAPTER_CHANGES[name]
    change(copied / "adapters")
    imported = set(sys.modules)
    try:
        check_refusal(load_adapted, copied / "adapters", message)
        check_refusal(lambda path: load_checkpoint(path, "audio-classification"), copied / "adapters", message)
    except pytest.fail.Exception:
        assert name in HARMLESS
    assert "antigravity" not in set(sys.modules) - imported


def test_base_of_adapters(copied):
    put("config.json", "[]")(copied / "base")
    check_refusal(load_adapted, copied / "adapters", "config.json must hold a JSON object")


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": r".*\.(in_proj|x_proj|dt_proj|out_proj)"},
        {"rank_pattern": {r".*\.in_proj": 2}, "alpha_pattern": {r"layers\.\d+\.mixer\.in_proj": 2}},
        {"lora_alpha": 0.5, "unknown_field": 1},
        {"exclude_modules": "nothing.*"},
    ],
)
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")
def test_what_is_right_is_loaded(copied, fields):
    names = load_file(copied / "adapters" / "adapter_model.safetensors").keys()
    edit(CONFIG, **fields)(copied / "adapters")
    loaded = load_adapted(copied / "adapters")
    assert peft.get_peft_model_state_dict(loaded).keys() == names
