"""A training function of your own: sweep calls `train` once for each seed and keeps what it returns.

Change whatever you like. sweep needs three things: the first parameter is the run, the others are parameters that
the config can set, and the function returns its metrics, named split/metric.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


def train(run, *, hidden: int = 32, lr: float = 0.005, epochs: int = 20, batch_size: int = 64):
    """Train a small network on 1,797 images of digits. sweep has seeded everything: do not seed here."""
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32, device=run.device)
    labels = torch.tensor(data.target, device=run.device)
    # The split is the same for every seed: the seed stands for the training, not for the data.
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=data.target, random_state=0)
    fit, val = train_test_split(rest, test_size=0.15, stratify=data.target[rest], random_state=0)

    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 10)).to(run.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.tensor(fit)[torch.randperm(len(fit))].split(batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        # One row of the learning curve, which the report draws.
        run.log({"train/loss": loss, "val/loss": score(model, images[val], labels[val])["nll"]}, step=epoch)

    final = score(model, images[test], labels[test])
    # `sweep ensemble` averages these over the seeds: one row per example, matched by its id.
    run.save_predictions("test", ids=test, targets=labels[test], probs=final["probs"])
    return {"test/accuracy": final["accuracy"], "test/nll": final["nll"]}


def score(model, images, labels):
    """Return accuracy, mean negative log-likelihood and class probabilities (examples, 10) of a split."""
    model.eval()
    with torch.no_grad():
        logits = model(images)
    return {
        "accuracy": (logits.argmax(1) == labels).double().mean(),
        "nll": nn.functional.cross_entropy(logits, labels),
        "probs": logits.softmax(1),
    }
