# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Probing: features computed once, k-NN, few-shot draws, and probes that are classifiers like any other."""

import time

import datasets
import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from labelled_tones import save_encoder, write_tones
from transformers import AutoFeatureExtractor, pipeline

from hf_audio_ssm import SsambaModel
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.augmentation import Augmentation, UniformNoise
from hf_audio_ssm.data.labelled import LabelledClips, LabelledDataArguments, label_clips
from hf_audio_ssm.data.labelled_collator import LabelledClipCollator
from hf_audio_ssm.data.sources import make_dataset
from hf_audio_ssm.inference.plots import (
    plot_augmentation,
    plot_confusion_matrix,
    plot_few_shot,
    plot_learning_curve,
    plot_similarity,
    save_figure,
)
from hf_audio_ssm.models.heads.classification_heads import CLASSIFIER_TYPES
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.comparison import METHODS, Comparison, ComparisonArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, FineTuningTrainer
from hf_audio_ssm.training.probing import FeatureDataset, draw_few_shot, extract_features, features_of, knn_scores


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_tones(tmp_path_factory.mktemp("tones"), {"train": 5, "validation": 2, "test": 3})
    return LabelledDataArguments(data=str(folder)).load()[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_encoder(tmp_path_factory.mktemp("encoder"), drop_path_rate=0.5))


