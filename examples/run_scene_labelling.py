# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains SSAMBA to label scenes along time, and scores the events that it finds in scenes of unseen voices.

    python examples/run_scene_labelling.py                                   # the spoken words in this repository
    python examples/run_scene_labelling.py --data_dir my_audio --scene_seconds 60 --frames_per_label 100
    python examples/run_scene_labelling.py --model path                      # starting from a pretrained checkpoint

A scene consists of labelled clips one after the other, as in the paper (arXiv 2405.11831), with pauses between them and
noise over all of it. Its label at each moment is that of the clip, or `background`. Training scenes are drawn anew for
every step, validation and test scenes once, each from the clips of their split. `data_dir` is laid out as for
`quickstart.py`.

The trained model is saved with its feature extractor and a model card, beside the events of the test scenes (`events.csv`; with
`annotate` of the package, the model finds them in recordings of any length) and a picture of one of them.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.arguments import FolderFields
from hf_audio_ssm.training.command_line import parse_script_arguments


SPOKEN_WORDS = Path(__file__).resolve().parent / "spoken_words"
BACKGROUND = "background"
MAX_CLIP_SECONDS = 10.0


@dataclass
class SceneArguments(FolderFields):
    """The clips of the scenes, the model to start from, and how long to train."""

    data_dir: str = field(default=str(SPOKEN_WORDS), metadata={"help": "Folder of labelled clips."})
    output_dir: str = field(
        default="outputs/scenes", metadata={"help": "Folder for the trained model and its results."}
    )
    model: str | None = field(
        default=None, metadata={"help": "Checkpoint (folder or Hub name) to start from, instead of a small new model."}
    )
    scene_seconds: float = field(default=10.0, metadata={"help": "Length of a scene."})
    max_pause_seconds: float = field(default=0.6, metadata={"help": "Longest pause between two clips."})
    frames_per_label: int = field(
        default=10, metadata={"help": "Frames of 10 ms that share a label; 100: a label a second."}
    )
    steps: int = field(default=2400, metadata={"help": "Training steps."})
    batch_size: int = field(default=8, metadata={"help": "Scenes in a training step."})
    test_scenes: int = field(default=40, metadata={"help": "Scenes to test on; half as many validate."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Highest learning rate. Default: 1e-4 from a checkpoint, else 3e-3."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, scenes and splits."})

    def __post_init__(self):
        super().__post_init__()
        for name in ("frames_per_label", "steps", "batch_size", "test_scenes"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}")
        for name in ("scene_seconds", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name} must be a positive number, got {value}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in 0 ... 2**32 - 1, got {self.seed}")
        if not 0 <= self.max_pause_seconds < math.inf:
            raise InputError(f"--max_pause_seconds must be zero or a positive number, got {self.max_pause_seconds}")
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise InputError(f"--output_dir must be a folder or a new name, got the file {self.output_dir!r}")


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    (parsed,) = parse_script_arguments((SceneArguments,), __doc__)

import time

import numpy as np
import pandas as pd
import soxr
import torch
from matplotlib.figure import Figure
from small_classifier import label_fields, small_config, train_classifier
from tqdm import tqdm
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioFrameClassification,
    set_seed,
)

from hf_audio_ssm import SsambaFeatureExtractor, SsambaForAudioFrameClassification
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.audio.frames import FRAMES_PER_SECOND, SECONDS_PER_FRAME, frames_to_seconds
from hf_audio_ssm.common.hub_access import find_place
from hf_audio_ssm.common.whole_files import replacing
from hf_audio_ssm.data.bad_clips import report_bad_clips
from hf_audio_ssm.data.folder_splits import load_folder_splits
from hf_audio_ssm.data.folders import SPLIT_FOLDERS
from hf_audio_ssm.evaluation.events import decode_events, event_based_f1, segment_based_f1
from hf_audio_ssm.hub.card_callback import write_card
from hf_audio_ssm.hub.cards import Results, classifier_card, describe_training, read_base_model
from hf_audio_ssm.inference.plots import save_figure


# ---- Scenes ----


