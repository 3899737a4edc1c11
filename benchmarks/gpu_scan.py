# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The scan on a GPU, forward and backward: alone in one direction, each way in the layout that it likes best, as the whole
bidirectional layer between the projections in and out, and as a pair of such layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from gpu_mamba_ssm import SelectiveScan
from gpu_measuring import Limits, Meter, Needs, convolution_needs, linear_needs, measure_or_say_why, scan_needs
from tqdm import tqdm
from whole_model import frames_of

from hf_audio_ssm import SsambaConfig, SsambaModel
from hf_audio_ssm.ops import available_backends, bidirectional_mixing, bidirectional_mixing_pair, selective_scan


# It keeps no more than a chunk of states, but takes a kernel for each time step.
MOST_REFERENCE_TOKENS = 2049
PARTS = ("scan", "layer", "pair")
# Follows the first backend's name: the layers of a pair by two calls.
ONE_BY_ONE = ", one by one"


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
    """mamba-ssm's kernels on channels-first copies, which are not timed."""
    x, dt, A, B, C, D, gate, bias = (
        tensor.detach().transpose(1, 2).contiguous() if tensor.dim() == 3 else tensor.detach() for tensor in tensors
    )
    leaves = [tensor.requires_grad_() for tensor in (x, dt, A, B.unsqueeze(1), C.unsqueeze(1), D, gate, bias)]
    return partial(SelectiveScan.apply, *leaves), leaves


def make_scan(way: str, size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str):
    """A call of the scan in one direction, and what wants gradients."""
    leaves = scan_inputs(size, tokens, batch_size, dtype, device)
    if way == "mamba_ssm":
        return mamba_ssm_call(leaves)
    return partial(selective_scan, *leaves, backend=way), leaves


def make_layers(size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str):
    """What goes into two layers between the projections in and out, and the modules of each."""
    torch.manual_seed(0)
    config = getattr(SsambaConfig, size)(num_hidden_layers=2, max_length=frames_of(tokens))
    layers = SsambaModel(config).to(device, dtype).layers
    shape = batch_size, tokens, 2 * config.intermediate_size
    projected = [torch.randn(shape).to(device, dtype).requires_grad_() for _ in layers]
    return projected, [(layer.mixer.forward_ssm, layer.mixer.backward_ssm) for layer in layers]


def parameters_of(ssms) -> list[torch.nn.Parameter]:
    return [parameter for ssm in ssms for parameter in ssm.parameters()]


def make_layer(way: str, *arguments):
    """A call of `bidirectional_mixing`, and what wants gradients."""
    (projected, _), (ssms, _) = make_layers(*arguments)
    return partial(bidirectional_mixing, projected, *ssms, backend=way), [projected, *parameters_of(ssms)]


def make_pair(way: str, *arguments):
    """A call of `bidirectional_mixing_pair`, or of two `bidirectional_mixing`, and what wants gradients."""
    projected, ssms = make_layers(*arguments)

    def call() -> list[torch.Tensor]:
        if not way.endswith(ONE_BY_ONE):
            return bidirectional_mixing_pair(projected, ssms, backend=way)
        backend = way.removesuffix(ONE_BY_ONE)
        layers = zip(projected, ssms, (False, True), strict=True)
        return [bidirectional_mixing(states, *own, reverse, backend) for states, own, reverse in layers]

    return call, [*projected, *parameters_of(ssms[0]), *parameters_of(ssms[1])]


def make_call(
    part: str, is_backward: bool, way: str, size: str, tokens: int, batch_size: int, dtype: torch.dtype, device: str
) -> Callable[[], object]:
    """A call of a part's forward pass, or of its backward pass alone."""
    make = {"scan": make_scan, "layer": make_layer, "pair": make_pair}[part]
    call, leaves = make(way, size, tokens, batch_size, dtype, device)
    if not is_backward:
        return torch.no_grad()(call)
    outputs = call()
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return partial(torch.autograd.grad, outputs, leaves, list(map(torch.ones_like, outputs)), retain_graph=True)


def needs(part: str, size: str, tokens: int, batch_size: int, itemsize: int, is_backward: bool) -> Needs:
    """What a pass of a part cannot do without."""
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
    return 2 * total if part == "pair" else total


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
        A row for each of the `PARTS`, combination, pass and way: median seconds, multiple of the first backend's, the share
        of the device's limit, which is the time that a pass takes at least over the time that it took, and from what that
        follows: the bytes and operations that the pass cannot do without, in billions.
    """
    rows = []
    backends = available_backends(meter.device, dtype)
    combinations = [
        (part, size, tokens, batch_size)
        for part in PARTS
        for size in sizes
        for tokens in token_counts
        for batch_size in batch_sizes
    ]
    for part, size, tokens, batch_size in tqdm(combinations, desc="scan", leave=False):
        ways = (*backends, backends[0] + ONE_BY_ONE) if part == "pair" else backends
        for is_backward in (False, True):
            calls, found = {}, {}
            for way in ways:
                if way == "reference" and tokens > MOST_REFERENCE_TOKENS and len(ways) > 1:
                    found[way] = {"seconds": None, "left_out": "a kernel for each time step"}
                    continue
                make = partial(make_call, part, is_backward, way, size, tokens, batch_size, dtype, meter.device)
                call, found[way] = measure_or_say_why(meter, make)
                if call is not None:
                    calls[way] = call
            medians = meter.medians(calls, repeats, budget)
            needed = needs(part, size, tokens, batch_size, dtype.itemsize, is_backward)
            least = None if limits is None else needed.seconds(limits)
            # Of a call that has no median there is one measurement.
            times = {way: medians.get(way, row["seconds"]) for way, row in found.items()}
            for way, row in found.items():
                seconds, first = times[way], times[ways[0]]
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
                        **{f"G {name}": amount / 1e9 for name, amount in asdict(needed).items()},
                    }
                )
    return rows
