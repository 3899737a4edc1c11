# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Conversion of the models that descend from SSAST's code. They share heads, grid of patches, labels, normalisation and card; a
converter describes its encoder in an [`Original`].
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from ..audio.frames import FRAME_SHIFT_MS
from ..common.errors import InputError
from ..common.printable import markdown_code
from ..hub.cards import describe_input, fill_card
from ..hub.push import push_folder
from ..models.filter_bank.feature_extraction_ssamba import NORMALIZATION_PRESETS, SsambaFeatureExtractor
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from ..models.records import OriginalWork
from .checkpoint_conversion import (
    CheckpointSource,
    ConversionError,
    check_output_dir,
    convert_tensors,
    find_checkpoint,
    listed,
    logger,
    read_state_dict,
    shape_of,
    write_checkpoint,
)
from .command_line import add_patch_encoder_arguments as add_patch_encoder_arguments
from .command_line import make_patch_encoder_parser as make_patch_encoder_parser
from .options import ConversionOptions
from .patch_grid import PRETRAINING_SIZES, infer_fine_tuned_grid, infer_pretraining_grid


# Replacements that turn a name of the package, without the encoder's prefix, into the original's.
COMMON_RENAMES = (
    (r"^embeddings\.mask_token$", "mask_embed"),
    (r"^embeddings\.cls_token$", "v.cls_token"),
    (r"^embeddings\.position_embeddings$", "v.pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "v.patch_embed.proj."),
    (r"^discriminative_head\.dense\.", "cpredlayer.0."),
    (r"^discriminative_head\.decoder\.", "cpredlayer.2."),
    (r"^generative_head\.dense\.", "gpredlayer.0."),
    (r"^generative_head\.decoder\.", "gpredlayer.2."),
    (r"^classifier\.layernorm\.", "mlp_head.0."),
    (r"^classifier\.dense\.", "mlp_head.1."),
)
PUBLISHED_SIZES = {192: "tiny", 384: "small", 768: "base"}


@dataclass(frozen=True)
class Original:
    """
    An original model: what sets it apart from the others.

    Args:
        work ([`OriginalWork`]): Its publication.
        config_class (`type`): Its configuration in the package.
        pretraining_class (`type`): Its model with the heads of pretraining.
        classification_class (`type`): Its model with a classifier.
        renames (`tuple[tuple[str, str], ...]`): Patterns and replacements beside `COMMON_RENAMES`.
        unused (`tuple[str, ...]`): Tensors that checkpoints may hold and no task uses.
        describe (`Callable[[PatchEncoderConfig], dict[str, str]]`): Rows of the card's table on the encoder.
        num_published_layers (`int`): Layers of the published models.
        published_file (`str`): Pattern of a published file's name; its group is the number of masked patches.
        tags (`tuple[str, ...]`): The tags of the card.
    """

    work: OriginalWork
    config_class: type[PatchEncoderConfig]
    pretraining_class: type[PreTrainedModel]
    classification_class: type[PreTrainedModel]
    renames: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]
    describe: Callable[[PatchEncoderConfig], dict[str, str]]
    num_published_layers: int
    published_file: str
    tags: tuple[str, ...]

    def original_name(self, name: str) -> str:
        """The name that a parameter of the package has in the original."""
        name = name.removeprefix(f"{self.pretraining_class.base_model_prefix}.")
        for pattern, replacement in (*COMMON_RENAMES, *self.renames):
            name = re.sub(pattern, replacement, name)
        return name

    def size(self, config: PatchEncoderConfig) -> str | None:
        """The name of a published size."""
        is_published = config.num_hidden_layers == self.num_published_layers
        return PUBLISHED_SIZES.get(config.hidden_size) if is_published else None


