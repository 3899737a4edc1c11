# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Large results: row-wise functions give the same block by block, and gradients are never cut."""

import pytest
import torch
import torch.nn.functional as F

from hf_audio_ssm.ops import map_rows, memory


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(memory, "LARGE_BYTES", 1 << 12)
    monkeypatch.setattr(memory, "BLOCK_BYTES", 1 << 10)


def normalize(tensor: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(tensor, tensor.shape[-1:])


@pytest.mark.parametrize("shape", [(2, 500, 7), (1, 64, 30), (3, 1, 3000), (5000, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_map_rows(shape, dtype):
    first, second = torch.randn(2, *shape).to(dtype)
    for function, inputs in (
        (normalize, (first,)),
        (lambda a, b: torch.add(a, b, alpha=0.25), (first, second)),
        (lambda a: a.double() @ torch.ones(shape[-1], 3, dtype=torch.double), (first,)),
    ):
        with torch.no_grad():
            torch.testing.assert_close(map_rows(function, *inputs), function(*inputs))


def test_blocks_are_made_only_without_gradients():
    sizes = []

    def function(tensor):
        sizes.append(len(tensor))
        return 2 * tensor

    inputs = torch.randn(3, 1000, 8, requires_grad=True)
    map_rows(function, inputs).sum().backward()
    assert torch.equal(inputs.grad, torch.full_like(inputs, 2))
    assert sizes == [3]
    with torch.no_grad():
        map_rows(function, inputs)
    assert len(sizes) > 2
    assert sum(sizes[1:]) == 3000


def test_empty_asks_for_whole_pages_inside_the_tensor(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "_madvise", lambda start, length, advice: asked.append((start.value, length.value)))
    tensor = memory.empty((1000, 33), torch.float32)
    ((start, length),) = asked
    assert tensor.data_ptr() <= start
    assert start + length <= tensor.data_ptr() + tensor.nbytes
    assert start % memory.mmap.PAGESIZE == length % memory.mmap.PAGESIZE == 0
    memory.empty((8,), torch.float32)
    assert len(asked) == 1
