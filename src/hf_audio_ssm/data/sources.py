# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sources of clips as data sets with an undecoded `audio` column: folders, parquet files, data sets saved to disk and on the
Hub. Sources may be mixed by weight, and streamed.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..common.console import filtered_log
from ..common.errors import InputError
from ..common.hub_access import ask_hub, is_cached
from .audio_columns import AnyDataset
from .audio_columns import undecoded as undecoded
from .bad_clips import is_main_process
from .clip_identity import AudioColumn, number_clips
from .folders import SPLIT_COLUMN, list_audio, name_of
from .metadata import find_metadata, read_rows
from .names import data_on_hub


# With more clips than this, only files' names are compared, and not what is in them.
MAX_COMPARED = 200_000


def make_dataset(clips: list[tuple[Path, str]], labels: list[str]) -> datasets.Dataset:
    """Labelled clips as a data set with the columns `audio` (path only, read when used) and `label`."""
    features = datasets.Features({"audio": datasets.Value("string"), "label": datasets.ClassLabel(names=labels)})
    columns = {"audio": [str(path) for path, _ in clips], "label": [label for _, label in clips]}
    return datasets.Dataset.from_dict(columns, features=features).cast_column("audio", datasets.Audio(decode=False))


def open_source(
    source: str, streaming: bool = False, split: str | None = "train"
) -> datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict:
    """
    Opens a source, as [`load_source`] describes it, with all its columns. The source may also be a folder written by
    `DatasetDict.save_to_disk`.

    Args:
        source (`str`): The source.
        streaming (`bool`, *optional*, defaults to `False`): Whether to read the source while it is used.
        split (`str`, *optional*, defaults to `"train"`):
            The split, unless the source names one. With None, a source of several splits gives all of them.

    Raises:
        [`InputError`]: If the source cannot be found or read.
    """
    path = Path(source)
    try:
        if not source:
            raise InputError("a source of clips must have a name, got an empty one")
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            dataset = datasets.load_from_disk(source)
            if split is not None and isinstance(dataset, datasets.DatasetDict):
                if split not in dataset:
                    raise InputError(f"{source}: has the splits {', '.join(dataset)}, but no {split}")
                dataset = dataset[split]
            return dataset.to_iterable_dataset(num_shards=min(64, len(dataset))) if streaming else dataset
        if path.is_dir():
            _warn_of_splits(path)
            paths = {"audio": [name_of(found) for found in list_audio(path)]}
            dataset = datasets.Dataset.from_dict(paths)
            return dataset.to_iterable_dataset(num_shards=min(64, len(dataset))) if streaming else dataset
        if source.endswith(".parquet"):
            # The error that follows says the same.
            with filtered_log("datasets.packaged_modules.parquet.parquet", lambda record: False):
                return datasets.load_dataset("parquet", data_files=source, split="train", streaming=streaming)
        named = data_on_hub(source)
        if named is None:
            raise InputError(
                f"{source}: must be a folder of audio, a parquet file, a saved data set, or a name on the Hub"
            )
        name, configuration, named_split = named
        _check_hub(name)
        return datasets.load_dataset(name, configuration, split=named_split or split, streaming=streaming)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{source}: cannot be loaded as a data set ({type(error).__name__}: {error})") from error


def _check_hub(name: str) -> None:
    """Raises an error at once if the Hub cannot be reached, and the cache has nothing of a data set."""
    prepared = Path(datasets.config.HF_DATASETS_CACHE, name.replace("/", "___"))
    if (reason := ask_hub(name, repo_type="dataset")) and not is_cached(name, "dataset") and not prepared.is_dir():
        raise InputError(f"{name}: the Hub cannot be reached ({reason}), and there is no such folder")


def _warn_of_splits(folder: Path) -> None:
    """Warns if a metadata file divides the clips of a folder, as all of them are used."""
    try:
        path = find_metadata(folder)
        columns = read_rows(path)[0] if path is not None else []
    except InputError:
        # The labels and splits of the file are not asked for.
        return
    if SPLIT_COLUMN in columns and is_main_process():
        warnings.warn(f"the column {SPLIT_COLUMN} of {path} is not used: the clips of all splits are", stacklevel=4)


def load_source(
    source: str, streaming: bool = False, columns: Sequence[str] = ()
) -> datasets.Dataset | datasets.IterableDataset:
    """
    Loads the clips of one source as a data set with the undecoded column `audio`.

    Args:
        source (`str`):
            A folder of audio files; a parquet file, or several by a pattern such as `clips/*.parquet`; a folder written
            by `Dataset.save_to_disk`; or a data set of the Hub as `name`, `name:configuration`, `name@split` or
            `name:configuration@split` (the split is `train` unless given).
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read the source while it is used.
        columns (`Sequence[str]`, *optional*): Other columns to keep, if the source has them.

    Raises:
        [`InputError`]: If the source cannot be found or read, is empty, or has no audio column.
    """
    dataset = undecoded(open_source(source, streaming), source)
    return dataset.select_columns(["audio", *(name for name in columns if name in dataset.column_names)])


