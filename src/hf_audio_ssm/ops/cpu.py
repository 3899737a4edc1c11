# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Binding of the native CPU kernel: a C library loaded with ctypes, registered as `torch.library` operators."""

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .compat import are_plain
from .linear import is_eager_inference
from .memory import empty
from .operators import (
    ConvolutionArguments,
    Direction,
    ScanTensors,
    convolution_parameters,
    flatten,
    register_convolution,
    register_scan,
    unflatten,
)


_LANES, _CHUNK_SIZE = 16, 64  # kLanes and kChunk of csrc/calls.h
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_DEFAULT_ISA = -1
_ISAS = ("avx512", "avx2", "baseline")
# Field by field the structures of csrc/calls.h; "d" is `scale`.
_SCAN_CALL = struct.Struct("=10q d 3q 2q 3q q" + 2 * " 12q 4q 8q")
_CONVOLUTION_CALL = struct.Struct("=7q 3q q" + 2 * " 3q 3q 2q")
_LAYER_HEAD = struct.Struct("=q 2d 5q" + 5 * " 4q")
_NO_SEQUENCE = (0, 0, 0)
_NO_GRADS = (0,) * 8
_NO_DIRECTION = (0,) * 24

# Which instruction set the kernels use: an index into _ISAS; tests set it to reach the others.
_isa = _DEFAULT_ISA
# A forked child has lost the threads of its parent's OpenMP pool and would wait for them forever.
_is_forked_child = False
_has_used_threads = False


def _note_fork() -> None:
    global _is_forked_child
    _is_forked_child = True
    # Torch's own operators would wait as well: they share the pool.
    if _has_used_threads:
        torch.set_num_threads(1)


def _load_library() -> tuple[ctypes.CDLL | None, str]:
    paths = sorted(Path(__file__).parent.glob("_cpu*.so"))
    if not paths:
        return None, "it was not built when the package was installed"
    try:
        loaded = ctypes.CDLL(str(paths[0]))
        loaded.hf_audio_ssm_call_bytes.restype = ctypes.c_int64
        sizes = [loaded.hf_audio_ssm_call_bytes(kind) for kind in range(3)]
    except (OSError, AttributeError) as error:
        return None, f"{paths[0].name} could not be loaded: {error}"
    if sizes != [_SCAN_CALL.size, _CONVOLUTION_CALL.size, _LAYER_HEAD.size + _CONVOLUTION_CALL.size + _SCAN_CALL.size]:
        return None, f"{paths[0].name} was built from another version of the source"
    loaded.hf_audio_ssm_isa_name.restype = ctypes.c_char_p
    loaded.hf_audio_ssm_isa_name.argtypes = [ctypes.c_int64]
    loaded.hf_audio_ssm_exp2.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    for name in ("scan_forward", "scan_backward", "convolution_forward", "convolution_backward", "layer"):
        getattr(loaded, f"hf_audio_ssm_{name}").argtypes = [ctypes.c_char_p]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_note_fork)
    return loaded, ""


_library, _unavailable_because = _load_library()
_best_isa = next(index for index in range(len(_ISAS)) if _library.hf_audio_ssm_isa_name(index)) if _library else None


def is_available() -> bool:
    return _library is not None


def unavailable_because() -> str:
    return _unavailable_because


def supports(device_type: str | None, dtype: torch.dtype | None) -> bool:
    return is_available() and device_type in (None, "cpu") and (dtype is None or dtype in _DTYPES)


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this processor and build have, the one that is used first."""
    return tuple(name for index, name in enumerate(_ISAS) if _library.hf_audio_ssm_isa_name(index))


def _check(status: int) -> None:
    if status == 1:
        raise RuntimeError(f"This processor or build has no {_ISAS[_isa]} kernels: expected {available_isas()}.")
    if status == 2:
        raise MemoryError("The selective scan could not allocate its working memory.")
    if status == 3:
        raise ValueError("A has positive values: expected only negative ones, such as -exp(A_log).")


def _num_threads() -> int:
    global _has_used_threads
    if _is_forked_child:
        return 1
    threads = torch.get_num_threads()
    if threads > 1:
        _has_used_threads = True
    return threads


def _sequence(tensor: Tensor, kept: list[Tensor]) -> tuple[int, int, int]:
    """A sequence's fields; `kept` holds the copies that have to live until the kernel has run."""
    batch_stride, row_stride, feature_stride = tensor.stride()
    if feature_stride != 1 and tensor.shape[2] != 1:
        tensor = tensor.contiguous()
        kept.append(tensor)
        batch_stride, row_stride, _ = tensor.stride()
    return tensor.data_ptr(), batch_stride, row_stride


