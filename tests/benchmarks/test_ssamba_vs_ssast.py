# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The comparison of SSAMBA and SSAST: its budgets, choices, tables and plots; of its runs, one very short one."""

import json
import statistics
import sys
from importlib import import_module
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
SECONDS = {"SSAMBA, patches": 0.2, "SSAMBA, frames": 0.16, "SSAST, patches": 0.1, "SSAST, frames": 0.1}
# Of fine-tuning on the validation and the test clips, by seed.
ACCURACIES = {"0.0003": [(0.5, 0.9), (0.6, 0.8)], "0.001": [(0.8, 0.1), (0.4, 0.3)]}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("ssamba_vs_ssast")


def test_the_models_have_equal_tokens_and_differ_as_the_published_ones(benchmark):
    from transformers import AutoConfig, AutoModelForPreTraining

    models = {
        name: AutoModelForPreTraining.from_config(AutoConfig.for_model(model_type, **fields))
        for name, (model_type, fields) in benchmark.make_models().items()
    }
    grids = {name: model.config.patch_grid(benchmark.FRAMES) for name, model in models.items()}
    assert {rows * columns for rows, columns in grids.values()} == {96}
    sizes = {name: model.base_model.num_parameters() for name, model in models.items()}
    published = [AutoModelForPreTraining.from_config(AutoConfig.for_model(name)) for name in ("ssamba", "ssast")]
    ssamba, ssast = (model.base_model.num_parameters() for model in published)
    assert sizes["SSAMBA, patches"] / sizes["SSAST, patches"] == pytest.approx(ssamba / ssast, rel=0.05)


def test_budgets_choices_tables_and_plots(benchmark, monkeypatch, tmp_path, capsys):
    """With the runs replaced: what is made of them."""
    steps_done, arguments = set(), "--steps 40 --seeds 0 1 --learning_rates 0.001 0.004 --output"

    def pretrain(name, steps, learning_rate, seed, output):
        steps_done.add((name, steps))
        # SSAST does better at the higher rate.
        loss = 5 + seed + (learning_rate if name.startswith("SSAMBA") else -learning_rate)
        row = {"step": steps, "loss": loss, "nce": loss - 1, "mse": 0.1, "accuracy": 0.25}
        return {"folder": str(tmp_path), "steps": steps, "evaluations": [row]}

    def classify(checkpoint, seed, folder):
        tuned = {
            rate: dict(zip(("validation", "test"), values[seed], strict=True)) for rate, values in ACCURACIES.items()
        }
        return {"linear probe": {"validation": 0.5, "test": 0.25 + 0.5 * seed}, "fine-tuning": tuned}

    def run_all(jobs, workers, threads, title):
        return {key: call(*call_arguments) for key, (call, call_arguments) in jobs.items()}

    def run_untrained(name, seed, trained, output):
        return {"folder": "", "steps": 0, "evaluations": [], "accuracy": classify(None, seed, None)}

    replacements = {"run_pretraining": pretrain, "classify": classify, "run_all": run_all}
    replacements |= {"run_untrained": run_untrained, "last_checkpoint": Path, "limit_threads": lambda threads: None}
    for name, replacement in replacements.items():
        monkeypatch.setattr(benchmark, name, replacement)
    measured = {
        name: {
            "parameters": 1234567,
            **{f"seconds, {frames} frames": seconds for frames in (benchmark.FRAMES, benchmark.LONG_FRAMES)},
            f"bytes, {benchmark.FRAMES} frames": 3 * 2**20,
            f"bytes, {benchmark.LONG_FRAMES} frames": None,
        }
        for name, seconds in SECONDS.items()
    }
    (tmp_path / "steps.json").write_text(json.dumps(measured))
    monkeypatch.setattr(sys, "argv", ["ssamba_vs_ssast.py", *arguments.split(), str(tmp_path)])
    benchmark.main(benchmark.parse_command_line())

    # The same time as 40 steps of the slowest.
    assert steps_done == {
        *((name, 40) for name in SECONDS),
        *(("SSAMBA, frames", 50), ("SSAST, patches", 80), ("SSAST, frames", 80)),
    }
    models = json.loads((tmp_path / "results.json").read_text())["models"]
    assert [model["learning_rate"] for model in models.values()] == [0.001, 0.001, 0.004, 0.004]
    # By the validation clips of all seeds together, not by the test clips.
    assert all(c["fine_tuning_rate"] == 0.001 for m in models.values() for c in m["conditions"].values())
    table = (tmp_path / "results.md").read_text()
    assert "| SSAST, frames | same time | 1,280 | 8 | 0.004 | 5.496 ± 0.707 | 4.496 ± 0.707 | 0.100 ± 0.000 |" in table
    spread = 100 * statistics.stdev([0.25, 0.75])
    assert f"| SSAMBA, patches | untrained | 50.0 ± {spread:.1f} | 20.0 ± 14.1 | 0.001 |" in table
    assert "| SSAMBA, frames | 1,234,567 | 160.0 | 160.0 | 3 | - |" in table
    assert table in capsys.readouterr().out
    for name in ("pretraining.png", "accuracy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_and_its_continuation(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "PROBE_EPOCHS", 1)
    monkeypatch.setattr(benchmark, "FINE_TUNING_EPOCHS", 1)
    first = benchmark.run_trained("SSAST, frames", 20, 1e-3, 1, tmp_path)
    assert first["evaluations"][-1]["step"] == 20
    untrained = benchmark.run_untrained("SSAST, frames", 1, benchmark.last_checkpoint(Path(first["folder"])), tmp_path)
    assert untrained["accuracy"].keys() == first["accuracy"].keys() == {"linear probe", "fine-tuning"}
    # What is finished is not run again.
    monkeypatch.setattr(benchmark, "pretrain", None)
    monkeypatch.setattr(benchmark, "LabelledDataArguments", None)
    assert benchmark.run_trained("SSAST, frames", 20, 1e-3, 1, tmp_path) == first
