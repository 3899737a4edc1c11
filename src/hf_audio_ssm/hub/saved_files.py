# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Files of checkpoints and adapters, which anybody may have written, checked before libraries act on them: JSON objects with
finite numbers, tables of weights that stay in their folder, and sizes that the weights explain.
"""

import json
import math
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import (
    CONFIG_NAME,
    FEATURE_EXTRACTOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    cached_file,
)

from ..common.errors import InputError
from ..common.hub_access import Place
from ..common.printable import one_line
from ..models.patch_encoder.configuration_checks import MAX_LABELS


# Beside the weights that are there, a model may have a new head.
SPARE_PARAMETERS = 10_000_000
# What libraries raise for files that are damaged, or not what they should be.
FILE_ERRORS = (
    EOFError,
    ImportError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@contextmanager
def reading(called: str) -> Iterator[None]:
    """
    Raises one kind of error for files that cannot be used, and one for files that are missing.

    Args:
        called (`str`): How messages call what is read.

    Raises:
        `OSError`: If something cannot be found.
        [`InputError`]: If something that was found cannot be used.
    """
    try:
        yield
    except FileContentError as error:
        raise InputError(f"{called} cannot be loaded: {error}") from error
    except (InputError, NotFoundError):
        raise
    except OSError as error:
        raise NotFoundError(one_line(f"{called} cannot be loaded: {error}")) from error
    except FILE_ERRORS as error:
        raise InputError(f"{called} cannot be loaded: {error}") from error


class FileContentError(InputError):
    """A file of a checkpoint cannot be used. The message names the file, not the checkpoint."""


class NotFoundError(OSError):
    """Something of a checkpoint cannot be found. The message names the checkpoint and says what."""


def find_file(place: Place, name: str) -> str | None:
    """
    Finds a file of a checkpoint.

    Returns:
        `str | None`: `None` if the checkpoint has none of this name.

    Raises:
        `OSError`: If that cannot be known.
    """
    return cached_file(place.name, name, _raise_exceptions_for_missing_entries=False, **place.hub)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")


def _read_float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """
    Reads a JSON object.

    Raises:
        [`FileContentError`]: If the file holds something else, or numbers that are not finite.
    """
    name = os.path.basename(path)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, parse_constant=_refuse_constant, parse_float=_read_float)
    except (RecursionError, ValueError) as error:
        raise FileContentError(f"{name} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileContentError(f"{name} must hold a JSON object, got a {type(content).__name__}")
    return content


def check_num_labels(fields: Mapping[str, Any], name: str) -> None:
    """
    Checks the number of labels before transformers reads a configuration, which makes a name for each.

    Args:
        fields (`Mapping[str, Any]`): The configuration's fields.
        name (`str`): Its file, for the message.

    Raises:
        [`FileContentError`]: If there are too many.
    """
    labels = fields.get("num_labels")
    if isinstance(labels, int) and labels > MAX_LABELS:
        raise FileContentError(f"{name}: `num_labels` must be at most {MAX_LABELS}, got {labels}")


def check_checkpoint(place: Place) -> None:
    """
    Checks the files that transformers reads before the weights.

    Raises:
        `OSError`: If it cannot be known which there are.
        [`FileContentError`]: If one cannot be used.
    """
    for name in (CONFIG_NAME, FEATURE_EXTRACTOR_NAME):
        path = find_file(place, name)
        if path is not None:
            check_num_labels(read_object(path), name)
    path = find_file(place, SAFE_WEIGHTS_INDEX_NAME)
    if path is not None:
        check_index(path)


def check_index(path: str | os.PathLike) -> None:
    """
    Checks a table that says which file has which weights.

    Raises:
        [`FileContentError`]: If it is not such a table, or names files outside its folder.
    """
    name, files = os.path.basename(path), read_object(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise FileContentError(f"{name}: `weight_map` must map weights to files")
    for file in files.values():
        if (
            not isinstance(file, str)
            or not file
            or os.path.basename(file) != file
            or file in (".", "..")
            or "\\" in file
        ):
            raise FileContentError(f"{name}: `weight_map` must name files beside it, got {file!r}")


def read_shapes(path: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """
    Reads the shapes of the tensors in a safetensors file, by name, and nothing else of it.

    Raises:
        [`FileContentError`]: If the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise FileContentError(f"{os.path.basename(path)} cannot be read as safetensors: {error}") from error


def check_sizes(config: PreTrainedConfig, model_class: type[PreTrainedModel], place: Place) -> None:
    """
    Checks that a configuration describes a model that is not much larger than the weights, before memory is taken for it.

    Raises:
        [`FileContentError`]: If it describes a larger one, or the weights cannot be read.
    """
    path = find_file(place, SAFE_WEIGHTS_NAME)
    if path is None:
        return
    shapes = read_shapes(path)
    if config.num_hidden_layers > len(shapes):
        raise FileContentError(
            f"{CONFIG_NAME} describes {config.num_hidden_layers} layers, but there are only {len(shapes)} tensors"
        )
    with torch.device("meta"):
        expected = model_class(config).num_parameters()
    saved = sum(map(math.prod, shapes.values()))
    if expected > 2 * saved + SPARE_PARAMETERS:
        raise FileContentError(
            f"{CONFIG_NAME} describes a model of {expected} parameters, but the weights are {saved}"
        )


def check_types(fields: Mapping[str, Any], name: str, **types: type | tuple[type, ...]) -> None:
    """
    Checks the types of fields that are there.

    Raises:
        [`FileContentError`]: If one has another.
    """
    for field, expected in types.items():
        value = fields.get(field)
        if value is not None and not isinstance(value, expected):
            raise FileContentError(f"{name}: `{field}` must not be {value!r:.100}")
