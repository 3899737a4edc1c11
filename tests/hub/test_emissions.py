# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The CO2 of a training: what codecarbon measured, all of it or nothing."""

import sys
from types import SimpleNamespace

import pytest
from transformers.integrations import CodeCarbonCallback

from hf_audio_ssm.hub.emissions import PretrainingEmissions, is_one_machine, trainer_emissions


# As in CodeCarbon 3.3.2, for a run of 5 s.
MEASURED = SimpleNamespace(
    emissions=1.5346e-07,
    codecarbon_version="3.3.2",
    energy_consumed=3.8976e-05,
    region="quebec",
    country_name="Canada",
)


def make_trainer(tracker, resume_from_checkpoint=None, world_size=1):
    """What is read of a Trainer."""
    callback = CodeCarbonCallback.__new__(CodeCarbonCallback)
    callback.tracker = tracker
    arguments = SimpleNamespace(resume_from_checkpoint=resume_from_checkpoint, world_size=world_size)
    return SimpleNamespace(args=arguments, callback_handler=SimpleNamespace(callbacks=[object(), callback]))


def test_what_codecarbon_measured():
    emissions = trainer_emissions(make_trainer(SimpleNamespace(final_emissions_data=MEASURED)))
    assert emissions.pop("text") == (
        "0.000153 g, as CodeCarbon 3.3.2 estimated from 3.9e-05 kWh, with the electricity of quebec, Canada (found or "
        "assumed by it)"
    )
    assert emissions == {
        "emissions": pytest.approx(1.5346e-04),
        "source": "CodeCarbon 3.3.2",
        "training_type": "fine-tuning",
    }


def test_nothing_where_it_is_not_all_known(monkeypatch):
    assert trainer_emissions(make_trainer(SimpleNamespace())) is None
    tracker = SimpleNamespace(final_emissions_data=MEASURED)
    assert trainer_emissions(make_trainer(tracker, resume_from_checkpoint="checkpoint-4")) is None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert is_one_machine(2)
    assert trainer_emissions(make_trainer(tracker, world_size=4)) is None


def test_of_a_loop(monkeypatch):
    """With a stand-in that measures a gram at each asking, and then cannot."""

    class Tracker:
        def __init__(self, output_dir, log_level):
            self.grams, self.running = 0, False

        def start(self):
            self.running = True

        def flush(self):
            self.grams += 1
            return self.grams / 1000 if self.grams < 3 else None

        def stop(self):
            self.running = False

    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(EmissionsTracker=Tracker, __version__="3.3.2"))
    emissions = PretrainingEmissions("out")
    assert emissions.tracker.running
    assert emissions.describe()["emissions"] == 1
    described = emissions.describe()
    assert described["text"] == "2 g, as CodeCarbon 3.3.2 estimated; emissions.csv of the run tells from what"
    assert (described["emissions"], described["training_type"]) == (2, "pre-training")
    assert emissions.describe() is None
    emissions.stop()
    assert not emissions.tracker.running
