# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Kernels stand in for modules that are exactly what they compute. Whatever else is put in a module's place, around it, on it or
into its parameters acts: results are those of the modules, called one by one.
"""

import contextlib
import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from hf_audio_ssm import (
    SsambaConfig,
    SsambaForAudioClassification,
    SsastConfig,
    SsastForAudioClassification,
    ops,
)
from hf_audio_ssm.models.ssamba import modeling_ssamba
from hf_audio_ssm.models.ssamba.modeling_ssamba import (
    SsambaLayer,
    SsambaLayerNorm,
    SsambaMixer,
    SsambaSelectiveSSM,
)
from hf_audio_ssm.ops import backends, cpu, reference
from hf_audio_ssm.ops import mixer as mixer_module
from hf_audio_ssm.ops.exact import Inspection


needs_kernel = pytest.mark.skipif(not cpu.is_available(), reason="the native kernels were not built")
CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "state_size": 4,
    "patch_size": 4,
    "frequency_stride": 4,
    "time_stride": 4,
    "num_mel_bins": 8,
    "max_length": 16,
    "num_labels": 3,
}
# A layer; its modules by their paths.
LINEARS = ("in_proj", "out_proj", "forward_ssm.x_proj", "backward_ssm.dt_proj")


@functools.cache
def _model() -> SsambaForAudioClassification:
    torch.manual_seed(0)
    model = SsambaForAudioClassification(SsambaConfig(**CONFIG)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def make_model() -> SsambaForAudioClassification:
    """The same one each time, so that results of it can be kept."""
    return copy.deepcopy(_model())


def make_inputs() -> torch.Tensor:
    return torch.linspace(-1, 1, 2 * 16 * 8).mul(37).sin().view(2, 16, 8)


def define(function: Callable, monkeypatch: pytest.MonkeyPatch):
    """What a function gives where the modules are called, without any kernel."""
    with monkeypatch.context() as context:
        context.setattr(modeling_ssamba, "ops", None)
        return function()


def run(model: nn.Module, inputs: torch.Tensor | None = None, way: str = "inference") -> torch.Tensor:
    """The logits, or the gradient of the input."""
    inputs = make_inputs() if inputs is None else inputs
    if way != "gradients":
        with torch.no_grad():
            return model(inputs).logits
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs).logits.square().sum(), inputs)
    return gradient


@pytest.fixture(
    params=[
        "inference",
        "gradients",
        pytest.param("buffers", marks=pytest.mark.slow),
        pytest.param("pairs", marks=pytest.mark.slow),
    ]
)
def way(request, monkeypatch) -> str:
    """The ways a model goes: whole layers, autograd, mixers in shared buffers, two layers at once."""
    own = backends._BACKENDS["reference" if request.param == "pairs" else "cpu"]
    if request.param == "buffers":
        if not cpu.is_available():
            pytest.skip("the native kernels were not built")
        monkeypatch.setattr(mixer_module, "LARGE_BYTES", 0)
        monkeypatch.setitem(backends._BACKENDS, "cpu", dataclasses.replace(own, layers=None))
    if request.param == "pairs":
        pairs = backends.Pairs(
            lambda first, second, *settings: (
                reference.scan(first, *settings)[0],
                reference.scan(second, *settings)[0],
                None,
            ),
            lambda *layers: [reference.convolution(*arguments) for arguments in layers],
            lambda *arguments: True,
        )
        monkeypatch.setitem(backends._BACKENDS, "reference", dataclasses.replace(own, pairs=pairs))
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", "reference")
    return request.param


class Doubled(nn.Module):
    """A module around another one, with none of its attributes."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base

    def forward(self, *arguments, **options):
        return 2 * self.base(*arguments, **options)


