# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""With an attention mask, each clip of a padded batch gets what it would get alone, and padding costs nothing."""

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_audio_ssm import (
    SsambaConfig,
    SsambaFeatureExtractor,
    SsambaForAudioClassification,
    SsambaForAudioFrameClassification,
    SsambaForPreTraining,
    SsambaModel,
    ops,
)
from hf_audio_ssm.models.patch_encoder.packing import map_clips
from hf_audio_ssm.models.ssamba import modeling_ssamba
from hf_audio_ssm.ops import mixer as mixer_module
from hf_audio_ssm.ops import triton


# One patch, one patch and a bit, cut positions, stored positions, twice the same, interpolated positions.
FRAMES = (13, 4, 41, 24, 7, 24)
ROWS, COLUMNS = 4, 10
DEFINITION = "definition"
BACKENDS = (*ops.available_backends("cpu", torch.float32), DEFINITION)


def make_model(model_class, **arguments):
    torch.manual_seed(0)
    config = SsambaConfig(
        **{
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "state_size": 8,
            "patch_size": 4,
            "frequency_stride": 4,
            "time_stride": 4,
            "max_length": 24,
            "num_mel_bins": 16,
            "num_labels": 5,
            "drop_path_rate": 0.0,
            **arguments,
        }
    )
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def make_batch(frames=FRAMES, mel_bins=16, padding=0.0):
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(length, mel_bins, generator=generator) for length in frames]
    input_values = nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=padding)
    attention_mask = nn.utils.rnn.pad_sequence([torch.ones(length, dtype=torch.int32) for length in frames], True)
    return clips, input_values, attention_mask


def on_batch_grid(clip_patches: torch.Tensor) -> torch.Tensor:
    """(rows * own columns, values) of a clip on the grid of the batch, else zeros."""
    patches = clip_patches.unflatten(0, (ROWS, -1))
    grid = clip_patches.new_zeros(ROWS, COLUMNS, clip_patches.shape[-1])
    grid[:, : patches.shape[1]] = patches
    return grid.flatten(0, 1)


def assert_near(actual, expected):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    if request.param == DEFINITION:
        monkeypatch.setattr(modeling_ssamba, "ops", None)
    else:
        monkeypatch.setenv("HF_AUDIO_SSM_BACKEND", request.param)
    if request.param == "triton" and triton.is_interpreted():
        from hf_audio_ssm.ops.triton import scan_backward, scan_forward

        # Several chunks; and there is no GPU to ask for its size.
        for module in (scan_forward, scan_backward):
            monkeypatch.setattr(module, "CHUNK_SIZE", 8)
        monkeypatch.setattr(scan_forward, "programs_wanted", lambda device: 1)
    return request.param


