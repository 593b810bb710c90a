"""What scikit-learn says of made-up rows: the known answers of this crate's tests.

Run: python3 make.py   (needs scikit-learn, and numpy below 2.4, under which scikit-learn 1.9 fails with a selection epsilon).
It writes golden.json beside itself: how each set is made, and the sorted weights of the tree, labels and probabilities; and
alone.json: labels and probabilities at the defaults of `facewire faces cluster`. tests/it/rows.rs makes the same rows.
"""

import json
import pathlib

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.cluster._hdbscan import hdbscan

MASK = (1 << 64) - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw(seed, k):
    with np.errstate(over="ignore"):
        z = np.uint64(seed & MASK) + (np.asarray(k, dtype=np.uint64) + np.uint64(1)) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed, k):
    return (draw(seed, k) >> np.uint64(40)).astype(np.float64) / float(1 << 24)


def normal(seed, k):
    """The exact sum of twelve uniform draws, less 6."""
    k = np.asarray(k, dtype=np.uint64)
    return uniform(seed, k[..., None] * np.uint64(12) + np.arange(12, dtype=np.uint64)).sum(axis=-1) - 6.0


def unit(raw):
    norm = np.sqrt(np.cumsum(raw * raw, axis=1)[:, -1:])
    return (raw / norm).astype(np.float32)


def groups(dim, part):
    rows, k = [], 0
    for size in part["sizes"]:
        numbers = np.arange(k, k + (size + 1) * dim).reshape(size + 1, dim)
        values = normal(part["seed"], numbers)
        rows.append(values[0] + part["spread"] * values[1:])
        k += (size + 1) * dim
    return unit(np.concatenate(rows))


def nested(dim, part):
    """Groups around centres that are themselves grouped."""
    centres = groups(dim, {"sizes": part["centres"], "spread": part["apart"], "seed": part["seed"]}).astype(np.float64)
    centres = np.repeat(centres, part["rows"], axis=0)
    return unit(centres + part["spread"] * normal(part["seed"] + 1, np.arange(centres.size).reshape(centres.shape)))


def curve(dim, part, points):
    """Points of a plane, seen from the centre of the sphere, with noise in every direction."""
    raw = part["noise"] * normal(part["seed"] + 1, np.arange(len(points) * dim).reshape(len(points), dim))
    raw[:, 0] += 1.0
    raw[:, 1:3] += points
    return unit(raw)


def arc(dim, part):
    x = np.cumsum(part["step"] * uniform(part["seed"], np.arange(part["rows"])))
    return curve(dim, part, np.stack([x, 0.0 * x], axis=1))


def moons(dim, part):
    half = part["rows"]
    t = np.pi * uniform(part["seed"], np.arange(2 * half))
    x = np.where(np.arange(2 * half) < half, np.cos(t), 1.0 - np.cos(t))
    y = np.where(np.arange(2 * half) < half, np.sin(t), 0.5 - np.sin(t))
    return curve(dim, part, 0.4 * np.stack([x, y], axis=1))


def copies(rows, part):
    """Copies of some of the first rows."""
    which = draw(part["seed"], np.arange(part["rows"])) % np.uint64(part["of"])
    return rows[which.astype(np.int64)]


MAKERS = {"groups": groups, "nested": nested, "arc": arc, "moons": moons}


def rows_of(dim, parts):
    rows = np.zeros((0, dim), dtype=np.float32)
    for part in parts:
        more = copies(rows, part) if part["kind"] == "copies" else MAKERS[part["kind"]](dim, part)
        rows = np.concatenate([rows, more])
    return rows


def part(kind, **what):
    return {"kind": kind, **what}


# As many people of one face, two, three … as a set of photos from the news has, in small.
FACES = [1] * 160 + [2] * 50 + [3] * 20 + [4] * 14 + [5] * 8 + [7] * 6 + [10] * 4 + [16] * 3 + [30, 41]

SETS = {
    "blobs": (512, [part("groups", sizes=[30] * 12, spread=0.8, seed=1)]),
    "faces": (512, [part("groups", sizes=FACES, spread=0.75, seed=2)]),
    "moons": (24, [part("moons", rows=160, noise=0.012, seed=3)]),
    "copies": (32, [part("groups", sizes=[20] * 5, spread=0.5, seed=4), part("copies", rows=260, of=100, seed=5)]),
    "noise": (512, [part("groups", sizes=[1] * 400, spread=0.0, seed=6)]),
    "uniform": (3, [part("groups", sizes=[1] * 500, spread=0.0, seed=7)]),
    "chain": (8, [part("arc", rows=300, step=0.01, noise=0.0005, seed=8)]),
    "densities": (
        64,
        [
            part("groups", sizes=[60, 60], spread=0.15, seed=9),
            part("groups", sizes=[60, 60], spread=0.5, seed=10),
            part("groups", sizes=[60, 60], spread=1.0, seed=11),
            part("groups", sizes=[1] * 60, spread=0.0, seed=12),
        ],
    ),
    "sizes": (128, [part("groups", sizes=[240, 110, 60, 30, 12, 6, 5, 5, 4, 3], spread=0.6, seed=13)]),
    "nested": (48, [part("nested", centres=[5, 4, 3], apart=0.5, rows=36, spread=0.04, seed=14)]),
    "near_copies": (
        64,
        [part("nested", centres=[1, 1, 1], apart=0.0, rows=60, spread=0.0002, seed=16),
         part("groups", sizes=[25] * 4, spread=0.5, seed=18)],
    ),
    "tiles": (
        32,
        [part("groups", sizes=[260, 190, 150, 90, 60, 40], spread=0.35, seed=19),
         part("groups", sizes=[1] * 350, spread=0.0, seed=20)],
    ),
}

