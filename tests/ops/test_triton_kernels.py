# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The Triton kernels against the definition: values and gradients. On a GPU they run as they are; without one, under Triton's
interpreter (TRITON_INTERPRET=1), as `test_triton.py` has them run, with shorter chunks and lengths.
"""

import pytest
import torch
from scan_cases import SelectiveSSM, define_mixing, define_scan, gradients_of, make_inputs, relative_error
from torch import nn

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.ops import available_backends, bidirectional_mixing, reference, selective_scan, triton
from hf_audio_ssm.ops.backends import select_backend
from hf_audio_ssm.ops.scan import run_scan


if triton.is_interpreted():
    DEVICE = "cpu"
elif torch.cuda.is_available():
    DEVICE = "cuda"
else:
    pytest.skip("needs a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from hf_audio_ssm.ops.triton import scan_backward, scan_forward


on_gpu = pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU")
# Of the largest value: rounding of float32 sums.
TOLERANCE = 2e-5
LOW_PRECISION = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
CHUNK_SIZE = 4


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Lets short sequences have several chunks."""
    for module in (scan_forward, scan_backward):
        monkeypatch.setattr(module, "CHUNK_SIZE", CHUNK_SIZE)
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 1)


@pytest.fixture(params=["one segment", "many segments"])
def segments(request, monkeypatch):
    wanted = 1 if request.param == "one segment" else 10**6
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: wanted)


def make_directions(batch_size, length, channels, state_size, count, rank=None):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return [
        (
            normal(batch_size, length, channels),
            normal(batch_size, length, channels if rank is None else rank),
            None if rank is None else normal(channels, rank),
            normal(channels) - 1,
            -normal(channels, state_size).exp(),
            normal(batch_size, length, state_size),
            normal(batch_size, length, state_size),
            normal(channels),
        )
        for _ in range(count)
    ]


def run_with_gradients(backend, directions, gate, reverse, dtype, device):
    """The scan's result and the gradients of a fixed weighted sum of it, on the CPU in float64."""
    leaves, own_directions = [], []

    def leaf(tensor):
        if tensor is None:
            return None
        leaves.append(tensor.to(device=device, dtype=dtype).requires_grad_())
        return leaves[-1]

    own_directions = [[leaf(tensor) for tensor in direction] for direction in directions]
    own_gate = leaf(gate)
    output = run_scan(own_directions, own_gate, 0.5, reverse, select_backend(device, dtype, backend))
    weight = torch.linspace(-1, 1, output.numel(), dtype=dtype, device=device).reshape(output.shape).cos()
    gradients = torch.autograd.grad((output * weight).sum(), leaves)
    return [value.detach().cpu().double() for value in (output, *gradients)]


