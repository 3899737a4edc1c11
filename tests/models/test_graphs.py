# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Models written down by `torch.export` and `torch.jit.trace`: as they run, or refused in one line that says what works."""

import pytest
import torch
from test_threads_and_processes import MODELS, make_inputs, make_model
from torch.export import Dim

from hf_audio_ssm import (
    SsambaForAudioClassification,
    SsambaForPreTraining,
    SsastForAudioFrameClassification,
)


FEW = [one if one is SsambaForAudioClassification else pytest.param(one, marks=pytest.mark.slow) for one in MODELS]


def options(model_class, clips=2, frames=64) -> dict[str, torch.Tensor]:
    """What a model takes beside spectrograms, so that nothing is drawn."""
    if not model_class.__name__.endswith("PreTraining"):
        return {}
    patches = 2 * (frames // 8)
    return {"bool_masked_pos": (torch.arange(patches) % 3 == 0).expand(clips, -1).contiguous()}


def result(outputs) -> torch.Tensor:
    for name in ("logits", "generative_predictions", "last_hidden_state"):
        if name in outputs:
            return outputs[name]
    raise AssertionError(outputs.keys())


@pytest.mark.parametrize("model_class", FEW)
def test_exported_for_any_batch_and_length_below_the_models_own(model_class):
    """Positions of shorter clips are cut from the model's, those of longer clips interpolated: two graphs."""
    model, shapes = make_model(model_class), {"input_values": {0: Dim.AUTO, 1: Dim.AUTO}}
    if options(model_class):
        shapes["bool_masked_pos"] = {0: Dim.AUTO, 1: Dim.AUTO}
    with torch.no_grad():
        inputs = {"input_values": make_inputs(2, 40), **options(model_class, 2, 40)}
        program = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
        # The time steps of frame classifiers are counted when the graph is made.
        others = () if "FrameClassification" in model_class.__name__ else ((3, 56), (5, 24))
        for clips, frames in ((2, 40), (4, 40), *others):
            inputs = {"input_values": make_inputs(clips, frames), **options(model_class, clips, frames)}
            torch.testing.assert_close(result(program(**inputs)), result(model(**inputs)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("model_class", FEW)
def test_traced_with_gradients(model_class):
    """Tracing runs a model twice, the second time with weights that want no gradients."""
    model = make_model(model_class)
    inputs = {"input_values": make_inputs(), **options(model_class)}
    traced = torch.jit.trace(model, example_kwarg_inputs=inputs, strict=False)
    inputs["input_values"] = 2 * make_inputs()
    weights = list(model.base_model.layers.parameters())
    values, gradients = [], []
    for run in (traced, model):
        values.append(result(run(**inputs)))
        gradients.append(torch.autograd.grad(values[-1].square().sum(), weights))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("model_class", "frames"),
    [
        (SsambaForAudioClassification, (64, 64)),
        (SsambaForPreTraining, (64, 24)),
        (SsastForAudioFrameClassification, (64, 24)),
    ],
)
def test_masks_are_refused_in_one_line(model_class, frames):
    """A trace would keep the lengths of its example for all others, without a word."""
    model = make_model(model_class)
    mask = (torch.arange(64) < torch.tensor(frames)[:, None]).long()
    inputs = {"input_values": make_inputs(), "attention_mask": mask, **options(model_class)}
    for write in (
        lambda: torch.export.export(model, (), inputs),
        lambda: torch.jit.trace(model, example_kwarg_inputs=inputs, strict=False),
    ):
        with pytest.raises(ValueError, match="`attention_mask` must be None in `torch.export`") as caught:
            write()
        assert "\n" not in str(caught.value).strip()
    # Outside of these, it counts.
    assert torch.isfinite(result(model(**inputs))).all()


def test_a_drawn_mask_of_any_length_is_refused_in_one_line():
    shapes = {"input_values": {0: Dim.AUTO, 1: Dim.AUTO}}
    model = make_model(SsambaForPreTraining)
    with pytest.raises(ValueError, match="`bool_masked_pos` must be given in `torch.export`"):
        torch.export.export(model, (), {"input_values": make_inputs()}, dynamic_shapes=shapes)
    # With a fixed length it is drawn in the graph.
    program = torch.export.export(model, (), {"input_values": make_inputs()}).module()
    masks = [program(input_values=make_inputs()).mask for _ in range(3)]
    assert all(mask.sum() == 2 * 4 for mask in masks)
    assert not torch.equal(masks[0], masks[1]) or not torch.equal(masks[0], masks[2])
