# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The encoder of MTEB's audio tasks (needs the mteb package):

    mteb.evaluate(MtebEncoder("org/ssamba-tiny"), mteb.get_tasks(tasks=["ESC50"]))
"""

from typing import Any, cast

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from tqdm.auto import tqdm

from ..hub.loading import load_encoder
from ..inference.embedding import ClipEmbedding, embed


class MtebEncoder(AbsEncoder):
    """
    Clip embeddings of a checkpoint.

    Args:
        model_name (`str`): A folder or a Hub repository.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        device (`str`, *optional*): Where to compute; defaults to the GPU, if there is one.
    """

    def __init__(self, model_name: str, revision: str | None = None, device: str | None = None, **kwargs: Any):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.feature_extractor = load_encoder(model_name, revision, device)
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": model_name
                if model_name.count("/") == 1
                else f"hf-audio-ssm/{model_name.rstrip('/').split('/')[-1]}",
                "revision": revision,
                "n_parameters": self.model.num_parameters(),
                "embed_dim": self.model.config.hidden_size,
                "modalities": ["audio"],
                "framework": ["PyTorch"],
            }
        )

    def encode(self, inputs: Any, *, show_progress_bar: bool = True, **kwargs: Any) -> np.ndarray:
        """
        Embeds the clips of a data loader, each at its own rate.

        Args:
            inputs (`DataLoader`): Over rows whose `audio` has `array` (samples, or channels by samples) and
                `sampling_rate`.
            show_progress_bar (`bool`, *optional*, defaults to `True`): Whether to show progress.

        Returns:
            `np.ndarray` of shape `(clips, hidden_size)`, float32.
        """
        # MTEB's own collator needs torchaudio to convert rates.
        inputs.collate_fn = list
        embeddings = []
        for rows in tqdm(inputs, disable=not show_progress_bar, desc="Embedding", unit="batch"):
            for audio in (row["audio"] for row in rows):
                clip = [np.asarray(audio["array"], dtype=np.float32)]
                (embedding,) = cast(
                    list[ClipEmbedding], embed(clip, audio["sampling_rate"], self.model, self.feature_extractor)
                )
                embeddings.append(embedding.clip.cpu().numpy())
        return np.stack(embeddings)
