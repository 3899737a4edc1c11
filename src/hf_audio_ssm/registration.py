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
from collections.abc import Callable, Sequence
from types import ModuleType


def _register_configurations() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from .models.ssamba.configuration_ssamba import SsambaConfig

    AutoConfig.register(SsambaConfig.model_type, SsambaConfig, exist_ok=True)


def _register_feature_extractors() -> None:
    from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor

    from .models.ssamba.configuration_ssamba import SsambaConfig
    from .models.ssamba.feature_extraction_ssamba import SsambaFeatureExtractor

    AutoFeatureExtractor.register(SsambaConfig, SsambaFeatureExtractor, exist_ok=True)


def _register_models() -> None:
    from transformers.models.auto import modeling_auto

    from .models.ssamba import modeling_ssamba as ssamba
    from .models.ssamba.configuration_ssamba import SsambaConfig

    modeling_auto.AutoModel.register(SsambaConfig, ssamba.SsambaModel, exist_ok=True)
    modeling_auto.AutoModelForAudioClassification.register(
        SsambaConfig, ssamba.SsambaForAudioClassification, exist_ok=True
    )
    modeling_auto.AutoModelForPreTraining.register(SsambaConfig, ssamba.SsambaForPreTraining, exist_ok=True)


_AUTO = "transformers.models.auto"
_SSAMBA = "hf_audio_ssm.models.ssamba"
# Auto module -> the module whose classes it needs, and how to register them.
_REGISTRATIONS: dict[str, tuple[str, Callable[[], None]]] = {
    f"{_AUTO}.configuration_auto": (f"{_SSAMBA}.configuration_ssamba", _register_configurations),
    f"{_AUTO}.feature_extraction_auto": (f"{_SSAMBA}.feature_extraction_ssamba", _register_feature_extractors),
    f"{_AUTO}.modeling_auto": (f"{_SSAMBA}.modeling_ssamba", _register_models),
}
_WATCHED = {name for auto, (own, _) in _REGISTRATIONS.items() for name in (auto, own)}


def _is_loading(name: str) -> bool:
    return name in sys.modules and getattr(sys.modules[name].__spec__, "_initializing", False)


def _register_loaded(just_loaded: str | None = None) -> None:
    """Registers with the Auto modules that are loaded, except where one side is still loading: it calls back later."""
    for auto, (own, register) in _REGISTRATIONS.items():
        if just_loaded not in (None, auto, own) or auto not in sys.modules:
            continue
        if not any(_is_loading(name) for name in (auto, own) if name != just_loaded):
            register()


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
