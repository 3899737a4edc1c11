# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics: against values worked out by hand, through evaluate, and as `compute_metrics`."""

import evaluate
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import EvalPrediction, pipeline

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification
from hf_audio_ssm.evaluation.metrics import (
    METRICS,
    Accuracy,
    ClassMeanAveragePrecision,
    DPrime,
    MacroAUROC,
    MacroF1,
    MeanAveragePrecision,
    Top1Accuracy,
    make_compute_metrics,
)


# The third class has no positive, the fourth no negative.
LABELS = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]])
SCORES = np.array([[0.9, 0.1, 0.3, 0.2], [0.8, 0.7, 0.95, 0.4], [0.7, 0.3, 0.1, 0.5], [0.1, 0.4, 0.2, 0.6]])
# Class 0 ranks its positives 1st and 3rd, class 1 1st and 3rd, class 3 all of them.
AVERAGE_PRECISION = ((1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 1.0)


def test_classes_without_positives_are_left_out():
    inputs = {"predictions": SCORES, "references": LABELS}
    assert MeanAveragePrecision().compute(**inputs)["mAP"] == pytest.approx(np.mean(AVERAGE_PRECISION))
    assert ClassMeanAveragePrecision().compute(**inputs)["cmAP"] == pytest.approx(np.mean(AVERAGE_PRECISION))
    assert ClassMeanAveragePrecision().compute(**inputs, min_positives=3)["cmAP"] == 1.0
    # Of the 4 pairs of a positive and a negative of class 0, and of class 1, 3 are in order each.
    assert MacroAUROC().compute(**inputs)["macro_auroc"] == pytest.approx(0.75)
    assert DPrime().compute(**inputs)["d_prime"] == pytest.approx(2**0.5 * 0.6744897501960817)


def test_top1_leaves_out_clips_without_labels():
    labels = LABELS[:, :3]
    # Of the three labelled clips the first and the third are right.
    assert Top1Accuracy().compute(predictions=SCORES[:, :3], references=labels)["top1_accuracy"] == pytest.approx(
        2 / 3
    )


def test_single_label():
    assert Accuracy().compute(predictions=[0, 1, 2], references=[0, 1, 1])["accuracy"] == pytest.approx(2 / 3)
    # F1 of class 0 is 1, of class 1 2/3, of class 2, which is only predicted, 0.
    assert MacroF1().compute(predictions=[0, 1, 2], references=[0, 1, 1])["macro_f1"] == pytest.approx(5 / 9)
    assert Accuracy().compute(predictions=["yes", "no"], references=["yes", "yes"])["accuracy"] == 0.5
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    assert Accuracy().compute(predictions=scores, references=torch.tensor([1, 1]))["accuracy"] == 0.5


def test_combine():
    single = evaluate.combine([Accuracy(), MacroF1()])
    assert single.compute(predictions=[0, 1], references=[0, 1]) == {"accuracy": 1.0, "macro_f1": 1.0}
    multi = evaluate.combine([metric() for metric in METRICS["multi_label_classification"]])
    results = multi.compute(predictions=SCORES, references=LABELS)
    assert set(results) == {"mAP", "cmAP", "macro_auroc", "d_prime", "top1_accuracy"}


def test_batches_add_up():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[1], references=[1])
    assert metric.compute()["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("ignore")
def test_evaluator():
    torch.manual_seed(0)
    model = SsambaForAudioClassification(SsambaConfig(hidden_size=32, num_hidden_layers=2, max_length=100))
    feature_extractor = SsambaFeatureExtractor(max_length=100)
    classifier = pipeline("audio-classification", model=model, feature_extractor=feature_extractor)
    clips = np.random.default_rng(0).normal(size=(4, 4000))
    features = Features({"audio": List(Value("float32")), "label": ClassLabel(names=["LABEL_0", "LABEL_1"])})
    data = Dataset.from_dict({"audio": clips, "label": [0, 1, 0, 1]}, features=features).with_format("numpy")
    results = evaluate.evaluator("audio-classification").compute(
        # evaluate 0.4.6 takes models and paths, but no pipelines of transformers 5.
        model_or_pipeline=model,
        feature_extractor=feature_extractor,
        data=data,
        metric=Accuracy(),
        input_column="audio",
        label_mapping=model.config.label2id,
    )
    expected = np.mean(
        [model.config.label2id[classifier(x)[0]["label"]] == y for x, y in zip(clips, [0, 1] * 2, strict=True)]
    )
    assert results["accuracy"] == expected


@pytest.mark.parametrize("problem_type", METRICS)
def test_compute_metrics(problem_type):
    compute_metrics = make_compute_metrics(problem_type)
    labels = LABELS if problem_type.startswith("multi") else np.array([0, 1, 0, 3])
    results = compute_metrics(EvalPrediction(predictions=SCORES, label_ids=labels))
    assert list(results) == [metric.key for metric in METRICS[problem_type]]
    for metric in METRICS[problem_type]:
        assert results[metric.key] == pytest.approx(
            metric().compute(predictions=SCORES, references=labels)[metric.key]
        )


def test_compute_metrics_takes_one_hot_labels_and_more_outputs():
    compute_metrics = make_compute_metrics("single_label_classification")
    prediction = EvalPrediction(predictions=(SCORES, "hidden states"), label_ids=np.eye(4)[[0, 2, 0, 3]])
    assert compute_metrics(prediction)["accuracy"] == 1.0


def test_compute_metrics_of_labels_that_leave_some_undefined():
    compute_metrics = make_compute_metrics("multi_label_classification")
    one_clip = compute_metrics(EvalPrediction(predictions=SCORES[:1], label_ids=LABELS[:1]))
    assert {key for key, value in one_clip.items() if np.isnan(value)} == {"macro_auroc", "d_prime"}
    unlabelled = compute_metrics(EvalPrediction(predictions=SCORES, label_ids=np.zeros_like(LABELS)))
    assert np.isnan(list(unlabelled.values())).all()
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_metrics(EvalPrediction(predictions=SCORES * np.nan, label_ids=LABELS))


@pytest.mark.parametrize(
    ("metric", "predictions", "references", "message"),
    [
        (MeanAveragePrecision, SCORES, np.zeros_like(LABELS), "No class has a positive among the 4"),
        (MeanAveragePrecision, SCORES, 2 * LABELS, "zeros and ones"),
        (MeanAveragePrecision, SCORES * np.nan, LABELS, "NaN or infinite"),
        (MeanAveragePrecision, SCORES[:, :2], LABELS, r"\(4, 2\) and \(4, 4\)"),
        (MacroAUROC, SCORES, np.ones_like(LABELS), "both a positive and a negative"),
        (Top1Accuracy, SCORES, np.zeros_like(LABELS), "None of the 4"),
        (Accuracy, SCORES, [0, 1, 2, 4], r"classes in 0 \.\.\. 3, got 4"),
        (Accuracy, [], [], "at least one clip"),
    ],
)
def test_errors(metric, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metric.score(predictions, references)


def test_errors_of_arguments():
    with pytest.raises(ValueError, match="min_positives.*got 0"):
        MeanAveragePrecision.score(SCORES, LABELS, min_positives=0)
    with pytest.raises(ValueError, match="problem_type.*'regression'"):
        make_compute_metrics("regression")
