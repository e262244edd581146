"""
Muon for the matrices of the layers, AdamW for embeddings, head and vectors: what models that start from nothing learn
faster with.

Muon (Jordan et al., 2024) orthogonalises the momentum of each matrix; with updates of AdamW's size
("match_rms_adamw", Moonshot AI, arXiv 2502.16982) one learning rate serves both. torch has both optimisers; here they
only become one, as transformers' Trainer wants. Muon needs whole matrices: not for processes that share them out
(FSDP, ZeRO).

torch's Muon iterates in bfloat16. On a CPU without instructions for it that takes longer than forward and backward
together, so on CPUs the iteration is done here in float32, which is no less exact.
"""

from typing import Any

import torch
from torch import nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, as in torch
ITERATIONS = 5
MOMENTUM = 0.95
RMS_OF_ADAMW = 0.2  # "match_rms_adamw": an update as large as AdamW's


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """
    Pull the singular values of a matrix towards one.

    Args:
        matrix (`torch.FloatTensor` of shape `(rows, columns)`): Any matrix.

    Returns:
        `torch.FloatTensor` of the same shape: With singular values between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class MuonAdamW(torch.optim.Optimizer):
    """
    Muon and AdamW as one optimiser, with one learning rate and one schedule.

    Args:
        model (`nn.Module`): Two-dimensional parameters below `layers` go to Muon, all others to AdamW.
        lr (`float`): Of both.
        weight_decay (`float`): Of Muon's matrices and of AdamW's embeddings and head; vectors have none.
        betas (`tuple[float, float]`, *optional*, defaults to (0.9, 0.98)): Of AdamW.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.98)):
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        hidden = [p for name, p in named if p.ndim == 2 and "layers." in name]
        tables = [p for name, p in named if p.ndim == 2 and "layers." not in name]
        vectors = [p for _, p in named if p.ndim != 2]
        self.muon = torch.optim.Muon(hidden, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        groups = [{"params": tables, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr, betas)
        # the very same groups: a schedule reaches them
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step of each."""
        if self.param_groups[0]["params"][0].is_cpu:
            self._step_in_float32()
        else:
            self.muon.step()
        self.adamw.step()

    @torch.no_grad()
    def _step_in_float32(self) -> None:
        """Do what torch's Muon does, with its state."""
        for group in self.muon.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.muon.state[parameter]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                update = orthogonalise(parameter.grad.lerp(momentum, MOMENTUM))  # Nesterov
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * RMS_OF_ADAMW * max(parameter.shape) ** 0.5)

    def state_dict(self) -> dict[str, Any]:
        """Both states, side by side."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both states, and share their groups again."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]
