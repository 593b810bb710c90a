"""What scikit-learn's HDBSCAN, and the package hdbscan where it is installed, make of the rows of a file: the other side of
`facewire-tests clusters --against`, which runs this. By hand:

    pip install scikit-learn hdbscan
    python3 reference.py ROWS DIM SETTINGS

ROWS holds numbers (f32, little-endian), DIM of them a row. SETTINGS is a JSON list of objects with min_cluster_size, min_samples
(the row itself included, as scikit-learn counts), method and epsilon. One JSON object is printed; labels of −1 are noise.
"""

import importlib.metadata
import json
import sys
import time

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.cluster._hdbscan import hdbscan as inside
from sklearn.cluster._hdbscan._tree import tree_to_labels

try:
    import hdbscan
    from hdbscan import _hdbscan_tree as package_tree
except ImportError:
    hdbscan = None

# scikit-learn's spanning trees, as its Prim's algorithm found them, before they are sorted.
FOUND = []
linkage_of = inside._process_mst


def watched(tree):
    FOUND.append(tree.copy())
    return linkage_of(tree)


inside._process_mst = watched


def by_discovery(tree):
    """scikit-learn's sort leaves the order of equal weights to the processor's instructions. Here it is that of discovery."""
    return inside.make_single_linkage(tree[np.argsort(tree["distance"], kind="stable")])


def selected(linkage, cut):
    """The labels of a tree, and whose selection took them: scikit-learn 1.9 cannot select by epsilon under numpy 2.4."""
    try:
        labels, _ = tree_to_labels(linkage, cut["min_cluster_size"], cut["method"], False, cut["epsilon"], None)
        return labels, "scikit-learn"
    except TypeError as error:
        if hdbscan is None:
            raise SystemExit(f"scikit-learn cannot select by epsilon ({error}): numpy below 2.4 or hdbscan is needed") from error
    rows = np.column_stack([linkage[name] for name in ("left_node", "right_node", "value", "cluster_size")])
    condensed = package_tree.condense_tree(rows.astype(np.float64), cut["min_cluster_size"])
    stability = package_tree.compute_stability(condensed)
    labels, _, _ = package_tree.get_clusters(condensed, stability, cut["method"], False, False, cut["epsilon"])
    return labels, "hdbscan"


def by_sklearn(rows, cut):
    found = HDBSCAN(
        min_cluster_size=cut["min_cluster_size"],
        min_samples=cut["min_samples"],
        cluster_selection_method=cut["method"],
        cluster_selection_epsilon=cut["epsilon"],
        copy=True,
    )
    started = time.perf_counter()
    try:
        labels = found.fit(rows).labels_
    except TypeError:
        # The tree is there, see `selected`.
        labels = None
    seconds = time.perf_counter() - started
    tree = FOUND.pop()
    stable, selection = selected(by_discovery(tree), cut)
    if labels is None:
        labels, _ = selected(linkage_of(tree), cut)
    answer = answered("scikit-learn", labels, tree["distance"], seconds)
    return {**answer, "by_discovery": stable.tolist(), "selection": selection}


def by_hdbscan(rows, cut):
    found = hdbscan.HDBSCAN(
        min_cluster_size=cut["min_cluster_size"],
        # It does not count the row itself.
        min_samples=max(cut["min_samples"] - 1, 1),
        cluster_selection_method=cut["method"],
        cluster_selection_epsilon=cut["epsilon"],
        approx_min_span_tree=False,
    )
    started = time.perf_counter()
    labels = found.fit(rows).labels_
    seconds = time.perf_counter() - started
    weights = found.single_linkage_tree_.to_numpy()[:, 2]
    return {**answered("hdbscan", labels, weights, seconds), "by_discovery": None, "selection": "hdbscan"}


def answered(library, labels, weights, seconds):
    return {"library": library, "labels": labels.tolist(), "weights": np.sort(weights).tolist(), "seconds": seconds}


def main():
    path, dim, cuts = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    rows = np.fromfile(path, dtype="<f4").reshape(-1, dim).astype(np.float64)
    makers = [by_sklearn] if hdbscan is None else [by_sklearn, by_hdbscan]
    names = ["scikit-learn", "numpy"] + (["hdbscan"] if hdbscan else [])
    versions = {name: importlib.metadata.version(name) for name in names}
    answers = [[maker(rows, cut) for maker in makers] for cut in cuts]
    json.dump({"versions": versions, "cuts": answers}, sys.stdout)


if __name__ == "__main__":
    main()
