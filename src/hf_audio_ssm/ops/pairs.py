# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The two layers of a pair, which read the same input, at once: where the backend has kernels for that."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backends import Backend, select_backend
from .exact import LAYER, Inspection
from .operators import ConvolutionArguments
from .scan import LayerScan, run_scan, saves_states, scan_tensors


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
        idle_hooks: ignored, as in `bidirectional_layers`.

    Returns:
        False where the backend has no kernels for pairs, where one layer is enough work for the device by itself (and takes
        half the memory), and where a module that would not be called is not exactly what the kernels compute.

    Raises:
        ValueError: the environment variable HF_AUDIO_SSM_BACKEND asks for a backend that is not available.
    """
    inspection = Inspection()
    if not all(inspection.is_exact(layer, LAYER) and inspection.has_exact_mixer(layer) for layer in layers):
        return False
    first = layers[0]
    channels, state_size = first.mixer.forward_ssm.A_log.shape
    device, weight = hidden_states.device, getattr(first.norm, "weight", None)
    dtype = weight.dtype if isinstance(weight, Tensor) else hidden_states.dtype
    pairs = select_backend(device.type, dtype, None, state_size).pairs
    if pairs is None:
        return False
    # Asking for sizes would fix those that a compiler keeps open.
    if torch.compiler.is_compiling():
        return True
    shapes = [hidden_states.shape[:2]] if clip_shapes is None else clip_shapes
    return any(pairs.pay(clips, length, channels, state_size, device) for clips, length in shapes)


def run_convolutions(layers: Sequence[ConvolutionArguments], backend: Backend) -> list[tuple[Tensor, Tensor]]:
    """`Backend.convolution` of each layer's arguments; of two that are alike in one call, where the backend has that."""
    if len(layers) == 2 and backend.pairs is not None:
        first, second = layers
        if _are_alike(first.hidden_states, second.hidden_states) and first.weight.shape == second.weight.shape:
            return backend.pairs.convolution(*layers)
    return [backend.convolution(*arguments) for arguments in layers]


def run_scans(layers: Sequence[LayerScan], scale: float, backend: Backend) -> list[Tensor]:
    """
    `run_scan` of each layer, with two directions each that are not None; of two layers that are alike in one call, where the
    backend has that.
    """
    if len(layers) == 2 and backend.pairs is not None:
        reverse = layers[0].reverse
        # A layer is the sum of its directions: which of them comes first makes no difference.
        first, second = (
            scan_tensors(layer.directions if layer.reverse == reverse else layer.directions[::-1], layer.gate)
            for layer in layers
        )
        # The other shapes follow from those of x and A.
        if _are_alike(first.first.x, second.first.x) and _are_alike(first.first.A, second.first.A):
            saves = saves_states(first) or saves_states(second)
            *outputs, _ = backend.pairs.scan(first, second, scale, reverse, saves)
            return [output.to(layer.directions[0].x.dtype) for output, layer in zip(outputs, layers, strict=True)]
    return [run_scan(layer, scale, backend) for layer in layers]


def _are_alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype
