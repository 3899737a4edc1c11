# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tables of clips that lie beside the audio: `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, as the `audiofolder` of
datasets reads them. Each row names a file, below the table's folder, in `file_name`.
"""

import csv
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import InputError


METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_COLUMN = "file_name"
# Characters of a row that a message quotes.
MAX_QUOTED = 60
MAX_LABEL = 1000
# Control characters, line and paragraph separators, and halves of characters: no part of a label.
UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")


def find_metadata(folder: Path) -> Path | None:
    """
    The table of a folder, or None.

    Raises:
        [`InputError`]: If there are several, or it is no file.
    """
    found = [folder / name for name in METADATA_FILES if os.path.lexists(folder / name)]
    if len(found) > 1:
        raise InputError(f"{folder}: must have one metadata file, found {', '.join(path.name for path in found)}")
    if found and not found[0].is_file():
        # A link to nothing, or a pipe, which would be waited for.
        kind = "a folder" if found[0].is_dir() else "no file"
        raise InputError(f"{found[0]}: is {kind}, expected a file")
    return found[0] if found else None


def quote(value: Any) -> str:
    """A value in a message: on one line, and cut if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}... ({len(text)} characters)"


def clean_text(value: str) -> str:
    """A label or a group without spaces around it, in the one form of its characters (NFC) that compares as equal."""
    return unicodedata.normalize("NFC", value).strip()


def text_of(value: Any) -> str:
    """The name of a group, a fold or a split as text; empty for what is none. 3.0 is 3: tables with gaps hold no whole numbers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return clean_text(str(value)) if isinstance(value, (str, int)) else ""


def label_fault(label: Any) -> str | None:
    """What is wrong with a label, after "has": None if it is a whole number, or text that can be printed."""
    if isinstance(label, str):
        text = clean_text(label)
        if not text:
            return "an empty label"
        if len(text) > MAX_LABEL:
            return f"a label of {len(text)} characters, expected at most {MAX_LABEL}"
        if any(unicodedata.category(character) in UNPRINTABLE for character in text):
            return f"the label {quote(label)}, which has characters that cannot be printed"
        return None
    if isinstance(label, bool) or not isinstance(label, int):
        return f"the label {quote(label)}, expected text or a whole number"
    return None


def read_rows(path: Path, file_column: str = FILE_COLUMN) -> tuple[list[str], list[dict[str, Any]]]:
    """
    The columns and the rows of a metadata file.

    Args:
        path (`Path`): The file: .csv (text in UTF-8, commas), .jsonl or .parquet.
        file_column (`str`, *optional*, defaults to `"file_name"`): The column of the files' names.

    Raises:
        [`InputError`]: If the file cannot be read, a row has more or fewer fields than the header, or the column of the files'
            names is missing.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        columns, rows = readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8 ({_encoding_fault(path, error)})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"{path}: has the column {quote(column)} twice")
    if file_column not in columns:
        hint = ""
        if len(columns) == 1 and any(separator in columns[0] for separator in ";\t|"):
            hint = "; its fields must be separated by commas"
        raise InputError(f"{path}: needs a column {file_column}, found {_list_names(columns)}{hint}")
    return columns, rows


def _list_names(names: Sequence[str]) -> str:
    shown = ", ".join(map(quote, names[:10]))
    return f"[{shown}{', ...' if len(names) > 10 else ''}]"


def _encoding_fault(path: Path, error: UnicodeDecodeError) -> str:
    with open(path, "rb") as file:
        beginning = file.read(4)
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it begins as UTF-16 does"
    return str(error)


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        # Strictly: otherwise, a quotation mark that nothing closes takes all that follows for one field.
        reader = csv.reader(file, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            rows: list[dict[str, Any]] = []
            for fields in reader:
                # A blank line.
                if not fields:
                    continue
                if len(fields) != len(columns):
                    where = f"{path}, row {len(rows) + 2}"
                    raise InputError(f"{where}: has {len(fields)} fields, expected {len(columns)} as in the header")
                rows.append(dict(zip(columns, fields, strict=True)))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: cannot be read as CSV ({error})") from error
    if not columns:
        raise InputError(f"{path}: is empty, expected a header with the column {FILE_COLUMN}")
    return columns, rows


def _read_jsonl(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError(f"it names {quote(next(name for name in names if names.count(name) > 1))} twice")
        return dict(pairs)

    rows: list[dict[str, Any]] = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=unique)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: cannot be read as JSON ({error})") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: must be a JSON object, got {quote(row)}")
            rows.append(row)
    if not rows:
        raise InputError(f"{path}: is empty, expected a JSON object for each clip")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return columns, [{name: row.get(name) for name in columns} for row in rows]


def _read_parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        # Values that Python cannot hold, such as dates beyond its years, raise here.
        return table.column_names, table.to_pylist(maps_as_pydicts=None)
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as parquet ({reason})") from error


class MetadataTable:
    """
    A metadata file, with the files of its rows looked up.

    Args:
        path (`Path`): The file.
        file_column (`str`, *optional*, defaults to `"file_name"`): The column of the files' names.

    Raises:
        [`InputError`]: If it cannot be read, or a row names no file below the table's folder.
    """

    def __init__(self, path: Path, file_column: str = FILE_COLUMN):
        self.path, self.file_column = path, file_column
        self.columns, self.rows = read_rows(path, file_column)
        self.files = [self._find(number, row[file_column]) for number, row in enumerate(self.rows, start=2)]

    def where(self, index: int) -> str:
        """A row's place, in messages. The header is row 1."""
        return f"{self.path}, row {index + 2}"

    def _find(self, number: int, name: Any) -> Path:
        if isinstance(name, str):
            # As datasets does, read the separators of Windows too. Systems differ in how they write accents.
            forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            for spelling in dict.fromkeys((name, name.strip(), name.replace("\\", "/"), *forms)):
                found = self.path.parent / spelling
                try:
                    # A link may lead out of the folder; a name may not.
                    if (
                        Path(os.path.abspath(found)).is_relative_to(os.path.abspath(self.path.parent))
                        and found.is_file()
                    ):
                        return found
                except (OSError, ValueError):
                    break
        raise InputError(f"{self.path}, row {number}: no file {quote(name)} in {self.path.parent}")

    def values(self, column: str) -> Iterator[tuple[int, Path, Any]]:
        """(row, file, value) of each row; text without the spaces around it."""
        for index, (file, row) in enumerate(zip(self.files, self.rows, strict=True)):
            value = row[column]
            yield index, file, clean_text(value) if isinstance(value, str) else value

    def value_of_files(self, column: str) -> dict[str, str]:
        """
        The text in a column, by the files' absolute paths.

        Raises:
            [`InputError`]: If a row has no value, or rows of the same file have different ones.
        """
        found: dict[str, str] = {}
        for index, file, value in self.values(column):
            text = text_of(value)
            if not text:
                raise InputError(f"{self.where(index)}: no {column} for {quote(self.rows[index][self.file_column])}")
            before = found.setdefault(os.path.abspath(file), text)
            if before != text:
                raise InputError(f"{self.where(index)}: {file} has the {column} {quote(text)}, and {quote(before)} in another row")  # fmt: skip
        return found
