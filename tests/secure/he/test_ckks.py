"""CKKS is refused where the server sees the sum, and sums where it does not."""

import numpy as np
import pytest

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.he import check_scheme
from daafl.secure.he.ckks import decrypted, encrypted, new_context, public_context, summed


def test_ckks_is_refused_where_the_server_sees_the_sum() -> None:
    with pytest.raises(ConfigError, match="Micciancio"):
        check_scheme("ckks", server_sees_aggregate=True)
    check_scheme("ckks", server_sees_aggregate=False)
    check_scheme("bfv", server_sees_aggregate=True)
    with pytest.raises(ConfigError, match="'bfv' or 'ckks'"):
        check_scheme("bgv", server_sees_aggregate=False)


def test_a_server_without_the_key_adds_what_holders_decrypt() -> None:
    holder = new_context()
    server = public_context(holder)
    rng = np.random.default_rng(3)
    vectors = rng.normal(0, 0.02, (3, 5000))
    parts = [encrypted(holder, vector) for vector in vectors]
    total = summed(server, parts, 5000)
    assert np.abs(decrypted(holder, total, 5000) - vectors.sum(axis=0)).max() < 1e-7
    assert server.is_private() is False
    with pytest.raises(MessageError, match="5000 values, not 4999"):
        summed(server, parts, 4999)
    with pytest.raises(MessageError, match="too many"):
        summed(server, [bytes(10**6)], 10)
    with pytest.raises(MessageError, match="cannot read"):
        summed(server, [b"nonsense"], 10)
    with pytest.raises(DataError, match="no ciphertexts"):
        summed(server, [], 10)
    with pytest.raises(DataError, match="finite"):
        encrypted(holder, np.array([np.nan]))
