# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards, filled from templates that come with the package (`model_cards/`), of what a run did and measured."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError, HTTPError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from transformers import PreTrainedModel, Trainer
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..common.version import __version__
from ..data.names import data_on_hub
from ..models import ENCODERS
from ..models.records import OriginalWork
from .names import model_on_hub


TEMPLATES = Path(__file__).resolve().parent / "card_templates"
CREDIT_HEADING = "## Licence and credit"
FRAMES_PER_SECOND = 100


def original_work(model_type: str) -> OriginalWork | None:
    """Whose work an encoder is; None for a model that is not the package's."""
    return ENCODERS[model_type].original_work if model_type in ENCODERS else None


def fill_card(template: str, card_data: ModelCardData, model_name: str, **fields: Any) -> ModelCard:
    """
    Fills a template.

    Args:
        template (`str`): Its file name in `model_cards/`.
        card_data (`ModelCardData`): The metadata at the card's top.
        model_name (`str`):
            What the card's example loads: a Hub repository, a folder beside where it runs, or a folder in that
            (`./folder/inner`).
        fields: What else the template names.
    """
    # Not by `ModelCard.from_template`, whose templates cannot share parts.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = json.dumps
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|")
    is_on_hub = model_on_hub(model_name) is not None
    title = model_name.split("/")[-1] if is_on_hub else model_name.removeprefix("./")
    text = environment.get_template(template).render(
        card_data=card_data.to_yaml(),
        version=__version__,
        model_name=model_name,
        title=title,
        # What has to be in the folder that the example runs in.
        folder=None if is_on_hub else title.split("/")[0],
        **fields,
    )
    return ModelCard(re.sub(r"\n{3,}", "\n\n", text))


@dataclass(frozen=True)
class BaseModelCard:
    """
    What the card of a base model tells: nothing, where it has none.

    Args:
        name (`str`): The base model's name, as it was given.
        on_hub (`str`, *optional*): Its name on the Hub, or that of the model there that it was made from in turn.
        license, license_name, license_link (`str`, *optional*): Its licence, as on the Hub.
        credit (`str`, *optional*): What it says of licence and credit itself, without citations.
    """

    name: str
    on_hub: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    credit: str | None = None

    @property
    def licensing(self) -> dict[str, str | None]:
        """The fields of a card's metadata that descendants take over."""
        return {name: getattr(self, name) for name in ("license", "license_name", "license_link")}


def read_base_model(name: str) -> BaseModelCard:
    """
    Reads the card of a base model.

    Args:
        name (`str`): A folder or a Hub name.
    """
    folder = Path(name)
    try:
        card = ModelCard.load(folder / "README.md" if folder.is_dir() else name, ignore_metadata_errors=True)
    except (HTTPError, HFValidationError, OSError, ValueError):
        return BaseModelCard(name, model_on_hub(name))
    data = card.data.to_dict()
    found = re.search(rf"^{CREDIT_HEADING}\n(.*?)(?=^## |\Z)", card.text, flags=re.DOTALL | re.MULTILINE)
    credit = re.sub(r"```.*?```", "", found[1], flags=re.DOTALL) if found else ""
    ancestors = data.get("base_model") or []
    ancestors = [ancestors] if isinstance(ancestors, str) else ancestors
    return BaseModelCard(
        name,
        model_on_hub(name) or next(iter(ancestors), None),
        **{key: data.get(key) for key in ("license", "license_name", "license_link")},
        credit=re.sub(r"\n{3,}", "\n\n", credit).strip() or None,
    )


@dataclass(frozen=True)
class Results:
    """
    What a run measured on one split of its data.

    Args:
        metrics (mapping): Values by name; empty, if nothing was measured yet.
        split (`str`): "test" or "validation".
        source (`str`): Where its clips come from: a folder, a file or a Hub name.
        num_clips (`int`): How many they are.
        notes (`Sequence[str]`, *optional*): Sentences on how they were chosen, or measured.
        unit (`str`, *optional*, defaults to `"clips"`): What is counted.
    """

    metrics: Mapping[str, float]
    split: str
    source: str
    num_clips: int
    notes: Sequence[str] = ()
    unit: str = "clips"

    def as_eval_results(self, task_type: str, task_name: str) -> list[EvalResult] | None:
        """For a card's metadata, which can hold finite numbers only."""
        name, configuration, _ = data_on_hub(self.source) or (None, None, None)
        return [
            EvalResult(
                task_type=task_type,
                task_name=task_name,
                dataset_type=name or "local",
                dataset_name=f"{self.split} {self.unit} of {self.source}",
                dataset_config=configuration,
                dataset_split=self.split,
                metric_type=metric,
                metric_name=metric,
                metric_value=round(value, 4),
            )
            for metric, value in self.metrics.items()
            if math.isfinite(value)
        ] or None


