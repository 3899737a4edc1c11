# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Old names of modules, from before version 0.2. They can still be imported: they warn, and give the names of the new modules."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any


# Old name -> the modules that its names went to. All lie below the package.
MOVED = {
    "adapters": ("hub.adapters",),
    "annotation": ("inference.annotation", "inference.annotate"),
    "arguments": ("training.command_line",),
    "augmentation": ("data.augmentation",),
    "card_callback": ("hub.card_callback",),
    "classifiers": ("training.classifiers",),
    "commands": ("cli",),
    "commands.classify": ("cli.classify",),
    "commands.clips": ("cli.clips",),
    "commands.convert": ("cli.convert",),
    "commands.embed": ("cli.embed",),
    "commands.info": ("cli.info",),
    "comparison": ("training.comparison",),
    "console": ("common.console",),
    "data.decoding": ("audio.decoding", "audio.mono", "audio.sound_files"),
    "data.streaming": ("audio.streaming",),
    "embedding": ("inference.embedding", "hub.loading"),
    "emissions": ("hub.emissions",),
    "errors": ("common.errors",),
    "evaluation_report": ("training.reports",),
    "evaluation_suites": ("integrations",),
    "evaluation_suites.hear": ("integrations.hear",),
    "evaluation_suites.mteb": ("integrations.mteb",),
    "evaluation_suites.s3prl": ("integrations.s3prl",),
    "evaluation_suites.xares": ("integrations.xares",),
    "events": ("evaluation.events",),
    "fine_tuning": ("training.fine_tuning",),
    "hub_names": ("hub.names", "data.names"),
    "hub_push": ("hub.push",),
    "metrics": ("evaluation.metrics",),
    "model_card": ("hub.cards",),
    "models.patch_encoder.audio_classification": ("models.heads.audio_classification",),
    "models.patch_encoder.audio_frame_classification": (
        "models.heads.audio_frame_classification",
        "models.heads.time_steps",
    ),
    "models.patch_encoder.classification_heads": (
        "models.heads.classification_heads",
        "models.heads.prototypical_head",
    ),
    "models.patch_encoder.classifier": ("models.heads.classifier",),
    "models.ssamba.feature_extraction_ssamba": ("models.filter_bank.feature_extraction_ssamba",),
    "models.ssamba.kaldi_filter_bank": ("models.filter_bank.kaldi_filter_bank",),
    "ops.registration": ("ops.operators",),
    "original_work": ("models.records",),
    "plots": ("inference.plots",),
    "pretraining": ("training.pretraining",),
    "pretraining.arguments": ("training.pretraining.arguments",),
    "pretraining.batches": ("training.pretraining.batches",),
    "pretraining.evaluation": ("training.pretraining.evaluation",),
    "pretraining.run_folder": ("training.pretraining.run_folder",),
    "pretraining.schedule": ("training.pretraining.schedule",),
    "probing": ("training.probing",),
    "registration": ("models.registration",),
    "remote_code": ("models.packaging",),
    "text_files": ("common.text_files",),
    "whole_files": ("common.whole_files",),
}
_PACKAGE = __name__.split(".")[0]


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules by their old names, and fills them from the new ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in MOVED:
            return None
        is_package = any(other.startswith(f"{name}.") for other in MOVED)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        targets = [f"{_PACKAGE}.{name}" for name in MOVED[module.__name__.partition(".")[2]]]
        warnings.warn(f"{module.__name__} has moved to {' and '.join(targets)}", FutureWarning, stacklevel=2)

        def find(name: str) -> Any:
            # inspect asks all modules for their file, also while a target's own imports are half done.
            if name == "__file__":
                raise AttributeError(f"module {module.__name__!r} has no file")
            for target in targets:
                if hasattr(found := importlib.import_module(target), name):
                    return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__dict__["__getattr__"] = find


def find_moved_modules() -> None:
    """Makes the old names of modules importable."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
