"""A digest changes exactly when the bits, the names, the dtypes or the shapes do."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from sweep.determinism import digest

DTYPES = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "uint8", "bool", "complex64"]


def test_the_rule_is_the_written_one():
    """Computed by hand, so that another program can check a record."""
    mapping = {"b": torch.tensor([[1.0, -2.0]]), "a": torch.tensor(7, dtype=torch.int64)}
    by_hand = hashlib.sha256()
    by_hand.update(json.dumps(["a", "int64", []]).encode() + (7).to_bytes(8, "little"))
    by_hand.update(json.dumps(["b", "float32", [1, 2]]).encode() + np.array([1, -2], "<f4").tobytes())
    assert digest.tensors(mapping) == by_hand.hexdigest()


def test_order_of_insertion_does_not_count():
    one, two = torch.ones(2), torch.zeros(3)
    assert digest.tensors({"x": one, "y": two}) == digest.tensors({"y": two, "x": one})


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bit_counts(dtype):
    tensor = torch.ones(3, 5).to(getattr(torch, dtype))
    before = digest.tensors({"w": tensor})
    flipped = tensor.clone()
    flipped.view(torch.uint8).reshape(-1)[-1] ^= 1
    assert digest.tensors({"w": tensor.clone()}) == before
    assert digest.tensors({"w": flipped}) != before


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"w": torch.zeros(2, 3)}, {"w": torch.zeros(3, 2)}),
        ({"w": torch.zeros(4)}, {"w": torch.zeros(4, dtype=torch.int32)}),
        ({"w": torch.zeros(2)}, {"v": torch.zeros(2)}),
        ({"w": torch.zeros(())}, {"w": torch.zeros(1)}),
        ({"w": torch.zeros(0, 3)}, {"w": torch.zeros(3, 0)}),
        ({"w": torch.tensor([0.0])}, {"w": torch.tensor([-0.0])}),
        ({"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(2)}),
        ({"w": torch.zeros(1)}, {"w": torch.zeros(1), "v": torch.zeros(0)}),
        ({}, {"": torch.zeros(0)}),
    ],
)
def test_shape_dtype_and_name_count(left, right):
    assert digest.tensors(left) != digest.tensors(right)


def test_a_name_cannot_imitate_another_entry():
    """What comes after a name must not be readable as part of it."""
    inner = json.dumps(["b", "float32", [0]])
    crafted = f'a", "float32", [0]]{inner}["c'
    empty = torch.zeros(0)
    assert digest.tensors({"a": empty, "b": empty, "c": empty}) != digest.tensors({crafted: empty})


def test_layout_and_gradients_do_not_count():
    tensor = torch.arange(12.0).reshape(3, 4)
    same = [
        tensor.t().contiguous().t(),
        torch.arange(24.0).reshape(3, 4, 2).float()[:, :, 0] / 2,
        tensor.clone().requires_grad_(),
        nn.Parameter(tensor),
    ]
    assert {digest.tensors({"w": each}) for each in same} == {digest.tensors({"w": tensor})}


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_out_of_a_column_is_that_element(dtype):
    table = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    for part in (table[1:, 1], table[1:, 1:2], table[1, 1], table[:0, 1]):
        assert digest.tensors({"w": part}) == digest.tensors({"w": part.clone()})
    assert digest.tensors({"w": table[1:, 1]}) != digest.tensors({"w": table[:1, 0]})


def test_lazily_conjugated_and_negated_tensors_are_what_they_show():
    z = torch.tensor([1 + 2j, 3 - 1j])
    assert digest.tensors({"z": z.conj()}) == digest.tensors({"z": torch.tensor([1 - 2j, 3 + 1j])})
    imaginary = z.conj().imag
    assert imaginary.is_neg()
    assert digest.tensors({"z": imaginary}) == digest.tensors({"z": torch.tensor([-2.0, 1.0])})


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.zeros(2, device="meta")])
def test_tensors_without_plain_bytes_are_refused(tensor):
    with pytest.raises(TypeError, match="'w'"):
        digest.tensors({"w": tensor})


@given(hnp.arrays(st.sampled_from(["f8", "f4", "f2", "i8", "i2", "u1", "?", "c8"]), hnp.array_shapes(min_side=0)))
def test_arrays_and_tensors_agree(array):
    assert digest.arrays({"x": array}) == digest.tensors({"x": torch.from_numpy(array)})


def test_byte_order_and_strides_of_an_array_do_not_count():
    array = np.arange(6, dtype="<f8").reshape(2, 3)
    same = [array.astype(">f8"), np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2]]
    assert {digest.arrays({"x": each}) for each in same} == {digest.arrays({"x": array})}


def test_arrays_of_strings_and_dates_have_digests_and_objects_have_none():
    ids = np.array(["a", "bc"])
    assert digest.arrays({"ids": ids}) == digest.arrays({"ids": ids.copy()})
    assert digest.arrays({"ids": ids}) != digest.arrays({"ids": np.array(["a", "bd"])})
    days = np.array(["2026-01-01"], "M8[D]")
    assert digest.arrays({"t": days}) != digest.arrays({"t": days.astype("i8")})
    for bad in (np.array([{}, "a"], dtype=object), np.zeros(1, dtype=[("x", "f4")])):
        with pytest.raises(TypeError, match="'x'"):
            digest.arrays({"x": bad})


def test_a_module_is_its_parameters_and_buffers():
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    model = made(0)
    first = digest.module(model)
    assert digest.module(made(0)) == first == digest.tensors(model.state_dict())
    assert digest.module(made(1)) != first
    model(torch.randn(8, 3))
    assert digest.module(model) != first, "running statistics are buffers"


def test_buffers_that_no_state_dict_holds_count():
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.zeros(2), persistent=False)
    before = digest.module(model)
    model.mask[0] = 1
    assert digest.module(model) != before


def test_tied_parameters_and_shared_modules_count_under_each_of_their_names():
    one = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": one, "b": one, "c": nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))})
    model["c"].tied = one.weight
    model.register_parameter("none", None)
    named = dict(model.named_parameters(remove_duplicate=False))
    named |= dict(model.named_buffers(remove_duplicate=False))
    assert {"a.weight", "b.weight", "c.tied", "c.1.running_mean"} <= {*named}
    assert digest.module(model) == digest.tensors(named)


def test_lazy_modules_have_a_digest_before_their_first_batch():
    lazy = nn.LazyLinear(2)
    before = digest.module(lazy)
    lazy(torch.zeros(1, 3))
    assert digest.module(lazy) != before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_does_not_count():
    tensor = torch.randn(100, 7)
    assert digest.tensors({"w": tensor.cuda()}) == digest.tensors({"w": tensor})
