# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments of scripts: values of files by the types of the fields, the command line over files, and what --help describes."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from transformers import TrainingArguments

from hf_audio_ssm.common.definitions import read_docstring, read_fields, read_names
from hf_audio_ssm.common.errors import InputError
from hf_audio_ssm.data.arguments import AugmentationFields, LabelledDataFields
from hf_audio_ssm.training import arguments as light
from hf_audio_ssm.training.arguments import ClassifierFields, FineTuningFields, JsonText, read_json_map
from hf_audio_ssm.training.classifiers import ClassifierArguments
from hf_audio_ssm.training.command_line import _shown_fields, complete_classes, parse_arguments
from hf_audio_ssm.training.fine_tuning import FineTuningArguments


@dataclass
class Kinds:
    """A field of each kind."""

    text: str = "x"
    maybe_text: str | None = "y"
    number: int = 1
    maybe_number: int | None = 2
    real: float = 0.5
    flag: bool = False
    on: bool = True
    maybe_flag: bool | None = None
    texts: list[str] = field(default_factory=list)
    numbers: list[int] | None = None
    choice: Literal["one", "two"] = "one"
    options: JsonText = "{}"
    push_to_hub: bool = False

    def __post_init__(self) -> None:
        self.mapping = read_json_map(self, "options")


def parse(folder, content, *words, name="x.yaml", kind=Kinds):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    (parsed,) = parse_arguments((kind,), [str(folder / name), *words], "Kinds.")
    return parsed


