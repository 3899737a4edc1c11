# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors, messages, printable strings, files, the version and old names of modules. Imports nothing else of the package."""
