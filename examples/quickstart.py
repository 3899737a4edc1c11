# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains an audio classifier with SSAMBA on a folder of audio, and uses it through the pipeline.

    python examples/quickstart.py                                   # the spoken words in this repository
    python examples/quickstart.py --data_dir my_audio               # your own audio
    python examples/quickstart.py --data_dir my_audio --model path  # starting from a pretrained checkpoint

The steps, in the order of `main` at the end of this file: find the clips and check that each can be read, make a feature
extractor and a model that fit them, train with the Trainer, save, load what was saved as a pipeline, classify the test
clips, draw one of them with its prediction, and write a model card.

`data_dir` is laid out as the `audiofolder` of datasets: split folders `train`, `validation` and `test`, in each of them
either one folder of clips per label, or a `metadata.csv` with the columns `file_name` and `label`. Without split folders,
`data_dir` itself holds the labels' folders or the `metadata.csv`. A split that is missing is drawn from the training clips,
by label and seed; `--group_column` of the `metadata.csv` keeps all clips of a speaker, say, in one split. Clips are wav,
flac, ogg, opus, mp3 or aiff, of any sampling rate and number of channels. Clips that cannot be read are left out and listed,
unless they are more than `--max_bad_share` of all.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.arguments import FolderFields
from hf_audio_ssm.training.command_line import parse_script_arguments


SPOKEN_WORDS = Path(__file__).resolve().parent / "spoken_words"
MAX_SECONDS = 10.24


@dataclass
class QuickstartArguments(FolderFields):
    """The data, the model to start from, and how long to train."""

    data_dir: str = field(
        default=str(SPOKEN_WORDS), metadata={"help": "Folder of audio, laid out as at the top of this file."}
    )
    output_dir: str = field(
        default="outputs/quickstart", metadata={"help": "Folder for the trained model and the picture."}
    )
    model: str | None = field(
        default=None, metadata={"help": "Checkpoint (folder or Hub name) to start from, instead of a small new model."}
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "help": "Passes over the training clips. Default: 10 from a checkpoint, else about 1250 steps, at least 5."
        },
    )
    batch_size: int = field(default=16, metadata={"help": "Clips in a training step."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Highest learning rate. Default: 1e-4 from a checkpoint, else 3e-3."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, order, augmentation and splits."})

    def __post_init__(self):
        super().__post_init__()
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} must be at least 1, got {value}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InputError(f"--learning_rate must be a positive number, got {self.learning_rate}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be in 0 ... 2**32 - 1, got {self.seed}")
        if not Path(self.data_dir).is_dir():
            raise InputError(f"--data_dir must be a folder, got {self.data_dir!r}")
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise InputError(f"--output_dir must be a folder or a new name, got the file {self.output_dir!r}")


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    (parsed,) = parse_script_arguments((QuickstartArguments,), __doc__)

import os
import time

import datasets
import numpy as np
import soxr
import torch
from matplotlib.figure import Figure
from small_classifier import label_fields, small_config, train_classifier
from tqdm import tqdm
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    pipeline,
    set_seed,
)

from hf_audio_ssm import SsambaFeatureExtractor, SsambaForAudioClassification
from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.audio.frames import FRAMES_PER_SECOND, count_frames, frames_to_seconds
from hf_audio_ssm.common.hub_access import find_place
from hf_audio_ssm.common.printable import printable
from hf_audio_ssm.data.bad_clips import ClipCheck, report_bad_clips
from hf_audio_ssm.data.folder_splits import load_folder_splits
from hf_audio_ssm.data.folders import SPLIT_FOLDERS, split_folders
from hf_audio_ssm.data.sources import make_dataset
from hf_audio_ssm.data.statistics import filter_bank_statistics
from hf_audio_ssm.hub.card_callback import write_card
from hf_audio_ssm.hub.cards import Results, classifier_card, describe_training, read_base_model
from hf_audio_ssm.inference.plots import save_figure


# ---- Features and augmentation ----


