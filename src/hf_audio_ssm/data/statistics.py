# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Mean and standard deviation of the filter banks of labelled or unlabelled clips, as training reads them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..audio.decoding import read_audio
from ..audio.frames import seconds_spanned
from ..common.errors import ClipError


def filter_bank_statistics(
    feature_extractor: FeatureExtractionMixin,
    clips: Iterable[Mapping[str, Any]],
    limit: int | None = None,
    skip_unreadable: bool = False,
) -> tuple[float, float]:
    """
    Computes the mean and the standard deviation of the first `max_length` frames of each clip, before normalisation.

    Args:
        feature_extractor (`FeatureExtractionMixin`): Computes the filter banks.
        clips (iterable of mappings): Rows with an undecoded clip in `audio`.
        limit (`int`, *optional*): Number of rows to read from the beginning; all of them by default.
        skip_unreadable (`bool`, *optional*, defaults to `False`): Whether to skip clips that cannot be used.

    Returns:
        `tuple[float, float]`: the mean and the standard deviation, for the feature extractor's `mean` and `std`.

    Raises:
        [`ClipError`]: If a clip cannot be used and is not to be skipped.
        `ValueError`: If there is no clip to read.
    """
    rate, seconds = feature_extractor.sampling_rate, seconds_spanned(feature_extractor.max_length)

    def waveforms() -> Iterator[np.ndarray]:
        for row in islice(clips, limit):
            try:
                yield read_audio(row["audio"], rate, max_seconds=seconds)
            except ClipError:
                if not skip_unreadable:
                    raise

    return feature_extractor.compute_mean_std(waveforms(), sampling_rate=rate)
