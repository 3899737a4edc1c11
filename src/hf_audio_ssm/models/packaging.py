# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The code that checkpoints carry: with it, transformers loads them with `trust_remote_code=True` where this package is missing.

transformers copies remote code from one flat folder and follows only `from .module import name`. The modules of
`hf_audio_ssm.models`, and what they import of `hf_audio_ssm.audio`, are written out that way: imports of another folder's
module lose the folder.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from . import ENCODERS


_PACKAGE = __package__.partition(".")[0]
_FOLDER = Path(__file__).resolve().parents[1]
# The folder, and the module in it.
_RELATIVE_IMPORT = re.compile(r"^from (\.+(?:\w+\.)*)(\w+) import ", flags=re.MULTILINE)


def is_packaged(cls: type) -> bool:
    """Whether a class is one of this package's models, configurations and feature extractors."""
    return cls.__module__.startswith(f"{__package__}.")


@lru_cache
def _flat_modules(module: str) -> dict[str, str]:
    """The flat code of a module ("models.folder.module") and of all of ours that it imports, by file name."""
    folder, _, name = f"{_PACKAGE}.{module}".rpartition(".")
    source = _FOLDER.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    files = {f"{name}.py": _RELATIVE_IMPORT.sub(r"from .\2 import ", source)}
    for place, imported in _RELATIVE_IMPORT.findall(source):
        files |= _flat_modules(resolve_name(place + imported, folder).removeprefix(f"{_PACKAGE}."))
    return files


def flat_code(model_type: str) -> dict[str, str]:
    """
    All code of a model type, as it lies in a checkpoint's folder.

    Args:
        model_type (`str`): The model type.

    Returns:
        `dict[str, str]`: Text by file name.

    Raises:
        `KeyError`: If the package has no such model type.
    """
    files: dict[str, str] = {}
    for path in ENCODERS[model_type].auto_classes.values():
        files |= _flat_modules("models." + path.rpartition(".")[0])
    return files


def _code_of(saved: Any) -> tuple[dict[str, str], Mapping[str, str]]:
    """The code of a configuration or feature extractor, and the Auto classes' places; both empty if it is not ours."""
    if not is_packaged(type(saved)):
        return {}, {}
    if hasattr(saved, "model_type"):
        return flat_code(saved.model_type), ENCODERS[saved.model_type].auto_classes
    path = f"{type(saved).__module__.removeprefix(f'{__package__}.')}.{type(saved).__name__}"
    return _flat_modules("models." + path.rpartition(".")[0]), {"AutoFeatureExtractor": path}


def code_files(saved: Any) -> set[str]:
    """The names of the files that [`attach`] writes."""
    return set(_code_of(saved)[0])


def attach(saved: Any, save_directory: str | os.PathLike) -> None:
    """
    Writes the code of a configuration (all that its model type needs) or of a feature extractor into the folder where it
    is about to be saved, and sets its `auto_map`. Classes that are not this package's are left to transformers.

    Args:
        saved (`PreTrainedConfig` or `FeatureExtractionMixin`): What is saved.
        save_directory (`str`): The folder, made if it does not exist.
    """
    files, auto_classes = _code_of(saved)
    if not files or Path(save_directory).is_file():
        return
    saved.auto_map = {auto: ".".join(path.split(".")[1:]) for auto, path in auto_classes.items()}
    Path(save_directory).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with tempfile.NamedTemporaryFile(
            "w", dir=os.fspath(save_directory), prefix=".", encoding="utf-8", delete=False
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, Path(save_directory) / name)
