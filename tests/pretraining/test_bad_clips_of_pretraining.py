# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What pretraining does about clips that cannot be used: how many it leaves out, and when it ends."""

import shutil

import numpy as np
import pytest
import soundfile as sf
from tones import write_broken_clips

from hf_audio_ssm.common.errors import InputError


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_clips_beyond_the_share_end_the_run(clips, tmp_path, run, streaming):
    folder = tmp_path / "mixed"
    shutil.copytree(clips, folder)
    write_broken_clips(folder)
    options = {"max_steps": 2, "streaming": streaming}
    with pytest.raises(
        InputError, match=r"clips? cannot be used \(.*; repair or remove them, or pass --bad_clips skip"
    ):
        run(folder, tmp_path / "out", bad_clips="stop", **options)
    if not streaming:
        with pytest.raises(InputError, match=r"more than --max_bad_share 0\.05; .* or pass --max_bad_share 0\.\d"):
            run(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out" / "best").exists()


def test_silence_is_no_bad_clip(clips, tmp_path, run, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(clips, folder)
    for index in range(6):
        sf.write(folder / f"silent {index}.wav", np.zeros(16_000), 16_000)
    run(folder, tmp_path / "out", bad_clips="stop", max_steps=3)
    assert "clips could not be used" in capsys.readouterr().out
