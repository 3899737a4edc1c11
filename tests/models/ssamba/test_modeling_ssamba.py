# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The models as transformers models: shapes, heads, precision, saving, compilation, refusals."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

import hf_audio_ssm  # noqa: F401
from hf_audio_ssm import SsambaConfig, SsambaForAudioClassification, SsambaForPreTraining, SsambaModel
from hf_audio_ssm.models.packaging import flat_code
from hf_audio_ssm.models.patch_encoder.patch_tokens import adapt_position_embeddings
from hf_audio_ssm.models.ssamba.modeling_ssamba import SsambaDropPath, selective_scan


def make_config(**arguments) -> SsambaConfig:
    return SsambaConfig(
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
            **arguments,
        }
    )


def make_model(model_class=SsambaForAudioClassification, seed=0, **arguments):
    """A model whose weights are far from their initial values, so that every part of it matters."""
    torch.manual_seed(seed)
    model = model_class(make_config(**arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def make_input(batch_size=3, frames=24, mel_bins=16, seed=1) -> torch.Tensor:
    return torch.randn(batch_size, frames, mel_bins, generator=torch.Generator().manual_seed(seed))


def scan_by_definition(hidden_states, time_step, A, B, C, D):
    """The recurrence for one clip and channel at a time, in Python numbers."""
    batch, length, channels = hidden_states.shape
    result = torch.zeros_like(hidden_states)
    for b in range(batch):
        for c in range(channels):
            state = torch.zeros_like(A[c])
            for t in range(length):
                dt, x = time_step[b, t, c], hidden_states[b, t, c]
                state = torch.exp(dt * A[c]) * state + dt * B[b, t] * x
                result[b, t, c] = (C[b, t] * state).sum() + D[c] * x
    return result


@pytest.mark.parametrize("reverse", [False, True])
def test_selective_scan_is_the_recurrence(reverse):
    generator = torch.Generator().manual_seed(0)
    x, time_step = torch.randn(2, 2, 7, 3, generator=generator, dtype=torch.float64)
    B, C = torch.randn(2, 2, 7, 5, generator=generator, dtype=torch.float64)
    A = -torch.rand(3, 5, generator=generator, dtype=torch.float64)
    D = torch.randn(3, generator=generator, dtype=torch.float64)
    time_step = F.softplus(time_step)
    scanned = selective_scan(x, time_step, A, B, C, D, reverse=reverse)
    if reverse:
        x, time_step, B, C = (tensor.flip(1) for tensor in (x, time_step, B, C))
    expected = scan_by_definition(x, time_step, A, B, C, D)
    torch.testing.assert_close(scanned, expected.flip(1) if reverse else expected)


def encode_as_the_original(model: SsambaModel, input_values: torch.Tensor) -> torch.Tensor:
    """
    The encoder as the original writes it: the residual doubles in each pair, the second layer of a pair reads flipped
    tokens, the backward direction flips once more, and drop path acts on what a layer receives.
    """
    eps = model.config.layer_norm_eps
    norm_weights = model.layernorm.weight, model.layernorm.bias

    def direction(ssm, x):
        x = F.conv1d(F.pad(x.mT, (3, 0)), ssm.conv1d.weight, ssm.conv1d.bias, groups=x.shape[2]).mT
        x = F.silu(x)
        time_step, B, C = ssm.x_proj(x).split((ssm.time_step_rank, ssm.state_size, ssm.state_size), dim=2)
        return selective_scan(x, F.softplus(ssm.dt_proj(time_step)), -ssm.A_log.exp(), B, C, ssm.D)

    def mixer(module, tokens):
        x, z = module.in_proj(tokens).chunk(2, dim=2)
        forward = direction(module.forward_ssm, x) * F.silu(z)
        backward = direction(module.backward_ssm, x.flip(1)) * F.silu(z.flip(1))
        return module.out_proj((forward + backward.flip(1)) / 2)

    def run_layer(layer, hidden, residual):
        residual = hidden if residual is None else residual + layer.drop_path(hidden)
        normed = F.layer_norm(residual, residual.shape[2:], layer.norm.weight, layer.norm.bias, eps)
        return mixer(layer.mixer, normed), residual

    hidden, residual = model.embeddings(input_values), None
    if model.config.paired_layers:
        for first, second in zip(model.layers[::2], model.layers[1::2], strict=True):
            forward, forward_residual = run_layer(first, hidden, residual)
            flipped = None if residual is None else residual.flip(1)
            backward, backward_residual = run_layer(second, hidden.flip(1), flipped)
            hidden = forward + backward.flip(1)
            residual = forward_residual + backward_residual.flip(1)
    else:
        for layer in model.layers:
            hidden, residual = run_layer(layer, hidden, residual)
    tokens = residual + model.drop_path(hidden)
    for _ in range(2):
        tokens = F.layer_norm(tokens, tokens.shape[2:], *norm_weights, eps)
    return tokens


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("paired_layers", [True, False])
def test_encoder_equals_the_original_formulation(paired_layers, training, monkeypatch):
    model = make_model(SsambaModel, paired_layers=paired_layers, num_hidden_layers=6, drop_path_rate=0.3).double()
    model.train(training)
    if training:
        # Without chance, and different for each layer: what is compared is where drop path acts.
        monkeypatch.setattr(SsambaDropPath, "forward", lambda self, update: (1 - self.rate) * update)
    input_values = make_input().double()
    expected = encode_as_the_original(model, input_values)
    torch.testing.assert_close(model(input_values).last_hidden_state, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layers_in_evaluation", [(0,), (1,), (0, 1), (2, 3), (3,), (0, 1, 2, 3)])
@pytest.mark.parametrize("paired_layers", [True, False])
def test_some_layers_in_evaluation_mode(paired_layers, layers_in_evaluation):
    """As where the lower ones are frozen: what they add is not dropped."""
    model = make_model(SsambaModel, paired_layers=paired_layers, drop_path_rate=0.9)
    expected = model(make_input()).last_hidden_state
    model.train()
    for index in layers_in_evaluation:
        model.layers[index].eval()
    output = model(make_input()).last_hidden_state
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.layers.parameters())
    if len(layers_in_evaluation) == 4:
        torch.testing.assert_close(output, expected)


def test_drop_path_rates_are_the_originals():
    model = SsambaModel(make_config(num_hidden_layers=24, drop_path_rate=0.1))
    expected = [0.0, *torch.linspace(0, 0.1, 24).tolist()]
    assert [layer.drop_path.rate for layer in model.layers] == pytest.approx(expected[:24])
    assert model.drop_path.rate == 0.1


def test_drop_path_drops_whole_clips_and_keeps_the_mean():
    torch.manual_seed(0)
    drop_path = SsambaDropPath(0.25).train()
    dropped = drop_path(torch.ones(4000, 2, 3))
    kept = dropped[:, 0, 0] != 0
    assert torch.equal(dropped, torch.where(kept[:, None, None], 1 / 0.75, 0.0).expand_as(dropped))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(drop_path.eval()(torch.ones(3, 2, 3)), torch.ones(3, 2, 3))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("paired_layers", [True, False])
def test_outputs(paired_layers, pooling):
    model = make_model(paired_layers=paired_layers, pooling=pooling)
    outputs = model(make_input(), output_hidden_states=True)
    assert outputs.logits.shape == (3, 5)
    assert outputs.loss is None
    assert len(outputs.hidden_states) == 1 + 4
    assert all(state.shape == (3, 1 + 4 * 6, 32) for state in outputs.hidden_states)
    encoded = model.ssamba(make_input())
    tokens = encoded.last_hidden_state
    pooled = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(encoded.pooler_output, pooled)
    # The last recorded state is the complete stream: the final norm of it is the output.
    torch.testing.assert_close(model.ssamba.layernorm(outputs.hidden_states[-1]), tokens)
    torch.testing.assert_close(model(make_input(), return_dict=False)[0], outputs.logits)


@pytest.mark.parametrize(
    ("frames", "grid"), [(4, (4, 1)), (7, (4, 1)), (23, (4, 5)), (24, (4, 6)), (100, (4, 25)), (4003, (4, 1000))]
)
def test_any_length(frames, grid):
    model = make_model()
    outputs = model.ssamba(make_input(1, frames))
    assert outputs.last_hidden_state.shape == (1, 1 + grid[0] * grid[1], 32)
    assert outputs.last_hidden_state.isfinite().all()


def test_another_stride_needs_no_other_weights(tmp_path):
    make_model().save_pretrained(tmp_path)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path, frequency_stride=2, time_stride=3)
    assert model.ssamba.embeddings.position_embeddings.shape == (1, 1 + 4 * 6, 32)
    assert model.ssamba(make_input()).last_hidden_state.shape == (3, 1 + 7 * 7, 32)


def test_clips_do_not_depend_on_their_batch():
    model = make_model()
    together = model(make_input()).logits
    alone = torch.cat([model(clip[None]).logits for clip in make_input()])
    torch.testing.assert_close(together, alone)


def test_position_embeddings_are_cut_or_interpolated():
    rows, columns = 4, 6
    stored = torch.randn(1, 1 + rows * columns, 8)
    patches = stored[0, 1:].T.reshape(8, rows, columns)

    def adapted(grid):
        embeddings = adapt_position_embeddings(stored, (rows, columns), grid)
        assert torch.equal(embeddings[:, :1], stored[:, :1])
        return embeddings[0, 1:].T.reshape(8, *grid)

    assert adapt_position_embeddings(stored, (rows, columns), (rows, columns)) is stored
    assert torch.equal(adapted((4, 3)), patches[:, :, 2:5])
    assert torch.equal(adapted((2, 6)), patches[:, 1:3])
    assert torch.equal(adapted((1, 1)), patches[:, 2:3, 3:4])
    longer = F.interpolate(patches[None], size=(4, 11), mode="bilinear", align_corners=False)[0]
    assert torch.equal(adapted((4, 11)), longer)
    both = F.interpolate(patches[None, :, :, 2:5], size=(7, 3), mode="bilinear", align_corners=False)[0]
    assert torch.equal(adapted((7, 3)), both)


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("single_label_classification", torch.tensor([0, 4, 2])),
        ("multi_label_classification", torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])),
        ("regression", torch.randn(3, 5)),
    ],
)
def test_problem_types(problem_type, labels):
    model = make_model(problem_type=problem_type)
    outputs = model(make_input(), labels=labels)
    loss = {
        "single_label_classification": F.cross_entropy,
        "multi_label_classification": F.binary_cross_entropy_with_logits,
        "regression": F.mse_loss,
    }[problem_type](outputs.logits, labels)
    torch.testing.assert_close(outputs.loss, loss)
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_agree_with_float32(dtype, tmp_path):
    model = make_model(num_hidden_layers=24)
    model.save_pretrained(tmp_path)
    converted = AutoModelForAudioClassification.from_pretrained(tmp_path, dtype=dtype).eval()
    assert converted.classifier.dense.weight.dtype == dtype
    if dtype != torch.float64:
        assert converted.ssamba.layers[0].mixer.forward_ssm.A_log.dtype == torch.float32
    input_values = 3 * make_input(frames=200)
    with torch.no_grad():
        expected, logits = model(input_values).logits, converted(input_values).logits
    assert logits.dtype == dtype
    tolerance = {torch.bfloat16: 4e-2, torch.float16: 5e-3, torch.float64: 1e-5}[dtype]
    assert (logits.float() - expected).abs().max() <= tolerance * expected.abs().max()


