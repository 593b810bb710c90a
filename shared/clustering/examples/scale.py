"""The clustering of scale.rs by scikit-learn or by the package hdbscan, on the same made-up faces with the same parameters (smallest
cluster 5, min_samples 3, excess of mass): time and peak memory, size after size, until one takes longer than the limit.

    pip install scikit-learn hdbscan
    python scale.py sklearn 10000 20000 50000 [--limit 600] [--mean 20] [--dim 512] [--jobs 2] [--algorithm kd_tree]

Each size is clustered in a process of its own; making the faces counts neither as time nor against the limit, as in scale.rs.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import time

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIN_CLUSTER_SIZE = 5
# The row itself included, as scikit-learn and this crate count.
MIN_SAMPLES = 3
OVER, FAILED = 3, 1


class Random:
    """SplitMix64, many draws at a time."""

    def __init__(self, seed):
        self.state = np.uint64(seed)

    def draw(self, count):
        with np.errstate(over="ignore"):
            z = self.state + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
            self.state = z[-1]
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

    def one(self):
        return int(self.draw(1)[0])

    def normal(self, rows, dim):
        draws = self.draw(rows * dim).reshape(rows, dim)
        total = np.zeros((rows, dim), np.float32)
        for shift in (0, 16, 32, 48):
            total += ((draws >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32) / np.float32(65536.0)
        return (total - np.float32(2.0)) * np.float32(1.732)


def faces(count, mean, dim):
    """As `faces` of made_up/mod.rs makes them, to the last bit."""
    random, rows, done = Random(1), np.empty((count, dim), np.float32), 0
    while done < count:
        centre = random.normal(1, dim)
        alone = random.one() % 10 == 0
        size = mean if alone else 1 + random.one() % (2 * mean)
        spread = np.float32(0.5) + np.float32(random.one() % 700) / np.float32(1000.0)
        size = min(size, count - done)
        noise = random.normal(size, dim)
        own = noise if alone else centre + spread * noise
        # The sum in the order of the numbers, as Rust adds them.
        norm = np.sqrt(np.cumsum(own * own, axis=1, dtype=np.float32)[:, -1:])
        rows[done : done + size] = own / norm
        done += size
    return rows


def by_sklearn(rows, args):
    import sklearn
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(
        min_cluster_size=MIN_CLUSTER_SIZE,
        min_samples=MIN_SAMPLES,
        algorithm=args.algorithm or "auto",
        n_jobs=args.jobs,
        copy=True,
    )
    return lambda: found.fit(rows).labels_, sklearn.__version__


def by_hdbscan(rows, args):
    from importlib.metadata import version

    import hdbscan

    found = hdbscan.HDBSCAN(
        min_cluster_size=MIN_CLUSTER_SIZE,
        # It does not count the row itself.
        min_samples=MIN_SAMPLES - 1,
        algorithm=args.algorithm or "best",
        core_dist_n_jobs=args.jobs,
        # Exact, as the others are.
        approx_min_span_tree=False,
    )
    return lambda: found.fit(rows).labels_, version("hdbscan")


LIBRARIES = {"sklearn": by_sklearn, "hdbscan": by_hdbscan}


def cluster(size, args):
    """In a process of its own: the peak is that of this size alone."""
    rows = faces(size, args.mean, args.dim)
    run, version = LIBRARIES[args.library](rows, args)
    print("ready", flush=True)
    started = time.perf_counter()
    labels = run()
    seconds = time.perf_counter() - started
    # Linux tells it in KiB; scale.rs in MB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    clusters, noise = len(set(labels.tolist()) - {-1}), int((labels < 0).sum())
    print(f"{args.library} {version}: {size} × {args.dim}, {args.jobs} jobs: {seconds:.2f} s, peak {peak:.0f} MB")
    print(f"{clusters} clusters, {noise} rows of noise", flush=True)


def measure(size, args):
    """An exit status: OVER where the limit was reached."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(size)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    # The faces are there.
    if child.stdout.readline() != "ready\n":
        print(f"{args.library}: {size} × {args.dim}: cannot begin (status {child.wait()})")
        return FAILED
    try:
        said, _ = child.communicate(timeout=args.limit)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        print(f"{args.library}: {size} × {args.dim} takes longer than the limit of {args.limit:g} s: no larger size is tried")
        return OVER
    print(said, end="", flush=True)
    if child.returncode != 0:
        # Negative: the signal. 9 is usually the kernel, for want of memory.
        print(f"{args.library}: {size} × {args.dim} failed (status {child.returncode})")
        return FAILED
    return 0


def above_zero(text):
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("above 0")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=sorted(LIBRARIES))
    parser.add_argument("sizes", type=int, nargs="+", help="faces, in the order in which they are tried")
    parser.add_argument("--limit", type=above_zero, default=600.0, help="seconds of one size")
    parser.add_argument("--mean", type=int, default=20, help="faces of a person at the mean")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="threads, where the library can use them")
    parser.add_argument("--algorithm", help="the library's own choice unless given")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        return cluster(args.child, args)
    for size in args.sizes:
        if status := measure(size, args):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
