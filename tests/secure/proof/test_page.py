"""The page about the norm proof: its example runs, its table of slack is what the code says."""

import re
from pathlib import Path

import pytest

from daafl.secure.proof import Claim, slack

PAGE = (Path(__file__).parents[3] / "docs" / "norm-proof.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("py_arkworks_bls12381")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(block, {"__name__": "example"})
    assert "unaudited" in capsys.readouterr().out


def test_the_table_of_slack() -> None:
    rows = re.findall(r"^\| \**(\d+)\** \| \**2\^-(\d+)\** \|(.*)\|$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for k, exponent, cells in rows:
        claim = Claim(1000, 30_000, int(k))
        shown = [cell.strip(" *") for cell in cells.split("|")]
        for is_rigorous, cell in zip((False, True), shown, strict=False):
            found = slack.slack(claim, 2.0 ** -int(exponent), is_rigorous=is_rigorous)
            assert cell == ("none" if found == float("inf") else f"{found:.2f}")
