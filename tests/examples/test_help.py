# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""`--help` and errors of usage come at once: no command imports a large library for them."""

import importlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hf_audio_ssm.cli.arguments import COMMANDS


ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    str(path.relative_to(ROOT))
    for folder in ("examples", "examples/space", "conversion", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]
HEAVY = (
    "accelerate",
    "datasets",
    "gradio",
    "matplotlib",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
)
# What each command line printed, and its exit code.
RUN = """
import contextlib, io, json, os, runpy, sys
lines, heavy = json.loads(sys.argv[1]), json.loads(sys.argv[2])
found = []
for line in lines:
    out, code = io.StringIO(), None
    sys.argv = line
    sys.path[0] = os.path.dirname(os.path.abspath(line[0]))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            runpy.run_path(line[0], run_name="__main__") if line[0].endswith(".py") else runpy.run_module(line[0], run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code
    found.append([out.getvalue(), code])
    assert not set(heavy) & set(sys.modules), (line, set(heavy) & set(sys.modules))
print(json.dumps(found))
"""


def run_all(lines: list[list[str]]) -> list[tuple[list[str], str, int | str | None]]:
    """Runs the command lines in one new process; checks that none has imported a large library."""
    environment = {**os.environ, "COLUMNS": "120"}
    command = [sys.executable, "-c", RUN, json.dumps(lines), json.dumps(HEAVY)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [(line, *found) for line, found in zip(lines, json.loads(result.stdout), strict=True)]


def test_help_imports_no_large_library():
    commands = [["hf_audio_ssm", "--help"], *(["hf_audio_ssm", name, "--help"] for name in COMMANDS)]
    assert len(SCRIPTS) > 10
    for line, out, code in run_all(
        [*([script, "--help"] for script in SCRIPTS), *commands, ["hf_audio_ssm", "--version"]]
    ):
        assert code == 0, (line, out)
        assert out.startswith(("usage: ", "hf-audio-ssm ")), line


def test_help_shows_the_arguments_in_groups():
    (_, out, _), (_, lora, _), (_, pretrain, _) = run_all(
        [[f"examples/{name}.py", "--help"] for name in ("run_audio_classification", "run_lora", "run_pretrain")]
    )
    usage = out.split("\n\n")[0]
    assert (
        usage == "usage: run_audio_classification.py [FILE.yaml ...] --data DATA --model MODEL [--ARGUMENT VALUE ...]"
    )
    groups = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups[0] == "options:"
    assert [group.split(" ")[0].rstrip(":") for group in groups[1:]] == [
        "data",
        "model",
        "augmentation",
        "training",
        "training",
    ]
    for said in (
        "--help_all",
        "--data DATA",
        "--mixup MIXUP",
        "--epoch_decay",
        "--learning_rate LEARNING_RATE",
        "--seed SEED",
    ):
        assert said in out, said
    # Those of transformers that few runs need are left to --help_all.
    assert "--torch_empty_cache_steps" not in out
    assert "adapters:" in lora
    assert "--rank RANK" in lora
    assert "--help_all" not in pretrain
    assert "--train_data" in pretrain


def test_errors_of_usage_import_no_large_library(tmp_path):
    (tmp_path / "a.yaml").write_text("learning_rate: [fast]\n")
    (tmp_path / "b.yaml").write_text("mixup: much\n")
    training = "examples/run_audio_classification.py"
    lines = [
        (["hf_audio_ssm", "sing"], 2, "invalid choice: 'sing'"),
        (["hf_audio_ssm", "classify", "x.wav"], 2, "the following arguments are required: -m/--model"),
        ([training, "--model", "m", "--data", "d", "--lerning_rate", "1"], "did you mean --learning_rate?", None),
        ([training, "--model", "m", "--data", "d", "--learning_rate", "fast"], 2, "invalid float value: 'fast'"),
        ([training, "--model", "m"], 2, "the following arguments are required: --data"),
        (
            [training, str(tmp_path / "b.yaml"), "--model", "m", "--data", "d"],
            "mixup must be a number, got 'much'",
            None,
        ),
        ([training, str(tmp_path / "none.yaml")], "cannot be read as YAML or JSON", None),
        (["examples/run_pretrain.py"], "--train_data must name at least one source", None),
        (["examples/run_pretrain.py", "--learning_rate", "0"], "--train_data must name at least one source", None),
        (["examples/quickstart.py", "--epochs", "0"], "--epochs must be at least 1, got 0", None),
        (["examples/run_scene_labelling.py", "--steps", "0"], "--steps must be at least 1, got 0", None),
        (["conversion/convert_ssast_original_to_hf.py", "x.pth"], 2, "required: OUTPUT_DIR"),
    ]
    for (_, expected, printed), (line, out, code) in zip(lines, run_all([line for line, *_ in lines]), strict=True):
        if isinstance(expected, int):
            assert code == expected, line
            assert printed in out
        else:
            assert str(code).startswith("error: "), (line, code)
            assert expected in code
            assert len(code.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["", ".common.boundary", ".data.arguments", ".training.arguments", ".training.pretraining.arguments"]
)
def test_modules_of_arguments_are_light(name):
    assert importlib.import_module(f"hf_audio_ssm{name}")
    code = f"import sys, hf_audio_ssm{name}; assert not set({HEAVY!r}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [*SCRIPTS, "-m hf_audio_ssm --help", *(f"-m hf_audio_ssm {name}" for name in COMMANDS)]
)
def test_help_takes_less_than_a_second(script):
    """Of a processor: others may use this computer. The best of three."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *script.split(), "--help"], cwd=ROOT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 1.0


@pytest.mark.slow
def test_help_all_lists_the_arguments_of_transformers():
    command = [sys.executable, "examples/run_audio_classification.py", "--help_all"]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for said in ("--torch_empty_cache_steps", "--learning_rate", "--mixup", "--data DATA"):
        assert said in result.stdout, said
