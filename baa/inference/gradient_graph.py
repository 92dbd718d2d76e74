"""A graph without autograd of a module that computes gradients in its forward pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def without_autograd(module: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
    """Trace a module, its gradients included, to a graph of plain operators that exporters know.

    Args:
        module: whose forward pass takes gradients of features, not of weights.
        example: inputs; the graph takes other batch sizes too.
    """
    formulas: dict[Any, Any] = dict(
        get_decompositions([aten.native_batch_norm_backward, aten.hardtanh_backward, aten.threshold_backward])
    )
    formulas[aten.convolution_backward.default] = _convolution_backward
    with torch.no_grad():
        traced = make_fx(module, decomposition_table=formulas, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _convolution_backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """The gradient of a convolution's input: the transposed convolution."""
    assert not transposed
    rest = [
        inputs.shape[2 + i]
        - ((grad.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
        for i in range(len(stride))
    ]
    return aten.convolution.default(grad, weight, None, stride, padding, dilation, True, rest, groups), None, None
