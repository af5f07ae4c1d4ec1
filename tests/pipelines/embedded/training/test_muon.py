"""Muon: the step is nearly orthogonal, whatever the gradient's scale."""

import torch

from pipelines.embedded.training.muon import Muon, orthogonalise


def test_orthogonalise_evens_out_singular_values() -> None:
    torch.manual_seed(0)
    for shape in ((24, 96), (96, 24)):
        steep = torch.randn(shape) * torch.logspace(0, -1.5, shape[1])
        values = torch.linalg.svdvals(orthogonalise(steep).float())
        assert values.max() < 1.3
        assert values.max() / values.median() < 2
        assert torch.linalg.svdvals(steep).max() / torch.linalg.svdvals(steep).median() > 2


def test_step_goes_downhill_and_ignores_the_gradients_scale() -> None:
    torch.manual_seed(0)
    start = torch.randn(8, 4, 3, 3)
    ends = []
    for scale in (1.0, 1000.0):
        weight = torch.nn.Parameter(start.clone())
        optimizer = Muon([weight], lr=0.1)
        loss = scale * weight.square().sum()
        loss.backward()
        optimizer.step()
        assert weight.square().sum() < start.square().sum()
        ends.append(weight.detach())
    assert torch.allclose(ends[0], ends[1], atol=0.02)
