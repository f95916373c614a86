"""Writes the digits' classifier as an ONNX model, for the examples without torch: `python digits_onnx.py PATH`."""

from __future__ import annotations

import sys

import onnx
from digits import images
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier


def main() -> None:
    """A batch `pixels` of shape (n, 64), values from 0 to 1, becomes `scores` of shape (n, 10)."""
    pixels, labels, test, truth = images()
    # Larger than digits need, so that the server has something to do for each.
    model = MLPClassifier((2500, 2500), max_iter=8, random_state=0).fit(pixels, labels)
    nodes, weights, value = [], [], "pixels"
    for number, (matrix, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), start=1):
        last = number == len(model.coefs_)
        names = [f"matrix{number}", f"bias{number}"]
        weights += [
            numpy_helper.from_array(one.astype("float32"), name)
            for one, name in zip((matrix, bias), names, strict=True)
        ]
        out = "scores" if last else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [value, *names], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"hidden{number}"]))
        value = f"hidden{number}"
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        weights,
    )  # fmt: skip
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(written)
    onnx.save(written, sys.argv[1])
    print(f"{sys.argv[1]}: right for {model.score(test, truth):.1%} of {len(test)} images")


if __name__ == "__main__":
    main()
