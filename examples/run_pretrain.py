# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pretrains an audio encoder without labels, by masked spectrogram patch modelling, from raw audio to a checkpoint.

    python examples/run_pretrain.py examples/configs/spoken_words.yaml
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --train_data audio/ --output_dir out
    accelerate launch examples/run_pretrain.py examples/configs/ssamba_tiny_400.yaml --resume_from_checkpoint latest

Arguments come from YAML or JSON files, the command line, or both; what comes later wins. `main`, at the end of this file,
is the whole run in order: the encoder, the data, the optimiser, then step by step, with evaluations and checkpoints.

`output_dir` gets:

    checkpoints/step-N/   all that it takes to continue exactly (the newest `save_total_limit`)
    evaluations/step-N/   the model, loadable by `from_pretrained`, at each evaluation (as many), and `best/` so far
    pictures/step-N.png   what was masked, its reconstruction and their difference
    logs/                 losses, for TensorBoard or another tracker
    skipped_clips.csv     clips that could not be used, and why
"""

import functools
import math
import signal
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from PIL import Image
from tqdm import tqdm
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForPreTraining, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.filter_banks import cache_filter_banks
from hf_audio_ssm.data.pretraining import PretrainingExamples
from hf_audio_ssm.data.sources import load_and_hold_out, load_sources
from hf_audio_ssm.data.statistics import filter_bank_statistics
from hf_audio_ssm.hub.cards import Results, pretrained_card, read_base_model
from hf_audio_ssm.hub.emissions import PretrainingEmissions, is_one_machine
from hf_audio_ssm.hub.push import explaining_push
from hf_audio_ssm.models.patch_encoder.masked_patch_modeling import (
    discriminative_loss,
    generative_loss,
    usual_num_masked_patches,
)
from hf_audio_ssm.models.patch_encoder.packing import count_kept_patches
from hf_audio_ssm.training.command_line import parse_arguments as parse_dataclasses
from hf_audio_ssm.training.pretraining.arguments import (
    PretrainingArguments,
    PretrainingDataArguments,
    PretrainingModelArguments,
)
from hf_audio_ssm.training.pretraining.batches import TrainingBatches
from hf_audio_ssm.training.pretraining.evaluation import LOSSES, Evaluation, to_device
from hf_audio_ssm.training.pretraining.run_folder import RunFolder, comparable, read_checkpoint
from hf_audio_ssm.training.pretraining.schedule import Schedule


DIVERGED = "a lower --learning_rate, or --max_grad_norm 1, or a wider --mixed_precision may help. The last checkpoint is untouched"
ARGUMENTS = (PretrainingDataArguments, PretrainingModelArguments, PretrainingArguments)


def parse_arguments(
    command_line: list[str],
) -> tuple[PretrainingDataArguments, PretrainingModelArguments, PretrainingArguments]:
    """The leading files' arguments, then those of the command line."""
    return parse_dataclasses(ARGUMENTS, command_line, __doc__.splitlines()[0])


# ---- The encoder and the data ----


def make_model(arguments: PretrainingModelArguments) -> tuple[PreTrainedModel, FeatureExtractionMixin]:
    """A new model for pretraining, or one to go on from, and its feature extractor."""
    source = arguments.model_name_or_path
    try:
        if source is not None:
            model = AutoModelForPreTraining.from_pretrained(source, **arguments.overrides)
            # Fields that are set on a loaded configuration are not checked by it.
            model.config.validate()
            feature_extractor = AutoFeatureExtractor.from_pretrained(source)
            feature_extractor.max_length = arguments.overrides.get("max_length", feature_extractor.max_length)
            return model, feature_extractor
        config = AutoConfig.for_model(arguments.model_type)
        unknown = [name for name in arguments.overrides if not hasattr(config, name)]
        if unknown:
            raise InputError(f"--config_overrides: {type(config).__name__} has no field {unknown[0]!r}")
        config = AutoConfig.for_model(arguments.model_type, **arguments.overrides)
        model = AutoModelForPreTraining.from_config(config)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"cannot make the model {source or arguments.model_type}: {error}") from error
    feature_extractor = FEATURE_EXTRACTOR_MAPPING[type(config)](
        max_length=config.max_length, num_mel_bins=config.num_mel_bins
    )
    return model, feature_extractor


def load_data(
    arguments: PretrainingDataArguments, seed: int
) -> tuple[datasets.Dataset | datasets.IterableDataset, datasets.Dataset]:
    """The clips to train and to evaluate on."""
    if not arguments.eval_data:
        return load_and_hold_out(arguments.train_data, arguments.train_weights, arguments.num_eval_clips, seed)
    train = load_sources(arguments.train_data, arguments.train_weights, arguments.streaming, seed)
    evaluation = load_sources(arguments.eval_data, streaming=arguments.streaming)
    if arguments.streaming:
        return train, datasets.Dataset.from_list(list(evaluation.take(arguments.num_eval_clips)))
    count = min(arguments.num_eval_clips, len(evaluation))
    return train, evaluation.shuffle(seed=seed).select(range(count)) if count < len(evaluation) else evaluation


