# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one rule for kernels that read a module's parameters without calling it: they serve only a module that is exactly what
they compute. Every other module is called: replaced, subclassed, wrapped, patched, hooked, adapted, parametrised, quantised.

Modules may change between any two calls, so nothing about a module is remembered. What is remembered is what the methods of
its class were.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import compat
from .compat import assume_constant_result


@dataclass(frozen=True, eq=False)
class Kind:
    """A class that kernels stand in for.

    Args:
        names: of the class: with its module, or without it for classes of models, of which checkpoints carry copies.
        methods: those that decide what calling the module does, besides `forward`.
        parameters: those that the module must have.
        optional_parameters: those that may be None.
        children: modules that it must have.
    """

    names: tuple[str, ...]
    methods: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    optional_parameters: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


LINEAR = Kind(("torch.nn.modules.linear.Linear",), (), ("weight",), ("bias",))
CONVOLUTION = Kind(("torch.nn.modules.conv.Conv1d",), ("_conv_forward",), ("weight",), ("bias",))
SILU = Kind(("torch.nn.modules.activation.SiLU", "transformers.activations.SiLUActivation"))
NORM = Kind(("SsambaLayerNorm",), ("normalize",), ("weight", "bias"))
SSM = Kind(("SsambaSelectiveSSM",), ("convolve",), ("A_log", "D"), (), ("conv1d", "x_proj", "dt_proj", "act"))
MIXER = Kind(("SsambaMixer",), (), (), (), ("in_proj", "forward_ssm", "backward_ssm", "act", "out_proj"))
LAYER = Kind(("SsambaLayer",), ("add_output", "drop_update", "forward_pair"), (), (), ("norm", "mixer", "drop_path"))

_KINDS = {name: kind for kind in (LINEAR, CONVOLUTION, SILU, NORM, SSM, MIXER, LAYER) for name in kind.names}
# What runs when a module is called.
_CALLING = ("__call__", "_wrapped_call_impl", "_call_impl", "__getattr__", "forward")
# What the modules call. Some libraries replace them.
_read_functions = attrgetter("linear", "conv1d", "layer_norm", "silu", "softplus")
_FUNCTIONS = _read_functions(F)


class _Class(NamedTuple):
    """A class as it was first seen: its kind, a reader of its methods, and what that gave; attributes that would hide its own."""

    kind: Kind
    read: Callable[[type], tuple[Callable[..., Any], ...]]
    methods: tuple[Callable[..., Any], ...]
    names: frozenset[str]


_classes: dict[type, _Class] = {}


def _kind_of(cls: type) -> Kind | None:
    name = cls.__name__
    kind = _KINDS.get(f"{cls.__module__}.{name}") or _KINDS.get(name)
    # A subclass of the same name is another class.
    return None if kind is None or any(base.__name__ == name for base in cls.__mro__[1:]) else kind


def _are_own(cls: type, names: tuple[str, ...]) -> bool:
    """Whether a class has methods of these names that come from where it was defined."""
    homes = {base.__module__ for base in cls.__mro__}
    for name in names:
        home = getattr(getattr(cls, name, None), "__globals__", {}).get("__name__", "")
        # Decorators of transformers wrap methods of models.
        if home not in homes and not home.startswith("transformers."):
            return False
    return True


def _learn(cls: type) -> _Class | None:
    """Notes a class of a kind. None: it is no such class, or one of its methods was replaced before."""
    kind = _kind_of(cls)
    if kind is None or not _are_own(cls, (*_CALLING, *kind.methods)):
        return None
    read = attrgetter(*_CALLING, *kind.methods)
    names = frozenset({"_call_impl", *kind.methods, *kind.parameters, *kind.optional_parameters, *kind.children})
    known = _classes[cls] = _Class(kind, read, read(cls), names)
    return known


def _find(cls: type, kind: Kind) -> _Class | None:
    """What is known of a class of the kind. None: it is another class, or one of the functions that calls run was replaced."""
    known = _classes.get(cls) or _learn(cls)
    if known is None or known.kind is not kind or known.read(cls) != known.methods or _read_functions(F) != _FUNCTIONS:
        return None
    return known