CUTS = [
    {"min_samples": 3, "min_cluster_size": 5, "method": "eom"},
    {"min_samples": 3, "min_cluster_size": 5, "method": "leaf"},
    {"min_samples": 6, "min_cluster_size": 12, "method": "eom"},
    {"min_samples": 6, "min_cluster_size": 12, "method": "leaf"},
]

# Of one person, with people who come once or without: all at the defaults of `faces cluster`. `single`: whether one cluster is
# allowed; where two people are, scikit-learn may take them for one then.
OTHERS = {"kind": "groups", "sizes": [1] * 30, "spread": 0.0}

ALONE = {
    "one": (True, [part("groups", sizes=[20], spread=0.8, seed=1)]),
    "many": (True, [part("groups", sizes=[200], spread=0.75, seed=2)]),
    "one_and_others": (True, [part("groups", sizes=[20], spread=0.75, seed=3), {**OTHERS, "seed": 103}]),
    "many_and_others": (True, [part("groups", sizes=[200], spread=0.8, seed=1), {**OTHERS, "seed": 101}]),
    "poses": (True, [part("nested", centres=[3], apart=0.5, rows=7, spread=0.02, seed=21)]),
    "two_and_others": (False, [part("groups", sizes=[20, 12], spread=0.75, seed=4), {**OTHERS, "seed": 103}]),
    "others": (False, [{**OTHERS, "seed": 103}]),
}

EPSILON = 0.875


def cluster(rows, cut):
    found = HDBSCAN(
        min_cluster_size=cut["min_cluster_size"],
        min_samples=cut["min_samples"],
        cluster_selection_method=cut["method"],
        cluster_selection_epsilon=cut.get("epsilon", 0.0),
        allow_single_cluster=cut.get("single", False),
        copy=True,
    )
    return found.fit(rows.astype(np.float64))


def stable(tree):
    """scikit-learn's sort of the tree's edges leaves the order of equal weights, which core distances make all the time, to
    the processor's instructions. Here it is that in which its Prim's algorithm found them."""
    return hdbscan.make_single_linkage(tree[np.argsort(tree["distance"], kind="stable")])


hdbscan._process_mst = stable


def main():
    sets = []
    for name, (dim, parts) in SETS.items():
        rows, cuts = rows_of(dim, parts), []
        for cut in CUTS:
            found = cluster(rows, cut)
            labels, tree = found.labels_, found._single_linkage_tree_["value"]
            answer = {
                "labels": labels.tolist(),
                "probabilities": [round(float(p), 3) for p in found.probabilities_],
                # Both methods cut one tree.
                "weights": [round(float(w), 6) for w in np.sort(tree)] if cut["method"] == "eom" else [],
                "total": float(np.sum(tree)),
            }
            cuts.append({**cut, **answer})
            print(f"{name} {len(rows)} × {dim} {cut}: {labels.max() + 1} clusters, {np.mean(labels < 0):.1%} noise")
        sets.append({"name": name, "dim": dim, "parts": parts, "first": last_of(rows), "cuts": cuts})
    write("golden.json", sets)


def alone():
    sets, dim = [], 512
    for name, (single, parts) in ALONE.items():
        cut = {"min_samples": 3, "min_cluster_size": 3, "method": "eom", "epsilon": EPSILON}
        rows = rows_of(dim, parts)
        found = cluster(rows, {**cut, "single": single})
        labels, probabilities = found.labels_.tolist(), [round(float(p), 3) for p in found.probabilities_]
        print(f"{name} {len(rows)}: {[labels.count(n) for n in range(max(labels) + 1)]}, {labels.count(-1)} noise")
        sets.append({"name": name, "dim": dim, "parts": parts, **cut, "first": last_of(rows),
                     "labels": labels, "probabilities": probabilities})
    write("alone.json", sets)


def last_of(rows):
    """By which it is seen that other code made the same rows."""
    return [float(x) for x in rows[:, 0][-3:]]


def write(name, sets):
    text = ",\n".join(json.dumps(one, separators=(",", ":")) for one in sets)
    (pathlib.Path(__file__).parent / name).write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
    alone()
