# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the converter of original SSAST checkpoints has of its own; the shared machinery is tested with SSAMBA's."""

import logging
import os
import re
from pathlib import Path

import pytest
import torch
from golden import SSAST_FINE_TUNING_CASES, SSAST_PRETRAINING_CASES, TOLERANCE, load_case, mask_of, relative_error
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    pipeline,
)
from warm_python import run_python

from hf_audio_ssm import SsastConfig
from hf_audio_ssm.conversion.checkpoint_conversion import ConversionError, run_converter
from hf_audio_ssm.conversion.ssast import ORIGINAL, convert, make_parser
from hf_audio_ssm.models.packaging import flat_code


CASES = (*SSAST_FINE_TUNING_CASES, *SSAST_PRETRAINING_CASES)
FILES = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", *flat_code("ssast")}
SCRIPT = Path(__file__).resolve().parents[2] / "conversion" / "convert_ssast_original_to_hf.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Every golden checkpoint, converted."""
    folder = tmp_path_factory.mktemp("converted")
    converted = {}
    for name in CASES:
        case, checkpoint, _, _ = load_case(name, "ssast")
        converted[name] = convert(
            checkpoint, folder / name, num_attention_heads=case["num_heads"], max_length=case["input_tdim"]
        )
    return converted


def read_original(name: str) -> dict[str, torch.Tensor]:
    state_dict = torch.load(load_case(name, "ssast")[1], weights_only=True)
    return {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}


def save(state_dict, path: Path) -> Path:
    torch.save(state_dict, path)
    return path


@pytest.mark.parametrize("name", CASES)
def test_configuration(folders, name):
    assert {path.name for path in folders[name].iterdir()} == FILES
    case = load_case(name, "ssast")[0]
    config = AutoConfig.from_pretrained(folders[name])
    assert isinstance(config, SsastConfig)
    assert (config.hidden_size, config.num_hidden_layers) == (case["embed_dim"], case["depth"])
    assert config.num_attention_heads == case["num_heads"]
    assert config.intermediate_size == case["mlp_ratio"] * case["embed_dim"]
    assert (config.num_mel_bins, config.max_length) == (case["input_fdim"], case["input_tdim"])
    assert config.patch_shape == (case["fshape"], case["tshape"])
    assert (config.frequency_stride, config.time_stride) == (case["fstride"], case["tstride"])
    assert AutoFeatureExtractor.from_pretrained(folders[name]).max_length == case["input_tdim"]


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_written_unchanged(folders, name):
    """Put together again by their original names, the written tensors are the checkpoint: queries, keys, values too."""
    original = read_original(name)
    written = load_file(folders[name] / "model.safetensors")
    order = [key for part in ("q_proj", "k_proj", "v_proj") for key in written if f".{part}." in key]
    joined: dict[str, list[torch.Tensor]] = {}
    for key in [*order, *(written.keys() - set(order))]:
        joined.setdefault(ORIGINAL.original_name(key), []).append(written[key])
    assert joined.keys() == {key for key in original if not key.startswith(("v.head", "p_input_"))}
    for key, tensors in joined.items():
        assert len(tensors) == (3 if ".qkv." in key else 1)
        assert torch.equal(torch.cat(tensors), original[key]), key


@pytest.mark.parametrize("name", SSAST_FINE_TUNING_CASES)
def test_pipeline_gives_the_originals_scores(folders, name):
    """The whole way of a user: Auto classes and pipeline, on what the feature extractor would give."""
    _, _, inputs, expected = load_case(name, "ssast")
    classifier = pipeline("audio-classification", model=str(folders[name]))
    with torch.no_grad():
        logits = classifier.model(inputs["fbank"]).logits
    assert relative_error(logits, expected["logits_avgtok"]) < TOLERANCE
    answers = classifier(torch.randn(16000).numpy(), top_k=None)
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)


@pytest.mark.parametrize("name", SSAST_PRETRAINING_CASES)
def test_auto_class_gives_the_originals_losses(folders, name):
    _, _, inputs, expected = load_case(name, "ssast")
    model = AutoModelForPreTraining.from_pretrained(folders[name])
    with torch.no_grad():
        outputs = model(inputs["fbank"], bool_masked_pos=mask_of(inputs["mask_index"], 128))
    for part in ("nce", "mse", "loss"):
        assert relative_error(outputs[part], expected[part]) < TOLERANCE


WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoModelForPreTraining, pipeline

def check(actual, expected):
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()

for folder, case in zip(sys.argv[1::2], sys.argv[2::2]):
    inputs, expected = (load_file(f"{case}/{part}.safetensors") for part in ("inputs", "expected"))
    for attention in ("eager", "sdpa"):
        options = {"trust_remote_code": True, "attn_implementation": attention}
        if "mask_index" in inputs:
            model = AutoModelForPreTraining.from_pretrained(folder, **options)
            mask = torch.zeros(len(inputs["fbank"]), 128, dtype=torch.bool).scatter(1, inputs["mask_index"], True)
            check(model(inputs["fbank"], bool_masked_pos=mask).loss, expected["loss"])
        else:
            model = AutoModelForAudioClassification.from_pretrained(folder, **options)
            check(model(inputs["fbank"]).logits, expected["logits_avgtok"])
        assert type(model).__module__.startswith("transformers_modules.")
    assert type(AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)).__module__.startswith("transformers_")
    if "mask_index" not in inputs:
        classify = pipeline("audio-classification", model=folder, trust_remote_code=True)
        assert len(classify(torch.randn(16000).numpy(), top_k=None)) == model.config.num_labels