@assume_constant_result
def _has_kind(cls: type, kind: Kind) -> bool:
    """`_find` for compilers and exporters, which replace functions of torch themselves."""
    return _kind_of(cls) is kind and _are_own(cls, ("forward", *kind.methods))


class Inspection:
    """Looks at modules at one moment, such as the beginning of a call: at each class once."""

    def __init__(self) -> None:
        self._found: dict[type, _Class] = {}

    def is_own(self, module: nn.Module | None, kind: Kind) -> bool:
        """Whether a module's `forward`, once it runs, is that of the kind: no subclass, and no replaced method, child or parameter.

        Args:
            module: hooks and wrappers around its `forward` do not count. None is no module.
            kind: one of this file's constants.
        """
        if not compat.IS_TESTED:
            return False
        cls = type(module)
        if torch.compiler.is_compiling():
            return _has_kind(cls, kind)
        known = self._found.get(cls)
        if known is None:
            known = _find(cls, kind)
            if known is None:
                return False
            self._found[cls] = known
        return known.kind is kind and module.__dict__.keys().isdisjoint(known.names)

    def is_exact(self, module: nn.Module | None, kind: Kind, inputs: Tensor | None = None) -> bool:
        """
        Whether calling the module computes what the kind defines from the module's own plain parameters, and does nothing else.

        Its class is exactly of the kind, and nobody replaced a method, on the class or on the module; it has no hooks, and is
        not compiled by itself; its parameters are ordinary tensors. Its children are not looked at.

        Args:
            module: None is no module.
            kind: one of this file's constants.
            inputs: what the module would be called with: its parameters must be on the same device, and have the same dtype
                unless autocast chooses one. None: any device and dtype.
        """
        return (
            module is not None
            and self.is_own(module, kind)
            and compat.is_untouched(module)
            and _has_plain_parameters(module, kind, inputs)
            and (kind is not CONVOLUTION or _is_depthwise(module))
        )

    def has_exact_directions(self, mixer: nn.Module) -> bool:
        """Whether a mixer's gate and both directions may be computed without calling `act`, `forward_ssm` and `backward_ssm`.

        Convolutions and projections may be anything: they are called where they are not exact.
        """
        own: dict[str, Any] = mixer._modules
        home = type(mixer).__module__
        first: Any = own.get("forward_ssm")
        second: Any = own.get("backward_ssm")
        for ssm in (first, second):
            if ssm is None or type(ssm).__module__ != home or not self.is_exact(ssm, SSM):
                return False
            if not self.is_exact(ssm._modules.get("act"), SILU):
                return False
        # One kernel runs both.
        return self.is_exact(own.get("act"), SILU) and first.A_log.shape == second.A_log.shape

    def has_exact_mixer(self, layer: nn.Module) -> bool:
        """Whether a layer, once its `forward` runs, may compute its mixer without calling it."""
        mixer = layer._modules.get("mixer")
        return (
            mixer is not None
            and self.is_own(layer, LAYER)
            and type(mixer).__module__ == type(layer).__module__
            and self.is_exact(mixer, MIXER)
            and self.has_exact_directions(mixer)
        )


def _has_plain_parameters(module: nn.Module, kind: Kind, inputs: Tensor | None) -> bool:
    own: dict[str, Any] = module._parameters
    for name in kind.parameters:
        parameter = own.get(name)
        if not compat.is_plain_weight(parameter) or not (inputs is None or _fits(parameter, inputs)):
            return False
    for name in kind.optional_parameters:
        if name not in own:
            return False
        parameter = own[name]
        if parameter is None:
            continue
        if not compat.is_plain_weight(parameter) or not (inputs is None or _fits(parameter, inputs)):
            return False
    return True


def _fits(parameter: Any, inputs: Tensor) -> bool:
    if parameter.device != inputs.device:
        return False
    return parameter.dtype == inputs.dtype or torch.is_autocast_enabled(inputs.device.type)


def _is_depthwise(convolution: nn.Module) -> bool:
    """Whether each channel is convolved by itself, token by token. Padding and shapes are the caller's matter."""
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.stride == (1,)
        and convolution.dilation == (1,)
        and convolution.padding_mode == "zeros"
    )
