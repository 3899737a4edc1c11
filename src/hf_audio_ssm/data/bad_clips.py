# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Clips that cannot be read: they are left out of training, listed and counted, or they end it, as `--bad_clips` says. A share above
`--max_bad_share` always ends it, as then something else is wrong with the data.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from ..audio.decoding import MIN_SECONDS, clip_name, read_clip
from ..common.errors import ClipError, InputError
from ..common.printable import printable
from ..common.whole_files import replacing


# Bad clips that a message lists. The file has all of them.
MAX_SHOWN = 20
BAD_CLIPS_FILE = "skipped_clips.csv"
# Names of clips without a path.
NAMELESS = (clip_name({}), str(None))
# How the reason begins for clips that pretraining leaves out although they can be read.
SILENT = "is silent"


def is_main_process() -> bool:
    """Whether this process is the one that prints. A single process is."""
    # Looking at the state of a single process would make one, with its device.
    return not PartialState._shared_state or PartialState().is_main_process


def name_in_data(clip: str, place: str) -> str:
    """The name of a clip in messages; its place in the data, if it has no path."""
    return place if clip in NAMELESS else clip


def list_clips(clips: Iterable[tuple[str, str]], limit: int = MAX_SHOWN) -> str:
    """
    Lists clips and reasons, a line for each.

    Args:
        clips (iterable of `tuple[str, str]`): (clip, reason).
        limit (`int`, *optional*, defaults to 20): How many to list; the rest is counted.
    """
    clips = list(clips)
    lines = [f"  {printable(clip)}: {printable(reason)}" for clip, reason in clips[:limit]]
    return "\n".join(lines + [f"  ... and {len(clips) - limit} more"] * (len(clips) > limit))


def write_bad_clips(folder: str | os.PathLike, clips: Iterable[tuple[str, str]]) -> Path:
    """
    Writes `skipped_clips.csv`, with the columns clip and reason.

    Args:
        folder (`str` or `PathLike`): The folder for it, which is made if it is missing.
        clips (iterable of `tuple[str, str]`): (clip, reason).

    Returns:
        `Path`: The file.
    """
    path = Path(folder) / BAD_CLIPS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows([("clip", "reason"), *clips])
    return path


def start_bad_clips(folder: str | os.PathLike, clips: Sequence[tuple[str, str]], is_continued: bool) -> None:
    """
    Begins a run, in the main process: writes its bad clips into its folder. A run that continues must leave out the same ones, as
    otherwise its clips are others.

    Args:
        folder (`str` or `PathLike`): The run's folder.
        clips (sequence of `tuple[str, str]`): (clip, reason).
        is_continued (`bool`): Whether the run continues an earlier one.

    Raises:
        [`InputError`]: If the earlier run left out other clips.
    """
    path = Path(folder) / BAD_CLIPS_FILE
    # Continuing what has not begun is beginning.
    if is_continued and any(Path(folder).glob("**/checkpoint-*")):
        before = set()
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                before = {row[0] for row in list(csv.reader(file))[1:] if row}
        now = {clip for clip, _ in clips}
        if before != now:
            changed = sorted(before ^ now)
            raise InputError(
                f"--resume_from_checkpoint: the run left out {len(before)} clips, and now {len(now)} cannot be read, so that it "
                f"would train on others ({printable(changed[0])} has changed); repair or remove the clips as before"
            )
    elif is_main_process() and path.is_file():
        # Of an earlier run.
        path.unlink()
    if clips and is_main_process():
        write_bad_clips(folder, clips)


def report_bad_clips(folder: str | os.PathLike, clips: Sequence[tuple[str, str]]) -> None:
    """
    Ends a run: writes the bad clips into its folder, and prints how many there are, and the first of them. Other processes than
    the main one do nothing.

    Args:
        folder (`str` or `PathLike`): The run's folder.
        clips (sequence of `tuple[str, str]`): (clip, reason).
    """
    if clips and is_main_process():
        path = write_bad_clips(folder, clips)
        print(f"Left out, as they cannot be read: {count(clips)}, see {path}:\n{list_clips(clips)}")


