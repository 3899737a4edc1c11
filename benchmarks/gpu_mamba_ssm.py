# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""mamba-ssm's CUDA kernels to compare with: built where they are missing and a CUDA compiler is there, and called."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.utils import cpp_extension


PACKAGES = ("mamba-ssm==2.3.2.post1", "causal-conv1d==1.7.0")
# Else they look for binaries, which there are for few versions of torch.
FORCED = {"MAMBA_FORCE_BUILD": "TRUE", "CAUSAL_CONV1D_FORCE_BUILD": "TRUE"}


def provide(folder: Path) -> str | None:
    """
    Makes mamba-ssm's and causal-conv1d's compiled parts importable; without their dependencies, which these do not need.

    Args:
        folder: Where they are built, which takes minutes, or were built before.

    Returns:
        Why they are not there; None if they are.
    """
    if folder.exists():
        sys.path.append(str(folder))
    if find_spec("selective_scan_cuda") is not None:
        return None
    if cpp_extension.CUDA_HOME is None:
        return "mamba-ssm is not installed, and there is no CUDA compiler (nvcc) to build it"
    print(f"building {' and '.join(PACKAGES)} in {folder}: this takes minutes", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--upgrade"]
    result = subprocess.run(
        [*pip, "--target", str(folder), *PACKAGES],
        env={**os.environ, **FORCED},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        return f"mamba-ssm could not be built:\n{result.stdout[-2000:]}"
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    return None


class SelectiveScan(torch.autograd.Function):
    """
    The compiled scan as mamba-ssm's own `selective_scan_fn` calls it, which cannot be imported without all that its package
    depends on: u, delta, z (batch, channels, length), B, C (batch, 1, state, length), A (channels, state), D and bias
    (channels,), float32; contiguous.
    """

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, bias):
        kernels = importlib.import_module("selective_scan_cuda")
        output, states, gated = kernels.fwd(u, delta, A, B, C, D, z, bias, True)
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, states, output)
        return gated

    @staticmethod
    def backward(ctx, grad):
        *tensors, states, output = ctx.saved_tensors
        kernels = importlib.import_module("selective_scan_cuda")
        found = kernels.bwd(*tensors, grad.contiguous(), states, output, None, True, False)
        grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_z = found
        return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias
