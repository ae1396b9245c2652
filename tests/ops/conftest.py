"""Fixtures of the operator tests: which back ends can run here."""

import pytest
from ops_support import skip_unless_built


@pytest.fixture(params=["cpu", "reference"])
def backend(request):
    """Each back end that can run here; the compiled one is skipped, visibly, when it is not built."""
    if request.param == "cpu":
        skip_unless_built()
    return request.param


@pytest.fixture
def compiled():
    """The compiled CPU back end."""
    skip_unless_built()
    return "cpu"
