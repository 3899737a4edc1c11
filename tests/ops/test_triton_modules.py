# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The Triton backend in modules, compiled, exported and in the model, under the interpreter. All else: `test_triton.py`."""

import pytest
from triton_interpreter import MODULES, check_under_the_interpreter

from hf_audio_ssm.ops import triton as backend


pytest.importorskip("triton")
if backend.is_interpreted():
    pytest.skip("this test starts the interpreter itself", allow_module_level=True)


def test_modules_under_the_interpreter():
    check_under_the_interpreter(MODULES)
