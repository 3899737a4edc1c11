# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Metrics of audio classification, as `evaluate.Metric` classes to be instantiated directly, without a download.

Single-label metrics compare classes: ids or names; from scores, they take the best class. Multi-label metrics compare
scores for each class, of any scale, with zeros and ones. Classes without a positive have no ranking; means leave them out,
as in the evaluation of AudioSet and BirdSet (arXiv 2403.10380).

    combined = evaluate.combine([Accuracy(), MacroF1()])
    trainer = Trainer(..., compute_metrics=make_compute_metrics("single_label_classification"))
"""

from collections.abc import Callable

import evaluate
import numpy as np
from datasets import Features, List, Value
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from transformers import EvalPrediction


_SCORES = List(Value("float64"))
_CLASS_FEATURES = [
    Features({"predictions": _SCORES, "references": Value("int64")}),
    Features({"predictions": Value("string"), "references": Value("string")}),
    Features({"predictions": Value("int64"), "references": Value("int64")}),
]
_RANKING_FEATURES = Features({"predictions": _SCORES, "references": List(Value("int64"))})


class _UndefinedError(ValueError):
    """The references leave a metric without a value."""


def _read_classes(predictions: ArrayLike, references: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.ndim == 2:
        _check_finite(predictions)
        outside = (references < 0) | (references >= predictions.shape[1])
        if outside.any():
            raise ValueError(
                f"`references` must be classes in 0 ... {predictions.shape[1] - 1}, got {references[outside][0]}."
            )
        predictions = np.asarray(predictions.argmax(axis=1))
    if predictions.shape != references.shape or predictions.ndim != 1 or not len(references):
        raise ValueError(
            "`predictions` and `references` must hold one class for each of at least one clip, got the shapes "
            f"{predictions.shape} and {references.shape}."
        )
    return predictions, references


def _read_rankings(predictions: ArrayLike, references: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predictions, references = np.asarray(predictions, dtype=np.float64), np.asarray(references)
    if predictions.shape != references.shape or predictions.ndim != 2 or not predictions.size:
        raise ValueError(
            "`predictions` and `references` must both have the shape (clips, classes), got "
            f"{predictions.shape} and {references.shape}."
        )
    _check_finite(predictions)
    if not np.isin(references, (0, 1)).all():
        raise ValueError("`references` must be zeros and ones, one for each class of each clip.")
    return predictions, references.astype(np.int64)


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ValueError("`predictions` holds scores that are NaN or infinite; expected finite numbers.")


def _mean_over_classes(
    score: Callable[[np.ndarray, np.ndarray], float],
    predictions: np.ndarray,
    references: np.ndarray,
    usable: np.ndarray,
    what: str,
) -> float:
    if not usable.any():
        raise _UndefinedError(f"No class has {what} among the {len(references)} `references`.")
    return float(np.mean([score(references[:, c], predictions[:, c]) for c in np.flatnonzero(usable)]))


class _ClassificationMetric(evaluate.Metric):
    """Base of all metrics here. Subclasses define `key`, the name of the result, and `score`."""

    key: str
    features = _RANKING_FEATURES

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description="`predictions` and `references`, one of each for a clip.",
            features=type(self).features,
        )

    def _compute(self, predictions: ArrayLike, references: ArrayLike, **kwargs) -> dict[str, float]:
        return {self.key: self.score(predictions, references, **kwargs)}


class Accuracy(_ClassificationMetric):
    """Share of the clips whose class is predicted."""

    key = "accuracy"
    features = _CLASS_FEATURES

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike) -> float:
        """The metric of classes `(clips,)`; predictions may be scores `(clips, classes)`. `ValueError` if they are unusable."""
        predictions, references = _read_classes(predictions, references)
        return float(accuracy_score(references, predictions))


class MacroF1(_ClassificationMetric):
    """F1 score, the mean over the classes that occur in the predictions or the references."""

    key = "macro_f1"
    features = _CLASS_FEATURES

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike) -> float:
        """The metric of classes `(clips,)`; predictions may be scores `(clips, classes)`. `ValueError` if they are unusable."""
        predictions, references = _read_classes(predictions, references)
        return float(f1_score(references, predictions, average="macro", zero_division=0))


class MeanAveragePrecision(_ClassificationMetric):
    """mAP: average precision, the mean over the classes with a positive."""

    key = "mAP"

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike, min_positives: int = 1) -> float:
        """
        The metric of scores and of zeros and ones, both `(clips, classes)`.

        Args:
            predictions (array): The scores.
            references (array): The zeros and ones.
            min_positives (`int`, *optional*, defaults to 1): Least number of positives of a class that counts.

        Raises:
            `ValueError`: If they cannot be used.
        """
        if min_positives < 1:
            raise ValueError(f"`min_positives` must be at least 1, got {min_positives}.")
        predictions, references = _read_rankings(predictions, references)
        usable = references.sum(axis=0) >= min_positives
        what = "a positive" if min_positives == 1 else f"{min_positives} positives"
        return _mean_over_classes(average_precision_score, predictions, references, usable, what)


class ClassMeanAveragePrecision(MeanAveragePrecision):
    """
    cmAP of BirdSet: another name of mAP; cmAP5 is that with `min_positives=5`.
    """

    key = "cmAP"


class MacroAUROC(_ClassificationMetric):
    """Area under the ROC curve, the mean over the classes with a positive and a negative."""

    key = "macro_auroc"

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike) -> float:
        """The metric of scores and of zeros and ones, both `(clips, classes)`. `ValueError` if they are unusable."""
        predictions, references = _read_rankings(predictions, references)
        positives = references.sum(axis=0)
        usable = (positives > 0) & (positives < len(references))
        return _mean_over_classes(roc_auc_score, predictions, references, usable, "both a positive and a negative")


class DPrime(_ClassificationMetric):
    """d' of AudioSet: the square root of 2 times the normal quantile of the macro AUROC; infinite if that is 1."""

    key = "d_prime"

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike) -> float:
        """The metric of scores and of zeros and ones, both `(clips, classes)`. `ValueError` if they are unusable."""
        return float(2**0.5 * norm.ppf(MacroAUROC.score(predictions, references)))


