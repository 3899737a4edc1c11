# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels along time: which patches belong to which step, losses, variable length."""

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForAudioFrameClassification

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioFrameClassification, embed
from hf_audio_ssm.models.heads.classification_heads import CLASSIFICATION_HEADS
from hf_audio_ssm.models.heads.linear_head import LinearHead
from hf_audio_ssm.models.heads.time_steps import find_columns, pool_steps


FRAME_HEADS = [name for name, head in CLASSIFICATION_HEADS.items() if head.labels_frames]


def make_config(**fields) -> SsambaConfig:
    sizes = {"patch_size": 4, "frequency_stride": 4, "time_stride": 3, "num_mel_bins": 16, "max_length": 40}
    return SsambaConfig(
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_labels": 3, "frames_per_label": 10, **sizes, **fields}
    )


def make_model(**fields) -> SsambaForAudioFrameClassification:
    torch.manual_seed(0)
    return SsambaForAudioFrameClassification(make_config(**fields)).eval()


def pool_by_the_rule(patches, config):
    """Column by column, in Python."""
    rows = config.patch_grid()[0]
    columns = patches.unflatten(1, (rows, -1)).mean(dim=1)
    # A frame spans 25 ms, and a new one begins every 10 ms.
    centres = [column * config.time_stride + config.patch_shape[1] / 2 + 0.75 for column in range(columns.shape[1])]
    steps = []
    for step in range(int(centres[-1] // config.frames_per_label) + 1):
        start, end = step * config.frames_per_label, (step + 1) * config.frames_per_label
        inside = [column for column, centre in enumerate(centres) if start <= centre < end]
        if not inside:
            middle = (start + end) / 2
            inside = [min(range(len(centres)), key=lambda column: abs(centres[column] - middle))]
        steps.append(columns[:, inside].mean(dim=1))
    return torch.stack(steps, dim=1)


@pytest.mark.parametrize("columns", [1, 2, 7, 33])
@pytest.mark.parametrize("frames_per_label", [1, 2, 3, 7, 10, 100])
@pytest.mark.parametrize(("width", "stride"), [(4, 3), (4, 4), (5, 2), (2, 7)])
def test_steps_are_pooled_by_time(columns, frames_per_label, width, stride):
    config = make_config(patch_size=(4, width), time_stride=stride, frames_per_label=frames_per_label)
    patches = torch.randn(2, 4 * columns, 8)
    pooled, mask = pool_steps(patches, config)
    torch.testing.assert_close(pooled, pool_by_the_rule(patches, config))
    assert mask is None
    assert pooled.shape[1] == config.num_label_steps(columns)


def test_a_label_a_second_by_default():
    config = SsambaConfig(num_mel_bins=16, hidden_size=8, num_hidden_layers=2)
    # A minute of audio has 5998 frames.
    assert config.num_label_steps(config.patch_grid(5998)[1]) == 60


def test_labels_and_embeddings_have_one_clock():
    """A column of 16 frames spans 175 ms; it belongs to the step in which the embedding has its middle."""
    config = SsambaConfig(hidden_size=8, num_hidden_layers=2, frames_per_label=1)
    assert config.column_centres(3) == pytest.approx([8.75, 24.75, 40.75])
    model, rate = SsambaForAudioFrameClassification(config).eval(), 16000
    timestamps = embed(torch.randn(2 * rate).numpy(), rate, model, SsambaFeatureExtractor()).timestamps
    assert timestamps[0].item() == pytest.approx(0.0875)
    torch.testing.assert_close(timestamps * 100, torch.tensor(config.column_centres(12), dtype=torch.float64))
    columns, is_used = find_columns(config, 12)
    for column, seconds in enumerate(timestamps.tolist()):
        step = int(seconds / 0.01)
        assert columns[step][is_used[step]].tolist() == [column]
    assert config.num_label_steps(12) == int(timestamps[-1] / 0.01) + 1


@pytest.mark.parametrize("classifier_type", CLASSIFICATION_HEADS)
def test_heads_of_time_steps(classifier_type):
    model = make_model(classifier_type=classifier_type, num_prototypes=2)
    head = CLASSIFICATION_HEADS[classifier_type]
    assert type(model.classifier) is (head if head.labels_frames else LinearHead)


@pytest.mark.parametrize("classifier_type", FRAME_HEADS)
@pytest.mark.parametrize("fields", [{}, {"frames_per_label": 2}, {"statistics_of_filter_bank": True}])
def test_a_step_is_read_as_a_small_clip(classifier_type, fields):
    """The encoder's tokens of the step's columns, and the frames that these columns read."""
    model = make_model(classifier_type=classifier_type, num_prototypes=2, pooling="mean", **fields)
    for parameter in model.classifier.parameters():
        parameter.data.normal_()
    config, input_values = model.config, torch.randn(2, 47, 16)
    rows, num_columns = config.patch_grid(47)
    with torch.no_grad():
        logits = model(input_values).logits
        outputs = model.ssamba(input_values, output_hidden_states=True)
        columns, is_used = find_columns(config, num_columns)
        for step in range(config.num_label_steps(num_columns)):
            own = columns[step][is_used[step]].tolist()
            tokens = [0, *(1 + row * num_columns + column for row in range(rows) for column in own)]
            clip = type(outputs)(
                last_hidden_state=outputs.last_hidden_state[:, tokens],
                hidden_states=tuple(state[:, tokens] for state in outputs.hidden_states),
            )
            clip.pooler_output = clip.last_hidden_state[:, 1:].mean(dim=1)
            frames = input_values[:, own[0] * 3 : own[-1] * 3 + 4]
            expected = model.classifier(model.classifier.read(clip, config, frames))
            torch.testing.assert_close(logits[:, step], expected, rtol=1e-4, atol=1e-5)


def test_absent_steps_do_not_count_in_running_statistics():
    model = make_model(classifier_type="statistics", classifier_dropout=0.0, drop_path_rate=0.0).train()
    input_values = torch.randn(2, 40, 16)
    attention_mask = torch.arange(40) < torch.tensor([[40], [12]])
    model(input_values, attention_mask=attention_mask)
    mean = model.classifier.standardization.running_mean.clone()
    steps = [model.classifier.read_steps(model.ssamba(clip), model.config, clip).features[0] for clip in (input_values[:1], input_values[1:, :12])]  # fmt: skip
    features = torch.cat(steps)[:, : model.classifier.num_features]
    torch.testing.assert_close(mean, 0.1 * features.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_outputs_and_timestamps():
    model = make_model()
    outputs = model(torch.randn(2, 40, 16))
    assert outputs.logits.shape == (2, 4, 3)
    expected = torch.tensor([[0.0, 0.1], [0.1, 0.2], [0.2, 0.3], [0.3, 0.4]])
    torch.testing.assert_close(outputs.timestamps, expected)
    assert outputs.step_attention_mask is None
    assert outputs.loss is None


def test_steps_know_their_own_time():
    """The step that a sound falls into changes most, whatever the mel rows."""
    model = make_model(max_length=400, hidden_size=64)
    quiet = torch.zeros(1, 400, 16)
    for step in (3, 20, 38):
        loud = quiet.clone()
        loud[:, 10 * step : 10 * step + 10] = 3
        with torch.no_grad():
            change = (model(loud).logits - model(quiet).logits).norm(dim=-1)[0]
        assert abs(int(change.argmax()) - step) <= 1


def test_single_label_loss():
    model, input_values = make_model(), torch.randn(2, 40, 16)
    labels = torch.tensor([[0, 1, -100, 2], [1, -100, -100, 0]])
    outputs = model(input_values, labels=labels)
    expected = F.cross_entropy(outputs.logits[labels >= 0], labels[labels >= 0])
    torch.testing.assert_close(outputs.loss, expected)
    assert model.config.problem_type == "single_label_classification"
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_multi_label_loss():
    model, input_values = make_model(), torch.randn(2, 40, 16)
    labels = torch.randint(0, 2, (2, 4, 3))
    labels[1, 2] = -100
    outputs = model(input_values, labels=labels)
    used = labels >= 0
    expected = F.binary_cross_entropy_with_logits(outputs.logits[used], labels[used].float())
    torch.testing.assert_close(outputs.loss, expected)
    assert model.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize("frames_per_label", [2, 10, 25])
@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("classifier_type", FRAME_HEADS)
def test_variable_length(frames_per_label, problem_type, classifier_type):
    model = make_model(
        frames_per_label=frames_per_label,
        problem_type=problem_type,
        classifier_type=classifier_type,
        statistics_of_filter_bank=True,
    )
    frames = (4, 40, 17, 90, 41)
    clips = [torch.randn(length, 16) for length in frames]
    input_values = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    attention_mask = torch.arange(90) < torch.tensor(frames)[:, None]
    with torch.no_grad():
        steps = model(input_values).logits.shape[1]
        shape = (5, steps) if problem_type.startswith("single") else (5, steps, 3)
        labels = torch.randint(0, 2, shape)
        together = model(input_values, attention_mask=attention_mask, labels=labels)
        losses, count = 0, 0
        for index, clip in enumerate(clips):
            own_steps = model.config.num_label_steps(model.config.patch_grid(len(clip))[1])
            alone = model(clip[None], labels=labels[index, None, :own_steps])
            assert alone.logits.shape[1] == own_steps
            torch.testing.assert_close(together.logits[index, :own_steps], alone.logits[0], rtol=1e-5, atol=1e-5)
            assert not together.logits[index, own_steps:].any()
            assert together.step_attention_mask[index].sum() == own_steps
            losses, count = losses + alone.loss * own_steps, count + own_steps
    torch.testing.assert_close(together.loss, losses / count, rtol=1e-5, atol=1e-5)


def test_labels_of_another_shape_are_refused():
    model = make_model(problem_type="single_label_classification")
    with pytest.raises(ValueError, match=r"\(2, 4\) for single_label_classification of 4 time steps, got \(2, 5\)"):
        model(torch.randn(2, 40, 16), labels=torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(2, 4, 3\) for multi_label_classification of 4 time steps, got \(2, 4\)"):
        make_model(problem_type="multi_label_classification")(
            torch.randn(2, 40, 16), labels=torch.zeros(2, 4, dtype=torch.long)
        )
    with pytest.raises(ValueError, match="`problem_type` must be single_label_classification or multi_.*'regression'"):
        make_model(problem_type="regression")(torch.randn(2, 40, 16), labels=torch.zeros(2, 4, 3))
    with pytest.raises(StrictDataclassError, match="`frames_per_label` must be a positive integer, got 0"):
        make_config(frames_per_label=0)


def test_save_and_load(tmp_path):
    model, input_values = make_model(), torch.randn(2, 40, 16)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForAudioFrameClassification.from_pretrained(tmp_path)
    assert isinstance(reloaded, SsambaForAudioFrameClassification)
    assert torch.equal(reloaded(input_values).logits, model(input_values).logits)


# Compiling takes long: one head that pools steps, one that reads them as small clips.
@pytest.mark.parametrize("classifier_type", ["linear", "protobin"])
def test_compile(classifier_type):
    model, input_values = make_model(classifier_type=classifier_type), torch.randn(2, 40, 16)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(input_values).logits, model(input_values).logits)


def test_frozen_base_model():
    model = make_model(drop_path_rate=0.9)
    model.freeze_base_model()
    assert model.train().classifier.training
    assert not model.ssamba.training
    logits = model(torch.randn(1, 40, 16)).logits
    logits.sum().backward()
    assert all((p.grad is not None) == name.startswith("classifier.") for name, p in model.named_parameters())