def augment_waveform(samples: np.ndarray, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Another speaker, another room: changes speed with pitch and formants, place in time, loudness, and adds noise."""
    speed = rng.uniform(0.8, 1.25)
    samples = soxr.resample(samples, speed * sampling_rate, sampling_rate, quality="LQ")
    samples = np.pad(samples, rng.integers(0, int(0.3 * sampling_rate), size=2))
    samples = samples * 10 ** (rng.uniform(-20, 3) / 20)
    # Half of the clips stay without noise: the model also meets digital silence.
    if rng.random() < 0.5:
        noise = np.abs(samples).max() * 10 ** (rng.uniform(-60, -20) / 20)
        samples = samples + noise * rng.standard_normal(len(samples))
    return samples.astype(np.float32)


def mask_spectrogram(spectrogram: torch.Tensor, rng: np.random.Generator) -> None:
    """SpecAugment: sets a random band of up to a fifth of the mel bins, and of the frames, to the mean."""
    for values in (spectrogram, spectrogram.T):
        width = rng.integers(0, len(values) // 5 + 1)
        start = rng.integers(0, len(values) - width + 1)
        values[start : start + width] = 0


class ClipInputs(torch.utils.data.Dataset):
    """The model's inputs for the clips of a dataset, made on demand, and augmented if there is a generator."""

    def __init__(self, dataset: datasets.Dataset, feature_extractor, rng: np.random.Generator | None = None):
        self.dataset = dataset
        self.feature_extractor = feature_extractor
        self.rng = rng

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        row = self.dataset[index]
        rate = self.feature_extractor.sampling_rate
        samples = read_audio(row["audio"], rate)
        if self.rng is not None:
            samples = augment_waveform(samples, rate, self.rng)
        inputs = self.feature_extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]
        if self.rng is not None:
            mask_spectrogram(inputs, self.rng)
        return {"input_values": inputs, "labels": row["label"]}


# ---- Model ----


def load_or_make_model(checkpoint: str | None, train: datasets.Dataset, longest: float) -> tuple:
    """
    The feature extractor and the model: a checkpoint with a new classifier, or a new small SSAMBA.

    SSAMBA's feature extractor is fitted to the clips, as its authors do for each data set: its length is that of the
    longest clip and a quarter of a second more, its mean and standard deviation are those of the training clips.
    """
    labels = label_fields(train.features["label"].names)
    if checkpoint is None:
        feature_extractor, model = SsambaFeatureExtractor(), None
    else:
        try:
            hub = find_place(checkpoint).hub
            feature_extractor = AutoFeatureExtractor.from_pretrained(checkpoint, **hub)
            model = AutoModelForAudioClassification.from_pretrained(
                checkpoint, ignore_mismatched_sizes=True, **labels, **hub
            )
        except OSError as error:
            raise InputError(f"--model {checkpoint}: cannot be loaded ({error})") from error

    if model is None or model.config.model_type == "ssamba":
        frames = math.ceil(FRAMES_PER_SECOND * min(longest + 0.25, MAX_SECONDS))
        feature_extractor.max_length = max(128, 16 * math.ceil(frames / 16))
        feature_extractor.mean, feature_extractor.std = filter_bank_statistics(feature_extractor, train)
    if model is None:
        model = SsambaForAudioClassification(small_config(feature_extractor.max_length, **labels))
    return feature_extractor, model