def load_sources(
    sources: Sequence[str],
    weights: Sequence[float] | None = None,
    streaming: bool = False,
    seed: int = 0,
    columns: Sequence[str] = (),
) -> datasets.Dataset | datasets.IterableDataset:
    """
    Loads several sources, see [`load_source`], as one data set.

    Args:
        sources (`Sequence[str]`): The sources.
        weights (`Sequence[float]`, *optional*):
            How often clips of each source are drawn. An epoch lasts until every clip was seen, and repeats the clips of
            sources that end earlier. Without weights, the sources are concatenated.
        streaming (`bool`, *optional*, defaults to `False`): Whether to stream them.
        seed (`int`, *optional*, defaults to 0): Seed for the draws between sources.
        columns (`Sequence[str]`, *optional*): Other columns to keep. Clips of a source that lacks one hold None.

    Raises:
        [`InputError`]: If a source cannot be used, or the weights do not fit the sources.
    """
    _check_weights(sources, weights)
    return _mix([load_source(source, streaming, columns) for source in sources], weights, seed)


def load_and_hold_out(
    sources: Sequence[str],
    weights: Sequence[float] | None = None,
    num_clips: int = 1000,
    seed: int = 0,
    columns: Sequence[str] = (),
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """
    Loads several sources, as [`load_sources`], and holds some of their clips out.

    Args:
        sources, weights: As in [`load_sources`].
        num_clips (`int`, *optional*, defaults to 1000): Clips to hold out, drawn from all sources; at most a tenth of all.
        seed (`int`, *optional*, defaults to 0): Seed for all draws.
        columns (`Sequence[str]`, *optional*): As in [`load_sources`].

    Raises:
        [`InputError`]: As in [`load_sources`], and if there are fewer than ten clips.
    """
    _check_weights(sources, weights)
    loaded = [load_source(source, columns=columns) for source in sources]
    clips = datasets.concatenate_datasets(loaded)
    count = min(num_clips, len(clips) // 10)
    if not count:
        raise InputError(
            f"{', '.join(sources)}: {len(clips)} clips are too few to hold any out; give others to evaluate on"
        )
    split = datasets.Dataset.from_dict({"index": range(len(clips))}).train_test_split(test_size=count, seed=seed)
    held_out = np.array(split["test"]["index"])
    contents = number_clips(AudioColumn([clips]), by_content=len(clips) <= MAX_COMPARED).contents
    kept, rest, start = np.array(split["train"]["index"]), [], 0
    # Sources may name the same file, or hold copies of it.
    kept = _leave_out(kept, np.isin(contents[kept], contents[held_out]))
    for source in loaded:
        rest.append(clips.select(kept[(kept >= start) & (kept < start + len(source))]))
        start += len(source)
    # Mixing repeats clips, and a clip must not be on both sides.
    return _mix(rest, weights, seed), clips.select(held_out)


def warn_of_shared_clips(train: datasets.Dataset, evaluation: datasets.Dataset) -> None:
    """
    Warns if clips to evaluate on are also trained on: as the same file, or as one of equal content.

    Args:
        train (`datasets.Dataset`): The training clips.
        evaluation (`datasets.Dataset`): The clips to evaluate on.
    """
    if not is_main_process():
        return
    by_content = len(train) + len(evaluation) <= MAX_COMPARED
    contents = number_clips(AudioColumn([train, evaluation]), by_content).contents
    count = np.isin(contents[len(train) :], contents[: len(train)]).sum()
    if count:
        warnings.warn(f"{count} of the {len(evaluation)} clips to evaluate on are also trained on", stacklevel=2)


def _leave_out(rows: np.ndarray, is_shared: np.ndarray) -> np.ndarray:
    """Leaves the rows out that are shared with clips held out, and says so."""
    if is_shared.all():
        raise InputError(f"all {len(rows)} training clips equal clips that are held out to evaluate on; give others")
    if is_shared.any() and is_main_process():
        warnings.warn(
            f"{is_shared.sum()} clips are not trained on, as they equal clips that are held out to evaluate on",
            stacklevel=3,
        )
    return rows[~is_shared]


def _check_weights(sources: Sequence[str], weights: Sequence[float] | None) -> None:
    if not sources:
        raise InputError("`sources` must name at least one source of audio, got none")
    if weights is not None:
        if len(weights) != len(sources):
            raise InputError(f"`weights` must be one for each of {len(sources)} sources, got {len(weights)}")
        if not all(0 < weight < math.inf for weight in weights):
            raise InputError(f"`weights` must be positive numbers, got {list(weights)}")


def _fill_columns(loaded: list[AnyDataset]) -> list[AnyDataset]:
    """Streams with the columns of all of them, None where a stream lacks one; `datasets` aligns whole data sets itself."""
    features = datasets.Features({name: feature for dataset in loaded for name, feature in dataset.features.items()})

    def fill(row: dict[str, Any]) -> dict[str, Any]:
        return {name: row.get(name) for name in features}

    return [
        dataset.map(fill, features=features) if len(dataset.features) < len(features) else dataset
        for dataset in loaded
    ]


def _mix(loaded: list[AnyDataset], weights: Sequence[float] | None, seed: int) -> AnyDataset:
    if len(loaded) == 1:
        return loaded[0]
    if isinstance(loaded[0], datasets.IterableDataset):
        loaded = _fill_columns(loaded)
    if weights is None:
        return datasets.concatenate_datasets(loaded)
    probabilities = [weight / sum(weights) for weight in weights]
    return datasets.interleave_datasets(loaded, probabilities, seed=seed, stopping_strategy="all_exhausted")
