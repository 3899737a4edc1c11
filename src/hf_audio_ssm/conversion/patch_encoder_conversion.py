# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the converters of the originals that descend from SSAST's code share: heads, grid of patches, labels, normalisation and
card are alike in all of them. A converter describes its encoder in an [`Original`].
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from ..common.errors import InputError
from ..hub.cards import describe_input, fill_card
from ..hub.push import push_folder
from ..models.filter_bank.feature_extraction_ssamba import NORMALIZATION_PRESETS, SsambaFeatureExtractor
from ..models.patch_encoder.configuration_patch_encoder import PatchEncoderConfig
from ..models.records import OriginalWork
from .checkpoint_conversion import (
    CheckpointSource,
    ConversionError,
    add_common_arguments,
    check_output_dir,
    check_repo_id,
    convert_tensors,
    find_checkpoint,
    listed,
    logger,
    read_state_dict,
    shape_of,
    write_checkpoint,
)


# Applied in turn to a name of the package (without the encoder's prefix), they give the original's.
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
# The size of the pretraining spectrograms; read for the configuration.
PRETRAINING_SIZES = ("p_input_fdim", "p_input_tdim")

FINE_TUNING_STRIDE = 10
PUBLISHED_LENGTHS = sorted({preset["max_length"] for preset in NORMALIZATION_PRESETS.values()})
PUBLISHED_SIZES = {192: "tiny", 384: "small", 768: "base"}