class Top1Accuracy(_ClassificationMetric):
    """Share of the clips whose best-scored class is among their labels; clips without a label do not count."""

    key = "top1_accuracy"

    @staticmethod
    def score(predictions: ArrayLike, references: ArrayLike) -> float:
        """The metric of scores and of zeros and ones, both `(clips, classes)`. `ValueError` if they are unusable."""
        predictions, references = _read_rankings(predictions, references)
        labelled = references.any(axis=1)
        if not labelled.any():
            raise _UndefinedError(f"None of the {len(references)} `references` has a label.")
        best = predictions[labelled].argmax(axis=1)
        return float(references[labelled][np.arange(len(best)), best].mean())


METRICS = {
    "single_label_classification": (Accuracy, MacroF1),
    "multi_label_classification": (MeanAveragePrecision, ClassMeanAveragePrecision, MacroAUROC, DPrime, Top1Accuracy),
}


def make_compute_metrics(problem_type: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """
    Makes the `compute_metrics` of a `Trainer`, with all metrics of a problem type; the first is the task's own. What the
    labels leave undefined, such as mAP where no clip has one, is NaN, so that training goes on.

    Args:
        problem_type (`str`): "single_label_classification" or "multi_label_classification", as in a configuration.

    Raises:
        `ValueError`: for another problem type.
    """
    if problem_type not in METRICS:
        raise ValueError(f"`problem_type` must be one of {', '.join(METRICS)}, got {problem_type!r}.")

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        scores = prediction.predictions
        scores = scores[0] if isinstance(scores, tuple) else scores
        labels = np.asarray(prediction.label_ids)
        # One-hot labels, as binary cross-entropy on a single label takes them.
        if problem_type == "single_label_classification" and labels.ndim == 2:
            labels = labels.argmax(axis=1)
        return {metric.key: score(metric, scores, labels) for metric in METRICS[problem_type]}

    def score(metric: type[_ClassificationMetric], scores: np.ndarray, labels: np.ndarray) -> float:
        try:
            return metric.score(scores, labels)
        except _UndefinedError:
            return float("nan")

    return compute_metrics