def _parameter(tensor: Tensor, kept: list[Tensor]) -> int:
    if not tensor.is_contiguous():
        tensor = tensor.contiguous()
        kept.append(tensor)
    return tensor.data_ptr()


def _direction(tensors: Direction, grads: Direction | None, kept) -> tuple[int, ...]:
    x, dt, dt_weight, dt_bias, A, B, C, D = tensors
    fields = (
        *_sequence(x, kept),
        *_sequence(dt, kept),
        *_sequence(B, kept),
        *_sequence(C, kept),
        0 if dt_weight is None else _parameter(dt_weight, kept),
        _parameter(dt_bias, kept),
        _parameter(A, kept),
        _parameter(D, kept),
    )
    if grads is None:
        return fields + _NO_GRADS
    order = (grads.x, grads.dt, grads.B, grads.C, grads.dt_weight, grads.dt_bias, grads.A, grads.D)
    return fields + tuple(0 if grad is None else grad.data_ptr() for grad in order)


def _run_scan(
    run,
    tensors: ScanTensors,
    scale: float,
    reverse: bool,
    output: Tensor | None = None,
    saved: Tensor | None = None,
    grad: Tensor | None = None,
    grads: ScanTensors | None = None,
) -> None:
    """Calls the library's `run`; the tensors' gradients go to `grads`."""
    kept: list[Tensor] = []
    first, second, gate = tensors
    fields = _direction(first, None if grads is None else grads.first, kept)
    if second is None:
        fields += _NO_DIRECTION
    else:
        fields += _direction(second, None if grads is None else grads.second, kept)
    # A direction with its own dt has no use for the rank.
    weight = second.dt_weight if first.dt_weight is None and second is not None else first.dt_weight
    call = _SCAN_CALL.pack(
        *first.x.shape,
        first.A.shape[1],
        0 if weight is None else weight.shape[1],
        _DTYPES[first.x.dtype],
        1 if second is None else 2,
        reverse,
        _num_threads(),
        _isa,
        scale,
        *(_NO_SEQUENCE if gate is None else _sequence(gate, kept)),
        0 if output is None else output.data_ptr(),
        0 if saved is None else saved.data_ptr(),
        *(_NO_SEQUENCE if grad is None else _sequence(grad, kept)),
        0 if grads is None or grads.gate is None else grads.gate.data_ptr(),
        *fields,
    )
    _check(run(call))


def _states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    blocks = (x.shape[2] + _LANES - 1) // _LANES
    chunks = (x.shape[1] + _CHUNK_SIZE - 1) // _CHUNK_SIZE
    return (num_directions, x.shape[0], blocks, chunks, A.shape[1], _LANES)


def scan_into(output: Tensor, tensors: ScanTensors, scale: float, reverse: bool) -> None:
    """The scan without autograd, into a contiguous tensor, which may be the gate itself."""
    _run_scan(_library.hf_audio_ssm_scan_forward, tensors, scale, reverse, output)


def _scan_forward(*arguments):
    tensors = unflatten(arguments[:-3])
    scale, reverse, save_states = arguments[-3:]
    x, A = tensors.first.x, tensors.first.A
    output, states = empty(x.shape, x.dtype), None
    if save_states:
        states = empty(_states_shape(x, A, 1 if tensors.second is None else 2), torch.float32)
    _run_scan(_library.hf_audio_ssm_scan_forward, tensors, scale, reverse, output, states)
    return output, torch.empty(0) if states is None else states


