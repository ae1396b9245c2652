"""Tables as Markdown readers take them."""

import pytest

from cpm_repro.markdown import table
from cpm_repro.viz.report_page import html_block


@pytest.mark.parametrize(
    ("align", "rule"),
    [("lr", "| --- | ---: | ---: |"), ("l", "| --- | --- | --- |"), ("lrl", "| --- | ---: | --- |")],
)
def test_the_last_letter_goes_on(align, rule):
    assert table(("a", "", "c"), [("1", "2", ""), ["3", "4", "5"]], align).splitlines() == [
        "| a |  | c |", rule, "| 1 | 2 |  |", "| 3 | 4 | 5 |"
    ]  # fmt: skip


def test_cells_are_cells_whatever_their_text():
    """A part called left|hip made two columns of one."""
    text = table(("part", "right"), [("left|hip", "1"), ("two\nlines", "2")])
    assert text.splitlines()[2:] == ["| left\\|hip | 1 |", "| two lines | 2 |"]
    assert "<td>left|hip</td><td>1</td>" in html_block(text)
