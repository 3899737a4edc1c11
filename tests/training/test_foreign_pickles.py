# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pickles of DeepSpeed and of sharded FSDP are refused if they name code."""

import pickle
import shutil

import pytest
import torch
from code_in_pickles import WRITERS, Code, write_pickle
from torch.distributed import checkpoint

from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.training.foreign_pickles import refuse_code


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """As accelerate saves a sharded model and its optimizer, and DeepSpeed its states."""
    folder = tmp_path_factory.mktemp("saved")
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.save(states, checkpoint_id=folder / "pytorch_model_fsdp_0", no_dist=True)
    (folder / "pytorch_model").mkdir()
    torch.save({**states, "step": 3, "loss": torch.float16}, folder / "pytorch_model" / "mp_rank_00_model_states.pt")
    (folder / "latest").write_text("pytorch_model")
    return folder


def test_states_of_tensors_are_read(saved):
    refuse_code(saved)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("pytorch_model_fsdp_0/.metadata", write_pickle),
        *(("pytorch_model/mp_rank_00_model_states.pt", write) for write in WRITERS),
        *(("pytorch_model/more.pkl", write) for write in WRITERS),
    ],
)
def test_code_is_refused(saved, tmp_path, name, write):
    folder, mark = tmp_path / "folder", tmp_path / "mark"
    shutil.copytree(saved, folder)
    write(tmp_path / "code", mark)
    (tmp_path / "code").replace(folder / name)
    with pytest.raises(InputError, match=f"{name} cannot be read without running code in it"):
        refuse_code(folder)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_any_protocol_is_refused(saved, tmp_path, protocol):
    folder, mark = tmp_path / "folder", tmp_path / "mark"
    shutil.copytree(saved, folder)
    (folder / "pytorch_model_fsdp_0" / ".metadata").write_bytes(pickle.dumps(Code(mark), protocol))
    with pytest.raises(InputError, match="metadata cannot be read without running code in it"):
        refuse_code(folder)
    shutil.copy(saved / "pytorch_model_fsdp_0" / ".metadata", folder / "pytorch_model_fsdp_0")
    torch.save({"a": Code(mark)}, folder / "pytorch_model" / "more.pt", pickle_protocol=protocol)
    with pytest.raises(InputError, match="more.pt cannot be read without running code in it"):
        refuse_code(folder)
    assert not mark.exists()