def is_pretrained(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """
    Whether a checkpoint has the heads of pretraining rather than a classifier.

    Raises:
        [`ConversionError`]: If it has the heads of both tasks, or of neither.
    """
    pretraining = [name for name in state_dict if name.startswith(("mask_embed", "cpredlayer.", "gpredlayer."))]
    classification = [name for name in state_dict if name.startswith("mlp_head.")]
    if pretraining and classification:
        raise ConversionError(
            f"the checkpoint has the heads of pretraining ({listed(pretraining)}) as well as of classification "
            f"({listed(classification)}); one of them is expected."
        )
    if not pretraining and not classification:
        raise ConversionError(
            "the checkpoint has neither the pretraining heads (mask_embed, cpredlayer, gpredlayer) nor a classifier "
            f"(mlp_head); it holds {listed(state_dict)}."
        )
    return bool(pretraining)


def read_labels(id2label: str | Path | Mapping | Sequence[str], num_labels: int) -> dict[int, str]:
    """
    Label names by class index.

    Args:
        id2label (`str`, `Path`, `Mapping` or `Sequence[str]`):
            Names, or a mapping from index to name; as a string, a JSON file of either, its text, or names separated by
            commas.
        num_labels (`int`):
            Number of classes of the checkpoint.

    Raises:
        [`ConversionError`]: If they cannot be read, or are not one distinct name for each class.
    """
    labels = id2label
    if isinstance(labels, (str, Path)):
        text = str(labels)
        try:
            if text.endswith(".json"):
                labels = json.loads(Path(text).read_text(encoding="utf-8"))
            elif text.lstrip().startswith(("{", "[")):
                labels = json.loads(text)
            else:
                labels = [name.strip() for name in text.split(",")]
        except (OSError, ValueError) as error:
            raise ConversionError(f"--id2label {text} cannot be read: {error}") from error
    if isinstance(labels, Sequence) and not isinstance(labels, str):
        labels = dict(enumerate(labels))
    if not isinstance(labels, Mapping) or not all(isinstance(name, str) and name for name in labels.values()):
        raise ConversionError(f"--id2label must hold one name for each class, got {id2label}.")
    labels = {str(index): name for index, name in labels.items()}
    if labels.keys() != {str(index) for index in range(num_labels)}:
        raise ConversionError(
            f"--id2label names {len(labels)} classes ({listed(labels)}), but the checkpoint's classifier "
            f"(mlp_head.1.weight) has {num_labels}, 0 to {num_labels - 1}."
        )
    if len(set(labels.values())) < num_labels:
        raise ConversionError(f"--id2label must name each class differently, got {listed(labels.values(), 20)}.")
    return {index: labels[str(index)] for index in range(num_labels)}


def infer_masked_patches(original: Original, source: CheckpointSource, num_masked_patches: int | None) -> int | None:
    """The number of patches masked in pretraining: as given, else by the name of a published file, else unknown."""
    if num_masked_patches is not None:
        return num_masked_patches
    published = re.fullmatch(original.published_file, source.path.name)
    if published is None:
        return None
    logger.info(f"--num_masked_patches was not given; {published[1]} is taken from the file name {source.path.name}.")
    return int(published[1])


def make_feature_extractor(
    config: PatchEncoderConfig, is_pretraining: bool, options: ConversionOptions
) -> tuple[SsambaFeatureExtractor, str]:
    """Returns the feature extractor, and where its normalisation comes from, for the card."""
    sizes: dict[str, Any] = {"max_length": config.max_length, "num_mel_bins": config.num_mel_bins}
    if options.mean is not None and options.std is not None:
        extractor = SsambaFeatureExtractor(mean=options.mean, std=options.std, **sizes)
        return extractor, "as given to the conversion"
    if options.dataset is not None:
        extractor = SsambaFeatureExtractor.from_preset(options.dataset, **sizes)
        return extractor, f"the original's for {options.dataset}"
    if is_pretraining:
        return SsambaFeatureExtractor.from_preset("audioset", **sizes), "the original's in pretraining"
    logger.warning(
        "a fine-tuned checkpoint does not record the normalisation of its input; AudioSet's is written. If it was another, "
        f"pass --dataset ({', '.join(NORMALIZATION_PRESETS)}) or --mean and --std."
    )
    return SsambaFeatureExtractor.from_preset("audioset", **sizes), "AudioSet's, assumed: the checkpoint records none"


def _card_facts(original: Original, model: PreTrainedModel, source: CheckpointSource) -> dict[str, str]:
    """Rows of the card's table."""
    config = model.config
    rows, columns = config.patch_grid()
    facts = {
        "Parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        **original.describe(config),
        "Patches": "{} mel bins x {} frames, strides {}, {}".format(
            *config.patch_shape, config.frequency_stride, config.time_stride
        ),
        "Grid": f"{rows} x {columns} patches (frequency x time) for {config.max_length} frames; a column every "
        f"{FRAME_SHIFT_MS * config.time_stride} ms",
        "Pooled output": "mean of the patch tokens" if config.pooling == "mean" else "[CLS] token",
    }
    if isinstance(model, original.pretraining_class) and config.num_masked_patches is not None:
        facts["Masked patches"] = f"{config.num_masked_patches} of {rows * columns} per clip"
    facts["SHA-256 of the checkpoint"] = markdown_code(source.sha256())
    return facts


def make_card(
    original: Original,
    model: PreTrainedModel,
    feature_extractor: SsambaFeatureExtractor,
    source: CheckpointSource,
    model_name: str,
    normalization: str,
    has_label_names: bool,
) -> ModelCard:
    """
    The model card.

    Args:
        original ([`Original`]): What was converted.
        model (`PreTrainedModel`): The converted model.
        feature_extractor (`SsambaFeatureExtractor`): Its feature extractor.
        source (`CheckpointSource`): The original checkpoint.
        model_name (`str`): What the card's example loads: a Hub repository, or the folder's name.
        normalization (`str`): Where mean and standard deviation come from.
        has_label_names (`bool`): Whether the names of the classes are known.
    """
    config = model.config
    is_pretraining = isinstance(model, original.pretraining_class)
    size = original.size(config)
    task = (
        "pretrained by masked spectrogram patch modelling"
        if is_pretraining
        else f"fine-tuned for audio classification with {config.num_labels} classes"
    )
    card_data = ModelCardData(
        license=original.work.license,
        library_name="transformers",
        pipeline_tag=None if is_pretraining else "audio-classification",
        tags=[*original.tags],
        base_model=source.repo_id,
    )
    return fill_card(
        "converted.md",
        card_data,
        model_name=model_name,
        work=original.work,
        description=f"{f'{size} size, ' if size else ''}{task}",
        facts=_card_facts(original, model, source),
        source=source,
        is_pretraining=is_pretraining,
        has_label_names=has_label_names,
        hidden_size=config.hidden_size,
        input=describe_input(feature_extractor, config),
        normalization=normalization,
    )


def _pretraining_fields(
    original: Original,
    source: CheckpointSource,
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    options: ConversionOptions,
) -> dict[str, Any]:
    """The fields of the configuration that a pretraining checkpoint adds to the encoder's sizes."""
    if options.id2label is not None:
        raise ConversionError("--id2label contradicts the checkpoint, which is pretrained: it has no classifier.")
    grid = infer_pretraining_grid(state_dict, patch_size, original.config_class.num_prefix_tokens, options)
    return {**grid, "num_masked_patches": infer_masked_patches(original, source, options.num_masked_patches)}


def _fine_tuned_fields(
    original: Original,
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    options: ConversionOptions,
) -> dict[str, Any]:
    """The fields of the configuration that a fine-tuned checkpoint adds to the encoder's sizes."""
    if options.num_masked_patches is not None:
        raise ConversionError(
            f"{options.given('num_masked_patches')} contradicts the checkpoint, which is fine-tuned: it has no "
            "pretraining heads."
        )
    fields: dict[str, Any] = {
        **infer_fine_tuned_grid(state_dict, patch_size, original.config_class.num_prefix_tokens, options)
    }
    fields["num_labels"] = shape_of(state_dict, "mlp_head.1.weight", 2)[0]
    if options.id2label is not None:
        labels = read_labels(options.id2label, fields["num_labels"])
        fields |= {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
    return fields


def _make_config(original: Original, pooling: str, fields: Mapping[str, Any]) -> PatchEncoderConfig:
    """The configuration; a note tells of a size that was never published."""
    try:
        config = original.config_class(pooling=pooling, **fields)
    except StrictDataclassError as error:
        raise ConversionError(
            f"the checkpoint's sizes and the arguments do not make a valid model: {error}"
        ) from error
    if original.size(config) is None:
        logger.info(
            f"{config.hidden_size} wide with {config.num_hidden_layers} layers is not one of the published sizes "
            f"({', '.join(map(str, PUBLISHED_SIZES))} wide with {original.num_published_layers} layers)."
        )
    return config


def _fill_model(
    original: Original,
    model_class: type[PreTrainedModel],
    config: PatchEncoderConfig,
    state_dict: Mapping[str, torch.Tensor],
) -> PreTrainedModel:
    """A model whose parameters are the checkpoint's tensors, each accounted for."""
    with torch.device("meta"):
        model = model_class(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(convert_tensors(state_dict, shapes, original.original_name, original.unused), assign=True)
    return model


def _push(folder: Path, repo_id: str, private: bool) -> None:
    """Uploads the written folder."""
    try:
        what = f"{folder} is complete, but"
        url = push_folder(folder, repo_id, "Upload the converted checkpoint", what, private or None)
    except InputError as error:
        raise ConversionError(str(error)) from error
    logger.info(f"pushed to {url}")


def convert_patch_encoder(
    original: Original,
    infer_sizes: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]],
    checkpoint: str | Path,
    output_dir: str | Path,
    options: ConversionOptions,
) -> Path:
    """
    Converts an original checkpoint.

    Args:
        original ([`Original`]): The model that the checkpoint belongs to.
        infer_sizes (`Callable`): Gives the fields of the configuration that the encoder's tensors tell, the grid of
            patches apart.
        checkpoint (`str` or `Path`): The checkpoint, see [`find_checkpoint`].
        output_dir (`str` or `Path`): The folder to write.
        options ([`ConversionOptions`]): What else the user says.

    Returns:
        `Path`: The folder, with config.json, preprocessor_config.json, model.safetensors, README.md and the code for
        `trust_remote_code=True`.

    Raises:
        [`ConversionError`]: If the checkpoint or an option cannot be used, or the Hub refuses the upload. Except for
            the latter, nothing has been written.
    """
    target = check_output_dir(output_dir, original.config_class.model_type, options.overwrite)
    source = find_checkpoint(checkpoint, options.filename, options.revision)
    state_dict = read_state_dict(source.path)

    is_pretraining = is_pretrained(state_dict)
    rows, columns = shape_of(state_dict, "v.patch_embed.proj.weight", 4)[2:]
    fields = {"patch_size": rows if rows == columns else (rows, columns), **infer_sizes(state_dict)}
    if is_pretraining:
        fields |= _pretraining_fields(original, source, state_dict, (rows, columns), options)
        # Accounted for: they are in the configuration.
        state_dict = {name: tensor for name, tensor in state_dict.items() if name not in PRETRAINING_SIZES}
        model_class, auto_class = original.pretraining_class, "AutoModelForPreTraining"
    else:
        fields |= _fine_tuned_fields(original, state_dict, (rows, columns), options)
        model_class, auto_class = original.classification_class, "AutoModelForAudioClassification"
    config = _make_config(original, options.pooling, fields)
    model = _fill_model(original, model_class, config, state_dict)

    feature_extractor, normalization = make_feature_extractor(config, is_pretraining, options)
    model_name = options.push_to_hub or target.name
    has_label_names = options.id2label is not None
    card = make_card(original, model, feature_extractor, source, model_name, normalization, has_label_names)
    write_checkpoint(target, model, feature_extractor, card, auto_class)
    if options.push_to_hub is not None:
        _push(target, options.push_to_hub, options.private)
    return target
