"""Elements of a page, built as a tree so that no text can ever become markup.

Task names, reasons and file contents come from elsewhere. They enter the page as text nodes and
attribute values of `xml.etree` elements, and the serialiser escapes them all.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None
Attribute = str | int | float | bool | None

# Characters that HTML forbids even when escaped: controls other than tab and newline, surrogates.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def element(tag: str, *children: Child, **attributes: Attribute) -> Element:
    """Return an element with its attributes and children.

    Parameters
    ----------
    tag
        Name of the element.
    children
        Elements and texts in order; ``None`` is left out.
    attributes
        Attribute values; ``None`` and ``False`` leave the attribute out, ``True`` writes its name.
        A trailing underscore is dropped (``class_``), inner ones become hyphens (``stroke_width``).

    Examples
    --------
    >>> html(element("p", "a < b", class_="note"))
    '<p class="note">a &lt; b</p>'
    """
    node = Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            node.set(_attribute_name(name), _text(name if value is True else value))
    for child in children:
        if child is not None:
            _append(node, child)
    return node


def html(node: Element) -> str:
    """Return the element as HTML text."""
    return tostring(node, encoding="unicode", method="html", short_empty_elements=False)


def _append(node: Element, child: Element | str) -> None:
    if isinstance(child, Element):
        node.append(child)
        return
    text = _text(child)
    if len(node):
        node[-1].tail = (node[-1].tail or "") + text
    else:
        node.text = (node.text or "") + text


def _attribute_name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return _FORBIDDEN.sub("\ufffd", str(value))
