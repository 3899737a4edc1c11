# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors of libraries: known kinds are explained in one line, bugs keep their tracebacks."""

import builtins
import csv
import errno
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import datasets
import httpx
import pyarrow
import pyarrow.parquet
import pytest
import safetensors
import soundfile
import torch
import yaml
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from torch.utils.data import DataLoader

from hf_audio_ssm.common import boundary
from hf_audio_ssm.common.boundary import explain_error, one_line_errors
from hf_audio_ssm.common.errors import ClipError, InputError


class Code:
    """Runs code where it is unpickled without care."""

    def __reduce__(self):
        return os.system, ("true",)


def raise_error(error):
    raise error


def unpickle_code():
    file = io.BytesIO()
    torch.save(Code(), file)
    file.seek(0)
    torch.load(file, weights_only=True)


def too_long_field():
    old = csv.field_size_limit(1000)
    try:
        list(csv.reader(["x" * 2000]))
    finally:
        csv.field_size_limit(old)


def generate_dataset():
    def rows():
        raise ClipError("a.wav", "is cut off")
        yield {}

    datasets.Dataset.from_generator(rows)


def truncate(folder):
    (folder / "x.safetensors").write_bytes(b"\xff" * 20)
    safetensors.safe_open(folder / "x.safetensors", "pt")


def write_bytes(path):
    path.write_bytes(b"x")


