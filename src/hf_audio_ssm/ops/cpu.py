# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Binding of the native CPU kernel: a C library loaded with ctypes, registered as `torch.library` operators."""

import ctypes
import os
import struct
from pathlib import Path

import torch
from torch import Tensor

from .registration import NAMESPACE, TENSORS_PER_DIRECTION, forbid_double_backward, library, register_scan


_LANES, _CHUNK_SIZE = 16, 64  # kLanes and kChunk of csrc/calls.h
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_DEFAULT_ISA = -1
_ISAS = ("avx512", "avx2", "baseline")
# Field by field the structures of csrc/calls.h; "d" is `scale`.
_SCAN_CALL = struct.Struct("=10q d 3q 2q 3q q" + 2 * " 12q 4q 8q")
_CONVOLUTION_CALL = struct.Struct("=7q 3q q" + 2 * " 3q 3q 2q")
_NO_SEQUENCE = (0, 0, 0)
_NO_DIRECTION = (0,) * 24

# Which instruction set the kernels use: an index into _ISAS; tests set it to reach the others.
_isa = _DEFAULT_ISA
# A forked child has lost the threads of its parent's OpenMP pool and would wait for them forever.
_is_forked_child = False


def _note_fork() -> None:
    global _is_forked_child
    _is_forked_child = True


def _load_library() -> tuple[ctypes.CDLL | None, str]:
    paths = sorted(Path(__file__).parent.glob("_cpu*.so"))
    if not paths:
        return None, "it was not built when the package was installed"
    try:
        loaded = ctypes.CDLL(str(paths[0]))
        loaded.hf_audio_ssm_call_bytes.restype = ctypes.c_int64
        sizes = [loaded.hf_audio_ssm_call_bytes(is_convolution) for is_convolution in (0, 1)]
    except (OSError, AttributeError) as error:
        return None, f"{paths[0].name} could not be loaded: {error}"
    if sizes != [_SCAN_CALL.size, _CONVOLUTION_CALL.size]:
        return None, f"{paths[0].name} was built from another version of the source"
    loaded.hf_audio_ssm_isa_name.restype = ctypes.c_char_p
    loaded.hf_audio_ssm_isa_name.argtypes = [ctypes.c_int64]
    loaded.hf_audio_ssm_exp2.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    for name in ("scan_forward", "scan_backward", "convolution_forward", "convolution_backward"):
        getattr(loaded, f"hf_audio_ssm_{name}").argtypes = [ctypes.c_char_p]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_note_fork)
    return loaded, ""


_library, _unavailable_because = _load_library()


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
    return 1 if _is_forked_child else torch.get_num_threads()


