# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Files for the converters with any content: they are read as they are, or refused in one line, without code and within memory."""

import codecs
import io
import pickle
import struct
import zipfile

import pytest
import torch
from fuzzing import check_examples, many_examples
from hypothesis import strategies as st

from hf_audio_ssm.conversion.checkpoint_conversion import ConversionError, read_state_dict


TENSORS = {
    "v.cls_token": torch.arange(8.0).reshape(1, 1, 8),
    "v.layers.0.mixer.D": torch.full((16,), 2.0, dtype=torch.float16),
    "mlp_head.1.bias": torch.zeros(3),
}


def save(content, zipped=True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def rezip(content: bytes, change, compression=zipfile.ZIP_STORED) -> bytes:
    """The archive with its main pickle changed, and checksums that fit."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", compression) as after:
        for part in before.infolist():
            data = before.read(part)
            after.writestr(part.filename, change(data) if part.filename.endswith("data.pkl") else data)
    return file.getvalue()


def read(path, content: bytes):
    """The tensors, or None for a file that was refused."""
    path.write_bytes(content)
    try:
        tensors = read_state_dict(path)
    except ConversionError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1000
        return None
    assert all(tensor.numel() * tensor.element_size() <= len(content) for tensor in tensors.values())
    # As the converters do: to read beyond the file would end the process.
    assert all(tensor.clone().float().shape == tensor.shape for tensor in tensors.values())
    return tensors


def edit(content: bytes, edits) -> bytes:
    content = bytearray(content)
    for place, kind, value in edits:
        position = int(place * len(content))
        if kind == "change":
            content[position : position + len(value)] = value
        elif kind == "insert":
            content[position:position] = value
        elif kind == "cut":
            del content[position : position + len(value)]
        else:
            content[position:] = b""
    return bytes(content)


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["change", "insert", "cut", "change", "end"]),
        # Opcodes and sizes of pickles, and any bytes.
        st.sampled_from([b"R", b"c_codecs\nencode\n", b"\x8a\x08" + b"\x7f" * 8, b"J\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"K\xff", b"(", b".", b"h\x00", b"\x85"])
        | st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@many_examples
def test_any_content_is_read_or_refused(tmp_path, num_examples):
    whole = {form: save(TENSORS, form != "old") for form in ("zip", "old", "pickle of a zip")}

    def check(example):
        form, edits = example
        if form == "pickle of a zip":
            content = rezip(whole[form], lambda data: edit(data, edits))
        else:
            content = edit(whole[form], edits)
        found = read(tmp_path / "a.pth", content)
        if form == "zip" and found is not None:
            # Its parts have checksums.
            assert found.keys() == TENSORS.keys()
            assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)

    check_examples(num_examples, check, st.tuples(st.sampled_from(sorted(whole)), EDITS))


class Call:
    """A call of a function, when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def claimed(size, stride, storage=None):
    storage = torch.zeros(4).untyped_storage() if storage is None else storage
    return Call(torch._utils._rebuild_tensor_v2, torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True), 0, size, stride, False, {})  # fmt: skip


HUGE = 2**40
SHARED = torch.zeros(1000)
BOMBS = {
    "repeated values": {"a": torch.zeros(1).expand(HUGE)},
    "repeated rows": {"a": torch.zeros(1, 4).expand(10**6, 4)},
    "beyond the storage": {"a": claimed((HUGE,), (1,))},
    "a little beyond the storage": {"a": claimed((5,), (1,))},
    "no end": {"a": claimed((2**62, 4), (1, 1))},
    "negative": {"a": claimed((-4,), (1,))},
    "negative strides": {"a": claimed((4,), (-1,))},
    "tied": {f"layers.{index}": SHARED for index in range(1000)},
    "bytes": {"a": Call(bytearray, HUGE)},
    "a tensor of a size": {"a": Call(torch.Tensor, HUGE)},
    "a typed tensor": {"a": Call(torch.FloatTensor, HUGE)},
    "encoded": {"a": Call(codecs.encode, "a" * 8, "hex")},
    "sparse": {"a": torch.zeros(2, 2).to_sparse()},
    "meta": {"a": torch.empty(HUGE, device="meta")},
    "names that are no names": {("a",): torch.zeros(1)},
    "a name with commands": {"\x1b[31m" + "a" * 10**5: 3},
    "values that are no tensors": {"a": 3},
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("name", BOMBS)
def test_more_than_the_file_explains_is_refused(tmp_path, name, zipped):
    content = save(BOMBS[name], zipped)
    assert len(content) < 300_000
    assert read(tmp_path / "a.pth", content) is None


def test_compressed_parts_are_refused(tmp_path):
    content = rezip(save(TENSORS), lambda data: data, zipfile.ZIP_DEFLATED)
    assert read(tmp_path / "a.pth", content) is None
    # A part that claims more than there is.
    whole = bytearray(save(TENSORS))
    directory = whole.rindex(b"PK\x01\x02")
    whole[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    assert read(tmp_path / "a.pth", bytes(whole)) is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_other_protocols_run_no_code(tmp_path, protocol):
    mark = tmp_path / "mark"
    assert read(tmp_path / "a.pth", pickle.dumps(Call(mark.mkdir), protocol)) is None
    assert not mark.exists()


def test_tied_and_wrapped_tensors_are_read(tmp_path):
    tied = torch.nn.Parameter(torch.arange(4.0))
    found = read(tmp_path / "a.pth", save({"module.a": tied, "module.b": tied, "module.c": torch.arange(6.0)[2:4]}))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [0, 1, 2, 3],
        "b": [0, 1, 2, 3],
        "c": [2, 3],
    }
