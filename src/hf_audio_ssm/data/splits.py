# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits that keep clips, and groups of clips, apart: what given splits may not share, and the draw of those that are missing."""

import itertools
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common.errors import ClipError, InputError
from ..common.printable import printable
from .clip_identity import ClipNumbers
from .metadata import quote


# Share of the training clips that makes a missing split.
HELD_OUT = 0.15


@dataclass
class SplitRows:
    """
    The rows of a split.

    Args:
        clips (`Sequence[str]`): The name of each row's clip, in messages.
        classes (`list[list[int]]`): The class indices of each row.
        numbers ([`ClipNumbers`]): Equal for equal clips, also of other splits.
        groups (`Sequence[str]`, *optional*): The group of each row.
    """

    clips: Sequence[str]
    classes: list[list[int]]
    numbers: ClipNumbers
    groups: Sequence[str] | None = None


@dataclass
class SplitClips:
    """
    The clips of splits, each once.

    Args:
        rows (`dict[str, list[int]]`): Split -> a row of each clip.
        classes (`dict[str, list[list[int]]]`): Split -> the class indices of each clip, of all its rows.
        notes (`list[str]`): What was merged, and what the splits share.
        shared (`dict[str, int]`): Split -> how many of its clips equal a clip of a split before it, by content.
    """

    rows: dict[str, list[int]] = field(default_factory=dict)
    classes: dict[str, list[list[int]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)


def find_clips_of_rows(splits: Mapping[str, SplitRows], names: Sequence[str], is_multi_label: bool) -> SplitClips:
    """
    Takes the rows of a clip together, and checks that no clip contradicts itself.

    Args:
        splits (`Mapping[str, SplitRows]`): Split -> its rows; train first.
        names (`Sequence[str]`): The name of each class.
        is_multi_label (`bool`): Whether a clip has all labels of its rows. Otherwise, these must be equal.

    Raises:
        [`ClipError`]: If clips have different labels or groups in different rows, or are in several splits.
    """
    found = SplitClips()
    place_of_file: dict[int, tuple[str, int]] = {}
    repeated: Counter[str] = Counter()
    faults: list[ClipError] = []
    for split, rows in splits.items():
        found.rows[split], found.classes[split] = [], []
        for row, number in enumerate(rows.numbers.files.tolist()):
            if number not in place_of_file:
                place_of_file[number] = (split, len(found.rows[split]))
                found.rows[split].append(row)
                found.classes[split].append(list(rows.classes[row]))
                continue
            before, place = place_of_file[number]
            first = found.rows[before][place]
            classes = found.classes[before][place]
            if before != split and rows.numbers.are_named[row]:
                faults.append(ClipError(rows.clips[row], f"is in the splits {before} and {split}"))
            elif before != split:
                # Another data set may hold the same bytes: this is reported.
                place_of_file[number] = (split, len(found.rows[split]))
                found.rows[split].append(row)
                found.classes[split].append(list(rows.classes[row]))
            elif not is_multi_label and classes != rows.classes[row]:
                labels = " and ".join(quote(names[own[0]]) for own in (classes, rows.classes[row]))
                faults.append(ClipError(rows.clips[row], f"has the labels {labels} in different rows"))
            elif rows.groups is not None and rows.groups[row] != rows.groups[first]:
                groups = " and ".join(map(quote, (rows.groups[first], rows.groups[row])))
                faults.append(ClipError(rows.clips[row], f"has the groups {groups} in different rows"))
            else:
                repeated[split] += 1
                classes += [label for label in rows.classes[row] if label not in classes]
    _raise_first(faults)
    _compare_contents(splits, found, names, is_multi_label)
    _refuse_shared_groups(splits)
    for split, number in repeated.items():
        merged = "their labels were taken together" if is_multi_label else "each clip counts once"
        found.notes.append(f"{number} rows of {split} repeat a clip; {merged}")
    return found


def _raise_first(faults: Sequence[ClipError]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more such clips)" if len(faults) > 1 else ""
        raise ClipError(faults[0].clip, f"{faults[0].reason}{more}")


def _compare_contents(
    splits: Mapping[str, SplitRows], found: SplitClips, names: Sequence[str], is_multi_label: bool
) -> None:
    """Checks that files of equal content have equal labels, and notes those that splits share."""
    first: dict[int, tuple[str, int]] = {}
    faults: list[ClipError] = []
    examples: dict[str, str] = {}
    for split, rows in splits.items():
        for place, row in enumerate(found.rows[split]):
            before, other = first.setdefault(int(rows.numbers.contents[row]), (split, place))
            if (before, other) == (split, place):
                continue
            name = splits[before].clips[found.rows[before][other]]
            classes = found.classes[before][other], found.classes[split][place]
            if not is_multi_label and classes[0] != classes[1]:
                own, others = (quote(names[labels[0]]) for labels in reversed(classes))
                reason = f"has the label {own}, but the content of {printable(name)}, which has the label {others}"
                faults.append(ClipError(rows.clips[row], reason))
            elif before != split:
                found.shared[split] = found.shared.get(split, 0) + 1
                examples.setdefault(split, f"{rows.clips[row]} and {name}")
    _raise_first(faults)
    for split, number in found.shared.items():
        found.notes.append(f"{number} clips of {split} are not held out: an earlier split has their content, such as {examples[split]}")  # fmt: skip


def _refuse_shared_groups(splits: Mapping[str, SplitRows]) -> None:
    split_of: dict[str, str] = {}
    shared: dict[str, str] = {}
    for split, rows in splits.items():
        for group in rows.groups or ():
            if split_of.setdefault(group, split) != split:
                shared.setdefault(group, f"{split_of[group]} and {split}")
    if shared:
        group, where = next(iter(shared.items()))
        more = f", and {len(shared) - 1} more groups are in several" if len(shared) > 1 else ""
        raise InputError(
            f"--group_column: the group {quote(group)} is in the splits {where}{more}; give data without splits, so that they "
            "are drawn by group, or leave --group_column out"
        )


def draw_splits(labels: Sequence[str], missing: Sequence[str], seed: int, source: str) -> dict[str, list[int]]:
    """
    Draws the missing splits from train, label by label.

    Args:
        labels (`Sequence[str]`): The label of each training clip.
        missing (`Sequence[str]`): The splits to draw.
        seed (`int`): Seed for the draw.
        source (`str`): The name of the training clips in messages.

    Returns:
        `dict[str, list[int]]`: indices of the clips of each missing split, and of those that stay in "train".

    Raises:
        [`InputError`]: If a label has too few clips.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[int]] = {"train": [], **{split: [] for split in missing}}
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(label, []).append(index)
    for label, indices in sorted(by_label.items()):
        if len(indices) <= len(missing):
            raise InputError(
                f"{source}: label {quote(label)} has {len(indices)} clips; to draw {' and '.join(missing)} from them, at "
                f"least {len(missing) + 1} are needed"
            )
        indices = [indices[i] for i in rng.permutation(len(indices))]
        count = max(1, round(HELD_OUT * len(indices)))
        for split in missing:
            drawn[split].extend(indices[:count])
            indices = indices[count:]
        drawn["train"].extend(indices)
    return drawn


def draw_missing_splits(
    classes: Sequence[Sequence[int]],
    strata: Sequence[str],
    missing: Sequence[str],
    seed: int,
    source: str,
    contents: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
) -> dict[str, list[int]]:
    """
    Draws the missing splits from the training clips so that each class keeps a training clip.

    Args:
        classes (`Sequence[Sequence[int]]`): The class indices of each training clip; each class has a clip.
        strata (`Sequence[str]`): The stratum of each training clip; the same share of each stratum is drawn.
        missing (`Sequence[str]`): The splits to draw.
        seed (`int`): Seed for the draw.
        source (`str`): The name of the data in messages.
        contents (`Sequence[int]`, *optional*): A number of each clip; clips with equal ones stay in one split.
        groups (`Sequence[str]`, *optional*): The group of each clip; groups stay in one split.

    Returns:
        `dict[str, list[int]]`: the clips of each missing split, and those left to "train".

    Raises:
        [`InputError`]: If there are too few clips or groups.
    """
    contents = range(len(classes)) if contents is None else contents
    if groups is not None:
        return _draw_groups(classes, strata, missing, seed, source, contents, groups)
    # Clips of equal content are drawn as one.
    units: dict[int, list[int]] = {}
    for index, content in enumerate(contents):
        units.setdefault(int(content), []).append(index)
    members = list(units.values())
    drawn = _draw_units(
        [sorted({label for index in own for label in classes[index]}) for own in members],
        [strata[own[0]] for own in members],
        missing,
        seed,
        source,
    )
    return {split: [index for unit in chosen for index in members[unit]] for split, chosen in drawn.items()}


def _draw_units(
    classes: Sequence[Sequence[int]], strata: Sequence[str], missing: Sequence[str], seed: int, source: str
) -> dict[str, list[int]]:
    drawn = draw_splits(strata, missing, seed, source)
    num_classes = 1 + max(label for labels in classes for label in labels)
    counts = np.bincount([label for index in drawn["train"] for label in classes[index]], minlength=num_classes)
    for split in missing:
        # Clips of a class without training clips go back to train.
        for index in list(drawn[split]):
            if not counts[classes[index]].all():
                drawn[split].remove(index)
                drawn["train"].append(index)
                np.add.at(counts, classes[index], 1)
        # An empty split gets a clip that train can spare.
        spare = [index for index in drawn["train"] if (counts[classes[index]] > 1).all()]
        if not drawn[split] and spare:
            drawn["train"].remove(spare[0])
            drawn[split].append(spare[0])
            np.add.at(counts, classes[spare[0]], -1)
        if not drawn[split]:
            raise InputError(f"{source}: has too few clips of each label to draw {split} from them")
    return drawn


def _draw_groups(
    classes: Sequence[Sequence[int]],
    strata: Sequence[str],
    missing: Sequence[str],
    seed: int,
    source: str,
    contents: Sequence[int],
    groups: Sequence[str],
) -> dict[str, list[int]]:
    # scikit-learn takes a second to import.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from sklearn.model_selection import StratifiedGroupKFold

    # Groups that share the content of a clip are one.
    own, numbers = (np.unique(values, return_inverse=True)[1] for values in (groups, contents))
    num_nodes = own.max() + numbers.max() + 2
    graph = coo_matrix((np.ones(len(own)), (own, own.max() + 1 + numbers)), shape=(num_nodes, num_nodes))
    joined = connected_components(graph, directed=False)[1][own]
    count = len(np.unique(joined))
    if count <= len(missing):
        raise InputError(
            f"{source}: has {count} groups of --group_column; to draw {' and '.join(missing)} from them, at least "
            f"{len(missing) + 1} are needed"
        )
    stratum = np.unique(strata, return_inverse=True)[1]
    num_folds = int(min(round(1 / HELD_OUT), count, np.bincount(stratum).max()))
    if num_folds <= len(missing):
        raise InputError(f"{source}: has too few clips of each label to draw {' and '.join(missing)} by group")
    folds = np.zeros(len(own), dtype=np.int64)
    with warnings.catch_warnings():
        # A class may have fewer clips than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        for fold, (_, chosen) in enumerate(splitter.split(own, stratum, joined)):
            folds[chosen] = fold
    has_class = np.zeros((num_folds, 1 + max(label for labels in classes for label in labels)), dtype=bool)
    for fold, labels in zip(folds.tolist(), classes, strict=True):
        has_class[fold, list(labels)] = True

    sizes = np.bincount(folds, minlength=num_folds)

    def fault(chosen: Sequence[int]) -> tuple[float, float, float]:
        """Classes without a training clip, those that the drawn splits lack, and how far their sizes are from `HELD_OUT`."""
        train = np.delete(has_class, chosen, axis=0).any(axis=0)
        sizes_off = np.abs(sizes[list(chosen)] - HELD_OUT * len(own)).sum()
        return float((~train).sum()), float((~has_class[list(chosen)]).sum()), float(sizes_off)

    chosen = min(itertools.permutations(range(num_folds), len(missing)), key=fault)
    if fault(chosen)[0]:
        raise InputError(
            f"{source}: no draw of groups leaves each label a training clip; a label that one group of --group_column has "
            "alone cannot be held out"
        )
    drawn = {split: np.flatnonzero(folds == own).tolist() for split, own in zip(missing, chosen, strict=True)}
    return {"train": np.flatnonzero(~np.isin(folds, chosen)).tolist(), **drawn}