class Scale(nn.Module):
    """A parametrisation."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 1.5 * values


class Quantized(torch.Tensor):
    """A weight as torchao makes them: its memory holds other numbers than it stands for."""

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=values.device)

    def __init__(self, values: torch.Tensor):
        self.scale = values.detach().abs().max() / 127
        self.stored = (values.detach() / self.scale).round().to(torch.int8)

    def __repr__(self):
        return f"Quantized({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        def dequantize(value):
            return value.stored * value.scale if isinstance(value, Quantized) else value

        if function is torch.ops.aten.detach.default:
            return arguments[0]
        arguments, options = torch.utils._pytree.tree_map(dequantize, (arguments, options or {}))
        return function(*arguments, **options)


def replace(path: str, make: Callable[[nn.Module], nn.Module]) -> Callable:
    def change(layer, monkeypatch):
        layer.set_submodule(path, make(layer.get_submodule(path)))

    return change


def act_on(path: str, function: Callable[[nn.Module], object]) -> Callable:
    def change(layer, monkeypatch):
        function(layer.get_submodule(path))

    return change


def patch_class(cls: type, name: str) -> Callable:
    """Doubles what a method returns, on its class."""

    def change(layer, monkeypatch):
        own = getattr(cls, name)

        @functools.wraps(own)
        def doubled(*arguments, **options):
            output = own(*arguments, **options)
            return (2 * output[0], *output[1:]) if isinstance(output, tuple) else 2 * output

        monkeypatch.setattr(cls, name, doubled)

    return change


def patch_instance(name: str) -> Callable[[nn.Module], None]:
    def patch(module: nn.Module):
        own = getattr(module, name)
        setattr(module, name, lambda *arguments, **options: 2 * own(*arguments, **options))

    return patch


def subclass(base: type, method: str, same_name: bool = False) -> Callable[[nn.Module], nn.Module]:
    """The module as one of a subclass that doubles what a method returns."""

    def make(module: nn.Module) -> nn.Module:
        own = getattr(base, method)
        name = base.__name__ if same_name else "Other"
        methods = {method: lambda self, *arguments, **options: 2 * own(self, *arguments, **options)}
        module.__class__ = type(name, (base,), methods | {"__module__": base.__module__ if same_name else __name__})
        return module

    return make


def hook(module: nn.Module) -> None:
    module.register_forward_hook(lambda module, arguments, output: 2 * output)


def hook_before(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda module, arguments: (arguments[0].cumsum(-1), *arguments[1:]))


def quantize_weight(name: str) -> Callable[[nn.Module], None]:
    def change(module: nn.Module):
        setattr(module, name, nn.Parameter(Quantized(getattr(module, name)), requires_grad=False))

    return change


def quantize_dynamically(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8, inplace=True)


def other_states(ssm: SsambaSelectiveSSM) -> SsambaSelectiveSSM:
    """A direction with other sizes than the other one's."""
    other = SsambaSelectiveSSM(SsambaConfig(**CONFIG | {"state_size": 3, "conv_kernel": 2, "time_step_rank": 2}))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_().mul_(0.3)
    return other


class Averaging(nn.Module):
    """A mixer without any of the attributes of SSAMBA's."""

    def forward(self, hidden_states, reverse=False, clip_shapes=None):
        return hidden_states.cumsum(1) / 10


class Passing(nn.Module):
    """A direction without any of the attributes of SSAMBA's."""

    def forward(self, hidden_states, reverse=False):
        return hidden_states.flip(1) if reverse else 2 * hidden_states


def prune_weight(module: nn.Module) -> None:
    prune.l1_unstructured(module, "weight", amount=0.5)


def normalize_weight(module: nn.Module) -> None:
    parametrizations.weight_norm(module)
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(1.5)


def normalize_weight_the_old_way(module: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(module)
    with torch.no_grad():
        module.weight_g.mul_(1.5)


def convolve_all_channels(conv1d: nn.Conv1d) -> nn.Conv1d:
    return nn.Conv1d(conv1d.in_channels, conv1d.out_channels, conv1d.kernel_size)


def scale_eps(norm: nn.Module) -> None:
    norm.eps = 0.5


CHANGES = {
    "norm replaced": replace("norm", lambda norm: nn.RMSNorm(8)),
    "norm of torch": replace("norm", lambda norm: nn.LayerNorm(8)),
    "norm wrapped": replace("norm", Doubled),
    "norm's subclass": replace("norm", subclass(SsambaLayerNorm, "normalize")),
    "norm's subclass of the same name": replace("norm", subclass(SsambaLayerNorm, "normalize", same_name=True)),
    "norm of the end": replace("norm", lambda norm: modeling_ssamba.SsambaFinalLayerNorm(8, 0.3, 0.2)),
    "norm's forward": act_on("norm", patch_instance("forward")),
    "norm's method": act_on("norm", patch_instance("normalize")),
    "norm's _call_impl": act_on("norm", patch_instance("_call_impl")),
    "norm's class": patch_class(SsambaLayerNorm, "forward"),
    "norm's class's method": patch_class(SsambaLayerNorm, "normalize"),
    "norm's hook": act_on("norm", hook),
    "norm's hook before": act_on("norm", hook_before),
    "norm's eps": act_on("norm", scale_eps),
    "norm's parametrisation": act_on(
        "norm", lambda norm: parametrize.register_parametrization(norm, "weight", Scale())
    ),
    "norm quantized": act_on("norm", quantize_weight("weight")),
    "gate's activation replaced": replace("mixer.act", lambda act: nn.GELU()),
    "gate's activation's hook": act_on("mixer.act", hook),
    "activation replaced": replace("mixer.forward_ssm.act", lambda act: nn.Tanh()),
    "activation's forward": act_on("mixer.backward_ssm.act", patch_instance("forward")),
    "activation's hook": act_on("mixer.backward_ssm.act", hook),
    "mixer replaced": replace("mixer", lambda mixer: Averaging()),
    "mixer wrapped": replace("mixer", Doubled),
    "mixer's subclass": replace("mixer", subclass(SsambaMixer, "forward")),
    "mixer's subclass of the same name": replace("mixer", subclass(SsambaMixer, "forward", same_name=True)),
    "mixer's forward": act_on("mixer", patch_instance("forward")),
    "mixer's class": patch_class(SsambaMixer, "forward"),
    "mixer's hook": act_on("mixer", hook),
    "direction replaced": replace("mixer.forward_ssm", lambda ssm: Passing()),
    "direction wrapped": replace("mixer.backward_ssm", Doubled),
    "direction's subclass": replace("mixer.forward_ssm", subclass(SsambaSelectiveSSM, "convolve")),
    "direction of other sizes": replace("mixer.backward_ssm", other_states),
    "direction's forward": act_on("mixer.forward_ssm", patch_instance("forward")),
    "direction's method": act_on("mixer.backward_ssm", patch_instance("convolve")),
    "direction's class": patch_class(SsambaSelectiveSSM, "forward"),
    "direction's hook": act_on("mixer.forward_ssm", hook),
    "direction's hook before": act_on("mixer.forward_ssm", hook_before),
    "A_log's parametrisation": act_on(
        "mixer.forward_ssm", lambda ssm: parametrize.register_parametrization(ssm, "A_log", Scale())
    ),
    "D's parametrisation": act_on(
        "mixer.backward_ssm", lambda ssm: parametrize.register_parametrization(ssm, "D", Scale())
    ),
    "D quantized": act_on("mixer.forward_ssm", quantize_weight("D")),
    "convolution replaced": replace("mixer.forward_ssm.conv1d", lambda conv1d: nn.Sequential(conv1d, nn.Tanh())),
    "convolution of all channels": replace("mixer.forward_ssm.conv1d", convolve_all_channels),
    "convolution's kernel": replace("mixer.forward_ssm.conv1d", lambda conv1d: nn.Conv1d(16, 16, 3, groups=16)),
    "convolution's method": act_on("mixer.forward_ssm.conv1d", patch_instance("_conv_forward")),
    "convolution's weight norm": act_on("mixer.backward_ssm.conv1d", normalize_weight),
    "convolution pruned": act_on("mixer.backward_ssm.conv1d", prune_weight),
    "convolution quantized": act_on("mixer.backward_ssm.conv1d", quantize_weight("weight")),
    "layer's method": act_on("", lambda layer: setattr(layer, "add_output", lambda residual, output: output)),
    "layer's class": patch_class(SsambaLayer, "forward"),
    "layer's class's method": patch_class(SsambaLayer, "add_output"),
    "linear modules quantized": quantize_dynamically,
    "Linear patched": patch_class(nn.Linear, "forward"),
    "Conv1d patched": patch_class(nn.Conv1d, "_conv_forward"),
    "F.linear patched": patch_class(F, "linear"),
    "F.silu patched": patch_class(F, "silu"),
} | {
    f"{path} {name}": act_on(f"mixer.{path}", function)
    for path in LINEARS
    for name, function in {
        "pruned": prune_weight,
        "weight norm": normalize_weight,
        "old weight norm": normalize_weight_the_old_way,
        "spectral norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "quantized": quantize_weight("weight"),
        "forward": patch_instance("forward"),
        "hook": hook,
    }.items()
}


# Two of the four linear modules stand for all.
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            change,
            id=name,
            marks=pytest.mark.slow if name.startswith(("out_proj ", "forward_ssm.x_proj ")) else (),
        )
        for name, change in CHANGES.items()
    ],
)
def test_changed_modules_act(change, way, monkeypatch):
    """Changed after a first call, and compared with the called modules and with what there was before."""
    model, before = make_model(), define_unchanged(way)
    run(model, way=way)
    torch.manual_seed(1)
    change(model.ssamba.layers[1], monkeypatch)
    model.eval()
    found = run(model, way=way)
    expected = define(lambda: run(model, way=way), monkeypatch)
    check(found, expected, before)


@functools.cache
def define_unchanged(way: str = "inference") -> torch.Tensor:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return define(lambda: run(make_model(), way=way), monkeypatch)


def check(found: torch.Tensor, expected: torch.Tensor, before: torch.Tensor) -> None:
    """The result is what is expected, and the change shows in it."""
    change = (expected - before).abs().max()
    assert change > 2e-5
    assert (found - expected).abs().max() < 0.1 * change
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# Adapters by name: their configuration, and whether they can be merged.
LINEAR_TARGETS = ["in_proj", "out_proj", "x_proj", "dt_proj"]
ADAPTERS = {
    "LoRA": (peft.LoraConfig, {"r": 2, "target_modules": LINEAR_TARGETS, "init_lora_weights": False}),
    "DoRA": (
        peft.LoraConfig,
        {"r": 2, "target_modules": LINEAR_TARGETS, "init_lora_weights": False, "use_dora": True},
    ),
    "LoRA of convolutions": (peft.LoraConfig, {"r": 16, "target_modules": ["conv1d"], "init_lora_weights": False}),
    "LoRA of A_log": (
        peft.LoraConfig,
        {"r": 2, "target_modules": [], "target_parameters": ["forward_ssm.A_log"], "init_lora_weights": False},
    ),
    "LoRA of a weight": (
        peft.LoraConfig,
        {"r": 2, "target_modules": [], "target_parameters": ["x_proj.weight"], "init_lora_weights": False},
    ),
    "LoHa": (peft.LoHaConfig, {"r": 2, "target_modules": LINEAR_TARGETS, "init_weights": False}),
    "LoKr": (peft.LoKrConfig, {"r": 2, "target_modules": LINEAR_TARGETS, "init_weights": False}),
    "IA3": (
        peft.IA3Config,
        {"target_modules": LINEAR_TARGETS, "feedforward_modules": ["out_proj"], "init_ia3_weights": False},
    ),
    "LNTuning": (peft.LNTuningConfig, {"target_modules": ["norm"]}),
    "OFT": (peft.OFTConfig, {"oft_block_size": 4, "target_modules": ["in_proj", "out_proj"], "init_weights": False}),
    "BOFT": (
        peft.BOFTConfig,
        {"boft_block_size": 4, "target_modules": ["in_proj", "out_proj"], "init_weights": False},
    ),
    "HRA": (peft.HRAConfig, {"r": 2, "target_modules": ["in_proj", "out_proj"], "init_weights": False}),
    "VeRA": (peft.VeraConfig, {"r": 2, "target_modules": ["x_proj"], "init_weights": True}),
    "fully trained": (peft.LoraConfig, {"r": 2, "target_modules": ["in_proj"], "modules_to_save": ["norm", "x_proj"]}),
}


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups", "ignore::UserWarning")
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_act(name, monkeypatch):
    """Added, disabled, merged and taken off; in training as well."""
    config_class, options = ADAPTERS[name]
    before = define_unchanged()
    torch.manual_seed(1)
    model = peft.get_peft_model(make_model(), config_class(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))

    def compare(changes=True, way="inference"):
        found, expected = run(model, way=way), define(lambda: run(model, way=way), monkeypatch)
        if changes:
            check(found, expected, before)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        return expected

    adapted = compare()
    compare(changes=False, way="gradients")
    # PEFT merges neither of these.
    if name in ("fully trained", "LoRA of convolutions"):
        return
    with model.disable_adapter():
        torch.testing.assert_close(compare(changes=False), before, rtol=1e-4, atol=1e-5)
    model.merge_adapter()
    torch.testing.assert_close(compare(), adapted, rtol=1e-3, atol=1e-4)
    model.unmerge_adapter()
    compare()
    model = model.merge_and_unload()
    assert type(model) is SsambaForAudioClassification
    torch.testing.assert_close(compare(), adapted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ["ssamba", "ssast"])
@pytest.mark.parametrize("training", [False, True])
def test_hooks_for_all_modules_act(encoder, training, monkeypatch):
    """As profilers and debuggers register them: every module whose result is used is seen."""
    model = make_model()
    if encoder == "ssast":
        settings = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        model = SsastForAudioClassification(SsastConfig(**CONFIG | settings))
        modules = {name for name, module in model.named_modules() if name and type(module) is not nn.ModuleList}
    else:
        modules = {name for name, _ in model.named_modules() if "mixer" in name or name.endswith("norm")}
    model.train(training)
    names, seen = {module: name for name, module in model.named_modules()}, set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *arguments: seen.add(names.get(module)))
    try:
        with torch.no_grad():
            model(make_inputs())
    finally:
        handle.remove()
    assert not modules - seen


def test_functions_of_swapped_parameters(monkeypatch):
    model, before = make_model(), define_unchanged()
    names = ("norm.weight", "mixer.in_proj.weight", "mixer.forward_ssm.A_log", "mixer.backward_ssm.conv1d.weight")
    torch.manual_seed(1)
    for name in names:
        path = f"ssamba.layers.1.{name}"
        value = torch.randn_like(model.get_parameter(path)) - 1

        def call(path=path, value=value):
            with torch.no_grad():
                return torch.func.functional_call(model, {path: value}, (make_inputs(),)).logits

        check(call(), define(call, monkeypatch), before)
        torch.testing.assert_close(run(model), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "in_place"),
    [
        ("norm", False),
        ("mixer.forward_ssm", True),
        *(
            pytest.param(path, in_place, marks=pytest.mark.slow)
            for path in ("norm", "mixer", "mixer.backward_ssm", "mixer.in_proj")
            for in_place in (False, True)
            # A compiler leaves a single module of torch alone.
            if (path, in_place) not in (("norm", False), ("mixer.in_proj", True))
        ),
    ],
)
def test_compiled_modules_are_called(path, in_place):
    """`torch.compile(module)`, and `module.compile()`, which keeps the class."""
    model, graphs = make_model(), []
    layer = model.ssamba.layers[1]

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = layer.get_submodule(path)
    if in_place:
        module.compile(backend=backend)
    else:
        layer.set_submodule(path, torch.compile(module, backend=backend))
    torch.testing.assert_close(run(model), define_unchanged(), rtol=1e-4, atol=1e-5)
    assert graphs


@pytest.mark.parametrize("path", [*LINEARS, "forward_ssm.conv1d", "forward_ssm.dt_proj"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_parameters_of_another_dtype_are_refused_as_by_the_modules(path, dtype, way):
    model = make_model()
    model.ssamba.layers[1].mixer.get_submodule(path).to(dtype)
    with pytest.raises(RuntimeError, match="dtype|type"):
        run(model, way=way)


@pytest.mark.parametrize("path", [*LINEARS, "forward_ssm.conv1d", "forward_ssm.dt_proj"])
def test_parameters_that_are_elsewhere_are_not_read(path, way):
    """Torch refuses some of these, and computes something for others; kernels would end the process."""
    model = make_model()
    model.ssamba.layers[1].mixer.get_submodule(path).to("meta")
    with contextlib.suppress(RuntimeError, NotImplementedError, ValueError):
        run(model, way=way)


@pytest.mark.parametrize("name", ["A_log", "D"])
def test_states_that_are_elsewhere_are_refused(name, way):
    model = make_model()
    ssm = model.ssamba.layers[1].mixer.forward_ssm
    setattr(ssm, name, nn.Parameter(getattr(ssm, name).to("meta")))
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        run(model, way=way)


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("in_proj", lambda: nn.Linear(8, 48)),
        ("out_proj", lambda: nn.Linear(17, 8)),
        ("forward_ssm.x_proj", lambda: nn.Linear(16, 7)),
        ("forward_ssm.dt_proj", lambda: nn.Linear(1, 15)),
        ("backward_ssm.dt_proj", lambda: nn.Linear(3, 16)),
        ("forward_ssm.conv1d", lambda: nn.Conv1d(4, 4, 4, groups=4)),
        ("forward_ssm.conv1d", lambda: nn.Conv1d(16, 16, 4, groups=16, dilation=2)),
        ("forward_ssm.conv1d", lambda: nn.Conv1d(16, 16, 4, groups=16, stride=2)),
    ],
)
def test_modules_of_other_sizes_are_refused(path, make, way):
    """Kernels read memory by sizes."""
    model = make_model()
    model.ssamba.layers[1].mixer.set_submodule(path, make())
    with pytest.raises((RuntimeError, ValueError)):
        run(model, way=way)


@pytest.mark.parametrize("name", ["A_log", "D"])
def test_states_of_other_sizes_are_refused(name, way):
    model = make_model()
    ssm = model.ssamba.layers[1].mixer.backward_ssm
    setattr(ssm, name, nn.Parameter(getattr(ssm, name)[:5].clone()))
    with pytest.raises((RuntimeError, ValueError)):
        run(model, way=way)


def test_scans_of_other_tensors(monkeypatch):
    """The public scan, given tensors whose memory does not hold their values."""
    x, state = torch.randn(1, 5, 3), torch.randn(1, 5, 2)
    rates, skip = -torch.rand(3, 2) - 0.1, torch.randn(3)
    with torch.no_grad():
        expected = ops.selective_scan(x, x, rates, state, state, skip)
        quantized = ops.selective_scan(x, x, rates, state, state, Quantized(skip))
        torch.testing.assert_close(quantized, expected, rtol=1e-2, atol=1e-2)
        negative = torch.complex(torch.zeros(3), -skip).conj().imag
        assert negative.is_neg()
        assert torch.equal(ops.selective_scan(x, x, rates, state, state, negative), expected)
        negative = torch.complex(torch.zeros(1, 5, 3), -x).conj().imag
        assert torch.equal(ops.selective_scan(negative, x, rates, state, state, skip), expected)


@needs_kernel
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_default_devices_change_nothing(device):
    """The working memory of kernels does not follow it."""
    model, expected = make_model(), run(make_model())
    with torch.device(device):
        torch.testing.assert_close(run(model, make_inputs().cpu() if device == "cpu" else _INPUTS), expected)


_INPUTS = make_inputs()


def test_modes_see_what_the_modules_call():
    """A mode for functions of torch, as quantizers and counters use."""
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), options=None):
            seen.append(function)
            return function(*arguments, **(options or {}))

    model, expected = make_model(), run(make_model())
    with Mode():
        torch.testing.assert_close(run(model), expected, rtol=1e-4, atol=1e-5)
    # in_proj, out_proj, and the x_proj of both directions, of two layers; and the classifier.
    assert seen.count(F.linear) >= 9


def test_unchanged_models_run_whole_layers(monkeypatch):
    """With every method in its place, also after it was replaced for a while."""
    if not cpu.has_layer():
        pytest.skip("needs the native kernel and AVX2")
    made, own = [], backends._BACKENDS["cpu"]
    kernels = dataclasses.replace(own.layers, run=lambda call: (made.append(call), own.layers.run(call)))
    monkeypatch.setitem(backends._BACKENDS, "cpu", dataclasses.replace(own, layers=kernels))
    model = make_model()
    with monkeypatch.context() as context:
        context.setattr(SsambaLayerNorm, "forward", lambda self, states: states)
        run(model)
        assert not made
    run(model)
    assert len(made) == 2
    handle = model.ssamba.layers[0].norm.register_forward_hook(lambda *arguments: None)
    run(model)
    assert len(made) == 3
    handle.remove()
    run(copy.deepcopy(model))
    assert len(made) == 5
    assert Inspection().has_exact_mixer(model.ssamba.layers[0])
