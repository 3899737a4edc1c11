# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The converter of original SSAMBA checkpoints: numbers, folder, remote code, card, and everything it refuses."""

import json
import logging
import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from golden import CASES, FINE_TUNING_CASES, PRETRAINING_CASES, TOLERANCE, load_case, mask_of, relative_error
from huggingface_hub import ModelCard, create_repo
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    pipeline,
)
from warm_python import run_python

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, SsambaForPreTraining
from hf_audio_ssm.common.hub_access import Place
from hf_audio_ssm.conversion import checkpoint_conversion
from hf_audio_ssm.conversion.checkpoint_conversion import ConversionError, run_converter
from hf_audio_ssm.conversion.ssamba import ORIGINAL, convert, make_parser
from hf_audio_ssm.models.packaging import flat_code


FILES = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", *flat_code("ssamba")}
SCRIPT = Path(__file__).resolve().parents[2] / "conversion" / "convert_ssamba_original_to_hf.py"


def arguments_of(name: str) -> dict:
    """What a golden checkpoint does not tell."""
    case = load_case(name)[0]
    arguments = {"unpaired": not case["if_bidirectional"]}
    if name in FINE_TUNING_CASES:
        arguments["max_length"] = case["input_tdim"]
    return arguments


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Every golden checkpoint, converted."""
    folder = tmp_path_factory.mktemp("converted")
    return {name: convert(load_case(name)[1], folder / name, **arguments_of(name)) for name in CASES}


def run_cli(*arguments) -> int:
    return run_converter(make_parser(), convert, [str(argument) for argument in arguments])


def read_original(name: str) -> dict[str, torch.Tensor]:
    return torch.load(load_case(name)[1], weights_only=True)


def save(state_dict, path: Path) -> Path:
    torch.save(state_dict, path)
    return path


def refused(tmp_path: Path, checkpoint, message: str, **arguments) -> None:
    """Asserts that a conversion is refused with `message`, and nothing is left behind."""
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ConversionError, match=message) as caught:
        convert(checkpoint, tmp_path / "new" / "converted", **arguments)
    assert "\n" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


class TestGoldenCases:
    @pytest.mark.parametrize("name", CASES)
    def test_folder(self, folders, name):
        assert {path.name for path in folders[name].iterdir()} == FILES

    @pytest.mark.parametrize("name", CASES)
    def test_every_tensor_is_written_unchanged(self, folders, name):
        original = {key.removeprefix("module."): tensor for key, tensor in read_original(name).items()}
        written = load_file(folders[name] / "model.safetensors")
        assert {ORIGINAL.original_name(key) for key in written} == {
            key for key in original if not key.startswith(("v.head.", "p_input_"))
        }
        for key, tensor in written.items():
            assert torch.equal(tensor, original[ORIGINAL.original_name(key)]), key

    @pytest.mark.parametrize("name", CASES)
    def test_configuration(self, folders, name):
        case = load_case(name)[0]
        config = AutoConfig.from_pretrained(folders[name])
        assert isinstance(config, SsambaConfig)
        assert (config.hidden_size, config.num_hidden_layers) == (case["embed_dim"], case["depth"])
        assert (config.num_mel_bins, config.max_length) == (case["input_fdim"], case["input_tdim"])
        assert config.patch_shape == (case["fshape"], case["tshape"])
        assert (config.frequency_stride, config.time_stride) == (case["fstride"], case["tstride"])
        assert config.paired_layers is case["if_bidirectional"]
        feature_extractor = AutoFeatureExtractor.from_pretrained(folders[name])
        assert (feature_extractor.num_mel_bins, feature_extractor.max_length) == (128, case["input_tdim"])

    @pytest.mark.parametrize("name", FINE_TUNING_CASES)
    def test_fine_tuned_numbers(self, folders, name):
        case, _, inputs, expected = load_case(name)
        model = AutoModelForAudioClassification.from_pretrained(folders[name])
        assert model.config.num_labels == case["num_labels"]
        with torch.no_grad():
            assert relative_error(model.ssamba.embeddings(inputs["fbank"]), expected["embeddings"]) < TOLERANCE
            assert relative_error(model(inputs["fbank"]).logits, expected["logits_avgtok"]) < TOLERANCE
            hidden_state = AutoModel.from_pretrained(folders[name])(inputs["fbank"]).last_hidden_state
        assert relative_error(hidden_state, expected["last_hidden_state"]) < TOLERANCE

    @pytest.mark.parametrize("name", FINE_TUNING_CASES)
    def test_cls_pooling(self, tmp_path, name):
        _, checkpoint, inputs, expected = load_case(name)
        folder = convert(checkpoint, tmp_path / "cls", pooling="cls", **arguments_of(name))
        model = AutoModelForAudioClassification.from_pretrained(folder)
        assert model.config.pooling == "cls"
        with torch.no_grad():
            assert relative_error(model(inputs["fbank"]).logits, expected["logits_cls"]) < TOLERANCE

    @pytest.mark.parametrize("name", PRETRAINING_CASES)
    def test_pretraining_numbers(self, folders, name):
        _, _, inputs, expected = load_case(name)
        model = AutoModelForPreTraining.from_pretrained(folders[name])
        mask = mask_of(inputs["mask_index"], 128)
        with torch.no_grad():
            outputs = model(inputs["fbank"], bool_masked_pos=mask)
            embeddings = model.ssamba.embeddings(inputs["fbank"], mask)
            hidden_state = model.ssamba(inputs["fbank"], bool_masked_pos=mask).last_hidden_state
        assert relative_error(embeddings, expected["embeddings"]) < TOLERANCE
        assert relative_error(hidden_state, expected["last_hidden_state_masked"]) < TOLERANCE
        for loss in ("nce", "mse", "accuracy", "loss"):
            assert relative_error(outputs[loss], expected[loss]) < TOLERANCE, loss

    @pytest.mark.parametrize("name", [*FINE_TUNING_CASES, "pretrain"])
    def test_without_arguments(self, tmp_path, name):
        """The length is then unknown within a stride; the grid, and so the numbers, are not."""
        _, checkpoint, inputs, expected = load_case(name)
        folder = convert(checkpoint, tmp_path / "plain")
        model = AutoModel.from_pretrained(folder)
        assert model.config.patch_grid() == model.config.patch_grid(inputs["fbank"].shape[1])
        if name != "pretrain":
            with torch.no_grad():
                hidden_state = model(inputs["fbank"]).last_hidden_state
            assert relative_error(hidden_state, expected["last_hidden_state"]) < TOLERANCE

    def test_pipeline(self, folders):
        """The raw array in, the probabilities of the model's own logits out."""
        folder = folders["finetune_same_grid"]
        waveform = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
        scores = pipeline("audio-classification", model=str(folder), top_k=None)(waveform)
        model = AutoModelForAudioClassification.from_pretrained(folder)
        inputs = AutoFeatureExtractor.from_pretrained(folder)(waveform, sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**inputs).logits.softmax(dim=-1)[0]
        assert {entry["label"] for entry in scores} == {f"LABEL_{i}" for i in range(5)}
        for entry in scores:
            assert entry["score"] == pytest.approx(probabilities[int(entry["label"][-1])].item(), rel=1e-5)


