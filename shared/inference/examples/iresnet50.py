"""Model packs with an embedder of iresnet50's shape and made-up weights, for measuring devices: speed does not depend on the numbers.

    python3 iresnet50.py DEFAULT_PACK OUT      (needs onnx and numpy)

OUT gets one pack for each way to run it on a GPU. Detector and landmarks are DEFAULT_PACK's. Shape as InsightFace exports it
(`w600k_r50.onnx`): 3, 4, 14 and 3 blocks of 64, 128, 256 and 512 channels, and 512 numbers from the last 7 × 7 × 512.
"""

import hashlib
import pathlib
import shutil
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = [(64, 3), (128, 4), (256, 14), (512, 3)]
SIDE, DIM = 112, 512

# Of each pack what `[embedder.gpu]` says, and whether it has the model in half precision.
WAYS = {
    "single": ("", False),
    "single_nhwc": ("nhwc = true", False),
    "single_nhwc_graph": ("nhwc = true\ncuda_graph = true", False),
    "half": ("", True),
    "half_graph": ("cuda_graph = true", True),
}


class Net:
    def __init__(self, numbers):
        self.numbers, self.random = numbers, numpy.random.default_rng(7)
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(numpy.asarray(values, dtype=self.numbers), name))
        return name

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        out = f"{kind.lower()}{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def conv(self, x, into, out, side, stride):
        scale = (2.0 / (into * side * side)) ** 0.5
        kernel = self.weight(self.random.standard_normal((out, into, side, side)) * scale)
        pads, bias = [side // 2] * 4, self.weight(self.random.standard_normal(out) * 0.1)
        return self.node("Conv", x, kernel, bias, kernel_shape=[side] * 2, strides=[stride] * 2, pads=pads)

    def norm(self, x, width):
        near_one = lambda: self.weight(1.0 + 0.1 * self.random.standard_normal(width))
        near_zero = lambda: self.weight(0.1 * self.random.standard_normal(width))
        variance = self.weight(1.0 + 0.1 * self.random.random(width))
        return self.node("BatchNormalization", x, near_one(), near_zero(), near_zero(), variance, epsilon=2e-5)

    def prelu(self, x, width):
        return self.node("PRelu", x, self.weight(numpy.full((width, 1, 1), 0.25)))

    def block(self, x, into, out, stride):
        # The second normalisation of a block is part of the convolution before it, as in the exported file.
        y = self.prelu(self.conv(self.norm(x, into), into, out, 3, 1), out)
        y = self.conv(y, out, out, 3, stride)
        short = x if stride == 1 and into == out else self.conv(x, into, out, 1, stride)
        # Without training the sum of 24 blocks grows beyond half precision.
        return self.node("Mul", self.node("Add", y, short), self.weight(numpy.float32(0.7)))


def model(numbers):
    kind = TensorProto.FLOAT16 if numbers is numpy.float16 else TensorProto.FLOAT
    net = Net(numbers)
    x, width = net.prelu(net.conv("input.1", 3, 64, 3, 1), 64), 64
    for out, blocks in STAGES:
        for block in range(blocks):
            x = net.block(x, width, out, 2 if block == 0 else 1)
            width = out
    x = net.node("Flatten", net.norm(x, width), axis=1)
    flat = width * (SIDE // 16) ** 2
    matrix = net.weight(net.random.standard_normal((DIM, flat)) / flat**0.5)
    x = net.node("Gemm", x, matrix, net.weight(numpy.zeros(DIM)), transB=1)
    x = net.norm(x, DIM)
    inputs = [helper.make_tensor_value_info("input.1", kind, ["n", 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(x, kind, ["n", DIM])]
    graph = helper.make_graph(net.nodes, "iresnet50", inputs, outputs, net.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def main():
    default, out = (pathlib.Path(path) for path in sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, numbers in [("iresnet50.onnx", numpy.float32), ("iresnet50_half.onnx", numpy.float16)]:
        onnx.save(model(numbers), out / name)
        digest = hashlib.sha256((out / name).read_bytes()).hexdigest()
        files[name] = f'{{ name = "{name}", sha256 = "{digest}" }}'
    # What finds the faces.
    head = (default / "pack.toml").read_text().split("[embedder]")[0].replace('name = "default"', 'name = "iresnet50"', 1)
    for name, (gpu, half) in WAYS.items():
        directory = out / name
        directory.mkdir(exist_ok=True)
        for file in [*default.glob("fr_*.onnx"), *(out / file for file in files)]:
            shutil.copy(file, directory)
        embedder = f"file = {files['iresnet50.onnx']}\ndim = {DIM}\nmean = 127.5\nscale = 127.5\ncolour = \"rgb\""
        if half:
            gpu += f"\nfp16 = true\nfile = {files['iresnet50_half.onnx']}"
        text = f"{head}[embedder]\n{embedder}\nmax_rows = 256\nflip = true\n\n[embedder.gpu]\n{gpu}\n"
        (directory / "pack.toml").write_text(text)


main()
