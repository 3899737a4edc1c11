# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""One model and one feature extractor used by several threads, in forked and spawned processes, pickled and copied."""

import contextlib
import copy
import dataclasses
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline
from warm_python import BARE, run_python

import hf_audio_ssm
from hf_audio_ssm import (
    Annotation,
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    SsastConfig,
    SsastForAudioClassification,
    SsastForAudioFrameClassification,
    SsastForPreTraining,
    SsastModel,
    embed,
)
from hf_audio_ssm.common.errors import ClipError, ClipWarning
from hf_audio_ssm.models.heads.classification_heads import CLASSIFICATION_HEADS


MODELS = (
    SsambaModel,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsastModel,
    SsastForAudioClassification,
    SsastForAudioFrameClassification,
    SsastForPreTraining,
)
COPIES = {
    "pickled": lambda value: pickle.loads(pickle.dumps(value)),
    "copied": copy.deepcopy,
}


def make_model(model_class, **arguments):
    torch.manual_seed(0)
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_mel_bins": 16,
        "patch_size": 8,
        "frequency_stride": 8,
        "time_stride": 8,
        "max_length": 64,
        "num_labels": 3,
        "num_masked_patches": 4,
    }
    if issubclass(model_class, SsastModel.__mro__[2]):
        config = SsastConfig(**settings, num_attention_heads=2, intermediate_size=16, **arguments)
    else:
        config = SsambaConfig(**settings, state_size=4, **arguments)
    return model_class(config).eval()


def make_inputs(clips=2, frames=64):
    return torch.linspace(-1, 1, clips * frames * 16).mul(41).sin().view(clips, frames, 16)