"""


def test_remote_code_gives_the_originals_numbers(folders, tmp_path):
    """Of every checkpoint, with eager attention and SDPA, where the package is missing."""
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    paths = [str(path) for name in CASES for path in (folders[name], load_case(name, "ssast")[1].parent)]
    result = run_python(["-c", WITHOUT_PACKAGE, *paths], tmp_path, environment)
    assert result.returncode == 0, result.stderr


def test_published_file_names_and_widths(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = SsastConfig.tiny(num_hidden_layers=1, max_length=64)
    model = ORIGINAL.pretraining_class(config)
    original = {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(64)}
    for name, tensor in model.state_dict().items():
        key = ORIGINAL.original_name(name)
        original[key] = torch.cat((original[key], tensor)) if key in original else tensor
    folder = convert(save(original, tmp_path / "SSAST-Tiny-Patch-250.pth"), tmp_path / "out")
    converted = AutoConfig.from_pretrained(folder)
    # Of the published widths the heads are known.
    assert (converted.num_attention_heads, converted.num_masked_patches) == (3, 250)
    assert "250 is taken from the file name" in caplog.text
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_card(folders):
    card = ModelCard.load(folders["pretrain_frame"] / "README.md")
    assert card.data.tags == ["ssast", "audio", "transformer"]
    for text in (
        "Self-Supervised Audio Spectrogram Transformer",
        "128 mel bins x 2 frames",
        "3, 192",
        "gong2022ssast",
    ):
        assert text in card.text


def test_frames_without_a_length_take_the_recipes_stride(tmp_path, caplog):
    checkpoint = load_case("finetune_frame_longer", "ssast")[1]
    config = AutoConfig.from_pretrained(convert(checkpoint, tmp_path / "a", num_attention_heads=3))
    assert (config.frequency_stride, config.time_stride, config.max_length) == (128, 1, 300)
    assert "--frequency_stride 128 --time_stride 2" in caplog.text
    told = convert(checkpoint, tmp_path / "b", num_attention_heads=3, time_stride=2)
    assert AutoConfig.from_pretrained(told).max_length == 598


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {}, "--num_attention_heads must be given: the checkpoint is 48 wide"),
        (
            {},
            {"num_attention_heads": 7},
            "--num_attention_heads must be a divisor of the checkpoint's width, 48, got 7",
        ),
        ({}, {"num_attention_heads": 0}, "--num_attention_heads must be a divisor .* got 0"),
        ({"v.dist_token": None}, {"num_attention_heads": 3}, r"missing: v\.dist_token"),
        (
            {"v.blocks.1.attn.qkv.weight": torch.ones(96, 48)},
            {"num_attention_heads": 3},
            r"v\.blocks\.1\.attn\.qkv\.weight \(96, 48\) instead of \(144, 48\)",
        ),
        ({"v.blocks.1.attn.qkv.bias": None}, {"num_attention_heads": 3}, r"missing: v\.blocks\.1\.attn\.qkv\.bias"),
        ({"v.blocks.0.ls1": torch.ones(48)}, {"num_attention_heads": 3}, r"unknown: v\.blocks\.0\.ls1"),
        (
            {"v.pos_embed": torch.ones(1, 129, 48)},
            {"num_attention_heads": 3},
            "holds 127 patch positions, but a spectrogram of 128 mel bins x 256 frames",
        ),
    ],
)
def test_refusals(tmp_path, change, arguments, message):
    state_dict = read_original("pretrain_patch")
    for name, value in change.items():
        if value is None:
            del state_dict[name]
        else:
            state_dict[name] = value
    with pytest.raises(ConversionError, match=message):
        convert(save(state_dict, tmp_path / "bad.pth"), tmp_path / "out", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_checkpoints_of_the_other_original_are_refused(tmp_path):
    with pytest.raises(ConversionError, match=r"no layers v\.blocks\.0"):
        convert(load_case("pretrain")[1], tmp_path / "out", num_attention_heads=4)


def test_command_line(tmp_path, capsys):
    checkpoint = load_case("finetune_patch_stride10_shorter", "ssast")[1]
    arguments = [str(checkpoint), str(tmp_path / "out"), "--num_attention_heads", "3", "--pooling", "cls"]
    assert run_converter(make_parser(), convert, arguments) == 0
    assert AutoModelForAudioClassification.from_pretrained(tmp_path / "out").config.pooling == "cls"
    result = run_python([str(SCRIPT), "none.pth", "other"], tmp_path)
    assert result.returncode == 1
    assert re.fullmatch(r"error: CHECKPOINT none\.pth does not exist.*\n", result.stderr)
