"""Networks as ONNX files: batch normalisation folded into the convolutions, weights in 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyama_dask.methods.onnx_model import PROPERTY, ModelCard
from pyama_dask.training.network import CHANNELS, EPSILON, FOLD, Weights

OPSET, IR = 17, 8
"""Versions of ONNX's operators and file format, which onnxruntime 1.14 and later read."""


def onnx_model(weights: Weights) -> onnx.ModelProto:
    """Network with the input ``frame`` (N, 1, H, W) and the output ``maps`` (N, 3, H / 2, W / 2), float32.

    Weights are stored as float16 and cast to float32, in which the network computes.
    """
    graph = _Graph()
    x = graph.add("SpaceToDepth", ["frame"], blocksize=FOLD)
    skipped = []
    for level in range(len(CHANNELS)):
        if level:
            x = graph.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        x = graph.block(f"down{level}b", graph.block(f"down{level}a", x, weights), weights)
        skipped.append(x)
    for level in range(len(CHANNELS) - 2, -1, -1):
        x = graph.add("Add", [graph.enlarged(graph.convolved(x, *_plain(weights, f"up{level}"))), skipped[level]])
        x = graph.block(f"merge{level}", x, weights)
    graph.add("DepthToSpace", [graph.convolved(x, *_plain(weights, "head"))], "maps", blocksize=FOLD // 2, mode="CRD")
    model = helper.make_model(graph.made(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


def with_card(model: onnx.ModelProto, card: ModelCard) -> bytes:
    """File of a model that holds its card."""
    helper.set_model_props(model, {PROPERTY: card.model_dump_json()})
    raw: bytes = model.SerializeToString(deterministic=True)
    return raw


class _Graph:
    """Nodes and constants of an ONNX graph; methods add to it and return the name of their result."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def short(self, values: np.ndarray) -> str:
        """Constant that is stored as float16 and used as float32."""
        return self.add("Cast", [self.constant(values.astype(np.float16))], to=TensorProto.FLOAT)

    def convolved(self, x: str, kernel: np.ndarray, offset: np.ndarray) -> str:
        side = kernel.shape[2] // 2
        return self.add("Conv", [x, self.short(kernel), self.short(offset)], pads=[side] * 4)

    def block(self, name: str, x: str, weights: Weights) -> str:
        return self.add("Relu", [self.convolved(x, *_folded(weights, name))])

    def enlarged(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.add("Resize", [x, "", scales], mode="nearest", **modes)

    def made(self) -> onnx.GraphProto:
        frame = helper.make_tensor_value_info("frame", TensorProto.FLOAT, ["N", 1, "H", "W"])
        maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 3, "H_half", "W_half"])
        return helper.make_graph(self._nodes, "pyama_dask", [frame], [maps], self._constants)


def _folded(weights: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (out, in, side, side) and offset of a convolution with its batch normalisation."""
    learned, running = weights.learned[name], weights.running[name]
    scale = learned["g"] / np.sqrt(running["v"] + EPSILON)
    return (learned["w"] * scale).transpose(3, 2, 0, 1), learned["b"] - running["m"] * scale


def _plain(weights: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    learned = weights.learned[name]
    return learned["w"].transpose(3, 2, 0, 1), learned["b"]