@pytest.fixture
def counted(monkeypatch):
    """How often the encoder runs."""
    calls = []
    forward = SsambaModel.forward
    monkeypatch.setattr(SsambaModel, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    return calls


def test_features_are_what_the_model_reads(clips, encoder):
    names = features_of(CLASSIFIER_TYPES)
    assert names == ["last_hidden_state", "layer_means", "layer_tokens", "pooler_output", "statistics"]
    feature_extractor, model = ClassifierArguments(encoder, max_length=32).load(clips)
    collator = LabelledClipCollator(feature_extractor, 4, multi_hot=False)
    model.train()
    features = extract_features(model, clips.splits["test"], collator, names, batch_size=5)
    assert model.base_model.training
    rows = [clips.splits["test"][index] for index in range(12)]
    model.eval()
    with torch.no_grad():
        outputs = model.base_model(collator(rows)["input_values"], output_hidden_states=True)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(features[name].features, outputs[name])
    expected = outputs.hidden_states[2][:, 1:].mean(dim=1)
    torch.testing.assert_close(features["layer_means"].features[:, 0], expected)
    torch.testing.assert_close(features["layer_tokens"].features[:, 0], outputs.hidden_states[2])
    highest = outputs.last_hidden_state[:, 1:5].amax(dim=1)
    torch.testing.assert_close(features["statistics"].features[:, 64:96], highest)
    assert features["pooler_output"].labels.tolist() == clips.splits["test"]["label"]
    augmenting = LabelledClipCollator(feature_extractor, 4, False, Augmentation((), [UniformNoise()]))
    with pytest.raises(ValueError, match="must not augment"):
        extract_features(model, clips.splits["test"], augmenting)
    with pytest.raises(ValueError, match="`names` must be among last_hidden_state, .*, got 'logits'"):
        extract_features(model, clips.splits["test"], collator, ["logits"])


def test_features_of_padded_clips(clips, encoder):
    feature_extractor, model = ClassifierArguments(encoder, classifier_type="attentive").load(clips)
    feature_extractor.return_attention_mask, feature_extractor.max_length = True, 60
    collator = LabelledClipCollator(feature_extractor, 4, multi_hot=False)
    features = extract_features(model, clips.splits["test"], collator, ["last_hidden_state"])["last_hidden_state"]
    batch = collator([clips.splits["test"][index] for index in range(12)])
    with torch.no_grad():
        torch.testing.assert_close(model(**features.select(range(12))[:]).logits, model.eval()(**batch).logits)


def test_features_of_batches_with_and_without_padding(encoder, tmp_path):
    """Each clip keeps its own mask."""
    rng, paths = np.random.default_rng(0), []
    # In batches of two, the first has no padding.
    for index, seconds in enumerate((0.345, 0.345, 0.2, 0.3)):
        paths.append((tmp_path / f"{index}.wav", ("even", "odd")[index % 2]))
        soundfile.write(paths[-1][0], rng.normal(0, 0.1, int(seconds * 16000)), 16000)
    rows = make_dataset(paths, ["even", "odd"])
    clips = LabelledClips({"test": rows}, ["even", "odd"], False)
    feature_extractor, model = ClassifierArguments(
        encoder, classifier_type="attentive", return_attention_mask=True
    ).load(clips)
    collator = LabelledClipCollator(feature_extractor, 2, multi_hot=False)
    features = extract_features(model, rows, collator, ["last_hidden_state"], batch_size=2)["last_hidden_state"]
    outputs = model.eval().base_model(**{key: value for key, value in collator(list(rows)).items() if key != "labels"})
    assert torch.equal(features.patch_attention_mask, outputs.patch_attention_mask)
    torch.testing.assert_close(features.features, outputs.last_hidden_state)


@pytest.mark.parametrize("masks", [True, False])
def test_features_of_batches_that_are_padded_to_their_longest(encoder, tmp_path, masks):
    rng, paths = np.random.default_rng(0), []
    for index, seconds in enumerate((0.345, 0.345, 0.2, 0.2)):
        paths.append((tmp_path / f"{index}.wav", ("even", "odd")[index % 2]))
        soundfile.write(paths[-1][0], rng.normal(0, 0.1, int(seconds * 16000)), 16000)
    rows = make_dataset(paths, ["even", "odd"])
    feature_extractor, model = ClassifierArguments(
        encoder, classifier_type="attentive", return_attention_mask=masks
    ).load(LabelledClips({"test": rows}, ["even", "odd"], False))
    collator = LabelledClipCollator(feature_extractor, 2, multi_hot=False, padding="longest")
    names = ["last_hidden_state", "layer_tokens", "pooler_output", "statistics"]
    features = extract_features(model, rows, collator, names, batch_size=2)
    tokens, layers = features["last_hidden_state"].features, features["layer_tokens"].features
    assert layers.shape == (4, 1, *tokens.shape[1:])
    # After a shorter batch's longest clip there is nothing, along time alone.
    assert torch.equal(layers[:, 0].any(dim=-1), tokens.any(dim=-1))
    assert features["pooler_output"].features.shape == (4, 32)
    tokens = features["last_hidden_state"]
    # Unlike tensors of inference mode, they may be trained on.
    tokens.features.requires_grad_()
    logits = model.eval()(**tokens[:]).logits
    logits.sum().backward()
    assert tokens.features.grad.abs().sum() > 0
    for first in (0, 2):
        batch = collator([rows[first], rows[first + 1]])
        torch.testing.assert_close(logits[first : first + 2], model(**batch).logits)


def test_cache(clips, encoder, counted, tmp_path, capsys):
    feature_extractor, model = ClassifierArguments(encoder, max_length=32).load(clips)
    collator = LabelledClipCollator(feature_extractor, 4, multi_hot=False)
    first = extract_features(model, clips.splits["train"], collator, cache_dir=tmp_path)["pooler_output"]
    assert len(counted) == 2
    again = extract_features(model, clips.splits["train"], collator, cache_dir=tmp_path)["pooler_output"]
    assert len(counted) == 2
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.labels, again.labels)
    # Another head reads the same; other clips, features, inputs or weights do not.
    other_head = ClassifierArguments(encoder, classifier_type="prototypical", max_length=32).load_model(clips)
    extract_features(other_head, clips.splits["train"], collator, cache_dir=tmp_path)
    assert len(counted) == 2
    extract_features(model, clips.splits["test"], collator, cache_dir=tmp_path)
    extract_features(model, clips.splits["train"], collator, ["layer_means"], cache_dir=tmp_path)
    assert len(counted) == 5
    feature_extractor.mean += 1
    extract_features(model, clips.splits["train"], collator, cache_dir=tmp_path)
    assert len(counted) == 7
    next(model.base_model.parameters()).data.add_(0.1)
    extract_features(model, clips.splits["train"], collator, cache_dir=tmp_path)
    assert len(counted) == 9
    assert not list(tmp_path.glob("*.partial"))
    # A damaged file, or one of something else, is computed again, and this is said.
    for content in (b"", safetensors.torch.save({"labels": torch.zeros(2)})):
        for path in tmp_path.iterdir():
            path.write_bytes(content)
        last = extract_features(model, clips.splits["train"], collator, cache_dir=tmp_path)["pooler_output"]
        assert len(last) == len(first)
        assert ".safetensors is damaged" in capsys.readouterr().out
    assert len(counted) == 13


