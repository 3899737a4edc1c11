# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
A demo in the browser: record or upload a sound, and see its spectrogram, its labels and, where the model has prototypes,
which patches speak for the likeliest label.

    python examples/space/app.py --model outputs/quickstart

On a Space of the Hub, the variable MODEL names the checkpoint. Needs gradio; nothing is asked of other servers.
"""

import argparse
import os
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_audio_ssm.data.decoding import read_audio
from hf_audio_ssm.data.folders import list_audio
from hf_audio_ssm.errors import ClipError


CLIPS = Path(__file__).resolve().parents[1] / "spoken_words" / "test" / "yes"
# Of local fonts: the usual themes load theirs from the web.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def draw_spectrogram(spectrogram: np.ndarray, similarity: np.ndarray | None = None, label: str = "") -> Figure:
    """
    Draws a spectrogram and, over it, how similar each patch is to a label's prototypes.

    Args:
        spectrogram (`np.ndarray` of shape `(frames, mel bins)`): As the model sees it.
        similarity (`np.ndarray` of shape `(rows, columns)`, *optional*): By frequency and time.
        label (`str`, *optional*): The label.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    extent = (0, len(spectrogram) / 100, 0, spectrogram.shape[1])
    grey = "magma" if similarity is None else "gray"
    axes.imshow(spectrogram.T, origin="lower", aspect="auto", extent=extent, cmap=grey)
    if similarity is not None:
        # Transparent where nothing is similar.
        share = similarity / max(similarity.max(), 1e-6)
        image = axes.imshow(
            similarity, origin="lower", aspect="auto", extent=extent, cmap="viridis", alpha=0.7 * share
        )
        figure.colorbar(image, ax=axes, label=f"similarity to {label!r}")
    axes.set(xlabel="time (s)", ylabel="mel bin")
    return figure


class Listener:
    """
    A checkpoint that listens to files.

    Args:
        model (`str`): A folder or a Hub repository.
    """

    def __init__(self, model: str):
        self.model = AutoModelForAudioClassification.from_pretrained(model).eval()
        self.feature_extractor = AutoFeatureExtractor.from_pretrained(model)
        self.has_prototypes = self.model.config.classifier_type == "prototypical"

    @torch.no_grad()
    def listen(self, path: str | None) -> tuple[Figure | None, dict[str, float] | None, Figure | None]:
        """The spectrogram, the labels' scores, and the similarity map (of models with prototypes) of an audio file."""
        if path is None:
            return None, None, None
        rate, config = self.feature_extractor.sampling_rate, self.model.config
        try:
            samples = read_audio(path, rate)
        except ClipError as error:
            raise gr.Error(error.reason) from error
        inputs = self.feature_extractor(samples, sampling_rate=rate, return_tensors="pt")
        outputs = self.model(**inputs)
        is_multi_label = config.problem_type == "multi_label_classification"
        scores = outputs.logits[0].sigmoid() if is_multi_label else outputs.logits[0].softmax(dim=-1)
        spectrogram = inputs["input_values"][0].numpy()
        map_figure = None
        if self.has_prototypes:
            best = int(scores.argmax())
            similarity = outputs.similarity_maps[0, best].amax(dim=0).numpy()
            map_figure = draw_spectrogram(spectrogram, similarity, config.id2label[best])
        labels = {config.id2label[index]: float(score) for index, score in enumerate(scores)}
        return draw_spectrogram(spectrogram), labels, map_figure


def make_demo(model: str) -> gr.Blocks:
    """The page; it begins with an example."""
    listener = Listener(model)
    examples = [str(path) for path in list_audio(CLIPS)[:5]] if CLIPS.is_dir() else []
    with gr.Blocks(title="Audio state-space models") as demo:
        gr.Markdown("# What do you hear?\nRecord a sound or upload a file; the model tells what it takes it for.")
        with gr.Row():
            with gr.Column():
                audio = gr.Audio(sources=["microphone", "upload"], type="filepath", label="Sound")
                labels = gr.Label(num_top_classes=5, label="Labels")
            with gr.Column():
                spectrogram = gr.Plot(label="Spectrogram")
                similarity = gr.Plot(label="Where the prototypes are", visible=listener.has_prototypes)
        if examples:
            gr.Examples(examples, inputs=audio)
        audio.change(listener.listen, inputs=audio, outputs=[spectrogram, labels, similarity])
        if examples:
            demo.load(lambda: examples[0], outputs=audio)
    return demo


def main() -> None:
    """Serves the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=os.environ.get("MODEL", "outputs/quickstart"), help="a folder or a Hub repository"
    )
    parser.add_argument("--port", type=int, default=7860, help="of the local server (default: %(default)s)")
    arguments = parser.parse_args()
    make_demo(arguments.model).launch(server_port=arguments.port, theme=THEME)


if __name__ == "__main__":
    main()
