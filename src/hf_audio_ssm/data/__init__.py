# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""From folders, files and the Hub to clips, samples and the models' inputs."""
