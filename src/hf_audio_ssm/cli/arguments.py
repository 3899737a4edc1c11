# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The arguments of the commands. `--help` and errors of usage come at once: this module does not import the commands."""

import argparse

from ..common.definitions import read_docstring, read_names
from ..common.version import __version__
from ..conversion.command_line import OWN_ARGUMENTS, add_patch_encoder_arguments


COMMANDS = {
    "classify": "label audio files with a fine-tuned checkpoint",
    "embed": "write the embeddings of audio files",
    "convert": "convert an original SSAMBA or SSAST checkpoint to transformers",
    "info": "describe a checkpoint, and measure its speed here",
}
EPILOG = """\
examples:
  hf-audio-ssm classify -m outputs/quickstart recording.wav
  hf-audio-ssm embed -m outputs/quickstart recordings/ -o recordings.npz
  hf-audio-ssm convert ssamba_tiny_400.pth ssamba-tiny
  hf-audio-ssm info outputs/quickstart
  hf-audio-ssm classify --help

exit codes:
  0    all went well
  1    nothing was done; the message says why
  2    the command line was not understood
  3    some audio files could not be used, and were skipped
  130  interrupted
"""


def _add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that runs a model on audio files."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="audio files, folders, or patterns such as 'in/**/*.wav'"
    )
    parser.add_argument("-m", "--model", required=True, help="a folder, or a repository on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--device", help="where to compute, such as cpu or cuda:1 (default: the GPU if there is one)")
    parser.add_argument("--batch_size", type=int, default=8, help="files in a batch (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="write JSON to the standard output")


def _add_classify(parser: argparse.ArgumentParser) -> None:
    _add_clip_arguments(parser)
    parser.add_argument("--top_k", type=int, default=5, help="labels to show for each file (default: %(default)s)")


def _add_embed(parser: argparse.ArgumentParser) -> None:
    _add_clip_arguments(parser)
    poolings = read_names("hf_audio_ssm.inference.embedding", "POOLINGS")
    parser.add_argument("-o", "--output", required=True, help="the file to write, .npz or .parquet")
    parser.add_argument("--pooling", choices=poolings, help="how tokens become one embedding (default: the model's)")
    parser.add_argument(
        "--layers", type=int, nargs="+", help="layers to take, counted as hidden states (default: the output)"
    )
    parser.add_argument("--frames", action="store_true", help="also write the embeddings along time")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    group = add_patch_encoder_arguments(parser)
    for add_own in OWN_ARGUMENTS.values():
        add_own(group)


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a folder, or a repository on the Hub")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument(
        "--device", help="device to measure on, such as cpu or cuda:1 (default: the GPU if there is one)"
    )
    parser.add_argument("--json", action="store_true", help="write JSON to the standard output")


_ADDED_BY = {"classify": _add_classify, "embed": _add_embed, "convert": _add_convert, "info": _add_info}


def make_parser() -> argparse.ArgumentParser:
    """
    The command line. Its destinations are `command`, a key of `COMMANDS`, and the arguments of that module's `run`. A
    command's description is the docstring of its module.
    """
    parser = argparse.ArgumentParser(
        "hf-audio-ssm",
        description="Audio state-space models for transformers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=read_docstring(f"{__package__}.{name}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _ADDED_BY[name](subparser)
    return parser