def test_probing_a_thousand_clips_takes_seconds(encoder, clips, tmp_path):
    features = FeatureDataset(torch.randn(1000, 17, 32), torch.arange(1000) % 4)
    model = ClassifierArguments(encoder, classifier_type="attentive").load_model(clips)
    model.freeze_base_model()
    arguments = FineTuningArguments(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=50, report_to="none",
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    start = time.perf_counter()
    FineTuningTrainer(model=model, args=arguments, train_dataset=features).train()
    assert time.perf_counter() - start < 10


# ---- The probes ----


@pytest.fixture(scope="module")
def comparison(clips, encoder, tmp_path_factory):
    arguments = ComparisonArguments(
        output_dir=str(tmp_path_factory.mktemp("probes")), methods=list(METHODS), epochs=200, batch_size=10
    )
    return Comparison(ClassifierArguments(encoder), clips, arguments)


@pytest.mark.parametrize("method", CLASSIFIER_TYPES)
def test_probes_overfit_and_work_in_the_pipeline(comparison, clips, method, tmp_path):
    accuracy, model, _ = comparison.run(method, seed=0, split="train")
    assert accuracy["accuracy"] == 1.0
    reference = comparison.classifier.load_model(clips)
    for name, parameter in model.base_model.named_parameters():
        assert torch.equal(parameter, reference.base_model.get_parameter(name)), name

    model.save_pretrained(tmp_path)
    comparison.feature_extractor.save_pretrained(tmp_path)
    classifier = pipeline("audio-classification", model=str(tmp_path), top_k=None)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    for row in clips.splits["train"]:
        samples = read_audio(row["audio"], 16000)
        scores = {entry["label"]: entry["score"] for entry in classifier(samples)}
        assert max(scores, key=scores.get) == clips.names[row["label"]]
        with torch.no_grad():
            inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
            expected = model.eval()(**inputs).logits[0].softmax(dim=-1)
        assert [scores[name] for name in clips.names] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("model_type", ["ssamba", "ssast"])
def test_probes_of_frames(clips, tmp_path, model_type):
    """Of either encoder on patches as tall as the spectrogram; the frozen encoder stays as it was."""
    frames = {"patch_size": [128, 2], "frequency_stride": 128, "time_stride": 2}
    checkpoint = str(save_encoder(tmp_path / "encoder", model_type, **frames))
    arguments = ComparisonArguments(str(tmp_path), methods=["knn", *CLASSIFIER_TYPES], epochs=30, batch_size=10)
    comparison = Comparison(ClassifierArguments(checkpoint), clips, arguments)
    assert comparison.base_model.config.patch_grid() == (1, 16)
    weights = comparison.base_model.base_model.state_dict()
    for method in arguments.methods:
        metrics, model, _ = comparison.run(method, seed=0)
        # Chance is a quarter.
        assert metrics["accuracy"] > 0.25, method
        if model is not None:
            assert all(torch.equal(value, weights[name]) for name, value in model.base_model.state_dict().items())


@pytest.mark.parametrize("method", ["knn", "lora", "full"])
def test_other_methods(comparison, method):
    comparison.arguments.encoder_epochs = 2
    metrics, model, _ = comparison.run(method, seed=0, indices=[0, 1, 5, 6, 10, 11, 15, 16])
    assert list(metrics) == ["accuracy", "macro_f1"]
    assert (model is None) == (method == "knn")
    again, *_ = comparison.run(method, seed=0, indices=[0, 1, 5, 6, 10, 11, 15, 16])
    assert again == metrics


def test_several_labels(encoder, tmp_path, clips):
    tables = {
        split: rows.remove_columns("label").add_column("label", [[clips.names[i], "any"] for i in rows["label"]])
        for split, rows in clips.splits.items()
    }
    several = label_clips({name: table.cast_column("audio", datasets.Audio(decode=False)) for name, table in tables.items()}, "data")  # fmt: skip
    arguments = ComparisonArguments(str(tmp_path), methods=["knn", "prototypical"], epochs=3)
    comparison = Comparison(ClassifierArguments(encoder), several, arguments)
    for method in arguments.methods:
        metrics, *_ = comparison.run(method, seed=0)
        assert list(metrics) == ["mAP", "cmAP", "macro_auroc", "d_prime", "top1_accuracy"]
        assert metrics["top1_accuracy"] > 0.5


# ---- k-NN and draws ----


def test_knn():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    train = FeatureDataset(features, torch.tensor([0, 0, 1, 1, 2]))
    scores = knn_scores(train, torch.tensor([[5.0, 0.2], [0.1, 0.3], [-3.0, 0.1]]))
    assert scores.shape == (3, 3)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)
    # Only the neighbours count.
    assert knn_scores(train, torch.tensor([[1.0, 0.0]]), num_neighbors=2)[0, 1:].tolist() == [0, 0]
    # One clip of each class: the nearest decides.
    assert knn_scores(train.select([0, 2, 4]), torch.tensor([[0.9, 1.0]])).argmax() == 1
    hot = FeatureDataset(features, torch.nn.functional.one_hot(train.labels).float())
    np.testing.assert_allclose(knn_scores(hot, features), knn_scores(train, features), rtol=1e-6)


