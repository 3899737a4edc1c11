# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pushing to the Hub and loading from it by the real client, over HTTP, against a stand-in; and what may go wrong there."""

import json
import os
import subprocess
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
import torch
from golden import GOLDEN_DIR, TOLERANCE, load_case, relative_error
from hub_server import card_errors
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification, SsambaForPreTraining
from hf_audio_ssm.conversion.ssamba import convert
from hf_audio_ssm.data.decoding import read_audio
from hf_audio_ssm.models.patch_encoder.configuration_patch_encoder import CLASSIFIER_TYPES
from hf_audio_ssm.remote_code import flat_code


REPO = "org/ssamba"
CODE = set(flat_code("ssamba"))
WEIGHTS = r"resolve/.*/model\.safetensors$"


def make_model(cls=SsambaForAudioClassification, **kwargs):
    torch.manual_seed(0)
    return cls(SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64, **{"num_labels": 3, **kwargs})).eval()


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.linspace(-1, 1, 64 * 128).reshape(1, 64, 128)).logits


def assert_same_logits(loaded, model) -> None:
    torch.testing.assert_close(logits_of(loaded), logits_of(model), rtol=0, atol=1e-6)


class TestPushAndLoad:
    def test_model_and_feature_extractor(self, hub):
        model = make_model()
        model.push_to_hub(REPO)
        SsambaFeatureExtractor(max_length=64).push_to_hub(REPO)
        assert set(hub.files(REPO)) - {".gitattributes", "README.md"} == {
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            *CODE,
        }
        assert not hub.repos[REPO].private
        assert_same_logits(AutoModelForAudioClassification.from_pretrained(REPO), model)
        assert AutoModel.from_pretrained(REPO).config.hidden_size == 16
        assert AutoFeatureExtractor.from_pretrained(REPO).max_length == 64

    def test_pretraining_model(self, hub):
        model = make_model(SsambaForPreTraining)
        model.push_to_hub(REPO)
        loaded = AutoModelForPreTraining.from_pretrained(REPO)
        assert torch.equal(loaded.generative_head.decoder.weight, model.generative_head.decoder.weight)

    @pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
    def test_probe(self, hub, classifier_type):
        model = make_model(classifier_type=classifier_type, num_prototypes=2)
        model.push_to_hub(REPO)
        assert_same_logits(AutoModelForAudioClassification.from_pretrained(REPO), model)

    def test_revision(self, hub):
        model = make_model()
        model.push_to_hub(REPO, revision="experiment")
        assert "model.safetensors" not in hub.files(REPO)
        with pytest.raises((OSError, ValueError), match=REPO):
            AutoModelForAudioClassification.from_pretrained(REPO)
        loaded = AutoModelForAudioClassification.from_pretrained(REPO, revision="experiment")
        assert_same_logits(loaded, model)
        # A commit by its hash, too, after the branch has moved on.
        commit = hub.repos[REPO].branches["experiment"]
        make_model(num_labels=5).push_to_hub(REPO, revision="experiment")
        assert AutoModelForAudioClassification.from_pretrained(REPO, revision=commit).config.num_labels == 3
        assert AutoModelForAudioClassification.from_pretrained(REPO, revision="experiment").config.num_labels == 5

    def test_private(self, hub, monkeypatch):
        make_model().push_to_hub(REPO, private=True)
        assert hub.repos[REPO].private
        monkeypatch.delenv("HF_TOKEN")
        for token in (False, "hf_of_bob"):
            with pytest.raises(OSError, match="private"):
                AutoModelForAudioClassification.from_pretrained(REPO, token=token)
        assert AutoModelForAudioClassification.from_pretrained(REPO, token="hf_of_ada").config.num_labels == 3

    def test_saving_with_push_uploads_the_code(self, hub, tmp_path):
        """Also into a folder where the code lies already."""
        for _ in range(2):
            SsambaFeatureExtractor(max_length=64).save_pretrained(
                str(tmp_path / "saved"), push_to_hub=True, repo_id="org/extractor"
            )
            make_model().save_pretrained(str(tmp_path / "saved"), push_to_hub=True, repo_id=REPO)
            assert {"feature_extraction_ssamba.py", "saved_code.py"} < set(hub.files("org/extractor"))
            assert set(hub.files(REPO)) > CODE
            hub.reset()

    def test_adapter(self, hub):
        peft = pytest.importorskip("peft")
        make_model().push_to_hub(REPO)
        base = SsambaForAudioClassification.from_pretrained(REPO)
        config = peft.LoraConfig(r=2, target_modules=["in_proj", "out_proj"], modules_to_save=["classifier"])
        model = peft.get_peft_model(base, config).eval()
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or ("classifier" in name and parameter.requires_grad):
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        model.push_to_hub("ada/adapter")
        files = hub.files("ada/adapter")
        assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(files)
        assert len(files["adapter_model.safetensors"]) < len(hub.files(REPO)["model.safetensors"])
        loaded = AutoModelForAudioClassification.from_pretrained("ada/adapter")
        # The adapter says nothing of labels: they are the base model's.
        assert not torch.allclose(logits_of(loaded), logits_of(SsambaForAudioClassification.from_pretrained(REPO)))
        assert_same_logits(loaded, model)
        again = peft.PeftModel.from_pretrained(SsambaForAudioClassification.from_pretrained(REPO), "ada/adapter")
        assert_same_logits(again, model)


