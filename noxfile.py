# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
The package as users install it, in environments of its own: with the lowest transformers that it supports, and the newest.

    nox -s tests       # installs with both, and runs the tests
    nox -s resolve     # only asks pip whether the extras resolve
"""

import configparser
import re

import nox


def supported_transformers() -> list[str]:
    """The requirement of setup.cfg as two: its lower bound, and all of it, of which pip takes the newest."""
    config = configparser.ConfigParser()
    config.read("setup.cfg")
    (requirement,) = re.findall(r"^transformers(.*)$", config["options"]["install_requires"], flags=re.MULTILINE)
    (lowest,) = re.findall(r">=([\d.]+)", requirement)
    return [f"transformers=={lowest}.*", f"transformers{requirement}"]


@nox.session
@nox.parametrize("transformers", supported_transformers(), ids=["lowest", "newest"])
def tests(session: nox.Session, transformers: str) -> None:
    """Installs with one version of transformers and runs the tests, or those that are given after `--`."""
    session.install("--upgrade", ".[dev]", transformers)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
@nox.parametrize("transformers", supported_transformers(), ids=["lowest", "newest"])
def resolve(session: nox.Session, transformers: str) -> None:
    """Resolves what users install, without installing it."""
    session.run("python", "-m", "pip", "install", "--dry-run", "--quiet", ".[train]", transformers)
