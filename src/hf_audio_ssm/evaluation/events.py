# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sound events: a table of events from scores along time, and its agreement with a reference (T. Mesaros et al., "Metrics for
Polyphonic Sound Event Detection", 2016). The numbers are those of sed_eval, with two exceptions: times that differ from a
tolerance or a whole segment only by rounding count as equal, and 0 replaces NaN.

A table of events is a `pandas.DataFrame` with the columns `onset` and `offset` (seconds), `label` and, if decoded, `score`
(the mean over the event). `to_json(orient="records")` converts it to JSON. The column `file` distinguishes recordings.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching


EVENT_COLUMNS = ["onset", "offset", "label", "score"]


def _check_labels(argument: str, names: Collection[str], labels: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(labels)):
        raise ValueError(f"`{argument}` names {unknown}, expected some of {list(labels)}.")


def _limits(threshold: float | Mapping[str, float], labels: Sequence[str]) -> np.ndarray:
    """The threshold of each label, (labels,)."""
    thresholds = threshold if isinstance(threshold, Mapping) else dict.fromkeys(labels, threshold)
    _check_labels("threshold", thresholds, labels)
    for label, value in thresholds.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`threshold` must be between 0 and 1, got {value!r} for {label!r}.")
    return np.array([thresholds.get(label, 0.5) for label in labels])


