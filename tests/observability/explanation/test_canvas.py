from daafl.observability.explanation.canvas import Frame, Trace, chart
from daafl.observability.report.scale import Scale
from daafl.observability.units import number


def test_a_line_fills_the_dots_from_corner_to_corner() -> None:
    # Two characters by one: a grid of 4 x 4 dots, from the lower left to the upper right.
    frame = Frame(Scale(0, 1), Scale(0, 1), width=2, height=1)
    lines = chart(frame, [Trace("rise", ((0, 0), (1, 1)), "blue")], label_y=number, label_x=number)
    # Dots (0,3) and (1,2) are 0x40 and 0x20 of the first cell; (2,1) and (3,0) 0x02 and 0x08.
    assert lines[0].plain.endswith(chr(0x2800 + 0x60) + chr(0x2800 + 0x0A))
    assert lines[-1].plain.strip() == "── rise"


def test_marks_lie_above_lines_and_the_upright_below() -> None:
    frame = Frame(Scale(0, 4), Scale(0, 2), width=5, height=3)
    traces = [
        Trace("observed", ((0, 1), (4, 1)), "blue"),
        Trace("expected", ((4, 2),), "green", mark="◆"),
    ]
    lines = chart(frame, traces, label_y=number, label_x=number, upright=2)
    rows = [line.plain.split(" ", 1)[-1].lstrip("0123456789. ")[1:] for line in lines[:3]]
    assert rows[0] == "  ╎ ◆"
    assert rows[2] == "  ╎  "
    assert all(0x2800 < ord(char) < 0x2900 for char in rows[1])


def test_plain_characters_take_the_place_of_braille() -> None:
    frame = Frame(Scale(0, 1), Scale(0, 1), width=4, height=2)
    lines = chart(
        frame,
        [Trace("rise", ((0, 0), (1, 1)), "blue"), Trace("now", ((1, 1),), "red", mark="●")],
        label_y=number,
        label_x=number,
        is_ascii=True,
    )
    text = "\n".join(line.plain for line in lines)
    assert text.isascii()
    assert "*" in text
    assert "o" in text
