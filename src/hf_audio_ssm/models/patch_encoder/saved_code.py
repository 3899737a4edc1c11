# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How models, configurations and feature extractors carry their code into saved checkpoints."""

import os
from typing import Any


try:
    from hf_audio_ssm.models import packaging
except ImportError:
    packaging = None  # type: ignore[assignment]


class CodeIsSaved:
    """For classes whose code is always saved, as the package's is; mixed in before transformers' own base."""

    @classmethod
    def register_for_auto_class(cls, *args, **kwargs) -> None:
        """Asks transformers to save a class's code. Does nothing for the package's own: its code is saved anyway."""
        if packaging is None or not packaging.is_packaged(cls):
            super().register_for_auto_class(*args, **kwargs)


class SavesCode(CodeIsSaved):
    """For configurations and feature extractors: what they save loads where the package is missing."""

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> Any:
        """Saves as usual, and beside it the code that loads the checkpoint with `trust_remote_code=True`."""
        if packaging is not None:
            packaging.attach(self, save_directory)
        return super().save_pretrained(save_directory, **kwargs)

    def _get_files_timestamps(self, working_dir: str | os.PathLike) -> dict[str, float]:
        """What lay in the folder before saving, and is not pushed unless it changes; the code was written just now."""
        written = set() if packaging is None else packaging.code_files(self)
        timestamps = super()._get_files_timestamps(working_dir)
        return {name: time for name, time in timestamps.items() if name not in written}


__all__ = ["CodeIsSaved", "SavesCode"]
