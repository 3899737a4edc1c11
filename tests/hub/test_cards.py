# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Cards of all four kinds: by the Hub's rules, with all that they owe the reader, no more than was measured, and examples that run."""

import os
import re
from pathlib import Path

import peft
import pytest
import torch
from golden import load_case
from hub_server import card_errors
from huggingface_hub import HfApi, ModelCard
from tones import write_tone
from transformers import TrainerState
from warm_python import run_python

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
)
from hf_audio_ssm.conversion.ssamba import convert
from hf_audio_ssm.hub.adapters import adapter_config, save_adapted
from hf_audio_ssm.hub.card_callback import write_card
from hf_audio_ssm.hub.cards import (
    BaseModelCard,
    Results,
    classifier_card,
    describe_adapters,
    describe_training,
    pretrained_card,
    read_base_model,
)
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, FineTuningTrainer


KINDS = ("pretrained", "fine_tuned", "probe", "adapter")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64}
LABELS = {0: "low", 1: "high"}
BASE = BaseModelCard("org/base", "org/base", "bsd-3-clause", credit="The weights are the work of their authors.")


def make_model(kind: str, base: str = "org/base"):
    torch.manual_seed(0)
    if kind == "pretrained":
        return SsambaForPreTraining(SsambaConfig(**SIZES))
    head = "attentive" if kind == "probe" else "linear"
    fields = {"id2label": LABELS, "problem_type": "single_label_classification", "classifier_type": head}
    model = SsambaForAudioClassification(SsambaConfig(**SIZES, **fields))
    if kind == "probe":
        model.freeze_base_model()
    elif kind == "adapter":
        model.name_or_path = model.config._name_or_path = base
        model = peft.get_peft_model(model, adapter_config(model, "lora", r=2, target_modules=["in_proj"]))
    return model


def make_card(kind: str, name: str, base_model: BaseModelCard | None = BASE, model=None, **changes) -> ModelCard:
    arguments = {
        "model_name": name,
        "model": make_model(kind) if model is None else model,
        "feature_extractor": changes.pop("feature_extractor", SsambaFeatureExtractor(max_length=64)),
        "base_model": base_model,
    }
    if kind == "pretrained":
        results = Results({"accuracy": 0.5, "nce": 1.25, "mse": 0.125}, "validation", "my clips", 7)
        return pretrained_card(**arguments, sources=["my clips"], training={"Seed": 3}, results=results, **changes)
    results = changes.pop("results", Results({"accuracy": 0.75, "macro_f1": 0.5}, "test", "my clips", 8))
    return classifier_card(
        **arguments,
        data="my clips",
        num_clips={"train": 16, "test": 8},
        training={"Seed": "3"},
        results=results,
        **changes,
    )


def example(card: ModelCard) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    return code


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_the_hub_takes_it_and_gives_it_back(self, hub, kind):
        card = make_card(kind, "org/mine")
        assert card_errors(str(card)) == []
        HfApi().create_repo("org/mine")
        card.push_to_hub("org/mine")
        assert hub.count("POST", "/api/validate-yaml") == 2
        data = ModelCard.load("org/mine").data
        assert data.base_model == "org/base"
        assert data.library_name == ("peft" if kind == "adapter" else "transformers")
        measured = {result.metric_type: result for result in data.eval_results}
        assert set(measured) == {"accuracy", *(("nce", "mse") if kind == "pretrained" else ("macro_f1",))}
        split = "validation" if kind == "pretrained" else "test"
        assert {result.dataset_split for result in measured.values()} == {split}
        assert measured["accuracy"].metric_value == (0.5 if kind == "pretrained" else 0.75)
        assert measured["accuracy"].dataset_name == f"{split} clips of my clips"

    def test_it_says_all_that_it_owes(self, kind):
        text = make_card(kind, "org/mine").text
        for heading in ("Results on the", "Input", "Use", "Limits", "Licence and credit", "Citation"):
            assert f"\n## {heading}" in text
        for said in (
            "| Started from | org/base |",
            "my clips",
            "| Seed | 3 |",
            "16000 Hz",
            "128 bins",
            "64 frames (0.64 s)",
            "mean -4.2677393 and standard deviation 4.5689974",
            "a column of 8 every 160 ms, 50 a second, 32 for 64 frames",
            "whose card names the licence bsd-3-clause",
            "> The weights are the work of their authors.",
            "[SiavashShams/ssamba](https://github.com/SiavashShams/ssamba)",
            "@article{shams2024ssamba",
        ):
            assert said in text, said
        assert "CO2" not in text
        assert not re.search(r"\{\{(?!SSAMBA)|\{%|\n\n\n|None|Undefined", text)

    def test_the_licence_of_the_weights_it_started_from_is_its_own(self, kind):
        card = make_card(
            kind, "org/mine", BaseModelCard("folder", None, "other", "mine-1.0", "https://example.org/mine")
        )
        assert (card.data.license, card.data.license_name) == ("other", "mine-1.0")
        assert card_errors(str(card)) == []
        assert "the licence mine-1.0 (https://example.org/mine)" in card.text
        unknown = make_card(kind, "org/mine", BaseModelCard("folder"))
        assert unknown.data.license is None
        assert unknown.data.base_model is None
        assert "`folder`, whose licence is not known here." in unknown.text