def run_without_package(code: str, cwd: Path, cache: Path, *arguments) -> subprocess.CompletedProcess:
    """Runs Python where hf_audio_ssm cannot be imported."""
    code = f"import sys\nsys.modules['hf_audio_ssm'] = None\n{code}"
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    result = run_python(["-c", code, *map(str, arguments)], cwd, environment)
    assert result.returncode == 0, result.stderr
    return result


class TestRemoteCode:
    def test_numbers_without_the_package(self, folders, tmp_path):
        code = """
import json, torch
from safetensors.torch import load_file
from transformers import (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification,
                          AutoModelForPreTraining, pipeline)
torch.set_num_threads(1)
def load(auto_class, folder):
    loaded = auto_class.from_pretrained(folder, trust_remote_code=True)
    assert type(loaded).__module__.startswith("transformers_modules."), type(loaded)
    return loaded
def error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()
pretrained, fine_tuned, pretrained_golden, fine_tuned_golden = sys.argv[1:]
inputs, expected = (load_file(f"{fine_tuned_golden}/{name}.safetensors") for name in ("inputs", "expected"))
errors = {}
with torch.no_grad():
    model = load(AutoModelForAudioClassification, fine_tuned)
    errors["logits"] = error(model(inputs["fbank"]).logits, expected["logits_avgtok"])
    hidden_state = load(AutoModel, fine_tuned)(inputs["fbank"]).last_hidden_state
    errors["last_hidden_state"] = error(hidden_state, expected["last_hidden_state"])
    inputs, expected = (load_file(f"{pretrained_golden}/{name}.safetensors") for name in ("inputs", "expected"))
    mask = torch.zeros(2, 128, dtype=torch.bool).scatter(1, inputs["mask_index"], True)
    outputs = load(AutoModelForPreTraining, pretrained)(inputs["fbank"], bool_masked_pos=mask)
    errors["loss"] = error(outputs.loss, expected["loss"])
assert load(AutoConfig, pretrained).num_hidden_layers == 4
assert load(AutoFeatureExtractor, pretrained).max_length == 256
scores = pipeline("audio-classification", model=fine_tuned, trust_remote_code=True)(torch.randn(16000).numpy())
assert len(scores) == 5
print(json.dumps(errors))
"""
        fine_tuned, pretrained = "finetune_stride10_longer", "pretrain"
        golden = [load_case(name)[1].parent for name in (pretrained, fine_tuned)]
        result = run_without_package(
            code, tmp_path, tmp_path / "cache", folders[pretrained], folders[fine_tuned], *golden
        )
        errors = json.loads(result.stdout.splitlines()[-1])
        assert set(errors) == {"logits", "last_hidden_state", "loss"}
        assert max(errors.values()) < TOLERANCE, errors

    def test_examples_of_the_cards(self, tmp_path):
        """As they stand, from folders with a dash and a dot, as Hub names have."""
        soundfile.write(tmp_path / "clip.wav", np.random.default_rng(0).normal(scale=0.1, size=8000), 8000)
        examples = []
        for name in ("pretrain", "finetune_same_grid"):
            folder = convert(load_case(name)[1], tmp_path / f"my-{name}.v1")
            (example,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
            examples.append(example)
        result = run_without_package("\n".join(examples), tmp_path, tmp_path / "cache")
        assert "tensor([[" in result.stdout
        assert "LABEL_" in result.stdout


class TestModelCard:
    def test_pretrained(self, folders):
        card = ModelCard.load(folders["pretrain_unpaired"] / "README.md")
        assert card.data.license == "bsd-3-clause"
        assert card.data.library_name == "transformers"
        assert card.data.pipeline_tag is None
        assert "arxiv.org/abs/2405.11831" in card.text
        assert "| Parameters | 86,528 |" in card.text
        assert "32, 4 (one after the other)" in card.text
        assert "8 x 16 patches" in card.text

    def test_fine_tuned(self, folders):
        card = ModelCard.load(folders["finetune_stride10_longer"] / "README.md")
        assert card.data.pipeline_tag == "audio-classification"
        assert "with 5 classes" in card.text
        assert "12 x 39 patches" in card.text
        assert "assumed" in card.text
        assert "{{" not in card.text.replace("{{SSAMBA}", "")
        assert "{%" not in card.text


class TestOptions:
    @pytest.mark.parametrize("form", ["list", "mapping", "commas", "json", "file"])
    def test_id2label(self, tmp_path, form):
        names = ["dog", "rain", "sea waves", "baby", "clock"]
        (tmp_path / "labels.json").write_text(json.dumps(dict(enumerate(names))))
        id2label = {
            "list": names,
            "mapping": dict(enumerate(names)),
            "commas": "dog, rain,sea waves,baby,clock",
            "json": json.dumps(names),
            "file": str(tmp_path / "labels.json"),
        }[form]
        folder = convert(load_case("finetune_same_grid")[1], tmp_path / "labelled", id2label=id2label)
        config = AutoConfig.from_pretrained(folder)
        assert config.id2label == dict(enumerate(names))
        assert config.label2id == {name: index for index, name in enumerate(names)}
        assert "numbered" not in (folder / "README.md").read_text()

    def test_dataset(self, tmp_path, caplog):
        folder = convert(load_case("finetune_stride10_shorter")[1], tmp_path / "sc", dataset="speech_commands")
        feature_extractor = AutoFeatureExtractor.from_pretrained(folder)
        assert (feature_extractor.mean, feature_extractor.std) == (-6.845978, 5.5654526)
        config = AutoConfig.from_pretrained(folder)
        assert (config.max_length, config.time_stride) == (128, 10)
        # The data set's length told which of two grids it is.
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_mean_and_std(self, tmp_path):
        folder = convert(load_case("finetune_same_grid")[1], tmp_path / "own", mean=-5.5, std=3)
        feature_extractor = AutoFeatureExtractor.from_pretrained(folder)
        assert (feature_extractor.mean, feature_extractor.std) == (-5.5, 3)

    def test_unknown_normalization_is_said(self, tmp_path, caplog):
        convert(load_case("finetune_same_grid")[1], tmp_path / "plain")
        assert "--dataset" in caplog.text

    def test_two_grids_fit(self, tmp_path, caplog):
        checkpoint = load_case("finetune_stride10_shorter")[1]
        config = AutoConfig.from_pretrained(convert(checkpoint, tmp_path / "guessed"))
        assert config.position_grid == [12, 12]
        assert "--frequency_stride 16 --time_stride 16" in caplog.text
        config = AutoConfig.from_pretrained(
            convert(checkpoint, tmp_path / "told", frequency_stride=16, time_stride=16)
        )
        assert (config.position_grid, config.max_length) == ([8, 18], 288)
        config = AutoConfig.from_pretrained(convert(checkpoint, tmp_path / "by_length", max_length=290))
        assert (config.position_grid, config.frequency_stride, config.time_stride) == ([8, 18], 16, 16)

    def test_file_name_tells_the_masked_patches(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        checkpoint = tmp_path / "ssamba_tiny_300.pth"
        checkpoint.write_bytes(load_case("pretrain")[1].read_bytes())
        assert AutoConfig.from_pretrained(convert(checkpoint, tmp_path / "a")).num_masked_patches == 300
        assert "300 is taken from the file name" in caplog.text
        folder = convert(checkpoint, tmp_path / "b", num_masked_patches=40)
        assert AutoConfig.from_pretrained(folder).num_masked_patches == 40

    def test_half_precision_is_widened(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        original = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in read_original("pretrain").items()
        }
        folder = convert(save(original, tmp_path / "half.pth"), tmp_path / "half")
        for name, tensor in load_file(folder / "model.safetensors").items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, original[f"module.{ORIGINAL.original_name(name)}"].float())
        assert "float16" in caplog.text

    def test_names_without_the_parallel_prefix_and_old_file_format(self, tmp_path, folders):
        original = {name.removeprefix("module."): tensor for name, tensor in read_original("pretrain").items()}
        del original["v.head.weight"], original["v.head.bias"]
        torch.save(original, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        folder = convert(tmp_path / "old.pth", tmp_path / "pretrain")
        assert (folder / "model.safetensors").read_bytes() == (folders["pretrain"] / "model.safetensors").read_bytes()

    @pytest.mark.parametrize("patch_size", [(128, 2), (16, 8)])
    def test_other_patches(self, tmp_path, patch_size):
        config = SsambaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            patch_size=patch_size,
            frequency_stride=patch_size[0],
            time_stride=patch_size[1],
            max_length=96,
            use_bias=True,
            use_conv_bias=False,
            conv_kernel=3,
            state_size=8,
            expand=3,
            num_labels=2,
        )
        model = SsambaForAudioClassification(config).eval()
        original = {ORIGINAL.original_name(name): tensor for name, tensor in model.state_dict().items()}
        folder = convert(save(original, tmp_path / "other.pth"), tmp_path / "other", max_length=96)
        spectrogram = torch.randn(1, 96, 128)
        converted = AutoModelForAudioClassification.from_pretrained(folder)
        with torch.no_grad():
            assert torch.equal(converted(spectrogram).logits, model(spectrogram).logits)

    def test_signed_zeros_and_denormals_survive(self, tmp_path):
        original = read_original("pretrain")
        original["module.mask_embed"].view(-1)[:3] = torch.tensor([-0.0, 1e-45, 0.0])
        folder = convert(save(original, tmp_path / "zeros.pth"), tmp_path / "zeros")
        written = load_file(folder / "model.safetensors")["ssamba.embeddings.mask_token"]
        assert torch.equal(written.view(torch.int32), original["module.mask_embed"].view(torch.int32))


def without(name: str):
    return lambda state_dict: state_dict.pop(f"module.{name}")


def replaced(name: str, value):
    return lambda state_dict: state_dict.update({f"module.{name}": value})


def with_nan(state_dict):
    state_dict["module.v.layers.2.mixer.D"][3] = float("nan")


def with_infinity(state_dict):
    state_dict["module.v.norm_f.weight"][0] = float("inf")


def as_rms_norm(state_dict):
    for name in [name for name in state_dict if "norm" in name and name.endswith(".bias")]:
        del state_dict[name]


def without_layer(index: int):
    def change(state_dict):
        for name in [name for name in state_dict if f".layers.{index}." in name]:
            del state_dict[name]

    return change


class TestRefusedTensors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (without("v.layers.1.mixer.D_b"), r"missing: v\.layers\.1\.mixer\.D_b\."),
            (without("v.cls_token"), r"has no v\.cls_token"),
            (without("v.pos_embed"), r"has no v\.pos_embed"),
            (without("v.layers.0.mixer.A_log"), r"has no v\.layers\.0\.mixer\.A_log"),
            (without("gpredlayer.2.bias"), r"missing: gpredlayer\.2\.bias"),
            (without("mask_embed"), "missing: mask_embed"),
            (without("p_input_tdim"), "p_input_tdim must be one positive integer, got none"),
            (without("v.norm_f.weight"), r"missing: v\.norm_f\.weight"),
            (replaced("v.rope.freqs", torch.zeros(3)), r"unknown: v\.rope\.freqs"),
            (replaced("v.layers.0.mixer.in_proj.bias", torch.zeros(128)), r"missing: .*1\.mixer\.in_proj\.bias"),
            (replaced("mlp_head.0.weight", torch.ones(32)), "heads of pretraining .* as well as of classification"),
            (replaced("v.norm_f.weight", torch.ones(31)), r"v\.norm_f\.weight \(31,\) instead of \(32,\)"),
            (replaced("v.cls_token", torch.ones(32)), r"v\.cls_token must have 3 dimensions.*\(32,\)"),
            (replaced("v.cls_token", torch.ones(1, 1, 48)), r"not a multiple of the width of v\.cls_token, 48"),
            (replaced("v.pos_embed", torch.ones(1, 0, 32)), r"v\.pos_embed must have 3 dimensions"),
            (replaced("v.pos_embed", torch.ones(1, 131, 32)), "130 patch positions.*8 x 16 = 128 patches"),
            (replaced("p_input_tdim", torch.tensor(0)), "p_input_tdim must be one positive integer"),
            (replaced("p_input_tdim", torch.tensor(12)), "larger than the pretraining spectrogram"),
            (replaced("p_input_fdim", torch.tensor(128.0)), "p_input_fdim must be one positive integer.*float32"),
            (replaced("v.norm_f.bias", torch.ones(32, dtype=torch.int64)), r"v\.norm_f\.bias must be .*int64"),
            (replaced("v.norm_f.bias", torch.ones(32).to_sparse()), r"v\.norm_f\.bias must be a dense .*sparse"),
            (replaced("v.norm_f.bias", torch.full((32,), 0.1, dtype=torch.float64)), "float32 cannot hold exactly"),
            (with_nan, r"v\.layers\.2\.mixer\.D has 1 values of 64 that are NaN"),
            (with_infinity, r"v\.norm_f\.weight has 1 values of 32 that are NaN or infinite"),
            (as_rms_norm, r"v\.layers\.0\.norm.*RMSNorm, where the original has LayerNorm"),
            (without_layer(1), r"layers up to v\.layers\.3, but without 1\."),
            (without_layer(3), "3 layers, which do not make pairs; --unpaired"),
        ],
    )
    def test_pretraining(self, tmp_path, change, message):
        state_dict = read_original("pretrain")
        change(state_dict)
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (without("mlp_head.1.weight"), r"has no mlp_head\.1\.weight"),
            (without("mlp_head.0.bias"), "mlp_head.0.*RMSNorm"),
            (replaced("mlp_head.1.bias", torch.ones(4)), r"mlp_head\.1\.bias \(4,\) instead of \(5,\)"),
            (replaced("p_input_fdim", torch.tensor(128)), "unknown: p_input_fdim"),
            (
                replaced("v.pos_embed", torch.ones(1, 131, 32)),
                "130 patch positions.* 10, 10 make rows of 12 and strides 16, 16 make rows of 8",
            ),
        ],
    )
    def test_fine_tuned(self, tmp_path, change, message):
        state_dict = read_original("finetune_same_grid")
        change(state_dict)
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), message)

    def test_encoder_without_head(self, tmp_path):
        state_dict = {name: value for name, value in read_original("pretrain").items() if ".v." in name}
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), "neither the pretraining heads .* nor a classifier")

    def test_other_model(self, tmp_path):
        state_dict = {name.replace(".layers.", ".blocks."): value for name, value in read_original("pretrain").items()}
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), r"no layers v\.layers\.0.*it holds")

    def test_converted_names(self, tmp_path, folders):
        state_dict = load_file(folders["pretrain"] / "model.safetensors")
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), "neither the pretraining heads")


