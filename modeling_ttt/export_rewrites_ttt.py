"""
An exported graph with fewer operations: what a small model spends beside its products with matrices.

    keys ─► Unsqueeze ─► Expand ─► Reshape ─► Attention     becomes    keys ─► Attention, which shares heads by itself
    x ─► MatMul, MatMul, MatMul                             becomes    x ─► MatMul ─► Split

Depends on `onnx_ir`. Independent of models and runtimes.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

EXPANSION = ("Reshape", "Expand", "Unsqueeze")  # of each head of keys or values to the heads of queries, from its end


def rewrite(model: "onnx_ir.Model") -> None:
    """
    Rewrite a graph, in place: keys and values are not copied for each head of the queries, and matrices that share an
    input are multiplied at once.

    Args:
        model (`onnx_ir.Model`): Attention is shared from opset 23 on; what has another form stays as it is.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    _share_heads(model.graph)
    _pack_products(model.graph)
    RemoveUnusedNodesPass()(model)


def _share_heads(graph: "onnx_ir.Graph") -> None:
    for node in graph:
        if node.op_type == "Attention":
            for number in (1, 2):  # keys, values
                node.replace_input_with(number, _with_own_heads(node.inputs[number]))


def _with_own_heads(states: "onnx_ir.Value | None") -> "onnx_ir.Value | None":
    """Keys or values before their heads were repeated, or as they are."""
    value, axis = states, None
    for name in EXPANSION:
        node = value.producer() if value is not None else None
        if node is None or node.op_type != name:
            return states
        value, axis = node.inputs[:2]
    is_of_heads = axis is not None and axis.const_value is not None and axis.const_value.numpy().tolist() == [2]
    return value if is_of_heads else states


def _pack_products(graph: "onnx_ir.Graph") -> None:
    products = defaultdict(list)
    for node in graph:
        matrix = _array(graph, node.inputs[1]) if node.op_type == "MatMul" else None
        if matrix is not None and matrix.ndim == 2:
            products[node.inputs[0]].append((node, matrix))
    for pairs in products.values():
        if len(pairs) > 1:
            nodes, matrices = zip(*pairs, strict=True)
            _pack(graph, nodes, matrices)


def _pack(graph: "onnx_ir.Graph", products: "Sequence[onnx_ir.Node]", matrices: Sequence[np.ndarray]) -> None:
    """Replace products of one input, and the sums of all of them with biases."""
    import onnx_ir

    def constant(name: str, array: np.ndarray) -> "onnx_ir.Value":
        name = f"{products[0].name}.packed_{name}"
        value = onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name))
        graph.register_initializer(value)
        return value

    new = [onnx_ir.node("MatMul", [products[0].inputs[0], constant("matrix", np.concatenate(matrices, axis=1))])]
    last = products
    sums = [_sum(graph, node, matrix.shape[1]) for node, matrix in zip(products, matrices, strict=True)]
    known = [one for one in sums if one is not None]
    if len(known) == len(products):
        last, biases = zip(*known, strict=True)
        new.append(onnx_ir.node("Add", [new[-1].outputs[0], constant("bias", np.concatenate(biases))]))
    sizes = constant("sizes", np.array([matrix.shape[1] for matrix in matrices], np.int64))
    new.append(onnx_ir.node("Split", [new[-1].outputs[0], sizes], {"axis": -1}, num_outputs=len(products)))
    graph.insert_before(products[0], new)
    onnx_ir.convenience.replace_all_uses_with([node.outputs[0] for node in last], new[-1].outputs)


def _sum(graph: "onnx_ir.Graph", product: "onnx_ir.Node", width: int) -> "tuple[onnx_ir.Node, np.ndarray] | None":
    """The node that adds a bias to a product, and the bias; `None` if the product is used otherwise."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None
    bias = _array(graph, uses[0].node.inputs[1 - uses[0].idx])
    return None if bias is None or bias.shape != (width,) else (uses[0].node, bias)


def _array(graph: "onnx_ir.Graph", value: "onnx_ir.Value | None") -> np.ndarray | None:
    """The array of a constant of a graph, or `None`."""
    if value is None or value.name not in graph.initializers or value.const_value is None:
        return None
    return value.const_value.numpy()


__all__ = ["rewrite"]