@pytest.mark.parametrize("kind", ["pretrained", "fine_tuned"])
def test_of_new_weights_no_licence_is_named(kind):
    card = make_card(kind, "org/mine", None)
    assert (card.data.license, card.data.base_model) == (None, None)
    assert card_errors(str(card)) == []
    assert "| Started from | new weights |" in card.text
    assert "They contain no other model's weights, and this card names no licence." in card.text


def test_a_pretrained_card_says_what_the_objective_is_and_measures():
    card = make_card(
        "pretrained",
        "org/mine",
        summary="An audio encoder, trained to fill in patches.",
        task=("fill-in", "Filling in"),
        measures={"mse": "squared error", "accuracy": "accuracy | share"},
    )
    assert "\nAn audio encoder, trained to fill in patches.\n" in card.text
    assert (
        "| squared error | accuracy \\| share |\n|---|---|\n| 0.1250 | 0.5000 |\n\nMeasured in this run" in card.text
    )
    assert {result.task_type for result in card.data.eval_results} == {"fill-in"}
    assert (
        "| accuracy | nce | mse |\n|---|---|---|\n| 0.5000 | 1.2500 | 0.1250 |\n"
        in make_card("pretrained", "mine").text
    )


def save_all(folder: Path, name_of, base: str) -> list[str]:
    """Saves a model of each kind, with its card, into folders called after the kinds; returns the cards' examples."""
    model = make_model("fine_tuned")
    model.save_pretrained(folder / "base")
    examples = []
    for kind in KINDS:
        model = make_model(kind, base)
        (save_adapted if kind == "adapter" else type(model).save_pretrained)(model, folder / kind)
        SsambaFeatureExtractor(max_length=64).save_pretrained(folder / kind)
        card = make_card(kind, name_of(kind), BaseModelCard(base, base if "/" in base else None), model)
        write_card(card, folder / kind)
        examples.append(example(card))
    return examples


def test_examples_run_from_folders(tmp_path, monkeypatch, capsys):
    """As they stand, with the package."""
    monkeypatch.chdir(tmp_path)
    write_tone(tmp_path / "clip.wav", 300, 0.5, 8000, 2)
    examples = save_all(tmp_path, str, "base")
    for kind, code in zip(KINDS, examples, strict=True):
        assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) <= 5
        exec(compile(code, kind, "exec"), {"__name__": "__main__"})
        assert ("tensor([[" if kind == "pretrained" else "'label': 'low'") in capsys.readouterr().out


