# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one place that opens and decodes audio files, for clips and for recordings of any length.

Files are decoded in blocks of bounded size. What a header claims is compared with what the file holds: half a file is used as far
as it goes, with a note, in every command.
"""

import io
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile as sf

from ..common.errors import ClipError
from ..common.printable import one_line
from .containers import Section, begins_like, find_layout
from .decoder_messages import without_decoder_messages


BLOCK_SECONDS = 10.0
# Values in a block, of all channels.
MAX_BLOCK_VALUES = 2**21
# libsndfile gives 2**63 - 1 for an unknown length, as in a FLAC file that was written to a pipe.
UNKNOWN_FRAMES = 2**62
# Beyond these, a header is taken to be damaged: hydrophones of 250 Hz and detectors of bats at 1 MHz lie between.
MIN_RATE, MAX_RATE = 100, 4_000_000
MAX_CHANNELS = 256
NO_SAMPLES = "holds 0 ms of audio: it has no samples"
# More channels than this and than samples are taken to be a fault.
MAX_CHANNELS_OF_SHORT_SOUNDS = 32
# MP3 decoders may lose the first frame, and add their delay.
TOLERATED_FRAMES = {"MP3": 2 * 1152}
# libsndfile's codes whose messages tell of the system, not of the file.
UNKNOWN_FORMAT, SYSTEM_ERRORS = 1, (2, 3, 7)


class Note(NamedTuple):
    """
    What is wrong with audio that is used nevertheless.

    Args:
        onset (`float`): Its beginning in seconds.
        offset (`float`): Its end in seconds.
        kind (`str`): "truncated" for a file that ends early or was never finished, "appended" for one that another follows,
            "invalid" for samples that are no numbers, ...
        detail (`str`): The same in words, without the clip's name.
    """

    onset: float
    offset: float
    kind: str
    detail: str


class SoundFile(sf.SoundFile):
    """A sound file that is read without seeking if its header does not tell its length."""

    def seekable(self) -> bool:
        """Whether soundfile may seek. It does so after each read, which libsndfile refuses at the end of such a file."""
        return self.frames < UNKNOWN_FRAMES and super().seekable()


def clip_name(clip: str | os.PathLike | Mapping[str, Any]) -> str:
    """The name of a clip in messages: its path, if it has one."""
    if isinstance(clip, Mapping):
        return str(clip.get("path") or "clip without a path")
    return str(clip)


def check_path(path: str | os.PathLike, name: str, pipes: bool = False) -> None:
    """
    Checks that there is something to read at a path.

    Args:
        path (`str` or `PathLike`): The path.
        name (`str`): Its name in messages.
        pipes (`bool`, *optional*, defaults to `False`): Whether it may be a pipe.

    Raises:
        [`ClipError`]: If there is nothing, or it may not be read.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ClipError(name, "no such file") from None
    except (OSError, ValueError, TypeError) as error:
        raise ClipError(name, f"cannot be read ({one_line(getattr(error, 'strerror', None) or error)})") from error
    if stat.S_ISDIR(status.st_mode):
        raise ClipError(name, "is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        if pipes and stat.S_ISFIFO(status.st_mode):
            return
        raise ClipError(name, "is a pipe or a device, expected a file")
    if not os.access(path, os.R_OK):
        raise ClipError(name, "may not be read (permission denied)")
    if not status.st_size:
        raise ClipError(name, "the file is empty")


class _Link(NamedTuple):
    """What the header of a file, or of a link of a chained one, claims."""

    section: Section
    frames: int
    samplerate: int
    format: str


class Sound:
    """
    An open audio file.

    Args:
        source (`str`, `PathLike`, `bytes` or binary file): A path, the content, or an open file that can seek.
        name (`str`): The file's name in messages.
        block_seconds (`float`, *optional*, defaults to 10.0): The longest block that is decoded at once.

    Attributes:
        notes (`list[Note]`): What is wrong with what was read.
        seconds (`float`, *optional*): The length that was found while reading.
        num_bytes (`int`): The file's size.

    Raises:
        [`ClipError`]: If the file is missing, empty or no audio.
    """

    def __init__(
        self, source: str | os.PathLike | bytes | BinaryIO, name: str, block_seconds: float = BLOCK_SECONDS
    ) -> None:
        self.name, self.block_seconds = name, block_seconds
        self.notes: list[Note] = []
        self.seconds: float | None = None
        self._path = source if isinstance(source, (str, os.PathLike)) else None
        self._stack = ExitStack()
        try:
            with self._translated():
                self._open(source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what the sound has opened itself."""
        self._stack.close()

    @property
    def promised_seconds(self) -> float | None:
        """The length that the headers tell, if they do."""
        if any(link.frames >= UNKNOWN_FRAMES for link in self._links):
            return None
        return sum(link.frames / link.samplerate for link in self._links)

    @property
    def rate(self) -> int | None:
        """The sampling rate in hertz; `None` if it changes."""
        rates = {link.samplerate for link in self._links}
        return rates.pop() if len(rates) == 1 else None

    def measure(self) -> float:
        """The length in seconds: what the headers tell if the file holds it, else what it holds, by decoding all of it."""
        lengths = self._lengths()
        self._refuse_nothing(lengths)
        return sum(frames / link.samplerate for frames, link in zip(lengths, self._links, strict=True))

    def blocks(
        self, max_seconds: float | None = None, generator: np.random.Generator | None = None
    ) -> Iterator[tuple[np.ndarray, int]]:
        """
        Decodes the file, or a crop of it. A file whose sampling rate changes is not cropped.

        Args:
            max_seconds (`float`, *optional*): Length of the crop.
            generator (`np.random.Generator`, *optional*): Draws where the crop begins; the beginning by default.

        Yields:
            Samples of shape (channels, samples), float32, and their rate in hertz.
        """
        rate = self.rate
        if max_seconds is None or rate is None:
            yield from self._read_whole()
            return
        wanted = math.ceil(max_seconds * rate)
        promised = sum(link.frames for link in self._links)
        if promised <= wanted:
            if generator is not None:
                generator.integers(1)
            yield from self._read_whole()
            return
        if generator is None and promised >= UNKNOWN_FRAMES:
            reasons: list[str] = []
            read = 0
            for samples, _ in self._decode(self._first, reasons, wanted):
                read += samples.shape[1]
                yield samples, rate
            if read < wanted:
                self._note_faults([read], [reasons])
                self._refuse_nothing([read])
            return
        # A crop does not show that the file is cut off later. Seeking costs little.
        lengths = self._lengths()
        length = sum(lengths)
        wanted = min(wanted, length)
        start = 0 if generator is None else int(generator.integers(length - wanted + 1))
        self._note_faults(lengths)
        self._refuse_nothing(lengths)
        yield from self._read_range(start, wanted)

    def _open(self, source: str | os.PathLike | bytes | BinaryIO) -> None:
        file: Any
        if isinstance(source, (str, os.PathLike)):
            check_path(source, self.name)
            file = self._stack.enter_context(open(source, "rb"))
        else:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
        self.num_bytes = file.seek(0, os.SEEK_END)
        if not self.num_bytes:
            raise ClipError(self.name, "the file is empty")
        file.seek(0)
        kind = begins_like(file.read(512))
        self._layout = find_layout(file)
        if kind is not None and not self._layout.is_known:
            raise ClipError(self.name, f"cannot be read as audio (not audio: begins like {kind})")
        # The first stays open: most files have no other.
        self._first = self._open_link(self._layout.sections[0], self._stack)
        self._links = [self._describe(self._layout.sections[0], self._first)]
        for section in self._layout.sections[1:]:
            try:
                with ExitStack() as stack:
                    self._links.append(self._describe(section, self._open_link(section, stack)))
            except (sf.LibsndfileError, ClipError):
                fault = f"is damaged: {section.end - section.start} bytes of a link of its Ogg chain cannot be read"
                self._layout.faults.append(("truncated", fault))

    def _describe(self, section: Section, file: SoundFile) -> _Link:
        """What a header claims, if that is possible."""
        if not MIN_RATE <= file.samplerate <= MAX_RATE:
            raise ClipError(
                self.name,
                f"its header claims a sampling rate of {file.samplerate} Hz; expected {MIN_RATE} to {MAX_RATE}",
            )
        most = min(MAX_CHANNELS, max(file.frames, MAX_CHANNELS_OF_SHORT_SOUNDS))
        if file.channels > most:
            raise ClipError(self.name, f"its header claims {file.channels} channels; expected at most {most}")
        return _Link(section, file.frames, file.samplerate, file.format)

    def _open_link(self, section: Section, stack: ExitStack) -> SoundFile:
        source: Any = io.BufferedReader(section.reopened())
        if self._path is not None and self._layout.is_plain and os.name == "posix":
            # libsndfile reads a file descriptor faster than through Python, and does not guess by the file's name.
            source = stack.enter_context(open(self._path, "rb", buffering=0)).fileno()
        with without_decoder_messages():
            return stack.enter_context(SoundFile(source, closefd=False))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what libraries raise into one line."""
        try:
            yield
        except ClipError:
            raise
        except sf.LibsndfileError as error:
            reason = one_line(error.error_string).rstrip(".")
            if error.code == UNKNOWN_FORMAT:
                reason = "it begins like no known format"
            elif error.code in SYSTEM_ERRORS:
                reason = "it is damaged, or cut off before its audio"
            raise ClipError(self.name, f"cannot be read as audio ({reason})") from error
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise ClipError(self.name, f"cannot be read as audio ({one_line(error)})") from error

    def _lengths(self) -> list[int]:
        """The frames that each link holds."""
        return [self._length(link) for link in self._links]

    def _length(self, link: _Link) -> int:
        # Other handles, so that reading goes on where it was.
        with self._translated(), ExitStack() as stack:
            file = self._open_link(link.section, stack)
            if file.seekable() and file.frames and self._reaches_end(file):
                return file.frames
        with self._translated(), ExitStack() as stack:
            return sum(samples.shape[1] for samples, _ in self._decode(self._open_link(link.section, stack), []))

    @staticmethod
    def _reaches_end(file: SoundFile) -> bool:
        try:
            with without_decoder_messages():
                file.seek(max(0, file.frames - 1 - TOLERATED_FRAMES.get(file.format, 0)))
                return len(file.read(1)) > 0
        except sf.LibsndfileError:
            return False

    def _decode(
        self, file: SoundFile, reasons: list[str], wanted: int | None = None
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Blocks of a file from where it stands, up to `wanted` frames; `reasons` receives why they end early."""
        rate, left = file.samplerate, file.frames if wanted is None else wanted
        most = max(1, min(round(self.block_seconds * rate), MAX_BLOCK_VALUES // file.channels))
        while left > 0:
            # NaN marks what an error left unread.
            block = np.full((min(left, most), file.channels), np.nan, dtype=np.float32)
            count = len(block)
            try:
                with without_decoder_messages():
                    count = len(file.read(out=block))
            except (RuntimeError, OSError) as error:
                is_empty = np.isnan(block).all(axis=1)
                count = int(is_empty.argmax()) if is_empty.any() else count
                reasons.append(one_line(error).rstrip("."))
            if count:
                left -= count
                yield block[:count].T, rate
            if reasons or count < len(block):
                return

    def _read_whole(self) -> Iterator[tuple[np.ndarray, int]]:
        lengths, why = [], []
        for index, link in enumerate(self._links):
            reasons: list[str] = []
            lengths.append(0)
            with ExitStack() as stack:
                file = self._open_link(link.section, stack) if index else self._first
                for samples, rate in self._decode(file, reasons):
                    lengths[-1] += samples.shape[1]
                    yield samples, rate
            why.append(reasons)
        self._note_faults(lengths, why)
        self._refuse_nothing(lengths)

    def _read_range(self, start: int, wanted: int) -> Iterator[tuple[np.ndarray, int]]:
        for link in self._links:
            count = min(wanted, link.frames - start)
            if count > 0:
                reasons: list[str] = []
                with ExitStack() as stack:
                    for samples, rate in self._decode(self._open_at(link, start, stack), reasons, count):
                        wanted -= samples.shape[1]
                        count -= samples.shape[1]
                        yield samples, rate
                if reasons and count:
                    end = link.frames / link.samplerate
                    detail = f"is damaged: {count / link.samplerate:.2f} s before {end:.2f} s cannot be read"
                    self.notes.append(Note(0.0, end, "truncated", detail))
            start = max(0, start - link.frames)

    def _open_at(self, link: _Link, start: int, stack: ExitStack) -> SoundFile:
        with self._translated():
            file = self._first if link is self._links[0] else self._open_link(link.section, stack)
            if start and file.seekable():
                with without_decoder_messages():
                    file.seek(start)
            elif start:
                for _ in self._decode(file, [], start):
                    pass
        return file

    def _refuse_nothing(self, lengths: list[int]) -> None:
        if not any(lengths):
            if not self.notes:
                self._note_faults(lengths)
            raise ClipError(self.name, f"holds 0 ms of audio: it {self.notes[0].detail}" if self.notes else NO_SAMPLES)

    def _note_faults(self, lengths: list[int], why: list[list[str]] | None = None) -> None:
        """Notes what the file lacks, given the frames that each link holds, and why reading ended there."""
        seconds = 0.0
        for index, (length, link) in enumerate(zip(lengths, self._links, strict=True)):
            seconds += length / link.samplerate
            reasons = why[index] if why is not None else []
            promised = link.frames if link.frames < UNKNOWN_FRAMES else 0
            promised = round(promised / max(1e-9, 1 - self._layout.missing))
            if reasons or length < promised - TOLERATED_FRAMES.get(link.format, 0):
                told = promised / link.samplerate
                detail = f"is cut off or damaged: {length / link.samplerate:.2f} s can be read"
                detail += f" of the {told:.2f} s that its header promises" if promised > length else ""
                self.notes.append(Note(seconds, seconds, "truncated", detail))
        for kind, detail in self._layout.faults:
            self.notes.append(Note(seconds, seconds, kind, detail))
        self.seconds = seconds
