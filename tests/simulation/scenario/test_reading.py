"""Scenario files: what they may say, and how they are refused."""

import re
from pathlib import Path
from textwrap import dedent

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from daafl.errors import ConfigError
from daafl.simulation.scenario import (
    Attackers,
    Bandwidth,
    Churn,
    ConceptDrift,
    Scenario,
    read_scenario,
    scenario_of,
)

GOOD = """
name: bad hour
description: Half the nodes have a bad hour.
seed: 5
num_nodes: 30
events:
  - kind: churn          # line 7
    fraction: 0.5
    at_s: 60
    until_s: 3660
    present_s: 120
    away_s: 30.5
  - {kind: bandwidth, nodes: [0, 4-6], factor: 0.1}
  - kind: attackers
    nodes: 9
    at_round: 3
    does: sign_flip
    parameters: {scale: 2}
    lies: {loss_factor: 4.0}
  - kind: concept_drift
    cycles: [[0, 1]]
"""


def read(tmp_path: Path, text: str, num_nodes: int = 30) -> Scenario:
    file = tmp_path / "mine.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return read_scenario(file, num_nodes=num_nodes, seed=11)


def test_a_file_says_what_its_events_are(tmp_path: Path) -> None:
    scenario = read(tmp_path, GOOD)
    assert scenario.events == (
        Churn(fraction=0.5, at_s=60.0, until_s=3660.0, present_s=120.0, away_s=30.5),
        Bandwidth(nodes=[0, "4-6"], factor=0.1),
        Attackers(
            nodes=9,
            at_round=3,
            does="sign_flip",
            parameters={"scale": 2},
            lies={"loss_factor": 4.0},
        ),
        ConceptDrift(cycles=[[0, 1]]),
    )
    assert (scenario.name, scenario.seed, scenario.num_nodes) == ("bad hour", 5, 30)
    assert scenario.hostile_nodes == (9,)


def test_name_and_seed_are_those_of_file_and_run_unless_given(tmp_path: Path) -> None:
    scenario = read(tmp_path, "events: []")
    assert (scenario.name, scenario.seed, scenario.events) == ("mine", 11, ())
    assert read(tmp_path, "{seed: null, events: []}").seed == 11


