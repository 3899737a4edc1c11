# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The Trainer with the originals' recipes: parameter groups, schedule, averaging of weights, resuming, the best checkpoint."""

import copy
import math
import shutil

import numpy as np
import pytest
import soundfile
import torch
from labelled_tones import save_encoder, write_tones
from safetensors.torch import load_file
from tones import write_tone
from transformers import ASTConfig, AutoConfig, TrainerCallback, pipeline

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.augmentation import Augmentation, AugmentationArguments
from hf_audio_ssm.data.labelled import LabelledDataArguments
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.hub.cards import describe_training
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, fold_arguments, make_trainer, parameter_groups


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_tones(tmp_path_factory.mktemp("tones"), {"train": 4, "validation": 2, "test": 2})
    return LabelledDataArguments(data=str(folder)).load()[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def make(clips, encoder, output_dir, augmentation=None, classifier=None, **arguments):
    torch.manual_seed(0)
    feature_extractor, model = ClassifierArguments(encoder, **{"max_length": 32} | (classifier or {})).load(clips)
    defaults = {
        "output_dir": str(output_dir),
        "num_train_epochs": 3,
        "learning_rate": 3e-3,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return make_trainer(model, feature_extractor, clips, FineTuningArguments(**defaults | arguments), augmentation)


@pytest.mark.parametrize("classifier_type", ["linear", "prototypical"])
def test_parameter_groups(classifier_type, tmp_path):
    config = SsambaConfig(hidden_size=32, num_hidden_layers=2, max_length=32, classifier_type=classifier_type)
    model = SsambaForAudioClassification(config)
    arguments = FineTuningArguments(
        str(tmp_path),
        learning_rate=1e-3,
        weight_decay=0.1,
        head_learning_rate_multiple=3.0,
        prototype_learning_rate=0.04,
    )
    groups = {group["name"]: group for group in parameter_groups(model, arguments)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [names[id(parameter)] for group in groups.values() for parameter in group["params"]]
    assert sorted(found) == sorted(names.values())
    for key, group in groups.items():
        expected = {"encoder": 1e-3, "head": 3e-3, "prototypes": 0.04}[key.split(",")[0]]
        assert group["lr"] == pytest.approx(expected)
        assert group["weight_decay"] == (0.0 if key.endswith("not decayed") else 0.1)
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_head = name.startswith("classifier.")
            assert ("encoder" in key) == (not is_head)
            is_matrix = parameter.ndim > 1
            excluded = any(part in name for part in ("A_log", "cls_token", "position_embeddings", "prototypes"))
            assert key.endswith("not decayed") == (not is_matrix or excluded), name
    model.freeze_base_model()
    assert not any("encoder" in group["name"] for group in parameter_groups(model, arguments))


def test_the_originals_schedule(clips, encoder, tmp_path):
    trainer = make(
        clips, encoder, tmp_path, num_train_epochs=8, epoch_decay=0.5, epoch_decay_start=3, epoch_decay_every=2,
        warmup_steps=2, head_learning_rate_multiple=3.0, coupled_weight_decay=True, adam_beta1=0.95, weight_decay=5e-7,
    )  # fmt: skip
    trainer.create_optimizer_and_scheduler(num_training_steps=16)
    assert type(trainer.optimizer) is torch.optim.Adam
    assert trainer.optimizer.defaults["betas"] == (0.95, 0.999)
    rates = []
    for _ in range(16):
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    # Two steps an epoch, two steps of warm-up, halved after epochs 3, 5 and 7.
    factors = [0.5, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125]
    names = [group["name"] for group in trainer.optimizer.param_groups]
    for step, factor in enumerate(factors):
        for name, rate in zip(names, rates[step], strict=True):
            assert rate == pytest.approx(3e-3 * factor * (3 if name.startswith("head") else 1))


def test_weights_are_averaged_and_resuming_changes_nothing(clips, encoder, tmp_path):
    options = {
        "num_train_epochs": 4, "average_from_epoch": 2, "average_to_epoch": 3, "save_strategy": "epoch",
        "per_device_train_batch_size": 8,
    }  # fmt: skip
    trainer = make(clips, encoder, tmp_path / "whole", **options)
    trainer.train()
    weights = {
        step: load_file(tmp_path / "whole" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4, 6, 8)
    }
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.data, (weights[4][name] + weights[6][name]) / 2)
        if parameter.abs().max() > 0:
            assert not torch.equal(parameter.data, weights[8][name]), name

    # `true`, as a command line has it, goes on from the last one.
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "part" / "checkpoint-4")
    for folder, checkpoint in (("whole", str(tmp_path / "whole" / "checkpoint-4")), ("part", "true")):
        again = make(clips, encoder, tmp_path / folder, **options, resume_from_checkpoint=checkpoint)
        began = []
        again.add_callback(StepRecorder(began))
        again.train(resume_from_checkpoint=again.args.resume_from_checkpoint)
        assert began == [4]
        for (name, first), (_, second) in zip(
            trainer.model.named_parameters(), again.model.named_parameters(), strict=True
        ):
            torch.testing.assert_close(first, second, msg=name)


def test_a_continued_training_draws_the_same_augmentations(clips, encoder, tmp_path):
    options = {"num_train_epochs": 2, "save_strategy": "epoch", "per_device_train_batch_size": 8}
    augmentation = Augmentation(
        spectrogram_transforms=[lambda values, silence, rng: draws.append(rng.random()) or values]
    )
    draws = []
    make(clips, encoder, tmp_path, augmentation, **options).train()
    whole = list(draws)
    again = make(
        clips, encoder, tmp_path, Augmentation(spectrogram_transforms=augmentation.spectrogram_transforms), **options
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert draws[32:] == whole[16:]
    assert len(set(whole)) == 32


def test_a_part_of_an_epoch_at_the_end_is_averaged(clips, encoder, tmp_path):
    trainer = make(
        clips, encoder, tmp_path, num_train_epochs=1.25, average_from_epoch=2, per_device_train_batch_size=4
    )
    trainer.train()
    assert trainer.weight_average.count == 1
    assert describe_training(trainer)["Weights"] == "the mean of those after epochs 2 to 2"


class StepRecorder(TrainerCallback):
    """Notes at which step training begins."""

    def __init__(self, steps: list[int]):
        self.steps = steps

    def on_train_begin(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)


def test_the_best_checkpoint_is_kept(clips, encoder, tmp_path):
    trainer = make(clips, encoder, tmp_path, load_best_model_at_end=True, save_strategy="epoch", eval_strategy="epoch")
    assert trainer.args.metric_for_best_model == "accuracy"
    assert trainer.args.greater_is_better
    trainer.train()
    scores = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
    assert trainer.evaluate()["eval_accuracy"] == max(scores)
    chosen = make(clips, encoder, tmp_path, load_best_model_at_end=True, save_strategy="epoch", eval_strategy="epoch",
                  metric_for_best_model="loss")  # fmt: skip
    assert chosen.args.metric_for_best_model == "loss"


def test_arguments_are_copied(clips, encoder, tmp_path):
    """One object serves several runs: no run leaves its own settings in it."""
    feature_extractor, model = ClassifierArguments(encoder, classifier_type="layer_weighted").load(clips)
    arguments = FineTuningArguments(
        output_dir=str(tmp_path), lr_scheduler_type="reduce_lr_on_plateau", load_best_model_at_end=True,
        eval_strategy="epoch", save_strategy="epoch", report_to="none", lr_scheduler_kwargs={"patience": 3},
    )  # fmt: skip
    before = copy.deepcopy(arguments.to_dict())
    trainer = make_trainer(model, feature_extractor, clips, arguments)
    assert trainer.args.metric_for_best_model == "accuracy"
    assert trainer.args.lr_scheduler_kwargs == {"mode": "max", "patience": 3}
    assert trainer.args.ddp_find_unused_parameters
    assert arguments.to_dict() == before


class CollatorRecorder(TrainerCallback):
    """Notes the Trainer's collator and sampling at each batch of an evaluation."""

    def __init__(self):
        self.trainer, self.seen = None, []

    def on_prediction_step(self, args, state, control, **kwargs):
        self.seen.append((self.trainer.data_collator, args.train_sampling_strategy))


def test_an_evaluation_leaves_the_collator_of_training_alone(clips, encoder, tmp_path):
    read = []

    def note(values, silence, rng):
        read.append(len(values))
        return values

    trainer = make(
        clips, encoder, tmp_path, Augmentation(spectrogram_transforms=[note]), num_train_epochs=2, eval_strategy="steps",
        eval_steps=1, per_device_train_batch_size=8, classifier={"return_attention_mask": True},
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    recorder, collator = CollatorRecorder(), trainer.data_collator
    recorder.trainer = trainer
    trainer.add_callback(recorder)
    loader = trainer.get_eval_dataloader()
    assert trainer.data_collator is collator
    assert (
        loader.collate_fn is trainer.get_test_dataloader(clips.splits["test"]).collate_fn is trainer.eval_data_collator
    )
    trainer.train()
    assert recorder.seen == [(collator, "group_by_length")] * 4
    # Only training clips are augmented.
    assert len(read) == 2 * 16


def test_a_plateau_of_a_metric_is_where_it_no_longer_rises(clips, encoder, tmp_path):
    options = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch", "save_strategy": "epoch"}
    for chosen, mode in (
        ({"load_best_model_at_end": True}, "max"),
        ({"metric_for_best_model": "macro_f1"}, "max"),
        ({}, "min"),
        ({"metric_for_best_model": "macro_f1", "lr_scheduler_kwargs": {"mode": "min"}}, "min"),
    ):
        trainer = make(clips, encoder, tmp_path, **options, **chosen)
        trainer.create_optimizer_and_scheduler(num_training_steps=6)
        assert trainer.lr_scheduler.mode == mode
        # The learning rate that it begins with, which such a schedule does not note.
        assert describe_training(trainer)["Learning rate"].startswith(f"{trainer.args.learning_rate:g};")


def test_metrics_that_are_undefined_do_not_end_training(tmp_path, encoder):
    for pitch, name in enumerate(("a", "b", "c", "d"), 500):
        write_tone(tmp_path / "train" / f"{name}.wav", pitch)
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\na.wav,x\nb.wav,y\nc.wav,x;y\nd.wav,x\n")
    (of_several,) = LabelledDataArguments(str(tmp_path), multi_label=True).load()
    assert len(of_several.splits["validation"]) == 1
    options = {"load_best_model_at_end": True, "save_strategy": "epoch", "eval_strategy": "epoch"}
    trainer = make(of_several, encoder, tmp_path / "out", metric_for_best_model="macro_auroc", **options)
    trainer.train()
    assert math.isnan(trainer.evaluate()["eval_macro_auroc"])
    assert trainer.state.best_global_step is None


@pytest.mark.parametrize("augmentation", [{}, {"mixup": 0.5, "frequency_mask": 16, "time_mask": 8, "noise": True}])
def test_training_learns(clips, encoder, tmp_path, augmentation):
    augmented = AugmentationArguments(vary_recordings=False, **augmentation).make()
    trainer = make(clips, encoder, tmp_path, augmented, num_train_epochs=40, learning_rate=1e-2,
                   dataloader_num_workers=0 if not augmentation else 1)  # fmt: skip
    trainer.train()
    metrics = trainer.predict(clips.splits["test"]).metrics
    # By chance it were a quarter.
    assert metrics["test_accuracy"] >= (0.5 if augmentation else 0.75)
    assert set(metrics) >= {"test_accuracy", "test_macro_f1", "test_loss"}


def test_binary_cross_entropy_on_single_labels(clips, encoder, tmp_path):
    trainer = make(clips, encoder, tmp_path, classifier={"binary_cross_entropy": True}, num_train_epochs=1)
    assert trainer.model.config.problem_type == "multi_label_classification"
    trainer.train()
    prediction = trainer.predict(clips.splits["test"])
    assert prediction.label_ids.shape == (8, 4)
    assert prediction.metrics["test_accuracy"] == np.mean(
        prediction.predictions.argmax(1) == clips.splits["test"]["label"]
    )


@pytest.mark.parametrize("problem", ["single", "multi"])
def test_accumulated_gradients_are_those_of_the_large_batch(clips, encoder, tmp_path, problem):
    losses = []
    for batch_size, steps in ((16, 1), (4, 4)):
        trainer = make(
            clips, encoder, tmp_path, classifier={"binary_cross_entropy": problem == "multi"}, max_steps=2,
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps, logging_steps=1,
        )  # fmt: skip
        trainer.model.eval()
        trainer.model.train = lambda mode=True: None
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_settings_of_the_classifier(clips, encoder):
    arguments = ClassifierArguments(
        encoder, classifier_type="prototypical", frequency_stride=16, time_stride=4, max_length=48, normalization="esc50",
        config_overrides='{"num_prototypes": 3}', freeze_base_model=True,
    )  # fmt: skip
    feature_extractor, model = arguments.load(clips)
    config = model.config
    assert (config.frequency_stride, config.time_stride, config.max_length, config.num_prototypes) == (16, 4, 48, 3)
    # The stored positions stay those of the checkpoint.
    assert config.position_grid == AutoConfig.from_pretrained(encoder).position_grid
    assert config.id2label == dict(enumerate(clips.names))
    assert feature_extractor.max_length == 48
    assert feature_extractor.mean == -6.6268077
    assert not any(parameter.requires_grad for parameter in model.base_model.parameters())
    adapted = ClassifierArguments(encoder, normalization="data", max_length=16).load_feature_extractor(clips)
    # The values that training reads before normalisation.
    adapted.do_normalize = False
    read = LabelledClipCollator(adapted, len(clips.names), multi_hot=False)(list(clips.splits["train"]))[
        "input_values"
    ]
    assert (adapted.mean, adapted.std) == pytest.approx((read.mean().item(), read.std().item()), rel=1e-4)


def test_a_checkpoint_of_another_architecture_is_refused(clips, encoder, tmp_path):
    ASTConfig().save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="is a model of type 'audio-spectrogram-transformer', expected .*ssamba"):
        ClassifierArguments(str(tmp_path / "other")).load_model(clips)
    with pytest.raises(InputError, match="--model .*nowhere: .*cannot be loaded"):
        ClassifierArguments(str(tmp_path / "nowhere")).load(clips)
    with pytest.raises(InputError, match="--config_overrides: SsambaConfig has no field 'prototypes'"):
        ClassifierArguments(encoder, config_overrides='{"prototypes": 3}').load_model(clips)
    with pytest.raises(InputError, match="`num_prototypes` must be a positive integer"):
        ClassifierArguments(encoder, config_overrides='{"num_prototypes": 0}').load_model(clips)
    for changed in ('{"hidden_size": 48}', '{"num_hidden_layers": 4}'):
        with pytest.raises(
            InputError, match=r"lacks fitting weights of the encoder: ssamba\..*; --config_overrides must"
        ):
            ClassifierArguments(encoder, config_overrides=changed).load_model(clips)
    with pytest.raises(InputError, match="--normalization must be keep, data or a preset"):
        ClassifierArguments(encoder, normalization="none").load_feature_extractor(clips)
    with pytest.raises(InputError, match="--classifier_type must be one of"):
        ClassifierArguments(encoder, classifier_type="cubic")
    with pytest.raises(InputError, match="--config_overrides must be JSON"):
        ClassifierArguments(encoder, config_overrides="{")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epoch_decay": 1.5}, "--epoch_decay must be above 0 and at most 1, got 1.5"),
        ({"epoch_decay_every": 0}, "--epoch_decay_every at least 1"),
        ({"head_learning_rate_multiple": 0.0}, "--head_learning_rate_multiple must be a positive number, got 0.0"),
        ({"average_from_epoch": 3, "average_to_epoch": 2}, r"epochs of 1 \.\.\. 3, in order, got 3 and 2"),
        ({"average_from_epoch": 4}, r"epochs of 1 \.\.\. 3, in order, got 4 and 3"),
        ({"average_to_epoch": 2}, "--average_to_epoch needs --average_from_epoch"),
        ({"max_steps": 9, "epoch_decay": 0.5}, "exclude --max_steps, got --max_steps 9"),
        ({"max_steps": 9, "average_from_epoch": 2}, "exclude --max_steps, got --max_steps 9"),
        ({"eval_do_concat_batches": False}, "--eval_do_concat_batches must be true"),
        (
            {
                "average_from_epoch": 1,
                "load_best_model_at_end": True,
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
            },
            "exclude each other",
        ),
    ],
)
def test_bad_arguments_are_refused(fields, message, tmp_path):
    with pytest.raises(InputError, match=message):
        FineTuningArguments(output_dir=str(tmp_path), num_train_epochs=3, **fields)


