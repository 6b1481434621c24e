from pathlib import Path

import numpy as np

from daafl.store.model_file import write_model


def test_numpy_reads_what_was_written(tmp_path: Path) -> None:
    arrays = {
        "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "counter": np.array(7, np.int64),
        "file": np.zeros((0, 2), np.float16),
        "transposed": np.arange(6.0).reshape(2, 3).T,
    }
    write_model(tmp_path / "model.npz", arrays)
    with np.load(tmp_path / "model.npz", allow_pickle=False) as stored:
        assert list(stored) == list(arrays)
        for name, array in arrays.items():
            assert stored[name].dtype == array.dtype
            np.testing.assert_array_equal(stored[name], array)


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, {"w": np.ones(3)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