@pytest.mark.parametrize("paired_layers", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_encoder(backend, pooling, paired_layers, monkeypatch):
    model = make_model(SsambaModel, pooling=pooling, paired_layers=paired_layers)
    clips, input_values, attention_mask = make_batch()
    # Once as in training, once in the buffers of inference.
    for grad in (True, False):
        monkeypatch.setattr(mixer_module, "LARGE_BYTES", 0)
        with torch.set_grad_enabled(grad):
            together = model(input_values, attention_mask, output_hidden_states=True)
            for index, clip in enumerate(clips):
                alone = model(clip[None], output_hidden_states=True)
                assert_near(together.pooler_output[index], alone.pooler_output[0])
                states = (together.last_hidden_state, *together.hidden_states)
                own_states = (alone.last_hidden_state, *alone.hidden_states)
                for state, own in zip(states, own_states, strict=True):
                    assert_near(state[index], torch.cat((own[0, :1], on_batch_grid(own[0, 1:]))))
                own_patches = torch.ones(alone.last_hidden_state.shape[1] - 1, 1, dtype=torch.bool)
                assert torch.equal(together.patch_attention_mask[index], on_batch_grid(own_patches)[:, 0])
                assert alone.patch_attention_mask is None


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


HEADS = {
    "linear": {},
    "layer-weighted": {"classifier_type": "layer_weighted"},
    "attentive": {"classifier_type": "attentive"},
    # The shortest clips have four patches.
    "prototypical": {"classifier_type": "prototypical", "prototype_topk": 6, "prototype_margin": 0.3},
    "prototypical, mean": {"classifier_type": "prototypical", "focal_similarity": "mean"},
    "protobin": {"classifier_type": "protobin", "classifier_dropout": 0.0},
    "cgp": {"classifier_type": "cgp", "classifier_dropout": 0.0},
    "frames": {"frames_per_label": 6, "problem_type": "single_label_classification"},
    "frames, multi-label": {"frames_per_label": 3, "problem_type": "multi_label_classification"},
}
# The definition's loop over time is slow, and the heads of a clip differ only after it.
BACKENDS_AND_HEADS = [
    (backend, head) for backend in BACKENDS for head in HEADS if backend != DEFINITION or head in ("linear", "frames")
]


def labels_along_time(model, frames: int) -> torch.Tensor:
    steps = model.config.num_label_steps(model.config.patch_grid(frames)[1])
    labels = (torch.arange(len(FRAMES))[:, None] + torch.arange(steps)) % 5
    return labels if model.config.problem_type.startswith("single") else nn.functional.one_hot(labels, 5)


@pytest.mark.parametrize("paired_layers", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("backend", "head"), BACKENDS_AND_HEADS, indirect=["backend"])
def test_heads_and_their_gradients(backend, head, pooling, paired_layers):
    along_time = head.startswith("frames")
    model_class = SsambaForAudioFrameClassification if along_time else SsambaForAudioClassification
    model = make_model(
        model_class, num_hidden_layers=2, pooling=pooling, paired_layers=paired_layers, **HEADS[head]
    ).train()
    clips, input_values, attention_mask = make_batch()
    labels = labels_along_time(model, max(FRAMES)) if along_time else torch.arange(len(clips)) % 5
    input_values.requires_grad_()
    together = model(input_values, attention_mask=attention_mask, labels=labels)
    gradients = gradients_of(model, together.loss)
    # The loss is a mean over clips, or over all their time steps.
    shares = [labels_along_time(model, len(clip)).shape[1] if along_time else 1 for clip in clips]
    shares = [share / sum(shares) for share in shares]
    loss, expected = 0, dict.fromkeys(gradients, 0)
    for index, clip in enumerate(clips):
        clip.requires_grad_()
        own_labels = labels_along_time(model, len(clip))[index, None] if along_time else labels[index, None]
        alone = model(clip[None], labels=own_labels)
        for name, gradient in gradients_of(model, shares[index] * alone.loss).items():
            expected[name] = expected[name] + gradient
        loss = loss + shares[index] * alone.loss.detach()
        own, others = together.logits[index], []
        if along_time:
            own, others = own.tensor_split((alone.logits.shape[1],))
        assert_near(own, alone.logits[0])
        assert not torch.any(torch.as_tensor(others))
        assert_near(input_values.grad[index, : len(clip)], clip.grad)
        assert not input_values.grad[index, len(clip) :].any()
    assert_near(together.loss, loss)
    for name, gradient in gradients.items():
        assert_near(gradient, expected[name])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("head", [head for head in HEADS if not head.startswith("frames")])
def test_features_of_a_frozen_encoder(head, training):
    model = make_model(SsambaForAudioClassification, **HEADS[head]).train(training)
    clips, input_values, attention_mask = make_batch()
    labels = torch.arange(len(clips)) % 5
    together = model(input_values, attention_mask=attention_mask, labels=labels)
    for index, clip in enumerate(clips):
        alone = model(clip[None], labels=labels[index, None])
        assert_near(together.logits[index], alone.logits[0])
        if together.similarity_maps is not None:
            assert_near(together.similarity_maps[index, ..., : len(clip) // 4], alone.similarity_maps[0])
            assert not together.similarity_maps[index, ..., len(clip) // 4 :].any()
    outputs = model.ssamba(input_values, attention_mask, output_hidden_states=True)
    features = model.classifier.read(outputs, model.config, input_values, attention_mask)
    cached = model(encoder_features=features, patch_attention_mask=outputs.patch_attention_mask, labels=labels)
    assert_near(cached.logits, together.logits)


@pytest.mark.parametrize("paired_layers", [True, False])
def test_pretraining(backend, paired_layers):
    model = make_model(SsambaForPreTraining, paired_layers=paired_layers)
    clips, input_values, attention_mask = make_batch()
    together = model(input_values, attention_mask=attention_mask)
    gradients = gradients_of(model, together.loss)
    expected = dict.fromkeys(gradients, 0)
    losses = {"loss": 0, "nce": 0, "mse": 0, "accuracy": 0}
    for index, clip in enumerate(clips):
        columns = len(clip) // 4
        mask = together.mask[index].unflatten(0, (ROWS, COLUMNS))
        assert mask[:, :columns].sum() == max(1, ROWS * columns * 400 // 512)
        assert not mask[:, columns:].any()
        alone = model(clip[None], bool_masked_pos=mask[None, :, :columns].flatten(1))
        for name in losses:
            losses[name] += alone[name] / len(clips)
        for name in ("discriminative_predictions", "generative_predictions"):
            own = together[name][index].unflatten(0, (ROWS, COLUMNS))[:, :columns].flatten(0, 1)
            assert_near(own, alone[name][0])
        for name, gradient in gradients_of(model, alone.loss / len(clips)).items():
            expected[name] = expected[name] + gradient
    for name, value in losses.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        assert_near(gradient, expected[name])


def test_masks_are_drawn_on_each_clips_own_grid():
    model = make_model(SsambaForPreTraining, num_masked_patches=3, mask_cluster_sizes=None)
    _, input_values, attention_mask = make_batch((24, 41, 40))
    mask = torch.stack([model.draw_mask(input_values, attention_mask) for _ in range(200)]).unflatten(2, (4, 10))
    assert (mask.sum(dim=(2, 3)) == 3).all()
    assert mask[:, 0].any(dim=0)[:, :6].all()
    assert not mask[:, 0, :, 6:].any()
    assert mask[:, 1:].any(dim=0).all()


def test_padding_costs_nothing_and_is_never_read():
    model = make_model(SsambaModel)
    sizes = []
    for layer in model.layers:
        layer.norm.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[:2].numel()))
    _, input_values, attention_mask = make_batch(padding=torch.nan)
    outputs = model(input_values, attention_mask)
    assert sizes == [sum(1 + ROWS * (frames // 4) for frames in FRAMES)] * len(model.layers)
    assert outputs.last_hidden_state.isfinite().all()
    assert outputs.pooler_output.isfinite().all()


def test_without_padding_nothing_changes():
    model = make_model(SsambaModel)
    _, input_values, _ = make_batch((24, 24, 24))
    expected = model(input_values)
    shapes = []
    model.layers[0].register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    # 23 frames hold as many patches as 21 do.
    for frames, dtype in ((24, torch.bool), (24, torch.int64), (24, torch.float32)):
        attention_mask = (torch.arange(24) < frames).to(dtype).expand(3, -1)
        outputs = model(input_values, attention_mask)
        assert torch.equal(outputs.last_hidden_state, expected.last_hidden_state)
        assert outputs.patch_attention_mask is None
    input_values = torch.cat((input_values, torch.ones(3, 3, 16)), dim=1)
    attention_mask = torch.arange(27) < torch.tensor([24, 25, 27])[:, None]
    assert torch.equal(model(input_values, attention_mask).last_hidden_state, expected.last_hidden_state)
    assert shapes == [(3, 25, 32)] * 4


@pytest.mark.parametrize("model_class", [SsambaForAudioClassification, SsambaForAudioFrameClassification])
def test_clips_shorter_than_a_patch(model_class):
    """Padding fills them up to one, as silence does where they come alone."""
    model = make_model(model_class, frames_per_label=4)
    _, input_values, attention_mask = make_batch((9, 3, 4, 1), padding=0.7)
    together = model(input_values, attention_mask=attention_mask).logits
    for index, frames in enumerate((9, 4, 4, 4)):
        alone = model(input_values[index : index + 1, :frames]).logits
        assert_near(together[index : index + 1, : alone.shape[1]], alone)
    pretrained = make_model(SsambaForPreTraining).train()
    assert pretrained(input_values, attention_mask=attention_mask).loss.isfinite()
    with pytest.raises(ValueError, match="`input_values` must have at least 4 frames, the length of one patch, got 3"):
        model(input_values[:, :3], attention_mask=attention_mask[:, :3])


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing(use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = make_model(SsambaForAudioClassification).train()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        _, input_values, attention_mask = make_batch()
        loss = model(input_values, attention_mask=attention_mask, labels=torch.arange(6) % 5).loss
        gradients.append(gradients_of(model, loss))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_drop_path_drops_whole_clips():
    model = make_model(SsambaModel, drop_path_rate=0.5).train()
    drop_path = model.drop_path
    shapes = ((2, 3), (1, 5), (3, 1))
    torch.manual_seed(0)
    for _ in range(20):
        dropped = map_clips(drop_path, torch.ones(1, 14, 2), shapes)
        assert dropped.shape == (1, 14, 2)
        clips = dropped[0].split([3, 3, 5, 1, 1, 1])
        assert all((clip == clip[0, 0]).all() and clip[0, 0] in (0, 2) for clip in clips)
    assert model(*make_batch()[1:]).last_hidden_state.isfinite().all()


def test_from_one_frame_to_a_hundred_thousand():
    model = make_model(SsambaModel, patch_size=(16, 1), frequency_stride=16, time_stride=1, num_hidden_layers=2)
    longest = 100_000 if "cpu" in ops.available_backends("cpu") else 3000
    clips, input_values, attention_mask = make_batch((1, longest, 2, 999))
    with torch.no_grad():
        together = model(input_values, attention_mask)
        for index, clip in enumerate(clips):
            alone = model(clip[None])
            assert_near(together.pooler_output[index], alone.pooler_output[0])
            assert_near(together.last_hidden_state[index, : 1 + len(clip)], alone.last_hidden_state[0])


@pytest.mark.slow
@pytest.mark.parametrize("paired_layers", [True, False])
@pytest.mark.parametrize(
    ("backend", "longest"),
    [(backend, 5000 if backend == "triton" else 100_000) for backend in BACKENDS if backend != DEFINITION],
    indirect=["backend"],
)
def test_gradients_from_one_frame_to_a_hundred_thousand(backend, longest, paired_layers):
    sizes = {"patch_size": (16, 1), "frequency_stride": 16, "time_stride": 1, "num_hidden_layers": 2}
    fields = {"frames_per_label": 1, "problem_type": "single_label_classification", "paired_layers": paired_layers}
    model = make_model(SsambaForAudioFrameClassification, **sizes, **fields)
    frames, labels = (1, longest, 2, 999), torch.arange(longest) % 5
    clips, input_values, attention_mask = make_batch(frames)
    together = model(input_values, attention_mask=attention_mask, labels=labels.expand(4, -1))
    gradients = gradients_of(model, together.loss)
    expected = dict.fromkeys(gradients, 0)
    for index, clip in enumerate(clips):
        alone = model(clip[None], labels=labels[None, : len(clip)])
        assert_near(together.logits[index, : len(clip)], alone.logits[0])
        for name, gradient in gradients_of(model, alone.loss * len(clip) / sum(frames)).items():
            expected[name] = expected[name] + gradient
    for name, gradient in gradients.items():
        assert_near(gradient, expected[name])


def test_feature_extractor_to_logits():
    torch.manual_seed(0)
    model = SsambaForAudioClassification(SsambaConfig(hidden_size=32, num_hidden_layers=2, max_length=100)).eval()
    feature_extractor = SsambaFeatureExtractor(max_length=100, return_attention_mask=True)
    audio = [torch.randn(samples) / 10 for samples in (16000, 5000, 30000)]
    arguments = {"sampling_rate": 16000, "return_tensors": "pt", "padding": "longest", "truncation": False}
    together = model(**feature_extractor(audio, **arguments)).logits
    for index, clip in enumerate(audio):
        assert_near(together[index], model(**feature_extractor(clip, **arguments)).logits[0])
    padded = model(**feature_extractor(audio[1], sampling_rate=16000, return_tensors="pt"))
    assert_near(padded.logits[0], together[1])
    unmasked = feature_extractor(audio[1], sampling_rate=16000, return_tensors="pt", return_attention_mask=False)
    assert (model(**unmasked).logits[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]], r"attention_mask\[1\] has other values, or padding before frames"),
        ([[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]], r"attention_mask\[0\] has other values"),
        ([[1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 0]], r"attention_mask\[1\] has other values"),
        ([[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], r"each clip at least one frame, .*\[0\] leaves 0 of 6"),
        ([[1, 1, 1, 1, 1]] * 2, r"\(batch_size, frames\) = \(2, 6\), got \(2, 5\)"),
        ([1, 1, 1, 1, 1, 1], r"\(batch_size, frames\) = \(2, 6\), got \(6,\)"),
    ],
)
def test_bad_masks_are_refused(mask, message):
    model = make_model(SsambaForPreTraining)
    for target in (model, model.ssamba):
        with pytest.raises(ValueError, match=message):
            target(torch.zeros(2, 6, 16), attention_mask=torch.tensor(mask))


def test_masked_patches_must_fit_the_batchs_grid():
    model = make_model(SsambaForPreTraining)
    _, input_values, attention_mask = make_batch((8, 16))
    with pytest.raises(ValueError, match=r"\(batch_size, patches\) = \(2, 16\), got \(2, 8\)"):
        model(input_values, attention_mask=attention_mask, bool_masked_pos=torch.ones(2, 8, dtype=torch.bool))
    # The first clip's only masked patch is padding.
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 3] = True
    with pytest.raises(ValueError, match="at least one patch of each clip"):
        model(input_values, attention_mask=attention_mask, bool_masked_pos=mask)


def test_packed_clips_must_fit_the_operators():
    model = make_model(SsambaModel)
    with pytest.raises(ValueError, match="clip_shapes=.* does not fit states of shape"):
        model.layers[0].mixer(torch.zeros(1, 7, 32), clip_shapes=((1, 3), (2, 3)))


def test_training_with_clips_grouped_by_length(tmp_path):
    """transformers' own sampler serves."""
    generator = torch.Generator().manual_seed(0)
    lengths = [int(torch.randint(4, 60, (1,), generator=generator)) for _ in range(128)]
    columns = {
        "input_values": [(torch.randn(length, 16, generator=generator) + length % 2).tolist() for length in lengths],
        "length": lengths,
        "labels": [length % 2 for length in lengths],
    }
    batches = []

    def collate(rows):
        batches.append([row["length"] for row in rows])
        values = [torch.tensor(row["input_values"]) for row in rows]
        return {
            "input_values": nn.utils.rnn.pad_sequence(values, batch_first=True),
            "attention_mask": nn.utils.rnn.pad_sequence([torch.ones(len(value)) for value in values], True),
            "labels": torch.tensor([row["labels"] for row in rows]),
        }

    arguments = TrainingArguments(
        str(tmp_path),
        train_sampling_strategy="group_by_length",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    model = make_model(SsambaForAudioClassification, num_labels=2, problem_type="single_label_classification")
    trainer = Trainer(model, arguments, train_dataset=Dataset.from_dict(columns), data_collator=collate)
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] < 0.6
    padded = sum(len(batch) * max(batch) for batch in batches) / sum(map(sum, batches))
    # In random order it would be about 1.75.
    assert padded < 1.4
