# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Runs what transformers asks of its own models: its common model, configuration and feature extractor tests.

They are not installed with transformers but stand in its source distribution, which pip fetches here.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import transformers


# Modules that the common tests import and the source distribution lacks.
MISSING = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": (
        'config_common_kwargs = {"return_dict": False, "output_hidden_states": True, "dtype": "float16", '
        '"chunk_size_feed_forward": 5, "architectures": ["Any"], "id2label": {0: "label"}, "label2id": {"label": 0}, '
        '"problem_type": "regression"}\n'
    ),
}


@pytest.mark.slow
def test_transformers_common_tests(tmp_path):
    requirement = f"transformers=={transformers.__version__}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-binary", "transformers"]
    subprocess.run([*pip, "-d", tmp_path, requirement, "-q"], check=True)
    (archive,) = tmp_path.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    root = tmp_path / archive.name.removesuffix(".tar.gz")
    suite = Path(__file__).with_name("model_suite.py").read_text(encoding="utf-8")
    for name, text in {**MISSING, "models/encoders/test_encoders.py": suite}.items():
        path = root / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in {path.parent for path in (root / "tests").rglob("*.py")} | {root / "tests" / "models"}:
        (folder / "__init__.py").touch()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/models/encoders/test_encoders.py",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run([*command, "-W", "ignore"], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout
    print(result.stdout.splitlines()[-1])
