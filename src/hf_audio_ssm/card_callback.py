# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""A model card at each save of a training, of what has been measured until then."""

from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import ModelCard
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes a card as `README.md` into a folder, whole or not at all."""
    partial = folder / ".README.md.partial"
    card.save(partial)
    partial.replace(folder / "README.md")


class ModelCardCallback(TrainerCallback):
    """
    Writes a card into the checkpoint, and into the output folder, each time the Trainer saves.

    Args:
        make_card (`Callable[[Mapping[str, float], TrainerState], ModelCard]`):
            Makes the card, such as by [`~model_card.classifier_card`], of the metrics that the last evaluation measured
            (by the Trainer's names, `eval_accuracy`; none before the first evaluation) and the Trainer's state.

    Example:

    ```python
    >>> trainer.add_callback(ModelCardCallback(lambda metrics, state: make_my_card(metrics)))
    ```
    """

    def __init__(self, make_card: Callable[[Mapping[str, float], TrainerState], ModelCard]):
        self.make_card = make_card

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Called by the Trainer."""
        if not state.is_world_process_zero:
            return
        evaluations = [entry for entry in state.log_history if any(name.startswith("eval_") for name in entry)]
        metrics = {name: value for name, value in (evaluations or [{}])[-1].items() if name.startswith("eval_")}
        card = self.make_card(metrics, state)
        output_dir = Path(args.output_dir)
        for folder in (output_dir / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", output_dir):
            if folder.is_dir():
                write_card(card, folder)
