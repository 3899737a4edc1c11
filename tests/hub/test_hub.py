# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pushing to the Hub and loading from it by the real client, over HTTP, against a stand-in; and what may go wrong there."""

import json
import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import peft
import pytest
import torch
from golden import GOLDEN_DIR, TOLERANCE, load_case, relative_error
from hub_server import card_errors
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    pipeline,
)
from warm_python import run_python

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForPreTraining,
    SsastConfig,
    SsastForAudioClassification,
)
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.cli.classify import load_classifier
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.conversion.checkpoint_conversion import ConversionError
from hf_audio_ssm.conversion.ssamba import convert
from hf_audio_ssm.hub.adapters import adapter_config, load_adapted, push_adapted
from hf_audio_ssm.models.heads.classification_heads import CLASSIFIER_TYPES
from hf_audio_ssm.models.packaging import flat_code


REPO = "org/ssamba"
CODE = set(flat_code("ssamba"))
CHUNK = 100


def make_model(cls=SsambaForAudioClassification, **kwargs):
    torch.manual_seed(0)
    return cls(SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64, **{"num_labels": 3, **kwargs})).eval()


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.linspace(-1, 1, 64 * 128).reshape(1, 64, 128)).logits


def assert_same_logits(loaded, model) -> None:
    torch.testing.assert_close(logits_of(loaded), logits_of(model), rtol=0, atol=1e-6)


@dataclass
class Kind:
    """
    Something that users push and load: how to make it (in variants 0 and 1), push it and load it, what it computes, and the
    largest of its files.
    """

    make: Callable[[int], Any]
    push: Callable[..., Any]
    load: Callable[..., Any]
    compute: Callable[[Any], torch.Tensor]
    file: str

    def check(self, loaded: Any, pushed: Any) -> None:
        torch.testing.assert_close(self.compute(loaded), self.compute(pushed), rtol=0, atol=1e-6)


def make_adapted(variant: int = 0) -> peft.PeftModel:
    """Adapters, and a head for other labels, on the model `org/base` of the Hub."""
    base = SsambaForAudioClassification.from_pretrained(
        "org/base", num_labels=4 + variant, ignore_mismatched_sizes=True
    )
    model = peft.get_peft_model(base, adapter_config(base, "lora", r=2)).eval()
    generator = torch.Generator().manual_seed(variant)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def features_of(feature_extractor) -> torch.Tensor:
    return feature_extractor(torch.linspace(-1, 1, 8000), sampling_rate=16000, return_tensors="pt")["input_values"]


def push(pushed: Any, repo_id: str, **kwargs: Any) -> None:
    pushed.push_to_hub(repo_id, **kwargs)