def test_float16_does_not_overflow_where_the_original_would():
    # 30 pairs: the original's residual, 2^30 times the embeddings, leaves float16's range.
    model = make_model(SsambaModel, num_hidden_layers=60)
    input_values = make_input()
    expected = model(input_values).last_hidden_state
    output = model.half()(input_values).last_hidden_state
    assert output.isfinite().all()
    assert (output.float() - expected).abs().max() <= 2e-2 * expected.abs().max()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = make_model(drop_path_rate=0.0).train()
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": use_reentrant})
        model(make_input(), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_save_and_load_every_class(tmp_path):
    model = make_model(SsambaForPreTraining)
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors", *flat_code("ssamba")}
    mask = torch.zeros(3, 24, dtype=torch.bool).index_fill(1, torch.arange(3, 15), True)
    reloaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(
        reloaded(make_input(), bool_masked_pos=mask).loss, model(make_input(), bool_masked_pos=mask).loss
    )
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(encoder(make_input()).pooler_output, model.ssamba(make_input()).pooler_output)
    classifier, info = AutoModelForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert all(key.startswith("classifier.") for key in info["missing_keys"])


def test_a_new_label_set(tmp_path):
    make_model().save_pretrained(tmp_path)
    id2label = {0: "dog", 1: "cat", 2: "rain"}
    model, info = SsambaForAudioClassification.from_pretrained(
        tmp_path,
        id2label=id2label,
        label2id={label: index for index, label in id2label.items()},
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    assert model(make_input()).logits.shape == (3, 3)
    assert {key for key, *_ in info["mismatched_keys"]} == {"classifier.dense.weight", "classifier.dense.bias"}
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        SsambaForAudioClassification.from_pretrained(tmp_path, num_labels=3)


def test_device_map(tmp_path):
    make_model().save_pretrained(tmp_path)
    model = SsambaForAudioClassification.from_pretrained(tmp_path, device_map="cpu")
    torch.testing.assert_close(model(make_input()).logits, make_model()(make_input()).logits)


@pytest.mark.parametrize("fused", [True, False])
def test_offloaded_weights_are_fetched(tmp_path, fused, monkeypatch):
    """With weights offloaded, those that are read without calling their module must be brought in too."""
    accelerate = pytest.importorskip("accelerate")
    if not fused:
        monkeypatch.setattr("hf_audio_ssm.models.ssamba.modeling_ssamba.ops", None)
    model = make_model()
    expected = model(make_input()).logits
    offloaded = accelerate.disk_offload(model, tmp_path, execution_device="cpu")
    assert offloaded.ssamba.layers[0].mixer.forward_ssm.A_log.is_meta
    torch.testing.assert_close(offloaded(make_input()).logits, expected)


def test_initialisation():
    torch.manual_seed(0)
    model = SsambaForPreTraining(SsambaConfig(hidden_size=128, num_hidden_layers=4, max_length=256))
    mixer, embeddings = model.ssamba.layers[0].mixer, model.ssamba.embeddings
    ssm = mixer.forward_ssm
    torch.testing.assert_close(ssm.A_log, torch.arange(1, 17).float().log().expand(256, 16))
    assert (ssm.D == 1).all()
    time_step = F.softplus(ssm.dt_proj.bias)
    assert 0.00099 < time_step.min() < 0.0015
    assert 0.07 < time_step.max() < 0.101
    assert time_step.log().mean().item() == pytest.approx(-4.6, abs=0.3)
    for weight, bound in [
        (ssm.dt_proj.weight, 8**-0.5),
        (ssm.x_proj.weight, 256**-0.5),
        (mixer.in_proj.weight, 128**-0.5),
        (mixer.out_proj.weight, (256 * 4) ** -0.5),
        (embeddings.patch_embeddings.projection.weight, 256**-0.5),
    ]:
        assert 0.98 * bound < weight.abs().max() <= bound
    assert embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    assert embeddings.cls_token.abs().max() > 0
    assert embeddings.mask_token.std().item() == pytest.approx(128**-0.5, rel=0.2)


def test_export_and_compile():
    model = make_model(num_hidden_layers=2)
    input_values = make_input()
    expected = model(input_values).logits
    dynamic_shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(model, (input_values,), dynamic_shapes=dynamic_shapes).module()
    torch.testing.assert_close(exported(input_values).logits, expected)
    torch.testing.assert_close(exported(input_values[:2]).logits, expected[:2])
    # Beyond the sizes from which the eager model goes other ways.
    many = input_values.repeat(300, 4, 1)
    longer = torch.export.export(model, (many[:2],), dynamic_shapes=dynamic_shapes).module()
    with torch.no_grad():
        torch.testing.assert_close(longer(many).logits, model(many).logits)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(input_values).logits, expected)


def test_training_compiled():
    gradients = []
    for compile_model in (False, True):
        model = make_model(num_hidden_layers=2, drop_path_rate=0.0).train()
        forward = torch.compile(model, fullgraph=True, backend="aot_eager") if compile_model else model
        forward(make_input(), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced():
    model = make_model(num_hidden_layers=2)
    with torch.no_grad():
        traced = torch.jit.trace(model, (make_input(),), strict=False)
        torch.testing.assert_close(traced(2 * make_input())["logits"], model(2 * make_input()).logits)


@pytest.mark.slow
def test_compiled_by_inductor():
    model = make_model(num_hidden_layers=2)
    expected = model(make_input()).logits
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(make_input()).logits, expected)


@pytest.mark.parametrize(
    ("input_values", "error", "message"),
    [
        (None, ValueError, r"`input_values` must be given"),
        (torch.zeros(3, 24, 128), ValueError, r"num_mel_bins=16\), got \(3, 24, 128\)"),
        (torch.zeros(24, 16), ValueError, r"got \(24, 16\)"),
        (torch.zeros(3, 1, 24, 16), ValueError, r"got \(3, 1, 24, 16\)"),
        (torch.zeros(3, 3, 16), ValueError, r"at least 4 frames.*got 3"),
        (torch.zeros(3, 24, 16, dtype=torch.int64), TypeError, r"floating-point spectrogram, got torch.int64"),
    ],
)
def test_bad_input_is_refused(input_values, error, message):
    model = make_model()
    with pytest.raises(error, match=message):
        model(input_values)


def test_mask_token_is_needed_for_masks():
    model = make_model(SsambaModel)
    with pytest.raises(ValueError, match="use_mask_token=True"):
        model(make_input(), bool_masked_pos=torch.ones(3, 24, dtype=torch.bool))
