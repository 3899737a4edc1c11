# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Columns of clips in every form that data sets have them, as paths and bytes: the form that is read while training."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import soundfile
from datasets.fingerprint import Hasher

from ..common.errors import InputError
from ..common.printable import printable


AnyDataset = TypeVar("AnyDataset", datasets.Dataset, datasets.IterableDataset)
# The name of the column while its clips are encoded.
DECODED = "decoded"
# Sample formats of WAV that hold values of a type exactly.
SUBTYPES = {
    "uint8": "PCM_U8",
    "int16": "PCM_16",
    "int32": "PCM_32",
    "float16": "FLOAT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}
EXPECTED = 'expected paths, the bytes of audio files, datasets\' Audio, or {"array": samples, "sampling_rate": hertz} for each clip'


def undecoded(dataset: AnyDataset, source: str, column: str = "audio") -> AnyDataset:
    """
    Keeps the clips in `column` as paths and bytes. Some sources store these without marking them as audio; decoded clips
    (`array` and `sampling_rate`) become WAV files in memory, with the same samples.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The data set.
        source (`str`): Its name in messages.
        column (`str`, *optional*, defaults to `"audio"`): The column.

    Raises:
        [`InputError`]: If there is no such column, or it holds no clips.
    """
    features = dataset.features
    if features is None:
        # A stream whose rows tell what they hold.
        dataset = dataset._resolve_features()
        features = dataset.features or {}
    if column not in features:
        raise InputError(f"{source}: needs a column {column}, found {list(features)}")
    feature = features[column]
    if isinstance(feature, datasets.Audio):
        return dataset.cast_column(column, datasets.Audio(decode=False))
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string", "binary", "large_binary"):
        if feature.dtype == "large_string" and isinstance(dataset, datasets.IterableDataset):
            # Only the last cast of a stream is done, and datasets has none from these to Audio.
            fields = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
            with_fields = datasets.Features({**features, column: fields})
            dataset = dataset.map(lambda row: {column: {"bytes": None, "path": row[column]}}, features=with_fields)
        elif feature.dtype == "large_string":
            dataset = dataset.cast_column(column, datasets.Value("string"))
        return dataset.cast_column(column, datasets.Audio(decode=False))
    if isinstance(feature, Mapping):
        fields = {name: value.dtype for name, value in feature.items() if isinstance(value, datasets.Value)}
        if "array" in feature and "sampling_rate" in feature:
            return _encoded(dataset, source, column, _dtype_of(feature["array"]))
        if fields.get("bytes") == "binary" or fields.get("path") == "string":
            return dataset.cast_column(column, datasets.Audio(decode=False))
    raise InputError(f"{source}: the column {column} holds {_describe(feature)}; {EXPECTED}")


def _describe(feature: Any) -> str:
    dtype = _dtype_of(feature)
    if isinstance(feature, datasets.Value):
        return f"values of type {dtype}"
    if dtype is not None:
        return f"lists of {dtype} without a sampling rate"
    return f"mappings with {printable(', '.join(feature), 100)}" if isinstance(feature, Mapping) else str(feature)


def _dtype_of(feature: Any) -> str | None:
    """The type of the numbers in (lists of) lists, or None."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return getattr(feature, "dtype", None)


def _encoded(dataset: AnyDataset, source: str, column: str, dtype: str | None) -> AnyDataset:
    """The decoded clips of a column as WAV files in memory; they are kept in datasets' cache."""
    if dtype not in SUBTYPES:
        raise InputError(
            f"{source}: the column {column} holds samples of type {dtype}; expected one of {', '.join(SUBTYPES)}"
        )

    def encode(row: Mapping[str, Any], index: int) -> dict[str, Any]:
        return {column: _encode_clip(row[DECODED], dtype, f"row {index}")}

    dataset = dataset.rename_column(column, DECODED)
    features = {name: feature for name, feature in dataset.features.items() if name != DECODED}
    features[column] = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    options: dict[str, Any] = {}
    if isinstance(dataset, datasets.Dataset):
        # Not beside the user's own files, where datasets would put it.
        folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_audio_ssm"
        folder.mkdir(parents=True, exist_ok=True)
        name = Hasher.hash([dataset._fingerprint, column, "wav"])
        options = {
            "cache_file_name": str(folder / f"{name}.arrow"),
            "new_fingerprint": name,
            "writer_batch_size": 50,
            "desc": "Encoding decoded clips",
        }
    encoded = dataset.map(
        encode, with_indices=True, remove_columns=[DECODED], features=datasets.Features(features), **options
    )
    return encoded.cast_column(column, datasets.Audio(decode=False))


def _encode_clip(clip: Mapping[str, Any] | None, dtype: str, name: str) -> dict[str, Any]:
    """A decoded clip as a WAV file. A clip that cannot be used becomes an empty one, whose name says why."""
    try:
        if clip is None or clip["array"] is None:
            raise ValueError("it holds no audio")
        rate = clip["sampling_rate"]
        if not isinstance(rate, (int, float)) or not 0 < rate < 2**31 or rate != int(rate):
            raise ValueError(f"its sampling rate is {rate}")
        samples = np.asarray(clip["array"], dtype=dtype)
        if samples.ndim not in (1, 2) or not samples.size:
            raise ValueError(f"its samples have the shape {samples.shape}")
        if samples.ndim == 2 and len(samples) > 1024:
            raise ValueError(f"its samples have the shape {samples.shape}, expected (channels, samples)")
        samples = samples.astype(np.float32) if dtype == "float16" else samples
        # WAV has unsigned bytes; soundfile writes no bytes, but the upper halves of 16 bits.
        samples = ((samples.astype(np.int16) - 128) << 8).astype(np.int16) if dtype == "uint8" else samples
        file = io.BytesIO()
        soundfile.write(file, samples.T, int(rate), format="WAV", subtype=SUBTYPES[dtype])
        return {"bytes": file.getvalue(), "path": None}
    except (ValueError, TypeError, OverflowError, soundfile.SoundFileError) as error:
        return {"bytes": b"", "path": f"{name} ({error})"}
