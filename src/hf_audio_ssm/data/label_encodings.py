# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From the labels of clips, in the three encodings that data sets use, to class indices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import datasets

from ..audio.decoding import clip_name
from ..common.errors import ClipError, InputError
from .metadata import clean_text, label_fault


# Split -> its clips, in the columns `audio` and `label`.
Tables: TypeAlias = Mapping[str, datasets.Dataset]
# Split -> the class indices of each of its clips.
Classes: TypeAlias = dict[str, list[list[int]]]


def has_several_labels(table: datasets.Dataset) -> bool:
    """Whether the clips have lists of labels, not one label each."""
    return not isinstance(table.features["label"], (datasets.ClassLabel, datasets.Value))


def label_type(table: datasets.Dataset) -> datasets.ClassLabel | datasets.Value:
    """The type of a single label."""
    feature = table.features["label"]
    return feature.feature if has_several_labels(table) else feature


def clean_labels(tables: Tables, source: str) -> dict[str, datasets.Dataset]:
    """
    Labels without spaces around them, so that "dog" and "dog " are one class.

    Args:
        tables (`Mapping[str, datasets.Dataset]`): The splits.
        source (`str`): The name of the data in messages.

    Raises:
        [`InputError`]: If the column holds no labels, or a label is empty or has characters that cannot be printed.
    """
    cleaned = {}
    for split, table in tables.items():
        feature = table.features["label"]
        own = getattr(feature, "feature", feature)
        kinds = ("string", "large_string", "bool", "int", "uint", "float", "null")
        if isinstance(own, datasets.ClassLabel):
            cleaned[split] = _clean_class_names(table, own, source)
        elif not isinstance(own, datasets.Value) or not own.dtype.startswith(kinds):
            raise InputError(
                f"{source}: the column of labels must hold text, whole numbers, or lists of these, got {feature}"
            )
        elif own.dtype in ("string", "large_string"):
            cleaned[split] = _clean_texts(table, split)
        else:
            _refuse_nan(table, own, split)
            cleaned[split] = table
    return cleaned


def _refuse_nan(table: datasets.Dataset, own: datasets.Value, split: str) -> None:
    """Refuses labels that are no numbers, which equal nothing: tables with gaps hold them."""
    if own.dtype.startswith("float") and not has_several_labels(table):
        for row, label in enumerate(table["label"][:]):
            if label is None or not math.isfinite(label):
                raise ClipError(_place(table, split, row), f"has the label {label}")


def _place(table: datasets.Dataset, split: str, row: int) -> str:
    return f"{clip_name(table[row]['audio'])} (split {split}, row {row})"


def _clean_texts(table: datasets.Dataset, split: str) -> datasets.Dataset:
    labels, is_changed = [], False
    for row, label in enumerate(table["label"][:]):
        for one in label if isinstance(label, list) else [label]:
            if isinstance(one, str) and (fault := label_fault(one)):
                raise ClipError(_place(table, split, row), f"has {fault}")
        texts = [
            clean_text(one) if isinstance(one, str) else one for one in (label if isinstance(label, list) else [label])
        ]
        labels.append(texts if isinstance(label, list) else texts[0])
        is_changed |= labels[-1] != label
    return _with_labels(table, labels, table.features["label"]) if is_changed else table


def _clean_class_names(table: datasets.Dataset, own: datasets.ClassLabel, source: str) -> datasets.Dataset:
    for name in own.names:
        if fault := label_fault(name):
            raise InputError(f"{source}: the ClassLabel has {fault}")
    names = [clean_text(name) for name in own.names]
    if names == own.names:
        return table
    kept = list(dict.fromkeys(names))
    index = {number: kept.index(name) for number, name in enumerate(names)}
    labels = [
        [index.get(one, one) for one in label] if isinstance(label, list) else index.get(label, label)
        for label in table["label"][:]
    ]
    feature = datasets.ClassLabel(names=kept)
    return _with_labels(table, labels, datasets.List(feature) if has_several_labels(table) else feature)


