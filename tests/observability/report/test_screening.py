from collections.abc import Callable
from dataclasses import replace
from xml.etree.ElementTree import Element

import pytest

from daafl.observability.events import Flag, StepRecord, Vote
from daafl.observability.report import describe, report_html
from daafl.observability.run import Run
from daafl.observability.screened import screened_of

Make = Callable[..., StepRecord]


def flag(node: int, *, is_suspect: bool = False, signal: str = "norm", score: float = 4.0) -> Flag:
    return Flag(node, score, signal, is_suspect, f"node {node} & its <update>")


@pytest.fixture
def run(scripted_run: Callable[..., Run], make_record: Make) -> Run:
    """Ten steps of ten updates; nodes 1, 2 and 3 are hostile, 3 is never noticed, 8 is honest."""
    flags = {
        2: (flag(1), flag(8)),
        3: (flag(1, is_suspect=True, signal="direction", score=9.0),),
        4: (flag(1, is_suspect=True, signal="direction"), flag(2, is_suspect=True)),
        7: (flag(8, is_suspect=True),),
    }
    votes = {
        4: Vote(4, 3, 15, 2, 9, 0.5, "rejected"),
        8: Vote(8, 7, 15, 10, 1, 0.5, "adopted"),
    }
    steps = tuple(
        make_record(
            step,
            num_updates=10 - len(flags.get(step, ())),
            knobs={"lr": 0.1, "screen_threshold": 3.5},
            flags=flags.get(step, ()),
            vote=votes.get(step),
            quarantined=(5,) if step in (5, 6, 9) else (),
        )
        for step in range(1, 11)
    )
    base = scripted_run(10)
    return replace(base, steps=steps, info=replace(base.info, attackers=(1, 2, 3)))


def test_what_was_held_against_each_node(run: Run) -> None:
    found = screened_of(run)
    # Suspects first, the most often left out of them at the top.
    assert [node.node for node in found.nodes] == [1, 8, 2, 3, 5]
    first, *_ = found.nodes
    assert first.suspect_since == 3
    assert [step for step, _ in first.flags] == [2, 3, 4]
    assert found.nodes[-1].quarantined == ((5, 6), (9, 9))
    assert (found.num_flags, found.num_screened) == (6, 100)
    assert (found.suspects, found.caught, found.missed) == ((1, 8, 2), (1, 2), (3,))
    assert (found.accused, found.num_honest_flags) == ((8,), 2)
    assert found.signals == ("norm", "direction")


def text(node: Element) -> str:
    return "".join(node.itertext())


def test_the_report_shows_who_was_left_out_and_who_wrongly(
    run: Run, parse: Callable[[str], Element]
) -> None:
    page = parse(report_html(run))
    (section,) = [node for node in page.iter("section") if node.get("id") == "screening"]
    said = text(section)
    assert "left out 6 updates of 3 nodes, of 100 updates that came in" in said
    assert "3 nodes came under suspicion" in said
    assert "3 hostile nodes: 2 were suspected, 1 never (3)" in said
    assert "2 updates were left out wrongly and 1 node suspected (8)" in said
    bars = [text(node) for node in section.iter("rect") if len(node)]
    assert "step 3, node 1: node 1 & its <update> (score 9)" in bars
    assert "node 5: no work in steps 5 to 6" in bars
    assert len(bars) == 6 + 2
    dots = [text(node) for node in section.iter("circle")]
    assert dots[0].startswith("step 4: a committee rejected version 4: 2 of 11 votes in favour")
    rows = [[text(cell) for cell in row] for row in section.iter("tr")][1:]
    assert rows[0][:5] == ["1", "hostile", "3 times", "2 and 4", "step 3"]
    assert rows[0][5:7] == ["direction 2, norm 1", "9"]
    assert rows[3][:5] == ["3", "hostile", "0 times", "-", "never"]
    assert rows[4][7] == "5 to 6, 9"
    assert "suspected" in describe(run)


def test_outside_a_simulation_nobody_knows_who_was_hostile(
    run: Run, parse: Callable[[str], Element]
) -> None:
    page = text(parse(report_html(replace(run, info=replace(run.info, attackers=None)))))
    assert "nobody can know which of them were hostile" in page
    assert "left out wrongly" not in page


@pytest.mark.parametrize(
    ("attackers", "is_on", "sentence"),
    [
        (None, True, "Screening left no update out."),
        ((1,), False, "No update was screened in this run."),
        ((), True, "The simulation had no hostile node."),
    ],
)
def test_a_run_in_which_nobody_was_left_out_says_so(
    attackers: tuple[int, ...] | None, is_on: bool, sentence: str, run: Run, make_record: Make
) -> None:
    knobs = {"screen_threshold": 3.5} if is_on else {"lr": 0.1}
    plain = replace(
        run,
        steps=(make_record(1, knobs=knobs),),
        info=replace(run.info, attackers=attackers),
    )
    assert sentence in report_html(plain)


def test_a_run_without_screening_has_no_such_section(scripted_run: Callable[..., Run]) -> None:
    assert "Who was left out" not in report_html(scripted_run(10))


def test_many_nodes_have_lanes_up_to_a_limit_and_all_of_them_rows(
    run: Run, make_record: Make, parse: Callable[[str], Element]
) -> None:
    step = make_record(
        1, knobs={"screen_threshold": 3.5}, flags=tuple(flag(10**17 + n) for n in range(90))
    )
    page = parse(report_html(replace(run, steps=(step,))))
    (section,) = [node for node in page.iter("section") if node.get("id") == "screening"]
    assert "33 more nodes are only in the table" in text(section)
    assert len(list(section.iter("tr"))) == 1 + 93
    labels = [text(node) for node in section.iter("text")]
    assert any(label.endswith("…0001") for label in labels)
