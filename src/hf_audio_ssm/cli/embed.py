# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Writes the embeddings of audio files, each encoded in its whole length.

examples:
  hf-audio-ssm embed -m org/ssamba-tiny recordings/ -o recordings.npz
  hf-audio-ssm embed -m org/ssamba-tiny 'in/*.wav' -o frames.parquet --frames --layers 8 16 -1

An .npz file holds `files` and `clips` (files, hidden size) and, with --frames, `frames` (steps of all files, hidden size),
their `timestamps` in seconds, and `offsets`: file i has the steps from offsets[i] to offsets[i + 1]. With --layers, arrays
have a dimension of layers before the hidden size. A .parquet file (needs pyarrow) has one row for each file with the
columns `file` and `clip` and, with --frames, `frames` and `timestamps`.
"""

import json as json_module
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from ..common.errors import InputError
from ..common.printable import printable
from ..common.whole_files import replacing
from ..hub.loading import load_encoder
from ..inference.embedding import ClipEmbedding, embed
from .clips import choose_device, exit_code, find_files, read_batches


def _check_output(output: str) -> Path:
    path = Path(output)
    if path.suffix not in (".npz", ".parquet"):
        raise InputError(f"--output must end in .npz or .parquet, got {output}")
    if not path.parent.is_dir() or path.is_dir():
        reason = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"--output {output} cannot be written: {reason}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(
            f"--output {output} cannot be written: {path.parent} may not be written to (permission denied)"
        )
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise InputError("--output: a .parquet file needs pyarrow (pip install pyarrow)") from error
    return path


def _steps_first(frames: torch.Tensor) -> np.ndarray:
    """`([layers,] steps, hidden size)` as `(steps, [layers,] hidden size)`."""
    return frames.movedim(-2, 0).numpy()


def write_npz(file: BinaryIO, paths: list[Path], embeddings: list[ClipEmbedding], with_frames: bool) -> None:
    """Writes arrays to an open binary file."""
    arrays: dict[str, Any] = {
        "files": np.array([str(path) for path in paths]),
        "clips": np.stack([embedding.clip.numpy() for embedding in embeddings]),
    }
    if with_frames:
        frames = [_steps_first(embedding.frames) for embedding in embeddings]
        arrays["frames"] = np.concatenate(frames)
        arrays["timestamps"] = np.concatenate([embedding.timestamps.numpy() for embedding in embeddings])
        arrays["offsets"] = np.cumsum([0, *map(len, frames)])
    np.savez(file, **arrays)


def write_parquet(file: BinaryIO, paths: list[Path], embeddings: list[ClipEmbedding], with_frames: bool) -> None:
    """Writes a table to an open binary file."""
    import pyarrow
    import pyarrow.parquet

    # Parquet takes UTF-8 only, names of files are any bytes.
    names = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths]
    columns = {"file": names, "clip": [embedding.clip.tolist() for embedding in embeddings]}
    kind = pyarrow.list_(pyarrow.float32())
    if embeddings[0].clip.ndim == 2:
        kind = pyarrow.list_(kind)
    fields = [("file", pyarrow.string()), ("clip", kind)]
    if with_frames:
        columns["frames"] = [_steps_first(embedding.frames).tolist() for embedding in embeddings]
        columns["timestamps"] = [embedding.timestamps.tolist() for embedding in embeddings]
        fields += [("frames", pyarrow.list_(kind)), ("timestamps", pyarrow.list_(pyarrow.float64()))]
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(fields)), file)


def run(
    files: list[str],
    model: str,
    revision: str | None,
    device: str | None,
    batch_size: int,
    json: bool,
    output: str,
    pooling: str | None,
    layers: list[int] | None,
    frames: bool,
) -> int:
    """Runs the command; returns its exit code."""
    target = _check_output(output)
    paths, chosen_device = find_files(files), choose_device(device)
    encoder, feature_extractor = load_encoder(model, revision, chosen_device)
    rate = feature_extractor.sampling_rate
    used, embeddings, skipped, noted = [], [], [], []

    def skip(path: Path, reason: str) -> None:
        skipped.append({"file": str(path), "error": reason})

    for batch in read_batches(paths, rate, batch_size, skip, "Embedding"):
        clips = [clip.samples for _, clip in batch]
        embedded = embed(clips, rate, encoder, feature_extractor, pooling, layers, batch_size)
        for embedding in cast(list[ClipEmbedding], embedded):
            # Keep no memory of the device, no padding, and no frames that are not written.
            steps = embedding.frames.to("cpu", copy=True) if frames else torch.empty(0)
            embeddings.append(ClipEmbedding(embedding.clip.cpu(), steps, embedding.timestamps.cpu()))
        used += [path for path, _ in batch]
        noted += [{"file": str(path), "note": note.detail} for path, clip in batch for note in clip.notes]
    if embeddings:
        with replacing(target) as partial, partial.open("wb") as file:
            (write_npz if target.suffix == ".npz" else write_parquet)(file, used, embeddings, frames)
    if json:
        written = str(target) if embeddings else None
        notes = {"notes": noted} if noted else {}
        print(json_module.dumps({"output": written, "files": len(used), "skipped": skipped, **notes}))
    elif embeddings:
        shape = " x ".join(map(str, embeddings[0].clip.shape))
        print(f"Wrote {printable(target)}: {len(used)} clips, {shape} values each")
    return exit_code(len(used), len(skipped))
