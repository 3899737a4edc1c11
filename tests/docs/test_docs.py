# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, its code runs as it stands, its links lead somewhere, its commands exist."""

import argparse
import ast
import configparser
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from snippets import Block, read_blocks, read_inline_commands, run_here
from warm_python import run_python


ROOT = Path(__file__).resolve().parents[2]
DOCS, TESTS, TEMPLATES = ROOT / "docs", ROOT / "tests", ROOT / "src" / "hf_audio_ssm" / "hub" / "card_templates"
PAGES = sorted(DOCS.rglob("*.md"))
# With those that are read in the repository only.
ALL_PAGES = [
    *sorted(ROOT.glob("*.md")),
    *PAGES,
    *(page for folder in ("benchmarks", "conversion", "examples") for page in sorted((ROOT / folder).rglob("*.md"))),
]
# What runs the named blocks of a page: for what they leave or print, or shortened.
NAMED_BLOCKS = {
    "README.md": ("docs/test_readme.py", "docs/test_readme_to_hub.py"),
    "docs/extending.md": ("docs/test_extending.py",),
    "docs/fine_tuning.md": ("docs/test_tuning_docs.py",),
    "docs/long_audio.md": ("docs/test_long_audio_docs.py",),
    "docs/packaging.md": ("package/test_installation.py",),
    "docs/pretraining.md": ("docs/test_pretraining_docs.py",),
    "docs/probing.md": ("docs/test_tuning_docs.py",),
    "docs/ssast.md": ("docs/test_ssast_docs.py",),
    "docs/tutorials/deployment.md": ("examples/test_space.py",),
    "examples/space/README.md": ("examples/test_space.py",),
    "examples/spoken_words/README.md": ("examples/test_quickstart.py",),
}
COMMANDS = sorted(
    {command for page in ALL_PAGES for command in read_inline_commands(page)}
    | {
        line.split("#")[0].strip()
        for page in PAGES
        for block in read_blocks(page)
        if block.is_benchmark
        for line in block.code.splitlines()
    }
)


class Understood(Exception):
    """Ends a script that has read its command line; of that, what it does not know."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the code on a page that runs as it stands; what follows in the same language is one block."""
    found = [block for block in read_blocks(page) if not block.name and block.language != "text"]
    groups = groupby((block for block in found if not block.is_benchmark), key=lambda block: block.language)
    return [(language, "\n".join(block.code for block in group)) for language, group in groups]


def relative(page: Path, folder: Path = DOCS) -> str:
    return page.relative_to(folder).as_posix()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: relative(page, ROOT))
def test_every_block_is_known_to_a_test(page):
    """Output, tables and trees of files are `text`; all else is run below, or by name elsewhere."""
    tests = [(TESTS / name).read_text(encoding="utf-8") for name in NAMED_BLOCKS.get(relative(page, ROOT), ())]
    for block in read_blocks(page):
        if block.language == "text":
            continue
        assert block.language in ("python", "bash"), f"a block of {block.language or 'no language'} would not be run"
        if block.name:
            assert any(f'"{block.name}"' in test for test in tests), f"no test runs {block.name}"
        else:
            assert page in PAGES, f"no test runs\n{block.code}"


def test_every_block_of_the_cards_is_known():
    """The examples of all kinds of cards are run by test_cards.py."""
    example, citation = "{% block use %}\n{% endblock %}\n", "{{ work.citation }}\n"
    found = {template.name: read_blocks(template) for template in TEMPLATES.glob("*.md")}
    known = [Block(None, "python", example), Block(None, "bibtex", citation)]
    assert {name: blocks for name, blocks in found.items() if blocks} == {"base.md": known}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=relative)
def test_code_runs(page, clone, hub):
    for language, code in blocks(page):
        if language == "python":
            programs = [["-c", code]]
        else:
            lines = code.replace("\\\n", " ").splitlines()
            # Words as the shell makes them, where nothing but quotes and comments is special.
            assert not re.search(r"[$`|&;<>()]", code), f"this test cannot run\n{code}"
            commands = [words for line in lines if (words := shlex.split(line, comments=True))]
            assert all(program == "hf-audio-ssm" for program, *_ in commands), f"this test cannot run\n{code}"
            programs = [["-m", "hf_audio_ssm", *words] for _, *words in commands]
        for program in programs:
            result = run_python(program, clone)
            assert result.returncode == 0, f"{code}\n{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command, monkeypatch):
    """Those that stand in a sentence, or take long: every option and value is one that the script takes."""
    parse = argparse.ArgumentParser.parse_known_args

    def parse_only(*arguments, **keywords):
        raise Understood(parse(*arguments, **keywords)[1])

    script = shlex.split(command)[1]
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / Path(script).parent)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_only)
    with pytest.raises((Understood, SystemExit)) as ended:
        run_here(command, monkeypatch)
    # `--help` ends well.
    assert ended.value.args in (([],), (0,))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: relative(page, ROOT))
def test_extras_exist(page):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = re.findall(r"(?:hf-audio-ssm|\"\.)\[(\w+)\]", page.read_text(encoding="utf-8"))
    assert set(named) <= set(config["options.extras_require"])


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
    sources += [block.code for page in ALL_PAGES for block in read_blocks(page) if block.language == "python"]
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
