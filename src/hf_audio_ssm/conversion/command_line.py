# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The command lines of the converters. `--help` and errors of usage come at once: this module does not import the converters."""

import argparse
import importlib
from collections.abc import Callable, Sequence

from ..common.boundary import one_line_errors
from ..common.definitions import read_docstring, read_names


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every converter: where the checkpoint is, and where the result goes."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a local .pth file, or a Hub repository: org/name with --filename, or org/name/file.pth",
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="folder to write, new or empty")
    parser.add_argument("--filename", help="the file in the Hub repository")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub repository")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier conversion in OUTPUT_DIR")
    parser.add_argument("--push_to_hub", metavar="ORG/NAME", help="upload the result to this model repository")
    parser.add_argument("--private", action="store_true", help="make the repository private")


def add_patch_encoder_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The arguments of every converter of these originals; returns the group for those of the encoder."""
    add_common_arguments(parser)
    presets = read_names("hf_audio_ssm.models.filter_bank.feature_extraction_ssamba", "NORMALIZATION_PRESETS")
    group = parser.add_argument_group("what the tensors cannot tell (refused where it contradicts them)")
    group.add_argument("--frequency_stride", type=int, help="mel bins between patches")
    group.add_argument("--time_stride", type=int, help="frames between patches")
    group.add_argument("--max_length", type=int, help="frames of a clip, 10 ms each")
    group.add_argument("--num_mel_bins", type=int, help="mel bins (128 if a fine-tuned checkpoint)")
    group.add_argument("--num_masked_patches", type=int, help="patches masked in pretraining")
    group.add_argument("--pooling", choices=("mean", "cls"), default="mean", help="what the classifier reads")
    group.add_argument("--id2label", help="names of the classes: a JSON file, JSON text, or separated by commas")
    group.add_argument("--dataset", choices=presets, help="whose normalisation was used")
    group.add_argument("--mean", type=float, help="mean of the log-mel values, if none of these")
    group.add_argument("--std", type=float, help="standard deviation of the log-mel values")
    return group


def add_ssamba_arguments(parser: argparse._ActionsContainer) -> None:
    """The arguments that SSAMBA alone has."""
    parser.add_argument("--unpaired", action="store_true", help="layers follow each other (if_bidirectional false)")


def add_ssast_arguments(parser: argparse._ActionsContainer) -> None:
    """The arguments that SSAST alone has."""
    parser.add_argument(
        "--num_attention_heads", type=int, help="attention heads (of the published widths, one for 64)"
    )


# By the name of the converter's module in this package.
OWN_ARGUMENTS = {"ssamba": add_ssamba_arguments, "ssast": add_ssast_arguments}


def make_patch_encoder_parser(
    description: str, add_arguments: Callable[[argparse._ActionsContainer], None]
) -> argparse.ArgumentParser:
    """A converter's command line, with the arguments that its model alone has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(add_patch_encoder_arguments(parser))
    return parser


def make_parser(converter: str) -> argparse.ArgumentParser:
    """
    The command line of a converter, a key of `OWN_ARGUMENTS`; its destinations are the arguments of the converter's
    `convert`.
    """
    return make_patch_encoder_parser(read_docstring(f"{__package__}.{converter}"), OWN_ARGUMENTS[converter])


def main(converter: str, argv: Sequence[str] | None = None) -> int:
    """
    Runs a converter as a script.

    Args:
        converter (`str`): A key of `OWN_ARGUMENTS`.
        argv (`Sequence[str]`, *optional*): The arguments; defaults to those of the process.

    Returns:
        `int`: The exit code, 1 after an error.
    """
    arguments = vars(make_parser(converter).parse_args(argv))
    with one_line_errors():
        # Takes seconds.
        convert = importlib.import_module(f"{__package__}.{converter}").convert
        return importlib.import_module(f"{__package__}.checkpoint_conversion").report_conversion(convert, arguments)
