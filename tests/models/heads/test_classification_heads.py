# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Classification heads: the prototypical one against its authors' numbers, all of them as parts of the model."""

import math

import pytest
import torch
import torch.nn.functional as F
from golden import GOLDEN_DIR
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from transformers import AutoModelForAudioClassification

from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification
from hf_audio_ssm.models.heads.classification_heads import CLASSIFICATION_HEADS, CLASSIFIER_TYPES
from hf_audio_ssm.models.heads.head import ClassificationHead
from hf_audio_ssm.models.heads.prototypical_head import PrototypicalHead, asymmetric_loss


SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "max_length": 64, "num_mel_bins": 32, "num_labels": 3}


def make_model(classifier_type: str, **fields) -> SsambaForAudioClassification:
    torch.manual_seed(0)
    config = SsambaConfig(**{**SIZES, "classifier_type": classifier_type, **fields})
    return SsambaForAudioClassification(config).eval()


def make_inputs(clips: int = 4) -> torch.Tensor:
    return torch.randn(clips, 64, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN_DIR / "probing" / "prototype_head.safetensors")


@pytest.fixture
def golden_head(golden):
    head = PrototypicalHead(SsambaConfig(hidden_size=48, num_labels=7, focal_similarity="cls"))
    state = {"prototypes": "prototypes", "weight": "last_layer_weight", "bias": "last_layer_bias"}
    head.load_state_dict({name: golden[key] for name, key in state.items()})
    return head


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_prototypical_logits(golden, golden_head, mode):
    features = torch.cat((golden["cls"][:, None], golden["tokens"]), dim=1)
    logits = golden_head.train(mode == "train")(features)
    torch.testing.assert_close(logits, golden[f"logits_{mode}"], atol=1e-5, rtol=0)


def test_prototypical_losses(golden, golden_head):
    torch.testing.assert_close(golden_head.orthogonality_loss(), golden["orthogonality_loss"], atol=1e-6, rtol=0)
    loss = asymmetric_loss(golden["logits_eval"], golden["labels"])
    torch.testing.assert_close(loss, golden["asymmetric_loss"], atol=1e-6, rtol=0)


def test_prototypical_options(golden, golden_head):
    prefix, tokens = golden["cls"][:, None], golden["tokens"]
    features = torch.cat((prefix, tokens), dim=1)
    by_cls = golden_head.compare(features)
    golden_head.config.focal_similarity = "none"
    torch.testing.assert_close(golden_head.compare(torch.cat((prefix, tokens - prefix), dim=1)), by_cls)
    golden_head.config.focal_similarity = "mean"
    centred = tokens - tokens.mean(dim=1, keepdim=True)
    by_mean = golden_head.compare(features)
    golden_head.config.focal_similarity = "none"
    torch.testing.assert_close(golden_head.compare(torch.cat((prefix, centred), dim=1)), by_mean)

    # The best k patches count in training only.
    golden_head.config.prototype_topk = 3
    best = by_cls.sort(dim=-1, descending=True).values
    weight, bias = golden_head.weight.relu(), golden_head.bias
    expected = (best[..., :3].mean(-1) * weight).sum(-1) + bias
    torch.testing.assert_close(golden_head.train().score(by_cls), expected)
    torch.testing.assert_close(golden_head.eval().score(by_cls), (best[..., 0] * weight).sum(-1) + bias)


@pytest.mark.parametrize("as_index", [True, False])
def test_prototype_margin_moves_other_classes_in_training(golden, golden_head, as_index):
    features = torch.cat((golden["cls"][:, None], golden["tokens"]), dim=1)
    labels = torch.tensor([0, 3, 6])
    without = golden_head.compare(features)
    golden_head.config.prototype_margin = 0.1
    labels = labels if as_index else F.one_hot(labels, 7).float()
    torch.testing.assert_close(golden_head.eval().compare(features, labels), without)
    moved = golden_head.train().compare(features, labels)
    for clip, own in enumerate((0, 3, 6)):
        others = [c for c in range(7) if c != own]
        torch.testing.assert_close(moved[clip, own], without[clip, own])
        expected = torch.cos((torch.acos(without[clip, others]) - 0.1).clamp(min=0))
        torch.testing.assert_close(moved[clip, others], expected)
        assert (moved[clip, others] > without[clip, others]).all()


