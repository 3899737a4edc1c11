# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints and writes, its exit codes, and what it refuses."""

import io
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from golden import load_case
from tones import write_broken_clips, write_tone
from transformers import AutoModel
from warm_python import BARE, run_python

import hf_audio_ssm
from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForPreTraining,
    embed,
)
from hf_audio_ssm.audio import sound_files
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.cli import COMMANDS, main
from hf_audio_ssm.cli import embed as embed_command
from hf_audio_ssm.common.console import without_retries
from hf_audio_ssm.data.folders import list_audio
from hf_audio_ssm.hub.loading import load_encoder


RATE = 16_000


@pytest.fixture(autouse=True)
def transformers_logging():
    """Commands turn down transformers' own messages, which other tests look at."""
    verbosity = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(verbosity)
    transformers.logging.enable_progress_bar()


def save(folder: Path, cls=SsambaForAudioClassification) -> str:
    torch.manual_seed(0)
    labels = {"id2label": {0: "high", 1: "low"}, "label2id": {"high": 0, "low": 1}}
    cls(SsambaConfig(hidden_size=16, num_hidden_layers=4, max_length=64, **labels)).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("models") / "classifier")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("models") / "pretrained", SsambaForPreTraining)


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_examples(self, command, capsys):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert f"hf-audio-ssm {command} " in capsys.readouterr().out.split("examples:")[1]

    def test_is_light(self):
        """The list of commands comes at once."""
        code = "import sys; from hf_audio_ssm.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        code += "assert not {'torch', 'transformers'} & set(sys.modules)"
        output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        assert "exit codes" in output
        assert all(command in output for command in COMMANDS)

    def test_version(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["--version"])
        assert (stopped.value.code, capsys.readouterr().out) == (0, f"hf-audio-ssm {hf_audio_ssm.__version__}\n")

    @pytest.mark.parametrize("arguments", [[], ["sing"], ["classify", "x.wav"], ["embed", "-m", "m"]])
    def test_usage_errors(self, arguments, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "usage: hf-audio-ssm" in capsys.readouterr().err

    def test_as_a_module(self):
        result = subprocess.run([sys.executable, "-m", "hf_audio_ssm", "sing"], capture_output=True, text=True)
        assert result.returncode == 2


class TestClassify:
    def test_scores(self, capsys, classifier, tones):
        code, out, _ = run(capsys, "classify", "-m", classifier, "--json", "--batch_size", 5, tones)
        assert code == 0
        lines = [json.loads(line) for line in out.splitlines()]
        paths = list_audio(tones)
        assert [line["file"] for line in lines] == [str(path) for path in paths]
        model = SsambaForAudioClassification.from_pretrained(classifier)
        for path, line in zip(paths, lines, strict=True):
            samples = read_audio(path, RATE)
            inputs = SsambaFeatureExtractor(max_length=64)(samples, sampling_rate=RATE, return_tensors="pt")
            with torch.no_grad():
                expected = model(**inputs).logits.softmax(-1)[0]
            assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in line["scores"]} == {
                "high": expected[0].item(),
                "low": expected[1].item(),
            }

    def test_text_patterns_and_repeats(self, capsys, classifier, tones):
        one = tones / "high" / "0.wav"
        code, out, _ = run(capsys, "classify", "-m", classifier, "--top_k", 1, one, f"{tones}/**/0.*", one)
        assert code == 0
        files = [line.split(": ")[0] for line in out.splitlines()]
        assert files == [str(one), str(tones / "low" / "0.wav")]
        assert all(line.count("(") == 1 for line in out.splitlines())

    def test_broken_files_are_told_and_skipped(self, capsys, classifier, tmp_path):
        reasons = write_broken_clips(tmp_path / "clips")
        write_tone(tmp_path / "clips" / "whole.wav", 500)
        code, out, err = run(capsys, "classify", "-m", classifier, "--json", tmp_path / "clips")
        assert code == 3
        lines = {Path(line["file"]).name: line for line in map(json.loads, out.splitlines())}
        assert lines.keys() == {"whole.wav", *reasons}
        assert len(lines["whole.wav"]["scores"]) == 2
        for name, reason in reasons.items():
            assert reason in lines[name]["error"]
            assert f"{name}: " in err
        (tmp_path / "clips" / "whole.wav").unlink()
        assert run(capsys, "classify", "-m", classifier, tmp_path / "clips")[0] == 1

    def test_files_shorter_than_a_patch(self, capsys, classifier, tmp_path):
        SsambaForAudioClassification.from_pretrained(classifier).save_pretrained(tmp_path / "masking")
        SsambaFeatureExtractor(max_length=64, return_attention_mask=True).save_pretrained(tmp_path / "masking")
        write_tone(tmp_path / "short.wav", 500, seconds=0.03)
        write_tone(tmp_path / "long.wav", 500)
        code, out, _ = run(capsys, "classify", "-m", tmp_path / "masking", tmp_path)
        assert code == 0
        assert len(out.splitlines()) == 2

    def test_long_files_are_cut_and_told(self, capsys, classifier, tmp_path):
        write_tone(tmp_path / "long.wav", 500, seconds=2)
        write_tone(tmp_path / "fits.wav", 500, seconds=0.655)
        _, _, err = run(capsys, "classify", "-m", classifier, tmp_path)
        assert f"note: {tmp_path / 'long.wav'}: of 2.0 s, the first 0.64 s are used" in err
        assert "fits" not in err

    def test_no_more_is_read_than_is_used(self, capsys, classifier, tmp_path, monkeypatch):
        write_tone(tmp_path / "long.wav", 500, seconds=60)
        read, count = sound_files.SoundFile.read, []
        monkeypatch.setattr(
            sound_files.SoundFile,
            "read",
            lambda *args, **options: (count.append(len(x := read(*args, **options))), x)[1],
        )
        code, _, err = run(capsys, "classify", "-m", classifier, tmp_path)
        assert code == 0
        assert "of 60.0 s, the first 0.64 s are used" in err
        # And one sample near the end, to see that the file is not cut off.
        assert 0.655 * RATE <= sum(count) <= 0.655 * RATE + 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing.wav"], "nothing.wav: no such audio file or folder"),
            (["*.wav"], r"\*.wav: no such audio file or folder, and no pattern that matches any"),
            (["{tones}", "--top_k", "0"], "--top_k must be at least 1, got 0"),
            (["{tones}", "--batch_size", "0"], "--batch_size must be at least 1, got 0"),
            (["{tones}", "--device", "toaster"], "--device toaster cannot be used"),
            (["{tones}", "-m", "no/model"], "--model no/model cannot be loaded"),
            (["{tones}", "-m", "./no_model"], "--model ./no_model cannot be loaded: there is no such folder"),
            (["{tones}", "-m", "{pretrained}"], "has no trained classifier"),
        ],
    )
    def test_refused(self, capsys, classifier, pretrained, tones, arguments, message):
        arguments = [argument.format(tones=tones, pretrained=pretrained) for argument in arguments]
        code, out, err = run(capsys, "classify", "-m", classifier, *arguments)
        assert code == 1
        assert out == ""
        assert len(err.splitlines()) >= 1
        assert err.startswith("error: ")
        assert message.replace("\\", "") in err

    def test_adapter(self, capsys, pretrained, tones, tmp_path):
        """Its head is the adapter's own: the base model has none."""
        peft = pytest.importorskip("peft")
        base = SsambaForAudioClassification.from_pretrained(pretrained)
        config = peft.LoraConfig(r=2, target_modules=["in_proj"], modules_to_save=["classifier"])
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
        SsambaFeatureExtractor(max_length=64).save_pretrained(tmp_path / "adapter")
        code, out, _ = run(capsys, "classify", "-m", tmp_path / "adapter", tones / "high")
        assert code == 0
        assert len(out.splitlines()) == 6

    @pytest.mark.parametrize("fields", [{}, {"id2label": {0: "a", 1: "b", 2: "c"}, "classifier_type": "prototypical"}])
    def test_saved_adapters(self, capsys, pretrained, tones, tmp_path, fields):
        """With the labels, the head and the feature extractor that they were trained with; `embed` and `info`, too."""
        adapters = pytest.importorskip("hf_audio_ssm.hub.adapters")
        base = SsambaForAudioClassification.from_pretrained(
            pretrained, problem_type="multi_label_classification", time_stride=8, **fields
        )
        model = adapters.peft.get_peft_model(base, adapters.adapter_config(base, init_lora_weights=False)).eval()
        adapters.save_adapted(model, tmp_path)
        inputs = SsambaFeatureExtractor(max_length=64)(
            read_audio(tones / "high" / "0.wav", RATE), sampling_rate=RATE, return_tensors="pt"
        )
        with torch.no_grad():
            expected = model(**inputs).logits[0].sigmoid()
        command = ["classify", "-m", tmp_path, "--json", tones / "high" / "0.wav"]
        code, out, _ = run(capsys, *command)
        assert code == 0
        assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in json.loads(out)["scores"]} == {
            base.config.id2label[index]: score for index, score in enumerate(expected.tolist())
        }
        facts = json.loads(run(capsys, "info", tmp_path, "--json")[1])
        assert facts["architecture"] == "SsambaForAudioClassification"
        assert facts["labels"] == list(base.config.id2label.values())
        assert facts["patch_grid"] == [8, 7]
        assert run(capsys, "embed", "-m", tmp_path, *command[4:], "-o", tmp_path / "out.npz")[0] == 0
        merged = adapters.merge_adapted(model).base_model
        clip = embed(read_audio(command[-1], RATE), RATE, merged, SsambaFeatureExtractor(max_length=64)).clip
        np.testing.assert_allclose(np.load(tmp_path / "out.npz")["clips"][0], clip, atol=1e-5)
        # The folder's own comes before that of the base model.
        SsambaFeatureExtractor(max_length=48).save_pretrained(tmp_path)
        assert json.loads(run(capsys, "info", tmp_path, "--json")[1])["clip_seconds"] == 0.48

    def test_saved_adapters_without_a_head(self, capsys, pretrained, tones, tmp_path):
        adapters = pytest.importorskip("hf_audio_ssm.hub.adapters")
        base = SsambaForAudioClassification.from_pretrained(pretrained)
        config = adapters.adapter_config(base, modules_to_save=None)
        adapters.save_adapted(adapters.peft.get_peft_model(base, config), tmp_path)
        code, _, err = run(capsys, "classify", "-m", tmp_path, tones)
        assert code == 1
        assert "has no trained classifier: classifier.dense.bias, classifier.dense.weight, " in err

    def test_adapters_of_an_encoder(self, capsys, pretrained, tones, tmp_path):
        """By `save_adapted` or by PEFT alone, on a base with a head or none: to embed with, and nothing to classify by."""
        adapters = pytest.importorskip("hf_audio_ssm.hub.adapters")
        SsambaForAudioClassification.from_pretrained(pretrained).save_pretrained(tmp_path / "headed")
        SsambaFeatureExtractor(max_length=64).save_pretrained(tmp_path / "headed")
        samples = read_audio(tones / "high" / "0.wav", RATE)
        for base, kind, save in itertools.product(
            (Path(pretrained), tmp_path / "headed"),
            (AutoModel, SsambaForAudioClassification),
            (adapters.save_adapted, adapters.peft.PeftModel.save_pretrained),
        ):
            folder = tmp_path / f"{base.name}-{kind.__name__}-{save.__name__}"
            model = kind.from_pretrained(base)
            config = adapters.adapter_config(model, modules_to_save=None, init_lora_weights=False)
            model = adapters.peft.get_peft_model(model, config).eval()
            save(model, folder)
            encoder, feature_extractor = load_encoder(folder)
            expected = embed(samples, RATE, model.get_base_model().base_model, feature_extractor).clip
            torch.testing.assert_close(embed(samples, RATE, encoder, feature_extractor).clip, expected)
            code, _, err = run(capsys, "classify", "-m", folder, tones / "high" / "0.wav")
            has_head = kind is SsambaForAudioClassification and base.name == "headed"
            assert code == (0 if has_head else 1), (folder, err)
            if not has_head:
                assert "error: " in err
                assert "Traceback" not in err

    @pytest.mark.parametrize("command", ["classify", "embed"])
    def test_adapters_without_peft(self, capsys, tones, tmp_path, monkeypatch, command):
        (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
        monkeypatch.setitem(sys.modules, "hf_audio_ssm.hub.adapters", None)
        output = ["-o", tmp_path / "out.npz"] if command == "embed" else []
        code, _, err = run(capsys, command, "-m", tmp_path, tones, *output)
        assert code == 1
        assert "cannot be loaded: it holds adapters, which need peft (pip install peft)" in err

    def test_other_files_in_a_folder_are_told_in_one_line(self, capsys, classifier, tmp_path):
        write_tone(tmp_path / "clips" / "tone.wav", 500)
        (tmp_path / "clips" / "notes.txt").touch()
        code, _, err = run(capsys, "classify", "-m", classifier, tmp_path / "clips")
        assert code == 0
        (line,) = err.splitlines()
        assert line.startswith(f"warning: Not used in {tmp_path / 'clips'}")
        assert line.endswith("1 .txt")

    def test_names_that_are_no_text(self, classifier, tmp_path, monkeypatch):
        """In a terminal without UTF-8, and where a name is not UTF-8 at all."""
        folder = tmp_path / "clips"
        write_tone(folder / "größe 音.wav", 500)
        os.rename(folder / "größe 音.wav", os.fsencode(folder) + b"/\xff.wav")
        write_tone(folder / "größe 音.wav", 500)
        monkeypatch.setattr(sys, "stdout", terminal := io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        assert main(["classify", "-m", classifier, str(folder)]) == 0
        terminal.flush()
        assert [line.split(": ")[0] for line in terminal.buffer.getvalue().decode("ascii").splitlines()] == [
            f"{folder}/gr\\xf6\\xdfe \\u97f3.wav",
            f"{folder}/\\udcff.wav",
        ]
        output = tmp_path / "out.parquet"
        assert main(["embed", "-m", classifier, str(folder), "-o", str(output)]) == 0
        files = pytest.importorskip("pandas").read_parquet(output)["file"]
        assert files.tolist() == [f"{folder}/größe 音.wav", f"{folder}/\\xff.wav"]

    def test_errors_of_the_system(self, capsys, classifier):
        code, _, err = run(capsys, "classify", "-m", classifier, "a" * 5000)
        assert code == 1
        assert "File name too long" in err


class TestUnreachableHub:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["info", "org/nothing"],
            ["classify", "-m", "org/nothing", "{tone}"],
            ["convert", "org/nothing/checkpoint.pth", "{folder}/converted"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_one_line(self, arguments, tmp_path):
        """Not one for each attempt, of which there are six for each file."""
        write_tone(tmp_path / "tone.wav", 500)
        arguments = [argument.format(folder=tmp_path, tone=tmp_path / "tone.wav") for argument in arguments]
        code = (
            "import sys, time; time.sleep = lambda seconds: None; from hf_audio_ssm.cli import main; sys.exit(main())"
        )
        with socket.socket() as closed:
            # Bound, so that nothing else is there, but not listening.
            closed.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{closed.getsockname()[1]}"
            environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
            # The client reads the address when it is imported.
            result = run_python(["-c", code, *arguments], tmp_path, environment, preloaded=BARE)
        assert (result.returncode, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert "org/nothing" in line
        assert "onnect" in line

    def test_other_warnings_are_shown(self, caplog):
        logger = logging.getLogger("huggingface_hub.utils._http")
        for _ in range(2):
            with without_retries():
                logger.warning("HTTP Error 503 thrown while requesting HEAD https://hub/file")
                logger.warning("Retrying in 1s [Retry 1/5].")
                logger.warning("Rate limited. Waiting 61.0s before retry [Retry 1/5].")
                logger.warning("This repository is deprecated.")
        logger.warning("Retrying in 2s [Retry 2/5].")
        shown = ["Rate limited. Waiting 61.0s before retry [Retry 1/5].", "This repository is deprecated."]
        assert caplog.messages == [*shown, *shown, "Retrying in 2s [Retry 2/5]."]


class TestEmbed:
    @pytest.fixture
    def expected(self, pretrained, tones):
        clips = [read_audio(path, RATE) for path in list_audio(tones)]
        return embed(clips, RATE, pretrained)

    def test_npz(self, capsys, pretrained, tones, tmp_path, expected):
        code, out, _ = run(capsys, "embed", "-m", pretrained, tones, "-o", tmp_path / "out.npz", "--frames")
        assert code == 0
        assert out == f"Wrote {tmp_path / 'out.npz'}: 12 clips, 16 values each\n"
        written = np.load(tmp_path / "out.npz")
        assert written["files"].tolist() == [str(path) for path in list_audio(tones)]
        for index, embedding in enumerate(expected):
            steps = slice(written["offsets"][index], written["offsets"][index + 1])
            np.testing.assert_allclose(written["clips"][index], embedding.clip, atol=2e-6)
            np.testing.assert_allclose(written["frames"][steps], embedding.frames, atol=2e-6)
            np.testing.assert_allclose(written["timestamps"][steps], embedding.timestamps)

    def test_parquet(self, capsys, pretrained, tones, tmp_path, expected):
        pandas = pytest.importorskip("pandas")
        output = tmp_path / "out.parquet"
        code, out, _ = run(capsys, "embed", "-m", pretrained, tones, "-o", output, "--frames", "--json")
        assert code == 0
        assert json.loads(out) == {"output": str(output), "files": 12, "skipped": []}
        table = pandas.read_parquet(output)
        assert list(table.columns) == ["file", "clip", "frames", "timestamps"]
        for (_, row), embedding in zip(table.iterrows(), expected, strict=True):
            np.testing.assert_allclose(row["clip"], embedding.clip, atol=2e-6)
            np.testing.assert_allclose(np.stack(row["frames"]), embedding.frames, atol=2e-6)
            np.testing.assert_allclose(row["timestamps"], embedding.timestamps)

    def test_layers_and_pooling(self, capsys, pretrained, tones, tmp_path):
        options = ["--layers", 0, -1, "--pooling", "cls", "--frames"]
        for name in ("out.npz", "out.parquet"):
            assert run(capsys, "embed", "-m", pretrained, tones, "-o", tmp_path / name, *options)[0] == 0
        written = np.load(tmp_path / "out.npz")
        assert written["clips"].shape == (12, 2, 16)
        assert written["frames"].shape == (written["offsets"][-1], 2, 16)
        clip = read_audio(list_audio(tones)[0], RATE)
        expected = embed(clip, RATE, pretrained, layers=(0, -1), pooling="cls").clip
        np.testing.assert_allclose(written["clips"][0], expected, atol=2e-6)
        table = pytest.importorskip("pandas").read_parquet(tmp_path / "out.parquet")
        np.testing.assert_allclose(np.stack(table["clip"][0]), expected, atol=2e-6)

    def test_broken_files_are_left_out(self, capsys, pretrained, tmp_path):
        reasons = write_broken_clips(tmp_path / "clips")
        arguments = ["embed", "-m", pretrained, tmp_path / "clips", "-o", tmp_path / "out.npz", "--json"]
        code, out, _ = run(capsys, *arguments)
        assert (code, json.loads(out)["output"]) == (1, None)
        assert not (tmp_path / "out.npz").exists()
        write_tone(tmp_path / "clips" / "whole.wav", 500)
        code, out, _ = run(capsys, *arguments)
        assert code == 3
        assert {Path(entry["file"]).name for entry in json.loads(out)["skipped"]} == reasons.keys()
        assert len(np.load(tmp_path / "out.npz")["clips"]) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["-o", "out.csv"], "--output must end in .npz or .parquet, got out.csv"),
            (["-o", "no/such/folder/out.npz"], "cannot be written: there is no folder no/such/folder"),
            (["-o", "{folder}/out.npz", "--layers", "1"], "`layers` must be some of 0, 2, 4"),
        ],
    )
    def test_refused(self, capsys, pretrained, tones, tmp_path, options, message):
        options = [option.format(folder=tmp_path) for option in options]
        before = set(tmp_path.rglob("*"))
        code, _, err = run(capsys, "embed", "-m", pretrained, tones, *options)
        assert code == 1
        assert message in err
        assert set(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("options", [[], ["--frames"]])
    def test_what_is_kept_until_the_end(self, capsys, pretrained, tones, tmp_path, monkeypatch, options):
        kept = []
        write = embed_command.write_npz
        monkeypatch.setattr(
            embed_command, "write_npz", lambda *arguments: (kept.extend(arguments[2]), write(*arguments))
        )
        write_tone(tmp_path / "long.wav", 300, seconds=3)
        command = ["embed", "-m", pretrained, tones, tmp_path / "long.wav", "-o", tmp_path / "out.npz", *options]
        assert run(capsys, *command)[0] == 0
        for embedding in kept:
            # No padding: the long clip does not lengthen the others of its batch.
            assert embedding.frames.untyped_storage().nbytes() == embedding.frames.nbytes
            assert (embedding.frames.nbytes > 0) == bool(options)

    def test_a_folder_of_others_is_refused_at_once(self, capsys, pretrained, tones, tmp_path, monkeypatch):
        # Whoever runs the tests may be allowed everything.
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        monkeypatch.setattr(embed_command, "load_encoder", lambda *_: pytest.fail("The model is loaded."))
        code, _, err = run(capsys, "embed", "-m", pretrained, tones, "-o", tmp_path / "out.npz")
        assert code == 1
        assert f"{tmp_path} may not be written to (permission denied)" in err


class TestConvert:
    def test_tells_the_original_by_its_tensors(self, capsys, tmp_path):
        checkpoint = load_case("pretrain")[1]
        code, out, _ = run(capsys, "convert", checkpoint, tmp_path / "converted")
        assert (code, out) == (0, f"Wrote {tmp_path / 'converted'}\n")
        assert run(capsys, "info", tmp_path / "converted")[0] == 0

    def test_options_of_the_other_original(self, capsys, tmp_path):
        checkpoint = load_case("pretrain")[1]
        code, _, err = run(capsys, "convert", checkpoint, tmp_path / "converted", "--num_attention_heads", 2)
        assert code == 1
        assert "error: --num_attention_heads does not apply" in err
        assert run(capsys, "convert", checkpoint, tmp_path / "converted", "--unpaired")[0] == 0

    def test_neither(self, capsys, tmp_path):
        torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
        code, _, err = run(capsys, "convert", tmp_path / "other.pth", tmp_path / "converted")
        assert code == 1
        assert "is neither SSAMBA's nor SSAST's" in err
        assert not (tmp_path / "converted").exists()


class TestInfo:
    def test_json(self, capsys, classifier):
        code, out, _ = run(capsys, "info", classifier, "--json", "--device", "cpu")
        assert code == 0
        facts = json.loads(out)
        assert facts["architecture"] == "SsambaForAudioClassification"
        assert facts["patch_grid"] == [8, 4]
        assert facts["tokens"] == 33
        assert facts["columns_per_second"] == 6.25
        assert facts["labels"] == ["high", "low"]
        assert list(facts["kernels"].values()).count("used") == 1
        assert facts["kernels"]["triton"].startswith("not available: ")
        assert 0 < facts["seconds_per_clip"] < 10

    def test_text(self, capsys, pretrained):
        code, out, _ = run(capsys, "info", pretrained)
        assert code == 0
        assert "8 x 4 (frequency x time), 33 tokens; 6.25 columns a second" in out
        assert "labels" not in out

    def test_the_asked_backend(self, capsys, pretrained, monkeypatch):
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "reference")
        out = run(capsys, "info", pretrained, "--device", "cpu")[1]
        (line,) = [line for line in out.splitlines() if line.startswith("kernels")]
        assert line.startswith("kernels  on cpu: ")
        assert line.endswith("; reference used")
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "fastest")
        code, _, err = run(capsys, "info", pretrained, "--device", "cpu")
        assert code == 1
        assert "HF_AUDIO_SSM_BACKEND='fastest' is not available" in err

    def test_refused(self, capsys):
        code, _, err = run(capsys, "info", "outputs/no/model")
        assert (code, err) == (1, "error: `model` 'outputs/no/model' cannot be loaded: there is no such folder\n")
        code, _, err = run(capsys, "info", "no/model")
        assert code == 1
        assert "'no/model' cannot be loaded" in err
