"""The second reference of `facewire bench pipeline`: what people write today. OpenCV, ONNX Runtime and a NumPy gallery in a loop,
one process a core, with the same ONNX files as the default pack. No queue, no store, no gate and no second look at a doubtful
face: it does less than the chain does. Run by the bench; by hand:

    pip install numpy onnxruntime opencv-python-headless
    python3 python_loop.py --models DIR_OF_ONNX_FILES --pictures DIR --crops 200
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import queue
import sys
import time

import cv2
import numpy as np
import onnxruntime

SCORE_THRESHOLD = 0.65
NMS_IOU = 0.4
DIM = 512
# Seconds in which every process opens its models.
OPENING = 300
# InsightFace's five points in a 112 x 112 image.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


class Chain:
    """The models of one process."""

    def __init__(self, models: pathlib.Path, gallery: int):
        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Numbers too small for a normal float count as zero: the embedder is seven times as slow without.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")

        def session(name):
            return onnxruntime.InferenceSession(models / name, options, providers=["CPUExecutionProvider"])

        self.detector = session("fr_detect.onnx")
        self.landmarks = session("fr_landmark.onnx")
        self.embedder = session("fr_feature.onnx")
        random = np.random.default_rng(1)
        gallery = random.standard_normal((gallery, DIM), np.float32)
        self.gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)

    def find(self, rgb):
        """The face nearest to the middle: x1, y1, x2, y2 in pixels, or None."""
        height, width = rgb.shape[:2]
        small = cv2.resize(rgb, (320, 240)).astype(np.float32)
        tensor = ((small - 127.0) / 128.0).transpose(2, 0, 1)[None]
        scores, boxes = self.detector.run(None, {self.detector.get_inputs()[0].name: tensor})
        sure = scores[0, :, 1] > SCORE_THRESHOLD
        if not sure.any():
            return None
        boxes = boxes[0, sure] * np.array([width, height, width, height], np.float32)
        sizes = [[float(x1), float(y1), float(x2 - x1), float(y2 - y1)] for x1, y1, x2, y2 in boxes]
        kept = cv2.dnn.NMSBoxes(sizes, scores[0, sure, 1].tolist(), SCORE_THRESHOLD, NMS_IOU)
        boxes = boxes[np.array(kept).flatten()]
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array([width / 2, height / 2])
        return boxes[np.argmin((middle**2).sum(axis=1))]

    def points(self, rgb, box):
        """Eyes, nose and mouth corners in pixels, or None."""
        x1, y1, x2, y2 = box.astype(int)
        x1, y1 = max(x1, 0), max(y1, 0)
        cut = rgb[y1:y2, x1:x2]
        if cut.size == 0:
            return None
        grey = cv2.cvtColor(cv2.resize(cut, (64, 64)), cv2.COLOR_RGB2GRAY).astype(np.float32) / 256.0
        output = self.landmarks.run(None, {self.landmarks.get_inputs()[0].name: grey[None, None]})[0]
        p = output.reshape(68, 2) * np.array([cut.shape[1], cut.shape[0]]) + np.array([x1, y1])
        five = [p[[37, 38, 40, 41]], p[[43, 44, 46, 47]], p[[30]], p[[48, 60]], p[[54, 64]]]
        return np.array([group.mean(axis=0) for group in five], np.float32)

    def embed(self, face):
        """The face and its mirror image."""
        total = np.zeros(DIM, np.float32)
        for image in (face, face[:, ::-1]):
            tensor = ((image.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None]
            raw = self.embedder.run(None, {self.embedder.get_inputs()[0].name: np.ascontiguousarray(tensor)})[0][0]
            total += raw / np.linalg.norm(raw)
        return total / np.linalg.norm(total)

    def crop(self, encoded):
        """From bytes to the nearest face of the gallery; None where no face is found."""
        bgr = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        box = self.find(rgb)
        points = None if box is None else self.points(rgb, box)
        if points is None:
            return None
        matrix, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
        if matrix is None:
            return None
        face = cv2.warpAffine(rgb, matrix, (112, 112))
        similarities = self.gallery @ self.embed(face)
        best = int(np.argmax(similarities))
        return best, float(similarities[best])


def work(arguments, started, results):
    models, pictures, crops, gallery = arguments
    chain = Chain(models, gallery)
    encoded = [path.read_bytes() for path in pictures]
    chain.crop(encoded[0])
    started.wait()
    clock = time.perf_counter()
    found = sum(chain.crop(encoded[number % len(encoded)]) is not None for number in range(crops))
    results.put((found, time.perf_counter() - clock))


def collect(workers, results):
    """What each worker found. All end where one of them dies: the others would wait for it."""
    counts = []
    while len(counts) < len(workers):
        try:
            counts.append(results.get(timeout=1))
        except queue.Empty:
            if any(worker.exitcode for worker in workers):
                sys.exit("a worker ended early")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--crops", type=int, default=200)
    parser.add_argument("--gallery", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.pictures.iterdir() if path.is_file())
    processes = max(1, arguments.processes)
    share = max(1, arguments.crops // processes)
    context = multiprocessing.get_context("spawn")
    started, results = context.Barrier(processes, timeout=OPENING), context.Queue()
    task = (arguments.models, pictures, share, arguments.gallery)
    # Daemons: whatever ends this process ends them.
    workers = [context.Process(target=work, args=(task, started, results), daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    counts = collect(workers, results)
    for worker in workers:
        worker.join()
    seconds = max(took for _, took in counts)
    crops = share * processes
    answer = {"crops": crops, "found": sum(found for found, _ in counts), "seconds": seconds, "crops_per_second": crops / seconds}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