def read_clip(path: Path, sampling_rate: int) -> np.ndarray:
    """A clip at full scale, without the silence around it, so that its label is true from beginning to end."""
    samples = read_audio(path, sampling_rate, max_seconds=MAX_CLIP_SECONDS)
    loudest = np.abs(samples).max()
    if loudest == 0:
        raise InputError(f"{path}: is silent; a scene needs sounds")
    loud = np.flatnonzero(np.abs(samples) > 0.01 * loudest)
    return samples[loud[0] : loud[-1] + 1] / loudest


class Scenes(torch.utils.data.Dataset):
    """Scenes of one split. Item i is the same each time, unless scenes are drawn anew, of clips that are changed."""

    def __init__(self, clips, labels, feature_extractor, arguments: SceneArguments, count: int, seed: int, anew=False):
        self.clips, self.labels, self.feature_extractor = clips, labels, feature_extractor
        self.arguments, self.count, self.seed = arguments, count, seed
        self.rng = np.random.default_rng(seed) if anew else None

    def __len__(self) -> int:
        return self.count

    def make_scene(self, index: int) -> tuple[np.ndarray, pd.DataFrame]:
        """The scene's samples, and its events."""
        rate = self.feature_extractor.sampling_rate
        rng = self.rng or np.random.default_rng((self.seed, index))
        scene = np.zeros(round(self.arguments.scene_seconds * rate), dtype=np.float32)
        position, events = 0, []
        while True:
            position += round(rng.uniform(0, self.arguments.max_pause_seconds) * rate)
            samples, label = self.clips[rng.integers(len(self.clips))]
            if self.rng is not None:
                # Another speaker: speed, with pitch and formants.
                samples = soxr.resample(samples, rng.uniform(0.75, 1.35) * rate, rate, quality="LQ")
            if position >= len(scene):
                break
            samples = samples[: len(scene) - position] * 10 ** (rng.uniform(-18, 0) / 20)
            scene[position : position + len(samples)] = samples
            events.append((position / rate, (position + len(samples)) / rate, label))
            position += len(samples)
        scene += 10 ** (rng.uniform(-70, -45) / 20) * rng.standard_normal(len(scene), dtype=np.float32)
        return scene, pd.DataFrame(events, columns=["onset", "offset", "label"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        samples, events = self.make_scene(index)
        extractor = self.feature_extractor
        inputs = extractor(samples, sampling_rate=extractor.sampling_rate, padding=False, truncation=False)
        values = torch.from_numpy(inputs["input_values"][0])
        if self.rng is not None:
            # Another room: more or less treble. Then SpecAugment's frequency mask, twice: no label may depend on one band.
            values += float(self.rng.normal(0, 0.3)) * torch.linspace(-1, 1, values.shape[1])
            for _ in range(2):
                width = self.rng.integers(0, values.shape[1] // 5 + 1)
                start = self.rng.integers(0, values.shape[1] - width + 1)
                values[:, start : start + width] = 0
        return {"input_values": values, "labels": torch.from_numpy(self.label_steps(events, len(values)))}

    def label_steps(self, events: pd.DataFrame, num_frames: int) -> np.ndarray:
        """The label that fills most of each time step."""
        seconds = self.arguments.frames_per_label * SECONDS_PER_FRAME
        # Scenes of equal length have equally many labels.
        beginnings = np.arange(math.ceil(num_frames / self.arguments.frames_per_label)) * seconds
        shares = np.zeros((len(beginnings), len(self.labels)))
        for onset, offset, label in events.itertuples(index=False):
            overlap = np.minimum(offset, beginnings + seconds) - np.maximum(onset, beginnings)
            shares[:, self.labels.index(label)] += overlap.clip(min=0)
        shares[:, self.labels.index(BACKGROUND)] = seconds - shares.sum(axis=1)
        return shares.argmax(axis=1)


# ---- Model ----


def make_model(arguments: SceneArguments, labels: list[str], train_clips: list) -> tuple:
    """The feature extractor and the model: a checkpoint with a new head, or a new small SSAMBA."""
    fields = {**label_fields(labels), "frames_per_label": arguments.frames_per_label}
    if arguments.model is not None:
        try:
            hub = find_place(arguments.model).hub
            feature_extractor = AutoFeatureExtractor.from_pretrained(arguments.model, **hub)
            model = AutoModelForAudioFrameClassification.from_pretrained(
                arguments.model, ignore_mismatched_sizes=True, **fields, **hub
            )
        except OSError as error:
            raise InputError(f"--model {arguments.model}: cannot be loaded ({error})") from error
        return feature_extractor, model

    max_length = math.ceil(arguments.scene_seconds * FRAMES_PER_SECOND)
    feature_extractor = SsambaFeatureExtractor(max_length=max_length)
    scenes = Scenes(train_clips, labels, feature_extractor, arguments, count=20, seed=arguments.seed)
    samples = (scenes.make_scene(index)[0] for index in range(len(scenes)))
    feature_extractor.mean, feature_extractor.std = feature_extractor.compute_mean_std(
        samples, sampling_rate=feature_extractor.sampling_rate
    )
    return feature_extractor, SsambaForAudioFrameClassification(small_config(max_length, **fields))


def step_accuracy(prediction) -> dict[str, float]:
    return {"step_accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def trim_labels(model, rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch, with as many labels as the model has time steps: none after the middle of its last patch."""
    batch = torch.utils.data.default_collate(rows)
    steps = model.config.num_label_steps(model.config.patch_grid(batch["input_values"].shape[1])[1])
    return {**batch, "labels": batch["labels"][:, :steps]}


def train_model(model, train: Scenes, validation: Scenes, arguments: SceneArguments) -> dict[str, str]:
    """Trains `model` in place, and shows progress and validation accuracy; returns rows on training for the card."""
    is_new = arguments.model is None
    trainer = train_classifier(
        model,
        train,
        validation,
        step_accuracy,
        arguments.batch_size,
        arguments.learning_rate or (3e-3 if is_new else 1e-4),
        arguments.seed,
        data_collator=lambda rows: trim_labels(model, rows),
        max_steps=arguments.steps,
        logging_steps=max(1, arguments.steps // 6),
    )
    return describe_training(trainer)


# ---- Use ----


@torch.no_grad()
def find_events(model, scenes: Scenes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The true events of scenes, and those that the model finds; the column `file` numbers the scenes."""
    true, found = [], []
    for index in tqdm(range(len(scenes)), desc="Labelling", unit="scene"):
        events = scenes.make_scene(index)[1]
        logits = model(scenes[index]["input_values"][None].to(model.device)).logits[0]
        predicted = decode_events(
            logits.softmax(dim=-1).cpu().numpy(),
            scenes.labels,
            scenes.arguments.frames_per_label * SECONDS_PER_FRAME,
            threshold=0.3,
            median_filter_seconds=3 * scenes.arguments.frames_per_label * SECONDS_PER_FRAME,
            single_label=True,
            background=[BACKGROUND],
        )
        true.append(events.assign(file=index))
        found.append(predicted.assign(file=index))
    return pd.concat(true, ignore_index=True), pd.concat(found, ignore_index=True)


def draw_scene(path: Path, scenes: Scenes, index: int, true: pd.DataFrame, found: pd.DataFrame) -> None:
    """Draws a scene's spectrogram, with its events and those found, to a PNG file."""
    spectrogram = scenes[index]["input_values"].numpy().T
    figure = Figure(figsize=(12, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    extent = (0, frames_to_seconds(spectrogram.shape[1]), 0, len(spectrogram))
    top.imshow(spectrogram, origin="lower", aspect="auto", extent=extent, cmap="magma")
    top.set(ylabel="mel bin", title="A test scene")
    labels = [label for label in scenes.labels if label != BACKGROUND]
    for offset, height, colour, name, events in (
        (0.05, 0.4, "tab:gray", "true", true),
        (0.5, 0.4, "tab:blue", "found", found),
    ):
        events = events[events["file"] == index]
        rows = [labels.index(label) + offset for label in events["label"]]
        widths = events["offset"] - events["onset"]
        bottom.barh(rows, widths, left=events["onset"], height=height, align="edge", color=colour, label=name)
    bottom.set(xlabel="time (s)", ylim=(0, len(labels)))
    # A dollar in a name does not begin a formula.
    bottom.set_yticks(np.arange(len(labels)) + 0.5, labels, parse_math=False)
    bottom.legend(loc="upper right")
    save_figure(figure, path)


def read_clips(
    arguments: SceneArguments,
) -> tuple[list[str], dict[str, list[tuple[np.ndarray, str]]], list[tuple[str, str]]]:
    """The labels, the samples and label of each clip of each split, and (clip, reason) of those that cannot be read."""
    rate = SsambaFeatureExtractor().sampling_rate
    splits, summary, _ = load_folder_splits(Path(arguments.data_dir), arguments.seed, rate, arguments)
    print(summary)
    labels = [*sorted({label for _, label in splits["train"]} - {BACKGROUND}), BACKGROUND]
    clips = {split: [(read_clip(path, rate), label) for path, label in splits[split]] for split in SPLIT_FOLDERS}
    return labels, clips, list(summary.bad)


def score_events(true: pd.DataFrame, found: pd.DataFrame, arguments: SceneArguments) -> dict[str, float]:
    """Prints and returns the F1 scores of the events found."""
    segments = segment_based_f1(true, found, segment_seconds=frames_to_seconds(arguments.frames_per_label))
    seconds, events = segment_based_f1(true, found), event_based_f1(true, found)
    scores = {"segment_f1": segments["f1"], "second_f1": seconds["f1"], "event_f1": events["f1"]}
    print(f"{len(true)} true events in {arguments.test_scenes} test scenes, {len(found)} found:")
    print(f"  F1 of time steps {scores['segment_f1']:.3f}, of seconds {scores['second_f1']:.3f},", end=" ")
    print(f"of events (beginning within 0.2 s, end within half its length) {scores['event_f1']:.3f}")
    return scores


def write_scene_card(
    arguments: SceneArguments,
    model,
    feature_extractor,
    num_scenes: dict[str, int],
    training: dict[str, str],
    scores: dict[str, float],
) -> None:
    """Writes the card of the trained model."""
    output_dir = Path(arguments.output_dir)
    step = frames_to_seconds(arguments.frames_per_label)
    scenes = (
        f"clips one after the other, scenes of {arguments.scene_seconds:g} s, a label every {step:g} s; drawn anew for each "
        "step of training"
    )
    note = (
        "The first two scores are F1 of time steps and of seconds; for that of events, an event's beginning may be wrong by "
        "0.2 s and its end by half its length."
    )
    card = classifier_card(
        model_name=output_dir.resolve().name,
        model=model,
        feature_extractor=feature_extractor,
        base_model=None if arguments.model is None else read_base_model(arguments.model),
        data=arguments.data_dir,
        num_clips=num_scenes,
        training={"Scenes": scenes, **training},
        results=Results(scores, "test", arguments.data_dir, num_scenes["test"], [note], unit="scenes"),
        pictures={"A test scene": "scene.png"},
    )
    write_card(card, output_dir)


def main(arguments: SceneArguments) -> dict[str, float]:
    """Runs all steps; returns the F1 scores on the test scenes."""
    start = time.perf_counter()
    set_seed(arguments.seed)

    # 1. The clips, all of them read before anything is trained or written.
    labels, clips, bad = read_clips(arguments)

    # 2. The feature extractor, the model and the scenes.
    feature_extractor, model = make_model(arguments, labels, clips["train"])
    count = {
        "train": arguments.steps * arguments.batch_size,
        "validation": max(1, arguments.test_scenes // 2),
        "test": arguments.test_scenes,
    }
    train, validation, test = (
        Scenes(clips[split], labels, feature_extractor, arguments, count[split], arguments.seed + 1, split == "train")
        for split in SPLIT_FOLDERS
    )
    print(f"{type(model).__name__} with {model.num_parameters() / 1e6:.2f} million parameters; labels: {labels}")

    # 3. Training.
    training = train_model(model, train, validation, arguments)
    trained = time.perf_counter()

    # 4. The events of the test scenes, and how well they are found.
    true, found = find_events(model.eval(), test)
    scores = score_events(true, found, arguments)

    # 5. Saving.
    output_dir = Path(arguments.output_dir)
    model.save_pretrained(output_dir)
    feature_extractor.save_pretrained(output_dir)
    with replacing(output_dir / "events.csv") as partial:
        found.to_csv(partial, index=False, float_format="%.3f")
    draw_scene(output_dir / "scene.png", test, 0, true, found)
    write_scene_card(arguments, model, feature_extractor, count, training, scores)
    print(f"Saved the model, its card, events.csv and scene.png to {output_dir}.", end=" ")
    print(f"Training took {trained - start:.0f} s, all of this {time.perf_counter() - start:.0f} s.")
    report_bad_clips(output_dir, bad)
    return scores


if __name__ == "__main__":
    with one_line_errors():
        main(parsed)
