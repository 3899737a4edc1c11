# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The two layers of a pair, which read the same input, at once: where the backend has kernels for that."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backends import Backend, select_backend
from .linear import is_untouched
from .scan import run_scan, saves_states, scan_tensors


def pairs_pay(
    layers: Sequence[nn.Module],
    hidden_states: Tensor,
    clip_shapes: Sequence[tuple[int, int]] | None = None,
    idle_hooks: str | None = None,
) -> bool:
    """Whether `bidirectional_mixer_pair` is faster for two layers than one layer after the other, and computes the same.

    Args:
        layers: have `norm` and `mixer`, as in `bidirectional_layer`.
        hidden_states: (batch, length, hidden size), what both read.
        clip_shapes: as in `bidirectional_mixing`.
        idle_hooks: as in `bidirectional_layers`.

    Returns:
        False where the backend has no kernels for pairs, where one layer is enough work for the device by itself (and takes
        half the memory), and where something sits on a module that would not be called.

    Raises:
        ValueError: the environment variable HF_AUDIO_SSM_BACKEND asks for a backend that is not available.
    """
    first = layers[0]
    channels, state_size = first.mixer.forward_ssm.A_log.shape
    device = hidden_states.device
    pairs = select_backend(device.type, first.norm.weight.dtype, None, state_size).pairs
    if pairs is None:
        return False
    for layer in layers:
        mixer = layer.mixer
        modules = (mixer, mixer.forward_ssm, mixer.backward_ssm)
        if not (is_untouched(layer, idle_hooks) and all(map(is_untouched, modules))):
            return False
    # A compiler shall not ask for sizes that it keeps open.
    if torch.compiler.is_compiling():
        return True
    shapes = [hidden_states.shape[:2]] if clip_shapes is None else clip_shapes
    return any(pairs.pay(clips, length, channels, state_size, device) for clips, length in shapes)


def run_convolutions(layers: Sequence[tuple], backend: Backend) -> list[tuple[Tensor, Tensor]]:
    """`Backend.convolution` of each layer's arguments; of two that are alike in one call, where the backend has that."""
    if len(layers) == 2 and backend.pairs is not None:
        (states, weight, *_), (other_states, other_weight, *_) = layers
        if _are_alike(states, other_states) and weight.shape == other_weight.shape:
            return backend.pairs.convolution(*layers)
    return [backend.convolution(*arguments) for arguments in layers]


def run_scans(layers: Sequence[tuple], scale: float, backend: Backend) -> list[Tensor]:
    """
    `run_scan` of each layer's (directions, gate, reverse), two directions and not None; of two layers that are alike in one
    call, where the backend has that.
    """
    if len(layers) == 2 and backend.pairs is not None:
        reverse = layers[0][2]
        # A layer is the sum of its directions: which of them comes first makes no difference.
        first, second = (
            scan_tensors(directions if own == reverse else directions[::-1], gate) for directions, gate, own in layers
        )
        # x and A, from which the other shapes follow.
        if _are_alike(first[0], second[0]) and _are_alike(first[4], second[4]):
            tensors = [*first, *second]
            *outputs, _ = backend.pairs.scan(*tensors, scale, reverse, saves_states(tensors))
            return [
                output.to(directions[0][0].dtype) for output, (directions, *_) in zip(outputs, layers, strict=True)
            ]
    return [run_scan(directions, gate, scale, reverse, backend) for directions, gate, reverse in layers]


def _are_alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype
