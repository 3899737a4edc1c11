# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark, as far as it goes without a GPU: tiny sizes on the CPU, its tables, plots, limits and claims."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from warm_python import run_python

from hf_audio_ssm import ops


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmarks(monkeypatch):
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("gpu", "gpu_mamba_ssm", "gpu_measuring", "gpu_model", "gpu_scan", "measuring", "whole_model")
    return SimpleNamespace(**{name: import_module(name) for name in names})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    result = run_python([str(ROOT / "benchmarks/gpu.py")], tmp_path)
    assert result.returncode == 1
    assert "needs a GPU, and torch finds none" in result.stderr


@pytest.mark.parametrize("kind", ["inference", "training"])
def test_the_model(kind, benchmarks, tmp_path):
    meter = benchmarks.gpu_measuring.Meter("cpu")
    ways = ("ssamba", "sdpa", "eager")
    rows = benchmarks.gpu_model.run(meter, kind, ["tiny"], [9, 17], [1], ways=ways, repeats=1)
    assert [(row["tokens"], row["way"]) for row in rows] == [(tokens, way) for tokens in (9, 17) for way in ways]
    assert all(row["seconds"] > 0 and row["left_out"] is None for row in rows)
    lines = benchmarks.gpu_model.summary(rows)
    assert lines[1]["sdpa s x"] == pytest.approx(rows[4]["seconds"] / rows[3]["seconds"])
    assert "17" in benchmarks.measuring.table(lines)
    benchmarks.whole_model.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    benchmarks.measuring.write_json(tmp_path / "rows.json", rows)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_all_sections_in_one_run(benchmarks, monkeypatch, tmp_path, capsys):
    """But the profile, which only a GPU has."""
    monkeypatch.setattr(benchmarks.gpu, "SCAN_TOKENS", (17,))
    monkeypatch.setattr(benchmarks.gpu, "SCAN_BATCH_SIZES", (1,))
    monkeypatch.setattr(benchmarks.gpu_model, "KINDS", {"inference": ("ssamba", "sdpa")})
    options = "--sections scan inference --sizes tiny --tokens 17 9 --batch_sizes 1 --repeats 1 --output"
    arguments = benchmarks.gpu.make_parser().parse_args([*options.split(), str(tmp_path)])
    limits = benchmarks.gpu_measuring.Limits(1e9, 1e9, 1e9, 1e9)
    benchmarks.gpu.run(arguments, benchmarks.gpu_measuring.Meter("cpu"), limits, {"device": "none"})
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert list(written) == ["device", "scan", "inference", "claims"]
    assert [row["tokens"] for row in written["inference"]] == [9, 9, 17, 17]
    assert all(row["seconds"] > 0 for row in written["scan"] + written["inference"])
    assert (tmp_path / "gpu_inference.png").exists()
    assert "less memory than SSAST tiny, eager (paper)" in capsys.readouterr().out


def test_what_does_not_fit_is_left_out_from_there_on(benchmarks, monkeypatch):
    made = []

    def make(way, size, tokens, batch_size, device):
        made.append((way, tokens))
        if way == "eager" and tokens > 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: None

    monkeypatch.setattr(benchmarks.gpu_model, "make_inference", make)
    meter = benchmarks.gpu_measuring.Meter("cpu")
    rows = benchmarks.gpu_model.run(
        meter, "inference", ["tiny"], [9, 17, 25], [1], ways=("ssamba", "eager"), repeats=1
    )
    assert [row["left_out"] for row in rows if row["way"] == "eager"] == [None, "out of memory", "out of memory"]
    assert ("eager", 25) not in made
    assert all(row["seconds"] is not None for row in rows if row["way"] == "ssamba")


def test_what_fits_alone_but_not_beside_others_keeps_its_first_measurement(benchmarks, monkeypatch):
    calls = []

    def make(way, *arguments):
        def call():
            calls.append(way)
            # To warm up, for the time and for the memory; what others hold comes after that.
            if way == "ssamba" and calls.count(way) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return call

    monkeypatch.setattr(benchmarks.gpu_model, "make_inference", make)
    monkeypatch.setattr(benchmarks.gpu_scan, "make_call", lambda part, is_backward, way, *arguments: make(way))
    meter = benchmarks.gpu_measuring.Meter("cpu")
    rows = benchmarks.gpu_model.run(meter, "inference", ["tiny"], [9], [1], ways=("ssamba", "eager"), repeats=2)
    assert (calls.count("ssamba"), calls.count("eager")) == (6, 6)
    monkeypatch.setattr(benchmarks.gpu_scan, "available_backends", lambda device, dtype: ("ssamba", "mamba_ssm"))
    monkeypatch.setattr(benchmarks.gpu_scan, "PARTS", ("scan",))
    calls.clear()
    rows += benchmarks.gpu_scan.run(meter, None, ["tiny"], [9], [1], repeats=2)
    assert all(row["seconds"] > 0 and row["left_out"] is None for row in rows[:4])


def test_graphs_are_for_short_audio(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.gpu_model, "make_inference", lambda *arguments: lambda: None)
    meter, ways = benchmarks.gpu_measuring.Meter("cpu"), ("ssamba", "ssamba, CUDA graph")
    rows = benchmarks.gpu_model.run(meter, "inference", ["tiny"], [513, 10241], [4], ways=ways, repeats=1)
    assert [row["left_out"] for row in rows] == [None, None, None, "launching takes no time beside this"]


def test_what_should_take_too_long_is_left_out(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.gpu_model, "make_inference", lambda *arguments: lambda: None)
    monkeypatch.setattr(benchmarks.gpu_measuring.Meter, "seconds", lambda self, call: 1.0)
    meter = benchmarks.gpu_measuring.Meter("cpu")
    rows = benchmarks.gpu_model.run(
        meter, "inference", ["tiny"], [9, 33], [1], ways=("ssamba", "sdpa"), repeats=1, longest=10
    )
    assert [row["left_out"] for row in rows] == [None, None, None, "expected to take 13 s"]


def test_the_scan(benchmarks, monkeypatch):
    """The definition's own way stands in for the others; shares follow from the limits."""
    monkeypatch.setattr(benchmarks.gpu_scan, "available_backends", lambda device, dtype: ("reference",))
    gpu_measuring = benchmarks.gpu_measuring
    limits = gpu_measuring.Limits(bytes=1e9, exponentials=1e9, multiply_adds=1e9, matrix_multiply_adds=1e9)
    rows = benchmarks.gpu_scan.run(
        gpu_measuring.Meter("cpu"), limits, ["tiny"], [17], [1], dtype=torch.float32, repeats=1
    )
    ways = {"scan": ("reference",), "layer": ("reference",), "pair": ("reference", "reference, one by one")}
    assert [(row["part"], row["pass"], row["way"]) for row in rows] == [
        (part, own_pass, way) for part in ways for own_pass in ("forward", "backward") for way in ways[part]
    ]
    for row in rows:
        needs = benchmarks.gpu_scan.needs(row["part"], "tiny", 17, 1, 4, row["pass"] == "backward")
        assert row["limit_share"] == pytest.approx(needs.seconds(limits) / row["seconds"])
        assert row["G exponentials"] == needs.exponentials / 1e9
        assert (row["multiple"] == 1) == (row["way"] == "reference")


def test_needs(benchmarks):
    """By hand: 2 clips of 3 steps of 4 channels with 8 states, both directions, 2 bytes a value."""
    needs = benchmarks.gpu_measuring.scan_needs((2, 3, 4), 8, 2, 2, is_backward=False)
    # x, dt and rows of B and C twice, gate and output.
    assert needs.bytes == 2 * 6 * (6 * 4 + 4 * 8)
    # For each value: 8 decays and a softplus twice, and the gate's sigmoid.
    assert needs.exponentials == 6 * 4 * (2 * 9 + 2)
    backward = benchmarks.gpu_measuring.scan_needs((2, 3, 4), 8, 2, 2, is_backward=True)
    # Those but the output, their gradients, and the output's.
    assert backward.bytes == 2 * 6 * (11 * 4 + 8 * 8)
    limits = benchmarks.gpu_measuring.Limits(1e3, 1e3, 1e12, 1e12)
    assert needs.seconds(limits) == max(needs.bytes, needs.exponentials) / 1e3


class SelectiveScanCuda(ModuleType):
    """Stands for mamba-ssm's compiled module: plain PyTorch with its arguments and results."""

    def results(self, u, delta, A, B, C, D, z, bias):
        x, dt, gate = (tensor.transpose(1, 2) for tensor in (u, delta, z))
        B, C = (tensor.squeeze(1).transpose(1, 2) for tensor in (B, C))
        outputs = [
            ops.selective_scan(x, dt, A, B, C, D, own, bias, backend="reference").transpose(1, 2)
            for own in (None, gate)
        ]
        return outputs[0], torch.zeros(1), outputs[1]

    def fwd(self, *arguments):
        *tensors, has_softplus = arguments
        assert has_softplus is True
        assert all(tensor.is_contiguous() for tensor in tensors)
        return list(self.results(*tensors))

    def bwd(self, u, delta, A, B, C, D, z, bias, grad, states, output, grad_z, has_softplus, recomputes):
        assert (grad_z, has_softplus, recomputes) == (None, True, False)
        tensors = [tensor.detach().requires_grad_() for tensor in (u, delta, A, B, C, D, z, bias)]
        with torch.enable_grad():
            expected, _, gated = self.results(*tensors)
        assert torch.equal(output, expected)
        *found, grad_z, grad_bias = torch.autograd.grad(gated, tensors, grad)
        return [*found, grad_bias, grad_z]


def test_mamba_ssm_is_called_as_its_own_function_does(benchmarks, monkeypatch):
    """It gets what the scan gets, in its own layout, and gives the same gradients."""
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", SelectiveScanCuda("selective_scan_cuda"))
    found = []
    for way in ("mamba_ssm", "reference"):
        call, leaves = benchmarks.gpu_scan.make_scan(way, "tiny", 9, 2, torch.float32, "cpu")
        output = call()
        gradients = torch.autograd.grad(output.sum(), leaves)
        found.append([output, *gradients])
    for value, expected in zip(*found, strict=True):
        if expected.dim() == 3:
            value = value.flatten(1, -2).transpose(1, 2)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("case", ["installed", "no compiler", "built", "not built"])
def test_mamba_ssm_is_built_where_a_compiler_is_there(case, benchmarks, monkeypatch, tmp_path, capsys):
    builds = benchmarks.gpu_mamba_ssm
    commands = []

    def run(command, env, **settings):
        commands.append(command)
        assert env["MAMBA_FORCE_BUILD"] == "TRUE"
        return SimpleNamespace(returncode=0 if case == "built" else 1, stdout="nvcc fatal: no memory")

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(builds, "find_spec", lambda name: object() if case == "installed" else None)
    monkeypatch.setattr(builds.cpp_extension, "CUDA_HOME", None if case == "no compiler" else "/usr/local/cuda")
    monkeypatch.setattr(builds.subprocess, "run", run)
    reason = builds.provide(tmp_path / "builds")
    if case in ("installed", "no compiler"):
        assert not commands
    else:
        (command,) = commands
        assert command[-4:] == ["--target", str(tmp_path / "builds"), *builds.PACKAGES]
        assert "minutes" in capsys.readouterr().out
    assert (reason is None) == (case in ("installed", "built"))
    assert (str(tmp_path / "builds") in sys.path) == (case == "built")
    expected = {"no compiler": "there is no CUDA compiler", "not built": "nvcc fatal: no memory"}
    assert expected.get(case, "") in (reason or "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_papers_claim(benchmarks):
    """92.7 % less time and 95.4 % less memory than SSAST with eager attention; and five times as fast as with SDPA."""
    if torch.cuda.get_device_properties(0).total_memory < 60 << 30:
        pytest.skip("eager attention needs 60 GiB")
    meter = benchmarks.gpu_measuring.Meter("cuda")
    rows = benchmarks.gpu_model.run(meter, "inference", ["tiny"], [22017], [4], ways=("ssamba", "sdpa", "eager"))
    claims = benchmarks.gpu_model.claims(rows, [], [])
    assert [row["holds"] for row in claims[:3]] == [True, True, True], claims


def test_kernels_by_group_and_shares(benchmarks):
    gpu_model = benchmarks.gpu_model
    names = {
        "scan_kernel": "scan forward",
        "backward_kernel": "scan backward",
        "silu_backward_kernel": "convolution backward",
        "convolution_kernel": "convolution forward",
        "sm90_xmma_gemm_bf16bf16_bf16f32": "matrix products",
        "void at::native::vectorized_elementwise_kernel": "the rest",
    }
    assert {name: gpu_model.group_of(name) for name in names} == names
    needs = gpu_model.step_needs("tiny", 513, 64, 2)
    assert set(needs) == set(gpu_model.KERNEL_GROUPS) - {"the rest"}
    limits = benchmarks.gpu_measuring.Limits(1e12, 1e12, 1e13, 1e14)
    least = needs["scan forward"].seconds(limits)
    rows = gpu_model.shares({"the rest": least, "scan forward": 3 * least}, needs, limits)
    assert [(row["group"], row["time_share"]) for row in rows] == [("scan forward", 0.75), ("the rest", 0.25)]
    assert rows[0]["limit_share"] == pytest.approx(1 / 3)
    assert rows[0]["G bytes"] == needs["scan forward"].bytes / 1e9
    assert rows[1]["limit_share"] is rows[1]["G bytes"] is None


def test_an_annotation_is_not_counted_beside_its_kernels(benchmarks):
    def event(key, microseconds, is_user_annotation=False):
        return SimpleNamespace(key=key, self_device_time_total=microseconds, is_user_annotation=is_user_annotation)

    events = [event("scan_kernel", 3e6), event("pack_kernel", 1e6), event("Memset", 2e6), event("cudaLaunchKernel", 0)]
    events.append(event("Optimizer.step#AdamW.step", 9e6, is_user_annotation=True))
    assert benchmarks.gpu_model.kernel_seconds(events, 2) == {"scan forward": 2.0, "the rest": 1.0}


def test_the_limits_are_measured():
    """Under Triton's interpreter, which is chosen when it is imported; with smaller sizes."""
    pytest.importorskip("triton")
    script = """
import dataclasses
from types import SimpleNamespace

import gpu_machine
import torch
from gpu_measuring import Meter

torch.cuda.get_device_properties = lambda index: SimpleNamespace(multi_processor_count=1)
gpu_machine._ROUNDS, gpu_machine._COPIED_BYTES, gpu_machine._MATRIX_SIZE = 2, 1 << 20, 64
print(min(dataclasses.asdict(gpu_machine.measure(Meter("cpu"), torch.bfloat16, 1)).values()))
"""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "benchmarks", *sys.path))),
    }
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0


def test_claims(benchmarks):
    def model_row(way, seconds, peak):
        fields = {"kind": "inference", "size": "tiny", "tokens": 22017, "batch": 4}
        return {**fields, "way": way, "seconds": seconds, "peak_mib": peak}

    def scan_row(part, way, seconds):
        fields = {"part": part, "size": "tiny", "tokens": 513, "batch": 4, "pass": "forward"}
        return {**fields, "way": way, "seconds": seconds}

    found = benchmarks.gpu_model.claims(
        [model_row("ssamba", 1.0, 10.0), model_row("eager", 20.0, 200.0), model_row("sdpa", 4.0, 20.0)],
        [scan_row("scan", "triton", 1.0), scan_row("scan", "mamba_ssm", 1.2), scan_row("layer", "triton", 1.0)],
        [
            {"time_share": 0.6, "limit_share": 0.5},
            {"time_share": 0.3, "limit_share": 0.4},
            {"time_share": 0.1, "limit_share": None},
        ],
    )
    assert [row["found"] for row in found] == pytest.approx([0.95, 0.95, 4.0, 1.2, None, 0.6])
    assert [row["holds"] for row in found] == [True, False, False, True, None, False]
    assert all(row["holds"] is None for row in benchmarks.gpu_model.claims([], [], []))
