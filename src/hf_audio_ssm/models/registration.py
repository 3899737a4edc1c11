# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Registers the models with the Auto classes of transformers.

The classes themselves need torch, and most of transformers. `import hf_audio_ssm` stays light: it gives the Auto classes'
mappings entries that load a class when somebody looks it up. It does so with the mappings that exist already, and with the
others as soon as their module is loaded. Nothing is imported while transformers is: in a program of several threads, some
would find half of it.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView
from functools import partial
from types import ModuleType
from typing import Any

from . import ENCODERS


# For each Auto class its module, and the name of its mapping there; None: the Auto class knows its mapping.
_AUTO_CLASSES = {
    "AutoConfig": ("configuration_auto", "CONFIG_MAPPING"),
    "AutoFeatureExtractor": ("feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING"),
    "AutoModel": ("modeling_auto", None),
    "AutoModelForAudioClassification": ("modeling_auto", None),
    "AutoModelForAudioFrameClassification": ("modeling_auto", None),
    "AutoModelForPreTraining": ("modeling_auto", None),
    "AutoProcessor": ("processing_auto", "PROCESSOR_MAPPING"),
}
_pending = set(_AUTO_CLASSES)
_AUTO_PACKAGES = ("transformers", "transformers.models", "transformers.models.auto")


def _load(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


class _Entries(dict):
    """
    The registered classes of an Auto mapping, ours among them, which are loaded when they are looked up.

    Args:
        registered (`dict`): Those of others.
        auto_class (`str`): The Auto class.
    """

    def __init__(self, registered: dict, auto_class: str):
        super().__init__(registered)
        # A model without text has nothing but its feature extractor to process its input.
        own = "AutoFeatureExtractor" if auto_class == "AutoProcessor" else auto_class
        self._paths: dict[str, tuple[str, str]] = {}
        for model_type, record in ENCODERS.items():
            if own not in record.auto_classes:
                continue
            config = record.auto_classes["AutoConfig"]
            name = model_type if auto_class == "AutoConfig" else f"{__package__}.{config}"
            self._paths[name] = (config, record.auto_classes[own])

    def _resolve(self, key: Any) -> None:
        """Loads the class of a model type, or of a configuration's class."""
        name = key if isinstance(key, str) else f"{getattr(key, '__module__', '')}.{getattr(key, '__qualname__', '')}"
        if name in self._paths and not super().__contains__(key):
            self[key] = _load(self._paths[name][1])

    def _resolve_all(self) -> None:
        for name, (config, _) in self._paths.items():
            self._resolve(name if name in ENCODERS else _load(config))

    def __contains__(self, key: object) -> bool:
        # Of a model type, nothing has to be loaded.
        if isinstance(key, str) and key in self._paths:
            return True
        self._resolve(key)
        return super().__contains__(key)

    def __getitem__(self, key: Any) -> type:
        self._resolve(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._resolve(key)
        return super().get(key, default)

    def __len__(self) -> int:
        self._resolve_all()
        return super().__len__()

    def __iter__(self) -> Iterator[Any]:
        self._resolve_all()
        return super().__iter__()

    def keys(self) -> KeysView[Any]:  # type: ignore[override]
        self._resolve_all()
        return super().keys()

    def values(self) -> ValuesView[type]:  # type: ignore[override]
        self._resolve_all()
        return super().values()

    def items(self) -> ItemsView[Any, type]:  # type: ignore[override]
        self._resolve_all()
        return super().items()


def _find_mapping(auto_class: str) -> Any:
    """The mapping of an Auto class; None: not yet there."""
    module_name, name = _AUTO_CLASSES[auto_class]
    module = sys.modules.get(f"transformers.models.auto.{module_name}")
    if name is not None:
        return getattr(module, name, None)
    return getattr(getattr(module, auto_class, None), "_model_mapping", None)


def _register_pending() -> None:
    """Registers with the Auto classes that are loaded."""
    for auto_class in tuple(_pending):
        mapping = _find_mapping(auto_class)
        if mapping is not None:
            # Before the entry is no more pending: another thread may look whether it is.
            if not isinstance(mapping._extra_content, _Entries):
                mapping._extra_content = _Entries(mapping._extra_content, auto_class)
            _pending.discard(auto_class)


class _RegisteringLoader(importlib.abc.Loader):
    """Loads a module of the Auto classes as its own loader does, then registers with them."""

    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader, as whoever inspects it expects.
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        self.loader.exec_module(module)
        lazy = sys.modules.get(module.__name__, module)
        if lazy is not module:
            # Packages of transformers put a lazy module in their own place. A thread that waited for this import has the first.
            module.__getattr__ = partial(getattr, lazy)  # type: ignore[method-assign]
        _register_pending()


class _RegisteringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of the Auto classes as usual, and wraps their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _pending or (fullname not in _AUTO_PACKAGES and not fullname.startswith(f"{_AUTO_PACKAGES[-1]}.")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def register_with_auto_classes() -> None:
    """Registers with the Auto classes that are loaded, and with the others when they load."""
    if not any(isinstance(finder, _RegisteringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisteringFinder())
    _register_pending()
