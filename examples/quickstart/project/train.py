"""Train a small network to tell two spirals apart, and write down how it went."""

import argparse
import json
import os
import pathlib

import numpy as np

HIDDEN_UNITS = 48


def spirals(rng: np.random.Generator, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of a spiral, with noise; the label says which arm."""
    radius = np.sqrt(rng.uniform(0.05, 1, points))
    label = rng.integers(0, 2, points)
    angle = 3 * np.pi * radius + np.pi * label
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return x + rng.normal(0, 0.02, x.shape), label.astype(float)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    x, y = spirals(rng, 600)
    w1, b1 = rng.normal(0, 1.5, (2, HIDDEN_UNITS)), np.zeros(HIDDEN_UNITS)
    w2, b2 = rng.normal(0, 0.5, HIDDEN_UNITS), 0.0

    losses = []
    for step in range(args.steps):
        hidden = np.tanh(3 * (x @ w1 + b1))
        guess = 1 / (1 + np.exp(-(hidden @ w2 + b2)))
        losses.append(float(-np.mean(y * np.log(guess) + (1 - y) * np.log(1 - guess))))
        if step % 1000 == 0:
            print(f"step {step:5d}  loss {losses[-1]:.4f}")
        error = (guess - y) / len(y)
        back = np.outer(error, w2) * (1 - hidden**2) * 3
        w2 -= args.lr * 10 * (hidden.T @ error)
        b2 -= args.lr * 10 * error.sum()
        w1 -= args.lr * 10 * (x.T @ back)
        b1 -= args.lr * 10 * back.sum(axis=0)

    accuracy = float(np.mean((guess > 0.5) == (y > 0.5)))
    print(f"accuracy {accuracy:.3f}")
    outputs = pathlib.Path(os.environ["XMSLURM_OUTPUTS"])
    np.savez(outputs / "weights.npz", w1=w1, b1=b1, w2=w2, b2=b2)
    result = {"lr": args.lr, "steps": args.steps, "loss": losses[-1], "accuracy": accuracy}
    (outputs / "result.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
