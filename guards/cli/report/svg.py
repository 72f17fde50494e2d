"""Turns a figure of matplotlib into SVG that belongs to a page: the page's fonts, the page's colours, no address."""

import io
import re
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["COLOURS", "inline_svg"]

COLOURS = {
    "--ink": "#1a1b1c",
    "--soft": "#757677",
    "--line": "#d7d8d9",
    "--blue": "#0072b2",
    "--orange": "#d55e00",
    "--green": "#009e73",
    "--pink": "#cc79a7",
    "--yellow": "#e69f00",
    "--sky": "#56b4e9",
}
"""The colours of charts by the name of their CSS variable, which has another value in the dark. The six colours of data
are those of Okabe & Ito (2008), which colour-blind readers can tell apart."""
VARIABLES = {colour: f"var({name})" for name, colour in COLOURS.items()}
FONT = re.compile(r"font-family:[^;]*;?\s*")
REFERENCE = re.compile(r"#([\w-]+)")
DROPPED = {"metadata", "style"}


def inline_svg(figure: Figure, *, name: str, title: str) -> Markup:
    """Draw a figure as an ``svg`` element. The ids of the element begin with ``name``; screen readers say ``title``."""
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib's own output
    for parent in root.iter():
        for child in [child for child in parent if _local(child.tag) in DROPPED]:
            parent.remove(child)
    used = {target for each in root.iter() for value in each.attrib.values() for target in _targets(value)}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _rewritten(value, name, used)
            for key, value in element.attrib.items()
            if _local(key) != "id" or value in used
        }
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.attrib['id']}")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - the tree's writer escapes every text


def _local(name: str) -> str:
    """Drop the namespace: inside a page an ``svg`` element needs none."""
    return name.rpartition("}")[2]


def _targets(value: str) -> list[str]:
    return REFERENCE.findall(value) if value.startswith("#") or "url(#" in value else []


def _rewritten(value: str, name: str, used: set[str]) -> str:
    value = REFERENCE.sub(lambda found: f"#{name}-{found[1]}" if found[1] in used else found[0], value)
    for colour, variable in VARIABLES.items():
        value = value.replace(colour, variable)
    return FONT.sub("", value)
