"""The legacy torch reader, on files written here by hand: torch is not needed."""

import contextlib
import io
import os
import pickle
import struct

import numpy as np
import pytest

from tlkit.backbones.lite0.torch_legacy import MAGIC, PROTOCOL, read_state_dict
from tlkit.errors import WeightsError

SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}


def name(module, function):
    return b"c" + f"{module}\n{function}\n".encode()


def values(*items):
    """Return the instructions that push a tuple of plain values and ready instructions."""
    parts = [item if isinstance(item, bytes) else pickle.dumps(item, 2)[2:-1] for item in items]
    return b"(" + b"".join(parts) + b"t"


def tensor(key, count, offset, shape, strides, kind="FloatStorage", torch="torch", rebuild=None):
    storage = values("storage", name(torch, kind), key, "cpu", count, None) + b"Q"
    rebuild = rebuild or name("torch._utils", "_rebuild_tensor_v2")
    ordered = name("collections", "OrderedDict") + b")R"
    return rebuild + values(storage, offset, shape, strides, False, ordered) + b"R"


def state_dict(tensors):
    items = b"".join(pickle.dumps(key, 2)[2:-1] + value for key, value in tensors.items())
    attributes = b"}" + pickle.dumps("_metadata", 2)[2:-1] + b"}sb"
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + items + b"u" + attributes


def legacy(state, storages, magic=MAGIC, protocol=PROTOCOL, system=SYSTEM):
    """Return the bytes of a file; `storages` are arrays by key."""
    parts = [pickle.dumps(part, 2) for part in (magic, protocol, system)]
    parts += [state + b".", pickle.dumps(list(storages), 2)]
    for array in storages.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


SIX = {"k": np.arange(6, dtype="<f4")}
PLAIN = state_dict({"w": tensor("k", 6, 0, (2, 3), (3, 1))})


@pytest.fixture
def read(tmp_path):
    def read_bytes(data):
        path = tmp_path / "weights.pth"
        path.write_bytes(data)
        return read_state_dict(path)

    return read_bytes


def refused(read, data, *fragments):
    with pytest.raises(WeightsError, match=r"weights\.pth.* received") as caught:
        read(data)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reads_every_tensor_in_order_with_its_type(read):
    storages = SIX | {"n": np.array([7], dtype="<i8")}
    state = state_dict(
        {
            "b.weight": tensor("k", 6, 0, (2, 3), (3, 1)),
            "a.count": tensor("n", 1, 0, (), (), "LongStorage"),
        }
    )
    tensors = read(legacy(state, storages))
    assert list(tensors) == ["b.weight", "a.count"]
    np.testing.assert_array_equal(tensors["b.weight"], np.arange(6.0).reshape(2, 3))
    assert tensors["b.weight"].dtype == np.float32
    assert tensors["a.count"] == 7
    assert tensors["a.count"].dtype == np.int64


def test_honours_strides_and_offsets_of_a_shared_storage(read):
    views = {
        "transposed": tensor("k", 6, 0, (3, 2), (1, 3)),
        "second_row": tensor("k", 6, 3, (3,), (1,)),
        "second_column": tensor("k", 6, 1, (2,), (3,)),
        "empty": tensor("k", 6, 6, (0, 3), (3, 1)),
    }
    tensors = read(legacy(state_dict(views), SIX))
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(tensors["transposed"], matrix.T)
    np.testing.assert_array_equal(tensors["second_row"], matrix[1])
    np.testing.assert_array_equal(tensors["second_column"], matrix[:, 1])
    assert tensors["empty"].shape == (0, 3)
    with pytest.raises(ValueError, match="read-only"):
        tensors["second_row"][0] = 1


def test_reads_an_empty_storage_and_an_empty_state_dict(read):
    nothing = {"k": np.empty(0, "<f4")}
    assert read(legacy(state_dict({"w": tensor("k", 0, 0, (0,), (1,))}), nothing))["w"].size == 0
    assert read(legacy(state_dict({}), {})) == {}


@pytest.mark.parametrize("module", ["os", "posix", "builtins"])
def test_refuses_a_forged_name_without_calling_it(read, tmp_path, monkeypatch, module):
    function = "exec" if module == "builtins" else "system"
    witness = tmp_path / "called"
    monkeypatch.chdir(tmp_path)
    command = f"open({str(witness)!r}, 'w').close()" if function == "exec" else "echo > called"
    call = name(module, function) + values(command) + b"R"
    pickle.loads(b"\x80\x02" + call + b".")
    assert witness.exists(), "the forged call must work in a real unpickler"
    witness.unlink()
    refused(read, legacy(state_dict({"w": call}), {}), f"{module}.{function}", "OrderedDict")
    assert not witness.exists()


