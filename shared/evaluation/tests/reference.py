"""The known answers of this crate's tests, worked out by numpy and scikit-learn.

Run: python3 reference.py   (needs numpy and scikit-learn). The numbers are made by a linear congruential generator that
src/testing.rs has too.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, log_loss, roc_auc_score, roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler


class Lcg:
    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) / 2**31

    def normal(self):
        return sum(self.uniform() for _ in range(12)) - 6.0


def verification():
    random = Lcg(42)
    same, similarity = [], []
    for i in range(1003):
        s = i % 14 < 7
        same.append(s)
        similarity.append(np.float32(random.normal() * 0.15 + (0.5 if s else 0.1)))
    same, distance = np.array(same), 2.0 - 2.0 * np.array(similarity, dtype=np.float64)
    thresholds = np.arange(0, 4, 0.01)
    right, chosen, accuracies = [], [], []
    for train, test in KFold(n_splits=10, shuffle=False).split(np.arange(len(same))):
        accuracy = [np.mean(np.less(distance[train], t) == same[train]) for t in thresholds]
        best = np.argmax(accuracy)
        hits = np.less(distance[test], thresholds[best]) == same[test]
        right.append(int(hits.sum()))
        chosen.append(int(best))
        accuracies.append(hits.mean())
    print("verification", right, chosen, repr(float(np.mean(accuracies))), repr(float(np.std(accuracies))))


def rates():
    random = Lcg(5)
    genuine = [np.float32(random.normal() * 0.12 + 0.45) for _ in range(2000)]
    impostor = [np.float32(random.normal() * 0.08) for _ in range(20000)]
    labels = np.r_[np.ones(2000), np.zeros(20000)]
    scores = np.array(genuine + impostor, dtype=np.float64)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    print("auc", repr(float(auc(fpr, tpr))))
    for target in (1e-2, 1e-3, 1e-4, 1e-5):
        # Thresholds fall: the last one that keeps the target is the smallest.
        i = np.flatnonzero(fpr <= target)[-1]
        print("fmr", target, repr(float(thresholds[i])), round(fpr[i] * 20000), round((1 - tpr[i]) * 2000))
    gap = np.abs(fpr - (1 - tpr))
    i = np.argmin(gap)
    print("eer", repr(float((fpr[i] + 1 - tpr[i]) / 2)), repr(float(thresholds[i])))


def discard():
    """Error versus discard, read off at 200,000 places: for each share, what is left of whole groups of equal quality."""
    random = Lcg(31)
    a, b, similarity = [], [], []
    for _ in range(3000):
        x, y = int(random.uniform() * 60) - 30, int(random.uniform() * 60) - 30
        a.append(x)
        b.append(y)
        similarity.append(np.float32(0.5 + 0.1 * random.normal() - 0.004 * max(abs(x), abs(y))))
    similarity = np.array(similarity)
    quality = np.minimum(-np.abs(a), -np.abs(b))
    threshold = np.sort(similarity)[int(0.05 * 3000)]
    error = similarity < threshold
    shares, left = [], []
    for q in np.unique(quality):
        shares.append(np.mean(quality < q))
        left.append(error[quality >= q].mean())
    x = (np.arange(200000) + 0.5) / 200000 * 0.2
    at = lambda d: left[np.searchsorted(shares, d, side="right") - 1]
    base = error.mean()
    print("discard", repr(float(threshold)), int(error.sum()), float(np.mean([at(d) for d in x]) * 0.2), at(0.1) / base, at(0.2) / base)


def logistic(name, x, y, l2):
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / l2, solver="lbfgs", tol=1e-12, max_iter=10000)
    model.fit(scaler.transform(x), y)
    raw = model.coef_[0] / scaler.scale_
    intercept = model.intercept_[0] - raw @ scaler.mean_
    p = model.predict_proba(scaler.transform(x))[:, 1]
    loss, area = log_loss(y, p), roc_auc_score(y, p)
    print(name, [float(w) for w in raw], repr(float(intercept)), repr(float(loss)), repr(float(area)))


def calibration():
    random = Lcg(11)
    x, y = [], []
    for _ in range(800):
        s = random.normal() * 0.15 + 0.4
        x.append([s])
        y.append(random.uniform() < 1 / (1 + np.exp(-(25 * s - 9))))
    logistic("platt", np.array(x), np.array(y), 1.0)
    random = Lcg(12)
    x, y = [], []
    for _ in range(600):
        blur, brightness, yaw = 100 + 40 * random.normal(), 0.5 + 0.1 * random.normal(), 20 * random.normal()
        x.append([blur, brightness, abs(yaw)])
        y.append(random.uniform() < 1 / (1 + np.exp(-(0.03 * blur + 2 * brightness - 0.1 * abs(yaw) - 2))))
    logistic("several", np.array(x), np.array(y), 1.0)


verification()
rates()
discard()
calibration()
