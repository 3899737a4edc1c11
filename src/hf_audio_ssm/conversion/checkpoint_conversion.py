# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every converter of original checkpoints needs: it finds and reads the file, accounts for every tensor, and writes and
checks a folder that transformers loads, with or without the package.
"""

import argparse
import logging
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel, SequenceFeatureExtractor

from ..common.console import print_error, without_retries
from ..common.hub_access import find_place
from ..common.printable import printable
from ..common.whole_files import file_sha256
from ..models.packaging import flat_code
from .command_line import add_common_arguments as add_common_arguments
from .torch_files import ConversionError as ConversionError
from .torch_files import check_file, check_tensors


logger = logging.getLogger("conversion")


@dataclass(frozen=True)
class CheckpointSource:
    """
    A checkpoint file and where it comes from.

    Args:
        path (`Path`): The file on this machine.
        repo_id (`str`, *optional*): The Hub repository that it was downloaded from.
    """

    path: Path
    repo_id: str | None = None

    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return file_sha256(self.path)


def find_checkpoint(
    checkpoint: str | Path, filename: str | None = None, revision: str | None = None
) -> CheckpointSource:
    """
    Finds a checkpoint: a local file, or one in a Hub repository, which is downloaded into the Hub's cache.

    Args:
        checkpoint (`str` or `Path`):
            A path, `org/name` (with `filename`) or `org/name/path/in/the/repository.pth`. A local file comes first.
        filename (`str`, *optional*):
            The file's path in the Hub repository.
        revision (`str`, *optional*):
            Branch, tag or commit of the Hub repository.

    Returns:
        [`CheckpointSource`]

    Raises:
        [`ConversionError`]: If there is no such file, or `filename` or `revision` come with a local one.
    """
    path = Path(checkpoint)
    if path.is_file():
        for argument, value in (("filename", filename), ("revision", revision)):
            if value is not None:
                raise ConversionError(
                    f"--{argument} {value} is for Hub repositories, but {checkpoint} is a local file."
                )
        return CheckpointSource(path)
    if path.is_dir():
        raise ConversionError(f"CHECKPOINT must be a file or a Hub repository, but {checkpoint} is a local folder.")
    parts = str(checkpoint).split("/")
    repo_id = str(checkpoint)
    if filename is None:
        if len(parts) < 3 or parts[0] in ("", ".", ".."):
            raise ConversionError(
                f"CHECKPOINT {checkpoint} does not exist; a file on the Hub is org/name/file.pth, or org/name with "
                "--filename."
            )
        repo_id, filename = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        hub = find_place(repo_id, revision).hub
        downloaded = hf_hub_download(repo_id, filename, **hub)
    except (HTTPError, EntryNotFoundError, HFValidationError, OSError) as error:
        raise ConversionError(
            f"CHECKPOINT {checkpoint} is not a local file, and {filename} cannot be downloaded from the Hub repository {repo_id}: "
            f"{error}"
        ) from error
    return CheckpointSource(Path(downloaded), repo_id)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """
    Reads a file of `torch.save` that holds nothing but named tensors, without running any code in it. The prefix of
    `torch.nn.DataParallel`, `module.`, is removed if all names have it.

    Raises:
        [`ConversionError`]: If the file is empty, truncated, damaged or needs code, or holds anything else.
    """
    if path.stat().st_size == 0:
        raise ConversionError(f"{path.name} is empty (0 bytes).")
    try:
        with warnings.catch_warnings():
            # About pickles that torch did not write; they are refused below, in one line.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            limit = check_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except ConversionError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = re.split(r"Check the documentation|In PyTorch 2\.6|This is an internal|\(1\)", str(error))[0]
        raise ConversionError(
            f"{path.name} is truncated, damaged or not a PyTorch checkpoint ({type(error).__name__}: {reason[:200]})."
        ) from error

    if not isinstance(content, Mapping):
        raise ConversionError(f"{path.name} holds a {type(content).__name__}, not a state dict (names and tensors).")
    if not content:
        raise ConversionError(f"{path.name} holds no tensors: its state dict is empty.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConversionError(
                f"{path.name} is not a state dict: under {name!r:.100} it holds a {type(value).__name__}, not a tensor."
            )
    check_tensors(path, content.items(), limit)
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value.detach() for name, value in content.items()}


def listed(names: Collection[str], limit: int = 6) -> str:
    """`names` for a message: the first few, and how many more there are."""
    shown = ", ".join(printable(name, 100) for name in sorted(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, num_dims: int) -> tuple[int, ...]:
    """
    The shape of a tensor that sizes are inferred from.

    Raises:
        [`ConversionError`]: If it is missing or empty, or has another number of dimensions.
    """
    if name not in state_dict:
        raise ConversionError(f"the checkpoint has no {name}; it holds {listed(state_dict)}.")
    shape = tuple(state_dict[name].shape)
    if len(shape) != num_dims or 0 in shape:
        raise ConversionError(f"{name} must have {num_dims} dimensions, none of them empty, got the shape {shape}.")
    return shape


def count_layers(state_dict: Mapping[str, torch.Tensor], prefix: str) -> int:
    """
    The number of layers `PREFIX.0`, `PREFIX.1` ...

    Raises:
        [`ConversionError`]: If there is none, or one is missing in between.
    """
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    indices = {int(match[1]) for name in state_dict if (match := pattern.match(name))}
    if not indices:
        raise ConversionError(
            f"the checkpoint has no layers {prefix}.0, {prefix}.1 ...; it holds {listed(state_dict)}."
        )
    gaps = sorted(set(range(max(indices))) - indices)
    if gaps:
        raise ConversionError(
            f"the checkpoint has layers up to {prefix}.{max(indices)}, but without {', '.join(map(str, gaps[:10]))}."
        )
    return len(indices)


def _norms_without_bias(missing: Collection[str], state_dict: Mapping[str, torch.Tensor]) -> set[str]:
    """The norms whose bias is missing from a checkpoint that has their weight. Only norms have one-dimensional weights."""
    norms = {name.removesuffix(".bias") for name in missing if name.endswith(".bias")}
    weights = {norm: state_dict.get(f"{norm}.weight") for norm in norms}
    return {norm for norm, weight in weights.items() if weight is not None and weight.ndim == 1}


def _check_names_and_shapes(
    state_dict: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], unused: Collection[str]
) -> None:
    """Refuses a checkpoint with tensors that are missing, unknown or of another shape; the error names them all."""
    found = []
    missing = expected.keys() - state_dict.keys()
    if rms_norms := _norms_without_bias(missing, state_dict):
        found.append(
            f"norms with a weight but no bias ({listed(rms_norms)}): an RMSNorm, where the original has LayerNorm; this "
            "is a port that computes something else"
        )
        missing -= {f"{name}.bias" for name in rms_norms}
    if missing:
        found.append(f"missing: {listed(missing)}")
    if unknown := state_dict.keys() - expected.keys() - set(unused):
        found.append(f"unknown: {listed(unknown)}")
    wrong = [
        f"{name} {tuple(state_dict[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in state_dict and tuple(state_dict[name].shape) != shape
    ]
    if wrong:
        found.append(f"wrong shapes: {listed(wrong)}")
    if found:
        raise ConversionError(f"the checkpoint's tensors are not those of the original model: {'; '.join(found)}.")


def _as_float32(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same values as float32; an error, if that cannot be."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ConversionError(
            f"{name} must be a dense floating-point tensor, got {tensor.dtype}, {tensor.layout}, on {tensor.device}."
        )
    exact = tensor.double()
    values = tensor.float()
    if not exact.isfinite().all():
        count = int((~exact.isfinite()).sum())
        raise ConversionError(f"{name} has {count} values of {exact.numel()} that are NaN or infinite.")
    if not torch.equal(values.double(), exact):
        raise ConversionError(f"{name} is {tensor.dtype}, with values that float32 cannot hold exactly.")
    return values


def convert_tensors(
    state_dict: Mapping[str, torch.Tensor],
    shapes: Mapping[str, torch.Size],
    original_name: Callable[[str], str],
    unused: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """
    Renames a checkpoint's tensors, and accounts for every one of them. Other floating-point types become float32, where
    that changes no value.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`):
            The checkpoint, by original names.
        shapes (`Mapping[str, torch.Size]`):
            The new tensors' names and shapes.
        original_name (`Callable[[str], str]`):
            The original name for a new one. New tensors of the same original name are parts of it: one after the other
            along its first dimension, in the order of `shapes`.
        unused (`Collection[str]`):
            Original names that may be there and are left out.

    Returns:
        `dict[str, torch.Tensor]`: float32 tensors by new names.

    Raises:
        [`ConversionError`]: Naming unknown and missing names, other shapes, tensors that are not floating-point, not
            dense, not finite, or not exact in float32.
    """
    parts: dict[str, list[str]] = {}
    for name in shapes:
        parts.setdefault(original_name(name), []).append(name)
    expected = {}
    for name, names in parts.items():
        first = tuple(shapes[names[0]])
        expected[name] = (sum(shapes[part][0] for part in names), *first[1:]) if len(names) > 1 else first
    _check_names_and_shapes(state_dict, expected, unused)

    converted = {}
    for name, names in parts.items():
        values = _as_float32(name, state_dict[name])
        if len(names) == 1:
            converted[names[0]] = values
        else:
            sizes = [shapes[part][0] for part in names]
            converted |= {part: piece.clone() for part, piece in zip(names, values.split(sizes), strict=True)}
    if dropped := sorted(set(unused) & state_dict.keys()):
        logger.info(f"left out, because no task uses them: {', '.join(dropped)}.")
    if widened := {str(state_dict[name].dtype) for name in expected} - {"torch.float32"}:
        logger.info(f"tensors of {', '.join(sorted(widened))} are written as float32, with the same values.")
    return converted


def check_repo_id(repo_id: str | None, private: bool) -> None:
    """
    Refuses the arguments of a push that cannot work, before anything is done.

    Args:
        repo_id (`str`, *optional*): The repository to push to.
        private (`bool`): Whether it is to be private.

    Raises:
        [`ConversionError`]: If `repo_id` is not `org/name`, or `private` comes without it.
    """
    if repo_id is None:
        if private:
            raise ConversionError("--private is for --push_to_hub, which was not given.")
        return
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConversionError(f"--push_to_hub {repo_id} is not a repository name: {error}") from error
    if "/" not in repo_id:
        raise ConversionError(f"--push_to_hub must be org/name, got {repo_id}.")


def _written_names(model_type: str) -> set[str]:
    """The files of a converted folder."""
    return {"config.json", "preprocessor_config.json", "model.safetensors", "README.md", *flat_code(model_type)}


def check_output_dir(output_dir: str | Path, model_type: str, overwrite: bool) -> Path:
    """
    Returns the absolute path of an output folder that may be written: a new or empty one or, to overwrite, one that
    holds nothing but an earlier conversion.

    Raises:
        [`ConversionError`]: Otherwise.
    """
    target = Path(output_dir).resolve()
    if target.exists() and not target.is_dir():
        raise ConversionError(f"OUTPUT_DIR {output_dir} exists and is not a folder.")
    content = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if content and not overwrite:
        raise ConversionError(f"OUTPUT_DIR {output_dir} is not empty; --overwrite replaces an earlier conversion.")
    if foreign := content - _written_names(model_type):
        raise ConversionError(
            f"OUTPUT_DIR {output_dir} holds files that no conversion wrote ({listed(foreign)}); --overwrite does not replace them."
        )
    return target


def _write_files(
    folder: Path,
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    card: ModelCard,
) -> None:
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    card.save(folder / "README.md")


def _verify(
    folder: Path, model: PreTrainedModel, feature_extractor: SequenceFeatureExtractor, auto_class: str
) -> None:
    """Loads the written folder as a user does, and compares all of it with the originals."""
    reloaded, info = getattr(transformers, auto_class).from_pretrained(folder, output_loading_info=True)
    if any(info.values()):
        raise ConversionError(f"the written folder does not load completely by {auto_class}: {info}.")
    written = reloaded.state_dict()
    for name, tensor in model.state_dict().items():
        # As integers, because 0.0 equals -0.0.
        if written[name].dtype != tensor.dtype or not torch.equal(
            written[name].view(torch.int32), tensor.view(torch.int32)
        ):
            raise ConversionError(f"the written tensor {name} is not the checkpoint's.")
    if AutoConfig.from_pretrained(folder).to_diff_dict() != model.config.to_diff_dict():
        raise ConversionError("the written config.json does not load as the same configuration.")
    if AutoFeatureExtractor.from_pretrained(folder).to_dict() != feature_extractor.to_dict():
        raise ConversionError("the written preprocessor_config.json does not load as the same feature extractor.")


def write_checkpoint(
    target: Path,
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    card: ModelCard,
    auto_class: str,
) -> None:
    """
    Writes model, feature extractor, card and remote code into a folder beside `target`, loads them again, compares, and only
    then replaces `target`. On any failure `target` is as before.

    Args:
        target (`Path`): The folder, from [`check_output_dir`].
        model (`PreTrainedModel`): The model, float32.
        feature_extractor (`SequenceFeatureExtractor`): Its feature extractor.
        card (`ModelCard`): Its card.
        auto_class (`str`): The Auto class that loads the whole of `model`.

    Raises:
        [`ConversionError`]: If something cannot be written, or differs when it is loaded again.
    """
    existing = next(folder for folder in target.parents if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=existing) as staging:
            # A folder in it, as the temporary one itself is closed to other users.
            folder = Path(staging, target.name)
            folder.mkdir()
            _write_files(folder, model, feature_extractor, card)
            _verify(folder, model, feature_extractor, auto_class)
            target.parent.mkdir(parents=True, exist_ok=True)
            previous = Path(staging, "previous")
            with suppress(FileNotFoundError):
                os.rename(target, previous)
            try:
                os.rename(folder, target)
            except OSError:
                if previous.exists():
                    os.rename(previous, target)
                raise
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"OUTPUT_DIR {target} cannot be written: {error}") from error


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{'warning' if record.levelno >= logging.WARNING else 'note'}: {record.getMessage()}"


def report_conversion(convert: Callable[..., Path], arguments: Mapping[str, Any]) -> int:
    """
    Converts for the command line: notes, warnings, and an error as one line, go to stderr.

    Args:
        convert (`Callable[..., Path]`): The converter; it returns the folder it wrote.
        arguments (`Mapping[str, Any]`): Its arguments.

    Returns:
        `int`: The exit status, 1 after an error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()
    try:
        with without_retries():
            folder = convert(**arguments)
    except ConversionError as error:
        print_error(error)
        return 1
    finally:
        logger.removeHandler(handler)
    print(f"Wrote {folder}")
    return 0


def run_converter(parser: argparse.ArgumentParser, convert: Callable[..., Path], argv: list[str] | None = None) -> int:
    """
    Runs a converter as a script.

    Args:
        parser (`argparse.ArgumentParser`): The parser, whose destinations are the arguments of `convert`.
        convert (`Callable[..., Path]`): The converter; it returns the folder it wrote.
        argv (`list[str]`, *optional*): The arguments, by default those of the process.

    Returns:
        `int`: The exit status, 1 after an error.
    """
    return report_conversion(convert, vars(parser.parse_args(argv)))