def compute_mean_std(feature_extractor: FeatureExtractionMixin, dataset, limit: int = 2000) -> tuple[float, float]:
    """Mean and standard deviation of the filter banks of clips: any 2000, of a stream its first."""
    if isinstance(dataset, datasets.Dataset) and len(dataset) > limit:
        # Of all sources.
        dataset = dataset.shuffle(seed=0)

    # Clips that cannot be used are reported when their turn comes in training.
    return filter_bank_statistics(feature_extractor, dataset, limit, skip_unreadable=True)


# ---- The run ----


def compute_losses(model, encoder: PreTrainedModel, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    loss, nce, mse and accuracy of a batch: with one mask the model's own; with two, of one pass over the clips twice.
    `encoder` is `model` without what accelerate put around it.
    """
    inputs, mask = batch["input_values"], batch["bool_masked_pos"]
    if "generative_bool_masked_pos" not in batch:
        outputs = model(input_values=inputs, bool_masked_pos=mask)
        return {name: outputs[name] for name in LOSSES}
    masks = torch.cat((mask, batch["generative_bool_masked_pos"]))
    outputs = model(input_values=torch.cat((inputs, inputs)), bool_masked_pos=masks, return_loss=False)
    # Without the patches that patchout left out.
    mask, generative_mask = outputs.mask.bool().tensor_split((len(inputs),))
    patches = encoder.patchify(inputs).float()
    nce, accuracy = discriminative_loss(patches, outputs.discriminative_predictions[: len(inputs)].float(), mask)
    mse = generative_loss(patches, outputs.generative_predictions[len(inputs) :].float(), generative_mask)
    return {
        "loss": nce + encoder.config.generative_loss_weight * mse,
        "nce": nce,
        "mse": mse,
        "accuracy": accuracy,
    }


def log_picture(accelerator: Accelerator, picture: Path, step: int) -> None:
    """Shows a picture in TensorBoard, if that is where the losses go."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard" and accelerator.is_main_process:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            tracker.writer.add_image("reconstruction", pixels, step, dataformats="HWC")


def main(
    data: PretrainingDataArguments, model_arguments: PretrainingModelArguments, arguments: PretrainingArguments
) -> dict[str, float]:
    """Runs all steps; returns the last evaluation."""
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        dynamo_backend="inductor" if arguments.torch_compile else None,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_config=ProjectConfiguration(arguments.output_dir, f"{arguments.output_dir}/logs"),
    )
    is_main = accelerator.is_main_process
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())

    # 1. The encoder: equal weights in all processes, then random numbers of their own.
    set_seed(arguments.seed)
    model, feature_extractor = make_model(model_arguments)
    set_seed(arguments.seed, device_specific=True)
    config = model.config
    grid = config.patch_grid(feature_extractor.max_length)
    num_patches = math.prod(grid)
    num_masked_patches = config.num_masked_patches or usual_num_masked_patches(grid)
    if num_masked_patches >= num_patches:
        raise InputError(
            f"--num_masked_patches must be below the number of patches of a clip, {num_patches}, got {num_masked_patches}"
        )
    if arguments.gradient_checkpointing:
        model.activation_checkpointing_enable()
    source = model_arguments.model_name_or_path
    base_model = read_base_model(source) if source is not None and is_main else None

    # 2. What to continue from, if anything.
    run_config = comparable(config.to_dict())
    run_data = {
        name: getattr(data, name)
        for name in ("train_data", "train_weights", "streaming", "random_crop", "speed", "mixup")
    }
    run_data |= {
        "two_masks": model_arguments.two_masks,
        "seed": arguments.seed,
        "lr_scheduler_type": arguments.lr_scheduler_type,
    }
    if data.streaming:
        run_data |= {
            "shuffle_buffer_size": data.shuffle_buffer_size,
            "num_processes": accelerator.num_processes,
            "per_device_train_batch_size": arguments.per_device_train_batch_size,
            "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        }
    checkpoint, state = None, {"step": 0, "best_accuracy": -1.0}
    if arguments.resume_from_checkpoint is not None:
        checkpoint, state = read_checkpoint(arguments, run_config, run_data)

    # 3. The data. Processes that share a disk let the first one write its caches.
    with accelerator.main_process_first():
        train, evaluation_clips = load_data(data, arguments.seed)
    if checkpoint is not None:
        feature_extractor.mean, feature_extractor.std = state["mean_std"]
    elif data.normalization == "data":
        mean_std = [compute_mean_std(feature_extractor, train) if is_main else None]
        feature_extractor.mean, feature_extractor.std = broadcast_object_list(mean_std)[0]
    if data.cache_dir is not None:
        with accelerator.main_process_first():
            train, evaluation_clips = (
                cache_filter_banks(clips, feature_extractor, data.cache_dir, data.num_workers)
                for clips in (train, evaluation_clips)
            )
    examples = PretrainingExamples(
        feature_extractor,
        config,
        num_masked_patches,
        num_masks=2 if model_arguments.two_masks else 1,
        random_crop=data.random_crop,
        speed=data.speed,
        mixup=data.mixup,
    )
    evaluation_examples = PretrainingExamples(
        feature_extractor, config, usual_num_masked_patches(grid), random_crop=False
    )
    evaluation = Evaluation(
        evaluation_clips, evaluation_examples, data.num_workers, arguments.per_device_eval_batch_size
    )
    batches = TrainingBatches(
        train, examples, data, arguments.per_device_train_batch_size, arguments.seed, accelerator
    )
    accumulation = arguments.gradient_accumulation_steps
    clips_per_step = arguments.per_device_train_batch_size * accelerator.num_processes * accumulation
    tokens_per_step = clips_per_step * (count_kept_patches(grid, config) + config.num_prefix_tokens)
    max_steps = arguments.max_steps
    if max_steps is None:
        if data.streaming:
            raise InputError("--streaming needs --max_steps: a stream does not say how long it is")
        max_steps = math.ceil(arguments.num_train_epochs * len(train) / clips_per_step)

    # 4. The optimiser and its schedule.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    if accelerator.state.deepspeed_plugin is not None:
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = (
            arguments.per_device_train_batch_size
        )
    model, optimizer = accelerator.prepare(model, optimizer)
    encoder = accelerator.unwrap_model(model)
    schedule = Schedule(optimizer, arguments, max_steps)
    accelerator.register_for_checkpointing(schedule)
    if checkpoint is not None:
        accelerator.load_state(checkpoint)
        batches.load_position(state["position"][accelerator.process_index % len(state["position"])])

    # 5. Where to write. Only now, when everything is known to fit.
    folder = RunFolder(accelerator, arguments)
    folder.skipped = state.get("skipped", {})
    if is_main and arguments.push_to_hub is not None:
        try:
            HfApi().create_repo(arguments.push_to_hub, exist_ok=True)
        except (HfHubHTTPError, HFValidationError) as error:
            raise InputError(f"--push_to_hub {arguments.push_to_hub}: cannot be written to ({error})") from error
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    folder.set_aside(state["step"])
    if arguments.report_to != "none":
        hyperparameters = vars(data) | vars(model_arguments) | vars(arguments)
        simple = {
            name: value if isinstance(value, (int, float)) else str(value) for name, value in hyperparameters.items()
        }
        accelerator.init_trackers("pretraining", config=simple)
    accelerator.print(
        f"{encoder.num_parameters() / 1e6:.2f} million parameters; {num_masked_patches} of {num_patches} patches masked; "
        f"{clips_per_step} clips ({tokens_per_step} tokens) in a step, on {accelerator.num_processes} processes; "
        f"steps {state['step']} to {max_steps}"
    )

    # 6. Training.
    emissions = None
    if arguments.track_emissions and is_main and is_one_machine(accelerator.num_processes):
        emissions = PretrainingEmissions(arguments.output_dir)
    step, best_accuracy, metrics = state["step"], state["best_accuracy"], state.get("metrics", {})
    skipped: list[tuple[str, str]] = []
    logged = torch.zeros(len(LOSSES), device=accelerator.device)
    logged_at, began = step, time.perf_counter()

    def refuse_divergence() -> None:
        """Before weights are written, which would take the place of good ones."""
        are_finite = torch.stack([parameter.detach().isfinite().all() for parameter in model.parameters()])
        if accelerator.reduce((~are_finite).sum(), reduction="sum") > 0:
            raise InputError(f"the weights after step {step} are not finite; {DIVERGED}")

    def save_checkpoint() -> None:
        nonlocal skipped
        refuse_divergence()
        folder.report_skipped(skipped)
        skipped = []
        position = batches.position(step * accumulation)
        content = {"step": step, "best_accuracy": best_accuracy, "metrics": metrics, "position": position}
        mean_std = (feature_extractor.mean, feature_extractor.std)
        folder.save_checkpoint({**content, "mean_std": mean_std, "config": run_config, "data": run_data})

    stream = batches.iterate(step * accumulation, max_steps * accumulation)
    bar = tqdm(total=max_steps, initial=step, desc="Training", unit="step", disable=not is_main)
    model.train()
    while step < max_steps:
        for _ in range(accumulation):
            batch = to_device(next(stream), accelerator.device)
            skipped += batch["skipped"]
            with accelerator.accumulate(model):
                losses = compute_losses(model, encoder, batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients and arguments.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            logged += torch.stack([losses[name].detach().float() for name in LOSSES]) / accumulation
        schedule.after_step()
        step += 1
        bar.update()

        if step % arguments.logging_steps == 0 or step == max_steps:
            means = (accelerator.reduce(logged, reduction="mean") / (step - logged_at)).tolist()
            seconds = time.perf_counter() - began
            row = {f"train/{name}": mean for name, mean in zip(LOSSES, means, strict=True)}
            row["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            row["train/tokens_per_second"] = (step - logged_at) * tokens_per_step / seconds
            accelerator.log(row, step=step)
            bar.set_postfix_str(
                f"loss {row['train/loss']:.3f}, accuracy {row['train/accuracy']:.3f}, "
                f"{row['train/tokens_per_second']:.0f} tokens/s"
            )
            if not math.isfinite(row["train/loss"]):
                raise InputError(f"the loss at step {step} is {row['train/loss']}; {DIVERGED}")
            logged.zero_()
            logged_at, began = step, time.perf_counter()

        if step % arguments.eval_steps == 0 or step == max_steps:
            evaluation_began = time.perf_counter()
            refuse_divergence()
            picture = folder.path / "pictures" / f"step-{step}.png"
            metrics, unusable = evaluation.run(accelerator, model, picture)
            folder.report_skipped(unusable)
            schedule.after_evaluation(metrics["accuracy"])
            is_best = metrics["accuracy"] > best_accuracy
            best_accuracy = max(best_accuracy, metrics["accuracy"])
            accelerator.log({f"eval/{name}": value for name, value in metrics.items()}, step=step)
            log_picture(accelerator, picture, step)
            if is_main:
                bar.write(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            num_clips = batches.count_clips(step * accumulation)
            times = "" if data.streaming else f", {num_clips / len(train):.4g} times over {len(train)} clips"
            facts = {
                "Training": f"{step} steps of {clips_per_step} clips{times}",
                "Masked patches": f"{num_masked_patches} of {num_patches}" + ", two masks" * model_arguments.two_masks,
                "Optimizer": f"adamw_torch, betas {arguments.adam_beta1:g} and {arguments.adam_beta2:g}, "
                f"weight decay {arguments.weight_decay:g}",
                "Learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type} after "
                f"{arguments.warmup_steps} steps of warm-up",
                "Seed": arguments.seed,
                "Number format": {"no": "float32"}.get(arguments.mixed_precision, arguments.mixed_precision),
            }
            notes = [f"In each, {usual_num_masked_patches(grid)} of {num_patches} patches were masked."]
            if not data.eval_data:
                notes.append("They were held out of the training data.")
            results = Results(
                {measured: metrics[measured] for measured in ("accuracy", "nce", "mse")},
                "validation",
                ", ".join(data.eval_data or data.train_data),
                len(evaluation_clips),
                notes,
            )
            make_card = functools.partial(
                pretrained_card,
                model=encoder,
                feature_extractor=feature_extractor,
                base_model=base_model,
                sources=data.train_data,
                training=facts,
                results=results,
                # Of all of the run, or none.
                emissions=emissions.describe() if emissions is not None and checkpoint is None else None,
            )
            folder.save_model(model, feature_extractor, make_card, step, is_best)
            # Not the training's.
            began += time.perf_counter() - evaluation_began

        is_asked_to_stop = accelerator.check_trigger()
        if step % arguments.save_steps == 0 or step == max_steps or is_asked_to_stop:
            save_checkpoint()
        if is_asked_to_stop:
            accelerator.print(f"Asked to stop: saved step {step}; continue with --resume_from_checkpoint latest")
            break
    stream.close()
    bar.close()
    if emissions is not None:
        emissions.stop()

    # 7. The end.
    if is_main and folder.skipped:
        print(f"{len(folder.skipped)} clips could not be used, see {folder.path / 'skipped_clips.csv'}:")
        for clip, reason in list(folder.skipped.items())[:10]:
            print(f"  {clip}: {reason}")
    if is_main and arguments.push_to_hub is not None and step == max_steps:
        message = f"Pretraining, step {step}"
        best = folder.path / "best"
        with explaining_push(f"{best} is complete, but", arguments.push_to_hub):
            HfApi().upload_folder(repo_id=arguments.push_to_hub, folder_path=best, commit_message=message)
    # Before the process group: as the last to hold it, the gradients' reducer would wait with the interpreter's lock for a
    # thread of gloo's that may need the lock.
    model, optimizer = accelerator.free_memory(model, optimizer)
    accelerator.end_training()
    return metrics


if __name__ == "__main__":
    try:
        main(*parse_arguments(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
