# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The scan on a GPU, forward and backward: alone in one direction, each way in the layout that it likes best, and as the whole
bidirectional layer between the projections in and out.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from gpu_measuring import Limits, Meter, Needs, convolution_needs, linear_needs, measure_or_say_why, scan_needs
from tqdm import tqdm
from whole_model import frames_of

from hf_audio_ssm import SsambaConfig, SsambaModel
from hf_audio_ssm.ops import available_backends, bidirectional_mixing, selective_scan


# It keeps no more than a chunk of states, but takes a kernel for each time step.
MOST_REFERENCE_TOKENS = 2049


def scan_inputs(size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    """Arguments of `selective_scan` with the sizes of a model's layer, all of which want gradients."""
    config = getattr(SsambaConfig, size)()
    channels, states = config.intermediate_size, config.state_size
    torch.manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(*shape).to(device, dtype)

    wide, narrow = (batch_size, tokens, channels), (batch_size, tokens, states)
    A = -torch.arange(1.0, states + 1, device=device).repeat(channels, 1)
    tensors = [normal(*wide), normal(*wide), A, normal(*narrow), normal(*narrow)]
    tensors += [normal(channels, dtype=torch.float32), normal(*wide), normal(channels, dtype=torch.float32) - 4]
    return [tensor.requires_grad_() for tensor in tensors]


def mamba_ssm_call(tensors: list[torch.Tensor]) -> tuple[Callable[[], torch.Tensor], list[torch.Tensor]]:
    """mamba-ssm's own function on channels-first copies, which are not timed."""
    scan = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    x, dt, A, B, C, D, gate, bias = (
        (tensor.detach().transpose(1, 2).contiguous() if tensor.dim() == 3 else tensor.detach()).requires_grad_()
        for tensor in tensors
    )
    call = partial(scan, x, dt, A, B, C, D=D, z=gate, delta_bias=bias, delta_softplus=True)
    return call, [x, dt, A, B, C, D, gate, bias]


def make_scan(way: str, size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str):
    """A call of the scan in one direction, and what wants gradients."""
    leaves = scan_inputs(size, tokens, batch_size, dtype, device)
    if way == "mamba_ssm":
        return mamba_ssm_call(leaves)
    return partial(selective_scan, *leaves, backend=way), leaves


def make_layer(way: str, size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str):
    """A call of `bidirectional_mixing`, and what wants gradients."""
    torch.manual_seed(0)
    config = getattr(SsambaConfig, size)(num_hidden_layers=2, max_length=frames_of(tokens))
    mixer = SsambaModel(config).layers[0].mixer.to(device, dtype)
    projected = torch.randn(batch_size, tokens, 2 * config.intermediate_size).to(device, dtype).requires_grad_()
    ssms = mixer.forward_ssm, mixer.backward_ssm
    leaves = [projected, *(parameter for ssm in ssms for parameter in ssm.parameters())]
    return partial(bidirectional_mixing, projected, *ssms, backend=way), leaves


def make_call(
    part: str, is_backward: bool, way: str, size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str
) -> Callable[[], object]:
    """A call of a part's forward pass, or of its backward pass alone."""
    call, leaves = {"scan": make_scan, "layer": make_layer}[part](way, size, tokens, batch_size, dtype, device)
    if not is_backward:
        return torch.no_grad()(call)
    output = call()
    return partial(torch.autograd.grad, output, leaves, torch.ones_like(output), retain_graph=True)


def needs(part: str, size: str, tokens: int, batch_size: int, itemsize: int, is_backward: bool) -> Needs:
    """What a pass of the scan or the layer cannot do without."""
    config = getattr(SsambaConfig, size)()
    shape = batch_size, tokens, config.intermediate_size
    if part == "scan":
        return scan_needs(shape, config.state_size, 1, itemsize, is_backward)
    projections = (
        (config.intermediate_size, config.time_step_rank + 2 * config.state_size),
        (config.time_step_rank, config.intermediate_size),
    )
    total = scan_needs(shape, config.state_size, 2, itemsize, is_backward)
    total = total + convolution_needs(shape, config.conv_kernel, itemsize, is_backward)
    for features in projections:
        # Both directions; back, the inputs' and the weight's gradients.
        total = total + 2 * (1 + is_backward) * linear_needs(batch_size * tokens, *features, itemsize)
    return total


def run(
    meter: Meter,
    limits: Limits | None,
    sizes: list[str],
    token_counts: Sequence[int],
    batch_sizes: Sequence[int],
    dtype: torch.dtype = torch.bfloat16,
    repeats: int = 20,
    budget: float = 5.0,
) -> list[dict[str, Any]]:
    """
    Args:
        meter: Of the device.
        limits: The device's; None: no shares of them.
        sizes, token_counts, batch_sizes: What to measure.
        dtype: Of the sequences.
        repeats: Measured rounds at most.
        budget: Seconds after which no further round of a combination begins.

    Returns:
        A row for each part ("scan", "layer"), combination, pass and way: median seconds, multiple of the first backend's, and
        the share of the device's limit, which is the time that a pass takes at least over the time that it took.
    """
    rows = []
    ways = available_backends(meter.device, dtype)
    combinations = [
        (part, size, tokens, batch_size)
        for part in ("scan", "layer")
        for size in sizes
        for tokens in token_counts
        for batch_size in batch_sizes
    ]
    for part, size, tokens, batch_size in tqdm(combinations, desc="scan", leave=False):
        for is_backward in (False, True):
            calls, found = {}, {}
            for way in ways:
                if way == "reference" and tokens > MOST_REFERENCE_TOKENS and len(ways) > 1:
                    found[way] = {"left_out": "a kernel for each time step"}
                    continue
                make = partial(make_call, part, is_backward, way, size, tokens, batch_size, dtype, meter.device)
                call, found[way] = measure_or_say_why(meter, make)
                if call is not None:
                    calls[way] = call
            medians = meter.medians(calls, repeats, budget)
            least = None
            if limits is not None:
                least = needs(part, size, tokens, batch_size, dtype.itemsize, is_backward).seconds(limits)
            for way, row in found.items():
                seconds = medians.get(way)
                first = medians.get(ways[0])
                rows.append(
                    {
                        "part": part,
                        "size": size,
                        "tokens": tokens,
                        "batch": batch_size,
                        "pass": "backward" if is_backward else "forward",
                        "way": way,
                        "seconds": seconds,
                        "multiple": None if None in (seconds, first) else seconds / first,
                        "limit_share": None if None in (seconds, least) else least / seconds,
                        "left_out": row["left_out"],
                    }
                )
    return rows