def describe_training(trainer: Trainer) -> dict[str, str]:
    """
    Rows of a card's table on how a model was trained so far.

    Args:
        trainer (`Trainer`): After some steps; a [`FineTuningTrainer`] tells more.
    """
    training, state = trainer.args, trainer.state
    clips = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
    # The groups of a `FineTuningTrainer` have names: "head", and "head, not decayed".
    groups = [group for group in trainer.optimizer.param_groups if "name" in group]
    rates = {group["name"].partition(",")[0]: f"{group['initial_lr']:g}" for group in groups}
    if len(set(rates.values())) > 1:
        rate = ", ".join(f"{value} ({name})" for name, value in rates.items())
    else:
        rate = next(iter(rates.values()), f"{training.learning_rate:g}")
    if getattr(training, "epoch_decay", None) is not None:
        schedule = (
            f"times {training.epoch_decay:g} every {training.epoch_decay_every} epochs from epoch "
            f"{training.epoch_decay_start}"
        )
    else:
        schedule = getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type)
    if warmup := training.get_warmup_steps(state.max_steps):
        schedule += f" after {warmup} steps of warm-up"
    is_coupled = getattr(training, "coupled_weight_decay", False)
    optimizer = "Adam" if is_coupled else getattr(training.optim, "value", training.optim)
    decay = f"weight decay {training.weight_decay:g}" + " in the gradient" * is_coupled
    facts = {
        "Training": f"{state.global_step} steps of {clips} clips, {state.epoch or 0:.4g} times over the data",
        "Optimizer": f"{optimizer}, betas {training.adam_beta1:g} and {training.adam_beta2:g}, {decay}",
        "Learning rate": f"{rate}; {schedule}",
        "Seed": str(training.seed),
    }
    if training.bf16 or training.fp16:
        facts["Number format"] = "bfloat16" if training.bf16 else "float16"
    if getattr(getattr(trainer, "weight_average", None), "is_applied", False):
        last = training.average_to_epoch or math.ceil(training.num_train_epochs)
        facts["Weights"] = f"the mean of those after epochs {training.average_from_epoch} to {last}"
    elif training.load_best_model_at_end and state.best_global_step:
        facts["Weights"] = (
            f"of step {state.best_global_step}, the best by {training.metric_for_best_model} on the validation split"
        )
    return facts


def describe_input(feature_extractor: FeatureExtractionMixin, config: Any) -> dict[str, Any]:
    """What the part of the templates on the input names; of models that are not the package's, the sampling rate."""
    specification: dict[str, Any] = {"sampling_rate": feature_extractor.sampling_rate, "grid": None}
    if config.model_type not in ENCODERS:
        return specification
    rows, columns = config.patch_grid(feature_extractor.max_length)
    return specification | {
        "num_mel_bins": feature_extractor.num_mel_bins,
        "max_length": feature_extractor.max_length,
        "masks_padding": feature_extractor.return_attention_mask,
        "seconds": feature_extractor.max_length / FRAMES_PER_SECOND,
        "mean": feature_extractor.mean,
        "std": feature_extractor.std,
        "patch": config.patch_shape,
        "strides": (config.frequency_stride, config.time_stride),
        "grid": (rows, columns),
        "column_ms": 1000 * config.time_stride // FRAMES_PER_SECOND,
        "tokens_per_second": rows * FRAMES_PER_SECOND / config.time_stride,
    }


def describe_adapters(model: PreTrainedModel) -> str | None:
    """The adapters of a model that PEFT wraps, or None."""
    described = []
    for adapter in getattr(model, "peft_config", {}).values():
        kind = str(adapter.peft_type.value)
        if hasattr(adapter, "use_dora"):
            kind = "DoRA" if adapter.use_dora else "rsLoRA" if adapter.use_rslora else "LoRA"
            kind += f" of rank {adapter.r}, alpha {adapter.lora_alpha:g}"
            kind += f", biases {adapter.bias}" * (adapter.bias != "none")
        # Names, or a pattern of them; some methods have other targets.
        targets = getattr(adapter, "target_modules", None) or ()
        targets = targets if isinstance(targets, str) else ", ".join(sorted(targets))
        described.append(f"{kind}, on {targets}" if targets else kind)
    return "; ".join(described) or None


def _card_data(
    model_name: str, base_model: BaseModelCard | None, emissions: Mapping[str, Any] | None, **fields: Any
) -> ModelCardData:
    """Metadata that all cards of trained models have."""
    return ModelCardData(
        co2_eq_emissions={key: value for key, value in emissions.items() if key != "text"} if emissions else None,
        base_model=base_model.on_hub if base_model else None,
        model_name=model_name.split("/")[-1],
        **(base_model.licensing if base_model else {}),
        **fields,
    )


