# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The Triton backend where there is no GPU: its kernels under the interpreter, and compiled ahead of time for several GPUs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scan_cases import make_inputs
from torch._subclasses.fake_tensor import FakeTensorMode
from triton_interpreter import MODULES, check_under_the_interpreter

from hf_audio_ssm.ops import triton as backend


pytest.importorskip("triton")
if backend.is_interpreted():
    pytest.skip("these tests compile, or start the interpreter themselves", allow_module_level=True)


def test_the_kernels_under_the_interpreter():
    check_under_the_interpreter(f"not ({MODULES})")


@pytest.mark.slow
def test_the_slow_tests_under_the_interpreter():
    check_under_the_interpreter("test", "slow")


def test_importing_the_package_leaves_triton_alone():
    script = (
        "import sys; import hf_audio_ssm; hf_audio_ssm.ops.explain_backends('cpu'); print('triton' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


class Launches:
    """Takes the kernels' launches and compiles each, with the sizes and types that it was called with, for a GPU."""

    def __init__(self, monkeypatch, tmp_path, target):
        from triton.backends.compiler import GPUTarget
        from triton.runtime.jit import JITFunction

        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
        self.target = GPUTarget(*target)
        self.compiled: dict[str, object] = {}
        monkeypatch.setattr(JITFunction, "run", self.take)

    @property
    def take(self):
        launches = self

        def run(function, *arguments, grid, warmup, num_warps=4, **named):
            launches.compile(function, {**dict(zip(function.arg_names, arguments, strict=False)), **named}, num_warps)

        return run

    def compile(self, function, arguments, num_warps):
        import triton
        from triton.compiler import ASTSource

        pointers = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
        signature, constants, attributes = {}, {}, {}
        for index, parameter in enumerate(function.params):
            value = arguments[parameter.name]
            if parameter.is_constexpr:
                signature[parameter.name], constants[(index,)] = "constexpr", value
                continue
            if isinstance(value, torch.Tensor):
                signature[parameter.name] = pointers[value.dtype]
                divisible = value.data_ptr() % 16 == 0
            else:
                signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
                divisible = isinstance(value, int) and value % 16 == 0
            # What Triton itself finds out about arguments when it compiles at a launch.
            if isinstance(value, int) and value == 1 and not parameter.do_not_specialize:
                signature[parameter.name], constants[(index,)] = "constexpr", 1
            elif divisible and not parameter.do_not_specialize:
                attributes[(index,)] = [["tt.divisibility", 16]]
        source = ASTSource(function, signature, constexprs=constants, attrs=attributes)
        self.compiled[function.__name__] = triton.compile(source, target=self.target, options={"num_warps": num_warps})

    def resources(self, name: str, tmp_path) -> tuple[int, int]:
        """Registers of a thread, and bytes of its stack, by NVIDIA's tools that come with Triton."""
        import triton.backends.nvidia as nvidia

        binary = tmp_path / "kernel.cubin"
        binary.write_bytes(self.compiled[name].asm["cubin"])
        tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
        text = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
        fields = dict(field.split(":") for field in text.split() if field.startswith(("REG:", "STACK:")))
        return int(fields["REG"]), int(fields["STACK"])


def launch_all(monkeypatch, dtype, state_size, channels=384):
    """Every kernel, with the sizes of SSAMBA tiny: a pair of layers in both directions, gated, in several segments."""
    from hf_audio_ssm.ops.triton import convolutions, scan_backward, scan_forward

    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 1 << 20)
    tensors, parameters = [], [torch.ones(channels, 4), torch.ones(channels)] * 2
    for _ in range(2):
        for _ in range(2):
            x, dt, A, B, C, D, _, bias = make_inputs(1, 513, channels, state_size).values()
            dt = dt[..., :12].to(dtype)
            tensors += [x.to(dtype), dt, torch.ones(channels, dt.shape[2]), bias, A, B.to(dtype), C.to(dtype), D]
        tensors.append(torch.cat((x, x), dim=-1).to(dtype)[..., channels:])
    x, gate = tensors[0], tensors[-1]
    *_, saved = scan_forward.forward(*tensors, 0.5, False, True)
    scan_backward.backward(x, x, saved, *tensors, 0.5, False)
    convolutions.forward(gate, *parameters, gate, *parameters)
    convolutions.backward(x, x, x, x, gate, *parameters, gate, *parameters)


KERNELS = {
    "pack_kernel",
    "segment_kernel",
    "combine_kernel",
    "scan_kernel",
    "backward_kernel",
    "convolution_kernel",
    "silu_backward_kernel",
    "transposed_kernel",
}


