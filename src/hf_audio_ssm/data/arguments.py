# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The fields of the arguments on data. This module imports no library that takes long: `--help` needs the fields alone. What is
done with the fields is in the classes that complete them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ..common.errors import InputError


BAD_CLIP_POLICIES = ("skip", "stop")


@dataclass(kw_only=True)
class BadClipFields:
    """Fields on clips that cannot be read."""

    bad_clips: str = field(
        default="skip", metadata={"help": "What to do about clips that cannot be read: skip (and list) them, or stop."}
    )
    max_bad_share: float = field(
        default=0.05,
        metadata={"help": "Largest share of clips that --bad_clips skip leaves out; the run stops if there are more."},
    )

    def __post_init__(self) -> None:
        if self.bad_clips not in BAD_CLIP_POLICIES:
            raise InputError(f"--bad_clips must be {' or '.join(BAD_CLIP_POLICIES)}, got {self.bad_clips!r}")
        if not 0 <= self.max_bad_share <= 1:
            raise InputError(f"--max_bad_share must be a share from 0 to 1, got {self.max_bad_share}")


@dataclass(kw_only=True)
class FolderFields(BadClipFields):
    """Fields on a folder of labelled clips, for scripts that read nothing else."""

    group_column: str | None = field(
        default=None,
        metadata={"help": "Column of metadata.csv with a group, such as the speaker, that splits keep together."},
    )


@dataclass
class LabelledDataFields(BadClipFields):
    """Fields of [`LabelledDataArguments`]."""

    _argument_group_name = "data"
    _completed_by = "hf_audio_ssm.data.labelled.LabelledDataArguments"

    data: str = field(
        metadata={
            "help": "Folder of audio (split folders, with a folder per label or a metadata.csv), parquet file, saved data "
            "set, or Hub name, name:configuration or name@split."
        }
    )
    validation_data: str | None = field(default=None, metadata={"help": "Another source for the validation split."})
    test_data: str | None = field(default=None, metadata={"help": "Another source for the test split."})
    audio_column: str = field(default="audio", metadata={"help": "Column of the clips."})
    label_column: str = field(default="label", metadata={"help": "Column of the labels: a label or a list of them."})
    multi_label: bool = field(
        default=False, metadata={"help": "Whether a metadata.csv has several labels a clip, separated by ;."}
    )
    fold_column: str | None = field(default=None, metadata={"help": "Column of the fold; see --test_folds."})
    test_folds: list[int] | None = field(
        default=None,
        metadata={
            "help": "With --fold_column: the folds to test on. Each has a run that trains on the others. Default: all."
        },
    )
    group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of a group, such as the speaker, recorder or place: all clips of a group are in one split."
        },
    )
    check_clips: bool = field(default=True, metadata={"help": "Read every clip once before training starts."})
    split_seed: int = field(default=0, metadata={"help": "Seed for drawing missing splits."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.check_clips and self.bad_clips != "skip":
            raise InputError("--bad_clips stop needs --check_clips true: bad clips are found by reading all of them")
        columns = {
            name: getattr(self, name) for name in ("audio_column", "label_column", "fold_column", "group_column")
        }
        for name, column in columns.items():
            for other in list(columns)[: list(columns).index(name)]:
                if column is not None and columns[other] == column:
                    raise InputError(f"--{other} and --{name} must be different columns, got {column!r} for both")
        if self.test_folds is not None and self.fold_column is None:
            raise InputError(f"--test_folds needs --fold_column, got --test_folds {self.test_folds} alone")
        if self.fold_column is not None and (self.validation_data or self.test_data):
            raise InputError(
                "--fold_column divides --data itself: do not give --validation_data or --test_data with it"
            )


@dataclass
class AugmentationFields:
    """Fields of [`AugmentationArguments`]."""

    _argument_group_name = "augmentation of training clips"
    _completed_by = "hf_audio_ssm.data.augmentation.AugmentationArguments"

    vary_recordings: bool = field(
        default=True,
        metadata={
            "help": "Draw the speed and the level of each clip, the silence around it, and its noise. If false, and nothing "
            "else is asked for, clips are trained on as they are."
        },
    )
    change_waveforms: float = field(
        default=0.0, metadata={"help": "Probability of each of noise, gain, pitch shift and time stretch of a clip."}
    )
    background_dir: str | None = field(
        default=None, metadata={"help": "Folder of sounds to add to half of the clips, 3 to 30 dB below them."}
    )
    impulse_response_dir: str | None = field(
        default=None, metadata={"help": "Folder of room impulse responses, applied to half of the clips."}
    )
    mixup: float = field(default=0.0, metadata={"help": "Share of clips that are mixed, together with their labels."})
    multi_label_mix: float = field(
        default=0.0, metadata={"help": "Share of clips that others are added to, with the labels of all."}
    )
    frequency_mask: int = field(default=0, metadata={"help": "SpecAugment: width of the masked band, in mel bins."})
    time_mask: int = field(default=0, metadata={"help": "SpecAugment: length of the masked stretch, in frames."})
    noise: bool = field(
        default=False, metadata={"help": "Add noise to the filter bank and roll it in time, as SSAST does."}
    )

    def __post_init__(self) -> None:
        # Takes a quarter of a second, for its libraries.
        from ..audio.decoding import AUDIO_SUFFIXES

        for name in ("change_waveforms", "mixup", "multi_label_mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"--{name} must be in 0 ... 1, got {getattr(self, name)}")
        for name in ("frequency_mask", "time_mask"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name} must not be negative, got {getattr(self, name)}")
        for name in ("background_dir", "impulse_response_dir"):
            folder = getattr(self, name)
            if folder is not None and not any(
                path.suffix.lower() in AUDIO_SUFFIXES for path in Path(folder).rglob("*")
            ):
                raise InputError(f"--{name} must be a folder with audio, got {folder!r}")
