"""Tiny ONNX models with weights made by hand: they find bright cells in flattened frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
CARD = {"name": "tiny", "cell_diameter": 14.0, "depth": 0.2, "touch": 0.3, "smallest": 30}


def write_model(
    path: Path,
    *,
    maps: int = 3,
    cut: float = 1.0,
    output_scale: int = 2,
    probabilities: bool = False,
    size: Any = ("H", "W"),
    channels: int = 1,
    inputs: int = 1,
    element: int = TensorProto.FLOAT,
    name: str = "frame",
    card: Any = CARD,
) -> Path:
    """Write a model whose foreground is where the blurred input is above `cut`.

    Its three maps are the foreground logit, a touch logit of -4 everywhere, and a fifth of the blurred input.
    """
    weights = np.zeros((3, channels, 3, 3), np.float32)
    weights[0], weights[2] = BLUR, BLUR / 5
    bias = np.array([-cut, -4, 0], np.float32)
    nodes = [
        helper.make_node("AveragePool", [name], ["small"], kernel_shape=[output_scale] * 2, strides=[output_scale] * 2),
        helper.make_node("Conv", ["small", "w", "b"], ["logits" if probabilities else "maps"], pads=[1, 1, 1, 1]),
    ]
    if probabilities:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["maps"]))
    constants = [numpy_helper.from_array(weights[:maps], "w"), numpy_helper.from_array(bias[:maps], "b")]
    named = [(name, element), *((f"more{k}", TensorProto.FLOAT) for k in range(inputs - 1))]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, kind, ["N", channels, *size]) for n, kind in named],
        [helper.make_tensor_value_info("maps", element, ["N", maps, None, None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        helper.set_model_props(model, {"pyama_dask": card if isinstance(card, str) else json.dumps(card)})
    onnx.save(model, str(path))
    return path
