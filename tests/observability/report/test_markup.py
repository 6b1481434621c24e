from daafl.observability.report.markup import element, html


def test_texts_and_attributes_are_escaped() -> None:
    node = element("p", '<script>"&', title='"><img src=x>', class_="a")
    # Inside a quoted attribute "<" is an ordinary character.
    assert html(node) == ('<p title="&quot;&gt;<img src=x&gt;" class="a">&lt;script&gt;"&amp;</p>')


def test_children_keep_their_order_and_none_is_left_out() -> None:
    node = element("p", "a", None, element("b", "c"), "d", element("i"), "e", "f")
    assert html(node) == "<p>a<b>c</b>d<i></i>ef</p>"


def test_attributes_may_be_absent_present_or_numbers() -> None:
    node = element("input", checked=True, disabled=False, value=None, width=1.50, data_low=0.5)
    assert html(node) == '<input checked="checked" width="1.5" data-low="0.5">'


def test_characters_that_html_forbids_are_replaced() -> None:
    assert html(element("p", "a\x00b\x1bc\td\ud800")) == "<p>a\ufffdb\ufffdc\td\ufffd</p>"
