# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The Triton kernels against the definition: values and gradients. On a GPU they run as they are; without one, under Triton's
interpreter (TRITON_INTERPRET=1), as `test_triton.py` and `test_triton_modules.py` have them run, with
shorter chunks and lengths.
"""

import pytest
import torch
from scan_cases import SelectiveSSM, define_mixing, define_scan, gradients_of, make_inputs, relative_error
from torch import nn
from triton_interpreter import prepare_once_a_launch

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.ops import (
    available_backends,
    bidirectional_mixing,
    bidirectional_mixing_pair,
    reference,
    selective_scan,
    triton,
)
from hf_audio_ssm.ops.backends import select_backend
from hf_audio_ssm.ops.operators import NUM_SCAN_TENSORS, ConvolutionArguments, Direction
from hf_audio_ssm.ops.pairs import run_scans
from hf_audio_ssm.ops.scan import LayerScan


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
def fast_interpreter(monkeypatch):
    if triton.is_interpreted():
        prepare_once_a_launch(monkeypatch)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Lets short sequences have several chunks."""
    for module in (scan_forward, scan_backward):
        monkeypatch.setattr(module, "CHUNK_SIZE", CHUNK_SIZE)
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 1)


@pytest.fixture
def segments(request, monkeypatch):
    wanted = 1 if request.param == "one segment" else 10**6
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: wanted)


