# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The states of all random generators of a process, as JSON."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints import is_count, one_line_errors, read_json


# Numbers in the state of the Mersenne Twister.
STATE_SIZE = 624


def file_name(process: int) -> str:
    """The file of a process in a checkpoint."""
    return f"random_states_{process}.json"


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)


def save_random_states(folder: Path, process: int, device: torch.device) -> None:
    """
    Writes the states of the generators of Python, numpy, torch and the accelerator's devices.

    Args:
        folder (`Path`): The checkpoint.
        process (`int`): The index of this process.
        device (`torch.device`): The device that this process trains on.
    """
    _, key, *rest = np.random.get_state()
    backend = getattr(torch, device.type)
    devices = backend.get_rng_state_all() if hasattr(backend, "get_rng_state_all") else []
    states = {
        "python": random.getstate(),
        "numpy": [np.asarray(key).tolist(), *rest],
        "torch": _encode(torch.get_rng_state()),
        "devices": [_encode(state) for state in devices],
    }
    (folder / file_name(process)).write_text(json.dumps(states), encoding="utf-8")


def load_random_states(folder: Path, process: int, device: torch.device) -> None:
    """
    Continues with the states that [`save_random_states`] wrote.

    Raises:
        [`InputError`]: If the file cannot be read, or holds anything else.
    """
    name = file_name(process)
    states: dict[str, Any] = read_json(folder / name)
    with one_line_errors(folder, name):
        version, inner, gauss = states["python"]
        key, position, has_gauss, cached_gaussian = states["numpy"]
        # numpy does not check it, and would read beyond the state.
        if len(key) != STATE_SIZE or not is_count(position) or position > STATE_SIZE:
            raise ValueError("the state of numpy's generator has another size")
        random.setstate((version, tuple(inner), gauss))
        np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), position, has_gauss, float(cached_gaussian)))
        torch.set_rng_state(_decode(states["torch"]))
        if states["devices"]:
            getattr(torch, device.type).set_rng_state_all([_decode(state) for state in states["devices"]])
