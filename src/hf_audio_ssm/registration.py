# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Registers the models with the Auto classes of transformers.

Registering needs the classes themselves, and so torch. To keep `import hf_audio_ssm` light, each Auto module of
transformers that is not loaded yet is watched for, and registered with at the moment it loads (or, where our module
itself is what loads it, at the moment our module is ready).
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from .models import AUTO_CLASSES


_AUTO_MODULES = {
    "AutoConfig": "configuration_auto",
    "AutoFeatureExtractor": "feature_extraction_auto",
    "AutoModel": "modeling_auto",
    "AutoModelForAudioClassification": "modeling_auto",
    "AutoModelForAudioFrameClassification": "modeling_auto",
    "AutoModelForPreTraining": "modeling_auto",
}


class _Registration(NamedTuple):
    """An Auto class, and the class of ours that it gives for a model type."""

    auto_class: str
    model_type: str

    @property
    def auto_module(self) -> str:
        return f"transformers.models.auto.{_AUTO_MODULES[self.auto_class]}"

    @property
    def own_module(self) -> str:
        return f"{__package__}.models.{AUTO_CLASSES[self.model_type][self.auto_class].rpartition('.')[0]}"

    def load_own_class(self) -> type:
        name = AUTO_CLASSES[self.model_type][self.auto_class].rpartition(".")[2]
        return getattr(importlib.import_module(self.own_module), name)

    def register(self) -> None:
        key = self.model_type
        if self.auto_class != "AutoConfig":
            key = _Registration("AutoConfig", self.model_type).load_own_class()
        getattr(sys.modules[self.auto_module], self.auto_class).register(key, self.load_own_class(), exist_ok=True)


_REGISTRATIONS = [
    _Registration(auto_class, model_type) for model_type, classes in AUTO_CLASSES.items() for auto_class in classes
]
_WATCHED = {name for registration in _REGISTRATIONS for name in (registration.auto_module, registration.own_module)}


def _is_loading(name: str) -> bool:
    return name in sys.modules and getattr(sys.modules[name].__spec__, "_initializing", False)


def _register_loaded(just_loaded: str | None = None) -> None:
    """Registers with the Auto modules that are loaded, except where one side is still loading: it calls back later."""
    for registration in _REGISTRATIONS:
        sides = (registration.auto_module, registration.own_module)
        if just_loaded in (None, *sides) and registration.auto_module in sys.modules:
            if not any(_is_loading(name) for name in sides if name != just_loaded):
                registration.register()


class _RegisteringLoader(importlib.abc.Loader):
    """Loads a module as its own loader does, then registers what has become possible."""

    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, as whoever inspects it expects.
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _register_loaded(module.__name__)


class _RegisteringFinder(importlib.abc.MetaPathFinder):
    """Finds the watched modules as usual, and wraps their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def register_with_auto_classes() -> None:
    """Registers with the Auto modules that are loaded, and with the others when they load."""
    if not any(isinstance(finder, _RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisteringFinder())
    _register_loaded()
