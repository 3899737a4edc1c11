# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: the same property with 500 drawn examples in every run of the tests, and with 10 000 in the slow ones."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy


# For a test that takes `num_examples` and passes it to `check_examples`.
many_examples = pytest.mark.parametrize("num_examples", [500, pytest.param(10_000, marks=pytest.mark.slow)])


def check_examples(num_examples: int, check: Callable[[Any], None], strategy: SearchStrategy) -> None:
    """
    Calls `check` with examples of the strategy: the same ones in every run that has loaded the same modules, of which hypothesis
    takes constants. A failing example is made as small as possible.
    """
    drawn = settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(check))
    drawn()