# What stands in the file -> the field and its value.
VALUES = [
    ("text: no", "text", "no"), ("text: 010", "text", "010"), ("text: 12:30", "text", "12:30"), ("text: true", "text", "true"),
    ("text: 2024-01-01", "text", "2024-01-01"), ("text: --push_to_hub", "text", "--push_to_hub"), ("text: ''", "text", ""),
    ("text: 'a\tb'", "text", "a\tb"), ("text: -5", "text", "-5"), ("maybe_text: null", "maybe_text", None),
    ("maybe_text:", "maybe_text", None), ("maybe_text: 'null'", "maybe_text", "null"), ("number: -5", "number", -5),
    ("number: '7'", "number", 7), ("number: 1_000", "number", 1000), ("maybe_number: ~", "maybe_number", None),
    ("real: 1e-4", "real", 1e-4), ("real: 3", "real", 3.0), ("real: -.5", "real", -0.5), ("flag: yes", "flag", True),
    ("flag: 1", "flag", True), ("on: off", "on", False), ("on: false", "on", False), ("maybe_flag: false", "maybe_flag", False),
    ("texts: [x, --push_to_hub, ada/repo]", "texts", ["x", "--push_to_hub", "ada/repo"]),
    ("texts: [--, -x, '@file', '']", "texts", ["--", "-x", "@file", ""]), ("texts: one", "texts", ["one"]),
    ("texts: []", "texts", []), ("texts: [1, no, 1e3]", "texts", ["1", "no", "1e3"]), ("numbers: [1, -2]", "numbers", [1, -2]),
    ("numbers: 3", "numbers", [3]), ("numbers: null", "numbers", None), ("choice: two", "choice", "two"),
    ("options: {a: 1e-5, b: [no, 010, true], c: {d: null}}", "mapping",
     {"a": 1e-5, "b": ["no", 10, True], "c": {"d": None}}),
    ("options: '{\"a\": 1}'", "mapping", {"a": 1}), ("options: {a: .nan}", "mapping", {"a": ".nan"}),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name", "expected"), VALUES)
def test_values_are_exactly_those_of_the_file(content, name, expected, tmp_path):
    parsed = parse(tmp_path, content)
    assert getattr(parsed, name) == expected
    assert type(getattr(parsed, name)) is type(expected)
    # And nothing else changed: no value has become an option.
    changed = {entry for entry, value in vars(parsed).items() if value != vars(Kinds())[entry]}
    assert changed <= {name, "options"}


REFUSED = [
    ("number: true", "number must be a whole number, got 'true'"), ("number: 1.5", "number must be a whole number, got '1.5'"),
    ("number: 1e3", "got '1e3'"), ("number:", "number must be a whole number, got null"), (f"number: {'9' * 5000}", "a whole number"),
    ("number: [1]", "number must be a whole number, got a list"), ("number: {a: 1}", "a whole number, got a mapping"),
    ("text: [a]", "text must be text, got a list"), ("text: {a: b}", "text must be text, got a mapping"),
    ("text: null", "text must be text, got null"), ("real: x", "real must be a number, got 'x'"),
    ("flag: maybe", "flag must be true or false, got 'maybe'"), ("flag: null", "flag must be true or false, got null"), ("texts: [[a]]", "texts must be a list, each value text"),
    ("texts: [null]", "texts must be a list"), ("texts: {a: b}", "got a mapping"), ("texts: null", "got null"),
    ("numbers: [1, x]", "numbers must be a list, each value a whole number"), ("choice: three", "choice must be one of one, two"),
    ("options: [a]", "options must be text, got a list"), ("options: {a: 1e999}", "options must be"),
    ("options: '{\"a\": NaN}'", "--options must be JSON"), ("options: 'no'", "--options must be JSON"),
    ("--push_to_hub: true", "there is no argument '--push_to_hub'; did you mean push_to_hub?"),
    ("push-to-hub: true", "did you mean push_to_hub?"), ("mapping: {}", "there is no argument 'mapping'"),
    ("no_on: true", "there is no argument 'no_on'"), ("<<: {text: a}", "keys must be names"),
    ("text: a\ntext: b", "the key 'text' is there twice"), ("help: true", "there is no argument 'help'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_refused_values_are_named_with_their_file(content, message, tmp_path):
    with pytest.raises(InputError) as refused:
        parse(tmp_path, content)
    line = str(refused.value)
    assert message in line
    assert len(line.splitlines()) == 1
    assert line.startswith((f"{tmp_path / 'x.yaml'}: ", "--options must be JSON"))
    assert len(line) < 300 + len(str(tmp_path))


def test_the_command_line_overrides_files_and_files_those_before_them(tmp_path):
    (tmp_path / "first.yaml").write_text("number: 1\ntexts: [a, b]\nreal: 1\nmaybe_number: 8\n")
    (tmp_path / "base.json").write_text('{"number": 5, "maybe_text": "base"}')
    content = "include: base.json\nnumber: 2\nmaybe_number: null\non: false\n"
    words = [str(tmp_path / "x.yaml"), "--texts", "c", "--real=2", "--on"]
    (tmp_path / "x.yaml").write_text(content)
    (parsed,) = parse_arguments((Kinds,), [str(tmp_path / "first.yaml"), *words], "Kinds.")
    assert (parsed.number, parsed.texts, parsed.real, parsed.maybe_number) == (2, ["c"], 2.0, None)
    assert (parsed.maybe_text, parsed.on) == ("base", True)
    with pytest.raises(InputError, match=r"x\.yaml; files of arguments come before all others"):
        parse_arguments((Kinds,), ["--real", "2", *words[:1]], "Kinds.")


def test_required_arguments_may_come_from_a_file(tmp_path):
    parsed = parse(tmp_path, "model: no\nmax_length: 64\nconfig_overrides: {num_prototypes: 3}", kind=ClassifierFields)
    assert type(parsed) is ClassifierArguments
    assert (parsed.model, parsed.overrides) == ("no", {"num_prototypes": 3, "max_length": 64})
    with pytest.raises(SystemExit) as stopped:
        parse(tmp_path, "max_length: 64", kind=ClassifierFields)
    assert stopped.value.code == 2


def test_a_script_has_no_file_of_arguments_beside_it(tmp_path, monkeypatch):
    """HfArgumentParser would take the words of `script.args`."""
    (tmp_path / "script.args").write_text("--push_to_hub")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "script.py")])
    assert not parse(tmp_path, "number: 3").push_to_hub