@pytest.fixture
def impatient(monkeypatch):
    """The client does not wait before it tries again, and takes these small files for large ones."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 4_000)


@pytest.mark.usefixtures("impatient")
class TestFailures:
    def test_no_token(self, hub, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(HfHubHTTPError, match="401"):
            make_model().push_to_hub(REPO)
        assert not hub.repos

    def test_unknown_token(self, hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_revoked")
        with pytest.raises(HfHubHTTPError, match="401"):
            make_model().push_to_hub(REPO)
        assert not hub.repos

    def test_token_of_somebody_else(self, hub, monkeypatch):
        make_model().push_to_hub(REPO)
        before = hub.files(REPO)
        monkeypatch.setenv("HF_TOKEN", "hf_of_bob")
        with pytest.raises(HfHubHTTPError, match="403"):
            make_model(num_labels=5).push_to_hub(REPO)
        assert hub.files(REPO) == before

    @pytest.mark.parametrize(("method", "pattern"), [("PUT", "^/lfs/"), ("POST", "/commit/")])
    def test_server_error_in_mid_upload(self, hub, method, pattern):
        make_model().push_to_hub(REPO)
        before = hub.files(REPO)
        changed = make_model(num_labels=5)
        fault = hub.fail(method, pattern, status=500, times=100)
        with pytest.raises((HfHubHTTPError, RuntimeError)) as caught:
            changed.push_to_hub(REPO)
        assert "500" in f"{caught.value} {caught.value.__cause__}"
        assert fault.times < 100
        assert hub.files(REPO) == before
        # The same push succeeds as soon as the Hub is well.
        hub.faults.clear()
        changed.push_to_hub(REPO)
        assert_same_logits(AutoModelForAudioClassification.from_pretrained(REPO), changed)

    def test_passing_server_error_is_tried_again(self, hub):
        hub.fail("PUT", "^/lfs/", status=500)
        model = make_model()
        model.push_to_hub(REPO)
        assert hub.count("PUT", "^/lfs/") == 2
        assert_same_logits(AutoModelForAudioClassification.from_pretrained(REPO), model)

    def test_cut_download_is_taken_up_again(self, hub):
        model = make_model()
        model.push_to_hub(REPO)
        hub.fail("GET", WEIGHTS, cut_after=20_000)
        loaded = AutoModelForAudioClassification.from_pretrained(REPO)
        spans = [span for method, path, span in hub.requests if method == "GET" and path.endswith("model.safetensors")]
        assert spans == [None, "bytes=20000-"]
        assert_same_logits(loaded, model)

    def test_half_a_file_is_never_loaded(self, hub):
        model = make_model()
        model.push_to_hub(REPO)
        hub.fail("GET", WEIGHTS, cut_after=20_000)
        hub.fail("GET", WEIGHTS, status=503, times=100)
        with pytest.raises((OSError, httpx2.HTTPError)):
            AutoModelForAudioClassification.from_pretrained(REPO)
        assert [span for *_, span in hub.requests[-2:]] == [None, "bytes=20000-"]
        assert not list(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.safetensors"))
        with pytest.raises(OSError, match="model.safetensors"):
            AutoModelForAudioClassification.from_pretrained(REPO, local_files_only=True)
        hub.faults.clear()
        loaded = AutoModelForAudioClassification.from_pretrained(REPO)
        assert_same_logits(loaded, model)

    def test_conversion_says_why_nothing_was_pushed(self, hub, tmp_path):
        checkpoint = load_case("finetune_same_grid")[1]
        hub.fail("POST", "/commit/", status=500, times=100)
        with pytest.raises(ValueError, match="is complete, but could not be pushed to org/golden: .*500"):
            convert(checkpoint, tmp_path / "converted", push_to_hub="org/golden")
        assert set(hub.files("org/golden")) == {".gitattributes"}
        assert AutoModelForAudioClassification.from_pretrained(tmp_path / "converted").config.num_labels == 5


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"license": "do what you want"}, "license"),
        ({"license": "other"}, "license_name"),
        ({"pipeline_tag": "hearing"}, "pipeline_tag"),
        ({"tags": ["audio", 3]}, "tags"),
        ({"base_model": "/home/me/model"}, "base_model"),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "t"}, "metrics": []}]}]}, "dataset.name"),
    ],
)
def test_hub_refuses_cards(hub, metadata, error):
    """The stand-in's rules, on which the tests of cards rely."""
    card = f"---\n{json.dumps(metadata)}\n---\n# Card\n"
    assert any(error in found for found in card_errors(card))
    huggingface_hub.create_repo(REPO)
    with pytest.raises(ValueError, match=f"(?s)Invalid metadata.*{error}"):
        huggingface_hub.upload_file(repo_id=REPO, path_or_fileobj=card.encode(), path_in_repo="README.md")