def test_examples_run_from_the_hub_without_the_package(hub, tmp_path):
    """As they stand, but for the adapters', which need it."""
    write_tone(tmp_path / "clip.wav", 300, 0.5, 8000, 2)
    examples = save_all(tmp_path / "saved", "org/{}".format, "org/base")
    for folder in (tmp_path / "saved").iterdir():
        HfApi().create_repo(f"org/{folder.name}")
        HfApi().upload_folder(repo_id=f"org/{folder.name}", folder_path=folder)
    assert "load_adapted" in examples[-1]
    code = "import sys\nsys.modules['hf_audio_ssm'] = None\n" + "\n".join(examples[:-1])
    done = run_python(["-c", code], tmp_path, {**os.environ, "HF_HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    assert "tensor([[" in done.stdout
    assert done.stdout.count("'label': 'low'") == 2
    namespace = {"__name__": "__main__"}
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        exec(compile(examples[-1], "adapter", "exec"), namespace)
    finally:
        os.chdir(here)
    assert namespace["classifier"].model.config.id2label == LABELS


def test_masked_padding_is_told():
    card = make_card("fine_tuned", "mine", feature_extractor=SsambaFeatureExtractor(max_length=64))
    assert "pads with zeros or cuts to 64 frames" in card.text
    masking = SsambaFeatureExtractor(max_length=64, return_attention_mask=True)
    card = make_card("fine_tuned", "mine", feature_extractor=masking)
    assert "pads with zeros (masked, so that the model does not read them) or cuts to 64 frames" in card.text


def test_adapters_are_described():
    base = make_model("fine_tuned")
    options = {"r": 2, "lora_alpha": 4, "target_modules": ["out_proj", "in_proj"]}
    assert describe_adapters(base) is None
    described = describe_adapters(peft.get_peft_model(base, adapter_config(base, "dora", bias="all", **options)))
    assert described == "DoRA of rank 2, alpha 4, biases all, on in_proj, out_proj"
    base = make_model("fine_tuned")
    described = describe_adapters(peft.get_peft_model(base, adapter_config(base, "ia3", target_modules=["out_proj"])))
    assert described == "IA3, on out_proj"
    for config in (peft.LoHaConfig, peft.VeraConfig, peft.OFTConfig):
        adapted = peft.get_peft_model(make_model("fine_tuned"), config(target_modules=r".*\.out_proj"))
        assert describe_adapters(adapted) == rf"{config().peft_type.value}, on .*\.out_proj"


def test_frame_labels_are_annotated(tmp_path, monkeypatch, capsys):
    model = SsambaForAudioFrameClassification(SsambaConfig(**SIZES, id2label=LABELS, frames_per_label=10))
    model.save_pretrained(tmp_path / "scenes")
    SsambaFeatureExtractor(max_length=64).save_pretrained(tmp_path / "scenes")
    card = make_card("fine_tuned", "scenes", None, model)
    assert card_errors(str(card)) == []
    assert card.data.pipeline_tag is None
    write_tone(tmp_path / "clip.wav", 300, 0.5, 8000, 2)
    monkeypatch.chdir(tmp_path)
    exec(compile(example(card), "scenes", "exec"), {"__name__": "__main__"})
    assert "onset" in capsys.readouterr().out


@pytest.mark.parametrize("classify_frames", [False, True])
def test_the_task_is_asked_of_the_record_not_read_off_a_name(classify_frames, monkeypatch):
    """A class by any name, derived from one that an encoder's record names."""
    base = SsambaForAudioFrameClassification if classify_frames else SsambaForAudioClassification
    options = {"frames_per_label": 10} if classify_frames else {}

    class MyFrameClassification(base):
        pass

    model = MyFrameClassification(SsambaConfig(**SIZES, id2label=LABELS, **options))
    card = make_card("fine_tuned", "mine", None, model)
    assert card.data.pipeline_tag == (None if classify_frames else "audio-classification")
    assert ("Labels recordings along time: low, high." in card.text) == classify_frames


class TestBaseModel:
    def test_credit_is_handed_down(self, tmp_path, monkeypatch):
        """From the authors' checkpoint to a model fine-tuned from it, and to adapters for that."""
        monkeypatch.chdir(tmp_path)
        convert(load_case("pretrain")[1], "converted")
        converted = read_base_model("converted")
        assert (converted.license, converted.on_hub) == ("bsd-3-clause", None)
        assert "are the work of their authors ([SiavashShams/ssamba]" in converted.credit
        fine_tuned = make_card("fine_tuned", "tuned", converted)
        (tmp_path / "tuned").mkdir()
        write_card(fine_tuned, tmp_path / "tuned")
        adapters = make_card("adapter", "adapters", read_base_model("tuned"))
        assert adapters.data.license == "bsd-3-clause"
        assert "made from those of `tuned`" in adapters.text
        assert "> The weights were made from those of `converted`" in adapters.text
        assert "> > The weights and the original code are the work of their authors" in adapters.text
        assert adapters.text.count("@article") == 1

    def test_of_the_hub(self, hub):
        HfApi().create_repo("org/other")
        assert read_base_model("org/other") == BaseModelCard("org/other", "org/other")
        text = "---\nlicense: mit\nbase_model: org/first\n---\n# Other\n"
        HfApi().upload_file(repo_id="org/other", path_or_fileobj=text.encode(), path_in_repo="README.md")
        assert read_base_model("org/other") == BaseModelCard("org/other", "org/other", "mit")

    def test_a_folder_leads_to_its_own_base_on_the_hub(self, tmp_path):
        (tmp_path / "README.md").write_text("---\nbase_model: org/first\n---\n# Mine\n")
        base = read_base_model(str(tmp_path))
        assert base == BaseModelCard(str(tmp_path), "org/first")
        card = make_card("fine_tuned", "mine", base)
        assert card.data.base_model == "org/first"
        assert "which were made from [org/first](https://huggingface.co/org/first)" in card.text

    def test_that_cannot_be_read(self, hub, tmp_path):
        assert read_base_model(str(tmp_path)) == BaseModelCard(str(tmp_path))
        assert read_base_model("org/nothing") == BaseModelCard("org/nothing", "org/nothing")


class TestNothingIsClaimedThatWasNotMeasured:
    def test_no_metrics(self):
        card = make_card("fine_tuned", "mine", results=Results({}, "validation", "my clips", 2))
        assert card.data.eval_results is None
        assert "Nothing had been measured" in card.text
        assert "| metric |" not in card.text

    def test_numbers_that_are_none_stay_out_of_the_metadata(self):
        results = Results({"macro_auroc": 1.0, "d_prime": float("inf")}, "test", "my clips", 2)
        card = make_card("fine_tuned", "mine", results=results)
        assert [result.metric_type for result in card.data.eval_results] == ["macro_auroc"]
        assert card_errors(str(card)) == []
        assert "| d_prime | inf |" in card.text

    def test_emissions_only_where_they_are_known(self):
        emissions = {"emissions": 1.5, "source": "CodeCarbon 3", "text": "1.5 g, as CodeCarbon 3 estimated"}
        card = make_card("fine_tuned", "mine", emissions=emissions)
        assert card.data.co2_eq_emissions == {"emissions": 1.5, "source": "CodeCarbon 3"}
        assert "| CO2 | 1.5 g, as CodeCarbon 3 estimated |" in card.text
        assert card_errors(str(card)) == []
        assert make_card("fine_tuned", "mine").data.to_dict().get("co2_eq_emissions") is None

    def test_the_recipe_is_that_of_the_run(self, tmp_path):
        arguments = FineTuningArguments(
            str(tmp_path), num_train_epochs=50, per_device_train_batch_size=3, gradient_accumulation_steps=2,
            learning_rate=1e-4, head_learning_rate_multiple=3, epoch_decay=0.5, coupled_weight_decay=True, seed=7,
            average_from_epoch=2, average_to_epoch=4, report_to="none", use_cpu=True,
        )  # fmt: skip
        model = make_model("fine_tuned")
        trainer = FineTuningTrainer(model, arguments)
        trainer.create_optimizer_and_scheduler(500)
        # Stopped early: what was done counts, not what was asked for.
        trainer.state = TrainerState(epoch=4.5, global_step=45, max_steps=500)
        assert "Weights" not in describe_training(trainer)
        trainer.weight_average.is_applied = True
        assert describe_training(trainer) == {
            "Training": "45 steps of 6 clips, 4.5 times over the data",
            "Optimizer": "Adam, betas 0.9 and 0.999, weight decay 0 in the gradient",
            "Learning rate": "0.0001 (encoder), 0.0003 (head); times 0.5 every 1 epochs from epoch 5",
            "Seed": "7",
            "Weights": "the mean of those after epochs 2 to 4",
        }
        model.freeze_base_model()
        of_probe = FineTuningTrainer(model, arguments)
        of_probe.create_optimizer_and_scheduler(500)
        of_probe.state = trainer.state
        assert describe_training(of_probe)["Learning rate"].startswith("0.0003; times")


@pytest.mark.parametrize("source", ["org/clips", "org/clips:main", "org/clips@train"])
def test_data_of_the_hub_are_linked(source):
    card = make_card("fine_tuned", "mine", results=Results({"accuracy": 0.5}, "test", source, 2))
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_split) == ("org/clips", "test")
    assert result.dataset_config == ("main" if ":" in source else None)
    local = make_card("fine_tuned", "mine").data.eval_results[0]
    assert local.dataset_type == "local"