def test_few_shot_draws():
    labels = [0] * 10 + [1] * 5 + [2] * 7
    first = draw_few_shot(labels, 5, seed=0)
    assert sorted(np.array(labels)[first]) == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(first)) == 15
    assert draw_few_shot(labels, 5, seed=0) == first
    assert draw_few_shot(labels, 5, seed=1) != first
    with pytest.raises(InputError, match="at most 5, the clips of class 1, got 6"):
        draw_few_shot(labels, 6, seed=0)
    with pytest.raises(InputError, match="at least 1 .* got 0"):
        draw_few_shot(labels, 0, seed=0)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="--methods must be among knn, .*, got 'svm'"):
        ComparisonArguments("out", methods=["svm"])
    with pytest.raises(InputError, match="--epochs must be at least 1, got 0"):
        ComparisonArguments("out", epochs=0)


# ---- Pictures ----


def shapes_in(figure) -> list[tuple[int, ...]]:
    return [image.get_array().shape for axes in figure.axes for image in axes.images]


def test_similarity_picture(clips, encoder, tmp_path):
    feature_extractor, model = ClassifierArguments(encoder, classifier_type="prototypical", max_length=32).load(clips)
    batch = LabelledClipCollator(feature_extractor, 4, multi_hot=False)([clips.splits["test"][0]])
    with torch.no_grad():
        maps = model.eval()(batch["input_values"]).similarity_maps[0]
    maps[2, 7, 3, 1] = 1.0
    figure = plot_similarity(batch["input_values"][0], maps, model.config, label=2, num_prototypes=2)
    # The spectrogram alone, and under the maps of the two best prototypes.
    assert shapes_in(figure) == [(128, 32), (128, 32), (4, 4), (128, 32), (4, 4)]
    assert "prototype 7: 1.00" in figure.axes[1].get_title()
    assert clips.names[2] in figure.axes[1].get_title()
    (frame,) = figure.axes[1].patches
    assert frame.get_xy() == (0.08, 96)
    assert (frame.get_width(), frame.get_height()) == (0.08, 32)
    assert figure.axes[1].get_xlim() == pytest.approx((0, 0.32))
    with pytest.raises(ValueError, match="`similarity_maps` must have the shape"):
        plot_similarity(batch["input_values"][0], maps[None], model.config, label=2)
    with pytest.raises(ValueError, match=r"`label` must be in 0 \.\.\. 3, got 4"):
        plot_similarity(batch["input_values"][0], maps, model.config, label=4)


def test_other_pictures(clips, encoder, tmp_path):
    feature_extractor = ClassifierArguments(encoder, max_length=32).load_feature_extractor(clips)
    collator = LabelledClipCollator(feature_extractor, 4, False, Augmentation((), [UniformNoise()]))
    figure = plot_augmentation(collator, [clips.splits["test"][index] for index in (0, 4)], clips.names, versions=2)
    assert shapes_in(figure) == [(128, 32)] * 6
    assert figure.axes[0].get_title() == f"as it is: {clips.names[0]} 1"
    first, second = figure.axes[0].images[0].get_array(), figure.axes[1].images[0].get_array()
    assert 0 < (second - first).max() <= 0.1

    figure = plot_confusion_matrix([0, 0, 1, 1], [0, 0, 0, 1], ["a", "b", "c"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 0]])
    assert not plot_confusion_matrix([0], [0], [str(index) for index in range(60)]).axes[0].texts

    names = ["$", "5$ \\x$", "c"]
    figure = plot_confusion_matrix([0, 1], [0, 1], names)
    for labels in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
        assert [label.get_text() for label in labels] == names
    # What is no formula is not read as one, which would end the drawing.
    save_figure(figure, tmp_path / "confusion_matrix.png")
    figure = plot_augmentation(collator, [clips.splits["test"][4]], ["a", "5$ \\x$", "c", "d"], versions=1)
    save_figure(figure, tmp_path / "augmentation.png")

    history = [
        {"epoch": 1.0, "loss": 2.0},
        {"epoch": 1.0, "eval_loss": 3.0, "eval_accuracy": 0.5},
        {"epoch": 2.0, "loss": 1.0},
    ]
    figure = plot_learning_curve(history, "accuracy")
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[2, 1], [3]]
    assert [line.get_ydata().tolist() for line in figure.axes[1].lines] == [[0.5]]

    figure = plot_few_shot({"linear": {1: [0.4, 0.6], 5: [0.7]}}, "accuracy")
    (container,) = figure.axes[0].containers
    assert container[0].get_ydata().tolist() == [0.5, 0.7]
    save_figure(figure, tmp_path / "new" / "few_shot.png")
    assert (tmp_path / "new" / "few_shot.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["few_shot.png"]
