# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the demo makes of a sound, and its page in a browser."""

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
import torch
from snippets import copy_few_words, read_snippets, run_snippet
from tones import write_broken_clips, write_tone

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification


ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples" / "space" / "app.py"
RATE = 16_000
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
    sys.modules["space_app"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["space_app"]


@pytest.fixture
def late_tone(tmp_path) -> Path:
    """Two seconds that are loud from 1.2 to 1.5 s."""
    samples = np.zeros(2 * RATE)
    samples[int(1.2 * RATE) : int(1.5 * RATE)] = np.sin(2 * np.pi * 500 * np.arange(int(0.3 * RATE)) / RATE)
    soundfile.write(tmp_path / "late.wav", samples, RATE)
    return tmp_path / "late.wav"


class TestListener:
    def test_prototypes(self, app, prototypical, tmp_path):
        write_tone(tmp_path / "tone.wav", 500, seconds=0.5)
        listener = app.Listener(prototypical)
        hearing = listener.hear(str(tmp_path / "tone.wav"))
        assert hearing.scores.keys() == {"high", "low"}
        assert sum(hearing.scores.values()) == pytest.approx(1)
        assert (hearing.start, hearing.end, hearing.seconds) == (0, pytest.approx(0.48), 0.5)
        # Rows and columns of patches for each label: of the prototypes, the closest.
        inputs = listener.feature_extractor(
            soundfile.read(tmp_path / "tone.wav")[0], sampling_rate=RATE, return_tensors="pt"
        )
        with torch.no_grad():
            maps = listener.model(**inputs).similarity_maps[0]
        assert maps.shape == (2, 2, 8, 4)
        np.testing.assert_allclose(hearing.similarity_maps, maps.numpy().max(axis=1), atol=1e-6)
        assert app.describe(hearing) == "The sound is 0.50 s long."

    def test_pictures(self, app, prototypical, tmp_path):
        write_tone(tmp_path / "tone.wav", 500, seconds=0.5)
        listener = app.Listener(prototypical)
        hearing = listener.hear(str(tmp_path / "tone.wav"))
        (axes,) = listener.draw_input(hearing).axes
        assert axes.images[0].get_array().shape == (128, 64)
        # Without the padding; a tone of 500 Hz is where the axis says.
        assert axes.get_xlim() == (0, pytest.approx(0.48))
        loudest = axes.images[0].get_array()[:, 20].argmax()
        ticks = {
            label.get_text(): place for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        }
        assert ticks["0.3"] < loudest < ticks["1"]
        assert list(ticks) == ["0.1", "0.3", "1", "2", "4", "8"]
        assert ticks["8"] == 128

        for label in ("high", "low"):
            axes, bar = listener.draw_similarity(hearing, label).axes
            assert label in axes.get_title()
            shown = axes.images[1].get_array()
            np.testing.assert_allclose(shown, hearing.similarity_maps[listener.config.label2id[label]])
            row, column = np.unravel_index(shown.argmax(), shown.shape)
            (frame,) = axes.patches
            assert frame.get_xy() == (pytest.approx(0.16 * column), 16 * row)
            # A patch that scores is seen, also in the padding.
            assert axes.get_xlim()[1] >= 0.16 * (column + 1) - 1e-9
            assert bar.get_ylabel() == "similarity"

    def test_other_heads(self, app, tmp_path):
        folder = save(tmp_path / "linear", problem_type="multi_label_classification")
        write_tone(tmp_path / "tone.wav", 500)
        hearing = app.Listener(folder).hear(str(tmp_path / "tone.wav"))
        assert hearing.similarity_maps is None
        assert all(0 < score < 1 for score in hearing.scores.values())
        assert sum(hearing.scores.values()) != pytest.approx(1, abs=1e-3)

    def test_the_loudest_part_of_long_sounds(self, app, prototypical, late_tone):
        hearing = app.Listener(prototypical).hear(str(late_tone))
        assert hearing.start < 1.2
        assert hearing.end > 1.5
        assert hearing.end - hearing.start == pytest.approx(0.64)
        assert re.fullmatch(
            r"Of 2.0 s, the loudest 0.64 s are heard: [01]\.\d\d to 1\.\d\d s\.", app.describe(hearing)
        )


def listen(demo, path: str | None) -> list:
    """What the page's event gives the labels, the note, the spectrogram and the similarity."""
    (function,) = (function.fn for function in demo.fns.values() if function.api_name == "listen")
    return function(path)


class TestPage:
    def test_a_sound(self, app, prototypical, tmp_path):
        write_tone(tmp_path / "tone.wav", 500)
        labels, note, spectrogram, similarity = listen(app.make_demo(prototypical), str(tmp_path / "tone.wav"))
        assert max(labels, key=labels.get) in similarity.axes[0].get_title()
        assert note.startswith("The sound is 0.30 s long. Click a label")
        assert spectrogram.axes[0].get_title() == "Spectrogram"

    def test_no_sound(self, app, prototypical):
        assert listen(app.make_demo(prototypical), None) == (None, "", None, None)

    def test_no_prototypes(self, app, tmp_path):
        write_tone(tmp_path / "tone.wav", 500)
        demo = app.make_demo(save(tmp_path / "linear", problem_type="single_label_classification"))
        labels, note, spectrogram, similarity = listen(demo, str(tmp_path / "tone.wav"))
        assert similarity is None
        assert note == "The sound is 0.30 s long."

    def test_unusable_sounds_are_told(self, app, prototypical, tmp_path):
        demo = app.make_demo(prototypical)
        for name, reason in write_broken_clips(tmp_path / "broken").items():
            with pytest.raises(app.gr.Error, match=re.escape(reason.split(";")[0])):
                listen(demo, str(tmp_path / "broken" / name))

    def test_no_model(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["app.py", "--model", "no/model"])
        with pytest.raises(SystemExit, match="error: --model no/model cannot be loaded"):
            runpy.run_path(str(APP), run_name="__main__")


@contextmanager
def serve(command: str, folder: Path, python: Path | str = sys.executable) -> Iterator[str]:
    """Runs `python SCRIPT ARGUMENT...`, which serves the demo; gives its address."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Unbuffered: the line that is waited for would stay in the server's buffer.
    command = [python, "-u", *arguments, "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert any("Running on" in line for line in server.stdout)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def check_page(address: str) -> None:
    with urlopen(address, timeout=60) as page:
        assert "Audio state-space models" in page.read().decode()


def test_the_way_to_the_picture(tmp_path):
    """Of the page on deployment, with fewer clips, steps and passes."""
    (tmp_path / "examples").mkdir()
    for name in ("configs", "run_pretrain.py", "run_probing.py", "space"):
        (tmp_path / "examples" / name).symlink_to(ROOT / "examples" / name)
    copy_few_words(tmp_path, {"train": 3, "validation": 1, "test": 1})
    snippet = read_snippets(ROOT / "docs" / "tutorials" / "deployment.md")["picture"]
    pretrain, probe, show = snippet[1].splitlines()
    steps = " --max_steps 2 --eval_steps 2 --per_device_train_batch_size 2 --num_workers 0 --report_to none"
    run_snippet(("bash", pretrain), tmp_path, steps)
    run_snippet(("bash", probe), tmp_path, " --epochs 1")
    with serve(show, tmp_path) as address:
        check_page(address)


@pytest.mark.slow
def test_its_readme(tmp_path, fresh_environment, monkeypatch):
    """In a clone, where the packages that the extra asks for are installed already."""
    clone, programs = tmp_path / "clone", fresh_environment / "bin"
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "outputs", "__pycache__")
    shutil.copytree(ROOT, clone, ignore=ignored)
    save(clone / "outputs" / "quickstart")
    install, show = read_snippets(APP.parent / "README.md")["serve"][1].splitlines()
    (programs / "pip").write_text(f'#!/bin/sh\nexec "{programs}/python" -m pip "$@"\n')
    (programs / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert "Successfully installed hf-audio-ssm" in run_snippet(("bash", install), clone)
    with serve(show, clone, programs / "python") as address:
        check_page(address)


@pytest.fixture
def address(prototypical):
    with serve(f"python {APP} --model {prototypical}", APP.parent) as address:
        yield address


@pytest.mark.slow
def test_in_a_browser(address, late_tone, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    write_tone(tmp_path / "tone.wav", 2000, seconds=0.5)
    # The microphone hears the tone again and again.
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    microphone.append(f"--use-file-for-fake-audio-capture={late_tone}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", *microphone])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        playwright.expect.set_options(timeout=120_000)
        asked, failures = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)

        note = page.get_by_text(re.compile("The sound is|the loudest"))
        pictures = page.locator(".matplotlib img")
        labels = page.get_by_role("button", name=re.compile(r"(high|low)\s*\d+%"))

        def check_pictures() -> list[str]:
            playwright.expect(pictures).to_have_count(2)
            for picture in pictures.all():
                picture.evaluate("image => image.decode()")
                assert picture.evaluate("image => image.naturalWidth") > 300
            return [picture.get_attribute("src") for picture in pictures.all()]

        # It begins with an example.
        playwright.expect(note).to_contain_text("The sound is 0.58 s long")
        first = check_pictures()

        page.get_by_role("button", name="Clear").click()
        playwright.expect(pictures).to_have_count(0)
        page.locator("input[type=file]").set_input_files(late_tone)
        playwright.expect(note).to_contain_text("Of 2.0 s, the loudest 0.64 s are heard")
        playwright.expect(labels).to_have_count(2)
        second = check_pictures()
        assert second[0] != first[0]

        # The other label's map.
        labels.nth(1).click()
        playwright.expect(pictures.nth(1)).not_to_have_attribute("src", second[1])
        third = check_pictures()
        assert third[0] == second[0]

        page.get_by_role("button", name="Clear").click()
        (tmp_path / "broken.wav").write_text("this is no audio")
        page.locator("input[type=file]").set_input_files(tmp_path / "broken.wav")
        playwright.expect(page.get_by_test_id("toast-body")).to_contain_text("This sound cannot be used")

        page.reload()
        playwright.expect(note).to_contain_text("The sound is 0.58 s long")
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2500)
        page.get_by_test_id("waveform-Sound").get_by_role("button", name="Stop").click()
        playwright.expect(note).to_contain_text("the loudest 0.64 s are heard")
        check_pictures()
        browser.close()
    assert not failures
    assert {re.match(r"(\w+://[^/]+|\w+:)", url).group() for url in asked} <= {address, "data:", "blob:"}