CLASSIFY_WITHOUT_PACKAGE = """
import importlib.util, sys
assert importlib.util.find_spec("hf_audio_ssm") is None
import soundfile, torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

repo, adapter, wav, fbank, output = sys.argv[1:]
model = AutoModelForAudioClassification.from_pretrained(repo, trust_remote_code=True).eval()
assert type(model).__module__.startswith("transformers_modules."), type(model)
feature_extractor = AutoFeatureExtractor.from_pretrained(repo, trust_remote_code=True)
samples, rate = soundfile.read(wav, dtype="float32")
inputs = feature_extractor(samples, sampling_rate=rate, return_tensors="pt")
classifier = pipeline("audio-classification", model=repo, trust_remote_code=True, top_k=None)
scores = {entry["label"]: entry["score"] for entry in classifier({"array": samples, "sampling_rate": rate})}
adapted = AutoModelForAudioClassification.from_pretrained(adapter, trust_remote_code=True).eval()
with torch.no_grad():
    save_file({
        "wav": model(**inputs).logits,
        "golden": model(load_file(fbank)["fbank"]).logits,
        "embedding": AutoModel.from_pretrained(repo, trust_remote_code=True)(**inputs).pooler_output,
        "scores": torch.tensor([scores[name] for name in model.config.label2id]),
        "adapted": adapted(**inputs).logits,
    }, output)
"""


def test_round_trip_without_the_package(hub, tmp_path, fresh_environment):
    """A published checkpoint, converted, pushed, loaded by its name where the package is missing, classifies a file."""
    peft = pytest.importorskip("peft")
    name, repo, adapter = "finetune_stride10_longer", "org/golden", "org/golden-adapter"
    case, checkpoint, inputs, expected = load_case(name)
    folder = convert(checkpoint, tmp_path / "converted", max_length=case["input_tdim"], push_to_hub=repo, private=True)
    assert hub.repos[repo].private
    assert set(hub.files(repo)) >= {path.name for path in folder.iterdir()}
    config = peft.LoraConfig(r=2, target_modules=["in_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(SsambaForAudioClassification.from_pretrained(repo), config).eval()
    adapted.push_to_hub(adapter)

    wav = GOLDEN_DIR / "fbank" / "speech_slt.wav"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    paths = [wav, checkpoint.parent / "inputs.safetensors", tmp_path / "output.safetensors"]
    result = subprocess.run(
        [fresh_environment / "bin" / "python", "-c", CLASSIFY_WITHOUT_PACKAGE, repo, adapter, *map(str, paths)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    output = load_file(tmp_path / "output.safetensors")

    assert relative_error(output["golden"], expected["logits_avgtok"]) < TOLERANCE
    model = SsambaForAudioClassification.from_pretrained(repo)
    feature_extractor = SsambaFeatureExtractor.from_pretrained(repo)
    rate = feature_extractor.sampling_rate
    features = feature_extractor(read_audio(wav, rate), sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        logits = model(**features).logits
        assert relative_error(output["wav"], logits) < TOLERANCE
        assert relative_error(output["embedding"], model.ssamba(**features).pooler_output) < TOLERANCE
        assert relative_error(output["adapted"], adapted(**features).logits) < TOLERANCE
        assert relative_error(output["adapted"], logits) > 1e-3
    assert relative_error(output["scores"], logits.softmax(-1)[0]) < TOLERANCE