CASES = [
    # batch, length, channels, states, directions, rank, gate, reverse
    (1, 1, 1, 1, 1, None, False, False),
    (2, 9, 35, 16, 2, 3, True, False),
    (1, 14, 3, 5, 1, None, True, True),
    (2, 6, 9, 8, 2, None, False, True),
    (1, 5, 2, 33, 2, 1, True, False),
    (1, 5, 5, 128, 1, None, True, True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, segments):
    batch_size, length, channels, state_size, count, rank, has_gate, reverse = case
    directions = make_directions(batch_size, length, channels, state_size, count, rank)
    gate = torch.randn(batch_size, length, channels) if has_gate else None
    found = run_with_gradients("triton", directions, gate, reverse, torch.float32, DEVICE)
    expected = run_with_gradients("reference", directions, gate, reverse, torch.float64, "cpu")
    for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        assert relative_error(value, wanted) < TOLERANCE, index


def check_scan(inputs, reverse=False, tolerance=TOLERANCE, gradient_tolerance=None):
    on_device = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    output, gradients = gradients_of_on_device(on_device, reverse)
    expected, expected_gradients = gradients_of(define_scan, inputs, reverse=reverse)
    assert output.dtype == inputs["hidden_states"].dtype
    assert relative_error(output.cpu(), expected) < tolerance
    for argument, gradient in gradients.items():
        assert gradient.dtype == inputs[argument].dtype
        error = relative_error(gradient.cpu(), expected_gradients[argument])
        assert error < (gradient_tolerance or tolerance), argument


def gradients_of_on_device(inputs, reverse):
    def scan(**arguments):
        # `gradients_of` weighs the result on the CPU.
        return selective_scan(**arguments, reverse=reverse, backend="triton").cpu()

    return gradients_of(scan, inputs)


def test_not_contiguous_inputs():
    inputs = make_inputs(batch_size=3, length=7, channels=20, state_size=5)
    wide = torch.randn(3, 7, 64)
    inputs["B"], inputs["C"] = wide[..., 7:12], wide[..., 30:35]
    inputs["hidden_states"] = torch.randn(3, 20, 7).transpose(1, 2)
    inputs["time_step"] = torch.randn(1, 7, 20).expand(3, 7, 20)
    inputs["gate"] = torch.randn(3, 14, 40)[:, ::2, ::2]
    inputs["A"] = -torch.rand(5, 20).T
    inputs["D"] = torch.randn(1).expand(20)
    check_scan(inputs)


@pytest.mark.parametrize("dtype", list(LOW_PRECISION))
def test_low_precision_keeps_a_float32_state(dtype):
    length = 12 if DEVICE == "cpu" else 300
    inputs = make_inputs(batch_size=1, length=length, channels=21, state_size=16)
    for argument in ("hidden_states", "time_step", "B", "C", "gate"):
        inputs[argument] = inputs[argument].to(dtype)
    tolerance = LOW_PRECISION[dtype]
    if DEVICE == "cpu" and dtype == torch.bfloat16:
        # The interpreter rounds towards zero.
        tolerance *= 2
    # The gradients start from one that was rounded too.
    check_scan(inputs, tolerance=tolerance, gradient_tolerance=2 * tolerance)


@pytest.mark.parametrize("time_step", [-1e4, 0.0, 1e4])
def test_extreme_memories(time_step):
    inputs = make_inputs(batch_size=1, length=6, channels=3, state_size=3)
    inputs["A"] = inputs["A"] * torch.tensor([1e-7, 30, 1e30])
    inputs["time_step"] = inputs["time_step"] + time_step
    check_scan(inputs)


def test_not_finite_inputs_spread_as_far_as_the_recurrence_does():
    inputs = make_inputs(batch_size=2, length=9, channels=3, state_size=4)
    inputs["hidden_states"][1, 5, 1] = float("nan")
    output = selective_scan(**{name: value.to(DEVICE) for name, value in inputs.items()}, backend="triton").cpu()
    assert torch.equal(output.isfinite(), define_scan(**inputs).isfinite())


def test_runs_are_bitwise_equal(segments):
    inputs = make_inputs(batch_size=1, length=6, channels=33, state_size=8)
    on_device = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    (output, gradients), (again, gradients_again) = (gradients_of_on_device(on_device, False) for _ in range(2))
    assert torch.equal(output, again)
    assert all(torch.equal(gradients[argument], gradients_again[argument]) for argument in gradients)


def test_empty_batches():
    inputs = {
        name: tensor.to(DEVICE)[:0] if tensor.dim() == 3 else tensor.to(DEVICE)
        for name, tensor in make_inputs(length=5, channels=3).items()
    }
    output, gradients = gradients_of_on_device(inputs, False)
    assert output.shape == (0, 5, 3)
    assert not gradients["A"].any()


@pytest.mark.parametrize("has_large_states", [False, True])
def test_large_states_go_to_the_next_backend(has_large_states):
    inputs = make_inputs(length=2, channels=1, state_size=300 if has_large_states else 16, optional=False)
    on_device = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    assert relative_error(selective_scan(**on_device).cpu(), define_scan(**inputs)) < TOLERANCE
    if has_large_states:
        with pytest.raises(ValueError, match="with states larger than 256"):
            selective_scan(**on_device, backend="triton")


@pytest.mark.parametrize(
    ("length", "channels", "kernel_size", "reverse"),
    [(1, 3, 4, False), (40, 70, 4, True), (5, 2, 1, False), (3, 5, 6, True)],
)
def test_convolution(length, channels, kernel_size, reverse):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, length, 2 * channels), (channels, kernel_size), (channels,), (channels, kernel_size), (channels,)]
    tensors = [torch.randn(*shape, generator=generator) for shape in shapes]
    weight = torch.randn(2, 2, length, channels, generator=generator)

    def run(convolution, device, dtype):
        x, *parameters = [tensor.to(device=device, dtype=dtype).requires_grad_() for tensor in tensors]
        # Half of each row, as the input projection gives it.
        outputs = convolution(x[..., :channels], *parameters, reverse)
        total = sum((output * own.to(output)).sum() for output, own in zip(outputs, weight, strict=True))
        return [value.detach().cpu() for value in (*outputs, *torch.autograd.grad(total, [x, *parameters]))]

    found = run(triton.convolution, DEVICE, torch.float32)
    expected = run(reference.convolution, "cpu", torch.float64)
    assert all(relative_error(*pair) < TOLERANCE for pair in zip(found, expected, strict=True))