def test_asymmetric_loss_has_finite_gradients_everywhere():
    logits = torch.tensor([[-200.0, 0.0, 200.0]] * 3, requires_grad=True)
    asymmetric_loss(logits, torch.tensor([[0.0] * 3, [1.0] * 3, [0.3] * 3])).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_heads_save_and_load(classifier_type, tmp_path):
    model = make_model(classifier_type)
    for parameter in model.classifier.parameters():
        parameter.data.add_(torch.rand_like(parameter))
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert loaded.config.classifier_type == classifier_type
    expected = model(make_inputs()).logits
    assert expected.shape == (4, 3)
    assert torch.equal(loaded.eval()(make_inputs()).logits, expected)


def test_the_default_is_linear_and_keeps_its_names():
    model = SsambaForAudioClassification(SsambaConfig(**SIZES))
    assert {name for name in model.state_dict() if name.startswith("classifier.")} == {
        "classifier.layernorm.weight",
        "classifier.layernorm.bias",
        "classifier.dense.weight",
        "classifier.dense.bias",
    }


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_a_head_is_made_anew_on_another_heads_checkpoint(classifier_type, tmp_path):
    torch.manual_seed(0)
    source = make_model("linear")
    source.save_pretrained(tmp_path)
    model, info = AutoModelForAudioClassification.from_pretrained(
        tmp_path, classifier_type=classifier_type, output_loading_info=True
    )
    assert all(key.startswith("classifier.") for key in info["missing_keys"])
    if classifier_type == "prototypical":
        prototypes = model.classifier.prototypes
        assert 0 <= prototypes.min() < 0.05
        assert 0.95 < prototypes.max() <= 1
        assert (model.classifier.weight == 1).all()
        assert (model.classifier.bias == -2).all()
    elif classifier_type == "statistics":
        assert (model.classifier.standardization.running_mean == 0).all()
        assert (model.classifier.standardization.running_var == 1).all()
    elif classifier_type in ("protobin", "cgp"):
        name = "binary_prototypes" if classifier_type == "protobin" else "gated_prototypes"
        assert model.get_parameter(f"classifier.{name}").std().item() == pytest.approx(0.02, rel=0.1)
        assert classifier_type == "protobin" or (model.classifier.gate == 1).all()
    elif classifier_type != "linear":
        # Before training these read the mean token, or the mean over layers, and are linear.
        (extra,) = info["missing_keys"]
        assert (model.get_parameter(extra) == 0).all()


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_features_in_place_of_inputs(classifier_type):
    model = make_model(classifier_type)
    labels = torch.tensor([0, 1, 2, 0])
    whole = model(make_inputs(), labels=labels)
    outputs = model.ssamba(make_inputs(), output_hidden_states=True)
    features = model.classifier.read(outputs, model.config, make_inputs())
    alone = model(encoder_features=features, labels=labels)
    torch.testing.assert_close(alone.logits, whole.logits)
    torch.testing.assert_close(alone.loss, whole.loss)
    with pytest.raises(ValueError, match="got both"):
        model(make_inputs(), encoder_features=features)


@pytest.mark.parametrize("paired_layers", [True, False])
def test_layer_weighted_head_reads_complete_streams(paired_layers):
    model = make_model("layer_weighted", paired_layers=paired_layers)
    assert model.classifier.layer_weights.shape == (2 if paired_layers else 4,)
    outputs = model(make_inputs(), output_hidden_states=True)
    assert len(outputs.hidden_states) == 5
    assert model(make_inputs()).hidden_states is None
    model.classifier.layer_weights.data[-1] = 100.0
    expected = model.classifier.dense(model.classifier.layernorm(outputs.hidden_states[-1][:, 1:].mean(dim=1)))
    torch.testing.assert_close(model(make_inputs()).logits, expected)


def test_attentive_head_attends():
    model = make_model("attentive")
    tokens = model.ssamba(make_inputs()).last_hidden_state[:, 1:]
    query = model.classifier.query.data.normal_()
    weights = (tokens @ query / math.sqrt(32)).softmax(dim=1)
    expected = model.classifier.dense(model.classifier.layernorm((weights[..., None] * tokens).sum(dim=1)))
    torch.testing.assert_close(model(make_inputs()).logits, expected)