def test_folds_have_folders_of_their_own(tmp_path):
    arguments = FineTuningArguments(output_dir=str(tmp_path))
    assert fold_arguments(arguments, None) is arguments
    assert fold_arguments(arguments, 2).output_dir == str(tmp_path / "fold-2")
    assert arguments.output_dir == str(tmp_path)
    arguments.resume_from_checkpoint = True
    assert fold_arguments(arguments, 2).resume_from_checkpoint is True
    arguments.resume_from_checkpoint = str(tmp_path / "fold-2" / "checkpoint-4")
    assert fold_arguments(arguments, 2).resume_from_checkpoint == arguments.resume_from_checkpoint
    with pytest.raises(InputError, match="--resume_from_checkpoint must be true .*, which is not of fold 1"):
        fold_arguments(arguments, 1)


@pytest.fixture(scope="module")
def clips_of_many_lengths(tmp_path_factory):
    """Low and high tones of 25 ms (less than a patch) to 1.5 s."""
    folder, rng = tmp_path_factory.mktemp("lengths"), np.random.default_rng(0)
    for split, count in (("train", 32), ("validation", 2), ("test", 8)):
        for label, pitch in (("low", 300), ("high", 3000)):
            (folder / split / label).mkdir(parents=True)
            for clip, seconds in enumerate([0.025, *rng.uniform(0.15, 1.5, count - 1)]):
                times = np.arange(int(16000 * seconds)) / 16000
                samples = 0.3 * np.sin(2 * np.pi * pitch * times) + rng.normal(0, 0.03, len(times))
                soundfile.write(folder / split / label / f"{clip}.wav", samples, 16000)
    return LabelledDataArguments(data=str(folder)).load()[0]


