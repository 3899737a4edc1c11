# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Pickles in the checkpoints of DeepSpeed and of sharded FSDP, which these libraries read with all code in them: before they do,
nothing in them may name anything but tensors and the libraries' own records.
"""

import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..common.printable import printable


NAMES = re.compile(
    r"collections\.(OrderedDict|defaultdict|Counter)|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
    r"|torch\.(Size|device)|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter)|torch\.(storage\.|cuda\.)?\w*Storage"
    r"|torch\.(b?float|u?int|complex|bool|half|double)\d*(_\w+)?|torch\.distributed\.checkpoint\.metadata\.\w+"
    r"|torch\.distributed\.checkpoint\.filesystem\._\w*(StorageInfo|Prefix)|(__builtin__|builtins)\.(set|frozenset|complex|slice)"
    r"|pathlib\.(Pure)?(Posix|Windows)?Path|deepspeed\.runtime\.fp16\.loss_scaler\.\w+|deepspeed\.utils\.tensor_fragment\.fragment_address"
    r"|deepspeed\.runtime\.zero\.config\.ZeroStageEnum"
)
# They name what is on the stack, by a registry, or as pickles of protocol 0 do; torch.save writes none of them.
OTHER_NAMES = {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}


class _Reader(pickle.Unpickler):
    """Reads a pickle of records alone."""

    def find_class(self, module: str, name: str) -> Any:
        if not NAMES.fullmatch(f"{module}.{name}"):
            raise InputError(f"it names {printable(f'{module}.{name}', 100)}")
        return super().find_class(module, name)


def _check(path: Path) -> None:
    if path.name == ".metadata":
        with path.open("rb") as file:
            _Reader(file).load()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [archive.read(part) for part in archive.infolist() if part.filename.endswith(".pkl")]
        for code, argument, _ in (step for content in pickles for step in pickletools.genops(content)):
            named = str(argument).replace(" ", ".")
            if code.name in OTHER_NAMES or (code.name == "GLOBAL" and not NAMES.fullmatch(named)):
                raise InputError(f"it names {printable(named, 100)}")
    elif path.suffix in (".bin", ".pkl", ".pt", ".pth"):
        raise InputError("it is no archive of torch.save")


def refuse_code(folder: Path) -> None:
    """
    Checks all pickles in a checkpoint.

    Args:
        folder (`Path`): The checkpoint.

    Raises:
        [`InputError`]: If a pickle names anything else than tensors and records of DeepSpeed and torch.
    """
    for path in sorted(folder.rglob("*")):
        # torch reads shards (.distcp) without code.
        if path.is_file() and path.suffix != ".distcp":
            try:
                _check(path)
            except Exception as error:  # a damaged pickle can raise anything
                raise InputError(f"{path} cannot be read without running code in it: {error}") from error