def decode_events(
    scores: np.ndarray,
    labels: Sequence[str],
    seconds_per_step: float,
    threshold: float | Mapping[str, float] = 0.5,
    median_filter_seconds: float = 0.0,
    min_seconds: float = 0.0,
    single_label: bool = False,
    background: Sequence[str] = (),
) -> pd.DataFrame:
    """
    Turns scores along time into events. Steps at or above the threshold are smoothed by a median filter and joined to runs;
    short runs are dropped.

    Args:
        scores (`np.ndarray` of shape `(steps, labels)`): Probabilities.
        labels (`Sequence[str]`): The labels' names, in the order of the scores.
        seconds_per_step (`float`): Length of a time step.
        threshold (`float` or mapping, *optional*, defaults to 0.5): Lowest score of an event's steps, for all labels or each.
        median_filter_seconds (`float`, *optional*, defaults to 0.0):
            Width of the median filter, rounded to an odd number of steps.
        min_seconds (`float`, *optional*, defaults to 0.0): Shortest event.
        single_label (`bool`, *optional*, defaults to `False`): Whether only the best label of each step counts.
        background (`Sequence[str]`, *optional*): Labels without events, such as silence.

    Returns:
        `pd.DataFrame` with the columns `onset`, `offset`, `label` and `score`, by onset.

    Raises:
        `ValueError`: for arguments out of range, and labels that do not fit.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise ValueError(f"`scores` must have the shape (steps, labels={len(labels)}), got {scores.shape}.")
    for name, value, minimum in (
        ("seconds_per_step", seconds_per_step, 1e-6),
        ("median_filter_seconds", median_filter_seconds, 0),
        ("min_seconds", min_seconds, 0),
    ):
        if not minimum <= value < math.inf:
            raise ValueError(f"`{name}` must be a number of seconds of at least {minimum}, got {value!r}.")
    _check_labels("background", background, labels)

    is_active = scores >= _limits(threshold, labels)
    if single_label:
        is_active &= scores.argmax(axis=1, keepdims=True) == np.arange(len(labels))
    width = round(median_filter_seconds / seconds_per_step)
    if width > 1:
        is_active = median_filter(is_active.astype(np.uint8), size=(width + 1 - width % 2, 1), mode="nearest") > 0
    events = []
    for index, label in enumerate(labels):
        if label in background:
            continue
        edges = np.flatnonzero(np.diff(np.pad(is_active[:, index].astype(np.int8), 1)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            # The slack is for rounding.
            if (end - start) * seconds_per_step >= min_seconds - 1e-9:
                score = scores[start:end, index].mean()
                events.append((start * seconds_per_step, end * seconds_per_step, label, score))
    return pd.DataFrame(sorted(events), columns=EVENT_COLUMNS)


def _by_file(references: pd.DataFrame, predictions: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    for name, events in (("references", references), ("predictions", predictions)):
        if missing := sorted({"onset", "offset", "label"} - set(events.columns)):
            raise ValueError(f"`{name}` must have the columns onset, offset and label; {missing} are missing.")
        if len(events) and not (events["onset"] <= events["offset"]).all():
            raise ValueError(f"`{name}` holds events that end before they begin.")
    if ("file" in references.columns) != ("file" in predictions.columns):
        raise ValueError("`references` and `predictions` must both have the column file, or neither.")
    if "file" not in references.columns:
        return [(references, predictions)]
    files = sorted(set(references["file"]) | set(predictions["file"]))
    return [(references[references["file"] == file], predictions[predictions["file"] == file]) for file in files]


def _labels_of(references: pd.DataFrame, predictions: pd.DataFrame) -> list[str]:
    labels = sorted(set(references["label"]) | set(predictions["label"]))
    if not labels:
        raise ValueError("`references` and `predictions` hold no event: there is nothing to score.")
    return labels


def _summarize(counts: np.ndarray) -> dict[str, float]:
    """The scores of the counts of matched, true and found events or segments, `(labels, 3)`; every label has some."""

    def f1_of(matched: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
        return 2 * matched / (true + found)

    matched, true, found = counts.sum(axis=0)
    return {
        "f1": float(f1_of(matched, true, found)),
        "precision": float(matched / found) if found else 0.0,
        "recall": float(matched / true) if true else 0.0,
        "macro_f1": float(f1_of(*counts.T).mean()),
    }


def segment_based_f1(
    references: pd.DataFrame, predictions: pd.DataFrame, segment_seconds: float = 1.0
) -> dict[str, float]:
    """
    Compares the labels that are active in each segment of time.

    Args:
        references (`pd.DataFrame`): The true events.
        predictions (`pd.DataFrame`): The events found.
        segment_seconds (`float`, *optional*, defaults to 1.0): Length of a segment.

    Returns:
        `dict[str, float]`: `f1`, `precision` and `recall` over all segments and labels, and `macro_f1`, the mean over
        labels.

    Raises:
        `ValueError`: for tables that lack a column or hold no event, and a length that is not positive.
    """
    if not 0 < segment_seconds < math.inf:
        raise ValueError(f"`segment_seconds` must be a positive number, got {segment_seconds!r}.")
    pairs, labels = _by_file(references, predictions), _labels_of(references, predictions)
    counts = np.zeros((len(labels), 3))
    for pair in pairs:
        activities = []
        longest = max(0, *(events["offset"].max() if len(events) else 0 for events in pair))
        shape = (math.ceil(longest / segment_seconds) + 1, len(labels))
        for events in pair:
            is_active = np.zeros(shape, dtype=bool)
            for onset, offset, label in events[["onset", "offset", "label"]].itertuples(index=False):
                # Annotations may begin before the recording.
                first = math.floor(max(0, onset) / segment_seconds + 1e-9)
                end = math.ceil(offset / segment_seconds - 1e-9)
                # An event without length counts in one segment.
                is_active[first : max(end, first + 1), labels.index(label)] = True
            activities.append(is_active)
        true, found = activities
        counts += np.stack([(true & found).sum(axis=0), true.sum(axis=0), found.sum(axis=0)], axis=1)
    return _summarize(counts)


def event_based_f1(
    references: pd.DataFrame,
    predictions: pd.DataFrame,
    collar: float = 0.2,
    offset_share: float = 0.5,
    match_offsets: bool = True,
) -> dict[str, float]:
    """
    Compares events one by one. An event is found if another one of its label begins within the collar and, with
    `match_offsets`, ends within the collar or a share of its length. Each counts once, in the best assignment.

    Args:
        references (`pd.DataFrame`): The true events.
        predictions (`pd.DataFrame`): The events found.
        collar (`float`, *optional*, defaults to 0.2): Tolerance in seconds.
        offset_share (`float`, *optional*, defaults to 0.5): Tolerance of ends as a share of the true event's length.
        match_offsets (`bool`, *optional*, defaults to `True`): Whether ends count.

    Returns:
        `dict[str, float]`: `f1`, `precision` and `recall` over all events, and `macro_f1`, the mean over labels.

    Raises:
        `ValueError`: for tables that lack a column or hold no event, and negative tolerances.
    """
    for name, value in (("collar", collar), ("offset_share", offset_share)):
        if not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be zero or a positive number, got {value!r}.")
    pairs, labels = _by_file(references, predictions), _labels_of(references, predictions)
    counts = np.zeros((len(labels), 3))
    for pair in pairs:
        for index, label in enumerate(labels):
            true, found = (
                events.loc[events["label"] == label, ["onset", "offset"]].to_numpy(float) for events in pair
            )
            counts[index, 1:] += len(true), len(found)
            # The slack is for rounding.
            is_near = np.abs(true[:, None, 0] - found[None, :, 0]) <= collar + 1e-9
            if match_offsets:
                tolerance = np.maximum(collar, offset_share * (true[:, 1] - true[:, 0]))[:, None]
                is_near &= np.abs(true[:, None, 1] - found[None, :, 1]) <= tolerance + 1e-9
            if is_near.any():
                counts[index, 0] += (maximum_bipartite_matching(csr_array(is_near)) >= 0).sum()
    return _summarize(counts)
