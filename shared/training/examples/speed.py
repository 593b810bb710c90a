"""The training of speed.rs in PyTorch, on made-up people of the same kind: the same head, as many batches drawn in the same way, semi-hard
and batch-hard triplets, AdamW, limit of the gradient's norm and dropout, and in every epoch the same measure of the validation people:
the rate over all pairs, and the loss on fixed batches. Its last line has the words of speed.rs.

    python speed.py 2000 50 [THREADS]
"""

import math
import sys
import time

import torch

EACH, P, K, MARGIN, HARD_AFTER, MIN_FACES = 10, 8, 4, 0.2, 5, 5
# Faces that validate at most, as in validation.rs.
MAX_FACES = 4096
WIDTHS = (512, 256, 128)


def made_up(count):
    centres = torch.randn(-(-count // EACH), WIDTHS[0] // 2)
    own = centres.repeat_interleave(EACH, 0)[:count]
    rows = torch.cat([own + 0.5 * torch.randn_like(own), 1.5 * torch.randn_like(own)], 1)
    return torch.nn.functional.normalize(rows), torch.arange(count) // EACH


def head_at_pca(rows):
    first, second = torch.nn.Linear(WIDTHS[0], WIDTHS[1]), torch.nn.Linear(WIDTHS[1], WIDTHS[2])
    mean = rows.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(rows.T))
    components = vectors.flip(1)[:, : WIDTHS[2]].T
    identity = torch.eye(WIDTHS[2])
    with torch.no_grad():
        first.weight.copy_(torch.cat([components, -components]))
        first.bias.copy_(torch.cat([-components @ mean, components @ mean]))
        second.weight.copy_(torch.cat([identity, -identity], 1))
        second.bias.zero_()
    return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Dropout(0.1), second)


def triplet(similar, people, hard):
    same = people[:, None] == people[None, :]
    positive = same & ~torch.eye(len(people), dtype=torch.bool)
    if hard:
        own = similar.masked_fill(~positive, math.inf).min(1).values
        other = similar.masked_fill(same, -math.inf).max(1).values
        return torch.relu(MARGIN + 2 * (other - own)).mean()
    anchors, positives = positive.nonzero(as_tuple=True)
    own, row = similar[anchors, positives], similar[anchors]
    strange = ~same[anchors]
    farther = row.masked_fill(~(strange & (row < own[:, None])), -math.inf).max(1).values
    farthest = row.masked_fill(~strange, math.inf).min(1).values
    other = torch.where(farther.isinf(), farthest, farther)
    return torch.relu(MARGIN + 2 * (other - own)).mean()


def batches(groups):
    """As many as have about as many faces as there are: people in rounds, some faces of each. Whoever is left over of a round waits."""
    people = min(P, len(groups))
    count = max(1, -(-sum(len(group) for group in groups) // (people * K)))
    drawn = []
    while len(drawn) < count:
        order = torch.randperm(len(groups)).tolist()
        for first in range(0, len(order) - people + 1, people):
            of = [groups[place] for place in order[first : first + people]]
            drawn.append(torch.cat([group[torch.randperm(len(group))[:K]] for group in of]))
    return drawn[:count]


class Validation:
    """What does not change from epoch to epoch is made once."""

    def __init__(self, rows, people, groups):
        groups = groups[: MAX_FACES // 2]
        each = max(2, MAX_FACES // len(groups))
        chosen = torch.cat([group[:each] for group in groups])
        self.rows, self.people = rows[chosen], people[chosen]
        ends = torch.tensor([min(each, len(group)) for group in groups]).cumsum(0).tolist()
        self.batches = batches([torch.arange(start, end) for start, end in zip([0] + ends, ends)])
        self.upper = torch.ones(len(chosen), len(chosen), dtype=torch.bool).triu(1)
        self.same = (self.people[:, None] == self.people[None, :])[self.upper]

    def measure(self, head):
        head.eval()
        with torch.no_grad():
            out = torch.nn.functional.normalize(head(self.rows))
            losses = [triplet(out[batch] @ out[batch].T, self.people[batch], False).item() for batch in self.batches]
            similar = (out @ out.T)[self.upper]
            strange = similar[~self.same]
            refused = strange.kthvalue(len(strange) - int(0.01 * len(strange))).values
            rate = (similar[self.same] > refused).float().mean().item()
        head.train()
        return rate, sum(losses) / len(losses)


def main():
    count, epochs, threads = ([int(value) for value in sys.argv[1:]] + [2000, 50, 1][len(sys.argv) - 1 :])[:3]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    rows, people = made_up(count)
    groups = [group for group in torch.arange(count).split(EACH) if len(group) >= MIN_FACES]
    order = [groups[place] for place in torch.randperm(len(groups)).tolist()]
    train, validated = order[: round(0.6 * len(order))], order[round(0.6 * len(order)) : round(0.8 * len(order))]
    started = time.perf_counter()
    head = head_at_pca(rows[torch.cat(train)])
    validation = Validation(rows, people, validated)
    print(f"PCA  validation {100 * validation.measure(head)[0]:.1f} %")
    prepared = time.perf_counter() - started
    biases = [value for name, value in head.named_parameters() if name.endswith("bias")]
    weights = [value for name, value in head.named_parameters() if name.endswith("weight")]
    parts = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(parts, lr=1e-4)
    started, steps = time.perf_counter(), 0
    for epoch in range(epochs):
        losses = []
        for batch in batches(train):
            out = torch.nn.functional.normalize(head(rows[batch]))
            loss = triplet(out @ out.T, people[batch], epoch >= HARD_AFTER)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
        steps += len(losses)
        rate, _ = validation.measure(head)
        print(f"epoch {epoch + 1:3}  loss {sum(losses) / len(losses):.4f}  validation {100 * rate:5.1f} %")
    seconds = time.perf_counter() - started
    print(f"before: PCA and the first measure {prepared:.2f} s")
    each = 1e3 * seconds / steps
    print(f"{count} faces, {epochs} epochs, {steps} steps, threads: {threads}, seconds: {seconds:.2f}, ms a step: {each:.3f}")


if __name__ == "__main__":
    main()
