# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The options of a conversion and the command lines that fill them."""

import dataclasses

import pytest

from hf_audio_ssm.conversion import ssamba, ssast
from hf_audio_ssm.conversion.checkpoint_conversion import ConversionError
from hf_audio_ssm.conversion.options import ConversionOptions


@pytest.mark.parametrize(("converter", "own"), [(ssamba, "unpaired"), (ssast, "num_attention_heads")])
def test_command_lines_have_every_option_with_its_default(converter, own):
    arguments = vars(converter.make_parser().parse_args(["checkpoint.pth", "folder"]))
    for name in ("checkpoint", "output_dir", own):
        del arguments[name]
    assert arguments == dataclasses.asdict(ConversionOptions())


def test_options_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(ConversionError, match="--time_stride must be positive, got 0"):
        ssast.convert(tmp_path / "none.pth", tmp_path / "out", time_stride=0)


def test_given():
    options = ConversionOptions(time_stride=10, mean=-4.5, std=2.0)
    assert options.given("frequency_stride", "time_stride", "mean") == "--time_stride 10, --mean -4.5"
    assert options.given("max_length") == ""
