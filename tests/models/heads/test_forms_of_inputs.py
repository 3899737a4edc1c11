# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels, spectrograms and masks in other forms, and tuples in place of dicts: right, or one line; no state is left behind."""

import copy

import numpy as np
import pytest
import torch

from hf_audio_ssm import (
    SsambaConfig,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    SsastConfig,
    SsastForAudioClassification,
    SsastForAudioFrameClassification,
    SsastForPreTraining,
    SsastModel,
)
from hf_audio_ssm.models.heads.classification_heads import CLASSIFIER_TYPES


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "max_length": 64, "num_mel_bins": 32, "num_labels": 3}
INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CLASSIFIERS = {
    "clips": {
        "ssamba": (SsambaConfig, SsambaForAudioClassification),
        "ssast": (SsastConfig, SsastForAudioClassification),
    },
    "steps": {
        "ssamba": (SsambaConfig, SsambaForAudioFrameClassification),
        "ssast": (SsastConfig, SsastForAudioFrameClassification),
    },
}


def make(task="clips", model_type="ssamba", **fields):
    torch.manual_seed(0)
    config_class, model_class = CLASSIFIERS[task][model_type]
    return model_class(config_class(**{**SIZES, "frames_per_label": 32, **fields})).eval()


def spectrograms(batch_size=4, frames=64):
    return torch.randn(batch_size, frames, 32, generator=torch.Generator().manual_seed(1))


def refuse(call, message, error=(ValueError, TypeError)):
    with pytest.raises(error, match=message) as found:
        call()
    assert "\n" not in str(found.value)


# Labels


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
@pytest.mark.parametrize("task", CLASSIFIERS)
def test_labels_of_any_type(task, classifier_type):
    indices = torch.tensor([0, 2, 1, 1])
    indices = indices if task == "clips" else torch.stack((indices, indices), dim=1)
    multi_hot = torch.nn.functional.one_hot(indices, 3)
    for labels, dtypes in ((indices, INTEGERS), (multi_hot, [*INTEGERS, *FLOATS, torch.bool])):
        losses = []
        for dtype in dtypes:
            model = make(task, classifier_type=classifier_type, classifier_dropout=0.0)
            loss = model.train()(spectrograms(), labels=labels.to(dtype)).loss
            loss.backward()
            losses.append(loss.detach())
            kind = "multi" if labels is multi_hot else "single"
            assert model.config.problem_type == f"{kind}_label_classification"
        torch.testing.assert_close(torch.stack(losses), losses[0].expand(len(losses)))


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_numbers_of_any_type(dtype):
    numbers = torch.tensor([0, 3, 1, 2])
    model = make(num_labels=1)
    expected = (model(spectrograms()).logits[:, 0] - numbers).square().mean()
    for labels in (numbers, numbers[:, None]):
        loss = model(spectrograms(), labels=labels.to(dtype)).loss
        loss.backward()
        torch.testing.assert_close(loss, expected)
    model = make(problem_type="regression")
    loss = model(spectrograms(), labels=numbers[:, None].expand(4, 3).to(dtype)).loss
    torch.testing.assert_close(loss, (model(spectrograms()).logits - numbers[:, None]).square().mean())


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_steps_after_the_end_of_a_clip_do_not_count(dtype):
    """-100 does not fit into unsigned integers and booleans."""
    mask = torch.ones(4, 64, dtype=torch.int32)
    mask[1:, 32:] = 0
    labels = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1]])
    for form in (labels, torch.nn.functional.one_hot(labels, 3)):
        if form is labels and dtype == torch.bool:
            continue
        losses = [
            make("steps")(spectrograms(), labels=each, attention_mask=mask).loss
            for each in (form.to(dtype), form.long())
        ]
        torch.testing.assert_close(*losses)


def test_shares_of_classes_and_clips_that_do_not_count():
    shares = torch.tensor([[0.5, 0.5, 0.0]] * 4, dtype=torch.float64)
    model = make(problem_type="single_label_classification")
    loss = model(spectrograms(), labels=shares).loss
    logits = model(spectrograms()).logits
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, shares.float()))
    labels = torch.tensor([0, -100, 2, -100], dtype=torch.int16)
    loss = model(spectrograms(), labels=labels).loss
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels.long()))
    prototypical = make(classifier_type="prototypical", prototype_margin=0.2).train()
    assert prototypical(spectrograms(), labels=labels).loss.isfinite()


