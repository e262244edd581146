"""Fewer operations in an exported graph, for the same numbers."""

from collections import Counter

import numpy as np
import pytest

from modeling_ttt.export_rewrites_ttt import rewrite

onnx_ir = pytest.importorskip("onnx_ir", reason="the extra `edge` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `edge` is not installed")
SEQUENCES, HEADS, GROUP, QUERIES, KEYS, SIZE = 2, 2, 3, 4, 5, 8
WIDTH = 6


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def constants(**arrays):
    return {name: onnx_ir.val(name, const_value=onnx_ir.tensor(array, name=name)) for name, array in arrays.items()}


def graph_of(inputs, nodes, outputs, initializers):
    """A model, whose outputs have names."""
    for number, value in enumerate(outputs):
        value.name, value.type = f"output_{number}", onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    graph = onnx_ir.Graph(
        inputs, outputs, nodes=nodes, initializers=list(initializers.values()), opset_imports={"": 23}, name="graph"
    )
    return onnx_ir.Model(graph, ir_version=10)


def run(model, feeds):
    session = onnxruntime.InferenceSession(
        onnx_ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def operations(model):
    return Counter(node.op_type for node in model.graph)


def attention(axis=2, keys_are_used_again=False):
    """Attention over keys and values whose heads are repeated behind `axis`."""
    shape = [SEQUENCES, HEADS, KEYS, SIZE]
    query, keys, values = (
        onnx_ir.val(name, onnx_ir.DataType.FLOAT, shape)
        for name, shape in (("query", [SEQUENCES, HEADS * GROUP, QUERIES, SIZE]), ("keys", shape), ("values", shape))
    )
    repeated = [*shape[:axis], GROUP, *shape[axis:]]
    known = constants(
        axis=np.array([axis]), repeated=np.array(repeated), merged=np.array([SEQUENCES, HEADS * GROUP, KEYS, SIZE])
    )
    nodes, expanded = [], []
    for states in (keys, values):
        for operation, constant in (("Unsqueeze", "axis"), ("Expand", "repeated"), ("Reshape", "merged")):
            nodes.append(onnx_ir.node(operation, [states, known[constant]]))
            states = nodes[-1].outputs[0]
        expanded.append(states)
    nodes.append(onnx_ir.node("Attention", [query, *expanded]))
    outputs = [nodes[-1].outputs[0]] + [expanded[0]] * keys_are_used_again
    return graph_of([query, keys, values], nodes, outputs, known)


FEEDS = {
    "query": random(SEQUENCES, HEADS * GROUP, QUERIES, SIZE),
    "keys": random(SEQUENCES, HEADS, KEYS, SIZE),
    "values": random(SEQUENCES, HEADS, KEYS, SIZE),
}


def test_attention_shares_heads_without_copies():
    model = attention()
    (expected,) = run(model, FEEDS)
    rewrite(model)
    assert operations(model) == {"Attention": 1}
    np.testing.assert_allclose(run(model, FEEDS)[0], expected, atol=1e-6)


def test_copies_that_are_used_otherwise_stay_and_heads_in_another_order_too():
    model = attention(keys_are_used_again=True)
    expected = run(model, FEEDS)
    rewrite(model)
    assert operations(model) == {"Attention": 1, "Unsqueeze": 1, "Expand": 1, "Reshape": 1}
    for got, wanted in zip(run(model, FEEDS), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    model = attention(axis=1)  # head 0, head 1, head 0, ...
    rewrite(model)
    assert operations(model)["Expand"] == 2


def products(biases, is_used_again=False):
    """Products of one input with matrices of 3, 4, ... columns, some with a bias."""
    given = onnx_ir.val("given", onnx_ir.DataType.FLOAT, [QUERIES, WIDTH])
    known, nodes, outputs = {}, [], []
    for number, bias in enumerate(biases):
        known |= constants(**{f"matrix_{number}": random(WIDTH, 3 + number)})
        nodes.append(onnx_ir.node("MatMul", [given, known[f"matrix_{number}"]]))
        if bias is not None:
            known |= constants(**{f"bias_{number}": bias})
            both = [nodes[-1].outputs[0], known[f"bias_{number}"]]
            nodes.append(onnx_ir.node("Add", both[:: -1 if number % 2 else 1]))
        nodes.append(onnx_ir.node("Sigmoid", [nodes[-1].outputs[0]]))
        outputs.append(nodes[-1].outputs[0])
    if is_used_again:
        nodes.append(onnx_ir.node("Sigmoid", [nodes[0].outputs[0]]))
        outputs.append(nodes[-1].outputs[0])
    return graph_of([given], nodes, outputs, known)


@pytest.mark.parametrize(
    ("biases", "is_used_again", "adds"),
    [
        ((None, None), False, 0),
        ((random(3), random(4), random(5)), False, 1),
        ((random(3), None), False, 1),
        ((random(3), random(1)), False, 2),
        ((random(3), random(4)), True, 2),
    ],
)
def test_products_that_share_an_input_become_one(biases, is_used_again, adds):
    model, feeds = products(biases, is_used_again), {"given": random(QUERIES, WIDTH)}
    expected = run(model, feeds)
    rewrite(model)
    found = operations(model)
    assert found["MatMul"] == found["Split"] == 1 and found["Add"] == adds
    assert not [name for name in model.graph.initializers if name.startswith("matrix")]
    for got, wanted in zip(run(model, feeds), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_a_product_alone_stays():
    model = products((random(3),))
    rewrite(model)
    assert operations(model) == {"MatMul": 1, "Add": 1, "Sigmoid": 1}
