# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that run code when they are unpickled: each that is read leaves a mark."""

import pickle
from pathlib import Path

import pytest
import torch


class Code:
    """Makes an empty file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (Path(self.mark),))


def write_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Code(mark)))


def write_torch_file(path: Path, mark: Path) -> None:
    torch.save({"state": Code(mark)}, path)


def write_old_torch_file(path: Path, mark: Path) -> None:
    torch.save({"state": Code(mark)}, path, _use_new_zipfile_serialization=False)


WRITERS = (write_pickle, write_torch_file, write_old_torch_file)
# In every run of the tests, the format of today.
SOME_WRITERS = [
    write_torch_file,
    *(pytest.param(write, marks=pytest.mark.slow) for write in WRITERS if write is not write_torch_file),
]
