# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards of trained models: templates of the package, filled with what a run did and measured."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from transformers import PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..common.printable import Markdown, markdown_code, markdown_text, printable
from ..common.version import __version__
from ..data.names import data_on_hub
from ..models import ENCODERS
from ..models.records import OriginalWork
from .base_models import BaseModelCard, read_base_model
from .card_facts import Results, describe_adapters, describe_input, describe_training
from .names import model_on_hub, public_name, public_text
from .weights import task_of


__all__ = [
    "BaseModelCard",
    "Results",
    "classifier_card",
    "describe_adapters",
    "describe_input",
    "describe_training",
    "fill_card",
    "pretrained_card",
    "read_base_model",
]

# Characters of a label that a card shows.
MAX_LABEL = 100
TEMPLATES = Path(__file__).resolve().parent / "card_templates"


def original_work(model_type: str) -> OriginalWork | None:
    """The publication of an encoder; None for a model that is not the package's."""
    return ENCODERS[model_type].original_work if model_type in ENCODERS else None


def _text(value: Any) -> str:
    return value if isinstance(value, Markdown) else markdown_text(public_text(str(value)))


def _quoted(line: str) -> str:
    """A line of another card's Markdown, without HTML and pictures."""
    return re.sub(r"<(?!https?://[^\s<>]*>)", "&lt;", printable(line)).replace("![", "[")


@functools.cache
def _read_template(name: str) -> Template:
    """A template, compiled."""
    # The templates of `ModelCard.from_template` cannot share parts.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Names, labels and values of others, as Python, as text, in a row of a table and as code. Paths of this machine are none
    # of the reader's.
    environment.filters["literal"] = json.dumps
    environment.filters["label"] = lambda value: markdown_text(printable(value, MAX_LABEL))
    environment.filters["text"] = _text
    environment.filters["cell"] = lambda value: re.sub(r"(?<!\\)\|", r"\|", _text(value))
    environment.filters["code"] = lambda value: markdown_code(public_text(str(value)))
    environment.filters["public"] = public_name
    environment.filters["quoted"] = _quoted
    return environment.get_template(name)


def fill_card(template: str, card_data: ModelCardData, model_name: str, **fields: Any) -> ModelCard:
    """
    Fills a template.

    Args:
        template (`str`): Its file name in `card_templates/`.
        card_data (`ModelCardData`): The metadata at the top of the card.
        model_name (`str`):
            What the card's example loads: a Hub repository, a folder in the current folder, or a folder inside that
            (`./folder/inner`).
        fields: The other fields of the template.
    """
    model_name = printable(public_name(model_name))
    is_on_hub = model_on_hub(model_name) is not None
    title = model_name.split("/")[-1] if is_on_hub else model_name.removeprefix("./")
    text = _read_template(template).render(
        card_data=card_data.to_yaml(),
        version=__version__,
        model_name=model_name,
        title=title,
        # The folder that must be in the current folder when the example runs.
        folder=None if is_on_hub else title.split("/")[0],
        **fields,
    )
    return ModelCard(re.sub(r"\n{3,}", "\n\n", text))


def _card_data(
    model_name: str, base_model: BaseModelCard | None, emissions: Mapping[str, Any] | None, **fields: Any
) -> ModelCardData:
    """The metadata that all cards of trained models have."""
    return ModelCardData(
        co2_eq_emissions={key: value for key, value in emissions.items() if key != "text"} if emissions else None,
        base_model=base_model.on_hub if base_model else None,
        model_name=printable(public_name(model_name).rstrip("/").split("/")[-1]),
        **(base_model.licensing if base_model else {}),
        **fields,
    )


def _names_on_hub(sources: Sequence[str]) -> list[str] | None:
    return [parsed[0] for parsed in map(data_on_hub, sources) if parsed] or None


def _choose_template(model: PreTrainedModel, is_adapted: bool, is_merged: bool) -> str:
    if is_merged:
        return "fine_tuned.md"
    if is_adapted:
        return "adapter.md"
    is_trained = any(parameter.requires_grad for parameter in model.base_model.parameters())
    return "fine_tuned.md" if is_trained else "probe.md"


def _find_task(model: PreTrainedModel, is_adapted: bool) -> str:
    model_class = type(model.get_base_model() if is_adapted else model)
    # Models that are not the package's classify clips.
    return task_of(model.config.model_type, [base.__name__ for base in model_class.__mro__]) or "audio-classification"


