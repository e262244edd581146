"""
Settings of every test: one thread, and for hypothesis the same examples each time, however long they take. The helpers
lie in `*_fixtures.py`.
"""

import pytest
import torch
from hypothesis import settings
from modeling_fixtures import END, END_LAST, query_lengths, tiny_model

torch.set_num_threads(1)
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def endless(model):
    """A model that never closes a span by itself."""
    with torch.no_grad():
        model.lm_head.weight[[END, END_LAST]] = 0.0  # a score of 0, always below the best of twenty random codes
    return model


@pytest.fixture
def forwards(model):
    """The query length of every forward of the backbone."""
    return query_lengths(model)


@pytest.fixture
def uncompiled_flex_attention():
    """Run flex attention without compiling it: that takes a minute on a CPU, and cached shapes change at every step."""
    with torch.compiler.set_stance("force_eager"):
        yield