def run(model, **arguments) -> list[torch.Tensor]:
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = model(make_inputs(), **arguments)
    return [value for value in outputs.to_tuple() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("model_class", MODELS)
def test_models_after_a_call(model_class, way):
    """With the hooks that hidden states need, which come back, and with hooks of users, which stay."""
    model = make_model(model_class)
    expected = run(model)
    states = model(make_inputs(), output_hidden_states=True).hidden_states
    copied = COPIES[way](model)
    for own, other in zip(run(copied), expected, strict=True):
        assert torch.equal(own, other)
    again = copied(make_inputs(), output_hidden_states=True).hidden_states
    assert len(again) == len(states) == 3
    # The model itself is as it was.
    assert len(model(make_inputs(), output_hidden_states=True).hidden_states) == 3
    assert copied.config.to_dict() == model.config.to_dict()
    copied.base_model.layers[0].register_forward_hook(_count)
    _calls.clear()
    run(COPIES[way](copied))
    assert _calls == [1]


_calls: list[int] = []


def _count(*arguments):
    _calls.append(1)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("head", CLASSIFICATION_HEADS)
def test_classifiers_of_every_head(head, way):
    model = make_model(SsambaForAudioClassification, classifier_type=head)
    run(model, output_hidden_states=True)
    expected = run(model)
    copied = COPIES[way](model)
    assert all(torch.equal(*pair) for pair in zip(run(copied), expected, strict=True))
    # Nothing is shared.
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert all(torch.equal(*pair) for pair in zip(run(model), expected, strict=True))


def test_parts_and_containers_are_pickled_too():
    model = make_model(SsambaForAudioClassification)
    expected = run(model, output_hidden_states=True)
    container = pickle.loads(pickle.dumps({"models": torch.nn.ModuleList([model]), "again": model}))
    assert container["models"][0] is container["again"]
    assert all(torch.equal(*pair) for pair in zip(run(container["again"]), expected, strict=True))


@pytest.mark.parametrize("way", COPIES)
def test_results_and_settings(way):
    frame = pd.DataFrame({"onset": [0.0], "offset": [1.0], "label": ["a"], "score": [0.5]})
    annotation = Annotation("x", 1.0, frame, frame[:0], np.zeros((2, 1)), ["a"], 0.5, 1, np.zeros((3, 4)))
    found = COPIES[way](annotation)
    assert found.events.equals(frame)
    assert found.labels == ["a"]
    extractor = SsambaFeatureExtractor(num_mel_bins=16, max_length=64)
    waveform = np.linspace(-1, 1, 4000, dtype=np.float32)
    (expected,) = extractor(waveform, sampling_rate=16_000)["input_values"]
    (values,) = COPIES[way](extractor)(waveform, sampling_rate=16_000)["input_values"]
    assert np.array_equal(values, expected)
    assert COPIES[way](extractor).to_dict() == extractor.to_dict()
    model = make_model(SsambaForAudioFrameClassification)
    outputs = model(make_inputs())
    found = COPIES[way](type(outputs)(**{name: value.detach() for name, value in outputs.items()}))
    assert torch.equal(found.logits, outputs.logits)
    embedding = embed(waveform, 16_000, make_model(SsambaModel), extractor)
    assert torch.equal(COPIES[way](embedding).clip, embedding.clip)


def _modules():
    for module in pkgutil.walk_packages(hf_audio_ssm.__path__, "hf_audio_ssm."):
        if ".ops._cpu" not in module.name:
            with contextlib.suppress(ImportError):
                yield importlib.import_module(module.name)


def _classes():
    for module in _modules():
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__:
                yield found


@pytest.mark.parametrize("way", COPIES)
def test_errors_keep_their_message(way):
    """Errors of worker processes come back pickled."""
    kinds = [found for found in _classes() if issubclass(found, Exception)]
    assert len(kinds) >= 4
    for kind in kinds:
        error = kind("a.wav", "it is empty") if kind in (ClipError, ClipWarning) else kind("it is empty")
        found = COPIES[way](error)
        assert (type(found), str(found), found.args) == (kind, str(error), error.args)


def _without_addresses(value) -> str:
    return re.sub("0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize("way", COPIES)
def test_data_classes_with_defaults(way):
    """Arguments of scripts, and whatever else is a data class that can be made from nothing."""
    made = 0
    for kind in _classes():
        if not dataclasses.is_dataclass(kind):
            continue
        try:
            value = kind()
        except Exception:
            continue
        made += 1
        found = COPIES[way](value)
        assert type(found) is kind
        assert _without_addresses(found) == _without_addresses(value)
    assert made >= 5


def test_mixed_calls_from_eight_threads():
    """Pipelines, hidden states, embeddings and lengths: as one after the other."""
    model = make_model(SsambaForAudioClassification, classifier_type="layer_weighted")
    extractor = SsambaFeatureExtractor(num_mel_bins=16, max_length=64)
    classify = pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")
    generator = np.random.default_rng(0)
    waveforms = [generator.standard_normal(samples).astype(np.float32) for samples in (3000, 8000, 12_000)]
    mask = torch.arange(64) < torch.tensor([[64], [24]])

    def logits():
        with torch.no_grad():
            return model(make_inputs()).logits

    def padded():
        with torch.inference_mode():
            return model(make_inputs(), attention_mask=mask).logits

    def states():
        with torch.no_grad():
            return torch.stack(model(make_inputs(3, 40), output_hidden_states=True).hidden_states)

    def gradient():
        inputs = make_inputs(1).requires_grad_()
        return torch.autograd.grad(model(inputs).logits.sum(), inputs)[0]

    def extracted():
        return extractor(waveforms, sampling_rate=16_000, return_tensors="pt")["input_values"]

    def classified():
        return torch.tensor([result["score"] for result in classify(waveforms[0])])

    def embedded(index):
        return embed(waveforms[index], 16_000, model, extractor).frames

    calls = [logits, padded, states, gradient, extracted, classified, lambda: embedded(1), lambda: embedded(2)]
    expected = [call() for call in calls]
    barrier, mismatches = threading.Barrier(8), []

    def work(first):
        barrier.wait()
        for turn in range(16):
            index = (first + turn * (1 + first % 3)) % 8
            if not torch.equal(calls[index](), expected[index]):
                mismatches.append(index)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert not mismatches


def test_first_calls_from_eight_threads():
    """Of one new model: hooks are installed, and kernels chosen, once."""
    for way in ({"output_hidden_states": True}, {}):
        expected = run(make_model(SsambaForAudioClassification), **way)
        model, barrier = make_model(SsambaForAudioClassification), threading.Barrier(8)

        def work(index, model=model, barrier=barrier, way=way):
            barrier.wait()
            with torch.no_grad():
                outputs = model(make_inputs(), **way)
            assert len(outputs.hidden_states or (1, 2, 3)) == 3
            return outputs.logits

        with ThreadPoolExecutor(8) as pool:
            assert all(torch.equal(logits, expected[0]) for logits in pool.map(work, range(8)))


def _multiply():
    return torch.ones(512, 512) @ torch.ones(512, 512)


def _run_in_child(model, extractor, queue):
    values = extractor(np.linspace(-1, 1, 8000, dtype=np.float32), sampling_rate=16_000, return_tensors="pt")
    # Work enough for torch's operators to be shared among threads.
    _multiply()
    logits = [run(model)[0], model(make_inputs()).logits.detach(), model(**values).logits.detach()]
    queue.put([one.tolist() for one in logits])


def _compare_with_children(context, model) -> None:
    extractor = SsambaFeatureExtractor(num_mel_bins=16, max_length=64)
    own = multiprocessing.get_context("fork").SimpleQueue()
    _run_in_child(model, extractor, own)
    expected, queue = own.get(), context.SimpleQueue()
    children = [context.Process(target=_run_in_child, args=(model, extractor, queue)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(100)
        child.kill()
    assert [child.exitcode for child in children] == [0, 0]
    for _ in children:
        for found, wanted in zip(queue.get(), expected, strict=True):
            torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted))


def test_forked_children_run_what_their_parent_ran_in_threads():
    """The threads of OpenMP are the parent's: a child that waits for them waits forever."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = make_model(SsambaForAudioClassification)
        run(model)
        _multiply()
        _compare_with_children(multiprocessing.get_context("fork"), model)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_spawned_children():
    model = make_model(SsambaForAudioClassification, classifier_type="layer_weighted")
    run(model)
    _compare_with_children(multiprocessing.get_context("spawn"), model)


FIRST_USE = """
import sys, threading, traceback
import hf_audio_ssm
sys.setswitchinterval(1e-5)
settings = dict(hidden_size=8, num_hidden_layers=2, num_mel_bins=16, max_length=32)
errors, barrier = [], threading.Barrier(4)

def config():
    from transformers import AutoConfig
    assert AutoConfig.for_model("ssamba", **settings).model_type == "ssamba"

def classifier():
    from transformers import AutoConfig, AutoModelForAudioClassification
    model = AutoModelForAudioClassification.from_config(AutoConfig.for_model("ssamba", **settings))
    assert type(model).__name__ == "SsambaForAudioClassification"

def extractor():
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
    found = FEATURE_EXTRACTOR_MAPPING[hf_audio_ssm.SsambaConfig]
    assert found is hf_audio_ssm.SsambaFeatureExtractor

def model():
    assert type(hf_audio_ssm.SsambaModel(hf_audio_ssm.SsambaConfig(**settings))).__name__ == "SsambaModel"

def run(function):
    barrier.wait()
    try:
        function()
    except BaseException:
        errors.append(traceback.format_exc())

threads = [threading.Thread(target=run, args=(function,)) for function in (config, classifier, extractor, model)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
assert not any(thread.is_alive() for thread in threads)
assert not errors, "".join(errors)
"""


# Fresh processes, in which threads race: not every run of the tests may wait for their outcome.
@pytest.mark.slow
def test_first_use_of_the_auto_classes_by_threads(tmp_path):
    """Each thread imports what it needs: nobody finds half of it, and nobody waits for another forever."""
    result = run_python(["-c", FIRST_USE], tmp_path, preloaded=BARE)
    assert result.returncode == 0, result.stderr
