# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Inputs of model cards: metadata parses back to what was given, no string becomes markup, and no path of this machine is named."""

import re
from typing import NamedTuple

import pytest
from fuzzing import check_examples, many_examples
from huggingface_hub import ModelCard
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_audio_ssm import SsambaConfig, SsambaFeatureExtractor, SsambaForAudioClassification
from hf_audio_ssm.common.printable import printable
from hf_audio_ssm.hub.cards import MAX_LABEL, BaseModelCard, Results, classifier_card


HARMFUL = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</td></table><h1>",
    "[click](javascript:alert(1))",
    "![p](https://example.org/p.png)",
    "`code` ```",
    "| a | b |\n|---|---|",
    "\n\n# Heading\n\n- item\n",
    "\n---\nlicense: mit\n---\n",
    "---",
    "{{ 7 * 7 }}{% for x in y %}",
    "${{ 7 * 7 }}",
    "!!python/object/apply:os.system ['true']",
    "*&anchor: {a: 1}",
    "yes",
    "null",
    "1e5",
    "\x1b[31m\x07",
    "\u202egpj",
    "\ud800",
    "\u2028\u2029\x85",
    "&lt;b&gt;",
    "[a]: https://example.org",
    "<https://example.org>",
    "~~a~~ $$b$$ **c** __d__",
    "'\"\\",
)
texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(HARMFUL),
    st.lists(st.sampled_from(HARMFUL), min_size=2, max_size=3).map(" ".join),
    # Hypothesis draws constants of this file, too.
).filter(lambda text: "secretuser" not in text)
names = st.text("abcXYZ019 _-.äЖ<>`[|", min_size=1, max_size=12).filter(lambda name: name.strip(". "))
paths = st.one_of(
    st.builds("/home/secretuser/{}/{}".format, names, names),
    st.builds("C:\\Users\\secretuser\\{}".format, names),
    st.builds("~/secretuser/{}".format, names),
    st.builds("file:///home/secretuser/{}".format, names),
    st.builds("\\\\server\\secretuser\\{}".format, names),
)


class Inputs(NamedTuple):
    labels: list[str]
    model_name: str
    base: BaseModelCard | None
    source: str
    metrics: dict[str, float]
    split: str
    notes: list[str]
    rows: dict[str, str]
    pictures: dict[str, str]
    robustness: dict[str, float]


bases = st.builds(
    BaseModelCard,
    name=st.one_of(texts, paths),
    on_hub=st.one_of(st.none(), st.just("org/base")),
    license=st.one_of(st.none(), st.just("mit")),
    license_name=st.one_of(st.none(), texts),
    license_link=st.one_of(st.none(), texts),
    credit=st.one_of(st.none(), texts),
)
inputs = st.builds(
    Inputs,
    labels=st.lists(texts, min_size=2, max_size=4),
    model_name=st.one_of(st.just("org/mine"), names, paths),
    base=st.one_of(st.none(), bases),
    source=st.one_of(texts, paths, st.just("org/clips")),
    metrics=st.dictionaries(texts.filter(bool), st.floats(0, 1), min_size=1, max_size=2),
    split=st.sampled_from(["test", "validation"]),
    notes=st.lists(st.one_of(texts, paths.map("Noise comes from {}.".format)), max_size=2),
    rows=st.dictionaries(texts, st.one_of(texts, paths.map("noise_dir {}".format)), max_size=2),
    pictures=st.dictionaries(texts, st.sampled_from(["a.png", "b c.png", "d).png"]), max_size=1),
    robustness=st.dictionaries(texts, st.floats(0, 1), max_size=2),
)


@pytest.fixture(scope="module")
def model() -> SsambaForAudioClassification:
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "state_size": 2, "max_length": 64}
    return SsambaForAudioClassification(SsambaConfig(**sizes, problem_type="single_label_classification"))


MARKUP = {"em_open", "strong_open", "s_open", "blockquote_open", "html_block", "html_inline", "hr"}


def flat(tokens):
    for token in tokens:
        yield token
        yield from flat(token.children or ())


@many_examples
def test_cards(num_examples, model):
    parser = MarkdownIt("gfm-like", {"linkify": False})

    def check(given: Inputs) -> None:
        model.config.id2label = dict(enumerate(given.labels))
        results = Results(given.metrics, given.split, given.source, 8, given.notes, robustness=given.robustness)
        card = classifier_card(
            given.model_name,
            model,
            SsambaFeatureExtractor(max_length=64),
            given.base,
            given.source,
            {"train": 16},
            given.rows,
            results,
            given.pictures,
        )
        text = str(card)
        text.encode()
        assert "secretuser" not in text
        assert all(line.isprintable() or not line.isascii() for line in text.splitlines())
        # The metadata is what it would be of plain strings, and reads back.
        again = ModelCard(text)
        data = again.data.to_dict()
        assert data["tags"] == ["audio", "audio-classification", "ssamba", "hf-audio-ssm"]
        assert data["metrics"] == [printable(name) for name in given.metrics]
        assert data.get("base_model") == (given.base.on_hub if given.base else None)
        assert data.get("license") == (given.base.license if given.base else None)
        measured = {result.metric_name: result.metric_value for result in again.data.eval_results}
        assert measured == {printable(name): round(value, 4) for name, value in given.metrics.items()}
        # The text has the headings and tables of the template, and no others.
        tokens = list(flat(parser.parse(again.text)))
        kinds = [token.type for token in tokens]
        expected_quotes = bool(given.base and given.base.credit and given.base.credit.splitlines())
        assert MARKUP.isdisjoint(
            set(kinds) - ({"blockquote_open", "em_open", "strong_open", "s_open", "hr"} if expected_quotes else set())
        )
        assert not {"html_block", "html_inline"} & set(kinds)
        headings = [inline.content for inline, kind in zip(tokens[1:], kinds, strict=False) if kind == "heading_open"]
        known = {
            "Input",
            "Use",
            "Limits",
            "Licence and credit",
            "Citation",
            "Robustness",
            f"Results on the {given.split} split",
        }
        if not expected_quotes:
            assert set(headings[1:]) <= known
            assert kinds.count("image") == len(given.pictures)
            assert kinds.count("table_open") == 2 + bool(given.robustness)
            links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
            assert all(re.match(r"https://(huggingface\.co|arxiv\.org|github\.com)/", link) for link in links)
        # What was given is shown as it is.
        shown = " ".join(
            "".join(child.content for child in token.children) for token in tokens if token.type == "inline"
        )
        for label in given.labels:
            assert printable(label, MAX_LABEL).strip() in shown

    check_examples(num_examples, check, inputs)