@pytest.mark.parametrize(
    "augmentation",
    [None, AugmentationArguments(vary_recordings=False, frequency_mask=8, time_mask=8, noise=True)],
)
def test_clips_keep_their_lengths(clips_of_many_lengths, encoder, tmp_path, augmentation):
    """Grouped by length, they are padded little; no padding is read; what is saved reads none either."""
    trainer = make(
        clips_of_many_lengths, encoder, tmp_path, augmentation and augmentation.make(),
        classifier={"return_attention_mask": True, "max_length": 120}, num_train_epochs=3, learning_rate=5e-3,
        train_sampling_strategy="group_by_length", per_device_train_batch_size=8,
    )  # fmt: skip
    frames = []
    for batch in trainer.get_train_dataloader():
        mask = batch["attention_mask"]
        assert (mask.sum(dim=1) >= 8).all()
        assert mask.shape[1] == mask.sum(dim=1).max() <= 120
        # A padded frame has one value, whatever augments the clips.
        padding = batch["input_values"][mask == 0]
        assert len(padding) == 0 or len(padding.unique()) == 1
        frames.append((mask.numel(), int(mask.sum())))
    padded, own = (sum(column) for column in zip(*frames, strict=True))
    # In random order it would be about 1.5.
    assert padded < 1.35 * own
    trainer.train()
    test = clips_of_many_lengths.splits["test"]
    predictions = trainer.predict(test)
    assert predictions.label_ids.tolist() == test["label"]
    assert predictions.metrics["test_accuracy"] > 0.8

    trainer.save_model(str(tmp_path))
    classifier = pipeline("audio-classification", str(tmp_path))
    row = clips_of_many_lengths.splits["test"][3]
    score = classifier({"array": read_audio(row["audio"], 16000), "sampling_rate": 16000})[0]["score"]
    with torch.no_grad():
        batch = trainer.eval_data_collator([row])
        expected = trainer.model.eval()(batch["input_values"]).logits.softmax(dim=1).max()
    assert batch["input_values"].shape[1] < 120
    assert score == pytest.approx(float(expected), abs=1e-5)