@pytest.mark.parametrize("frames", [64, 80])
def test_similarity_maps(frames):
    model = make_model("prototypical", num_prototypes=5, time_stride=8, focal_similarity="cls")
    inputs = torch.randn(2, frames, 32)
    outputs = model(inputs)
    rows, columns = model.config.patch_grid(frames)
    assert outputs.similarity_maps.shape == (2, 3, 5, rows, columns)
    torch.testing.assert_close(model.classifier.score(outputs.similarity_maps.flatten(3)), outputs.logits)
    # Where a token of the encoder is a prototype (up to scale), the map is at its highest there.
    tokens = model.ssamba(inputs).last_hidden_state
    model.classifier.prototypes.data[1, 2] = 10 * (tokens[0, 1 + columns + 2] - tokens[0, 0])
    best = model(inputs).similarity_maps[0, 1, 2].flatten().argmax()
    assert divmod(best.item(), columns) == (1, 2)


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_losses(classifier_type):
    indices, shares = torch.tensor([0, 1, 2, 0]), torch.tensor([[0.5, 0.5, 0]] * 4)
    multi_hot = torch.tensor([[1, 1, 0]] * 4)
    single = make_model(classifier_type, problem_type="single_label_classification")
    multi = make_model(classifier_type, problem_type="multi_label_classification")
    logits = single(make_inputs()).logits
    extra = single.classifier.orthogonality_loss() if classifier_type == "prototypical" else 0
    binary = asymmetric_loss if classifier_type == "prototypical" else F.binary_cross_entropy_with_logits
    for model, labels, expected in (
        (single, indices, F.cross_entropy(logits, indices)),
        (single, indices[:, None], F.cross_entropy(logits, indices)),
        (single, shares, F.cross_entropy(logits, shares)),
        (multi, multi_hot, binary(logits, multi_hot.float())),
    ):
        torch.testing.assert_close(model(make_inputs(), labels=labels).loss, expected + extra)


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (torch.tensor([0, 1, 2, 0]), "single_label_classification"),
        (torch.tensor([[0], [1], [2], [0]]), "single_label_classification"),
        (torch.tensor([[1, 1, 0]] * 4), "multi_label_classification"),
        (torch.tensor([[1.0, 1, 0]] * 4), "multi_label_classification"),
    ],
)
def test_problem_type_by_labels(labels, problem_type):
    model = make_model("prototypical")
    first = model(make_inputs(), labels=labels).loss
    assert model.config.problem_type == problem_type
    assert torch.equal(model(make_inputs(), labels=labels).loss, first)


@pytest.mark.parametrize("problem_type", [None, "regression", "multi_label_classification"])
def test_one_label(problem_type):
    model = make_model("linear", problem_type=problem_type, num_labels=1)
    labels = torch.tensor([[0], [1], [1], [0]])
    logits = model(make_inputs()).logits
    is_binary = problem_type == "multi_label_classification"
    loss = F.binary_cross_entropy_with_logits if is_binary else F.mse_loss
    torch.testing.assert_close(model(make_inputs(), labels=labels).loss, loss(logits, labels.float()))


def test_orthogonality_loss_weight():
    model = make_model("prototypical")
    labels = torch.tensor([0, 1, 2, 0])
    full = model(make_inputs(), labels=labels).loss
    model.config.orthogonality_loss_weight = 0.0
    less = model(make_inputs(), labels=labels).loss
    torch.testing.assert_close(full - less, model.classifier.orthogonality_loss())


@pytest.mark.parametrize("classifier_type", CLASSIFIER_TYPES)
def test_frozen_base_model(classifier_type):
    model = make_model(classifier_type, drop_path_rate=0.9, problem_type="single_label_classification")
    model.freeze_base_model()
    model.train()
    assert model.training
    assert model.classifier.training
    assert not model.ssamba.training
    model(make_inputs(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("classifier."), name
    assert all(parameter.grad.abs().max() > 0 for parameter in model.classifier.parameters())
    model.ssamba.requires_grad_(True)
    assert model.train().ssamba.training


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classifier_type": "quadratic"}, "`classifier_type` must be one of \"linear\", .*, got 'quadratic'"),
        ({"focal_similarity": "both"}, '`focal_similarity` must be one of "none", "cls", "mean", got \'both\''),
        ({"num_prototypes": 0}, "`num_prototypes` must be a positive integer, got 0"),
        ({"prototype_topk": 0}, "`prototype_topk` must be a positive integer, got 0"),
        ({"prototype_margin": -0.1}, "`prototype_margin` must be .*, got -0.1"),
        ({"orthogonality_loss_weight": -1.0}, "`orthogonality_loss_weight` must be .*, got -1.0"),
        ({"classifier_dropout": 1.0}, "`classifier_dropout` must be None, or at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        SsambaConfig(**fields)


def test_every_type_has_a_head():
    assert set(CLASSIFIER_TYPES) == set(CLASSIFICATION_HEADS)
    assert all(issubclass(head, ClassificationHead) for head in CLASSIFICATION_HEADS.values())
