# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes a model card at each save of a training, with what was measured until then."""

from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import ModelCard
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..common.text_files import write_text


def write_card(card: ModelCard, folder: Path) -> None:
    """Writes a card as `README.md` into a folder, whole or not at all."""
    write_text(folder / "README.md", str(card))


class ModelCardCallback(TrainerCallback):
    """
    Writes a card into the checkpoint and into the output folder, each time the Trainer saves, and before it pushes.

    Args:
        make_card (`Callable[[Mapping[str, float], TrainerState, Path], ModelCard]`):
            Makes the card, for example by [`~hub.cards.classifier_card`]. It is given the metrics of the last evaluation (by
            the Trainer's names, such as `eval_accuracy`, and with its `step`; empty before the first evaluation), the
            Trainer's state, and the folder that the card is for.

    Example:

    ```python
    >>> trainer.add_callback(ModelCardCallback(lambda metrics, state, folder: make_my_card(metrics)))
    ```
    """

    def __init__(self, make_card: Callable[[Mapping[str, float], TrainerState, Path], ModelCard]):
        self.make_card = make_card

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        """Called by the Trainer."""
        if not state.is_world_process_zero:
            return
        evaluations = [entry for entry in state.log_history if any(name.startswith("eval_") for name in entry)]
        last = (evaluations or [{}])[-1]
        metrics = {name: value for name, value in last.items() if name.startswith("eval_") or name == "step"}
        output_dir = Path(args.output_dir)
        for folder in (output_dir / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", output_dir):
            if folder.is_dir():
                write_card(self.make_card(metrics, state, folder), folder)

    # The Trainer pushes a checkpoint before it calls `on_save`.
    on_push_begin = on_save
