"""
The cache with room behind its keys and values: the same as transformers' own that is copied at every forward, in place.
"""

import copy

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from modeling_ttt.cache_ttt import BufferedLayer


def new_states(count: int, rows: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 2, count, 4, generator=generator),
        torch.randn(rows, 2, count, 6, generator=generator),  # some backbones have values of another size than keys
    )


def both() -> tuple[BufferedLayer, DynamicLayer]:
    return BufferedLayer(), DynamicLayer()


def assert_same(roomy: BufferedLayer, plain: DynamicLayer) -> None:
    assert roomy.get_seq_length() == plain.get_seq_length()
    assert torch.equal(roomy.keys, plain.keys) and torch.equal(roomy.values, plain.values)


def test_whatever_is_kept_cropped_or_left_out_is_what_a_plain_layer_holds():
    layers = both()
    steps = [
        ("add", 7),
        ("crop", -3),
        ("add", 1),
        ("add", 30),
        ("crop", -30),
        ("rows", [0, 2]),
        ("add", 2),
        ("crop", -7),
        ("add", 4),
    ]
    rows = 3
    for seed, (what, number) in enumerate(steps):
        rows = len(number) if what == "rows" else rows
        for layer in layers:
            if what == "add":
                keys, values = layer.update(*new_states(number, rows, seed))
                assert keys.shape[-2] == values.shape[-2] == layer.get_seq_length()
            elif what == "crop":
                layer.crop(number)
            else:
                layer.batch_select_indices(torch.tensor(number))
        assert_same(*layers)


def test_a_forward_is_written_behind_what_is_there_without_copying_it():
    layer = BufferedLayer()
    layer.update(*new_states(10))
    where = layer.keys.data_ptr()
    for _ in range(20):  # denoising steps: a draft is written and taken back
        layer.update(*new_states(8))
        layer.crop(-8)
    assert layer.keys.data_ptr() == where


def test_memory_grows_with_what_is_kept_and_not_by_every_forward():
    layer, places = BufferedLayer(), set()
    for seed in range(200):
        layer.update(*new_states(1, seed=seed))
        places.add(layer.keys.data_ptr())
    assert layer.get_seq_length() == 200
    assert len(places) < 12


def test_a_copy_of_a_layer_goes_its_own_way():
    layer = BufferedLayer()
    layer.update(*new_states(5))
    before = layer.keys.clone()
    other = copy.deepcopy(layer)
    other.update(*new_states(3, seed=1))
    layer.update(*new_states(3, seed=2))
    assert torch.equal(other.keys[:, :, 5:], new_states(3, seed=1)[0])
    assert torch.equal(layer.keys[:, :, 5:], new_states(3, seed=2)[0])
    assert torch.equal(layer.keys[:, :, :5], before)


@pytest.mark.parametrize("inference", [True, False])
def test_a_cache_filled_while_decoding_can_be_used_afterwards(inference):
    cache = DynamicCache()
    cache.layer_class_to_replicate = BufferedLayer
    with torch.inference_mode(inference):
        cache.update(*new_states(4), 0)
    keys, _ = cache.update(*new_states(2, seed=1), 0)
    assert keys.shape[-2] == 6
    assert not keys.is_inference()
