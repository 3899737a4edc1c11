# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a pretrained encoder through adapters (LoRA, DoRA, rsLoRA or IA3) that train a small share of the parameters.

    python examples/run_lora.py --model outputs/spoken_words/best --data examples/spoken_words --output_dir out

The arguments are those of run_audio_classification.py, and of the adapters. `output_dir` receives the adapters, to be
loaded with `hf_audio_ssm.hub.adapters.load_adapted` (by the name of the base model that is given here), the feature
extractor, a model card, results and pictures; `output_dir/merged` receives an ordinary classifier, for `from_pretrained`
and `pipeline`.
"""

from dataclasses import dataclass, field

from hf_audio_ssm.common.boundary import one_line_errors
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.arguments import AugmentationFields, LabelledDataFields
from hf_audio_ssm.training.arguments import ADAPTER_METHODS, ClassifierFields, FineTuningFields
from hf_audio_ssm.training.command_line import parse_script_arguments


@dataclass
class AdapterArguments:
    """The adapters."""

    _argument_group_name = "adapters"

    method: str = field(default="lora", metadata={"help": f"One of {', '.join(ADAPTER_METHODS)}."})
    rank: int = field(default=8, metadata={"help": "Rank of LoRA, DoRA and rsLoRA."})
    alpha: float = field(
        default=8.0, metadata={"help": "Scale of their updates: alpha / rank (rsLoRA: alpha / root of rank)."}
    )
    adapter_dropout: float = field(default=0.0, metadata={"help": "Dropout on the adapters' input."})
    target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules to adapt. Default: all projections of the encoder."}
    )
    bias: str = field(
        default="none", metadata={"help": "Biases that train too: none, all, or lora_only (of adapted modules)."}
    )
    load_in_8bit: bool = field(default=False, metadata={"help": "Keep the base in 8 bits; needs bitsandbytes."})

    def __post_init__(self):
        if self.method not in ADAPTER_METHODS:
            raise InputError(f"--method must be one of {', '.join(ADAPTER_METHODS)}, got {self.method!r}")
        if self.rank < 1:
            raise InputError(f"--rank must be at least 1, got {self.rank}")
        if not 0 <= self.adapter_dropout < 1:
            raise InputError(f"--adapter_dropout must be at least 0 and below 1, got {self.adapter_dropout}")
        if self.bias not in ("none", "all", "lora_only"):
            raise InputError(f"--bias must be none, all or lora_only, got {self.bias!r}")
        if self.method == "ia3" and self.bias != "none":
            raise InputError(f"--bias must be none with --method ia3, got {self.bias!r}")


ARGUMENTS = (AdapterArguments, LabelledDataFields, ClassifierFields, AugmentationFields, FineTuningFields)

if __name__ == "__main__":
    # --help and errors of usage do not wait for the libraries below.
    parsed = parse_script_arguments(ARGUMENTS, __doc__)

import copy
from pathlib import Path

import peft
import run_audio_classification
from transformers import BitsAndBytesConfig, PreTrainedModel

from hf_audio_ssm.data.augmentation import AugmentationArguments
from hf_audio_ssm.data.labelled import LabelledClips, LabelledDataArguments
from hf_audio_ssm.hub.adapters import adapter_config, merge_adapted
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments, FineTuningTrainer


def adapt(adapters: AdapterArguments, classifier: ClassifierArguments, clips: LabelledClips) -> peft.PeftModel:
    """Loads the base model and puts adapters into it."""
    options = {}
    if adapters.load_in_8bit:
        # The head trains in full precision.
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["classifier"])
    base = classifier.load_model(clips, **options)
    if adapters.load_in_8bit:
        base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    settings = {} if adapters.target_modules is None else {"target_modules": adapters.target_modules}
    if adapters.method != "ia3":
        settings |= {
            "r": adapters.rank,
            "lora_alpha": adapters.alpha,
            "lora_dropout": adapters.adapter_dropout,
            "bias": adapters.bias,
        }
    try:
        return peft.get_peft_model(base, adapter_config(base, adapters.method, **settings))
    except ValueError as error:
        raise InputError(f"--target_modules: {error}") from error


def save_merged(trainer: FineTuningTrainer) -> dict[Path, str]:
    """Saves the merged classifier; returns its folder, and a sentence on the results for its card."""
    folder = Path(trainer.args.output_dir) / "merged"
    merge_adapted(copy.deepcopy(trainer.model)).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    return {folder: "They were measured with the adapters, before these were merged into the weights."}


def main(
    adapters: AdapterArguments,
    data: LabelledDataArguments,
    classifier: ClassifierArguments,
    augmentation: AugmentationArguments,
    training: FineTuningArguments,
) -> list[dict[str, float]]:
    """Runs once, or once for each fold; returns the metrics on the test split of each run."""

    def load_model(clips: LabelledClips) -> PreTrainedModel:
        model = adapt(adapters, classifier, clips)
        model.print_trainable_parameters()
        return model

    return run_audio_classification.main(data, classifier, augmentation, training, load_model, save_merged)


if __name__ == "__main__":
    with one_line_errors():
        main(*parsed)
