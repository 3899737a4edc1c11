# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
How long a pretraining step waits for its data: SSAMBA tiny on FLAC clips of ten seconds, read, turned into filter banks and
masked by two workers while the model computes. Also what a clip costs a worker.

    python benchmarks/data_loading.py --output data_loading.json
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path


def parse_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.24, help="length of a clip")
    parser.add_argument("--batch_size", type=int, default=4, help="clips in a step")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that read clips")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--output", type=Path, help="JSON file to write the results to")
    return parser.parse_args()


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_command_line()

import numpy as np
import soundfile as sf
import torch
from measuring import table, write_json
from torch.utils.data import DataLoader

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForPreTraining
from hf_audio_ssm.data.pretraining import (
    PositionBatches,
    PretrainingClips,
    PretrainingExamples,
    collate_pretraining,
)
from hf_audio_ssm.data.sources import load_source
from hf_audio_ssm.objectives.masked_patches import MaskedPatchExamples


TARGET_SHARE = 0.1
SAMPLING_RATES = (16_000, 44_100)


def write_clips(folder: Path, count: int, seconds: float, rate: int) -> None:
    """Clips a little longer than is used, so that they are cropped, of noise that compresses as recordings do."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        noise = np.cumsum(generator.standard_normal(int((seconds + 1) * rate)))
        sf.write(folder / f"{index}.flac", 0.5 * noise / np.abs(noise).max(), rate)


def measure(rate: int, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One row of the table."""
    write_clips(folder, 16, arguments.seconds, rate)
    frames = 16 * round(100 * arguments.seconds / 16)
    config = SsambaConfig.tiny(max_length=frames)
    make_example = MaskedPatchExamples(config, num_masked_patches=400 * frames // 1024)
    examples = PretrainingExamples(SsambaFeatureExtractor(max_length=frames), make_example)
    clips = PretrainingClips(load_source(str(folder)), examples, seed=0)
    torch.manual_seed(0)
    model = SsambaForPreTraining(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loader = DataLoader(
        clips,
        batch_sampler=PositionBatches(arguments.batch_size, 0, arguments.steps + 2),
        collate_fn=collate_pretraining,
        num_workers=arguments.num_workers,
    )
    waits, steps = [], []
    batches = iter(loader)
    for _ in range(arguments.steps + 2):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        model(batch["input_values"], bool_masked_pos=batch["bool_masked_pos"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        waits.append(ready - start)
        steps.append(time.perf_counter() - start)
    # The first steps wait for the workers to start.
    waits, steps = waits[2:], steps[2:]
    alone = []
    for position in range(16):
        start = time.perf_counter()
        clips[position]
        alone.append(time.perf_counter() - start)
    return {
        "sampling_rate": rate,
        "step_seconds": statistics.median(steps),
        "waiting_seconds": statistics.median(waits),
        "waiting_share": sum(waits) / sum(steps),
        "worker_ms_per_clip": 1000 * statistics.median(alone),
    }


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(rate, Path(folder) / str(rate), arguments) for rate in SAMPLING_RATES]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.num_workers} workers")
    print(table(rows))
    worst = max(row["waiting_share"] for row in rows)
    print(
        f"largest share of a step that waits for data: {100 * worst:.1f} % (target: below {100 * TARGET_SHARE:.0f} %)"
    )
    if arguments.output is not None:
        write_json(arguments.output, {"torch": torch.__version__, "threads": torch.get_num_threads(), "results": rows})
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main(parsed)