class Harmful:
    """What a pickle can do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestRefusedFiles:
    @pytest.mark.parametrize("kept", [200_000, 428_000, 100])
    def test_truncated(self, tmp_path, kept):
        (tmp_path / "cut.pth").write_bytes(load_case("pretrain")[1].read_bytes()[:kept])
        refused(tmp_path, tmp_path / "cut.pth", r"cut\.pth is truncated, damaged or not a PyTorch checkpoint")

    def test_truncated_old_format(self, tmp_path):
        torch.save(read_original("pretrain"), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        content = (tmp_path / "old.pth").read_bytes()
        (tmp_path / "old.pth").write_bytes(content[:-1000])
        refused(tmp_path, tmp_path / "old.pth", r"old\.pth is truncated, damaged")

    def test_one_byte_changed(self, tmp_path):
        content = bytearray(load_case("pretrain")[1].read_bytes())
        content[len(content) // 2] ^= 0xFF
        (tmp_path / "flipped.pth").write_bytes(content)
        refused(tmp_path, tmp_path / "flipped.pth", r"flipped\.pth is damaged: the checksum of its part .*data/")

    def test_empty(self, tmp_path):
        (tmp_path / "empty.pth").touch()
        refused(tmp_path, tmp_path / "empty.pth", r"empty\.pth is empty \(0 bytes\)")

    def test_no_checkpoint(self, tmp_path):
        (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
        refused(tmp_path, tmp_path / "text.pth", r"text\.pth is truncated, damaged or not a PyTorch checkpoint")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_never_run(self, tmp_path, zipped):
        mark = tmp_path / "harm_done"
        state_dict = {**read_original("pretrain"), "module.extra": Harmful(mark)}
        torch.save(state_dict, tmp_path / "code.pth", _use_new_zipfile_serialization=zipped)
        refused(tmp_path, tmp_path / "code.pth", r"needs code to be read \(\w+\.mkdir\), which is never run")
        assert not mark.exists()

    def test_whole_module(self, tmp_path):
        checkpoint = save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
        refused(tmp_path, checkpoint, r"needs code to be read \(torch\.nn\.modules\.linear\.Linear\)")

    def test_plain_pickle(self, tmp_path):
        (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
        refused(tmp_path, tmp_path / "plain.pth", "truncated, damaged or not a PyTorch checkpoint")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([torch.zeros(2)], "holds a list, not a state dict"),
            (torch.zeros(2), "holds a Tensor, not a state dict"),
            ({}, "holds no tensors"),
            ({"state": {0: torch.zeros(2)}, "param_groups": []}, "under 'state' it holds a dict, not a tensor"),
            ({0: torch.zeros(2)}, "under 0 it holds a Tensor"),
        ],
    )
    def test_other_content(self, tmp_path, content, message):
        refused(tmp_path, save(content, tmp_path / "content.pth"), message)

    def test_missing(self, tmp_path):
        refused(tmp_path, tmp_path / "missing.pth", r"missing\.pth does not exist; a file on the Hub is")
        refused(tmp_path, "org/name", "org/name does not exist; .* --filename")
        refused(tmp_path, tmp_path, "is a local folder")


class TestRefusedArguments:
    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("pretrain", {"max_length": 1024}, "--max_length 1024 contradicts .* p_input_tdim is 256"),
            ("pretrain", {"num_mel_bins": 64}, "--num_mel_bins 64 contradicts .* p_input_fdim is 128"),
            ("pretrain", {"time_stride": 10}, r"--time_stride 10 contradicts .* 128 patch .* 8 x 25 = 200 .*16, 10"),
            ("pretrain", {"id2label": "a,b"}, "--id2label contradicts the checkpoint, which is pretrained"),
            ("pretrain", {"frequency_stride": 0}, "--frequency_stride must be positive, got 0"),
            ("pretrain", {"num_masked_patches": -1}, "--num_masked_patches must be positive, got -1"),
            ("pretrain", {"pooling": "max"}, "`pooling` must be one of"),
            ("pretrain", {"dataset": "mnist"}, "--dataset must be one of audioset.*got mnist"),
            ("pretrain", {"mean": 1.0}, "--mean and --std go together, got --mean 1.0 alone"),
            ("pretrain", {"mean": 1.0, "std": 0.0}, "--std finite and positive, got 1.0 and 0.0"),
            ("pretrain", {"mean": 1.0, "std": 1.0, "dataset": "esc50"}, "contradict --dataset esc50"),
            ("pretrain", {"private": True}, "--private is for --push_to_hub"),
            ("pretrain", {"push_to_hub": "name"}, "--push_to_hub must be org/name, got name"),
            ("pretrain", {"push_to_hub": "a/b/c"}, "--push_to_hub a/b/c is not a repository name"),
            ("pretrain", {"filename": "x.pth"}, r"--filename x\.pth is for Hub repositories"),
            ("pretrain", {"revision": "main"}, "--revision main is for Hub repositories"),
            ("finetune_same_grid", {"num_masked_patches": 40}, "--num_masked_patches 40 contradicts .*fine-tuned"),
            (
                "finetune_same_grid",
                {"frequency_stride": 10, "time_stride": 10},
                "--frequency_stride 10, --time_stride 10 contradicts .*128 patch positions.*rows of 12",
            ),
            ("finetune_same_grid", {"max_length": 512}, "--max_length 512 contradicts .* 12 x 50 = 600 and .* 8 x 32"),
            ("finetune_same_grid", {"max_length": 10}, "--max_length 10 is less than a patch of 16 x 16"),
            ("finetune_same_grid", {"num_mel_bins": 8}, "--num_mel_bins 8 is less than a patch"),
            ("finetune_same_grid", {"id2label": "a,b,c"}, r"names 3 classes .*mlp_head\.1\.weight\) has 5"),
            ("finetune_same_grid", {"id2label": "a,b,c,d,a"}, "must name each class differently"),
            ("finetune_same_grid", {"id2label": "a,b,c,d,"}, "must hold one name for each class"),
            ("finetune_same_grid", {"id2label": "[1, 2, 3, 4, 5]"}, "must hold one name for each class"),
            ("finetune_same_grid", {"id2label": "{bad"}, r"--id2label \{bad cannot be read"),
            ("finetune_same_grid", {"id2label": "none.json"}, r"--id2label none\.json cannot be read"),
            ("finetune_same_grid", {"id2label": {"1": "a", "2": "b", "3": "c", "4": "d", "5": "e"}}, "0 to 4"),
        ],
    )
    def test_contradictions(self, tmp_path, name, arguments, message):
        refused(tmp_path, load_case(name)[1], message, **arguments)


class TestOutputFolder:
    def test_parents_are_made_and_nothing_else(self, tmp_path):
        folder = convert(load_case("pretrain")[1], tmp_path / "a" / "b" / "c")
        assert folder == tmp_path / "a" / "b" / "c"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_other_files_are_left_alone(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        for overwrite, message in (
            (False, "is not empty; --overwrite"),
            (True, r"files that no conversion wrote \(mine\.txt\)"),
        ):
            with pytest.raises(ConversionError, match=message):
                convert(load_case("pretrain")[1], tmp_path, overwrite=overwrite)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_overwrite(self, tmp_path):
        convert(load_case("pretrain")[1], tmp_path / "out")
        with pytest.raises(ConversionError, match="is not empty; --overwrite"):
            convert(load_case("finetune_same_grid")[1], tmp_path / "out")
        convert(load_case("finetune_same_grid")[1], tmp_path / "out", overwrite=True)
        assert AutoConfig.from_pretrained(tmp_path / "out").architectures == ["SsambaForAudioClassification"]
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_failure_keeps_the_earlier_conversion(self, tmp_path, monkeypatch):
        folder = convert(load_case("pretrain")[1], tmp_path / "out")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}

        def fail(*args, **kwargs):
            raise OSError("No space left on device")

        monkeypatch.setattr(SsambaForAudioClassification, "save_pretrained", fail)
        with pytest.raises(ConversionError, match="cannot be written: No space left"):
            convert(load_case("finetune_same_grid")[1], tmp_path / "out", overwrite=True)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_wrong_tensor_on_disk_is_noticed(self, tmp_path, monkeypatch):
        save_pretrained = SsambaForPreTraining.save_pretrained

        def corrupt(self, folder, **kwargs):
            state_dict = {name: tensor.clone() for name, tensor in self.state_dict().items()}
            state_dict["generative_head.dense.bias"][0] += 1e-6
            save_pretrained(self, folder, state_dict=state_dict, **kwargs)

        monkeypatch.setattr(SsambaForPreTraining, "save_pretrained", corrupt)
        refused(tmp_path, load_case("pretrain")[1], r"written tensor generative_head\.dense\.bias is not")

    def test_file_in_the_way(self, tmp_path):
        (tmp_path / "out").write_text("a file")
        with pytest.raises(ConversionError, match="exists and is not a folder"):
            convert(load_case("pretrain")[1], tmp_path / "out")
        with pytest.raises(ConversionError, match="cannot be written|is not a folder"):
            convert(load_case("pretrain")[1], tmp_path / "out" / "below")
        assert (tmp_path / "out").read_text() == "a file"


class TestHub:
    def test_download(self, tmp_path, monkeypatch):
        calls = []

        def download(repo_id, filename, revision, token, local_files_only):
            calls.append((repo_id, filename, revision))
            return str(load_case("pretrain")[1])

        monkeypatch.setattr(checkpoint_conversion, "find_place", Place)
        monkeypatch.setattr(checkpoint_conversion, "hf_hub_download", download)
        folder = convert("org/name/weights/ssamba.pth", tmp_path / "a")
        convert("org/name", tmp_path / "b", filename="ssamba.pth", revision="v1")
        assert calls == [("org/name", "weights/ssamba.pth", None), ("org/name", "ssamba.pth", "v1")]
        card = ModelCard.load(folder / "README.md")
        assert card.data.base_model == "org/name"
        assert "https://huggingface.co/org/name" in card.text

    def test_download_fails(self, tmp_path, monkeypatch):
        def download(repo_id, filename, revision, token, local_files_only):
            raise LocalEntryNotFoundError("no connection")

        monkeypatch.setattr(checkpoint_conversion, "find_place", Place)
        monkeypatch.setattr(checkpoint_conversion, "hf_hub_download", download)
        refused(
            tmp_path,
            "org/name/ssamba.pth",
            "not a local file, and ssamba.pth cannot be downloaded .*org/name: no connection",
        )

    def test_bad_repository_name(self, tmp_path):
        refused(tmp_path, "a repository", "cannot be downloaded from the Hub", filename="x.pth")

    def test_push(self, tmp_path, hub):
        folder = convert(load_case("pretrain")[1], tmp_path / "out", push_to_hub="org/ssamba", private=True)
        assert hub.repos["org/ssamba"].private
        assert set(hub.files("org/ssamba")) - {".gitattributes"} == FILES
        assert 'from_pretrained("org/ssamba", trust_remote_code=True)' in (folder / "README.md").read_text()

    def test_private_never_goes_to_a_public_repository(self, tmp_path, hub):
        create_repo("org/ssamba")
        with pytest.raises(ConversionError, match="exists and is public"):
            convert(load_case("pretrain")[1], tmp_path / "out", push_to_hub="org/ssamba", private=True)
        assert set(hub.files("org/ssamba")) == {".gitattributes"}

    def test_failing_push_keeps_the_folder(self, tmp_path, hub, monkeypatch, capsys):
        monkeypatch.setenv("HF_TOKEN", "hf_revoked")
        assert run_cli(load_case("pretrain")[1], tmp_path / "out", "--push_to_hub", "org/ssamba") == 1
        error = capsys.readouterr().err
        assert re.search("out is complete, but could not be pushed to org/ssamba: .*401", error)
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES

    def test_nothing_is_pushed_after_an_error(self, tmp_path, hub):
        state_dict = read_original("pretrain")
        with_nan(state_dict)
        refused(tmp_path, save(state_dict, tmp_path / "bad.pth"), "NaN", push_to_hub="org/ssamba")
        assert not hub.repos


class TestCommandLine:
    def test_converts(self, tmp_path, capfd):
        assert run_cli(load_case("finetune_stride10_shorter")[1], tmp_path / "out") == 0
        written = capfd.readouterr()
        assert written.out == f"Wrote {tmp_path / 'out'}\n"
        assert {line.split(":")[0] for line in written.err.splitlines()} == {"note", "warning"}, written.err
        assert {path.name for path in (tmp_path / "out").iterdir()} == FILES

    def test_script_refuses_in_one_line(self, tmp_path):
        (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
        result = run_python([str(SCRIPT), "plain.pth", "out"], tmp_path)
        assert result.returncode == 1
        assert re.fullmatch(r"error: plain\.pth is truncated, damaged or not a PyTorch checkpoint.*\n", result.stderr)
        assert [path.name for path in tmp_path.iterdir()] == ["plain.pth"]

    def test_every_argument_reaches_convert(self, tmp_path, capsys):
        checkpoint = load_case("finetune_stride10_longer")[1]
        assert (
            run_cli(
                checkpoint, tmp_path / "out", "--frequency_stride", 10, "--time_stride", 10, "--max_length", 400,
                "--num_mel_bins", 128, "--pooling", "cls", "--id2label", "a,b,c,d,e", "--dataset", "esc50", "--unpaired",
            )
            == 0
        )  # fmt: skip
        config = AutoConfig.from_pretrained(tmp_path / "out")
        assert (config.pooling, config.paired_layers, config.max_length) == ("cls", False, 400)
        assert config.id2label[4] == "e"
        assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").mean == -6.6268077
        assert run_cli(load_case("pretrain")[1], tmp_path / "out", "--overwrite", "--num_masked_patches", 7) == 0
        assert AutoConfig.from_pretrained(tmp_path / "out").num_masked_patches == 7
        assert run_cli(checkpoint, tmp_path / "out") == 1
        assert "error: OUTPUT_DIR" in capsys.readouterr().err
