# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
A demo in the browser: record or upload a sound, and see its labels and its spectrogram. If the model has prototypes, the demo
also shows which patches of the spectrogram speak for a label.

    python examples/space/app.py --model outputs/probing/prototypical

On a Space of the Hub, the variable MODEL names the checkpoint. The page loads nothing from other servers.
"""

import argparse
import os

from hf_audio_ssm.common.boundary import one_line_errors


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL", "outputs/quickstart"),
        help="a folder or a Hub repository (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the local server (default: %(default)s)")
    return parser


if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = make_parser().parse_args()

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_audio_ssm.audio.decoding import read_audio
from hf_audio_ssm.audio.frames import frames_to_seconds, samples_spanned, seconds_spanned
from hf_audio_ssm.common.errors import ClipError
from hf_audio_ssm.hub.loading import load_checkpoint
from hf_audio_ssm.inference.plots import draw_similarity, draw_spectrogram


TEST_CLIPS = Path(__file__).resolve().parents[1] / "spoken_words" / "test"
EXAMPLES = ("yes/en-us-f5.flac", "no/en-gb-m2.flac", "left/en-us-f5.flac", "stop/en-gb-m2.flac")
# With local fonts: gradio's themes load fonts from the web.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
CSS = ".gradio-container {max-width: 1100px !important; margin: auto}"
TITLE = "# What do you hear?\nRecord a sound or upload a file. The model guesses what it is."
HINT = " Click a label to see which patches of the spectrogram speak for it."
FREQUENCIES = (100, 300, 1000, 2000, 4000, 8000, 16000)


@dataclass
class Hearing:
    """
    A sound after a model.

    Args:
        input_values (`np.ndarray` of shape `(frames, mel bins)`): The model's input, padded.
        start (`float`): Where the input begins, in seconds of the file.
        end (`float`): Where the input's last frame ends, without padding, in seconds of the file.
        seconds (`float`): The length of the file.
        scores (`dict[str, float]`): Of each label.
        similarity_maps (`np.ndarray` of shape `(labels, rows, columns)`, *optional*):
            How similar each patch is to the closest prototype of each label; only for models with prototypes.
    """

    input_values: np.ndarray
    start: float
    end: float
    seconds: float
    scores: dict[str, float]
    similarity_maps: np.ndarray | None


def loudest_part(samples: np.ndarray, length: int) -> int:
    """Finds where the `length` samples with the most energy begin: a recorded word comes some time after the click."""
    if len(samples) <= length:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    parts = energy[length:] - energy[:-length]
    # If several parts hold the whole sound, the middle one.
    loudest = np.flatnonzero(parts >= (1 - 1e-6) * parts.max())
    return int(loudest[len(loudest) // 2])


def mel(hertz: float) -> float:
    """Kaldi's mel scale."""
    return 1127 * np.log1p(hertz / 700)


class Listener:
    """
    Classifies files with a checkpoint.

    Args:
        model (`str`): A folder or a Hub repository.

    Raises:
        [`InputError`]: If it cannot be loaded, or has no trained classifier.
    """

    def __init__(self, model: str):
        self.model, self.feature_extractor = load_checkpoint(model, "audio-classification", called=f"--model {model}")
        self.config = self.model.config
        with torch.no_grad():
            silence = torch.zeros(1, self.feature_extractor.max_length, self.config.num_mel_bins)
            self.has_prototypes = self.model(silence).similarity_maps is not None

    @torch.no_grad()
    def hear(self, path: str) -> Hearing:
        """
        Classifies a file. Of a long file, it uses the loudest part of the length that the model was trained on.

        Raises:
            [`ClipError`]: If the file cannot be used.
        """
        rate = self.feature_extractor.sampling_rate
        samples = read_audio(path, rate)
        longest = samples_spanned(self.feature_extractor.max_length, rate)
        start = loudest_part(samples, longest)
        part = samples[start : start + longest]
        inputs = self.feature_extractor(part, sampling_rate=rate, return_tensors="pt", return_attention_mask=True)
        # As in transformers' pipeline, the model reads padding like silence.
        frames = int(inputs.pop("attention_mask").sum())
        outputs = self.model(**inputs)
        is_multi_label = self.config.problem_type == "multi_label_classification"
        scores = outputs.logits[0].sigmoid() if is_multi_label else outputs.logits[0].softmax(dim=-1)
        return Hearing(
            inputs["input_values"][0].numpy(),
            start / rate,
            start / rate + frames_to_seconds(frames),
            len(samples) / rate,
            {self.config.id2label[index]: score for index, score in enumerate(scores.tolist())},
            outputs.similarity_maps[0].amax(dim=1).numpy() if self.has_prototypes else None,
        )

    def _axes(self, figure: Figure, hearing: Hearing, cmap: str) -> Axes:
        axes = figure.subplots()
        draw_spectrogram(axes, hearing.input_values, start=hearing.start, cmap=cmap)
        # Padding is left out.
        axes.set_xlim(hearing.start, hearing.end)
        lowest, highest = 20, self.feature_extractor.sampling_rate / 2
        shown = [hertz for hertz in FREQUENCIES if hertz <= highest]
        bins = [(mel(hertz) - mel(lowest)) / (mel(highest) - mel(lowest)) for hertz in shown]
        axes.set_yticks(np.array(bins) * hearing.input_values.shape[1], [f"{hertz / 1000:g}" for hertz in shown])
        axes.set_ylabel("frequency (kHz)")
        return axes

    def draw_input(self, hearing: Hearing) -> Figure:
        """Draws the spectrogram."""
        figure = Figure(figsize=(7, 3), layout="constrained")
        self._axes(figure, hearing, "magma").set_title("Spectrogram")
        return figure

    def draw_similarity(self, hearing: Hearing, label: str) -> Figure:
        """Draws the spectrogram, and over it which patches are similar to a label's prototypes."""
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = self._axes(figure, hearing, "gray")
        similarity_map = hearing.similarity_maps[self.config.label2id[label]]
        image = draw_similarity(axes, similarity_map, self.config, hearing.start)
        # Show padding only if its patch has the best score.
        _, columns = similarity_map.shape
        last = similarity_map.argmax() % columns * self.config.time_stride + self.config.patch_shape[1]
        axes.set_xlim(hearing.start, max(hearing.end, hearing.start + frames_to_seconds(last)))
        figure.colorbar(image, ax=axes, label="similarity")
        title = f"Similarity to the prototypes of “{label}”, {similarity_map.max():.2f} at best"
        axes.set_title(title, parse_math=False)
        return figure