# What fails -> part of the line.
KNOWN = {
    "no file": (lambda folder: (folder / "none").read_text(), "none: No such file or directory"),
    "a folder": (lambda folder: folder.read_text(), ": Is a directory"),
    "a file as a folder": (lambda folder: (Path(__file__) / "x").read_text(), "x: Not a directory"),
    "a long name": (lambda folder: write_bytes(folder / ("x" * 300)), "File name too long"),
    "no permission": (lambda _: raise_error(PermissionError(errno.EACCES, "Permission denied", "a")), "a: Permission denied"),
    "a read-only disk": (lambda _: raise_error(OSError(errno.EROFS, "Read-only file system", "a")), "a: Read-only file system"),
    "a full disk": (lambda _: raise_error(OSError(errno.ENOSPC, "No space left on device")), "No space left on device"),
    "a rename": (lambda folder: os.rename(folder / "a", folder / "b"), "a -> "),
    "no text": (lambda _: b"\xff".decode(), "text cannot be read or written: 'utf-8' codec can't decode byte 0xff"),
    "no ASCII": (lambda _: "é".encode("ascii"), "text cannot be read or written: 'ascii' codec can't encode"),
    "no JSON": (lambda _: json.loads("{"), "not valid JSON: Expecting property name"),
    "no YAML": (lambda _: yaml.safe_load("[a"), "not valid YAML: while parsing a flow sequence in "),
    "a long field": (lambda _: too_long_field(), "not a valid CSV table: field larger than field limit"),
    "no parquet": (lambda _: pyarrow.parquet.read_table(pyarrow.BufferReader(b"x")), "data cannot be read or written by pyarrow: "),
    "a wrapped error": (lambda _: generate_dataset(), "a.wav: is cut off"),
    "a data set": (lambda _: raise_error(datasets.exceptions.DatasetNotFoundError("no 'x'\non the Hub")), "no 'x' on the Hub"),
    "no safetensors": (truncate, "not a valid safetensors file: "),
    "code in a pickle": (lambda _: unpickle_code(), "the file cannot be unpickled safely: Weights only load failed"),
    "no pickle": (lambda _: pickle.loads(b"x"), "the file cannot be unpickled safely: "),
    "an empty pickle": (lambda _: pickle.loads(b""), "a file ends too early: Ran out of input"),
    "no zip": (lambda _: zipfile.ZipFile(io.BytesIO(b"x")), "not a valid zip file: "),
    "no audio": (lambda _: soundfile.read(io.BytesIO(b"x")), "not readable as audio: "),
    "a program": (lambda _: subprocess.run(["false"], check=True), "'false'"),
    "no server": (lambda _: raise_error(httpx.ConnectError("[Errno 111] Connection refused")), "the network request failed: [Errno 111]"),
    "no URL": (lambda _: httpx.URL("http://[::1"), "not a valid URL"),
    "a bad name": (lambda _: validate_repo_id("a//b"), "Repo id must"),
    "offline": (lambda _: raise_error(OfflineModeIsEnabled("offline mode")), "offline mode"),
    "no memory": (lambda _: raise_error(MemoryError()), "not enough memory; try fewer or shorter clips at a time"),
    "no memory of torch": (lambda _: torch.empty(2**60), "not enough memory; "),
    "no memory of a GPU": (lambda _: raise_error(torch.cuda.OutOfMemoryError("CUDA out of memory.")), "not enough memory; "),
    "deep JSON": (lambda _: json.loads("[" * 99_999), "values in a file are nested too deeply"),
    "deep YAML": (lambda _: yaml.safe_load("[" * 500), "values in a file are nested too deeply"),
    "no library": (lambda _: __import__("torchcodec_is_missing"), "a library is missing: No module named 'torchcodec_is_missing'"),
    "ours": (lambda _: raise_error(InputError("a\nb\x1b[31m")), r"a b\x1b[31m"),
    "terminal sequences": (lambda _: raise_error(FileNotFoundError(2, "No such file", "\x1b]0;x\x07\n.wav")), r"\x1b]0;x\x07"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KNOWN)
def test_known_kinds_are_one_line(kind, tmp_path):
    fail, expected = KNOWN[kind]
    with pytest.raises(BaseException) as failed:  # noqa: PT011 (each has its own)
        fail(tmp_path)
    line = explain_error(failed.value)
    assert expected in line
    assert line.isprintable()


def recurse():
    return recurse()


BUGS = {
    "KeyError": lambda: {}["a"],
    "AttributeError": lambda: None.x,
    "TypeError": lambda: 1 + "a",
    "ValueError": lambda: int("a"),
    "IndexError": lambda: [][0],
    "AssertionError": lambda: raise_error(AssertionError()),
    "ZeroDivisionError": lambda: 1 / 0,
    "NotImplementedError": lambda: raise_error(NotImplementedError()),
    "RuntimeError": lambda: torch.zeros(2) @ torch.zeros(3),
    "RecursionError": recurse,
    "ImportError": lambda: __import__("hf_audio_ssm.nothing"),
}


@pytest.mark.parametrize("name", BUGS)
def test_bugs_keep_their_tracebacks(name):
    with pytest.raises(getattr(builtins, name)) as failed, one_line_errors():
        BUGS[name]()
    assert explain_error(failed.value) is None


class Clips(torch.utils.data.Dataset):
    """A data set whose clips cannot be read."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClipError("a.wav", "is cut off"), "a.wav: is cut off"),
        (KeyError("x"), None),
    ],
)
def test_errors_of_workers_lose_the_traceback_in_their_message(error, expected):
    with pytest.raises(type(error)) as failed:
        list(DataLoader(Clips(error), num_workers=1))
    assert explain_error(failed.value) == expected


def test_exit_codes(capsys):
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        open("/none/there")
    assert stopped.value.code == "error: /none/there: No such file or directory"
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    # A pipe that is not the standard output.
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert stopped.value.code == "error: Broken pipe"
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        sys.exit(3)
    assert stopped.value.code == 3


def test_warnings_are_one_printable_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with one_line_errors():
            warnings.warn("a\x1b[31m\nb", stacklevel=1)
    assert capsys.readouterr().err == "warning: a\\x1b[31m b\n"


def test_kinds_are_named_as_their_libraries_name_them():
    """A library that renames an error would make it a bug."""
    examples = (
        HFValidationError, httpx.HTTPError, httpx.InvalidURL, yaml.YAMLError, csv.Error, pyarrow.lib.ArrowException,
        datasets.exceptions.DatasetsError, safetensors.SafetensorError, pickle.PickleError, torch.cuda.OutOfMemoryError,
        soundfile.SoundFileError, subprocess.SubprocessError, zipfile.BadZipFile, json.JSONDecodeError,
    )  # fmt: skip
    for kind in examples:
        assert any(name in boundary.KINDS for name in boundary._names(kind.__new__(kind))), kind


# As in a script: the output's reader goes away, or the process is interrupted.
SCRIPT = """
import sys, time
from hf_audio_ssm.common.boundary import one_line_errors
with one_line_errors():
    if sys.argv[1] == "print":
        for number in range(100_000):
            print(number)
    elif sys.argv[1] == "raise":
        raise OSError(28, "No space left on device", "a\\nb")
    else:
        print("ready", flush=True)
        time.sleep(60)
assert not {"numpy", "torch", "transformers"} & set(sys.modules)
"""


def test_in_a_process_of_its_own():
    result = subprocess.run([sys.executable, "-c", SCRIPT, "raise"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "error: a\\nb: No space left on device\n")


@pytest.mark.slow
def test_interrupted_and_cut_off():
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen([*command, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=60), process.stderr.read()) == (130, "")
    with subprocess.Popen([*command, "print"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