def test_training_arguments_from_files(tmp_path):
    content = (
        "output_dir: no\nlr_scheduler_type: cosine\nlr_scheduler_kwargs: {num_cycles: 1}\nreport_to: [none]\n"
        "eval_strategy: epoch\nlearning_rate: 1e-4\nsave_total_limit: null\nresume_from_checkpoint: true\nseed: 7\n"
    )
    parsed = parse(tmp_path, content, "--num_train_epochs", "2", kind=FineTuningFields)
    assert type(parsed) is FineTuningArguments
    assert (parsed.output_dir, parsed.lr_scheduler_type, parsed.lr_scheduler_kwargs) == (
        "no",
        "cosine",
        {"num_cycles": 1},
    )
    assert (parsed.report_to, parsed.learning_rate, parsed.save_total_limit) == ([], 1e-4, None)
    assert (parsed.resume_from_checkpoint, parsed.seed, parsed.num_train_epochs) == (True, 7, 2.0)
    for content, message in (
        ("lr_scheduler_type: fast", "lr_scheduler_type must be one of"),
        ("learning_rate: fast", "learning_rate must be a number, got 'fast'"),
        ("load_best_model_at_end: true", "--load_best_model_at_end requires"),
        ("bf16: {a: b}", "bf16 must be true or false, got a mapping"),
        ("learning_rates: 1", "there is no argument 'learning_rates'; did you mean learning_rate?"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            parse(tmp_path, f"output_dir: out\nreport_to: none\n{content}\n", kind=FineTuningFields)
        assert len(str(refused.value).splitlines()) == 1


def test_the_file_of_the_documentation(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```text\n(include: .*?)```", page, re.DOTALL)
    (tmp_path / "esc50.yaml").write_text("learning_rate: 1\nmodel: there\nsave_total_limit: 2\n")
    (tmp_path / "mine.yaml").write_text(block)
    classes = (LabelledDataFields, ClassifierFields, FineTuningFields)
    data, classifier, training = parse_arguments(classes, [str(tmp_path / "mine.yaml"), "--report_to", "none"], "")
    assert (data.data, classifier.model, training.learning_rate, training.save_total_limit) == (
        "recordings",
        "there",
        1e-4,
        None,
    )
    assert classifier.overrides == {"num_prototypes": 10}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lerning_rate", "3"], r"no argument --lerning_rate; did you mean --learning_rate\?"),
        (["--optimiser"], "no argument --optimiser"),
        (["stray"], "no argument stray; see --help"),
        (["--optim", "adamw_torch", "stray"], "no argument stray; see --help"),
    ],
)
def test_unknown_arguments(words, message):
    with pytest.raises(InputError, match=message):
        parse_arguments((FineTuningFields,), words, "")


# ---- What is described without importing it ----


def test_described_training_arguments_are_those_of_transformers():
    """Names, defaults and help texts that --help shows, against the class that is made of the arguments."""
    real = {entry.name: entry for entry in dataclasses.fields(FineTuningArguments)}
    described = {name: (default, text) for name, _, default, text in read_fields(*FineTuningFields._described_in)}
    assert set(described) == {entry.name for entry in dataclasses.fields(TrainingArguments)}
    own = {entry.name for entry in dataclasses.fields(FineTuningFields)}
    assert FineTuningFields._shown <= set(described) | own
    shown = {entry.name: entry for entry in dataclasses.fields(_shown_fields(FineTuningFields))}
    assert set(shown) == FineTuningFields._shown - own
    for name, entry in shown.items():
        assert (entry.default, entry.metadata["help"]) == (real[name].default, real[name].metadata["help"]), name


@pytest.mark.parametrize("fields", [LabelledDataFields, AugmentationFields, ClassifierFields, FineTuningFields])
def test_complete_classes_add_no_fields_of_their_own(fields):
    (complete,) = complete_classes([fields])
    assert issubclass(complete, fields)
    described = {entry.name for entry in dataclasses.fields(fields)}
    if fields is FineTuningFields:
        described |= {entry.name for entry in dataclasses.fields(TrainingArguments)}
    assert {entry.name for entry in dataclasses.fields(complete)} == described
    # The same defaults and help texts.
    for entry in dataclasses.fields(fields):
        same = complete.__dataclass_fields__[entry.name]
        assert (same.default, same.default_factory, same.metadata) == (
            entry.default,
            entry.default_factory,
            entry.metadata,
        )


def test_names_read_from_sources():
    from hf_audio_ssm.hub import adapters
    from hf_audio_ssm.inference import embedding
    from hf_audio_ssm.models.filter_bank import feature_extraction_ssamba
    from hf_audio_ssm.models.heads import classification_heads

    assert light.CLASSIFIER_TYPES == tuple(classification_heads.CLASSIFICATION_HEADS)
    assert light.ADAPTER_METHODS == tuple(adapters.ADAPTER_METHODS)
    for module, name in ((embedding, "POOLINGS"), (feature_extraction_ssamba, "NORMALIZATION_PRESETS")):
        assert read_names(module.__name__, name) == tuple(getattr(module, name))
    assert read_docstring(embedding.__name__) == embedding.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'NOTHING'"):
        read_names(embedding.__name__, "NOTHING")
    with pytest.raises(ModuleNotFoundError):
        read_names("no_such_package.module", "NAME")


def test_without_sources_modules_are_imported(monkeypatch):
    from hf_audio_ssm.common import definitions
    from hf_audio_ssm.inference import embedding

    def refuse(module):
        raise FileNotFoundError(module)

    monkeypatch.setattr(definitions, "_parse", refuse)
    assert read_names(embedding.__name__, "POOLINGS") == embedding.POOLINGS
    assert read_docstring(embedding.__name__) == embedding.__doc__