KINDS = {
    "model": Kind(
        lambda variant: make_model(num_labels=3 + variant),
        push,
        AutoModelForAudioClassification.from_pretrained,
        logits_of,
        "model.safetensors",
    ),
    "feature extractor": Kind(
        lambda variant: SsambaFeatureExtractor(max_length=64, mean=1.0 + variant),
        push,
        AutoFeatureExtractor.from_pretrained,
        features_of,
        "preprocessor_config.json",
    ),
    "adapters": Kind(make_adapted, push_adapted, load_adapted, logits_of, "adapter_model.safetensors"),
    "probe": Kind(
        lambda variant: make_model(num_labels=3 + variant, classifier_type="prototypical", num_prototypes=2),
        push,
        AutoModelForAudioClassification.from_pretrained,
        logits_of,
        "model.safetensors",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request, hub) -> Kind:
    if request.param == "adapters":
        make_model().push_to_hub("org/base")
    return KINDS[request.param]


class TestEveryKind:
    def test_push_and_load(self, hub, kind):
        pushed = kind.make(0)
        kind.push(pushed, REPO)
        assert not hub.repos[REPO].private
        kind.check(kind.load(REPO), pushed)
        # Again, over what is there.
        changed = kind.make(1)
        kind.push(changed, REPO)
        kind.check(kind.load(REPO), changed)
        assert card_errors(hub.files(REPO)["README.md"].decode()) == []

    def test_revision(self, hub, kind):
        pushed, changed = kind.make(0), kind.make(1)
        kind.push(pushed, REPO, revision="experiment")
        assert kind.file not in hub.files(REPO)
        with pytest.raises((OSError, ValueError), match=REPO):
            kind.load(REPO)
        kind.check(kind.load(REPO, revision="experiment"), pushed)
        # A commit by its hash, too, after the branch has moved on.
        commit = hub.repos[REPO].branches["experiment"]
        kind.push(changed, REPO, revision="experiment")
        kind.check(kind.load(REPO, revision=commit), pushed)
        kind.check(kind.load(REPO, revision="experiment"), changed)

    def test_private(self, hub, kind, monkeypatch):
        pushed = kind.make(0)
        kind.push(pushed, REPO, private=True)
        assert hub.repos[REPO].private
        monkeypatch.delenv("HF_TOKEN")
        # A stranger; somebody else; a token that counts no more.
        for token in (False, "hf_of_bob", "hf_revoked"):
            with pytest.raises((OSError, ValueError), match=REPO):
                kind.load(REPO, token=token)
        kind.check(kind.load(REPO, token="hf_of_ada"), pushed)

    @pytest.mark.parametrize("token", [None, "hf_revoked"])
    def test_no_token_or_one_that_counts_no_more(self, hub, kind, monkeypatch, token):
        pushed = kind.make(0)
        monkeypatch.delenv("HF_TOKEN")
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises((HfHubHTTPError, InputError), match="401"):
            kind.push(pushed, REPO)
        assert REPO not in hub.repos

    def test_token_of_somebody_else(self, hub, kind, monkeypatch):
        kind.push(kind.make(0), REPO)
        before, changed = hub.files(REPO), kind.make(1)
        monkeypatch.setenv("HF_TOKEN", "hf_of_bob")
        with pytest.raises((HfHubHTTPError, InputError), match="403"):
            kind.push(changed, REPO)
        assert hub.files(REPO) == before

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize(("method", "pattern"), [("PUT", "^/lfs/"), ("POST", "/commit/")])
    def test_server_error_in_mid_upload(self, hub, kind, method, pattern):
        if method == "PUT" and not kind.file.endswith(".safetensors"):
            pytest.skip("is small, and travels with the commit")
        kind.push(kind.make(0), REPO)
        before, changed = hub.files(REPO), kind.make(1)
        fault = hub.fail(method, pattern, status=500, times=100)
        with pytest.raises((HfHubHTTPError, RuntimeError, InputError)) as caught:
            kind.push(changed, REPO)
        assert "500" in f"{caught.value} {caught.value.__cause__}"
        assert fault.times < 100
        assert hub.files(REPO) == before
        # The same push succeeds as soon as the Hub is well.
        hub.faults.clear()
        kind.push(changed, REPO)
        kind.check(kind.load(REPO), changed)

    @pytest.mark.usefixtures("impatient")
    def test_cut_download_is_taken_up_again(self, hub, kind):
        pushed = kind.make(0)
        kind.push(pushed, REPO)
        beginning = len(hub.files(REPO)[kind.file]) // 2 // CHUNK * CHUNK
        hub.fail("GET", f"{REPO}/resolve/.*/{kind.file}$", cut_after=beginning)
        loaded = kind.load(REPO)
        assert spans_of(hub, kind.file) == [None, f"bytes={beginning}-"]
        kind.check(loaded, pushed)

    @pytest.mark.usefixtures("impatient")
    def test_half_a_file_is_never_loaded(self, hub, kind):
        pushed = kind.make(0)
        kind.push(pushed, REPO)
        path = f"{REPO}/resolve/.*/{kind.file}$"
        beginning = len(hub.files(REPO)[kind.file]) // 2 // CHUNK * CHUNK
        hub.fail("GET", path, cut_after=beginning)
        hub.fail("GET", path, status=503, times=100)
        with pytest.raises((OSError, ValueError, httpx2.HTTPError)):
            kind.load(REPO)
        assert spans_of(hub, kind.file)[:2] == [None, f"bytes={beginning}-"]
        folder = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{REPO.replace('/', '--')}"
        assert not list(folder.rglob(kind.file))
        hub.faults.clear()
        with offline(), pytest.raises((OSError, ValueError)):
            kind.load(REPO)
        kind.check(kind.load(REPO), pushed)


def spans_of(hub, file: str) -> list[str | None]:
    """What parts of a file the client asked for, in order."""
    pattern = f"/{REPO}/resolve/[^/]+/{file}"
    return [span for method, path, span in hub.requests if method == "GET" and re.fullmatch(pattern, path)]


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

    def test_ssast(self, hub):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_length": 64}
        model = SsastForAudioClassification(SsastConfig(**sizes, num_labels=3)).eval()
        model.push_to_hub("org/ssast")
        SsambaFeatureExtractor(max_length=64).push_to_hub("org/ssast")
        assert set(hub.files("org/ssast")) > {"config.json", "model.safetensors", *flat_code("ssast")}
        assert_same_logits(AutoModelForAudioClassification.from_pretrained("org/ssast"), model)
        answers = pipeline("audio-classification", model="org/ssast")(torch.randn(8000).numpy())
        assert len(answers) == 3

    def test_saving_with_push_uploads_the_code(self, hub, tmp_path):
        """Also into a folder where the code lies already."""
        for _ in range(2):
            SsambaFeatureExtractor(max_length=64).save_pretrained(
                str(tmp_path / "saved"), push_to_hub=True, repo_id="org/extractor"
            )
            make_model().save_pretrained(str(tmp_path / "saved"), push_to_hub=True, repo_id=REPO)
            assert {"feature_extraction_ssamba.py", "kaldi_filter_bank.py", "saved_code.py"} < set(
                hub.files("org/extractor")
            )
            assert set(hub.files(REPO)) > CODE
            hub.reset()

    def test_adapters_by_peft_alone(self, hub):
        """For the labels of the base: PEFT keeps no others."""
        make_model().push_to_hub("org/base")
        base = SsambaForAudioClassification.from_pretrained("org/base")
        model = peft.get_peft_model(base, adapter_config(base, "lora", r=2, init_lora_weights=False)).eval()
        model.push_to_hub("ada/adapter")
        files = hub.files("ada/adapter")
        assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(files)
        loaded = AutoModelForAudioClassification.from_pretrained("ada/adapter")
        assert not torch.allclose(
            logits_of(loaded), logits_of(SsambaForAudioClassification.from_pretrained("org/base"))
        )
        assert_same_logits(loaded, model)
        again = peft.PeftModel.from_pretrained(SsambaForAudioClassification.from_pretrained("org/base"), "ada/adapter")
        assert_same_logits(again, model)

    def test_adapters_come_with_their_labels(self, hub):
        make_model().push_to_hub("org/base")
        model = make_adapted()
        push_adapted(model, REPO)
        files = hub.files(REPO)
        assert len(files["adapter_model.safetensors"]) < len(hub.files("org/base")["model.safetensors"])
        assert load_adapted(REPO).config.num_labels == 4
        # What the commands load; the base model's feature extractor is the adapters', too.
        SsambaFeatureExtractor(max_length=77).push_to_hub("org/base")
        classifier, feature_extractor = load_classifier(REPO, revision=None)
        assert_same_logits(classifier, model)
        assert feature_extractor.max_length == 77
        # A card that the repository has is worth more than PEFT's.
        card = b"---\nlicense: mit\n---\n# Mine\n"
        huggingface_hub.upload_file(repo_id=REPO, path_or_fileobj=card, path_in_repo="README.md")
        push_adapted(model, REPO)
        assert hub.files(REPO)["README.md"] == card

    def test_adapters_of_a_folder_can_be_pushed(self, hub, tmp_path):
        """The Hub refuses a card whose base model is a folder, as PEFT writes it."""
        make_model().save_pretrained(tmp_path / "base")
        base = SsambaForAudioClassification.from_pretrained(tmp_path / "base")
        model = peft.get_peft_model(base, adapter_config(base, "lora", r=2)).eval()
        push_adapted(model, REPO)
        assert card_errors(hub.files(REPO)["README.md"].decode()) == []
        assert_same_logits(load_adapted(REPO), model)

    def test_adapters_never_go_to_a_public_repository_that_should_be_private(self, hub):
        make_model().push_to_hub("org/base")
        huggingface_hub.create_repo(REPO)
        with pytest.raises(InputError, match="the model was not pushed to org/ssamba, which exists and is public"):
            push_adapted(make_adapted(), REPO, private=True)
        assert set(hub.files(REPO)) == {".gitattributes"}


@pytest.fixture
def impatient(monkeypatch):
    """The client does not wait before it tries again, and takes these small files for large ones."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)


@contextmanager
def offline():
    """What is in the cache is all there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.mark.usefixtures("impatient")
class TestFailures:
    def test_passing_server_error_is_tried_again(self, hub):
        hub.fail("PUT", "^/lfs/", status=500)
        model = make_model()
        model.push_to_hub(REPO)
        assert hub.count("PUT", "^/lfs/") == 2
        assert_same_logits(AutoModelForAudioClassification.from_pretrained(REPO), model)

    @pytest.mark.parametrize(("method", "pattern"), [("PUT", "^/lfs/"), ("POST", "/commit/")])
    def test_conversion_says_why_nothing_was_pushed(self, hub, tmp_path, method, pattern):
        checkpoint = load_case("finetune_same_grid")[1]
        hub.fail(method, pattern, status=500, times=100)
        with pytest.raises(ConversionError, match="is complete, but could not be pushed to org/golden: .*500"):
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
        (
            {"model-index": [{"name": "x", "results": [{"metrics": [{"type": "t", "value": 1e999}]}]}]},
            "must not be inf",
        ),
        ({"co2_eq_emissions": {"emissions": "much"}}, "co2_eq_emissions"),
    ],
)
def test_hub_refuses_cards(hub, metadata, error):
    """The stand-in's rules, on which the tests of cards rely."""
    card = f"---\n{json.dumps(metadata).replace('Infinity', '.inf')}\n---\n# Card\n"
    assert any(error in found for found in card_errors(card))
    huggingface_hub.create_repo(REPO)
    with pytest.raises(ValueError, match=f"(?s)Invalid metadata.*{error}"):
        huggingface_hub.upload_file(repo_id=REPO, path_or_fileobj=card.encode(), path_in_repo="README.md")


CLASSIFY_WITHOUT_PACKAGE = """
import sys
sys.modules["hf_audio_ssm"] = None
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


def test_round_trip_without_the_package(hub, tmp_path):
    """A published checkpoint, converted, pushed, loaded by its name where the package is missing, classifies a file."""
    name, repo, adapter = "finetune_stride10_longer", "org/golden", "org/golden-adapter"
    case, checkpoint, inputs, expected = load_case(name)
    folder = convert(checkpoint, tmp_path / "converted", max_length=case["input_tdim"], push_to_hub=repo, private=True)
    assert hub.repos[repo].private
    assert set(hub.files(repo)) >= {path.name for path in folder.iterdir()}
    config = peft.LoraConfig(r=2, target_modules=["in_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(SsambaForAudioClassification.from_pretrained(repo), config).eval()
    adapted.push_to_hub(adapter)

    wav = GOLDEN_DIR / "fbank" / "speech_slt.wav"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    paths = [wav, checkpoint.parent / "inputs.safetensors", tmp_path / "output.safetensors"]
    arguments = ["-c", CLASSIFY_WITHOUT_PACKAGE, repo, adapter, *map(str, paths)]
    result = run_python(arguments, tmp_path, environment)
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
