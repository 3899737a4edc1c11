# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Events from scores, and their metrics, against values of sed_eval 0.2.1."""

import json

import numpy as np
import pandas as pd
import pytest

from hf_audio_ssm.evaluation.events import decode_events, event_based_f1, segment_based_f1


LABELS = ["bird", "dog", "silence"]


def scores_of(**active) -> np.ndarray:
    scores = np.full((20, 3), 0.1)
    for label, runs in active.items():
        for start, end, value in runs:
            scores[start:end, LABELS.index(label)] = value
    return scores


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["onset", "offset", "label"])


def test_runs_become_events():
    scores = scores_of(bird=[(0, 3, 0.9), (5, 6, 0.5)], dog=[(2, 20, 0.7)])
    events = decode_events(scores, LABELS, 0.5)
    assert events.columns.tolist() == ["onset", "offset", "label", "score"]
    rows = [(0.0, 1.5, "bird", 0.9), (1.0, 10.0, "dog", 0.7), (2.5, 3.0, "bird", 0.5)]
    assert [tuple(row[:3]) for row in events.itertuples(index=False)] == [row[:3] for row in rows]
    assert events["score"].tolist() == pytest.approx([row[3] for row in rows])
    assert json.loads(events.to_json(orient="records"))[1]["offset"] == 10.0


def test_no_event():
    events = decode_events(scores_of(), LABELS, 1.0)
    assert events.empty
    assert events.columns.tolist() == ["onset", "offset", "label", "score"]
    assert decode_events(np.empty((0, 3)), LABELS, 1.0).empty


def test_thresholds_by_label():
    scores = scores_of(bird=[(0, 3, 0.6)], dog=[(5, 8, 0.6)])
    assert decode_events(scores, LABELS, 1.0, threshold={"bird": 0.7})["label"].tolist() == ["dog"]
    assert decode_events(scores, LABELS, 1.0, threshold=0.61).empty


def test_the_median_filter_closes_gaps_and_drops_flickers():
    scores = scores_of(bird=[(2, 5, 0.9), (6, 9, 0.9)], dog=[(15, 16, 0.9)])
    events = decode_events(scores, LABELS, 0.5, median_filter_seconds=1.5)
    assert events[["onset", "offset", "label"]].values.tolist() == [[1.0, 4.5, "bird"]]


def test_minimum_duration():
    scores = scores_of(bird=[(0, 3, 0.9)], dog=[(5, 7, 0.9)])
    assert decode_events(scores, LABELS, 0.1, min_seconds=0.3)["label"].tolist() == ["bird"]


def test_single_label_and_background():
    scores = scores_of(bird=[(0, 6, 0.6)], dog=[(2, 4, 0.8)], silence=[(6, 20, 0.9)])
    events = decode_events(scores, LABELS, 1.0, single_label=True, background=["silence"])
    assert events[["onset", "offset", "label"]].values.tolist() == [[0, 2, "bird"], [2, 4, "dog"], [4, 6, "bird"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": LABELS[:2]}, r"`scores` must have the shape \(steps, labels=2\), got \(20, 3\)"),
        ({"seconds_per_step": 0}, "`seconds_per_step`"),
        ({"median_filter_seconds": -1}, "`median_filter_seconds`"),
        ({"min_seconds": float("nan")}, "`min_seconds`"),
        ({"threshold": 1.5}, r"`threshold` must be between 0 and 1, got 1.5 for 'bird'"),
        ({"threshold": {"cat": 0.5}}, r"`threshold` names \['cat'\], expected some of"),
        ({"background": ["noise"]}, r"`background` names \['noise'\]"),
    ],
)
def test_bad_arguments_of_decoding(arguments, message):
    with pytest.raises(ValueError, match=message):
        decode_events(**{"scores": scores_of(), "labels": LABELS, "seconds_per_step": 1.0, **arguments})


def draw_events(rng, count) -> pd.DataFrame:
    rows = []
    for file in ("x", "y"):
        for _ in range(count):
            onset = rng.integers(0, 95) / 10
            rows.append((file, onset, onset + rng.integers(1, 15) / 10, "abc"[rng.integers(3)]))
    return pd.DataFrame(rows, columns=["file", "onset", "offset", "label"])


def test_metrics_are_those_of_sed_eval():
    rng = np.random.default_rng(0)
    references = draw_events(rng, 14)
    predictions = references.copy()
    predictions["onset"] += rng.integers(-3, 4, len(predictions)) / 10 * 0.9
    predictions["offset"] += rng.integers(-4, 5, len(predictions)) / 10 * 0.9
    predictions = pd.concat([predictions.sample(20, random_state=0), draw_events(rng, 3)]).reset_index(drop=True)
    predictions["onset"] = predictions["onset"].clip(lower=0)
    predictions["offset"] = np.maximum(predictions["offset"], predictions["onset"] + 0.05)
    by_segment, by_event = segment_based_f1(references, predictions), event_based_f1(references, predictions)
    assert by_segment["f1"] == pytest.approx(0.7272727272727272)
    assert by_segment["macro_f1"] == pytest.approx(0.7282765543635108)
    assert by_event["f1"] == pytest.approx(0.5185185185185186)
    assert by_event["macro_f1"] == pytest.approx(0.5194444444444444)


