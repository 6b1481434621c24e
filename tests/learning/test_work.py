import math

import pytest

from daafl.errors import ConfigError
from daafl.learning.work import LocalWork


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("proximal_mu", -1.0),
        ("weight_decay", math.nan),
        ("momentum", 1.0),
        ("momentum", -0.1),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: float) -> None:
    settings = {"lr": 0.1, "steps": 1, "batch_size": 1} | {key: value}
    with pytest.raises(ConfigError, match=f"{key}="):
        LocalWork(**settings)
