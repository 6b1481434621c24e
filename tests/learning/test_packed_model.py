"""Models of all kinds in one byte array."""

import numpy as np
import pytest
import torch
from torch import nn

from daafl.errors import ConfigError, DataError
from daafl.learning.packed_model import PackedModel, seeded


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        self.decoder = nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight


def test_entries_are_those_of_the_state_dict() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    expected = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    model = PackedModel(module)
    arrays = model.unpack(model.export())
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_loading_reaches_the_module_and_export_is_a_copy() -> None:
    model = PackedModel(nn.Linear(2, 1))
    changed = model.pack(
        {"weight": np.array([[3, 4]], np.float32), "bias": np.array([5], np.float32)}
    )
    model.load(changed)
    assert model.module(torch.tensor([[1.0, 1.0]])).item() == 12.0
    exported = model.export()
    model.module.bias.data.zero_()
    assert exported.tobytes() == changed.tobytes()


def test_tied_parameters_travel_once_and_stay_tied() -> None:
    model = PackedModel(Tied())
    assert [entry.name for entry in model.layout.entries] == ["encoder.weight", "decoder.bias"]
    assert model.aliases == {"decoder.weight": "encoder.weight"}
    arrays = model.unpack(model.export())
    assert set(arrays) == {"encoder.weight", "decoder.weight", "decoder.bias"}
    arrays["encoder.weight"] = np.eye(3, dtype=np.float32)
    model.load(model.pack(arrays))
    assert model.module.decoder.weight is model.module.encoder.weight
    assert torch.equal(model.module.decoder.weight, torch.eye(3))


def test_number_types_and_empty_and_scalar_shapes_are_kept() -> None:
    module = nn.Module()
    for name, value in {
        "a": torch.tensor(True),
        "b": torch.tensor([1.0, 2.0], dtype=torch.float16),
        "c": torch.zeros(0),
        "d": torch.tensor(-3, dtype=torch.int16),
        "e": torch.tensor([1 / 3], dtype=torch.float64),
    }.items():
        module.register_buffer(name, value)
    model = PackedModel(module)
    arrays = model.unpack(model.export())
    kinds = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    assert kinds == {
        "a": ("bool", ()),
        "b": ("float16", (2,)),
        "c": ("float32", (0,)),
        "d": ("int16", ()),
        "e": ("float64", (1,)),
    }
    assert arrays["e"][0] == 1 / 3 and arrays["d"] == -3


class Counting(nn.Module):
    """Replaces a buffer that travels, and writes to one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("memory", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        self.memory += 1
        return x * self.weight


def test_buffers_that_a_forward_pass_replaces_are_exported() -> None:
    model = PackedModel(Counting())
    fresh = model.export()
    for _ in range(3):
        model.module(torch.ones(1))
    assert model.unpack(model.export())["calls"] == 3
    model.load(fresh)
    model.module(torch.ones(1))
    assert model.unpack(model.export())["calls"] == 1


def test_what_does_not_travel_starts_anew_with_each_load() -> None:
    model = PackedModel(Counting())
    model.module(torch.ones(1))
    assert model.module.memory.item() == 1.0
    model.load(model.export())
    assert model.module.memory.item() == 0.0


class Extra(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(DataError, match="'weight' has number type bfloat16"):
        PackedModel(nn.Linear(1, 1).to(torch.bfloat16))
    with pytest.raises(ConfigError, match="'weight' has no shape yet"):
        PackedModel(nn.LazyLinear(2))
    with pytest.raises(ConfigError, match="'_extra_state' of type dict"):
        PackedModel(Extra(1, 1))
    with pytest.raises(ConfigError, match="'weight' lies on meta"):
        PackedModel(nn.Linear(1, 1, device="meta"))


def test_a_packed_model_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs uint8 and \(8,\)"):
        PackedModel(nn.Linear(1, 1)).load(np.zeros(9, np.uint8))


def test_seeded_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5):
        inside = torch.rand(3)
    with pytest.raises(ValueError, match="stop"), seeded(6):
        torch.rand(1)
        raise ValueError("stop")
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(inside, torch.rand(3, generator=torch.Generator().manual_seed(5)))
