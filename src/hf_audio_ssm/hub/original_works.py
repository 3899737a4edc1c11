# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Whose work the models are, for the credit in model cards."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OriginalWork:
    """
    A model's publication.

    Args:
        name (`str`): The model's name.
        meaning (`str`): What it stands for.
        paper (`str`): The paper's address.
        repository (`str`): Where its code is on GitHub.
        license (`str`): The licence of code and weights there, by the Hub's name.
        citation (`str`): BibTeX entry.
    """

    name: str
    meaning: str
    paper: str
    repository: str
    license: str
    citation: str


# By model type.
ORIGINAL_WORKS = {
    "ssamba": OriginalWork(
        name="SSAMBA",
        meaning="Self-Supervised Audio Mamba",
        paper="https://arxiv.org/abs/2405.11831",
        repository="SiavashShams/ssamba",
        license="bsd-3-clause",
        citation="""\
@article{shams2024ssamba,
  title = {{SSAMBA}: Self-Supervised Audio Representation Learning with {Mamba} State Space Model},
  author = {Shams, Siavash and Dindar, Sukru Samet and Jiang, Xilin and Mesgarani, Nima},
  journal = {arXiv preprint arXiv:2405.11831},
  year = {2024}
}""",
    ),
    "ssast": OriginalWork(
        name="SSAST",
        meaning="Self-Supervised Audio Spectrogram Transformer",
        paper="https://arxiv.org/abs/2110.09784",
        repository="YuanGongND/ssast",
        license="bsd-3-clause",
        citation="""\
@inproceedings{gong2022ssast,
  title = {{SSAST}: Self-Supervised Audio Spectrogram Transformer},
  author = {Gong, Yuan and Lai, Cheng-I and Chung, Yu-An and Glass, James},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {36},
  pages = {10699--10709},
  year = {2022}
}""",
    ),
}
