"""What the tests of the node share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tus_node import TusNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TusNode]:
    """Return a node's data plane without sockets."""
    opened = TusNode(tmp_path)
    yield opened
    opened.close()