@pytest.mark.parametrize(
    ("true", "found", "by_segment", "by_event"),
    [
        # Touching events that were found as one, and one inside another.
        ([(0, 1, "dog"), (1, 2, "dog")], [(0, 2, "dog")], 1, 0),
        ([(0, 3, "dog"), (1, 2, "dog")], [(0, 3, "dog")], 1, 2 / 3),
        # At both ends; a segment's boundary, and just over it.
        ([(0, 0.5, "dog"), (9.5, 10, "cat")], [(0, 0.4, "dog"), (9.6, 10, "cat")], 1, 1),
        ([(1, 2, "dog")], [(2, 3, "dog")], 0, 0),
        ([(1, 2.001, "dog")], [(1, 2, "dog")], 2 / 3, 1),
        # Shorter than the collar; the same twice; labels in another order.
        ([(1, 1.01, "dog")], [(1.19, 1.2, "dog")], 1, 1),
        ([(0, 1, "dog")], [(0, 1, "dog"), (0.1, 1, "dog")], 1, 2 / 3),
        ([(0, 1, "dog"), (0, 1, "cat")], [(0, 1, "cat"), (0, 1, "dog")], 1, 1),
    ],
)
def test_odd_cases_are_those_of_sed_eval(true, found, by_segment, by_event):
    assert segment_based_f1(table(*true), table(*found))["f1"] == pytest.approx(by_segment)
    assert event_based_f1(table(*true), table(*found))["f1"] == pytest.approx(by_event)


def test_decoding_at_the_ends():
    """Events that touch each other or the ends stay as long as they are, with a filter, too."""
    scores = scores_of(bird=[(0, 2, 0.5), (18, 20, 0.5)], dog=[(2, 18, 0.9)])
    for width in (0.0, 0.2, 0.3):
        events = decode_events(scores, LABELS, 0.1, median_filter_seconds=width, min_seconds=0.2)
        expected = [(0.0, 0.2, "bird"), (0.2, 1.8, "dog"), (1.8, 2.0, "bird")]
        found = [tuple(row) for row in events[["onset", "offset", "label"]].values]
        assert [row[2] for row in found] == [row[2] for row in expected]
        np.testing.assert_allclose([row[:2] for row in found], [row[:2] for row in expected])


def test_event_based_tolerances():
    true = table((1.0, 2.0, "dog"))
    assert event_based_f1(true, table((1.2, 2.5, "dog")))["f1"] == 1
    assert event_based_f1(true, table((1.21, 2.0, "dog")))["f1"] == 0
    assert event_based_f1(true, table((1.0, 2.51, "dog")))["f1"] == 0
    assert event_based_f1(true, table((1.0, 9.0, "dog")), match_offsets=False)["f1"] == 1
    assert event_based_f1(true, table((1.0, 2.0, "cat")))["f1"] == 0
    twice = event_based_f1(true, table((1.0, 2.0, "dog"), (1.1, 2.0, "dog")))
    assert (twice["precision"], twice["recall"]) == (0.5, 1)
    # Taking the nearest one by one would leave the second without a partner.
    pair = event_based_f1(table((1.0, 2.0, "dog"), (1.3, 2.0, "dog")), table((1.15, 2.0, "dog"), (0.85, 2.0, "dog")))
    assert pair["f1"] == 1


def test_events_without_length_count():
    assert segment_based_f1(table((2.0, 2.0, "dog")), table((2.0, 3.0, "dog")))["f1"] == 1


def test_events_that_begin_before_the_recording():
    early = table((-0.05, 0.9, "dog"))
    assert segment_based_f1(early, early)["f1"] == 1
    assert segment_based_f1(early, table((0.0, 1.0, "dog")))["f1"] == 1
    before = table((-3.0, -2.5, "dog"))
    assert segment_based_f1(before, before)["f1"] == 1


def test_nothing_found():
    true, nothing = table((1.0, 2.0, "dog")), table()
    for metric in (segment_based_f1, event_based_f1):
        assert metric(true, nothing) == {"f1": 0, "precision": 0, "recall": 0, "macro_f1": 0}
        with pytest.raises(ValueError, match="hold no event"):
            metric(nothing, nothing)


def test_bad_tables_are_refused():
    true = table((1.0, 2.0, "dog"))
    with pytest.raises(ValueError, match=r"`predictions` must have the columns onset, offset and label; \['label'\]"):
        event_based_f1(true, true.drop(columns="label"))
    with pytest.raises(ValueError, match="end before they begin"):
        segment_based_f1(true, table((2.0, 1.0, "dog")))
    with pytest.raises(ValueError, match="both have the column file, or neither"):
        segment_based_f1(true, true.assign(file="a"))
    with pytest.raises(ValueError, match="`segment_seconds` must be a positive number"):
        segment_based_f1(true, true, segment_seconds=0)
    with pytest.raises(ValueError, match="`collar` must be zero or a positive number"):
        event_based_f1(true, true, collar=-1)