BAD_LABELS = {
    "clips": {
        "floats for indices": (
            torch.zeros(4),
            r"`labels` must be zeros and ones of shape \(4, 3\) .*float32 of shape \(4,\)",
        ),
        "another batch": (
            torch.zeros(3, dtype=torch.int64),
            r"`labels` must be class indices, integers of shape \(4,\)",
        ),
        "transposed": (torch.zeros(3, 4), r"`labels` must be zeros and ones of shape \(4, 3\)"),
        "3-D": (torch.zeros(4, 3, 1), "`labels` must be"),
        "0-d": (torch.tensor(1), "`labels` must be"),
        "out of range": (
            torch.tensor([0, 1, 3, 2]),
            "`labels` must be class indices from 0 to 2, or -100 for none: Target 3",
        ),
        "negative": (torch.tensor([0, 1, -1, 2]), "`labels` must be class indices from 0 to 2"),
        "complex": (torch.zeros(4, 3, dtype=torch.complex64), "`labels` must be .* got torch.complex64"),
        "array": (np.zeros(4, int), "`labels` must be a torch tensor, got ndarray"),
        "list": ([0, 1, 2, 0], "`labels` must be a torch tensor, got list"),
    },
    "steps": {
        "of clips": (torch.zeros(4, dtype=torch.int64), r"`labels` must have the shape \(4, 2, 3\)"),
        "other steps": (
            torch.zeros(4, 3, dtype=torch.int64),
            r"`labels` must have the shape \(4, 2\) .*of 2 time steps",
        ),
        "floats for indices": (torch.zeros(4, 2), "`labels` must be class indices, integers, .*got torch.float32"),
        "out of range": (
            torch.full((4, 2), 3),
            "`labels` must be class indices from 0 to 2, or -100 for none: Target 3",
        ),
        "list": ([[0, 1]] * 4, "`labels` must be a torch tensor, got list"),
    },
}


@pytest.mark.parametrize(("task", "case"), [(task, case) for task, cases in BAD_LABELS.items() for case in cases])
def test_a_failed_call_leaves_no_state(task, case):
    labels, message = BAD_LABELS[task][case]
    model = make(task)
    refuse(lambda: model(spectrograms(), labels=labels), message)
    assert model.config.problem_type is None
    # What the call decided before does not bind the next one.
    good = torch.zeros(4, 3) if task == "clips" else torch.zeros(4, 2, 3)
    assert model(spectrograms(), labels=good).loss.isfinite()
    assert model.config.problem_type == "multi_label_classification"


def test_a_given_problem_type_stays():
    model = make(problem_type="multi_label_classification")
    refuse(lambda: model(spectrograms(), labels=torch.zeros(4, dtype=torch.int64)), "zeros and ones of shape")
    assert model.config.problem_type == "multi_label_classification"
    refuse(
        lambda: make("steps", problem_type="regression")(spectrograms(), labels=torch.zeros(4, 2)), "`problem_type`"
    )


# Tuples


@pytest.mark.parametrize("model_type", ["ssamba", "ssast"])
@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
@pytest.mark.parametrize("task", CLASSIFIERS)
def test_tuples_of_classifiers(task, classifier_type, model_type):
    labels = torch.tensor([0, 2, 1, 1])
    labels = labels if task == "clips" else torch.stack((labels, labels), dim=1)
    mask = torch.ones(4, 64, dtype=torch.int32)
    mask[1:, 32:] = 0
    model = make(task, model_type, classifier_type=classifier_type)
    for inputs in ({}, {"labels": labels}, {"labels": labels, "attention_mask": mask, "output_hidden_states": True}):
        assert_same_as_tuple(model, spectrograms(), **inputs)


@pytest.mark.parametrize("model_class", [SsambaModel, SsastModel, SsambaForPreTraining, SsastForPreTraining])
def test_tuples_of_encoders(model_class):
    config = model_class.config_class(**SIZES)
    masked = torch.zeros(4, 8, dtype=torch.bool)
    masked[:, ::2] = True
    inputs = {"bool_masked_pos": masked} if "PreTraining" in model_class.__name__ else {}
    for kwargs in ({}, {"output_hidden_states": True}):
        assert_same_as_tuple(model_class(config).eval(), spectrograms(), **inputs, **kwargs)


