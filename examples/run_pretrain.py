# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pretrains an audio encoder without labels, from raw audio to a checkpoint; by default, by masked spectrogram patch modelling.

    python examples/run_pretrain.py examples/configs/spoken_words.yaml
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --train_data audio/ --output_dir out
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --resume_from_checkpoint latest

Arguments come from YAML or JSON files, from the command line, or from both. Later arguments override earlier ones.

`output_dir` receives:

    checkpoints/step-N/   all that a run needs to continue exactly (the newest `save_total_limit`)
    evaluations/step-N/   the model at each evaluation, for `from_pretrained` (the newest `save_total_limit`)
    best/                 the best of these models so far
    pictures/step-N.png   what was masked, its reconstruction and their difference
    logs/                 losses, for TensorBoard or another tracker
    skipped_clips.csv     clips that could not be used, and why
"""

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.training.command_line import parse_arguments as parse_dataclasses
from hf_audio_ssm.training.command_line import parse_script_arguments
from hf_audio_ssm.training.pretraining.arguments import (
    PretrainingArguments,
    PretrainingDataArguments,
    PretrainingModelArguments,
)


ARGUMENTS = (PretrainingDataArguments, PretrainingModelArguments, PretrainingArguments)

if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_script_arguments(ARGUMENTS, __doc__)

from hf_audio_ssm.training.pretraining.run import PretrainingRun


def parse_arguments(
    command_line: list[str],
) -> tuple[PretrainingDataArguments, PretrainingModelArguments, PretrainingArguments]:
    """The arguments of the files that lead the command line, then those of the command line."""
    return parse_dataclasses(ARGUMENTS, command_line, __doc__.splitlines()[0])


def main(
    data: PretrainingDataArguments, model: PretrainingModelArguments, arguments: PretrainingArguments
) -> dict[str, float]:
    """Does all steps; returns the metrics of the last evaluation."""
    run = PretrainingRun(data, model, arguments)
    run.setup()
    while run.goes_on():
        run.train_step()
        if run.is_due(arguments.logging_steps):
            run.log()
        if run.is_due(arguments.eval_steps):
            run.evaluate()
        if run.is_due(arguments.save_steps) or run.is_asked_to_stop:
            run.save()
    return run.finish()


if __name__ == "__main__":
    with one_line_errors():
        main(*parsed)
