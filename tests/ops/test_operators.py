# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The operators as citizens of PyTorch: opcheck, compilation, export, checkpointing, threads, forks, and the choice of one."""

import ctypes
import dataclasses
import logging
import multiprocessing
import subprocess
import sys
import threading

import pytest
import torch
from scan_cases import NATIVE, SelectiveSSM, gradients_of, make_inputs, relative_error
from torch import nn

from hf_audio_ssm.ops import available_backends, backends, bidirectional_mixing, cpu, explain_backends, selective_scan
from hf_audio_ssm.ops.operators import Direction
from hf_audio_ssm.ops.scan import LayerScan, run_scan


BACKENDS = ("reference", "cpu") if NATIVE else ("reference",)
needs_native = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


class Mixer(nn.Module):
    def __init__(self, backend):
        super().__init__()
        torch.manual_seed(0)
        self.backend = backend
        self.forward_ssm, self.backward_ssm = SelectiveSSM(8), SelectiveSSM(8)

    def forward(self, projected_states):
        return bidirectional_mixing(projected_states, self.forward_ssm, self.backward_ssm, backend=self.backend)


def scan_arguments(directions=2, gate=True, fused=True, save_states=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for direction in range(2):
        if direction >= directions:
            tensors += [None] * 8
            continue
        shapes = [(2, 70, 6), (2, 70, 3 if fused else 6), (6, 3), (6,), (6, 4), (2, 70, 4), (2, 70, 4), (6,)]
        own = [torch.randn(*shape, generator=generator) for shape in shapes]
        own[4] = -own[4].exp()
        if not fused:
            own[2] = None
        tensors += [
            None if tensor is None else tensor.to(dtype if tensor.dim() == 3 else torch.float32).requires_grad_()
            for tensor in own
        ]
    tensors.append(torch.randn(2, 70, 6, generator=generator).to(dtype).requires_grad_() if gate else None)
    return (*tensors, 0.5, False, save_states)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"directions": 1},
        {"gate": False},
        {"fused": False},
        {"save_states": False},
        {"dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_opcheck_of_the_scans(backend, settings):
    operator = getattr(torch.ops.hf_audio_ssm, f"scan_{backend}").default
    # With bfloat16, the compiled and the eager gradients are summed in different orders.
    tolerances = {"rtol": 2e-2, "atol": 2e-2} if "dtype" in settings else {}
    torch.library.opcheck(operator, scan_arguments(**settings), **tolerances)


@needs_native
def test_opcheck_of_the_convolution():
    arguments = [torch.randn(*shape, requires_grad=True) for shape in ((2, 70, 6), (6, 4), (6,), (6, 4), (6,))]
    torch.library.opcheck(torch.ops.hf_audio_ssm.convolution_cpu.default, arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_without_graph_breaks(backend):
    mixer = Mixer(backend)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    for length in (20, 90):
        projected_states = torch.randn(2, length, 16, requires_grad=True)
        output, expected = compiled(projected_states), mixer(projected_states)
        assert relative_error(output, expected) < 1e-6
        parameters = [projected_states, *mixer.parameters()]
        gradients = torch.autograd.grad(output.square().sum(), parameters)
        expected_gradients = torch.autograd.grad(expected.square().sum(), parameters)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            assert relative_error(gradient, wanted) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_with_inductor(backend):
    inputs = make_inputs(batch_size=1, length=30, channels=8, state_size=4)
    compiled = torch.compile(lambda **arguments: selective_scan(**arguments, backend=backend), fullgraph=True)
    with torch.no_grad():
        assert relative_error(compiled(**inputs), selective_scan(**inputs, backend=backend)) < 1e-6


@pytest.mark.parametrize(
    ("backend", "strict"),
    [
        ("reference", False),
        pytest.param("reference", True, marks=pytest.mark.slow),
        *((backend, strict) for backend in BACKENDS[1:] for strict in (False, True)),
    ],
)
def test_exports_with_any_length(backend, strict):
    mixer = Mixer(backend).eval()
    example = torch.randn(2, 40, 16)
    dimensions = {"projected_states": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    with torch.no_grad():
        exported = torch.export.export(mixer, (example,), dynamic_shapes=dimensions, strict=strict)
        targets = [str(node.target) for node in exported.graph.nodes]
        # The reference is exported as plain PyTorch.
        own = {target for target in targets if "hf_audio_ssm" in target}
        assert own == (
            set()
            if backend == "reference"
            else {"hf_audio_ssm.scan_cpu.default", "hf_audio_ssm.convolution_cpu.default"}
        )
        if backend == "cpu":
            # dt_proj is part of the scan in the exported program too.
            assert sum("linear" in target for target in targets) == 2
        program = exported.module()
        for batch_size, length in ((3, 77), (2, 1), (5, 31), (4, 32), (2, 300)):
            other = torch.randn(batch_size, length, 16)
            assert relative_error(program(other), mixer(other)) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(backend, use_reentrant):
    mixer = Mixer(backend)
    projected_states = torch.randn(2, 90, 16, requires_grad=True)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            output = torch.utils.checkpoint.checkpoint(mixer, projected_states, use_reentrant=use_reentrant)
        else:
            output = mixer(projected_states)
        mixer.zero_grad()
        projected_states.grad = None
        output.square().sum().backward()
        gradients.append([tensor.grad.clone() for tensor in (projected_states, *mixer.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_are_refused(backend):
    inputs = {name: tensor.requires_grad_() for name, tensor in make_inputs(length=5, channels=2).items()}
    output = selective_scan(**inputs, backend=backend)
    (gradient,) = torch.autograd.grad(output.sum(), inputs["hidden_states"], create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        gradient.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_reach_into_the_operators(backend):
    """It would round the states that the outputs are taken from."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 9, 5), (2, 9, 3), (5, 3), (5,), (5, 4), (2, 9, 4), (2, 9, 4), (5,)]
    leaves = [torch.randn(*shape, generator=generator) for shape in shapes]
    leaves[4].abs_().neg_()
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def scan():
        chosen = backends.select_backend("cpu", torch.float32, backend)
        output = run_scan(LayerScan([Direction(*leaves)], None, False), 1.0, chosen)
        return [output.detach(), *torch.autograd.grad(output.square().sum(), leaves)]

    expected = scan()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scan()
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_are_saved_only_where_gradients_are_wanted(backend, monkeypatch):
    seen = []
    chosen = backends._BACKENDS[backend]

    def spy(*arguments):
        seen.append(arguments[-1])
        return chosen.scan(*arguments)

    monkeypatch.setitem(
        backends._BACKENDS, backend, backends.Backend(backend, spy, chosen.convolution, chosen.supports)
    )
    inputs = make_inputs()
    selective_scan(**inputs, backend=backend)
    inputs["gate"].requires_grad_()
    with torch.no_grad():
        selective_scan(**inputs, backend=backend)
    selective_scan(**inputs, backend=backend)
    assert seen == [False, False, True]


@needs_native
def test_python_threads_at_once():
    """The kernel runs without the interpreter's lock, and each call has its own memory."""
    cases = [make_inputs(batch_size=1, length=300, channels=30 + index, seed=index) for index in range(4)]
    expected = [gradients_of(selective_scan, case, backend="cpu") for case in cases]
    mismatches = []

    def work(case, wanted):
        for _ in range(10):
            output, gradients = gradients_of(selective_scan, case, backend="cpu")
            if not torch.equal(output, wanted[0]) or any(
                not torch.equal(gradients[name], wanted[1][name]) for name in gradients
            ):
                mismatches.append(case)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(cases, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mismatches


def _scan_in_child(inputs, queue):
    # Of torch's own operators only those too small to be shared among threads: they would wait forever.
    queue.put(selective_scan(**inputs, backend="cpu")[-1, -1].tolist())


@needs_native
def test_forked_children_after_a_parallel_region():
    """A child has none of its parent's OpenMP threads, and must not wait for them."""
    inputs = make_inputs(batch_size=4, length=300, channels=64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = selective_scan(**inputs, backend="cpu")[-1, -1].tolist()
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        children = [context.Process(target=_scan_in_child, args=(inputs, queue)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
            child.kill()
        assert [child.exitcode for child in children] == [0, 0]
        assert [queue.get(), queue.get()] == [expected, expected]
    finally:
        torch.set_num_threads(before)


@needs_native
def test_data_loader_workers():
    class Scans(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return selective_scan(**make_inputs(batch_size=1, seed=index), backend="cpu")

    expected = torch.stack([Scans()[index] for index in range(4)])
    loader = torch.utils.data.DataLoader(Scans(), batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(next(iter(loader)), expected)


@needs_native
def test_flushing_subnormals_ends_with_the_call():
    selective_scan(**make_inputs(), backend="cpu")
    assert (torch.tensor([1e-40]) * 0.5).item() > 0


def test_available_backends(without_gpu):
    assert available_backends() == tuple(reversed(BACKENDS))
    assert available_backends("cpu", torch.bfloat16) == tuple(reversed(BACKENDS))
    assert available_backends(dtype=torch.float64) == ("reference",)
    assert available_backends(torch.device("cuda"), torch.float32) == ("reference",)
    assert available_backends("cpu", torch.int64) == ()


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        (("triton", "mamba_ssm"), "triton"),
        (("mamba_ssm",), "mamba_ssm"),
        ((), "reference"),
    ],
)
def test_the_choice_on_a_gpu(working, expected, monkeypatch, caplog):
    """The first backend that works there; large states go where they fit, and what is missing is said once."""
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(backends, "_warned_about", set())
    for name in ("triton", "mamba_ssm"):
        own = backends._BACKENDS[name]
        monkeypatch.setitem(
            backends._BACKENDS,
            name,
            dataclasses.replace(
                own, supports=lambda device_type, dtype, name=name: device_type == "cuda" and name in working
            ),
        )
    reason = None if "triton" in working else "Triton is not installed"
    monkeypatch.setattr(backends.triton, "unavailable_because", lambda: reason)
    with caplog.at_level(logging.WARNING, logger="hf_audio_ssm"):
        for _ in range(2):
            assert backends.select_backend("cuda", torch.float32).name == expected
    assert len(caplog.records) == (0 if reason is None else 1)
    assert all(f"(Triton is not installed): selective scans use the {expected}" in text for text in caplog.messages)
    assert all("a C compiler (GCC or Clang) and Python's headers" in text for text in caplog.messages)
    assert backends.select_backend("cuda", torch.float32, state_size=257).name == "reference"
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "reference")
    assert backends.select_backend("cuda", torch.float32).name == "reference"
    if working:
        assert backends.select_backend("cuda", torch.float32, expected).name == expected
        with pytest.raises(ValueError, match=f"backend='{expected}' is not available .* states larger than 256"):
            backends.select_backend("cuda", torch.float32, expected, state_size=257)


def test_explanation_of_the_choice(monkeypatch, without_gpu):
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    explanations = explain_backends()
    assert list(explanations) == ["cpu", "triton", "mamba_ssm", "reference"]
    assert explanations[BACKENDS[-1]] == "used"
    assert explanations["triton"].startswith("not available: ")
    assert "selective_scan_cuda" in explanations["mamba_ssm"]
    explanations = explain_backends(torch.device("cpu"), torch.float64)
    assert explanations["reference"] == "used"
    if NATIVE:
        assert explanations["cpu"] == "not available: it does not run torch.float64 on cpu"
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "reference")
    assert explain_backends()["reference"] == "used"
    assert not NATIVE or explain_backends()["cpu"] == "available"


def test_the_choice_of_a_backend(monkeypatch):
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    assert backends.select_backend("cpu", torch.float32).name == BACKENDS[-1]
    assert backends.select_backend("cpu", torch.float64).name == "reference"
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "reference")
    assert backends.select_backend("cpu", torch.float32).name == "reference"
    assert backends.select_backend("cpu", torch.float32, BACKENDS[-1]).name == BACKENDS[-1]
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "fastest")
    with pytest.raises(ValueError, match=r"HF_AUDIO_SSM_BACKEND='fastest' is not available .* one of .*'reference'"):
        selective_scan(**make_inputs())
    with pytest.raises(ValueError, match=r"backend='triton' is not available for torch.float32 on cpu"):
        selective_scan(**make_inputs(), backend="triton")
    with pytest.raises(ValueError, match=r"backend='cpu' is not available for torch.float64 on cpu"):
        selective_scan(**{name: value.double() for name, value in make_inputs().items()}, backend="cpu")


def test_the_chosen_backend_is_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(backends, "_announced", set())
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    with caplog.at_level(logging.INFO, logger="hf_audio_ssm"):
        for _ in range(3):
            selective_scan(**make_inputs())
    assert [record.message for record in caplog.records] == [f"Selective scans on cpu use the {BACKENDS[-1]} backend."]


def test_a_missing_library_is_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(cpu, "_library", None)
    monkeypatch.setattr(cpu, "_unavailable_because", "it was not built when the package was installed")
    monkeypatch.setattr(backends, "_warned_about", set())
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    assert available_backends("cpu") == ("reference",)
    with caplog.at_level(logging.WARNING, logger="hf_audio_ssm"):
        for _ in range(3):
            selective_scan(**make_inputs())
    (record,) = caplog.records
    assert "it was not built" in record.message
    assert "Install a C++ compiler (GCC or Clang) and reinstall" in record.message


@needs_native
def test_a_library_that_does_not_fit_is_not_used(monkeypatch, tmp_path):
    library = tmp_path / "_cpu.so"
    library.write_bytes(b"not a library")
    monkeypatch.setattr(cpu, "__file__", str(tmp_path / "cpu.py"))
    assert cpu._load_library()[0] is None
    assert "_cpu.so could not be loaded" in cpu._load_library()[1]
    library.unlink()
    assert cpu._load_library() == (None, "it was not built when the package was installed")

    class Older:
        def __init__(self, path):
            self.hf_audio_ssm_call_bytes = lambda is_convolution: 8

    library.touch()
    monkeypatch.setattr(ctypes, "CDLL", Older)
    assert cpu._load_library() == (None, "_cpu.so was built from another version of the source")


def test_importing_the_operators_compiles_nothing_and_is_light():
    """Neither transformers nor torch's compiler is imported by the first scan."""
    script = (
        "import sys, torch; from hf_audio_ssm.ops import selective_scan; x = torch.ones(1, 4, 2); "
        "selective_scan(x, x, -torch.ones(2, 2), x, x); "
        "print([name for name in ('transformers', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
