# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The workflow of the public CI covers what setup.cfg and noxfile.py promise, and what it runs exists."""

import ast
import configparser
import re
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workflow() -> dict:
    # YAML reads the key "on" as a truth value.
    loaded = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return {"on" if key is True else key: value for key, value in loaded.items()}


def test_every_supported_python_is_tested(workflow):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    supported = re.findall(
        r"^Programming Language :: Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE
    )
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == supported
    assert config["options"]["python_requires"] == f">={supported[0]}"


def test_every_session_of_nox_is_run(workflow):
    (session,) = [
        node
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "tests"
    ]
    (ids,) = [
        ast.literal_eval(keyword.value)
        for decorator in session.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "ids"
    ]
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["transformers"] == ids
    assert any('--session "tests(${TRANSFORMERS})"' in step.get("run", "") for step in job["steps"])


def test_targets_of_make_exist(workflow):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    asked = {target for run in runs for target in re.findall(r"^make ([\w-]+)$", run, flags=re.MULTILINE)}
    assert asked == {"check", "test-slow"}
    assert asked <= targets


def test_when_jobs_run(workflow):
    assert set(workflow["on"]) == {"push", "pull_request", "schedule", "workflow_dispatch"}
    jobs = workflow["jobs"]
    assert "schedule" in jobs["slow"]["if"]
    for name in ("wheels", "sdist"):
        assert jobs[name]["if"] == "startsWith(github.ref, 'refs/tags/v')"
        assert jobs[name]["needs"] == ["check", "test"]
    assert workflow["permissions"] == {"contents": "read"}