def _count(model: PreTrainedModel, data: str, num_clips: Mapping[str, int], unit: str) -> dict[str, str]:
    """Rows of the table on a classifier's parameters and data."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    return {
        "Parameters": f"{total / 1e6:.2f} million, {trained / total:.1%} of them trained",
        "Data": f"{public_name(data)}: " + ", ".join(f"{count} {name} {unit}" for name, count in num_clips.items()),
    }


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
        base_model ([`BaseModelCard`], *optional*): The model that training started from, if not from new weights.
        data (`str`): The data it was trained on.
        num_clips (mapping): The number of clips of each split.
        training (mapping): Rows of the table on the training, see [`describe_training`].
        results ([`Results`]): What was measured.
        pictures (mapping, *optional*): Titles and files of pictures beside the card.
        is_merged (`bool`, *optional*, defaults to `False`): Whether the card is for the classifier with merged adapters.
        emissions (mapping, *optional*): The emissions of the training, if they were measured, see [`describe_emissions`].
    """
    config, adapters = model.config, describe_adapters(model)
    template, task = _choose_template(model, adapters is not None, is_merged), _find_task(model, adapters is not None)
    labels_frames, head = task == "audio-frame-classification", getattr(config, "classifier_type", "linear")
    names = [config.id2label[index] for index in range(config.num_labels)]
    card_data = _card_data(
        model_name,
        base_model,
        emissions,
        library_name="peft" if template == "adapter.md" else "transformers",
        # The Hub has no task for labels of frames.
        pipeline_tag=None if labels_frames else task,
        tags=["audio", task, config.model_type, "hf-audio-ssm"],
        datasets=_names_on_hub([data]),
        metrics=list(map(printable, results.metrics)) or None,
        eval_results=results.as_eval_results(task, task.replace("-", " ").capitalize()),
    )
    facts = {
        "Classifier": f"{head} head, {len(names)} labels, {config.problem_type}",
        **_count(model, data, num_clips, results.unit),
        **training,
        **({"Adapters": adapters + ", merged into the weights" * is_merged} if adapters else {}),
    }
    fields = {
        "names": names,
        "head": head,
        "is_multi_label": config.problem_type == "multi_label_classification",
        "labels_frames": labels_frames,
        "results": results,
        "pictures": pictures or {},
    }
    return _fill(template, card_data, model_name, model, feature_extractor, base_model, facts, emissions, **fields)


def pretrained_card(
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    base_model: BaseModelCard | None,
    sources: Sequence[str],
    training: Mapping[str, Any],
    results: Results,
    emissions: Mapping[str, Any] | None = None,
    summary: str = "An audio encoder, trained without labels.",
    task: tuple[str, str] = ("pretraining", "Pretraining"),
    measures: Mapping[str, str] | None = None,
) -> ModelCard:
    """
    The card of a pretrained model.

    Args:
        model_name (`str`): What the card's example loads: a Hub repository, or a folder.
        model (`PreTrainedModel`): The model.
        feature_extractor (`FeatureExtractionMixin`): Its feature extractor.
        base_model ([`BaseModelCard`], *optional*): The model that training started from, if not from new weights.
        sources (`Sequence[str]`): The data it was trained on.
        training (mapping): Rows of the table on the training.
        results ([`Results`]): What was measured on the validation clips.
        emissions (mapping, *optional*): The emissions of the training, if they were measured, see [`describe_emissions`].
        summary (`str`, *optional*): What the model was trained to do: a sentence, in Markdown.
        task (`tuple[str, str]`, *optional*): The task that the results are for: its identifier and its name.
        measures (mapping, *optional*):
            The metrics that the card shows, in order, and what each means. By default, all by their names.
    """
    config = model.config
    card_data = _card_data(
        model_name,
        base_model,
        emissions,
        library_name="transformers",
        tags=["audio", config.model_type, "self-supervised", "hf-audio-ssm"],
        datasets=_names_on_hub(sources),
        eval_results=results.as_eval_results(*task),
    )
    facts = {
        "Encoder": f"{config.model_type}, {config.num_hidden_layers} layers, {config.hidden_size} wide",
        "Parameters": f"{model.base_model.num_parameters() / 1e6:.2f} million, and the pretraining heads",
        "Data": ", ".join(map(public_name, sources)),
        **training,
    }
    fields = {
        "hidden_size": config.hidden_size,
        "summary": summary,
        "measures": measures or {name: name for name in results.metrics},
        "results": results,
    }
    return _fill(
        "pretrained.md", card_data, model_name, model, feature_extractor, base_model, facts, emissions, **fields
    )


def _fill(
    template: str,
    card_data: ModelCardData,
    model_name: str,
    model: PreTrainedModel,
    feature_extractor: FeatureExtractionMixin,
    base_model: BaseModelCard | None,
    facts: Mapping[str, Any],
    emissions: Mapping[str, Any] | None,
    **fields: Any,
) -> ModelCard:
    """Fills a template with the fields that all cards of trained models have, and those of this kind."""
    return fill_card(
        template,
        card_data,
        model_name=model_name,
        facts={
            "Started from": public_name(base_model.name) if base_model else "new weights",
            **facts,
            **({"CO2": emissions["text"]} if emissions else {}),
        },
        input=describe_input(feature_extractor, model.config),
        base_model=base_model,
        work=original_work(model.config.model_type),
        **fields,
    )