class Mixer(nn.Module):
    def __init__(self, channels=6, state_size=8):
        super().__init__()
        torch.manual_seed(0)
        self.forward_ssm, self.backward_ssm = (SelectiveSSM(channels, state_size) for _ in range(2))

    def forward(self, projected_states):
        return bidirectional_mixing(projected_states, self.forward_ssm, self.backward_ssm, backend="triton")


def mixing_gradients(function, mixer, projected_states):
    projected_states = projected_states.detach().requires_grad_()
    output = function(projected_states)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [projected_states, *mixer.parameters()])]


def test_mixing():
    mixer = Mixer().to(DEVICE)
    projected_states = torch.randn(2, 10, 12, device=DEVICE)
    found = mixing_gradients(mixer, mixer, projected_states)
    mixer.double()
    expected = mixing_gradients(
        lambda states: define_mixing(states, mixer.forward_ssm, mixer.backward_ssm), mixer, projected_states.double()
    )
    assert all(relative_error(*pair) < TOLERANCE for pair in zip(found, expected, strict=True))


def test_autocast():
    """Projections run in bfloat16, the state stays float32, and float32 parameters get float32 gradients."""
    mixer = Mixer().to(DEVICE)
    projected_states = torch.randn(1, 10, 12, device=DEVICE)
    expected = mixing_gradients(mixer, mixer, projected_states)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = mixing_gradients(mixer, mixer, projected_states)
    assert 0 < relative_error(found[0], expected[0]) < 0.03
    assert all(value.dtype == torch.float32 and value.any() for value in found[1:])