@dataclass(frozen=True)
class Original:
    """
    What is particular to an original model.

    Args:
        work ([`OriginalWork`]): Whose work it is.
        config_class (`type`): Its configuration in the package.
        pretraining_class (`type`): Its model with the heads of pretraining.
        classification_class (`type`): Its model with a classifier.
        renames (`tuple[tuple[str, str], ...]`): Patterns and replacements beside `COMMON_RENAMES`.
        unused (`tuple[str, ...]`): Tensors that checkpoints hold and no task uses.
        describe (`Callable[[PatchEncoderConfig], dict[str, str]]`): Rows of the card's table on the encoder.
        num_published_layers (`int`): Layers of the published models.
        published_file (`str`): Pattern of a published file's name, whose group is the number of masked patches.
        tags (`tuple[str, ...]`): Of the card.
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
    Whether a checkpoint has the heads of pretraining, or else a classifier.

    Raises:
        [`ConversionError`]: If it has the heads of both tasks, or of none.
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


def _given(**arguments: int | None) -> str:
    """The arguments that were given, as they stand on the command line."""
    return ", ".join(f"--{name} {value}" for name, value in arguments.items() if value is not None)


def infer_pretraining_grid(
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    num_prefix_tokens: int,
    frequency_stride: int | None = None,
    time_stride: int | None = None,
    max_length: int | None = None,
    num_mel_bins: int | None = None,
) -> dict[str, int]:
    """
    Strides and spectrogram size of a pretraining checkpoint, which records the latter; patches do not overlap.

    Raises:
        [`ConversionError`]: If an argument or the position embeddings contradict that.
    """
    sizes = []
    for name in PRETRAINING_SIZES:
        value = state_dict.get(name)
        if value is None or value.numel() != 1 or value.is_floating_point() or value.is_complex() or value <= 0:
            found = "none" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
            raise ConversionError(f"{name} must be one positive integer, got {found}.")
        sizes.append(int(value))
    for argument, given, size, name in zip(
        ("num_mel_bins", "max_length"), (num_mel_bins, max_length), sizes, PRETRAINING_SIZES, strict=True
    ):
        if given is not None and given != size:
            raise ConversionError(f"--{argument} {given} contradicts the checkpoint, whose {name} is {size}.")
    strides = (frequency_stride or patch_size[0], time_stride or patch_size[1])
    if any(size < patch for size, patch in zip(sizes, patch_size, strict=True)):
        raise ConversionError(f"patches of {patch_size} are larger than the pretraining spectrogram of {sizes}.")
    grid = [(size - patch) // stride + 1 for size, patch, stride in zip(sizes, patch_size, strides, strict=True)]
    positions = shape_of(state_dict, "v.pos_embed", 3)[1] - num_prefix_tokens
    if math.prod(grid) != positions:
        given = _given(frequency_stride=frequency_stride, time_stride=time_stride)
        raise ConversionError(
            f"{f'{given} contradicts' if given else 'strides equal to the patches contradict'} the checkpoint: "
            f"v.pos_embed holds {positions} patch positions, but a spectrogram of {sizes[0]} mel bins x {sizes[1]} "
            f"frames (p_input_fdim, p_input_tdim) has {grid[0]} x {grid[1]} = {math.prod(grid)} patches of "
            f"{patch_size[0]} x {patch_size[1]} at strides {strides[0]}, {strides[1]}."
        )
    return {
        "frequency_stride": strides[0],
        "time_stride": strides[1],
        "num_mel_bins": sizes[0],
        "max_length": sizes[1],
    }


def infer_fine_tuned_grid(
    state_dict: Mapping[str, torch.Tensor],
    patch_size: tuple[int, int],
    num_prefix_tokens: int,
    frequency_stride: int | None = None,
    time_stride: int | None = None,
    max_length: int | None = None,
    num_mel_bins: int | None = None,
    dataset: str | None = None,
) -> dict[str, int]:
    """
    Strides and spectrogram size of a fine-tuned checkpoint, which records only the number of positions. The strides not
    given are those of the original's recipes (10, or one frame where patches are as tall as the spectrogram; or the patch)
    that make this number; where both do, the one that the data set's length fits, else the former. The length not given is
    the data set's, or a published one, that makes the grid, else the shortest.

    Raises:
        [`ConversionError`]: If no grid has this number of positions.
    """
    positions = shape_of(state_dict, "v.pos_embed", 3)[1] - num_prefix_tokens
    arguments = _given(
        frequency_stride=frequency_stride, time_stride=time_stride, max_length=max_length, num_mel_bins=num_mel_bins
    )
    num_mel_bins = num_mel_bins or 128
    if num_mel_bins < patch_size[0] or (max_length or patch_size[1]) < patch_size[1]:
        raise ConversionError(
            f"{arguments} is less than a patch of {patch_size[0]} x {patch_size[1]} of the checkpoint."
        )

    def columns_of(frames: int, stride: int) -> int:
        return (frames - patch_size[1]) // stride + 1 if frames >= patch_size[1] else 0

    recipes = [patch_size]
    if patch_size[0] == num_mel_bins:
        recipes.insert(0, (patch_size[0], 1))
    elif min(patch_size) > FINE_TUNING_STRIDE:
        recipes.insert(0, (FINE_TUNING_STRIDE, FINE_TUNING_STRIDE))
    # A stride that is given points to its recipe: the other stride is then that recipe's too, where it fits.
    recipes.sort(key=lambda recipe: (frequency_stride not in (None, recipe[0]), time_stride not in (None, recipe[1])))
    fitting, misfits = [], []
    for strides in dict.fromkeys((frequency_stride or recipe[0], time_stride or recipe[1]) for recipe in recipes):
        rows = (num_mel_bins - patch_size[0]) // strides[0] + 1
        columns = columns_of(max_length, strides[1]) if max_length else positions // rows
        if rows * columns == positions:
            fitting.append((strides, rows, columns))
        else:
            shape = f"{rows} x {columns} = {rows * columns}" if max_length else f"rows of {rows}"
            misfits.append(f"strides {strides[0]}, {strides[1]} make {shape}")
    if not fitting:
        raise ConversionError(
            f"{f'{arguments} contradicts' if arguments else 'the known strides contradict'} the checkpoint: v.pos_embed "
            f"holds {positions} patch positions, but with {num_mel_bins} mel bins and patches of {patch_size[0]} x "
            f"{patch_size[1]}, {' and '.join(misfits)}."
        )

    lengths = PUBLISHED_LENGTHS
    if dataset is not None:
        lengths = [NORMALIZATION_PRESETS[dataset]["max_length"], *lengths]
        fitting = [fit for fit in fitting if columns_of(lengths[0], fit[0][1]) == fit[2]] or fitting
    strides, rows, columns = fitting[0]
    if len(fitting) > 1:
        other, other_rows, other_columns = fitting[1]
        logger.warning(
            f"the {positions} positions fit strides {strides[0]}, {strides[1]} ({rows} x {columns} patches), which is "
            f"taken, as well as {other[0]}, {other[1]} ({other_rows} x {other_columns}); if it was the latter, pass "
            f"--frequency_stride {other[0]} --time_stride {other[1]}."
        )
    if max_length is None:
        shortest = (columns - 1) * strides[1] + patch_size[1]
        published = [length for length in lengths if columns_of(length, strides[1]) == columns]
        max_length = published[0] if published else shortest
        logger.info(
            f"--max_length was not given; {max_length} frames are taken, "
            f"{'a published length that makes' if published else 'the shortest that make'} {columns} columns of patches "
            f"({shortest} to {shortest + strides[1] - 1} do)."
        )
    return {
        "frequency_stride": strides[0],
        "time_stride": strides[1],
        "num_mel_bins": num_mel_bins,
        "max_length": max_length,
    }


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
    config: PatchEncoderConfig, is_pretraining: bool, dataset: str | None, mean: float | None, std: float | None
) -> tuple[SsambaFeatureExtractor, str]:
    """Returns the feature extractor, and where its normalisation comes from, for the card."""
    sizes = {"max_length": config.max_length, "num_mel_bins": config.num_mel_bins}
    if mean is not None:
        return SsambaFeatureExtractor(mean=mean, std=std, **sizes), "as given to the conversion"
    if dataset is not None:
        return SsambaFeatureExtractor.from_preset(dataset, **sizes), f"the original's for {dataset}"
    if is_pretraining:
        return SsambaFeatureExtractor.from_preset("audioset", **sizes), "the original's in pretraining"
    logger.warning(
        "a fine-tuned checkpoint does not record the normalisation of its input; AudioSet's is written. If it was another, "
        f"pass --dataset ({', '.join(NORMALIZATION_PRESETS)}) or --mean and --std."
    )
    return SsambaFeatureExtractor.from_preset("audioset", **sizes), "AudioSet's, assumed: the checkpoint records none"


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
    rows, columns = config.patch_grid()
    facts = {
        "Parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        **original.describe(config),
        "Patches": "{} mel bins x {} frames, strides {}, {}".format(
            *config.patch_shape, config.frequency_stride, config.time_stride
        ),
        "Grid": f"{rows} x {columns} patches (frequency x time) for {config.max_length} frames; a column every "
        f"{config.time_stride * 10} ms",
        "Pooled output": "mean of the patch tokens" if config.pooling == "mean" else "[CLS] token",
    }
    if is_pretraining and config.num_masked_patches is not None:
        facts["Masked patches"] = f"{config.num_masked_patches} of {rows * columns} per clip"
    facts["SHA-256 of the checkpoint"] = f"`{source.sha256()}`"
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
        facts=facts,
        source=source,
        is_pretraining=is_pretraining,
        has_label_names=has_label_names,
        hidden_size=config.hidden_size,
        input=describe_input(feature_extractor, config),
        normalization=normalization,
    )


def _check_arguments(dataset: str | None, mean: float | None, std: float | None, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConversionError(f"--{name} must be positive, got {value}.")
    if dataset is not None and dataset not in NORMALIZATION_PRESETS:
        raise ConversionError(f"--dataset must be one of {', '.join(NORMALIZATION_PRESETS)}, got {dataset}.")
    if (mean is None) != (std is None):
        raise ConversionError(f"--mean and --std go together, got {_given(mean=mean, std=std)} alone.")
    if mean is not None and dataset is not None:
        raise ConversionError(f"--mean and --std contradict --dataset {dataset}, which has its own.")
    if mean is not None and not (math.isfinite(mean) and 0 < std < math.inf):
        raise ConversionError(f"--mean must be finite, --std finite and positive, got {mean} and {std}.")


def convert_patch_encoder(
    original: Original,
    infer_sizes: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]],
    checkpoint: str | Path,
    output_dir: str | Path,
    filename: str | None = None,
    revision: str | None = None,
    frequency_stride: int | None = None,
    time_stride: int | None = None,
    max_length: int | None = None,
    num_mel_bins: int | None = None,
    num_masked_patches: int | None = None,
    pooling: str = "mean",
    id2label: str | Path | Mapping | Sequence[str] | None = None,
    dataset: str | None = None,
    mean: float | None = None,
    std: float | None = None,
    overwrite: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Path:
    """
    Converts an original checkpoint; see the arguments of the command line.

    Args:
        original ([`Original`]): What the checkpoint is of.
        infer_sizes (`Callable`): The fields of the configuration that the encoder's tensors tell, `patch_size` among
            them but the rest of the grid apart.

    Returns:
        `Path`: The folder, with config.json, preprocessor_config.json, model.safetensors, README.md and the code for
        `trust_remote_code=True`.

    Raises:
        [`ConversionError`]: If the checkpoint or an argument cannot be used, or the Hub refuses the upload. Except for
            the latter, nothing has been written.
    """
    spectrogram = {
        "frequency_stride": frequency_stride,
        "time_stride": time_stride,
        "max_length": max_length,
        "num_mel_bins": num_mel_bins,
    }
    _check_arguments(dataset, mean, std, num_masked_patches=num_masked_patches, **spectrogram)
    check_repo_id(push_to_hub, private)
    config_class = original.config_class
    target = check_output_dir(output_dir, config_class.model_type, overwrite)
    source = find_checkpoint(checkpoint, filename, revision)
    state_dict = read_state_dict(source.path)

    is_pretraining = is_pretrained(state_dict)
    fields = {"patch_size": shape_of(state_dict, "v.patch_embed.proj.weight", 4)[2:], **infer_sizes(state_dict)}
    spectrogram |= {"patch_size": fields["patch_size"], "num_prefix_tokens": config_class.num_prefix_tokens}
    if is_pretraining:
        if id2label is not None:
            raise ConversionError("--id2label contradicts the checkpoint, which is pretrained: it has no classifier.")
        fields |= infer_pretraining_grid(state_dict, **spectrogram)
        fields["num_masked_patches"] = infer_masked_patches(original, source, num_masked_patches)
    else:
        if num_masked_patches is not None:
            raise ConversionError(
                f"--num_masked_patches {num_masked_patches} contradicts the checkpoint, which is fine-tuned: it has no "
                "pretraining heads."
            )
        fields |= infer_fine_tuned_grid(state_dict, **spectrogram, dataset=dataset)
        fields["num_labels"] = shape_of(state_dict, "mlp_head.1.weight", 2)[0]
        if id2label is not None:
            labels = read_labels(id2label, fields["num_labels"])
            fields |= {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
    if len(set(fields["patch_size"])) == 1:
        fields["patch_size"] = fields["patch_size"][0]
    try:
        config = config_class(pooling=pooling, **fields)
    except StrictDataclassError as error:
        raise ConversionError(f"the checkpoint's sizes and the arguments make no model: {error}") from error
    if original.size(config) is None:
        logger.info(
            f"{config.hidden_size} wide with {config.num_hidden_layers} layers is none of the published sizes "
            f"({', '.join(map(str, PUBLISHED_SIZES))} wide with {original.num_published_layers} layers)."
        )

    with torch.device("meta"):
        model = (original.pretraining_class if is_pretraining else original.classification_class)(config)
    if is_pretraining:
        # Accounted for: they are in the configuration.
        state_dict = {name: tensor for name, tensor in state_dict.items() if name not in PRETRAINING_SIZES}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(convert_tensors(state_dict, shapes, original.original_name, original.unused), assign=True)
    feature_extractor, normalization = make_feature_extractor(config, is_pretraining, dataset, mean, std)
    card = make_card(
        original,
        model,
        feature_extractor,
        source,
        push_to_hub or target.name,
        normalization,
        has_label_names=id2label is not None,
    )
    write_checkpoint(
        target,
        model,
        feature_extractor,
        card,
        "AutoModelForPreTraining" if is_pretraining else "AutoModelForAudioClassification",
    )
    if push_to_hub is not None:
        try:
            what = f"{target} is complete, but"
            url = push_folder(target, push_to_hub, "Upload the converted checkpoint", what, private or None)
        except InputError as error:
            raise ConversionError(str(error)) from error
        logger.info(f"pushed to {url}")
    return target


def make_patch_encoder_parser(
    description: str, add_arguments: Callable[[argparse._ActionsContainer], None]
) -> argparse.ArgumentParser:
    """A converter's command line, with the arguments that its model alone has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(add_patch_encoder_arguments(parser))
    return parser


def add_patch_encoder_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The arguments of every converter of these originals; returns the group for those of the encoder."""
    add_common_arguments(parser)
    group = parser.add_argument_group("what the tensors cannot tell (refused where it contradicts them)")
    group.add_argument("--frequency_stride", type=int, help="mel bins between patches")
    group.add_argument("--time_stride", type=int, help="frames between patches")
    group.add_argument("--max_length", type=int, help="frames of a clip, 10 ms each")
    group.add_argument("--num_mel_bins", type=int, help="mel bins (128 if a fine-tuned checkpoint)")
    group.add_argument("--num_masked_patches", type=int, help="patches masked in pretraining")
    group.add_argument("--pooling", choices=("mean", "cls"), default="mean", help="what the classifier reads")
    group.add_argument("--id2label", help="names of the classes: a JSON file, JSON text, or separated by commas")
    group.add_argument("--dataset", choices=tuple(NORMALIZATION_PRESETS), help="whose normalisation was used")
    group.add_argument("--mean", type=float, help="mean of the log-mel values, if none of these")
    group.add_argument("--std", type=float, help="standard deviation of the log-mel values")
    return group
