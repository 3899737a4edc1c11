# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The base of modules that initialise parameters of their own."""

from torch import nn


class InitializedModule(nn.Module):
    """A module with parameters that do not belong to a submodule: the models' `_init_weights` calls [`initialize`]."""

    def initialize(self) -> None:
        """
        Initialises the parameters that do not belong to a submodule, by the functions of `transformers.initialization`,
        which keep what a checkpoint gave. Does nothing by default.
        """
