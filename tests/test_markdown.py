"""Tables as Markdown readers take them."""

import pytest

from cpm_repro.markdown import table


@pytest.mark.parametrize(
    ("align", "rule"),
    [("lr", "| --- | ---: | ---: |"), ("l", "| --- | --- | --- |"), ("lrl", "| --- | ---: | --- |")],
)
def test_the_last_letter_goes_on(align, rule):
    assert table(("a", "", "c"), [("1", "2", ""), ["3", "4", "5"]], align).splitlines() == [
        "| a |  | c |", rule, "| 1 | 2 |  |", "| 3 | 4 | 5 |"
    ]  # fmt: skip
