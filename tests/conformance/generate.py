#!/usr/bin/python3
"""Writes the ONNX project's operator cases as files that the conformance runner reads.

usage: generate.py FOLDER OPERATOR ...

Takes the single-node cases of these operators from python3-onnx (onnx.backend.test) whose data is float32 and writes
FOLDER/CASE/VARIANT/{model.onnx,input_0.pb,output_0.pb}. A network of ours has one input (N, F), one output (N, K), and keeps
samples apart, so each case is wrapped: the input is a matrix that is sliced and reshaped into the operator's data, the outputs
are flattened and put side by side. Variants, of which the runner takes the first that loads:

  each            the first dimension of the case's data is the batch
  one             the case's data is one sample: a dimension of 1 goes before it, and axes count one further
  with_constants  all of the case's data are constants, which the loader computes with: the outputs are added to an input of
                  zeros. So are operators over integers (shapes, indices, masks) tested too

An output of a single number is put there twice, since a classifier has at least two classes.
"""
import copy
import os
import sys

import numpy

for alias in ("float", "int", "bool", "object"):  # python3-onnx of Debian 12 is older than its NumPy
    if alias not in numpy.__dict__:
        setattr(numpy, alias, getattr(__builtins__, alias))

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

# Operators all of whose inputs are data; of the others only the first is, the rest are weights or sizes.
ALL_DATA = {"Add", "Sub", "Mul", "Div", "Pow", "Sum", "Min", "Max", "MatMul", "Concat", "PRelu"}
# Those whose meaning has a batch as the first dimension, so that a further dimension would be another operator.
BATCHED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LRN", "Gemm",
           "InstanceNormalization", "GroupNormalization", "Resize", "DepthToSpace", "SpaceToDepth", "Flatten"}
AXIS = {"Softmax": -1, "LogSoftmax": -1, "Concat": 0, "Split": 0, "Gather": 0, "LayerNormalization": -1}

# The other outputs, of use in training, are not made by us.
FIRST_OUTPUT = {"LayerNormalization"}


OTHER_TYPE = "no float32 data"


class Skip(Exception):
    pass


def tensor(array, name):
    return numpy_helper.from_array(numpy.ascontiguousarray(array), name)


def attribute(node, name, fallback=None):
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return fallback


def set_attribute(node, name, value):
    for item in list(node.attribute):
        if item.name == name:
            node.attribute.remove(item)
    node.attribute.append(helper.make_attribute(name, value))


def shift(node, arrays):
    """The node over data with one dimension more in front."""
    op, rank = node.op_type, arrays[node.input[0]].ndim

    def moved(values):
        return numpy.array([v + 1 if v >= 0 else v for v in numpy.atleast_1d(values)], numpy.int64)

    def slot(i):
        return node.input[i] if len(node.input) > i and node.input[i] else None

    if op in AXIS:
        axis = attribute(node, "axis", AXIS[op])
        set_attribute(node, "axis", axis + 1 if axis >= 0 else axis)
    elif op == "Transpose":
        perm = attribute(node, "perm", list(range(rank))[::-1])
        set_attribute(node, "perm", [0] + [p + 1 for p in perm])
    elif op.startswith("Reduce"):
        if slot(1):
            arrays[slot(1)] = moved(arrays[slot(1)])
        else:
            axes = attribute(node, "axes")
            if axes is None and attribute(node, "noop_with_empty_axes", 0) == 0 and op != "ReduceSum":
                axes = list(range(rank))
            if axes is not None:
                set_attribute(node, "axes", [int(a) for a in moved(axes)])
    elif op in ("Squeeze", "Unsqueeze"):
        if not slot(1):
            raise Skip("axes left to the operator")
        arrays[slot(1)] = moved(arrays[slot(1)])
    elif op == "Slice":
        axes = arrays[slot(3)] if slot(3) else numpy.arange(len(arrays[slot(1)]))
        while len(node.input) < 4:
            node.input.append("")
        if not node.input[3]:
            node.input[3] = "the_axes"
        arrays[node.input[3]] = moved(axes)
    elif op == "Pad":
        half = len(arrays[slot(1)]) // 2
        pads = list(arrays[slot(1)])
        arrays[slot(1)] = numpy.array([0] + pads[:half] + [0] + pads[half:], numpy.int64)
    elif op == "Expand":
        arrays[slot(1)] = numpy.concatenate([numpy.array([1], numpy.int64), arrays[slot(1)]])
    elif op == "Reshape":
        batch = -1 if attribute(node, "allowzero", 0) else 0
        arrays[slot(1)] = numpy.concatenate([numpy.array([batch], numpy.int64), arrays[slot(1)]])


CONSTANT_TYPES = [numpy.dtype(t) for t in ("float32", "int32", "int64", "bool")]


