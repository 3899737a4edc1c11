# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What SSAST adds to transformers' AST and to the patch encoders: two prefix tokens, frames, attention, initialisation."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, get_peft_model
from transformers import (
    ASTConfig,
    ASTModel,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    pipeline,
)

from hf_audio_ssm import (
    SsambaFeatureExtractor,
    SsastConfig,
    SsastForAudioClassification,
    SsastForAudioFrameClassification,
    SsastForPreTraining,
    SsastModel,
)
from hf_audio_ssm.models.packaging import flat_code


PATCHES = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4}
FRAMES = {"patch_size": (16, 2), "frequency_stride": 16, "time_stride": 2}


def make_model(model_class, seed=0, attn_implementation="eager", **arguments):
    """A model whose weights are far from their initial values, so that every part of it matters."""
    config = SsastConfig(
        **{
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_length": 24,
            "num_mel_bins": 16,
            "num_labels": 5,
            **PATCHES,
            **arguments,
        }
    )
    torch.manual_seed(seed)
    model = model_class._from_config(config, attn_implementation=attn_implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def make_input(batch_size=3, frames=24, seed=1) -> torch.Tensor:
    return torch.randn(batch_size, frames, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "hidden_size", "heads", "parameters"),
    [("tiny", 192, 3, 5.6e6), ("small", 384, 6, 21.7e6), ("base", 768, 12, 86e6)],
)
def test_published_sizes(size, hidden_size, heads, parameters):
    config = getattr(SsastConfig, size)()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (hidden_size, 12, heads)
    assert (config.intermediate_size, config.layer_norm_eps) == (4 * hidden_size, 1e-6)
    with torch.device("meta"):
        model = SsastModel(config)
    # As ViT's of these sizes, but for the patch embedding, positions and prefix tokens.
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(parameters, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_attention_heads": 5}, r"`num_attention_heads` must be a divisor of `hidden_size` \(192\), got 5"),
        ({"num_attention_heads": 0}, "`num_attention_heads` must be a positive integer, got 0"),
        ({"intermediate_size": -1}, "`intermediate_size` must be a positive integer, got -1"),
        (
            {"attention_probs_dropout_prob": 1.0},
            "`attention_probs_dropout_prob` must be at least 0 and below 1, got 1.0",
        ),
        ({"hidden_size": 0}, "`hidden_size` must be a positive integer, got 0"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` must be a positive integer, got 0"),
        ({"layer_norm_eps": 0.0}, "`layer_norm_eps` must be a positive number, got 0.0"),
        ({"hidden_act": "gelou"}, "`hidden_act` must be one of .*gelu.*got 'gelou'"),
        ({"patch_size": 256}, "`patch_size` must be at most the spectrogram"),
    ],
)
def test_invalid_values_are_refused(arguments, message):
    with pytest.raises(StrictDataclassError, match=message):
        SsastConfig(**arguments)


def test_saved_and_reloaded_configurations_agree(tmp_path):
    config = SsastConfig(hidden_size=100, num_attention_heads=5, **FRAMES)
    config.save_pretrained(tmp_path)
    assert SsastConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_encoder_is_ast_on_square_patches(attn_implementation):
    """On one grid of squares, with the weights of transformers' AST, SSAST is AST."""
    model = make_model(SsastModel, pooling="cls", attn_implementation=attn_implementation)
    fields = set(ASTConfig().to_dict()) - {"model_type", "transformers_version"}
    config = ASTConfig(**{name: value for name, value in model.config.to_dict().items() if name in fields})
    ast = ASTModel(config).eval()
    ast.load_state_dict(model.state_dict())
    expected, outputs = ast(make_input()), model(make_input())
    torch.testing.assert_close(outputs.last_hidden_state, expected.last_hidden_state)
    torch.testing.assert_close(outputs.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("patches", [PATCHES, FRAMES], ids=["patches", "frames"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_outputs(patches, pooling):
    model = make_model(SsastForAudioClassification, pooling=pooling, **patches)
    num_tokens = 2 + (24 if patches is PATCHES else 12)
    outputs = model(make_input(), output_hidden_states=True, output_attentions=True)
    assert outputs.logits.shape == (3, 5)
    assert len(outputs.hidden_states) == 1 + 3
    assert len(outputs.attentions) == 3
    assert all(weights.shape == (3, 4, num_tokens, num_tokens) for weights in outputs.attentions)
    encoded = model.ssast(make_input())
    tokens = encoded.last_hidden_state
    assert tokens.shape == (3, num_tokens, 32)
    pooled = (tokens[:, 0] + tokens[:, 1]) / 2 if pooling == "cls" else tokens[:, 2:].mean(dim=1)
    torch.testing.assert_close(encoded.pooler_output, pooled)
    torch.testing.assert_close(model.ssast.layernorm(outputs.hidden_states[-1]), tokens)


@pytest.mark.parametrize("frames", [4, 7, 23, 100, 1003])
@pytest.mark.parametrize("patches", [PATCHES, FRAMES], ids=["patches", "frames"])
def test_any_length(frames, patches):
    model = make_model(SsastModel, **patches)
    rows, columns = model.config.patch_grid(frames)
    outputs = model(make_input(1, frames))
    assert outputs.last_hidden_state.shape == (1, 2 + rows * columns, 32)
    assert outputs.last_hidden_state.isfinite().all()


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("patches", [PATCHES, FRAMES], ids=["patches", "frames"])
def test_padded_clips_are_encoded_as_if_they_came_alone(attn_implementation, patches):
    model = make_model(SsastModel, attn_implementation=attn_implementation, **patches)
    lengths = (13, 4, 41, 24, 24)
    input_values = make_input(len(lengths), max(lengths))
    attention_mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    together = model(input_values, attention_mask=attention_mask, output_hidden_states=True)
    rows, columns = model.config.patch_grid(max(lengths))
    assert together.last_hidden_state.shape == (len(lengths), 2 + rows * columns, 32)
    for clip, length in enumerate(lengths):
        alone = model(input_values[clip : clip + 1, :length], output_hidden_states=True)
        torch.testing.assert_close(together.pooler_output[clip], alone.pooler_output[0], rtol=1e-4, atol=1e-5)
        own = model.config.patch_grid(length)[1]
        for state, expected in zip(together.hidden_states, alone.hidden_states, strict=True):
            grid = state[clip, 2:].unflatten(0, (rows, columns))
            torch.testing.assert_close(grid[:, :own].flatten(0, 1), expected[0, 2:], rtol=1e-4, atol=1e-5)
            assert (grid[:, own:] == 0).all()


def test_padding_does_not_change_losses_and_gradients():
    mask = torch.ones(2, 24)
    mask[1, 12:] = 0
    labels = torch.tensor([[0, 3, 1], [2, -100, -100]])
    model = make_model(SsastForAudioFrameClassification, frames_per_label=8)
    padded = model(make_input(2), attention_mask=mask, labels=labels[:, :3])
    longer = make_input(2).clone()
    longer[1, 12:] = 100.0
    again = model(longer, attention_mask=mask, labels=labels[:, :3])
    torch.testing.assert_close(padded.loss, again.loss)
    again.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_save_and_load_every_class(tmp_path):
    model = make_model(SsastForPreTraining, **FRAMES)
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors", *flat_code("ssast")}
    mask = torch.zeros(3, 12, dtype=torch.bool).index_fill(1, torch.arange(3, 9), True)
    reloaded = AutoModelForPreTraining.from_pretrained(tmp_path, attn_implementation="eager")
    assert torch.equal(
        reloaded(make_input(), bool_masked_pos=mask).loss, model(make_input(), bool_masked_pos=mask).loss
    )
    encoder, info = AutoModel.from_pretrained(tmp_path, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(encoder(make_input()).pooler_output, model.ssast(make_input()).pooler_output)
    classifier, info = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert all(key.startswith("classifier.") for key in info["missing_keys"])
    # One set of stored positions serves another stride.
    other = AutoModel.from_pretrained(tmp_path, time_stride=1)
    assert other(make_input()).last_hidden_state.shape == (3, 2 + 23, 32)


def test_initialisation():
    torch.manual_seed(0)
    model = SsastForPreTraining(SsastConfig(hidden_size=128, num_hidden_layers=2, max_length=256))
    layer, embeddings = model.ssast.layers[0], model.ssast.embeddings
    for linear in (layer.attention.q_proj, layer.attention.o_proj, layer.mlp.fc1, layer.mlp.fc2):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (linear.bias == 0).all()
    # PyTorch's default, as in the original.
    for weight, bound in [
        (embeddings.patch_embeddings.projection.weight, 256**-0.5),
        (model.discriminative_head.dense.weight, 128**-0.5),
        (model.generative_head.decoder.weight, 128**-0.5),
    ]:
        assert 0.98 * bound < weight.abs().max() <= bound
    for token in (embeddings.position_embeddings, embeddings.cls_token, embeddings.distillation_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.25)
    assert not torch.equal(embeddings.cls_token, embeddings.distillation_token)
    assert embeddings.mask_token.std().item() == pytest.approx(128**-0.5, rel=0.2)


def test_export_and_compile():
    model = make_model(SsastForAudioClassification, attn_implementation="sdpa")
    expected = model(make_input()).logits
    exported = torch.export.export(model, (make_input(),), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    torch.testing.assert_close(exported(make_input()[:2]).logits, expected[:2])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(make_input()).logits, expected)


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        model = make_model(SsastForAudioClassification).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(make_input(), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_lora_trains_saves_and_merges(tmp_path):
    model = make_model(SsastForAudioClassification)
    model.save_pretrained(tmp_path / "base")
    targets = ["q_proj", "v_proj", "fc1"]
    lora = get_peft_model(model, LoraConfig(r=4, target_modules=targets, modules_to_save=["classifier"])).train()
    optimizer = torch.optim.AdamW([p for p in lora.parameters() if p.requires_grad], lr=1e-2)
    labels = torch.tensor([0, 1, 2])
    losses = []
    for _ in range(10):
        loss = lora(input_values=make_input(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for name, parameter in lora.named_parameters() if "lora_B" in name)
    lora.eval().save_pretrained(tmp_path / "adapter")
    expected = lora(input_values=make_input()).logits
    reloaded = AutoModelForAudioClassification.from_pretrained(tmp_path / "base")
    reloaded.load_adapter(str(tmp_path / "adapter"))
    torch.testing.assert_close(reloaded.eval()(make_input()).logits, expected)
    torch.testing.assert_close(lora.merge_and_unload()(make_input()).logits, expected)


def test_pipeline(tmp_path):
    config = SsastConfig(hidden_size=64, num_hidden_layers=1, max_length=64, num_labels=3)
    SsastForAudioClassification(config).save_pretrained(tmp_path)
    SsambaFeatureExtractor(max_length=64).save_pretrained(tmp_path)
    answers = pipeline("audio-classification", model=str(tmp_path))(torch.randn(8000).numpy())
    assert {answer["label"] for answer in answers} == set(config.id2label.values())
