# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The interfaces of the evaluation suites, and the suites' own validators where they are installed."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForPreTraining,
    SsambaModel,
    embed,
    integrations,
)
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.integrations import MODEL_VARIABLE, hear, s3prl, xares


RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    SsambaForPreTraining(SsambaConfig(hidden_size=16, num_hidden_layers=4, max_length=64)).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(folder):
    return SsambaModel.from_pretrained(folder).eval(), SsambaFeatureExtractor.from_pretrained(folder)


def sounds(*seconds: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(int(length * RATE), generator=generator) * 0.1 for length in seconds]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)


def test_a_model_has_to_be_chosen(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    for make in (hear.load_model, xares.PatchEncoder, s3prl.hf_audio_ssm):
        with pytest.raises(InputError, match=MODEL_VARIABLE):
            make()


class TestHear:
    def test_interface(self, folder, loaded):
        model, audio = hear.load_model(str(folder)), torch.stack(sounds(1, 1))
        assert (model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size) == (RATE, 16, 16)
        scenes = hear.get_scene_embeddings(audio, model)
        embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
        assert (scenes.shape, embeddings.shape, timestamps.shape) == ((2, 16), (2, 6, 16), (2, 6))
        for row, expected in enumerate(embed(audio, RATE, *loaded)):
            close(scenes[row], expected.clip)
            close(embeddings[row], expected.frames)
            # Milliseconds.
            close(timestamps[row], 1000 * expected.timestamps.float())

    def test_validator(self, folder, monkeypatch, capsys):
        pytest.importorskip("hearvalidator")
        # The validator imports it, for models of its own.
        tensorflow = ModuleType("tensorflow")
        tensorflow.Module = type("Module", (), {})
        monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
        from hearvalidator.validate import ValidateModel

        ValidateModel("hf_audio_ssm.integrations.hear", str(folder), "cpu")()
        # Of a batch of sounds, along time and as a whole.
        assert capsys.readouterr().out.count("Received embedding of shape: torch.Size([") == 2


class TestXares:
    @pytest.fixture
    def encoder(self, folder, monkeypatch):
        """As X-ARES makes it: from the file, without arguments."""
        monkeypatch.setenv(MODEL_VARIABLE, str(folder))
        spec = importlib.util.spec_from_file_location("encoder_file", Path(integrations.__file__).parent / "xares.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (name,) = (name for name in vars(module) if name.endswith("Encoder"))
        return getattr(module, name)()

    def test_interface(self, encoder, loaded):
        audio = torch.stack(sounds(1, 1))
        assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (RATE, 16, 160)
        embeddings = encoder(audio)
        assert embeddings.shape == (2, 6, 16)
        for row, expected in zip(embeddings, embed(audio, RATE, *loaded), strict=True):
            close(row, expected.frames)
        close(encoder(audio[0]), embeddings[:1])

    def test_validator(self, encoder):
        checker = pytest.importorskip("xares.audio_encoder_checker")
        assert checker.check_audio_encoder(encoder)


class TestS3prl:
    def test_interface(self, folder, loaded):
        upstream, wavs = s3prl.hf_audio_ssm(ckpt=str(folder)), sounds(1.0, 2.5, 0.1)
        # As s3prl lists names, and with keywords of its own.
        s3prl.hf_audio_ssm(ckpt=str(folder), refresh=False)
        states = upstream(wavs)["hidden_states"]
        assert len(states) == 3
        assert all(state.shape == states[0].shape for state in states)
        for index, expected in enumerate(embed(wavs, RATE, *loaded, layers=(0, 2, 4))):
            for state, frames in zip(states, expected.frames, strict=True):
                close(state[index, : len(expected.timestamps)], frames)
                rest = state[index, len(expected.timestamps) :]
                close(rest, frames[-1:].expand_as(rest) if index == 1 else torch.zeros_like(rest))

    @pytest.mark.parametrize("seconds", [0.03, 0.17, 0.25, 0.33, 1.0, 2.5])
    def test_as_many_steps_as_the_rate_promises(self, folder, seconds):
        upstream = s3prl.hf_audio_ssm(ckpt=str(folder))
        (wav,) = sounds(seconds)
        steps = len(range(0, len(wav), upstream.get_downsample_rates("hidden_states")))
        assert {state.shape for state in upstream([wav])["hidden_states"]} == {(1, steps, 16)}

    @pytest.mark.parametrize("seconds", [0.03, 0.25, 1.0])
    def test_in_the_toolkit(self, folder, seconds, monkeypatch):
        pytest.importorskip("s3prl")
        # In place of the list of all upstreams, whose packages are many, and of what the toolkit reads files with.
        hub = ModuleType("s3prl.hub")
        hub.hf_audio_ssm = s3prl.hf_audio_ssm
        monkeypatch.setitem(sys.modules, "s3prl.hub", hub)
        monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
        from s3prl.nn.upstream import Featurizer, S3PRLUpstream

        upstream = S3PRLUpstream("hf_audio_ssm", path_or_url=str(folder))
        assert (upstream.downsample_rates, upstream.hidden_sizes) == ([2560] * 3, [16] * 3)
        samples = int(seconds * RATE)
        features, lengths = Featurizer(upstream)(*upstream(torch.randn(2, samples), torch.tensor([samples, 400])))
        assert features.shape == (2, len(range(0, samples, 2560)), 16)
        assert lengths.tolist() == [features.shape[1], 1]

    def test_fine_tuning(self, folder):
        upstream = s3prl.hf_audio_ssm(ckpt=str(folder))
        upstream.train()
        sum(state.sum() for state in upstream(sounds(1.0))["hidden_states"]).backward()
        assert upstream.model.layers[0].mixer.in_proj.weight.grad.abs().sum() > 0


class TestMteb:
    def test_clips_of_a_loader(self, folder, loaded):
        mteb = pytest.importorskip("mteb")
        from torch.utils.data import DataLoader

        from hf_audio_ssm.integrations.mteb import MtebEncoder

        encoder = MtebEncoder(str(folder), device="cpu")
        assert isinstance(encoder, mteb.models.EncoderProtocol)
        rows = [
            {"audio": {"array": sound.numpy(), "sampling_rate": rate}}
            for sound, rate in zip(sounds(1, 0.5, 2), (RATE, RATE, 8_000), strict=True)
        ]
        embeddings = encoder.encode(DataLoader(rows, batch_size=2), show_progress_bar=False)
        assert embeddings.shape == (3, 16)
        for row, embedding in zip(rows, embeddings, strict=True):
            expected = embed(row["audio"]["array"], row["audio"]["sampling_rate"], *loaded).clip
            close(torch.from_numpy(embedding), expected)
