"""
Nano's optimiser with its orthogonalisation in float32.

torch's Muon iterates in bfloat16. Where no instruction multiplies bfloat16 (CPUs before AVX512-BF16) that takes three times as long as
forward and backward of this comparison's model together; in float32 it is a small part of a step, and no less exact.

Knows parameters and gradients.
"""

from typing import Any

import torch

from finetune.nano.muon import MuonAdamW

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon's quintic Newton-Schulz iteration, as in torch
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


class Float32MuonAdamW(MuonAdamW):
    """As `MuonAdamW`, with the same state and groups; only the iteration is done in float32."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Take one step of each."""
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
        self.adamw.step()