def one(*lines: str) -> str:
    """Return a file whose one event begins in line 2."""
    return "events:\n  - " + "\n    ".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            one("kind: bandwidth", "factor: -0.5"),
            "line 3: events[0].factor is -0.5, but must be a number above 0, at most 1e+06",
        ),
        (
            one("kind: link_cut", "at_s: 5", "nodes: [3, 30]"),
            "line 4: events[0].nodes names node 30, but nodes are 0 to 29",
        ),
        (
            one("kind: partition", "groups: [[0-9], [20-40]]"),
            "line 3: events[0].groups names node 30, but nodes are 0 to 29",
        ),
        (
            one("kind: partition", "groups: [[0-9], [9-12]]"),
            "line 3: events[0].groups is [['0-9'], ['9-12']], but must be a list of one or more "
            "groups, each like [0-9, 12], that have no node in common; node 9 is in two",
        ),
        (
            one("kind: link_cut", "until_s: 5", "at_s: 5"),
            "line 3: events[0].until_s is 5, but must come after at_s=5",
        ),
        (
            one("kind: stragglers", "facter: 5"),
            "line 3: events[0].facter is not known: stragglers has no facter; did you mean factor?",
        ),
        (
            one("kind: straglers", "factor: 5"),
            "line 2: events[0].kind is 'straglers', which is not known; did you mean stragglers?",
        ),
        (one("kind: stragglers"), "line 2: events[0].factor has no value; stragglers needs one"),
        (
            one("kind: stragglers", "factor: high"),
            "line 3: events[0].factor is 'high', but must be a number above 0, at most 1e+06",
        ),
        (
            one("kind: message_loss", "probability: 1.2"),
            "line 3: events[0].probability is 1.2, but must be a number above 0, at most 1",
        ),
        (
            one("kind: message_loss", "probability: true"),
            "line 3: events[0].probability is true, but must be a number above 0, at most 1",
        ),
        (
            one("kind: message_loss", "probability: .nan"),
            "line 3: events[0].probability is nan, but must be a number above 0, at most 1",
        ),
        (
            one("kind: message_loss", "probability: 0.5", "direction: up"),
            "line 4: events[0].direction is 'up', but must be one of to_nodes, from_nodes, both",
        ),
        (
            one("kind: crash", "at_s: -1"),
            "line 3: events[0].at_s is -1, but must be a number from 0 to 1e+12",
        ),
        (
            one("kind: crash", "nodes: 9-3"),
            "line 3: events[0].nodes is '9-3', but must be all, a node like 3, a range like 0-9, "
            "or a list of nodes and ranges; 9-3 ends before it begins",
        ),
        (one("kind: bandwidth"), "line 2: events[0].factor has no value; give it, or at_most_mbps"),
        (
            one("kind: attackers", "does: sing_flip"),
            "line 3: events[0].does is 'sing_flip', but is no attack; did you mean sign_flip?",
        ),
        (
            one("kind: attackers", "does: sign_flip", "parameters:", "  size: 3"),
            "line 5: events[0].parameters.size is not known; choose among scale",
        ),
        (
            one("kind: attackers", "does: sign_flip", "parameters: {scale: big}"),
            "line 4: events[0].parameters.scale is 'big', but must be like 1.0",
        ),
        (
            one("kind: attackers", "does: sign_flip", "parameters: {scale: -2}"),
            "line 4: events[0].parameters.scale cannot be used: scale is -2, but must be a "
            "positive number",
        ),
        (
            one("kind: attackers", "does: sleeper", "parameters: {does: napping}"),
            "line 4: events[0].parameters.does is 'napping', but is no attack; choose "
            "among adaptive",
        ),
        (
            one("kind: attackers", "does: alie", "lies: {loss_factor: 0}"),
            "line 4: events[0].lies.loss_factor cannot be used: lies.loss_factor is 0, but must be "
            "a positive number",
        ),
        (
            one("kind: attackers", "does: alie", "at_round: 2", "until_s: 9"),
            "line 4: events[0].at_round cannot go with at_s or until_s; choose rounds or seconds",
        ),
        (
            one("kind: attackers", "does: alie", "at_round: 2", "until_round: 2"),
            "line 5: events[0].until_round is 2, but must come after at_round=2",
        ),
        (
            one("kind: concept_drift", "cycles: [[0, 1], [1, 2]]"),
            "line 3: events[0].cycles is [[0, 1], [1, 2]], but must be a list of cycles like "
            "[[0, 1], [2, 5, 7]], every class in one of them at most",
        ),
        (
            one("kind: concept_drift", "at_s: 3"),
            "line 2: events[0].concept_drift changes nothing; give cycles, gain or shift",
        ),
        (one("at_s: 3"), "line 2: events[0].kind has no value; choose among attackers, bandwidth"),
        (
            "events:\n  - stragglers",
            "line 2: events[0] is 'stragglers', but must be a mapping with",
        ),
        ("events: 3", "line 1: events is 3, but must be a list of at most 256"),
        ("event: []", "line 1: event is not known; did you mean events?"),
        ("name: x", "line 1: events has no value; a scenario needs a list"),
        ("- kind: crash", "line 1: a scenario is a mapping with the key events"),
        ("", ": a scenario is a mapping with the key events"),
        ("events: []\nseed: -1", "line 2: seed is -1, but must be a whole number from 0 to"),
        ("events: []\nname: 3", "line 2: name is 3, but must be a text of at most 100 characters"),
        (
            "events: []\nnum_nodes: 31",
            "line 2: num_nodes is 31, but the federation has 30 nodes",
        ),
        ("events: []\nevents: []", "line 2: events is given twice, first in line 1"),
        ("events: [", "line 1: expected the node content, but found '<stream end>'"),
        ("events: []\n---\nevents: []", "line 2: but found another document"),
        ('events: []\n"a\\nb": 4', "line 2: this is no name of a key"),
        ("events: []\n!!str [1]: 4", "line 2: this is no name of a key"),
        ("events: []\n[1]: 4", "line 2: this is no name of a key"),
        ("events: []\n3: 4", "line 2: this is no name of a key"),
        (
            "name: !!python/name:os.system x\nevents: []",
            "line 1: 'x' is python/name:os.system, but must be a text",
        ),
        ("name: 2020-01-01\nevents: []", "line 1: '2020-01-01' is timestamp, but must be a text"),
        (
            "name: &a x\ndescription: *a\nevents: []",
            "line 2: *a refers to another place; write it out",
        ),
        ("events: []\nseed: " + "9" * 5000, "line 2: '9999"),
    ],
)
def test_a_mistake_is_refused_with_file_line_key_and_rule(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert "mine.yaml" in said and "\n" not in said
    assert sentence in said


def test_a_contradiction_names_the_later_event_and_its_line(tmp_path: Path) -> None:
    text = """\
    events:
      - {kind: bandwidth, nodes: 0-9, at_s: 10, until_s: 20, factor: 0.5}
      - {kind: churn, present_s: 5, away_s: 1}
      - {kind: bandwidth, nodes: 7-12, at_s: 15, factor: 0.1}
    """
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == (
        f"{tmp_path / 'mine.yaml'}, line 4: events[2].kind bandwidth contradicts events[0] "
        "(bandwidth): both concern node 7 from 15 s to 20 s; a node can be in one bandwidth at a "
        "time"
    )


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    with pytest.raises(ConfigError, match=r"mine.yaml cannot be read: No such file"):
        read_scenario(file, num_nodes=3)
    file.write_bytes(b"events: []\nname: \xff")
    with pytest.raises(ConfigError, match=r"mine.yaml is no text in UTF-8"):
        read_scenario(file, num_nodes=3)
    file.write_text("events: []\n#" + "x" * 300_000)
    with pytest.raises(ConfigError, match="more than 256 KiB"):
        read_scenario(file, num_nodes=3)
    file.write_text("events: " + "[" * 200_000)
    with pytest.raises(ConfigError, match=r"line 1: lists and mappings are more than 20 deep"):
        read_scenario(file, num_nodes=3)
    file.write_text("events: [" + "{kind: crash}, " * 300 + "]")
    with pytest.raises(ConfigError, match="a list of 300, but must be a list of at most 256"):
        read_scenario(file, num_nodes=3)


def test_plain_values_are_a_scenario_too() -> None:
    scenario = scenario_of({"events": [{"kind": "crash", "nodes": [1]}]}, num_nodes=3, seed=2)
    assert scenario.hostile_nodes == ()
    with pytest.raises(ConfigError, match=r"^scenario: events\[0\].nodes names node 3, but"):
        scenario_of({"events": [{"kind": "crash", "nodes": [3]}]}, num_nodes=3)


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    document = Path(__file__).parents[3] / "docs" / "simulation.md"
    blocks = re.findall(r"^```yaml\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = [block for block in blocks if "\nevents:" in block]
    assert [event.kind for event in read(tmp_path, text).events] == [
        "stragglers",
        "message_loss",
        "attackers",
    ]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text.replace("factor: 4", "factor: -4"))
    assert str(caught.value).removeprefix(f"{tmp_path}/") in document.read_text()


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_a_file_says_it_is_a_scenario_or_a_sentence(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Pieces of a good file, cut, doubled and mixed with what YAML has to offer."""
    pieces = st.sampled_from(re.split(r"(\W)", GOOD)) | st.sampled_from(
        ["&a", "*a", "!!set", "? ", "<<: ", "---", "\t", "|", ">", "%", "0x", "1e999", ".inf", "~"]
    )
    text = data.draw(st.lists(pieces, max_size=12).map("".join))
    place = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(place, min(len(GOOD), place + 60)))
    try:
        read(tmp_path, GOOD[:place] + text + GOOD[end:])
    except ConfigError as error:
        assert "mine.yaml" in str(error) and "\n" not in str(error)