def test_clips_that_are_padded_alike_cannot_be_grouped_by_length(clips, encoder, tmp_path):
    with pytest.raises(InputError, match="group_by_length needs --return_attention_mask true: .* padded to 32 frames"):
        make(clips, encoder, tmp_path, train_sampling_strategy="group_by_length")


@pytest.mark.parametrize(
    ("classifier", "augmentation", "message"),
    [
        ({"classifier_type": "prototypical"}, {}, "the prototypical head, which has its own loss, got 0.1"),
        ({"binary_cross_entropy": True}, {}, "labels that are shares of classes, got 0.1"),
        ({}, {"mixup": 0.5}, "labels that are shares of classes, got 0.1"),
    ],
)
def test_labels_are_smoothed_only_where_the_loss_allows_it(
    clips, encoder, tmp_path, classifier, augmentation, message
):
    augmentation = AugmentationArguments(**augmentation).make()
    with pytest.raises(InputError, match=f"--label_smoothing_factor must be 0 with {message}"):
        make(clips, encoder, tmp_path, augmentation, classifier, label_smoothing_factor=0.1)


def test_patchout_is_an_option(clips, encoder, tmp_path):
    classifier = {"config_overrides": '{"time_patchout": 0.5, "patchout": 0.25}'}
    trainer = make(clips, encoder, tmp_path, classifier=classifier, num_train_epochs=1)
    lengths = []
    trainer.model.base_model.layers[0].register_forward_pre_hook(
        lambda module, inputs: lengths.append(inputs[0].shape[1])
    )
    trainer.train()
    # Of 4 x 4 patches, and beside [CLS].
    assert set(lengths) == {1 + 6}
    trainer.evaluate()
    assert lengths[-1] == 1 + 16
    with pytest.raises(InputError, match="`patchout` must be at least 0 and below 1, got 2"):
        make(clips, encoder, tmp_path, classifier={"config_overrides": '{"patchout": 2}'})