def assert_same_as_tuple(model, *args, **kwargs):
    expected = model(*args, **kwargs)
    assert isinstance(expected, dict)
    by_config = copy.deepcopy(model)
    by_config.config.return_dict = False
    for values in (model(*args, **kwargs, return_dict=False), by_config(*args, **kwargs)):
        assert type(values) is tuple
        torch.testing.assert_close(values, expected.to_tuple())
    assert by_config(*args, **kwargs, return_dict=True).keys() == expected.keys()


# Spectrograms and masks


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_spectrograms_of_any_float_type_and_layout(classifier_type):
    model = make(classifier_type=classifier_type)
    values = spectrograms().bfloat16().half()
    expected = model(values.float()).logits
    forms = [values.to(dtype) for dtype in FLOATS]
    forms += [values.float().transpose(1, 2).contiguous().transpose(1, 2), values.float().repeat(1, 1, 2)[:, :, :32]]
    for form in forms:
        logits = model(form).logits
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_pretraining_reads_any_float_type(dtype):
    model = SsambaForPreTraining(SsambaConfig(**SIZES)).eval()
    masked = torch.zeros(4, 8, dtype=torch.bool)
    masked[:, ::2] = True
    values = spectrograms().bfloat16().half()
    losses = [model(each, bool_masked_pos=masked).loss for each in (values.to(dtype), values.float())]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, torch.bool])
@pytest.mark.parametrize("model_type", ["ssamba", "ssast"])
def test_masks_of_any_type(dtype, model_type):
    mask = torch.ones(4, 64, dtype=torch.int32)
    mask[1:, 32:] = 0
    for task in CLASSIFIERS:
        model = make(task, model_type)
        logits = [model(spectrograms(), attention_mask=each).logits for each in (mask.to(dtype), mask)]
        torch.testing.assert_close(*logits)


BAD_INPUTS = {
    "none": ({"input_values": None}, "`input_values` must be given"),
    "array": (
        {"input_values": spectrograms().numpy()},
        "`input_values` must be a torch tensor, got ndarray.*return_tensors",
    ),
    "list": ({"input_values": spectrograms().tolist()}, "`input_values` must be a torch tensor, got list"),
    "mapping": ({"input_values": {"input_values": spectrograms()}}, "`input_values` must be a torch tensor, got dict"),
    "one clip": (
        {"input_values": spectrograms()[0]},
        r"`input_values` must have the shape \(batch_size, frames, num_mel",
    ),
    "4-D": ({"input_values": spectrograms()[:, None]}, "`input_values` must have the shape"),
    "0-d": ({"input_values": torch.tensor(0.5)}, "`input_values` must have the shape"),
    "transposed": ({"input_values": spectrograms().mT}, "`input_values` must have the shape"),
    "no clip": ({"input_values": spectrograms()[:0]}, "`input_values` must hold at least one clip"),
    "no frame": ({"input_values": spectrograms()[:, :0]}, "`input_values` must have at least 16 frames"),
    "integers": ({"input_values": spectrograms().long()}, "`input_values` must be a floating-point spectrogram"),
    "complex": ({"input_values": spectrograms() + 0j}, "`input_values` must be a floating-point spectrogram"),
    "mask of arrays": ({"attention_mask": np.ones((4, 64))}, "`attention_mask` must be a torch tensor, got ndarray"),
    "mask of a clip": ({"attention_mask": torch.ones(64)}, "`attention_mask` must have the shape"),
    "mask of bins": ({"attention_mask": torch.ones(4, 64, 32)}, "`attention_mask` must have the shape"),
    "mask of NaN": ({"attention_mask": torch.full((4, 64), torch.nan)}, "`attention_mask` must hold ones"),
    "mask of twos": ({"attention_mask": torch.full((4, 64), 2)}, "`attention_mask` must hold ones"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_of_a_wrong_form(case):
    inputs, message = BAD_INPUTS[case]
    inputs = {"input_values": spectrograms(), **inputs}
    models = [make(), make("steps"), make(model_type="ssast"), SsambaForPreTraining(SsambaConfig(**SIZES)).eval()]
    labelled = [({"labels": torch.zeros(4, dtype=torch.int64)} if index in (0, 2) else {}) for index in range(4)]
    for model, labels in zip(models, labelled, strict=True):
        refuse(lambda: model(**inputs, **labels), message)  # noqa: B023
        assert getattr(model.config, "problem_type", None) is None