def wrap_constants(case):
    model, (inputs, outputs) = case.model, case.data_sets[0]
    node = copy.deepcopy(model.graph.node[0])
    arrays = {i.name: numpy.asarray(a) for i, a in zip(model.graph.input, inputs)}
    results = [numpy.asarray(o) for o in outputs]
    if node.op_type in FIRST_OUTPUT:
        del node.output[1:]
        results = results[:1]
    if any(a.dtype not in CONSTANT_TYPES for a in list(arrays.values()) + results) or \
            len(results) != len([o for o in node.output if o]):
        raise Skip(OTHER_TYPE)
    nodes = [node]
    initializers = [tensor(a, n) for n, a in arrays.items()] + [tensor(numpy.array((1, -1), numpy.int64), "flat_shape")]
    flat = []
    for output in (o for o in node.output if o):
        nodes.append(helper.make_node("Cast", [output], [output + "_cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Reshape", [output + "_cast", "flat_shape"], [output + "_flat"]))
        flat.append(output + "_flat")
    y = numpy.concatenate([r.reshape(1, -1).astype(numpy.float32) for r in results], axis=1)
    if y.shape[1] == 0:
        raise Skip("an empty output")
    if y.shape[1] == 1:
        flat, y = flat * 2, numpy.concatenate([y, y], axis=1)
    nodes.append(helper.make_node("Concat", flat, ["outputs"], axis=1))
    nodes.append(helper.make_node("Add", ["the_input", "outputs"], ["the_output"]))
    return model_of(nodes, initializers, y.shape[1], y.shape[1], model.opset_import), numpy.zeros_like(y), y


def wrap(case, variant):
    if variant == "with_constants":
        return wrap_constants(case)
    model, (inputs, outputs) = case.model, case.data_sets[0]
    node = copy.deepcopy(model.graph.node[0])
    names = [i.name for i in model.graph.input]
    arrays = {n: numpy.asarray(a) for n, a in zip(names, inputs)}
    op = node.op_type
    data = [n for n in node.input if n] if op in ALL_DATA else list(node.input[:1])
    data = list(dict.fromkeys(data))
    if not data or any(n not in arrays or arrays[n].dtype != numpy.float32 for n in data):
        raise Skip(OTHER_TYPE)
    results = [numpy.asarray(o) for o in outputs]
    if op in FIRST_OUTPUT:
        del node.output[1:]
        results = results[:1]
    if any(r.dtype != numpy.float32 for r in results) or len(results) != len([o for o in node.output if o]):
        raise Skip("an output that is not float32")
    if variant == "one":
        if op in BATCHED:
            raise Skip("the operator has a batch")
        shift(node, arrays)
        results = [r.reshape((1, -1)) for r in results]
        for n in data:
            arrays[n] = arrays[n][None]
    count = arrays[data[0]].shape[0] if arrays[data[0]].ndim else 0
    if count == 0 or any(arrays[n].ndim == 0 or arrays[n].shape[0] != count for n in data) or \
            any(r.ndim == 0 or r.shape[0] != count for r in results):
        raise Skip("the first dimension is no batch")
    return build(node, data, arrays, results, count, model.opset_import)


def build(node, data, arrays, results, count, opsets):
    nodes, at = [], 0
    initializers = [tensor(a, n) for n, a in arrays.items() if n not in data and n in node.input]
    total = sum(arrays[n][0].size for n in data)
    for i, n in enumerate(data):
        size = arrays[n][0].size
        source = "the_input"
        if len(data) > 1:
            source = "part%d" % i
            for name, value in (("s", at), ("e", at + size), ("a", 1)):
                initializers.append(tensor(numpy.array([value], numpy.int64), source + name))
            nodes.append(helper.make_node("Slice", ["the_input", source + "s", source + "e", source + "a"], [source]))
        at += size
        initializers.append(tensor(numpy.array((0,) + arrays[n].shape[1:], numpy.int64), "shape%d" % i))
        nodes.append(helper.make_node("Reshape", [source, "shape%d" % i], [n]))
    nodes.append(node)
    flat = []
    for i, output in enumerate(o for o in node.output if o):
        initializers.append(tensor(numpy.array((0, -1), numpy.int64), "flat_shape%d" % i))
        nodes.append(helper.make_node("Reshape", [output, "flat_shape%d" % i], ["flat%d" % i]))
        flat.append("flat%d" % i)
    x = numpy.concatenate([arrays[n].reshape(count, -1) for n in data], axis=1)
    y = numpy.concatenate([r.reshape(count, -1) for r in results], axis=1)
    if x.shape[1] != total or y.shape[1] == 0:
        raise Skip("an empty output")
    if y.shape[1] == 1:
        flat, y = flat * 2, numpy.concatenate([y, y], axis=1)
    nodes.append(helper.make_node("Concat", flat, ["the_output"], axis=1))
    return model_of(nodes, initializers, total, y.shape[1], opsets), x, y


def model_of(nodes, initializers, features, classes, opsets):
    graph = helper.make_graph(nodes, "case",
                              [helper.make_tensor_value_info("the_input", TensorProto.FLOAT, ["N", features])],
                              [helper.make_tensor_value_info("the_output", TensorProto.FLOAT, ["N", classes])], initializers)
    model = helper.make_model(graph, producer_name="onnx.backend.test")
    del model.opset_import[:]
    model.opset_import.extend(o for o in opsets if o.domain in ("", "ai.onnx"))
    for entry in model.opset_import:  # operators that did not change up to opset 9 are shown with an older one
        entry.version = max(entry.version, 9)
    model.ir_version = 8
    return model


def main():
    folder, operators = sys.argv[1], set(sys.argv[2:])
    if "Pow" not in operators:
        sys.exit(__doc__)
    for case in collect_testcases(None):
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in operators or nodes[0].domain not in ("", "ai.onnx"):
            continue
        where = os.path.join(folder, case.name)
        reasons = []
        for variant in ("each", "one", "with_constants"):
            try:
                model, x, y = wrap(case, variant)
            except Skip as reason:
                reasons.append(str(reason))
                continue
            os.makedirs(os.path.join(where, variant), exist_ok=True)
            with open(os.path.join(where, variant, "model.onnx"), "wb") as out:
                out.write(model.SerializeToString())
            for file, array in (("input_0.pb", x), ("output_0.pb", y)):
                with open(os.path.join(where, variant, file), "wb") as out:
                    out.write(tensor(array.astype(numpy.float32), "").SerializeToString())
        if reasons and all(reason == OTHER_TYPE for reason in reasons):
            continue  # not a float32 case
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "reason"), "w") as out:
            out.write("; ".join(dict.fromkeys(reasons)) + "\n")


if __name__ == "__main__":
    main()
