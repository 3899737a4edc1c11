# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The demo, as somebody meets it: in a browser."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from tones import write_broken_clips, write_tone

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification


APP = Path(__file__).resolve().parents[2] / "examples" / "space" / "app.py"
pytest.importorskip("gradio")


def save(folder: Path, **kwargs) -> str:
    torch.manual_seed(0)
    labels = {"id2label": {0: "high", 1: "low"}, "label2id": {"high": 0, "low": 1}}
    config = SsambaConfig(hidden_size=16, num_hidden_layers=2, max_length=64, **labels, **kwargs)
    SsambaForAudioClassification(config).save_pretrained(folder)
    SsambaFeatureExtractor(max_length=64).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prototypical(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "prototypical"
    return save(folder, classifier_type="prototypical", num_prototypes=2, problem_type="single_label_classification")


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("space_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestListener:
    def test_prototypes(self, app, prototypical, tmp_path):
        write_tone(tmp_path / "tone.wav", 500, seconds=0.5)
        spectrogram, labels, similarity = app.Listener(prototypical).listen(str(tmp_path / "tone.wav"))
        assert labels.keys() == {"high", "low"}
        assert sum(labels.values()) == pytest.approx(1)
        best = max(labels, key=labels.get)
        assert similarity.axes[1].get_ylabel() == f"similarity to {best!r}"
        # Rows and columns of patches, over the spectrogram.
        assert similarity.axes[0].images[1].get_array().shape == (8, 4)
        assert spectrogram.axes[0].images[0].get_array().shape == (128, 64)

    def test_other_heads(self, app, tmp_path):
        folder = save(tmp_path / "linear", problem_type="multi_label_classification")
        write_tone(tmp_path / "tone.wav", 500)
        listener = app.Listener(folder)
        _, labels, similarity = listener.listen(str(tmp_path / "tone.wav"))
        assert similarity is None
        assert all(0 < score < 1 for score in labels.values())
        assert listener.listen(None) == (None, None, None)

    def test_unusable_sounds_are_told(self, app, prototypical, tmp_path):
        listener = app.Listener(prototypical)
        for name, reason in write_broken_clips(tmp_path / "broken").items():
            with pytest.raises(app.gr.Error, match=reason.split(";")[0]):
                listener.listen(str(tmp_path / "broken" / name))


@pytest.fixture
def page(prototypical):
    """The demo's page in a headless Chromium, with a microphone that beeps."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(APP), "--model", prototypical, "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, server.stderr.read()
                assert time.monotonic() < end, "the demo does not answer"
                time.sleep(0.5)
        with sync_api.sync_playwright() as playwright:
            microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *microphone])
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.set_default_timeout(60_000)
            page.foreign = []
            page.on("request", lambda request: page.foreign.append(request.url))
            page.goto(address)
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_in_a_browser(page, tmp_path):
    # An example is there from the beginning.
    page.get_by_text("high").first.wait_for()
    page.locator("img[src^='data:image'], .plot-container img, img[alt='Plot']").nth(1).wait_for()
    if picture := os.environ.get("SCREENSHOT"):
        page.wait_for_timeout(3000)
        page.screenshot(path=picture)

    # Another sound: the picture changes.
    before = page.locator("img").evaluate_all("images => images.map(image => image.src)")
    write_tone(tmp_path / "tone.wav", 3000, seconds=0.6)
    page.get_by_label("Clear").first.click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "tone.wav")
    page.wait_for_function(
        "before => { const now = [...document.images].map(image => image.src);"
        " return now.length && now.every(source => !before.includes(source)) }",
        arg=before,
    )
    # Everything came from the demo itself.
    local = ("http://127.0.0.1", "data:", "blob:")
    assert [url for url in page.foreign if not url.startswith(local)] == []
