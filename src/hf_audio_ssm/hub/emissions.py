# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The CO2 emissions of a training, for its card, if codecarbon measured all of it."""

import os
from typing import Any

from transformers import Trainer
from transformers.integrations import CodeCarbonCallback


def describe_emissions(kilograms: float, version: str, training_type: str, more: str) -> dict[str, Any]:
    """
    What a card says of emissions.

    Args:
        kilograms (`float`): The emissions in kilograms of CO2, as codecarbon gives them.
        version (`str`): The version of codecarbon.
        training_type (`str`): "pre-training" or "fine-tuning", as in the Hub's metadata.
        more (`str`): What the estimate rests on.

    Returns:
        `dict[str, Any]`: the metadata `co2_eq_emissions`, and `text`, for the card's table.
    """
    grams, source = 1000 * kilograms, f"CodeCarbon {version}"
    # The place is not in the metadata: where codecarbon cannot find it, it assumes one.
    return {
        "emissions": grams,
        "source": source,
        "training_type": training_type,
        "text": f"{grams:.3g} g, as {source} estimated{more}",
    }


def is_one_machine(world_size: int) -> bool:
    """Whether all of `world_size` processes run on this machine, which is what codecarbon measures."""
    return world_size == int(os.environ.get("LOCAL_WORLD_SIZE", world_size))


def trainer_emissions(trainer: Trainer) -> dict[str, Any] | None:
    """
    The emissions of a finished training.

    Args:
        trainer (`Trainer`): After training with `--report_to codecarbon`.

    Returns:
        `dict[str, Any]`: See [`describe_emissions`]; None, if codecarbon did not measure all of the training.
    """
    # Of a resumed training, only the part since was measured.
    if trainer.args.resume_from_checkpoint or not is_one_machine(trainer.args.world_size):
        return None
    for callback in trainer.callback_handler.callbacks:
        measured = isinstance(callback, CodeCarbonCallback) and getattr(callback.tracker, "final_emissions_data", None)
        if measured:
            place = ", ".join(name for name in (measured.region, measured.country_name) if name)
            more = (
                f" from {measured.energy_consumed:.3g} kWh, with the electricity of {place} (found or assumed by it)"
            )
            return describe_emissions(measured.emissions, measured.codecarbon_version, "fine-tuning", more)
    return None


class PretrainingEmissions:
    """
    Measures a training loop, from the creation of this object.

    Args:
        output_dir (`str`): The folder for codecarbon's `emissions.csv`, which tells what its estimate rests on.
    """

    def __init__(self, output_dir: str):
        import codecarbon

        self.version = codecarbon.__version__
        self.tracker = codecarbon.EmissionsTracker(output_dir=output_dir, log_level="error")
        self.tracker.start()

    def describe(self) -> dict[str, Any] | None:
        """The emissions so far, see [`describe_emissions`]; None, if codecarbon cannot tell."""
        kilograms = self.tracker.flush()
        if kilograms is None:
            return None
        return describe_emissions(
            kilograms, self.version, "pre-training", "; emissions.csv of the run tells from what"
        )

    def stop(self) -> None:
        """Ends the measurement."""
        self.tracker.stop()