@pytest.fixture
def layers_of_launches(monkeypatch) -> list[int]:
    """How many layers each forward scan has computed."""
    launches, forward = [], scan_forward.forward

    def count(*arguments):
        launches.append(len(arguments) // NUM_SCAN_TENSORS)
        return forward(*arguments)

    monkeypatch.setattr(scan_forward, "forward", count)
    return launches


def make_directions(batch_size, length, channels, state_size, count, rank=None, seed=0):
    generator = torch.Generator().manual_seed(seed)

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


def run_with_gradients(backend, layers, dtype, device):
    """
    The scans of layers of (directions, gate, reverse), and the gradients of fixed weighted sums of their results, on the CPU in
    float64.
    """
    leaves = []

    def leaf(tensor):
        if tensor is None:
            return None
        # Parameters stay float32.
        own_dtype = dtype if tensor.dim() == 3 else torch.promote_types(dtype, torch.float32)
        leaves.append(tensor.to(device=device, dtype=own_dtype).requires_grad_())
        return leaves[-1]

    own = [
        LayerScan([Direction(*map(leaf, direction)) for direction in directions], leaf(gate), reverse)
        for directions, gate, reverse in layers
    ]
    outputs = run_scans(own, 0.5, select_backend(device, dtype, backend))
    weight = torch.linspace(-1, 1, outputs[0].numel(), dtype=dtype, device=device).reshape(outputs[0].shape).cos()
    total = sum((output * weight).sum() for output in outputs)
    return [value.detach().cpu().double() for value in (*outputs, *torch.autograd.grad(total, leaves))]


def check_scans(layers, tolerance=TOLERANCE, device="cpu"):
    """Against the reference in float64 on a device."""
    found = run_with_gradients("triton", layers, torch.float32, DEVICE)
    expected = run_with_gradients("reference", layers, torch.float64, device)
    for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
        assert relative_error(value, wanted) < tolerance, index


CASES = [
    # batch, length, channels, states, directions, rank, gate, reverse
    (1, 1, 1, 1, 1, None, False, False),
    (1, 6, 35, 16, 2, 3, True, False),
    (1, 14, 3, 5, 1, None, True, True),
    (2, 6, 9, 8, 2, None, False, True),
    (1, 5, 2, 33, 2, 1, True, False),
    (1, 5, 5, 128, 1, None, True, True),
]


# Most tests below have one segment.
@pytest.mark.parametrize(
    ("case", "segments"),
    [*((case, "many segments") for case in CASES), *((case, "one segment") for case in CASES[2::2])],
    ids=str,
    indirect=["segments"],
)
def test_values_and_gradients(case, segments):
    batch_size, length, channels, state_size, count, rank, has_gate, reverse = case
    directions = make_directions(batch_size, length, channels, state_size, count, rank)
    check_scans([(directions, torch.randn(batch_size, length, channels) if has_gate else None, reverse)])


def make_pair(batch_size, length, channels, state_size, rank):
    """Two layers, the second in reversed time and with its own projection of the time steps."""
    shape = batch_size, length, channels
    first = make_directions(*shape, state_size, 2, rank)
    second = make_directions(*shape, state_size, 2, None, seed=1)
    return [(first, torch.randn(shape), False), (second, torch.randn(shape), True)]


@pytest.mark.parametrize("segments", ["many segments"], indirect=True)
def test_a_pair(segments, layers_of_launches):
    """In several segments; in one: `test_mixing`."""
    check_scans(make_pair(2, 5, 5, 5, 3))
    assert layers_of_launches == [2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_a_pair_computes_what_two_layers_do(dtype, layers_of_launches):
    layers = make_pair(1, 3, 34, 8, 3)
    outputs, gradients = [], []
    for own in (layers, layers[:1], layers[1:]):
        found = run_with_gradients("triton", own, dtype, DEVICE)
        outputs.append(found[: len(own)])
        gradients.append(found[len(own) :])
    assert layers_of_launches == [2, 1, 1]
    assert all(torch.equal(*both) for both in zip(outputs[0], outputs[1] + outputs[2], strict=True))
    for value, wanted in zip(gradients[0], gradients[1] + gradients[2], strict=True):
        assert relative_error(value, wanted) < LOW_PRECISION[dtype]


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


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU's memory has no holes")
@pytest.mark.parametrize("dimension", [0, 1], ids=["clips", "rows"])
@pytest.mark.parametrize("segments", ["many segments"], indirect=True)
def test_inputs_beyond_32_bit_offsets(dimension, segments, tmp_path):
    """
    Clips or rows so far apart that the last one lies 2^31 elements or more after the first, in files with holes. In several
    segments: these have every kernel read the inputs.
    """

    def far_apart(name, tensor):
        strides, step = list(tensor.stride()), 1 << 30
        strides[dimension] = step
        size = (tensor.shape[dimension] - 1) * step + tensor.numel()
        file = torch.from_file(str(tmp_path / name), shared=True, size=size, dtype=tensor.dtype)
        return file.as_strided(tensor.shape, strides).copy_(tensor)

    inputs = make_inputs(batch_size=3 if dimension == 0 else 1, length=5, channels=3, state_size=2)
    far = {name: far_apart(name, tensor) if tensor.dim() == 3 else tensor for name, tensor in inputs.items()}
    output, gradients = gradients_of_on_device(far, True)
    expected, expected_gradients = gradients_of(define_scan, inputs, reverse=True)
    assert relative_error(output, expected) < TOLERANCE
    assert all(relative_error(gradients[name], expected_gradients[name]) < TOLERANCE for name in inputs)
    parameters = torch.randn(3, 4), torch.randn(3), torch.randn(3, 4), torch.randn(3), False

    def convolve(hidden_states, convolution):
        return torch.cat(convolution(hidden_states, *parameters))

    found = gradients_of(convolve, {"hidden_states": far["hidden_states"]}, convolution=triton.convolution)
    expected = gradients_of(convolve, {"hidden_states": inputs["hidden_states"]}, convolution=reference.convolution)
    assert relative_error(found[0], expected[0]) < TOLERANCE
    assert relative_error(found[1]["hidden_states"], expected[1]["hidden_states"]) < TOLERANCE


def test_chunks_of_their_own_size(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 10**6)
    check_scans([(make_directions(1, 66, 2, 2, 1), None, False)])


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


@pytest.mark.parametrize("segments", ["many segments"], indirect=True)
def test_runs_are_bitwise_equal(segments):
    """In several segments, of which there are more in a launch than of anything else."""
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
    ("length", "channels", "kernel_size", "reverse", "count"),
    [(1, 3, 4, False, 1), (40, 70, 4, True, 1), (5, 2, 1, False, 1), (3, 5, 6, True, 2), (33, 3, 4, False, 2)],
)
def test_convolution(length, channels, kernel_size, reverse, count):
    """Of one layer, or of two, the second in the other direction of time."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, length, 2 * channels), (channels, kernel_size), (channels,), (channels, kernel_size), (channels,)]
    layers = [[torch.randn(*shape, generator=generator) for shape in shapes] for _ in range(count)]
    weight = torch.randn(count, 2, 2, length, channels, generator=generator)

    def run(convolve, device, dtype):
        own = [[tensor.to(device=device, dtype=dtype).requires_grad_() for tensor in layer] for layer in layers]
        # Half of each row, as the input projection gives it.
        arguments = [
            ConvolutionArguments(x[..., :channels], *rest, reverse != bool(index))
            for index, (x, *rest) in enumerate(own)
        ]
        outputs = [output for both in convolve(*arguments) for output in both]
        total = sum((output * one.to(output)).sum() for output, one in zip(outputs, weight.flatten(0, 1), strict=True))
        leaves = [tensor for layer in own for tensor in layer]
        return [value.detach().cpu() for value in (*outputs, *torch.autograd.grad(total, leaves))]

    def one_by_one(convolution):
        return lambda *arguments: [convolution(*own) for own in arguments]

    found = run(triton.convolution_pair if count == 2 else one_by_one(triton.convolution), DEVICE, torch.float32)
    expected = run(one_by_one(reference.convolution), "cpu", torch.float64)
    assert all(relative_error(*pair) < TOLERANCE for pair in zip(found, expected, strict=True))


class Pair(nn.Module):
    """A pair of layers, between the projections."""

    def __init__(self, channels=6, state_size=8):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.ModuleList(SelectiveSSM(channels, state_size) for _ in range(2)) for _ in range(2)
        )

    def forward(self, projected_states):
        inputs = [projected_states, 2 * projected_states]
        return torch.stack(bidirectional_mixing_pair(inputs, self.layers, backend="triton"))

    def define(self, projected_states):
        first, second = self.layers
        return torch.stack(
            [define_mixing(projected_states, *first), define_mixing(2 * projected_states, *second, reverse=True)]
        )


def mixing_gradients(function, mixer, projected_states):
    projected_states = projected_states.detach().requires_grad_()
    output = function(projected_states)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [projected_states, *mixer.parameters()])]


def test_mixing():
    mixer = Pair().to(DEVICE)
    projected_states = torch.randn(2, 3, 12, device=DEVICE)
    found = mixing_gradients(mixer, mixer, projected_states)
    mixer.double()
    expected = mixing_gradients(mixer.define, mixer, projected_states.double())
    assert all(relative_error(*pair) < TOLERANCE for pair in zip(found, expected, strict=True))


def test_a_pair_of_which_one_layer_is_used():
    mixer = Pair(channels=2).to(DEVICE)
    projected_states, layers = torch.randn(1, 2, 4, device=DEVICE), mixer.layers

    def second(states):
        return bidirectional_mixing_pair([states, states], layers, backend="triton")[1]

    def alone(states):
        return bidirectional_mixing(states, *layers[1], reverse=True, backend="triton")

    found, expected = (mixing_gradients(one, layers[1], projected_states) for one in (second, alone))
    assert all(relative_error(*both) < 1e-6 for both in zip(found, expected, strict=True))


def test_autocast():
    """Projections run in bfloat16, the state stays float32, and float32 parameters get float32 gradients."""
    mixer = Pair().to(DEVICE)
    projected_states = torch.randn(1, 2, 12, device=DEVICE)
    expected = mixing_gradients(mixer, mixer, projected_states)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = mixing_gradients(mixer, mixer, projected_states)
    assert 0 < relative_error(found[0], expected[0]) < 0.03
    assert all(value.dtype == torch.float32 and value.any() for value in found[1:])


def test_autocast_does_not_reach_into_the_operators():
    layers = make_pair(1, 2, 3, 4, 2)
    expected = run_with_gradients("triton", layers, torch.float32, DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = run_with_gradients("triton", layers, torch.float32, DEVICE)
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_compiles_without_graph_breaks():
    mixer = Pair().to(DEVICE)
    # With any length from the start: it is compiled once.
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager", dynamic=True)
    for length in (3, 2):
        projected_states = torch.randn(1, length, 12, device=DEVICE)
        found, expected = (mixing_gradients(one, mixer, projected_states) for one in (compiled, mixer))
        assert all(relative_error(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


def test_exports_with_any_length():
    mixer = Pair().to(DEVICE).eval()
    dimensions = {"projected_states": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    with torch.no_grad():
        example = torch.randn(2, 3, 12, device=DEVICE)
        exported = torch.export.export(mixer, (example,), dynamic_shapes=dimensions)
        targets = [str(node.target) for node in exported.graph.nodes]
        operators = {"hf_audio_ssm.scan_pair_triton.default", "hf_audio_ssm.convolution_pair_triton.default"}
        assert operators <= set(targets)
        other = torch.randn(3, 2, 12, device=DEVICE)
        assert relative_error(exported.module()(other), mixer(other)) < 1e-6


def test_gradient_checkpointing():
    mixer = Pair().to(DEVICE)
    projected_states = torch.randn(1, 2, 12, device=DEVICE)

    def checkpointed(states):
        return torch.utils.checkpoint.checkpoint(mixer, states, use_reentrant=False)

    found, expected = (mixing_gradients(one, mixer, projected_states) for one in (checkpointed, mixer))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["scan", "convolution"])
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_opcheck(name, count):
    generator = torch.Generator().manual_seed(0)
    leaves, rest = [], ()
    for layer in range(count):
        if name == "scan":
            leaves += [tensor for one in make_directions(1, 2, 3, 4, 2, rank=2, seed=layer) for tensor in one]
            leaves.append(torch.randn(1, 2, 3, generator=generator))
            rest = (0.5, False, True)
        else:
            leaves += [torch.randn(*shape, generator=generator) for shape in ((1, 3, 3), (3, 4), (3,), (3, 4), (3,))]
    arguments = [tensor.to(DEVICE).requires_grad_() for tensor in leaves]
    operator = getattr(torch.ops.hf_audio_ssm, f"{name}{'_pair' if count == 2 else ''}_triton").default
    torch.library.opcheck(operator, (*arguments, *rest))


@pytest.mark.parametrize("wanted", [1, 10**6], ids=["full GPU", "GPU to fill"])
def test_the_model(wanted, layers_of_launches, monkeypatch):
    """Layers of a pair are computed at once unless one is enough for the GPU."""
    monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: wanted)
    torch.manual_seed(0)
    config = SsambaConfig(hidden_size=8, num_hidden_layers=2, num_mel_bins=16, max_length=64, num_labels=3)
    model = SsambaForAudioClassification(config).to(DEVICE).eval()
    input_values = torch.randn(1, 64, 16, device=DEVICE)
    logits = {}
    for backend in ("triton", "reference"):
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", backend)
        with torch.no_grad():
            logits[backend] = model(input_values).logits
    assert layers_of_launches == ([1, 1] if wanted == 1 else [2])
    assert relative_error(logits["triton"], logits["reference"]) < TOLERANCE


def test_padded_clips_are_those_alone(monkeypatch):
    """More heads, poolings and lengths: test_variable_length_ssamba.py, which takes long under the interpreter."""
    monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "triton")
    torch.manual_seed(0)
    grid = {"patch_size": (16, 1), "frequency_stride": 16, "time_stride": 1, "num_mel_bins": 16, "max_length": 5}
    config = SsambaConfig(hidden_size=8, num_hidden_layers=2, state_size=4, num_labels=3, drop_path_rate=0.0, **grid)
    model = SsambaForAudioClassification(config).to(DEVICE)
    # The longest clip has two chunks of tokens.
    frames, labels = (2, 5), torch.tensor([0, 2], device=DEVICE)
    clips = [torch.randn(length, 16, device=DEVICE) for length in frames]
    padded = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=1e3)
    mask = nn.utils.rnn.pad_sequence([torch.ones(length, dtype=torch.int32) for length in frames], True).to(DEVICE)
    together = model(padded, attention_mask=mask, labels=labels)
    together.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    for index, clip in enumerate(clips):
        alone = model(clip[None], labels=labels[index : index + 1])
        (alone.loss / len(clips)).backward()
        torch.testing.assert_close(together.logits[index], alone.logits[0], rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-5)


@on_gpu
def test_the_gpu_uses_triton(monkeypatch):
    monkeypatch.delenv("HF_AUDIO_SSM_BACKEND", raising=False)
    assert available_backends("cuda", torch.float32)[0] == "triton"


@on_gpu
@pytest.mark.parametrize("length", [1, 63, 64, 65, 513, 22_017, 100_000])
def test_lengths_as_the_gpu_cuts_them(length, monkeypatch):
    monkeypatch.undo()
    layers = make_pair(1, length, 48, 16, 3)
    for own in (layers[:1], layers):
        check_scans(own, tolerance=1e-4, device="cuda")


@on_gpu
def test_compiles_with_inductor():
    mixer = Pair().to("cuda")
    projected_states = torch.randn(2, 100, 12, device="cuda")
    found, expected = (
        mixing_gradients(one, mixer, projected_states) for one in (torch.compile(mixer, fullgraph=True), mixer)
    )
    assert all(relative_error(*pair) < 1e-4 for pair in zip(found, expected, strict=True))


@on_gpu
def test_cuda_graphs():
    mixer = Pair().to("cuda")
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
