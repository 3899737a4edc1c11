# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, its code runs as it stands, its links lead somewhere, its commands exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(r"python ((?:benchmarks|examples/space)/[^`\n#]+)", page.read_text("utf-8"))
    }
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the code on a page; what follows in the same language is one block."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [(key, "\n".join(code for _, code in group)) for key, group in groupby(found, key=lambda block: block[0])]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with the commands that pages use."""
    folder = tmp_path_factory.mktemp("programs")
    for name, module in (("python", ""), ("hf-audio-ssm", " -m hf_audio_ssm")):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def relative(page: Path) -> str:
    return str(page.relative_to(DOCS))


# The commands of these take long; they are tested by their options, or where their subject is.
MEASURED = {
    *("performance.md", "pretraining.md", "probing.md", "fine_tuning.md", "long_audio.md"),
    *("ssast.md", "adding_an_encoder.md"),
    # Its command needs containers.
    "packaging.md",
}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and relative(page) not in MEASURED], ids=relative
)
def test_code_runs(page, clone, programs, hub):
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    for language, code in blocks(page):
        assert language in ("python", "bash"), f"a block of {language or 'no language'} would not be tested"
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{code}\n{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    script, *options = shlex.split(command)
    # `--help` last: everything before it is parsed and checked first.
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *options, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The documentation, built as it is published; any warning is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def test_every_page_is_built(site):
    for page in PAGES:
        folder = Path(relative(page)).with_suffix("")
        assert (site / (folder.parent if folder.name == "index" else folder) / "index.html").is_file()


def imported_names() -> set[str]:
    """All that the documentation and the examples import from the package, as `module.name`, but for constants."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")]
    sources += [
        code for page in [*PAGES, ROOT / "README.md"] for language, code in blocks(page) if language == "python"
    ]
    names = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.startswith("hf_audio_ssm."):
            names |= {f"{node.module}.{alias.name}" for alias in node.names if not alias.name.isupper()}
    return names


def test_api_has_every_public_name(site):
    import hf_audio_ssm

    documented = set()
    for page in (site / "api").rglob("*.html"):
        documented |= set(re.findall(r"id=\"?(hf_audio_ssm[\w.]*)", page.read_text(encoding="utf-8")))
    public = {f"{getattr(hf_audio_ssm, name).__module__}.{name}" for name in hf_audio_ssm.__all__ if name != "ops"}
    public |= {f"hf_audio_ssm.ops.{name}" for name in hf_audio_ssm.ops.__all__}
    missing = (public | imported_names()) - documented
    assert not missing


def test_pages_need_no_other_server(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img)[^>]+src=[\"']?(https?:[^\"'> ]+)", page.read_text(encoding="utf-8"))
        loaded += re.findall(
            r"<link[^>]+rel=[\"']?stylesheet[^>]+href=[\"']?(https?:[^\"'> ]+)", page.read_text("utf-8")
        )
        assert not loaded, (page, loaded)