def classifier_card(
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    base_model: BaseModelCard | None,
    data: str,
    num_clips: Mapping[str, int],
    training: Mapping[str, str],
    results: Results,
    pictures: Mapping[str, str] | None = None,
    is_merged: bool = False,
    emissions: Mapping[str, Any] | None = None,
) -> ModelCard:
    """
    The card of a classifier of clips or of frames: fine-tuned, a probe (its encoder is frozen) or adapters (PEFT wraps it).

    Args:
        model_name (`str`): What the card's example loads: a Hub repository, or a folder.
        model (`PreTrainedModel`): The classifier, also wrapped by PEFT.
        feature_extractor (`FeatureExtractionMixin`): Its feature extractor.
        base_model ([`BaseModelCard`], *optional*): What training started from, if not from new weights.
        data (`str`): What it was trained on.
        num_clips (mapping): How many clips each split has.
        training (mapping): Rows of the table on how it was trained, see [`describe_training`].
        results ([`Results`]): What was measured.
        pictures (mapping, *optional*): Titles and files of pictures beside the card.
        is_merged (`bool`, *optional*, defaults to `False`): Whether the card is of the adapters' merged classifier.
        emissions (mapping, *optional*): What the training emitted, if it was measured, see [`describe_emissions`].
    """
    config = model.config
    adapters = describe_adapters(model)
    is_frozen = not any(parameter.requires_grad for parameter in model.base_model.parameters())
    template = (
        "fine_tuned.md" if is_merged else "adapter.md" if adapters else "probe.md" if is_frozen else "fine_tuned.md"
    )
    labels_frames = "FrameClassification" in type(model.get_base_model() if adapters else model).__name__
    names = [config.id2label[index] for index in range(config.num_labels)]
    task = "audio-frame-classification" if labels_frames else "audio-classification"
    hub_source = data_on_hub(data)
    card_data = _card_data(
        model_name,
        base_model,
        emissions,
        library_name="peft" if template == "adapter.md" else "transformers",
        # The Hub has no task of frames.
        pipeline_tag=None if labels_frames else "audio-classification",
        tags=["audio", task, config.model_type, "hf-audio-ssm"],
        datasets=[hub_source[0]] if hub_source else None,
        metrics=list(results.metrics) or None,
        eval_results=results.as_eval_results(task, task.replace("-", " ").capitalize()),
    )
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    head = getattr(config, "classifier_type", "linear")
    facts = {
        "Started from": base_model.name if base_model else "new weights",
        "Classifier": f"{head} head, {len(names)} labels, {config.problem_type}",
        "Parameters": f"{total / 1e6:.2f} million, {trained / total:.1%} of them trained",
        "Data": f"{data}: " + ", ".join(f"{count} {name} {results.unit}" for name, count in num_clips.items()),
        **training,
    }
    if adapters:
        facts["Adapters"] = adapters + ", merged into the weights" * is_merged
    if emissions:
        facts["CO2"] = emissions["text"]
    return fill_card(
        template,
        card_data,
        model_name=model_name,
        names=names,
        head=head,
        is_multi_label=config.problem_type == "multi_label_classification",
        labels_frames=labels_frames,
        facts=facts,
        results=results,
        pictures=pictures or {},
        input=describe_input(feature_extractor, config),
        base_model=base_model,
        work=original_work(config.model_type),
    )


def pretrained_card(
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    base_model: BaseModelCard | None,
    sources: Sequence[str],
    training: Mapping[str, Any],
    results: Results,
    emissions: Mapping[str, Any] | None = None,
) -> ModelCard:
    """
    The card of a model pretrained by masked spectrogram patch modelling.

    Args:
        model_name (`str`): What the card's example loads: a Hub repository, or a folder.
        model (`PreTrainedModel`): The model.
        feature_extractor (`FeatureExtractionMixin`): Its feature extractor.
        base_model ([`BaseModelCard`], *optional*): What training started from, if not from new weights.
        sources (`Sequence[str]`): What it was trained on.
        training (mapping): Facts about the training, in the card's table.
        results ([`Results`]): `accuracy`, `nce` and `mse` of the validation clips.
        emissions (mapping, *optional*): What the training emitted, if it was measured, see [`describe_emissions`].
    """
    config = model.config
    hub_sources = [parsed[0] for parsed in map(data_on_hub, sources) if parsed]
    card_data = _card_data(
        model_name,
        base_model,
        emissions,
        library_name="transformers",
        tags=["audio", config.model_type, "self-supervised", "hf-audio-ssm"],
        datasets=hub_sources or None,
        eval_results=results.as_eval_results("masked-patch-modeling", "Masked spectrogram patch modelling"),
    )
    facts = {
        "Started from": base_model.name if base_model else "new weights",
        "Encoder": f"{config.model_type}, {config.num_hidden_layers} layers, {config.hidden_size} wide",
        "Parameters": f"{model.base_model.num_parameters() / 1e6:.2f} million, and the pretraining heads",
        "Data": ", ".join(sources),
        **training,
    }
    if emissions:
        facts["CO2"] = emissions["text"]
    return fill_card(
        "pretrained.md",
        card_data,
        model_name=model_name,
        hidden_size=config.hidden_size,
        facts=facts,
        results=results,
        input=describe_input(feature_extractor, config),
        base_model=base_model,
        work=original_work(config.model_type),
    )
