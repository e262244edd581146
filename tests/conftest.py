"""Settings of every test: one thread. The helpers lie in `*_fixtures.py`."""

import pytest
import torch
from modeling_fixtures import tiny_model

torch.set_num_threads(1)


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def uncompiled_flex_attention():
    """Run flex attention without compiling it: that takes a minute on a CPU, and cached shapes change at every step."""
    with torch.compiler.set_stance("force_eager"):
        yield
