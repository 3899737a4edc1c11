# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The scripts that fine-tune, adapt, probe and learn from few clips, from their command lines to what they leave behind."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import run_audio_classification
import run_few_shot
import run_lora
import run_probing
import soundfile
from hub_server import TOKEN, card_errors
from huggingface_hub import ModelCard
from labelled_tones import save_encoder, write_tones
from several_processes import start_job
from tones import write_tone
from transformers import HfArgumentParser, pipeline

from hf_audio_ssm import SsambaFeatureExtractor
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.common.text_files import mean_and_deviation
from hf_audio_ssm.data.augmentation import VaryRecordings
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.hub.adapters import load_adapted
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.command_line import complete_classes, parse_arguments
from hf_audio_ssm.training.comparison import ComparisonArguments
from hf_audio_ssm.training.fine_tuning import FineTuningTrainer


ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path for path in (ROOT / "examples" / "configs" / "tuning").glob("*.yaml") if path.stem != "ssast_optimizer"
)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), {"train": 4, "validation": 2, "test": 2})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def fine_tune(tones, encoder, output_dir, *more, script=run_audio_classification, first=()):
    command_line = [
        "--model", encoder, "--data", tones, "--output_dir", output_dir, "--num_train_epochs", 2, "--report_to", "none",
        "--disable_tqdm", "true", *more,
    ]  # fmt: skip
    arguments = parse_arguments(
        (*first, *run_audio_classification.ARGUMENTS), [str(word) for word in command_line], ""
    )
    return script.main(*arguments)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fine_tuning_leaves_a_classifier_behind(tones, encoder, tmp_path):
    output_dir = tmp_path / "out"
    options = ["--eval_strategy", "epoch", "--save_strategy", "epoch", "--load_best_model_at_end", "true",
               "--mixup", "0.5", "--time_mask", "8", "--classifier_type", "attentive"]  # fmt: skip
    (metrics,) = fine_tune(tones, encoder, output_dir, *options)
    assert set(metrics) == {"accuracy", "macro_f1"}
    assert names_in(output_dir) >= {
        "augmentation.png", "checkpoint-4", "confusion_matrix.png", "learning_curve.png", "model.safetensors",
        "preprocessor_config.json", "README.md", "test_results.json",
    }  # fmt: skip
    assert not [name for name in names_in(output_dir) if name.endswith(".partial")]
    classifier = pipeline("audio-classification", model=str(output_dir))
    clips = sorted((tones / "test").rglob("*.wav"))
    correct = [classifier(read_audio(clip, 16000), top_k=1)[0]["label"] == clip.parent.name for clip in clips]
    assert np.mean(correct) == metrics["accuracy"]
    card = ModelCard.load(output_dir / "README.md")
    (accuracy,) = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert accuracy.metric_value == round(metrics["accuracy"], 4)
    assert accuracy.dataset_split == "test"
    assert card_errors(str(card)) == []
    # The metadata name base models of the Hub only; a folder stands in the text.
    assert card.data.base_model is None
    for said in (
        f"| Started from | {Path(encoder).name} |",
        "attentive head, 4 labels",
        f"| Data | {tones.name}: 16 train clips, 8 validation clips, 8 test clips |",
        "| Training | 4 steps of 8 clips, 2 times over the data |",
        f"| Augmentation | vary_recordings ({VaryRecordings().describe()}), mixup 0.5, time_mask 8 |",
        f"| unchanged | {metrics['accuracy']:.4f} |",
        "the best by accuracy on the validation split",
        f"on the 8 test clips of {tones.name}.",
        "](confusion_matrix.png)",
        f"`{Path(encoder).name}`, whose licence is not known here.",
    ):
        assert said in card.text, said

    # At each save: what the validation split told then, and nothing of the test split.
    history = json.loads((output_dir / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    for step in (2, 4):
        saved = ModelCard.load(output_dir / f"checkpoint-{step}" / "README.md")
        assert card_errors(str(saved)) == []
        (evaluated,) = [entry for entry in history if entry["step"] == step and "eval_accuracy" in entry]
        measured = {result.metric_type: result.metric_value for result in saved.data.eval_results}
        assert measured == {name: round(evaluated[f"eval_{name}"], 4) for name in ("accuracy", "macro_f1")}
        assert {result.dataset_split for result in saved.data.eval_results} == {"validation"}
        assert f"| Training | {step} steps of 8 clips, {step // 2} times" in saved.text
        assert f"This is what step {step} reached." in saved.text
        assert ".png" not in saved.text

    # Going on from the last checkpoint ends where the whole run ended.
    (again,) = fine_tune(
        tones, encoder, output_dir, *options, "--resume_from_checkpoint", str(output_dir / "checkpoint-4")
    )
    assert again == metrics


def test_statistics_of_the_data_are_computed_once_for_each_run(tones, encoder, tmp_path, monkeypatch):
    computed, compute = [], SsambaFeatureExtractor.compute_mean_std

    def note(self, *arguments, **options):
        computed.append(compute(self, *arguments, **options))
        return computed[-1]

    monkeypatch.setattr(SsambaFeatureExtractor, "compute_mean_std", note)
    fine_tune(tones, encoder, tmp_path, "--normalization", "data", "--max_steps", 1, "--save_strategy", "no")
    assert len(computed) == 1
    saved = SsambaFeatureExtractor.from_pretrained(tmp_path)
    assert (saved.mean, saved.std) == computed[0]


def test_clips_are_checked_at_the_rate_of_the_feature_extractor(tones, tmp_path, monkeypatch):
    encoder = save_encoder(tmp_path / "encoder")
    SsambaFeatureExtractor(max_length=32, sampling_rate=8000).save_pretrained(encoder)
    rates = []

    def note(clips, sampling_rate):
        rates.append(sampling_rate)
        raise InputError("stop")

    monkeypatch.setattr("hf_audio_ssm.data.labelled.check_all", note)
    data, classifier = LabelledDataArguments(str(tones)), ClassifierArguments(str(encoder))
    out = str(tmp_path / "out")
    for script, arguments in (
        (run_probing, ComparisonArguments(out)),
        (run_few_shot, run_few_shot.FewShotArguments(out)),
    ):
        with pytest.raises(InputError, match="stop"):
            script.main(data, classifier, arguments)
    with pytest.raises(InputError, match="stop"):
        fine_tune(tones, encoder, out)
    assert rates == [8000] * 3


def test_folds(encoder, tmp_path, capsys):
    folder = tmp_path / "data"
    write_tones(folder, {"clips": 6}, labels=("low", "high"))
    rows = [f"clips/{label}/{clip}.wav,{label},{1 + clip % 2}" for label in ("low", "high") for clip in range(6)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label,fold", *rows]))
    results = fine_tune(folder, encoder, tmp_path / "out", "--fold_column", "fold")
    assert len(results) == 2
    assert names_in(tmp_path / "out") == {"fold-1", "fold-2"}
    mean = np.mean([result["accuracy"] for result in results])
    assert f"accuracy: {mean:.4f} ± " in capsys.readouterr().out


def assert_example_runs(card: ModelCard, folder: Path, monkeypatch) -> None:
    """As it stands, in a folder with a recording."""
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    write_tone(folder / "clip.wav", 300)
    monkeypatch.chdir(folder)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})


def test_lora_leaves_adapters_and_a_merged_classifier(tones, encoder, tmp_path, capsys, monkeypatch):
    (metrics,) = fine_tune(
        tones, encoder, tmp_path, "--rank", 4, "--target_modules", "in_proj", "out_proj", "--save_strategy", "epoch",
        script=run_lora, first=(run_lora.AdapterArguments,),
    )  # fmt: skip
    assert "trainable params" in capsys.readouterr().out
    assert names_in(tmp_path) >= {"adapter_config.json", "adapter_model.safetensors", "merged", "README.md"}
    assert "model.safetensors" not in names_in(tmp_path)
    adapted = load_adapted(tmp_path)
    assert adapted.peft_config["default"].r == 4
    assert adapted.peft_config["default"].target_modules == {"in_proj", "out_proj"}
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "peft"
    assert card_errors(str(card)) == []
    assert "LoRA of rank 4, alpha 8, on in_proj, out_proj" in card.text
    (accuracy,) = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert accuracy.metric_value == round(metrics["accuracy"], 4)
    assert_example_runs(card, tmp_path.parent, monkeypatch)
    # So are the adapters of a checkpoint: complete, and described.
    saved = ModelCard.load(tmp_path / "checkpoint-4" / "README.md")
    assert saved.data.eval_results is None
    assert_example_runs(saved, tmp_path.parent, monkeypatch)
    of_merged = ModelCard.load(tmp_path / "merged" / "README.md")
    assert card_errors(str(of_merged)) == []
    assert of_merged.data.library_name == "transformers"
    assert "measured with the adapters, before these were merged" in of_merged.text
    assert_example_runs(of_merged, tmp_path.parent, monkeypatch)
    merged = pipeline("audio-classification", model=str(tmp_path / "merged"))
    clips = sorted((tones / "test").rglob("*.wav"))
    correct = [merged(read_audio(clip, 16000), top_k=1)[0]["label"] == clip.parent.name for clip in clips]
    assert np.mean(correct) == metrics["accuracy"]


def test_other_processes_write_no_pictures_and_no_cards(tones, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(FineTuningTrainer, "is_world_process_zero", lambda self: False)
    options = ["--time_mask", "8", "--save_strategy", "no", "--num_train_epochs", "1"]
    fine_tune(tones, encoder, tmp_path, *options, script=run_lora, first=(run_lora.AdapterArguments,))
    assert "adapter_model.safetensors" in names_in(tmp_path)
    assert "merged" not in names_in(tmp_path)
    assert not list(tmp_path.rglob("*.png"))
    assert "hf-audio-ssm" not in (tmp_path / "README.md").read_text(encoding="utf-8")


TWO_PROCESSES = """
import sys
import torch
import run_audio_classification
import run_lora
from hf_audio_ssm.training.command_line import parse_arguments

torch.set_num_threads(1)
for script, first, more in (
    (run_audio_classification, (), ["--classifier_type", "layer_weighted", "--gradient_checkpointing", "true"]),
    (run_lora, (run_lora.AdapterArguments,), []),
):
    command_line = [*sys.argv[2:], "--output_dir", f"{sys.argv[1]}/{script.__name__}", *more]
    script.main(*parse_arguments((*first, *run_audio_classification.ARGUMENTS), command_line, ""))
"""


def test_two_processes(tones, encoder, tmp_path):
    options = ["--model", encoder, "--data", tones, "--max_steps", 2, "--per_device_train_batch_size", 2, "--use_cpu", "true",
               "--time_mask", 8, "--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"]  # fmt: skip
    arguments = ["-c", TWO_PROCESSES, *map(str, (tmp_path, *options))]
    for process, errors in start_job(arguments, tmp_path):
        process.join()
        assert process.exitcode == 0, errors.read_text()
    left = {"augmentation.png", "confusion_matrix.png", "learning_curve.png", "README.md", "test_results.json"}
    assert names_in(tmp_path / "run_audio_classification") >= left | {"model.safetensors"}
    assert names_in(tmp_path / "run_lora") >= left | {"adapter_model.safetensors", "merged"}
    assert not list(tmp_path.rglob("*.partial"))
    for folder in ("run_audio_classification", "run_lora/merged"):
        assert "| Training | 2 steps of 4 clips" in (tmp_path / folder / "README.md").read_text(encoding="utf-8")
        assert pipeline("audio-classification", model=str(tmp_path / folder))


def test_probing(tones, encoder, tmp_path, monkeypatch):
    methods = ["knn", "linear", "layer_weighted", "attentive", "prototypical", "lora"]
    arguments = ComparisonArguments(
        str(tmp_path), methods, epochs=2, encoder_epochs=1, seeds=[0, 1], cache_dir=str(tmp_path / "cache")
    )
    data, classifier = LabelledDataArguments(str(tones)), ClassifierArguments(str(encoder))
    results = run_probing.main(data, classifier, arguments)
    assert list(results) == methods
    assert all(len(values) == 2 for metrics in results.values() for values in metrics.values())
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 3
    table = (tmp_path / "probing.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "|  | accuracy | macro_f1 |"
    assert len(table) == 2 + 6
    assert (tmp_path / "similarity.png").read_bytes().startswith(b"\x89PNG")
    for name in methods[1:5]:
        assert pipeline("audio-classification", model=str(tmp_path / name)).model.config.classifier_type == name
    for name in methods[1:]:
        card = ModelCard.load(tmp_path / name / "README.md")
        assert card_errors(str(card)) == []
        # Of the seed whose classifier was kept.
        measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert measured == {metric: round(values[-1], 4) for metric, values in results[name].items()}
        assert "| Seed | 1 |" in card.text
        assert ("on a frozen encoder" in card.text) == (name != "lora")
        assert_example_runs(card, tmp_path.parent, monkeypatch)


def test_what_cannot_be_pushed_is_said_before_training_or_after(tones, encoder, tmp_path, hub, monkeypatch):
    pushing = ["--push_to_hub", "true", "--hub_model_id", "org/words"]
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    with pytest.raises(InputError, match=r"--push_to_hub: org/words cannot be written to \(.*401"):
        fine_tune(tones, encoder, tmp_path / "out", *pushing)
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fail("PUT", "^/lfs/", status=500, times=100)
    with pytest.raises(InputError, match=r"out is complete, but could not be pushed to org/words: .*500"):
        fine_tune(tones, encoder, tmp_path / "out", *pushing)
    assert "README.md" not in hub.files("org/words")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    assert pipeline("audio-classification", model=str(tmp_path / "out"))


def test_few_shot(tones, encoder, tmp_path):
    arguments = run_few_shot.FewShotArguments(str(tmp_path), methods=["knn", "linear"], epochs=1, shots=[1, 3])
    table = run_few_shot.main(LabelledDataArguments(str(tones)), ClassifierArguments(str(encoder)), arguments)
    assert {method: {k: len(v) for k, v in values.items()} for method, values in table.items()} == {
        method: {1: 3, 3: 3} for method in ("knn", "linear")
    }
    assert json.loads((tmp_path / "few_shot.json").read_text()) == json.loads(json.dumps(table))
    lines = (tmp_path / "few_shot.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| accuracy in % | 1 clips a class | 3 clips a class |"
    mean, deviation = 100 * np.mean(table["knn"][3]), 100 * np.std(table["knn"][3])
    assert lines[2].endswith(f"| {mean:.1f} ± {deviation:.1f} |")
    assert (tmp_path / "few_shot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="at most 4, the clips of class 0, got 5"):
        run_few_shot.main(LabelledDataArguments(str(tones)), ClassifierArguments(str(encoder)),
                          run_few_shot.FewShotArguments(str(tmp_path), shots=[5]))  # fmt: skip


def test_errors_come_without_a_traceback(encoder, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "short.wav", np.zeros(10), 16000)
    (tmp_path / "metadata.csv").write_text("file_name,label\nshort.wav,a\n")
    command_line = ["--model", encoder, "--data", tmp_path, "--output_dir", tmp_path / "out"]
    monkeypatch.setattr("sys.argv", ["run_lora.py", *map(str, command_line)])
    # As from the command line, in this process, which has imported everything. A text exits with status 1.
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(run_lora.__file__, run_name="__main__")
    assert exited.value.code.startswith("error: ")
    assert "at least 2 labels, found ['a']" in exited.value.code
    assert not (tmp_path / "out").exists()


def test_broken_clips_are_reported_before_training(encoder, tmp_path):
    folder = write_tones(tmp_path / "data", {"train": 3})
    (folder / "train" / "low" / "0.wav").write_bytes(b"no audio")
    with pytest.raises(
        InputError, match=r"1 clip cannot be used \(.*0\.wav: cannot be read as audio.* --max_bad_share 0.084"
    ):
        fine_tune(folder, encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_understood(path, tones, encoder, tmp_path):
    command_line = [str(path), "--model", str(encoder), "--data", str(tones), "--output_dir", str(tmp_path / "out")]
    data, classifier, augmentation, training = parse_arguments(run_audio_classification.ARGUMENTS, command_line, "")
    assert training.learning_rate in (1e-4, 2.5e-4)
    assert (training.adam_beta1, training.adam_beta2, training.weight_decay) == (0.95, 0.999, 5e-7)
    assert training.coupled_weight_decay
    assert not (tmp_path / "out").exists()
    # What the package chooses by itself is none of the original's.
    assert not augmentation.vary_recordings
    assert classifier.max_length in (128, 512, 1024, 6144)


def test_there_is_a_configuration_of_each_of_the_papers_recipes():
    assert {path.stem for path in CONFIGS} >= {
        "audioset20k", "esc50", "speech_commands_v1", "speech_commands_v2", "one_minute_scenes"
    }  # fmt: skip


def test_configuration_files(tmp_path):
    (tmp_path / "base.yaml").write_text("model: there\ntime_stride: 10\n")
    (tmp_path / "mine.yaml").write_text(
        'include: base.yaml\ntime_stride: 8\nconfig_overrides: {"num_prototypes": 3}\n'
    )
    (arguments,) = parse_arguments((ClassifierArguments,), [str(tmp_path / "mine.yaml"), "--max_length", "64"], "")
    assert (arguments.model, arguments.time_stride, arguments.max_length) == ("there", 8, 64)
    assert arguments.overrides["num_prototypes"] == 3
    (tmp_path / "wrong.yaml").write_text("time_strides: 8\n")
    with pytest.raises(InputError, match=r"there is no argument 'time_strides'; did you mean time_stride\?"):
        parse_arguments((ClassifierArguments,), [str(tmp_path / "wrong.yaml")], "")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="must map arguments to values, got list"):
        parse_arguments((ClassifierArguments,), [str(tmp_path / "list.json")], "")
    with pytest.raises(InputError, match="cannot be read as YAML or JSON"):
        parse_arguments((ClassifierArguments,), [str(tmp_path / "none.yaml")], "")
    with pytest.raises(InputError, match="there is no argument --num_epochs; see --help"):
        parse_arguments((ClassifierArguments,), ["--model", "there", "--num_epochs", "2"], "")


def test_a_mean_that_is_infinite_has_no_deviation():
    assert mean_and_deviation([0.5, 1.0]) == "0.7500 ± 0.2500"
    assert mean_and_deviation([1.5, float("inf")]) == "inf"


def test_arguments_do_not_clash():
    parser = HfArgumentParser(complete_classes(run_lora.ARGUMENTS))
    assert {"--rank", "--learning_rate"} <= set(parser.format_usage().replace("[", " ").split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "qlora"}, "--method must be one of lora, dora, rslora, ia3, got 'qlora'"),
        ({"rank": 0}, "--rank must be at least 1, got 0"),
        ({"adapter_dropout": 1.0}, "--adapter_dropout must be at least 0 and below 1, got 1.0"),
        ({"bias": "some"}, "--bias must be none, all or lora_only, got 'some'"),
        ({"method": "ia3", "bias": "all"}, "--bias must be none with --method ia3, got 'all'"),
    ],
)
def test_bad_adapter_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        run_lora.AdapterArguments(**options)