def test_compiled_for_an_h100(monkeypatch, tmp_path):
    """Every kernel compiles with the sizes of SSAMBA tiny; none leaves the registers where it would cost time."""
    launches = Launches(monkeypatch, tmp_path, ("cuda", 90, 32))
    launch_all(monkeypatch, torch.bfloat16, 16)
    assert set(launches.compiled) == KERNELS
    used = {name: launches.resources(name, tmp_path) for name in KERNELS}
    assert all(stack == 0 for name, (_, stack) in used.items() if name != "backward_kernel"), used
    # 16 warps and more on a multiprocessor.
    assert used["scan_kernel"][0] <= 128
    assert used["segment_kernel"][0] <= 128
    # Its pointers are spilled once, before its loops.
    assert used["backward_kernel"][1] <= 256


def test_compiled_without_what_is_optional(monkeypatch, tmp_path):
    """One direction in one segment, no gate, nothing saved: code that the kernels leave out otherwise, and the reverse."""
    from hf_audio_ssm.ops.triton import scan_backward, scan_forward

    launches = Launches(monkeypatch, tmp_path, ("cuda", 90, 32))
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 1)
    x, dt, A, B, C, D, _, bias = make_inputs(2, 70, 32, 16).values()
    tensors = [x, dt, None, bias, A, B, C, D, *[None] * 9]
    scan_forward.forward(*tensors, 1.0, True, False)
    assert set(launches.compiled) == {"pack_kernel", "scan_kernel"}
    *_, saved = scan_forward.forward(*tensors, 1.0, True, True)
    scan_backward.backward(x, saved, *tensors, 1.0, True)
    assert set(launches.compiled) == {"pack_kernel", "scan_kernel", "backward_kernel"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        ("cuda", 75, 32),
        ("cuda", 80, 32),
        ("cuda", 90, 32),
        ("cuda", 100, 32),
        ("hip", "gfx90a", 64),
        ("hip", "gfx942", 64),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("dtype", "state_size"),
    [
        (torch.float32, 16),
        (torch.float16, 16),
        (torch.bfloat16, 16),
        (torch.float32, 8),
        (torch.float16, 8),
        (torch.bfloat16, 32),
        (torch.float32, 32),
        (torch.float16, 64),
        (torch.bfloat16, 64),
        (torch.float32, 256),
    ],
    ids=str,
)
def test_compiled_for_other_gpus(target, dtype, state_size, monkeypatch, tmp_path):
    launches = Launches(monkeypatch, tmp_path, target)
    launch_all(monkeypatch, dtype, state_size)
    assert set(launches.compiled) == KERNELS


@pytest.mark.slow
def test_compiled_for_sizes_of_one(monkeypatch, tmp_path):
    """Triton makes arguments that are 1 constants."""
    launches = Launches(monkeypatch, tmp_path, ("cuda", 90, 32))
    launch_all(monkeypatch, torch.float32, 1, channels=1)
    assert set(launches.compiled) == KERNELS


KERNELS_TRIED = ("_convolution_forward", "_scan_forward")


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A GPU whose tensors lie on the CPU, and no memory of what ran on it."""
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *shape, device: ones(shape))
    no_gpu = {"is_available": lambda: True, "current_device": lambda: 0, "synchronize": lambda device: None}
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(**no_gpu, get_device_capability=lambda: (9, 0)))
    tried = []
    for name in KERNELS_TRIED:
        monkeypatch.setattr(backend, name, lambda x, *others, name=name: tried.append((name, type(x))))
    backend._failure_on.cache_clear()
    yield tried
    backend._failure_on.cache_clear()


@pytest.mark.parametrize("name", KERNELS_TRIED)
def test_a_gpu_that_cannot_run_the_kernels_is_left_to_others(name, monkeypatch, pretended_gpu):
    """No C compiler, an unknown GPU, an old driver: whatever a first kernel raises becomes the reason."""

    def fail(*arguments):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(backend, name, fail)
    assert backend.unavailable_because() == "a first kernel failed with RuntimeError: Failed to find C compiler"
    assert not backend.supports("cuda", torch.float32)


def test_a_gpu_is_tried_once_whatever_traces_the_first_call(monkeypatch, pretended_gpu):
    """With the fake tensors of an export a kernel would fail."""
    with FakeTensorMode():
        assert backend.supports("cuda", torch.float32)
    assert backend.supports("cuda", torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert backend.supports("cuda", torch.float16)
    assert not backend.supports("cuda", torch.bfloat16)
    assert not backend.supports("cuda", torch.float64)
    assert pretended_gpu == [(name, torch.Tensor) for name in KERNELS_TRIED]


def test_without_triton(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    assert backend.unavailable_because() == "Triton is not installed"
    assert not backend.supports("cuda", torch.float32)