def count(clips: Sequence[Any]) -> str:
    """A number of clips, in words."""
    return f"{len(clips)} clip{'s' * (len(clips) != 1)}"


def refuse_bad_clips(bad: Sequence[tuple[str, str]], total: int, policy: str, max_share: float) -> None:
    """
    Ends the run if there are bad clips and the policy is "stop", or if there are too many of them.

    Args:
        bad (sequence of `tuple[str, str]`): (clip, reason) of the clips that cannot be read.
        total (`int`): The number of all clips.
        policy (`str`): "skip" or "stop".
        max_share (`float`): The largest share of bad clips to skip.

    Raises:
        [`InputError`]: With the number of bad clips, what to do, and the first 20 of them, each with the reason.
    """
    if not bad or (policy == "skip" and len(bad) <= max_share * total):
        return
    if policy == "stop":
        advice = "repair or remove them, or pass --bad_clips skip"
    else:
        share = len(bad) / total
        # Rounded up, so that it is enough.
        enough = min(1.0, -(-share * 1000 // 1) / 1000)
        advice = (
            f"this is {100 * share:.1f} % of {total}, more than --max_bad_share {max_share:g}; repair or remove them, or "
            f"pass --max_bad_share {enough:g}"
        )
    shown = [f"{clip}: {reason}" for clip, reason in bad[:MAX_SHOWN]]
    more = [f"and {len(bad) - MAX_SHOWN} more"] * (len(bad) > MAX_SHOWN)
    raise InputError(f"{count(bad)} cannot be used ({'; '.join(shown + more)}); {advice}")


@dataclass
class ClipCheck:
    """
    What was found when clips were read once. The numbers of clips are their places among those that were given.

    Args:
        bad (`dict[int, tuple[str, str]]`): (name, reason) of the clips that cannot be read, by number.
        short (`set[int]`): Clips shorter than a frame of the filter bank, which are padded to one.
        seconds (`dict[int, float]`): Lengths in seconds, by number.
        notes (`dict[int, tuple[str, str]]`): (name, note) of clips that were read with a defect, such as half files, by number.
    """

    bad: dict[int, tuple[str, str]] = field(default_factory=dict)
    short: set[int] = field(default_factory=set)
    seconds: dict[int, float] = field(default_factory=dict)
    notes: dict[int, tuple[str, str]] = field(default_factory=dict)


def check_all(clips: Sequence[str | os.PathLike | Mapping[str, Any]], sampling_rate: int) -> ClipCheck:
    """
    Reads every clip once, with a progress bar. If there are several processes, each reads its share, and all learn what the
    others found.

    Args:
        clips (sequence): The clips, as in [`read_clip`].
        sampling_rate (`int`): Sampling rate in hertz.
    """
    rank, world_size = 0, 1
    if PartialState._shared_state:
        rank, world_size = PartialState().process_index, PartialState().num_processes
    found = ClipCheck()
    for number in tqdm(
        range(rank, len(clips), world_size), desc="Reading the clips", unit="clip", disable=not is_main_process()
    ):
        clip = clips[number]
        try:
            read = read_clip(clip, sampling_rate)
        except ClipError as error:
            found.bad[number] = (error.clip, error.reason)
            continue
        found.seconds[number] = len(read.samples) / sampling_rate
        if len(read.samples) < MIN_SECONDS * sampling_rate:
            found.short.add(number)
        if read.notes:
            found.notes[number] = (clip_name(clip), "; ".join(note.detail for note in read.notes))
    if world_size > 1:
        parts = gather_object([found])
        for part in parts:
            found.bad |= part.bad
            found.short |= part.short
            found.seconds |= part.seconds
            found.notes |= part.notes
    found.bad, found.notes = (dict(sorted(own.items())) for own in (found.bad, found.notes))
    return found
