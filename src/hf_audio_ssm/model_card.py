# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards, filled from templates that come with the package (`model_cards/`)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel, TrainingArguments
from transformers.feature_extraction_utils import FeatureExtractionMixin

from . import __version__


TEMPLATES = Path(__file__).resolve().parent / "model_cards"


def fill_card(template: str, card_data: ModelCardData, **fields: Any) -> ModelCard:
    """
    Fills a template.

    Args:
        template (`str`): Its file name in `model_cards/`.
        card_data (`ModelCardData`): The metadata at the card's top.
        fields: What else the template names; `version`, the package's, is always there.
    """
    return ModelCard.from_template(card_data, template_path=str(TEMPLATES / template), version=__version__, **fields)


def hub_name(model: str) -> str | None:
    """The name of a repository on the Hub, or None for a folder here, which a card's metadata cannot link to."""
    return model if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists() else None


def classifier_card(
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    base_model: str,
    data: str,
    names: Sequence[str],
    num_clips: Mapping[str, int],
    training: TrainingArguments,
    results: Mapping[str, float],
) -> ModelCard:
    """
    The card of a fine-tuned classifier, or of adapters for one.

    Args:
        model_name (`str`): What the card's example loads: a Hub repository, or the folder's name.
        model (`PreTrainedModel`): The classifier, also wrapped by PEFT.
        feature_extractor (`FeatureExtractionMixin`): Its feature extractor.
        base_model (`str`): What training started from.
        data (`str`): What it was trained on.
        names (`Sequence[str]`): The names of the classes.
        num_clips (mapping): Clips in each split.
        training (`TrainingArguments`): How it was trained.
        results (mapping): Metrics on the test split.
    """
    config = model.config
    adapters = getattr(model, "peft_config", None)
    eval_results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio classification",
            dataset_type="test-clips",
            dataset_name=f"test clips of {data}",
            metric_type=name,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in results.items()
    ]
    card_data = ModelCardData(
        library_name="peft" if adapters else "transformers",
        base_model=hub_name(base_model),
        pipeline_tag="audio-classification",
        tags=["audio", "audio-classification", config.model_type, "hf-audio-ssm"],
        model_name=model_name.split("/")[-1],
        eval_results=eval_results,
    )
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "Started from": base_model,
        "Classifier": f"{config.classifier_type} head, {len(names)} labels, {config.problem_type}",
        "Parameters": f"{total / 1e6:.2f} million, {trained / total:.1%} of them trained",
        "Data": f"{data}: " + ", ".join(f"{count} clips to {name}" for name, count in num_clips.items()),
        "Training": f"{training.num_train_epochs:g} epochs, batches of {training.train_batch_size}, learning rate "
        f"{training.learning_rate:g} (head x{training.head_learning_rate_multiple:g}), seed {training.seed}",
    }
    if adapters:
        facts["Adapters"] = ", ".join(str(adapter.peft_type.value) for adapter in adapters.values())
    return fill_card(
        "classifier.md",
        card_data,
        model_name=model_name,
        feature_extractor=feature_extractor,
        names=names,
        facts=facts,
        results=results,
        is_adapter=adapters is not None,
        pictures=not config.problem_type.startswith("multi"),
    )


def pretrained_card(
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    sources: Sequence[str],
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> ModelCard:
    """
    The card of a model pretrained by masked spectrogram patch modelling.

    Args:
        model_name (`str`): What the card's example loads: a Hub repository, or the folder's name.
        model (`PreTrainedModel`): The model.
        feature_extractor (`FeatureExtractionMixin`): Its feature extractor.
        sources (`Sequence[str]`): What it was trained on.
        training (mapping): Facts about the training, in the card's table.
        metrics (mapping): `accuracy`, `nce` and `mse` of the validation clips.
    """
    config = model.config
    rows, columns = config.patch_grid(feature_extractor.max_length)
    task = "Masked spectrogram patch modelling"
    results = [
        EvalResult(
            task_type="masked-patch-modeling",
            task_name=task,
            dataset_type="validation-clips",
            dataset_name="validation clips",
            metric_type=name,
            metric_name=name,
            metric_value=round(metrics[name], 4),
        )
        for name in ("accuracy", "nce", "mse")
    ]
    card_data = ModelCardData(
        library_name="transformers",
        tags=["audio", config.model_type, "self-supervised", "hf-audio-ssm"],
        model_name=model_name.split("/")[-1],
        eval_results=results,
    )
    facts = {
        "Encoder": f"{config.model_type}, {config.num_hidden_layers} layers, {config.hidden_size} wide",
        "Parameters": f"{model.base_model.num_parameters() / 1e6:.2f} million, and the pretraining heads",
        "Patches": f"{config.patch_shape[0]} mel bins x {config.patch_shape[1]} frames, in a grid of {rows} x {columns}",
        "Trained on": ", ".join(sources),
        **training,
    }
    return fill_card(
        "pretrained.md",
        card_data,
        model_name=model_name,
        feature_extractor=feature_extractor,
        hidden_size=config.hidden_size,
        facts=facts,
        metrics=metrics,
    )