def describe(hearing: Hearing) -> str:
    """Says which part of the file was used."""
    length = len(hearing.input_values)
    if hearing.seconds <= seconds_spanned(length):
        return f"The sound is {hearing.seconds:.2f} s long."
    heard = f"the loudest {frames_to_seconds(length):g} s are heard: {hearing.start:.2f} to {hearing.end:.2f} s"
    return f"Of {hearing.seconds:.1f} s, {heard}."


def make_demo(model: str) -> gr.Blocks:
    """
    Makes the page. In a clone of the repository it begins with an example.

    Raises:
        [`InputError`]: If the model cannot be used.
    """
    listener = Listener(model)
    examples = [str(TEST_CLIPS / name) for name in EXAMPLES if (TEST_CLIPS / name).is_file()]

    def hear(path: str) -> Hearing:
        try:
            return listener.hear(path)
        except ClipError as error:
            raise gr.Error(f"This sound cannot be used: {error.reason}", print_exception=False) from error

    def listen(path: str | None) -> tuple[dict[str, float] | None, str, Figure | None, Figure | None]:
        if path is None:
            return None, "", None, None
        hearing = hear(path)
        best = max(hearing.scores, key=hearing.scores.get)
        similarity = listener.draw_similarity(hearing, best) if listener.has_prototypes else None
        hint = HINT if listener.has_prototypes else ""
        return hearing.scores, describe(hearing) + hint, listener.draw_input(hearing), similarity

    def look_for(path: str | None, selected: gr.SelectData) -> Figure | None:
        return None if path is None else listener.draw_similarity(hear(path), selected.value)

    with gr.Blocks(title="Audio state-space models", analytics_enabled=False) as demo:
        gr.Markdown(TITLE)
        with gr.Row():
            with gr.Column(scale=2):
                # Without the button that sends the sound to another server.
                audio = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="Sound", buttons=["download"]
                )
                if examples:
                    names = [Path(path).parent.name for path in examples]
                    gr.Examples(examples, inputs=audio, label="Spoken words", example_labels=names)
                labels = gr.Label(num_top_classes=5, label="Labels", show_heading=True)
                note = gr.Markdown()
            with gr.Column(scale=3):
                spectrogram = gr.Plot(label="Spectrogram", show_label=False)
                similarity = gr.Plot(label="Similarity", show_label=False, visible=listener.has_prototypes)
        outputs = [labels, note, spectrogram, similarity]
        audio.change(listen, inputs=audio, outputs=outputs, api_name="listen")
        if listener.has_prototypes:
            labels.select(look_for, inputs=audio, outputs=similarity, api_name="look_for")
        if examples:
            demo.load(lambda: examples[0], outputs=audio, api_visibility="private")
    return demo


def main(model: str, port: int) -> None:
    """Serves the page."""
    demo = make_demo(model)
    # The examples may lie outside the working directory.
    demo.launch(server_port=port, theme=THEME, css=CSS, allowed_paths=[str(TEST_CLIPS)])


if __name__ == "__main__":
    with one_line_errors():
        main(parsed.model, parsed.port)