def _scan_backward(grad, states, *arguments):
    *flat, scale, reverse = arguments
    grads = [None if tensor is None else empty(tensor.shape, tensor.dtype) for tensor in flat]
    run = _library.hf_audio_ssm_scan_backward
    _run_scan(run, unflatten(flat), scale, reverse, None, states, grad, unflatten(grads))
    return [tensor for tensor in grads if tensor is not None]


def scan(tensors: ScanTensors, scale: float, reverse: bool, save_states: bool) -> tuple[Tensor, Tensor | None]:
    """The operator; called directly and without states where only this call sees its inputs, which takes half the time."""
    x = tensors.first.x
    if not is_eager_inference(x) or not are_plain(flatten(tensors)):
        return _scan(tensors, scale, reverse, save_states)
    output = empty(x.shape, x.dtype)
    scan_into(output, tensors, scale, reverse)
    return output, None


def _run_convolution(run, x, directions, grad_x=None) -> None:
    """`directions`: (weight, bias, output, grad, weight's gradient, bias's gradient), None for what the pass lacks."""
    kept, fields = [], []
    for weight, bias, output, grad, grad_weight, grad_bias in directions:
        fields += [_parameter(weight, kept), _parameter(bias, kept), 0 if output is None else output.data_ptr()]
        fields += _NO_SEQUENCE if grad is None else _sequence(grad, kept)
        fields += [0, 0] if grad is None else [grad_weight.data_ptr(), grad_bias.data_ptr()]
    call = _CONVOLUTION_CALL.pack(
        *x.shape,
        directions[0][0].shape[1],
        _DTYPES[x.dtype],
        _num_threads(),
        _isa,
        *_sequence(x, kept),
        0 if grad_x is None else grad_x.data_ptr(),
        *fields,
    )
    _check(run(call))


def _convolve_into(outputs, x, weight, bias, weight2, bias2):
    directions = [(weight, bias, outputs[0], None, None, None), (weight2, bias2, outputs[1], None, None, None)]
    _run_convolution(_library.hf_audio_ssm_convolution_forward, x, directions)


def _convolution_forward(x, weight, bias, weight2, bias2):
    outputs = (empty(x.shape, x.dtype), empty(x.shape, x.dtype))
    _convolve_into(outputs, x, weight, bias, weight2, bias2)
    return outputs


def _convolution_backward(grad, grad2, x, weight, bias, weight2, bias2):
    grad_x = empty(x.shape, x.dtype)
    grads = [torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in (weight, bias, weight2, bias2)]
    directions = [(weight, bias, None, grad, *grads[:2]), (weight2, bias2, None, grad2, *grads[2:])]
    _run_convolution(_library.hf_audio_ssm_convolution_backward, x, directions, grad_x)
    return (grad_x, *grads)


def convolution(hidden_states, weight, bias, weight2, bias2, reverse):
    """Like `reference.convolution`, natively."""
    parameters = convolution_parameters(weight, bias, weight2, bias2)
    if reverse:
        parameters = parameters[2:] + parameters[:2]
    is_direct = is_eager_inference(hidden_states) and are_plain((hidden_states, *parameters))
    run = _convolution_forward if is_direct else _convolution
    outputs = run(hidden_states, *parameters)
    return outputs[::-1] if reverse else outputs


def convolution_into(outputs: Sequence[Tensor], arguments: ConvolutionArguments) -> None:
    """`convolution` without autograd, into two contiguous tensors."""
    hidden_states, weight, bias, weight2, bias2, reverse = arguments
    parameters = convolution_parameters(weight, bias, weight2, bias2)
    if reverse:
        outputs, parameters = outputs[::-1], parameters[2:] + parameters[:2]
    _convolve_into(outputs, hidden_states, *parameters)


def has_layer() -> bool:
    """Whether a `Layer` is faster than its modules: its matrix products are, on x86-64 with AVX2 or AVX-512."""
    return is_available() and (_best_isa if _isa < 0 else _isa) < _ISAS.index("baseline")


