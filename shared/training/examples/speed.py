"""The training of speed.rs in PyTorch, on made-up people of the same kind: the same head, batches, semi-hard and batch-hard
triplets, AdamW, limit of the gradient's norm, dropout and measure of the validation people in every epoch.

    python speed.py 2000 50 [THREADS]
"""

import math
import sys
import time

import torch

EACH, P, K, MARGIN, HARD_AFTER = 10, 8, 4, 0.2, 5
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


def measure(head, rows, people):
    head.eval()
    with torch.no_grad():
        out = torch.nn.functional.normalize(head(rows))
    head.train()
    i, j = torch.triu_indices(len(people), len(people), 1)
    similar, same = (out @ out.T)[i, j], people[i] == people[j]
    strange = similar[~same].sort().values
    return (similar[same] > strange[len(strange) - int(0.01 * len(strange)) - 1]).float().mean().item()


def main():
    count, epochs, threads = ([int(value) for value in sys.argv[1:]] + [2000, 50, 1][len(sys.argv) - 1 :])[:3]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    rows, people = made_up(count)
    order = torch.randperm(int(people.max()) + 1)
    train, validation = order[: round(0.6 * len(order))], order[round(0.6 * len(order)) : round(0.8 * len(order))]
    seen = torch.isin(people, validation)
    started = time.perf_counter()
    head = head_at_pca(rows[torch.isin(people, train)])
    print(f"PCA {100 * measure(head, rows[seen], people[seen]):.1f} %")
    prepared = time.perf_counter() - started
    biases = [value for name, value in head.named_parameters() if name.endswith("bias")]
    weights = [value for name, value in head.named_parameters() if name.endswith("weight")]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-4)
    faces = {int(person): (people == person).nonzero().flatten() for person in train}
    started, steps = time.perf_counter(), 0
    for epoch in range(epochs):
        losses = []
        for _ in range(-(-len(train) * EACH // (P * K))):
            drawn = train[torch.randperm(len(train))[:P]]
            batch = torch.cat([faces[int(person)][torch.randperm(len(faces[int(person)]))[:K]] for person in drawn])
            out = torch.nn.functional.normalize(head(rows[batch]))
            loss = triplet(out @ out.T, people[batch], epoch >= HARD_AFTER)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
            steps += 1
        rate = measure(head, rows[seen], people[seen])
        print(f"epoch {epoch + 1:3}  loss {sum(losses) / len(losses):.4f}  validation {100 * rate:5.1f} %")
    seconds = time.perf_counter() - started
    print(f"{count} faces, {epochs} epochs, {steps} steps on {threads} threads: {seconds:.2f} s, {1e3 * seconds / steps:.3f} ms a step")
    print(f"before: PCA and the first measure {prepared:.2f} s")


if __name__ == "__main__":
    main()