def _unit_stride(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(2) == 1 or tensor.shape[2] == 1 else tensor.contiguous()


def _sequence(tensor: Tensor) -> tuple[int, int, int]:
    batch_stride, row_stride, _ = tensor.stride()
    return tensor.data_ptr(), batch_stride, row_stride


def _prepared(tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Sequences with unit stride over the features, parameters contiguous, as the kernels read them."""
    return [
        tensor if tensor is None else _unit_stride(tensor) if tensor.dim() == 3 else tensor.contiguous()
        for tensor in tensors
    ]


def _direction(tensors: list[Tensor | None], grads: list[Tensor | None] | None) -> tuple[int, ...]:
    x, dt, dt_weight, dt_bias, A, B, C, D = tensors
    fields = (
        *_sequence(x),
        *_sequence(dt),
        *_sequence(B),
        *_sequence(C),
        0 if dt_weight is None else dt_weight.data_ptr(),
        dt_bias.data_ptr(),
        A.data_ptr(),
        D.data_ptr(),
    )
    if grads is None:
        return (*fields, 0, 0, 0, 0, 0, 0, 0, 0)
    order = (grads[0], grads[1], grads[5], grads[6], grads[2], grads[3], grads[4], grads[7])
    return (*fields, *(0 if grad is None else grad.data_ptr() for grad in order))


def _scan_call(tensors, scale, reverse, output, saved, grad, grads) -> bytes:
    x, dt, A, gate = tensors[0], tensors[1], tensors[4], tensors[-1]
    batch_size, length, channels = x.shape
    two = tensors[TENSORS_PER_DIRECTION] is not None
    first, second = slice(0, TENSORS_PER_DIRECTION), slice(TENSORS_PER_DIRECTION, 2 * TENSORS_PER_DIRECTION)
    rank = dt.shape[2] if tensors[2] is not None else 0
    if two and tensors[second][2] is not None:
        rank = tensors[second][1].shape[2]
    return _SCAN_CALL.pack(
        batch_size,
        length,
        channels,
        A.shape[1],
        rank,
        _DTYPES[x.dtype],
        2 if two else 1,
        reverse,
        _num_threads(),
        _isa,
        scale,
        *(_NO_SEQUENCE if gate is None else _sequence(gate)),
        0 if output is None else output.data_ptr(),
        0 if saved is None else saved.data_ptr(),
        *(_NO_SEQUENCE if grad is None else _sequence(grad)),
        0 if grads is None or grads[-1] is None else grads[-1].data_ptr(),
        *_direction(tensors[first], grads and grads[first]),
        *(_direction(tensors[second], grads and grads[second]) if two else _NO_DIRECTION),
    )


def _states_shape(x: Tensor, A: Tensor, num_directions: int) -> tuple[int, ...]:
    blocks = (x.shape[2] + _LANES - 1) // _LANES
    chunks = (x.shape[1] + _CHUNK_SIZE - 1) // _CHUNK_SIZE
    return (num_directions, x.shape[0], blocks, chunks, A.shape[1], _LANES)


def scan_into(output: Tensor, tensors: tuple[Tensor | None, ...], scale: float, reverse: bool) -> None:
    """The scan without autograd, into a contiguous tensor, which may be the gate itself."""
    _check(
        _library.hf_audio_ssm_scan_forward(_scan_call(_prepared(tensors), scale, reverse, output, None, None, None))
    )


def _scan_forward(*arguments):
    *tensors, scale, reverse, save_states = arguments
    tensors = _prepared(tensors)
    x, A = tensors[0], tensors[4]
    output = torch.empty(x.shape, dtype=x.dtype)
    shape = (0,)
    if save_states:
        shape = _states_shape(x, A, 1 if tensors[TENSORS_PER_DIRECTION] is None else 2)
    states = torch.empty(shape, dtype=torch.float32)
    call = _scan_call(tensors, scale, reverse, output, states if save_states else None, None, None)
    _check(_library.hf_audio_ssm_scan_forward(call))
    return output, states


def _scan_backward(grad, states, *arguments):
    *tensors, scale, reverse = arguments
    tensors, grad = _prepared(tensors), _unit_stride(grad)
    grads = [None if tensor is None else torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in tensors]
    _check(_library.hf_audio_ssm_scan_backward(_scan_call(tensors, scale, reverse, None, states, grad, grads)))
    return [tensor for tensor in grads if tensor is not None]


def _convolution_call(x, directions, grad_x) -> bytes:
    """`directions`: (weight, bias, output, grad, weight's gradient, bias's gradient), None for what the pass lacks."""
    batch_size, length, channels = x.shape
    fields = []
    for weight, bias, output, grad, grad_weight, grad_bias in directions:
        fields += [weight.data_ptr(), bias.data_ptr(), 0 if output is None else output.data_ptr()]
        fields += _NO_SEQUENCE if grad is None else _sequence(grad)
        fields += [0, 0] if grad is None else [grad_weight.data_ptr(), grad_bias.data_ptr()]
    return _CONVOLUTION_CALL.pack(
        batch_size,
        length,
        channels,
        directions[0][0].shape[1],
        _DTYPES[x.dtype],
        _num_threads(),
        _isa,
        *_sequence(x),
        0 if grad_x is None else grad_x.data_ptr(),
        *fields,
    )


def _convolution_forward(x, weight, bias, weight2, bias2):
    outputs = (torch.empty(x.shape, dtype=x.dtype), torch.empty(x.shape, dtype=x.dtype))
    _convolve_into(outputs, x, weight, bias, weight2, bias2)
    return outputs


def _convolve_into(outputs, x, weight, bias, weight2, bias2):
    x, (weight, bias, weight2, bias2) = _unit_stride(x), _prepared((weight, bias, weight2, bias2))
    call = _convolution_call(
        x, [(weight, bias, outputs[0], None, None, None), (weight2, bias2, outputs[1], None, None, None)], None
    )
    _check(_library.hf_audio_ssm_convolution_forward(call))


def _convolution_backward(grad, grad2, x, weight, bias, weight2, bias2):
    x, grad, grad2 = map(_unit_stride, (x, grad, grad2))
    grad_x = torch.empty(x.shape, dtype=x.dtype)
    parameters = _prepared((weight, bias, weight2, bias2))
    grads = [torch.empty_like(tensor) for tensor in parameters]
    weight, bias, weight2, bias2 = parameters
    call = _convolution_call(
        x, [(weight, bias, None, grad, *grads[:2]), (weight2, bias2, None, grad2, *grads[2:])], grad_x
    )
    _check(_library.hf_audio_ssm_convolution_backward(call))
    return (grad_x, *grads)


def _register_convolution():
    parameters = "Tensor x, Tensor weight, Tensor bias, Tensor weight2, Tensor bias2"
    library.define(f"convolution_cpu({parameters}) -> (Tensor, Tensor)")
    library.define(
        f"convolution_cpu_backward(Tensor grad, Tensor grad2, {parameters})"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    )
    library.impl("convolution_cpu", _convolution_forward, "CPU")
    library.impl("convolution_cpu_backward", _convolution_backward, "CPU")
    operators = getattr(torch.ops, NAMESPACE)
    operator, backward_operator = operators.convolution_cpu.default, operators.convolution_cpu_backward.default

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward(ctx, grad, grad2):
        return backward_operator(grad, grad2, *ctx.saved_tensors)

    def fake(x, *parameters):
        return x.new_empty(x.shape), x.new_empty(x.shape)

    def fake_backward(grad, grad2, *tensors):
        return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)

    torch.library.register_fake(f"{NAMESPACE}::convolution_cpu", fake, lib=library)
    torch.library.register_fake(f"{NAMESPACE}::convolution_cpu_backward", fake_backward, lib=library)
    torch.library.register_autograd(
        f"{NAMESPACE}::convolution_cpu", backward, setup_context=setup_context, lib=library
    )
    forbid_double_backward("convolution_cpu_backward")
    return operator


def convolution(hidden_states, weight, bias, weight2, bias2, reverse):
    """Like `reference.convolution`, natively."""
    parameters = _convolution_parameters(weight, bias, weight2, bias2)
    if reverse:
        second, first = _convolve(hidden_states, *parameters[2:], *parameters[:2])
        return first, second
    return _convolve(hidden_states, *parameters)


def convolution_into(outputs, hidden_states, weight, bias, weight2, bias2, reverse) -> None:
    """`convolution` without autograd, into the contiguous tensors `outputs`."""
    parameters = _convolution_parameters(weight, bias, weight2, bias2)
    if reverse:
        outputs, parameters = outputs[::-1], parameters[2:] + parameters[:2]
    _convolve_into(outputs, hidden_states, *parameters)


def _convolution_parameters(weight, bias, weight2, bias2) -> list[Tensor]:
    parameters = []
    for value, own_bias in ((weight, bias), (weight2, bias2)):
        value = value.to(torch.float32)
        parameters += [value, value.new_zeros(value.shape[0]) if own_bias is None else own_bias.to(torch.float32)]
    return parameters


scan = register_scan("cpu", "CPU", _scan_forward, _scan_backward, _states_shape)
_convolve = _register_convolution()