@dataclass
class Layer:
    """A whole layer without autograd, `residual + scale * mixer(norm(hidden_states))`; all in float32.

    Args:
        norm: weight and bias.
        eps: the norm's epsilon.
        linears: weight and bias of the input projection, both directions' x_proj, the output projection.
        convolutions, time_steps: weight and bias of both directions' convolution and projection of the time step.
        states: A and D of both directions.
        scale: of the output that is added to the residual.
        reverse: as in `bidirectional_mixing`.
    """

    norm: Sequence[Tensor]
    eps: float
    linears: Sequence[tuple[Tensor, Tensor | None]]
    convolutions: Sequence[tuple[Tensor, Tensor | None]]
    time_steps: Sequence[tuple[Tensor, Tensor]]
    states: Sequence[tuple[Tensor, Tensor]]
    scale: float
    reverse: bool

    def __post_init__(self):
        self.channels, self.state_size = self.states[0][0].shape
        self.widths = [len(weight) for weight, _ in self.linears[1:3]]
        self._kept: list[Tensor] = []

    def _addresses(self, weight: Tensor, bias: Tensor | None) -> tuple[int, int]:
        return _parameter(weight, self._kept), 0 if bias is None else _parameter(bias, self._kept)

    def call(
        self, output: Tensor, hidden_states: Tensor, residual: Tensor, memory: Sequence[Sequence[Tensor]]
    ) -> bytes:
        """For `run_layer`, while this object and the tensors live.

        Args:
            output: (batch, length, hidden size), contiguous; may be one of the following two.
            hidden_states, residual: shaped as the output, contiguous.
            memory: for each direction (batch, length, channels) and (batch, length, time step rank + 2 * state), contiguous,
                written over.
        """
        shape = (*hidden_states.shape[:2], self.channels)
        hidden_size, rank, threads = hidden_states.shape[2], self.time_steps[0][0].shape[1], _num_threads()
        weight, bias = self._addresses(*self.linears[0])
        half = (self.channels, hidden_size)
        fields = [
            weight,
            bias,
            *half,
            weight + 4 * self.channels * hidden_size,
            bias and bias + 4 * self.channels,
            *half,
        ]
        for linear in self.linears[1:]:
            fields += [*self._addresses(*linear), *linear[0].shape]
        head = _LAYER_HEAD.pack(
            hidden_size,
            self.eps,
            self.scale,
            *(tensor.data_ptr() for tensor in (hidden_states, residual, output)),
            *self._addresses(*self.norm),
            *fields,
        )

        addresses = [[tensor.data_ptr() for tensor in own] for own in memory]
        fields = []
        # The causal direction comes first.
        for index in (1, 0) if self.reverse else (0, 1):
            fields += [*self._addresses(*self.convolutions[index]), addresses[index][0], *_NO_SEQUENCE, 0, 0]
        kernel, dtype = self.convolutions[0][0].shape[-1], _DTYPES[torch.float32]
        convolution = _CONVOLUTION_CALL.pack(*shape, kernel, dtype, threads, _isa, *_NO_SEQUENCE, 0, *fields)

        fields = []
        for (states, projected), width, time_step, own in zip(
            addresses, self.widths, self.time_steps, self.states, strict=True
        ):
            fields += [states, shape[1] * self.channels, self.channels]
            for start in (0, rank, rank + self.state_size):
                fields += [projected + 4 * start, shape[1] * width, width]
            fields += [*self._addresses(*time_step), *self._addresses(*own), *_NO_GRADS]
        # The sum of both directions takes the place of the second one's states.
        result = addresses[1][0]
        scan = _SCAN_CALL.pack(
            *(*shape, self.state_size, rank, dtype, 2, self.reverse, threads, _isa, 0.5),
            *(*_NO_SEQUENCE, result, 0, *_NO_SEQUENCE, 0),
            *fields,
        )
        return head + convolution + scan


def run_layer(call: bytes) -> None:
    """Runs a `Layer.call`."""
    _check(_library.hf_audio_ssm_layer(call))


_scan = register_scan("cpu", "CPU", _scan_forward, _scan_backward, _states_shape)
_convolution = register_convolution("cpu", "CPU", _convolution_forward, _convolution_backward)