def test_refuses_a_forgery_that_pickle_itself_writes(read, tmp_path):
    class Forged:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    refused(read, legacy(pickle.dumps(Forged(), 2)[:-1], {}), ".mkdir")
    refused(read, legacy(pickle.dumps(Forged(), 4)[:-1], {}), "FRAME")
    refused(read, pickle.dumps(Forged(), 2), "magic number")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("state", "fragment"),
    [
        (state_dict({"w": tensor("k", 6, 0, (6,), (1,), "BFloat16Storage")}), "BFloat16Storage"),
        (state_dict({"w": tensor("k", 6, 0, (6,), (1,), torch="evil")}), "evil.FloatStorage"),
        (
            state_dict({"w": tensor("k", 6, 0, (6,), (1,), rebuild=name("torch", "load"))}),
            "torch.load",
        ),
        (
            state_dict({"w": tensor("k", 6, 0, (6,), (1,), rebuild=name("torch", "FloatStorage"))}),
            "a call of torch.FloatStorage",
        ),
        (state_dict({"w": name("torch", "FloatStorage")}), "under 'w'"),
        (state_dict({"w": b"}"}), "under 'w' a tensor is wanted, received {}"),
        (b"\x80\x02]", "a mapping"),
        (b"\x80\x02" + values("storage", "key") + b"Q", "a storage"),
        (b"\x80\x02" + b"}" + b"K\x01K\x02s", "each name must be text"),
        (b"\x80\x02" + b"}]sb", "a broken one"),
        (b"\x80\x02" + b"h\x07", "a broken one"),
        (b"\x80\x02" + b"}}", "one value"),
        (b"\x80\x02" + b"K\x01(K\x02e", "a list"),
        (b"\x80\x02" + b"(K\x01}", "one value"),
    ],
)
def test_refuses_a_pickle_that_is_no_plain_state_dict(read, state, fragment):
    refused(read, legacy(state, {}), fragment)


def test_refuses_a_name_given_twice(read):
    once = pickle.dumps("w", 2)[2:-1] + tensor("k", 6, 0, (6,), (1,))
    refused(read, legacy(b"\x80\x02}(" + once + once + b"u", SIX), "come once", "'w'")


def test_refuses_every_truncation(read):
    data = legacy(PLAIN, SIX)
    assert read(data)
    for length in range(len(data)):
        refused(read, data[:length])


def test_survives_any_flipped_byte(read):
    data = legacy(PLAIN, SIX)
    for position in range(len(data)):
        for value in (0, 0x7F, 0xFF):
            with contextlib.suppress(WeightsError):
                read(data[:position] + bytes([value]) + data[position + 1 :])


def test_refuses_trailing_bytes(read):
    refused(read, legacy(PLAIN, SIX) + b"\0", "the end of the file is wanted, received 1 bytes")


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"magic": MAGIC + 1}, "magic number"),
        ({"magic": "text"}, "magic number"),
        ({"protocol": 1002}, "protocol must be 1001, received 1002"),
        ({"protocol": 1001.0}, "BINFLOAT"),
        ({"system": SYSTEM | {"little_endian": False}}, "little_endian"),
        ({"system": None}, "little_endian"),
    ],
)
def test_refuses_a_wrong_header(read, change, fragment):
    refused(read, legacy(PLAIN, SIX, **change), fragment)


def test_refuses_other_files(read, tmp_path):
    archive = io.BytesIO()
    np.savez(archive, w=np.zeros(2))
    refused(read, archive.getvalue(), "zip archive", "_use_new_zipfile_serialization=False")
    refused(read, b"", "magic number")
    refused(read, b"<!doctype html>", "magic number")
    with pytest.raises(WeightsError, match=r"absent\.pth.*No such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (2, 3), (3, 1)),
        (7, (0,), (1,)),
        (0, (7,), (1,)),
        (0, (2, 3), (4, 1)),
        (0, (2,), (2**40,)),
        (0, (10**12,), (0,)),
        (0, (2, 3), (1,)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (1,), (2**70,)),
        (0, (True,), (1,)),
        (0, (1.0,), (1,)),
        (0, (1,) * 40, (1,) * 40),
    ],
)
def test_refuses_a_view_outside_its_storage(read, offset, shape, strides):
    refused(
        read, legacy(state_dict({"w": tensor("k", 6, offset, shape, strides)}), SIX), "received"
    )


def test_refuses_counts_that_the_file_does_not_hold(read):
    huge = state_dict({"w": tensor("k", 2**50, 0, (2**50,), (1,))})
    refused(read, legacy(huge, SIX), f"storage 'k' of {2**50} values")
    data = bytearray(legacy(PLAIN, SIX))
    data[-32:-24] = struct.pack("<q", 2**50)
    refused(read, bytes(data), f"with a count of {2**50}")


def test_refuses_storages_that_disagree(read):
    twice = {"w": tensor("k", 6, 0, (6,), (1,)), "v": tensor("k", 5, 0, (5,), (1,))}
    refused(read, legacy(state_dict(twice), SIX), "the same at each mention")
    refused(read, legacy(PLAIN, {}), "list of the 1 storage keys")
    refused(read, legacy(PLAIN, SIX | {"other": SIX["k"]}), "list of the 1 storage keys")
