# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Names of earlier versions. `documented_names.json` holds the names that the documentation of version 0.1 mentioned, with all
public names of the modules that its API pages showed whole, by module.
"""

import importlib
import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from warm_python import BARE, run_python

import hf_audio_ssm
from hf_audio_ssm.common.moved_modules import MOVED


TESTS = Path(__file__).resolve().parents[1]
DOCUMENTED = json.loads((TESTS / "fixtures" / "documented_names.json").read_text())
# Libraries of evaluation suites, which the package does not install.
OPTIONAL = {"mteb", "s3prl", "xares"}


@pytest.fixture(autouse=True)
def not_yet_imported(monkeypatch):
    """Each test imports moved modules for the first time."""
    for name in MOVED:
        monkeypatch.delitem(sys.modules, f"hf_audio_ssm.{name}", raising=False)


def is_module(package: str, name: str) -> bool:
    """Whether a name is a module of a package, which `from package import name` imports."""
    return f"{package}.{name}" in DOCUMENTED and importlib.util.find_spec(f"{package}.{name}") is not None


@pytest.mark.parametrize("module", DOCUMENTED)
def test_documented_names_can_be_imported(module):
    moved = module.removeprefix("hf_audio_ssm.") in MOVED
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FutureWarning)
        found = importlib.import_module(module)
        try:
            missing = [name for name in DOCUMENTED[module] if not (hasattr(found, name) or is_module(module, name))]
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] not in OPTIONAL:
                raise
            missing = []
    assert missing == []
    told = [str(warning.message) for warning in caught if str(warning.message).startswith(f"{module} has moved to ")]
    assert len(told) == moved


@pytest.mark.filterwarnings("ignore:.* has moved to:FutureWarning")
@pytest.mark.parametrize("name", MOVED)
def test_moved_modules_lead_to_modules_that_exist(name):
    assert importlib.util.find_spec(f"hf_audio_ssm.{MOVED[name][0]}") is not None
    for target in MOVED[name]:
        assert target not in MOVED
        assert importlib.util.find_spec(f"hf_audio_ssm.{target}") is not None
    # The name leads here, not to a file that came back.
    assert importlib.util.find_spec(f"hf_audio_ssm.{name}").origin is None


def test_the_warning_names_the_importing_line():
    with pytest.warns(
        FutureWarning, match=r"hf_audio_ssm\.metrics has moved to hf_audio_ssm\.evaluation\.metrics$"
    ) as told:
        from hf_audio_ssm.metrics import MacroF1
    assert [warning.filename for warning in told] == [__file__]
    from hf_audio_ssm.evaluation import metrics

    assert MacroF1 is metrics.MacroF1


@pytest.mark.filterwarnings("ignore:.* has moved to:FutureWarning")
def test_unknown_names():
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'hf_audio_ssm.metrics'"):
        from hf_audio_ssm.metrics import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"hf_audio_ssm\.nothing"):
        importlib.import_module("hf_audio_ssm.nothing")
    from hf_audio_ssm.evaluation_suites import hear

    assert hear.load_model is importlib.import_module("hf_audio_ssm.integrations.hear").load_model


def test_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, hf_audio_ssm; print(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_package_is_a_program():
    told = subprocess.check_output([sys.executable, "-m", "hf_audio_ssm", "--version"], text=True)
    assert told.split()[-1] == hf_audio_ssm.__version__


def test_no_module_lies_loose_at_the_root():
    root = Path(hf_audio_ssm.__file__).parent
    files = {path.name for path in root.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed"}


def test_moved_modules_stay_unloaded_while_others_look_at_all_modules(tmp_path):
    """As torch does, by inspect, while transformers is imported."""
    code = "import hf_audio_ssm.adapters, hf_audio_ssm.annotation, hf_audio_ssm.embedding as e; e.load_encoder"
    result = run_python(["-c", code], tmp_path, preloaded=BARE)
    assert result.returncode == 0, result.stderr
