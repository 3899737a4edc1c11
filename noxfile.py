# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests the package as users install it, each session in a new environment: with the lowest supported transformers, and with the
newest.

    nox -s tests       # installs with both, and runs the tests
    nox -s resolve     # asks pip whether the extras can be installed together
"""

import configparser
import re

import nox


def supported_transformers() -> list[str]:
    """Two requirements: the lowest version that setup.cfg allows, and any version that it allows, of which pip takes the newest."""
    config = configparser.ConfigParser()
    config.read("setup.cfg")
    (requirement,) = re.findall(r"^transformers(.*)$", config["options"]["install_requires"], flags=re.MULTILINE)
    (lowest,) = re.findall(r">=([\d.]+)", requirement)
    return [f"transformers=={lowest}.*", f"transformers{requirement}"]


@nox.session
@nox.parametrize("transformers", supported_transformers(), ids=["lowest", "newest"])
def tests(session: nox.Session, transformers: str) -> None:
    """Installs the package with one version of transformers and runs the tests, with the arguments after `--`."""
    session.install("--upgrade", ".[dev]", transformers)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
@nox.parametrize("transformers", supported_transformers(), ids=["lowest", "newest"])
def resolve(session: nox.Session, transformers: str) -> None:
    """Asks pip whether the package can be installed with a version of transformers, and installs nothing."""
    session.run("python", "-m", "pip", "install", "--dry-run", "--quiet", ".[train]", transformers)