def _with_labels(table: datasets.Dataset, labels: list[Any], feature: Any) -> datasets.Dataset:
    return table.remove_columns("label").add_column("label", labels, feature=feature)


def encode_labels(tables: Tables, source: str) -> tuple[list[str], Classes]:
    """
    Finds out how the labels are encoded, and gives each clip its class indices.

    Args:
        tables (`Mapping[str, datasets.Dataset]`): The splits, "train" among them.
        source (`str`): The name of the data in messages.

    Returns:
        `tuple`: the name of each class, and split -> the class indices of each clip.

    Raises:
        [`InputError`]: If a label is missing, unknown or out of range, or there is only one class.
    """
    train = tables["train"]
    is_hot = has_several_labels(train) and has_value_per_class(tables)
    own_type = label_type(train)
    if isinstance(own_type, datasets.ClassLabel):
        if is_hot and len(train[0]["label"]) == len(own_type.names):
            raise InputError(
                f"{source}: lists of a ClassLabel must hold the indices of a clip's classes, got a zero or a one for every class"
            )
        return encode_indices(tables, own_type.names, source)
    if is_hot:
        return encode_zeros_and_ones(tables)
    if has_several_labels(train) and own_type.dtype.startswith("float"):
        raise InputError(
            f"{source}: lists of labels must hold the indices or the names of a clip's classes, or a zero or a one for every "
            f"class, got other numbers of type {own_type.dtype}"
        )
    return encode_names(tables, source)


def encode_names(tables: Tables, source: str) -> tuple[list[str], Classes]:
    """[`encode_labels`] of names or whole numbers: the classes are the labels of the training clips, sorted."""
    occurring = {label for labels in _as_lists(tables["train"]) for label in labels} - {None}
    values = sorted(occurring, key=lambda value: (str(type(value)), value))
    names = [str(value) for value in values]
    return names, _look_up(tables, {value: number for number, value in enumerate(values)}, ", ".join(names), source)


def encode_indices(tables: Tables, names: Sequence[str], source: str) -> tuple[list[str], Classes]:
    """[`encode_labels`] of the indices of a `ClassLabel`, whose names all splits must share."""
    index = {value: value for value in range(len(names))}
    classes = _look_up(tables, index, f"0 ... {len(names) - 1}", source)
    for split, table in tables.items():
        other = label_type(table)
        if isinstance(other, datasets.ClassLabel) and other.names != names:
            raise InputError(f"{source}: the split {split} names its classes {other.names}, train {names}")
    return list(names), classes


def has_value_per_class(tables: Tables) -> bool:
    """Whether all lists are equally long, 2 at least, and hold only zeros and ones."""
    lists = [label if isinstance(label, list) else [] for table in tables.values() for label in table["label"][:]]
    return len(lists[0]) >= 2 and all(len(label) == len(lists[0]) and set(label) <= {0, 1} for label in lists)


def encode_zeros_and_ones(tables: Tables) -> tuple[list[str], Classes]:
    """[`encode_labels`] of a zero or a one for every class: a class is named by its place in the lists."""
    classes = {
        split: [[place for place, is_there in enumerate(label) if is_there] for label in table["label"][:]]
        for split, table in tables.items()
    }
    return list(map(str, range(len(tables["train"][0]["label"])))), classes


def _as_lists(table: datasets.Dataset) -> list[list[Any]]:
    return [label if isinstance(label, list) else [label] for label in table["label"][:]]


def _look_up(tables: Tables, index: Mapping[Any, int], expected: str, source: str) -> Classes:
    """The class index of each label by `index`; messages call its keys `expected`."""
    if len(index) < 2:
        raise InputError(f"{source}: a classifier needs clips of at least 2 labels, found {list(map(str, index))}")
    classes: Classes = {}
    for split, table in tables.items():
        classes[split] = []
        for row, labels in enumerate(_as_lists(table)):
            for label in labels:
                if label not in index:
                    raise ClipError(_place(table, split, row), f"has the label {label!r}, expected one of {expected}")
            # A list of events may name a class several times.
            classes[split].append(list(dict.fromkeys(index[label] for label in labels)))
    return classes
