# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Checks of files of `torch.save` before and after torch reads them. torch runs no code in them, but believes the sizes that they
claim, and calls constructors of any size.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import torch

from ..common.errors import InputError
from ..common.printable import printable


# In a pickle of named tensors: their container, what rebuilds them from storages, storages and types.
TENSOR_NAMES = re.compile(
    r"collections\.(OrderedDict|Counter)|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|torch\.(Size|device)"
    r"|torch\._utils\._rebuild_\w+|torch\.(storage\.|cuda\.)?\w*Storage|torch\.(b?float|u?int|q?u?int|complex|bool|half|double|per_)\w*"
)
# Pickles before the storages of a file of torch before 1.6.
MAX_PICKLES = 5

# As many times its size, a file's tensors may claim, where some share their values.
MAX_TIED = 4


class ConversionError(InputError):
    """A checkpoint, an argument or a folder cannot be used; the message says in one line what was found."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


def check_file(path: Path) -> int:
    """
    Checks a file before torch reads it.

    Returns:
        `int`: The most bytes that its storages can have.

    Raises:
        [`ConversionError`]: If a part is compressed or damaged, or a pickle needs more than tensors.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        return _check_archive(path, size)
    with path.open("rb") as file:
        for _ in range(MAX_PICKLES):
            _check_pickle(path, file)
        return size - file.tell()


def _check_archive(path: Path, size: int) -> int:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        for part in parts:
            # torch reads compressed parts as they are, and what they hold may be of any size.
            if part.compress_type != zipfile.ZIP_STORED:
                raise ConversionError(
                    f"{path.name} is damaged: its part {printable(part.filename, 100)} is compressed, as torch never does."
                )
        claimed = sum(part.file_size for part in parts)
        if claimed > size:
            raise ConversionError(f"{path.name} is damaged: its parts claim {claimed} bytes, more than its {size}.")
        # torch does not look at the checksums.
        if (damaged := archive.testzip()) is not None:
            raise ConversionError(
                f"{path.name} is damaged: the checksum of its part {printable(damaged, 100)} is wrong."
            )
        for part in parts:
            if part.filename.endswith(".pkl"):
                with archive.open(part) as file:
                    _check_pickle(path, file)
    return size


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    """Refuses a pickle that names anything else than tensors. What is no pickle is left to torch, which refuses it."""
    try:
        for code, argument, _ in pickletools.genops(file):
            if code.name == "GLOBAL" and not TENSOR_NAMES.fullmatch(name := str(argument).replace(" ", ".")):
                raise ConversionError(
                    f"{path.name} needs code to be read ({printable(name, 100)}), which is never run; a checkpoint of tensors "
                    "only (a state dict) is expected."
                )
    except ConversionError:
        raise
    except Exception:
        pass


def check_tensors(path: Path, named_tensors: Iterable[tuple[str, torch.Tensor]], limit: int) -> None:
    """
    Checks that tensors are not larger than the file that they come from.

    Args:
        path (`Path`): The file.
        named_tensors (`Iterable[tuple[str, torch.Tensor]]`): What torch read.
        limit (`int`): What [`check_file`] returned.

    Raises:
        [`ConversionError`]: If a tensor is not dense, repeats its values, or has more of them than the file.
    """
    storages = {}
    total = 0
    for name, tensor in named_tensors:
        shown = printable(name, 100)
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_quantized
        if not is_plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ConversionError(
                f"{shown} must be a dense floating-point tensor, got {tensor.dtype}, {tensor.layout}, on {tensor.device}."
            )
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        claimed = tensor.numel() * tensor.element_size()
        if claimed > storage.nbytes():
            raise ConversionError(
                f"{path.name} is damaged: {shown} claims {claimed} bytes, and the file has {storage.nbytes()} of it."
            )
        total += claimed
    # Tensors may share a storage, as tied weights do.
    if sum(storages.values()) > limit or total > MAX_TIED * limit:
        raise ConversionError(f"{path.name} is damaged: its tensors claim {total} bytes, and the file has {limit}.")