def accuracy(prediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def train_model(model, feature_extractor, train, validation, arguments: QuickstartArguments) -> dict[str, str]:
    """Trains `model` in place, and shows progress and validation accuracy; returns rows on training for the card."""
    is_new = arguments.model is None
    steps_per_epoch = math.ceil(len(train) / arguments.batch_size)
    epochs = arguments.epochs or (max(5, math.ceil(1250 / steps_per_epoch)) if is_new else 10)
    trainer = train_classifier(
        model,
        ClipInputs(train, feature_extractor, np.random.default_rng(arguments.seed)),
        ClipInputs(validation, feature_extractor),
        accuracy,
        arguments.batch_size,
        arguments.learning_rate or (3e-3 if is_new else 1e-4),
        arguments.seed,
        num_train_epochs=epochs,
        logging_steps=max(1, epochs * steps_per_epoch // 8),
    )
    return describe_training(trainer)


# ---- Use ----


def draw_prediction(path: Path, clip: str, label: str, scores: list[dict], feature_extractor) -> None:
    """Draws the spectrogram of a clip as the model sees it, and the scores of its likeliest labels, to a PNG file."""
    samples = read_audio(clip, feature_extractor.sampling_rate)
    inputs = feature_extractor(samples, sampling_rate=feature_extractor.sampling_rate, return_tensors="np")
    # Without the padding.
    spectrogram = inputs["input_values"][0, : count_frames(len(samples) / feature_extractor.sampling_rate)].T

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    extent = (0, frames_to_seconds(spectrogram.shape[1]), 0, len(spectrogram))
    image = left.imshow(spectrogram, origin="lower", aspect="auto", extent=extent, cmap="magma")
    left.set(xlabel="time (s)", ylabel="mel bin")
    # A dollar in a name does not begin a formula.
    left.set_title(f"{Path(clip).name}, labelled {label!r}", parse_math=False)
    figure.colorbar(image, ax=left, label="normalised log energy")
    best = scores[:5]
    colours = ["tab:green" if score["label"] == label else "tab:gray" for score in best]
    right.barh(range(len(best)), [score["score"] for score in best], color=colours)
    right.set_yticks(range(len(best)), [score["label"] for score in best], parse_math=False)
    right.invert_yaxis()
    right.set(xlabel="score", xlim=(0, 1))
    right.set_title(f"predicted {best[0]['label']!r} ({best[0]['score']:.0%})", parse_math=False)
    save_figure(figure, path)


def load_data(arguments: QuickstartArguments) -> tuple[dict[str, datasets.Dataset], ClipCheck]:
    """Reads every clip once; returns the splits, and what was found in reading them."""
    rate = SsambaFeatureExtractor().sampling_rate
    splits, summary, found = load_folder_splits(Path(arguments.data_dir), arguments.seed, rate, arguments)
    data = {split: make_dataset(splits[split], list(summary.names)) for split in SPLIT_FOLDERS}
    print(summary)
    too_long = sum(seconds > MAX_SECONDS for seconds in found.seconds.values())
    if too_long:
        print(f"{too_long} clips are longer than {MAX_SECONDS} s: only the beginning of each is used")
    return data, found


def classify_clips(model_dir: str, clips: datasets.Dataset) -> list[list[dict]]:
    """The scores of all labels, the best first, that the saved model gives each clip."""
    classifier = pipeline("audio-classification", model=model_dir)
    rate = classifier.feature_extractor.sampling_rate
    inputs = ({"array": read_audio(row["audio"], rate), "sampling_rate": rate} for row in clips)
    return list(tqdm(classifier(inputs, top_k=None), desc="Classifying", total=len(clips), unit="clip"))


def report_accuracy(predictions: list[list[dict]], clips: datasets.Dataset, data_dir: str) -> float:
    """Prints some predictions and the share of correct ones; returns the latter."""
    for index in np.linspace(0, len(clips) - 1, num=min(len(clips), 8), dtype=int):
        best = predictions[index][0]
        path = clips[int(index)]["audio"]["path"]
        print(f"{printable(os.path.relpath(path, data_dir))}: {printable(best['label'])} ({best['score']:.2f})")
    names = clips.features["label"].int2str(clips["label"])
    correct = [scores[0]["label"] == name for scores, name in zip(predictions, names, strict=True)]
    print(f"Test accuracy: {np.mean(correct):.3f} ({sum(correct)} of {len(correct)} clips)")
    return float(np.mean(correct))


def write_results(
    arguments: QuickstartArguments,
    data: dict[str, datasets.Dataset],
    model,
    feature_extractor,
    training: dict[str, str],
    predictions: list[list[dict]],
    accuracy: float,
) -> None:
    """Draws one test clip with its prediction, and writes the model's card."""
    test, output_dir = data["test"], Path(arguments.output_dir)
    shown = len(test) // 2
    picture, name = output_dir / "prediction.png", test.features["label"].int2str(test[shown]["label"])
    draw_prediction(picture, test[shown]["audio"]["path"], name, predictions[shown], feature_extractor)
    has_test_split = "test" in split_folders(Path(arguments.data_dir))
    notes = () if has_test_split else ("They were drawn from all clips, before training.",)
    card = classifier_card(
        model_name=output_dir.resolve().name,
        model=model,
        feature_extractor=feature_extractor,
        base_model=None if arguments.model is None else read_base_model(arguments.model),
        data=arguments.data_dir,
        num_clips={split: len(clips) for split, clips in data.items()},
        training=training,
        results=Results({"accuracy": accuracy}, "test", arguments.data_dir, len(test), notes),
        pictures={"A test clip and its prediction": picture.name},
    )
    write_card(card, output_dir)
    print(f"Wrote {picture} and README.md, the model's card.", end=" ")


def main(arguments: QuickstartArguments) -> float:
    """Runs all steps; returns the accuracy on the test clips."""
    start = time.perf_counter()
    set_seed(arguments.seed)

    # 1. The data, all of it read once before anything is trained or written.
    data, found = load_data(arguments)
    longest = max(found.seconds.values())

    # 2. The feature extractor and the model.
    feature_extractor, model = load_or_make_model(arguments.model, data["train"], longest)
    print(f"{type(model).__name__} with {model.num_parameters() / 1e6:.2f} million parameters")

    # 3. Training.
    training = train_model(model, feature_extractor, data["train"], data["validation"], arguments)

    # 4. Saving. The folder now works with `from_pretrained` and `pipeline`.
    model.save_pretrained(arguments.output_dir)
    feature_extractor.save_pretrained(arguments.output_dir)
    print(f"Saved the model to {arguments.output_dir}")

    # 5. Classifying the test clips with what was saved.
    predictions = classify_clips(arguments.output_dir, data["test"])
    test_accuracy = report_accuracy(predictions, data["test"], arguments.data_dir)

    # 6. A picture of one clip and its prediction, and a card that describes the model and its results.
    write_results(arguments, data, model, feature_extractor, training, predictions, test_accuracy)
    print(f"All of this took {time.perf_counter() - start:.0f} s.")
    report_bad_clips(arguments.output_dir, list(found.bad.values()))
    return test_accuracy


if __name__ == "__main__":
    with one_line_errors():
        main(parsed)
