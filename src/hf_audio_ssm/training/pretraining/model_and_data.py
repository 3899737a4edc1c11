# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The model and the clips of a pretraining run."""

from collections.abc import Sequence

import datasets
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING

from ...common.errors import InputError
from ...common.hub_access import find_place
from ...data.sources import load_and_hold_out, load_sources, warn_of_shared_clips
from ...data.statistics import filter_bank_statistics
from ...hub.saved_files import check_checkpoint
from ...objectives import objective_class
from .arguments import PretrainingDataArguments, PretrainingModelArguments


# Clips to compute the mean and the standard deviation of.
MAX_CLIPS_OF_STATISTICS = 2000


def make_model(arguments: PretrainingModelArguments) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """
    Makes a new model for the objective, or loads one to start from, and its feature extractor.

    Raises:
        [`InputError`]: If the model cannot be made or loaded.
    """
    source = arguments.model_name_or_path
    auto_class = objective_class(arguments.objective).model_class
    try:
        if source is not None:
            place = find_place(source)
            check_checkpoint(place)
            model = auto_class.from_pretrained(source, **arguments.overrides, **place.hub)
            # A loaded configuration does not check the fields that are set on it.
            model.config.validate()
            feature_extractor = AutoFeatureExtractor.from_pretrained(source, **place.hub)
            feature_extractor.max_length = arguments.overrides.get("max_length", feature_extractor.max_length)
            return model, feature_extractor
        config = AutoConfig.for_model(arguments.model_type)
        unknown = [name for name in arguments.overrides if not hasattr(config, name)]
        if unknown:
            raise InputError(f"--config_overrides: {type(config).__name__} has no field {unknown[0]!r}")
        config = AutoConfig.for_model(arguments.model_type, **arguments.overrides)
        model = auto_class.from_config(config)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"cannot make the model {source or arguments.model_type}: {error}") from error
    feature_extractor = FEATURE_EXTRACTOR_MAPPING[type(config)](
        max_length=config.max_length, num_mel_bins=config.num_mel_bins
    )
    return model, feature_extractor


def load_data(
    arguments: PretrainingDataArguments, seed: int, columns: Sequence[str] = ()
) -> tuple[datasets.Dataset | datasets.IterableDataset, datasets.Dataset]:
    """
    Loads the clips to train on, and those to evaluate on.

    Args:
        arguments ([`PretrainingDataArguments`]): The sources.
        seed (`int`): Seed for the draws of clips.
        columns (`Sequence[str]`, *optional*): Columns to keep beside `audio`.

    Raises:
        [`InputError`]: If a source cannot be used.
    """
    sources, weights, count = arguments.train_data, arguments.train_weights, arguments.num_eval_clips
    if not arguments.eval_data:
        return load_and_hold_out(sources, weights, count, seed, columns)
    train = load_sources(sources, weights, arguments.streaming, seed, columns)
    evaluation = load_sources(arguments.eval_data, streaming=arguments.streaming, columns=columns)
    if arguments.streaming:
        return train, datasets.Dataset.from_list(list(evaluation.take(count)))
    if count < len(evaluation):
        evaluation = evaluation.shuffle(seed=seed).select(range(count))
    warn_of_shared_clips(train, evaluation)
    return train, evaluation


def compute_mean_std(
    feature_extractor: FeatureExtractionMixin,
    dataset: datasets.Dataset | datasets.IterableDataset,
    limit: int = MAX_CLIPS_OF_STATISTICS,
) -> tuple[float, float]:
    """
    Computes the mean and the standard deviation of the filter banks of `limit` clips: drawn from a data set, or the first of a
    stream.
    """
    if isinstance(dataset, datasets.Dataset) and len(dataset) > limit:
        # Sources may follow one another.
        dataset = dataset.shuffle(seed=0)
    # Unreadable clips are reported when training reaches them.
    return filter_bank_statistics(feature_extractor, dataset, limit, skip_unreadable=True)