def test_compiles_without_graph_breaks():
    mixer = Mixer().to(DEVICE)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    for length in (5, 9):
        projected_states = torch.randn(1, length, 12, device=DEVICE)
        found, expected = (mixing_gradients(one, mixer, projected_states) for one in (compiled, mixer))
        assert all(relative_error(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


def test_exports_with_any_length():
    mixer = Mixer().to(DEVICE).eval()
    dimensions = {"projected_states": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    with torch.no_grad():
        example = torch.randn(2, 6, 12, device=DEVICE)
        exported = torch.export.export(mixer, (example,), dynamic_shapes=dimensions)
        targets = [str(node.target) for node in exported.graph.nodes]
        assert {"hf_audio_ssm.scan_triton.default", "hf_audio_ssm.convolution_triton.default"} <= set(targets)
        other = torch.randn(3, 9, 12, device=DEVICE)
        assert relative_error(exported.module()(other), mixer(other)) < 1e-6


def test_gradient_checkpointing():
    mixer = Mixer().to(DEVICE)
    projected_states = torch.randn(1, 7, 12, device=DEVICE)

    def checkpointed(states):
        return torch.utils.checkpoint.checkpoint(mixer, states, use_reentrant=False)

    found, expected = (mixing_gradients(one, mixer, projected_states) for one in (checkpointed, mixer))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["scan", "convolution"])
def test_opcheck(name):
    generator = torch.Generator().manual_seed(0)
    if name == "scan":
        leaves = [tensor for one in make_directions(1, 5, 3, 4, 2, rank=2) for tensor in one]
        leaves.append(torch.randn(1, 5, 3, generator=generator))
        rest = (0.5, False, True)
    else:
        leaves = [torch.randn(*shape, generator=generator) for shape in ((1, 5, 3), (3, 4), (3,), (3, 4), (3,))]
        rest = ()
    arguments = [tensor.to(DEVICE).requires_grad_() for tensor in leaves]
    operator = getattr(torch.ops.hf_audio_ssm, f"{name}_triton").default
    torch.library.opcheck(operator, (*arguments, *rest))


def test_the_model(monkeypatch):
    torch.manual_seed(0)
    model = SsambaForAudioClassification(SsambaConfig(hidden_size=8, num_hidden_layers=2, max_length=32, num_labels=3))
    model = model.to(DEVICE).eval()
    input_values = torch.randn(1, 32, 128, device=DEVICE)
    logits = {}
    for backend in ("triton", "reference"):
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", backend)
        with torch.no_grad():
            logits[backend] = model(input_values).logits
    assert relative_error(logits["triton"], logits["reference"]) < TOLERANCE


@on_gpu
def test_the_gpu_uses_triton(monkeypatch):
    monkeypatch.delenv("HF_AUDIO_SSM_BACKEND", raising=False)
    assert available_backends("cuda", torch.float32)[0] == "triton"


@on_gpu
@pytest.mark.parametrize("length", [1, 63, 64, 65, 513, 22_017, 100_000])
def test_lengths_as_the_gpu_cuts_them(length, monkeypatch):
    monkeypatch.undo()
    directions = make_directions(1, length, 48, 16, 2, 3)
    gate = torch.randn(1, length, 48)
    found = run_with_gradients("triton", directions, gate, False, torch.float32, "cuda")
    expected = run_with_gradients("reference", directions, gate, False, torch.float64, "cuda")
    for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        assert relative_error(value, wanted) < 1e-4, index


@on_gpu
def test_compiles_with_inductor():
    mixer = Mixer().to("cuda")
    projected_states = torch.randn(2, 100, 12, device="cuda")
    found, expected = (
        mixing_gradients(one, mixer, projected_states) for one in (torch.compile(mixer, fullgraph=True), mixer)
    )
    assert all(relative_error(*pair) < 1e-4 for pair in zip(found, expected, strict=True))


@on_gpu
def test_cuda_graphs():
    mixer = Mixer().to("cuda")
    states = torch.randn(2, 100, 12, device="cuda")
    with torch.no_grad():
        mixer(states)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = mixer(states)
        states.copy_(torch.randn_like(states))
        graph.replay()
        assert torch.equal(output, mixer(states))


@on_gpu
def test_tensors_beyond_32_bit_offsets():
    """2^31 elements and more: the last clip must not be read or written where another one lies."""
    batch_size, length, channels = 3, 1 << 14, 1 << 16
    if torch.cuda.get_device_properties(0).total_memory < 60 << 30:
        pytest.skip("needs 60 GiB")
    x = torch.randn(batch_size, length, channels, device="cuda", dtype=torch.bfloat16)
    A, row = -torch.ones(channels, 8, device="cuda"), torch.randn(batch_size, length, 8, device="cuda").bfloat16()
    output = selective_scan(x, x, A, row, row, backend="triton")
    expected = selective_scan(x[-1:, :, -64:], x[-1:, :, -64:], A[-64:], row[-1:], row[-1:], backend="reference")
    assert relative_error(output[-1:, :, -64:], expected) < LOW_PRECISION[torch.bfloat16] * 2
