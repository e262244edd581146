"""
Muon and AdamW as one optimiser: which parameter goes where, one learning rate, and a state that a run goes on from.
"""

import json
from pathlib import Path

import pytest
import torch
from finetune_fixtures import tiny_checkpoint, tiny_data, tiny_recipe
from torch import nn

from finetune.training.muon import MuonAdamW, orthogonalise
from finetune.training.recipe import Recipe, override
from finetune.training.train import train


class TinyModel(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4)])


def stepped(model: nn.Module, optimizer: MuonAdamW, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model.layers[0](model.embed(torch.arange(5))).square().sum().backward()
        optimizer.step()


def test_matrices_of_layers_go_to_muon_and_everything_else_to_adamw():
    model = TinyModel()
    optimizer = MuonAdamW(model, 0.1, weight_decay=0.5)
    assert [id(p) for g in optimizer.muon.param_groups for p in g["params"]] == [id(model.layers[0].weight)]
    decays = {id(p): g["weight_decay"] for g in optimizer.adamw.param_groups for p in g["params"]}
    assert decays == {id(model.embed.weight): 0.5, id(model.layers[0].bias): 0.0}


def test_a_schedule_of_the_whole_reaches_both():
    model = TinyModel()
    optimizer = MuonAdamW(model, 0.1, weight_decay=0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.clone() for p in model.parameters()]
    stepped(model, optimizer, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_restored_state_goes_on_as_if_it_had_never_stopped():
    whole, halved = TinyModel(), TinyModel()
    stepped(whole, MuonAdamW(whole, 0.05, weight_decay=0.1), 6)
    first = MuonAdamW(halved, 0.05, weight_decay=0.1)
    stepped(halved, first, 3)
    second = MuonAdamW(halved, 0.7, weight_decay=0.0)  # what is restored says otherwise
    second.load_state_dict(first.state_dict())
    stepped(halved, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halved.parameters(), strict=True))


def test_a_step_on_the_cpu_is_that_of_torch_up_to_the_rounding_of_bfloat16():
    ours, theirs = TinyModel(), TinyModel()
    start = ours.layers[0].weight.clone()
    stepped(ours, MuonAdamW(ours, 0.02, weight_decay=0.1), 3)
    optimizer = MuonAdamW(theirs, 0.02, weight_decay=0.1)
    optimizer._step_in_float32 = optimizer.muon.step
    stepped(theirs, optimizer, 3)
    moved = theirs.layers[0].weight - start
    assert (ours.layers[0].weight - theirs.layers[0].weight).norm() < 0.02 * moved.norm()


def test_orthogonalising_keeps_directions_and_evens_out_singular_values():
    torch.manual_seed(0)
    for shape in ((6, 4), (4, 6)):
        matrix = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        found = orthogonalise(matrix)
        values = (u.T @ found @ v.T).diagonal()
        assert (
            torch.allclose(u @ torch.diag(values) @ v, found, atol=1e-4) and values.min() > 0.6 and values.max() < 1.3
        )


def test_a_recipe_trains_with_it_and_only_the_whole_model(tmp_path: Path):
    recipe = tiny_recipe(
        tiny_checkpoint(tmp_path / "base"),
        tiny_data(tmp_path / "data"),
        tmp_path / "run",
        method="full",
        optimizer="muon",
        objective="two_stream",
        max_steps=2,
    )
    folder = train(recipe)
    assert json.loads((folder / "training.json").read_text())["updates"] == 2
    assert json.loads((folder / "config.json").read_text())["objective"] == "two_stream"
    with pytest.raises(ValueError, match="goes with `method: full`"):
        override(Recipe(), {"optimizer": "muon", "method": "lora"})
    with pytest.raises(ValueError, match="adamw, muon"):
        override(Recipe(), {"optimizer": "sgd"})
