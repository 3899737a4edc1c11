# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Registers the models with the Auto classes of transformers.

Registering needs the classes themselves, and so torch. `import hf_audio_ssm` stays light: it registers with the Auto modules
of transformers that are loaded already, and watches for the others. It registers with those when the outermost import that
loads them is complete: before that, modules that ours need may be half loaded.
"""

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from . import ENCODERS


_AUTO_MODULES = {
    "AutoConfig": "configuration_auto",
    "AutoFeatureExtractor": "feature_extraction_auto",
    "AutoModel": "modeling_auto",
    "AutoModelForAudioClassification": "modeling_auto",
    "AutoModelForAudioFrameClassification": "modeling_auto",
    "AutoModelForPreTraining": "modeling_auto",
    "AutoProcessor": "processing_auto",
}


class _Registration(NamedTuple):
    """An Auto class, and the class of ours that it gives for a model type."""

    auto_class: str
    model_type: str

    @property
    def auto_module(self) -> str:
        return f"transformers.models.auto.{_AUTO_MODULES[self.auto_class]}"

    def load_own_class(self) -> type:
        # A model without text has nothing but its feature extractor to process its input.
        auto_class = "AutoFeatureExtractor" if self.auto_class == "AutoProcessor" else self.auto_class
        module, _, name = ENCODERS[self.model_type].auto_classes[auto_class].rpartition(".")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)

    def register(self) -> None:
        key: str | type = self.model_type
        if self.auto_class != "AutoConfig":
            key = _Registration("AutoConfig", self.model_type).load_own_class()
        auto_class = getattr(importlib.import_module(self.auto_module), self.auto_class)
        auto_class.register(key, self.load_own_class(), exist_ok=True)


_pending = {
    _Registration(auto_class, model_type)
    for model_type, record in ENCODERS.items()
    for auto_class in (*record.auto_classes, "AutoProcessor")
}
_imports = threading.local()


def _register_pending() -> None:
    """Registers with the Auto modules that are loaded, and with those that this loads."""
    while ready := {registration for registration in _pending if registration.auto_module in sys.modules}:
        _pending.difference_update(ready)
        for registration in ready:
            registration.register()


@contextmanager
def _outermost_registers():
    """Registers what has become possible at the end of the outermost block."""
    _imports.depth = getattr(_imports, "depth", 0) + 1
    try:
        yield
        if _imports.depth == 1:
            _register_pending()
    finally:
        _imports.depth -= 1


class _RegisteringLoader(importlib.abc.Loader):
    """Loads a module as its own loader does; after the outermost one, registers what has become possible."""

    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, as whoever inspects it expects.
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        with _outermost_registers():
            self.loader.exec_module(module)


class _RegisteringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of transformers, and our models, as usual, and wraps their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _pending or not fullname.startswith(("transformers.", f"{__package__}.")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def register_with_auto_classes() -> None:
    """Registers with the Auto modules that are loaded, and with the others when they load."""
    if not any(isinstance(finder, _RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisteringFinder())
    with _outermost_registers():
        pass
