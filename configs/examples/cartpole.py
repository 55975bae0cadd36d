"""Balance a pole with REINFORCE. The script does not use sweep: it takes a seed and prints its returns.

pip install gymnasium
sweep run cartpole.yaml --seeds 0-49
"""

import argparse
import json

import gymnasium
import numpy as np
import torch
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--gravity", type=float, default=9.8)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.01)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    world = gymnasium.make("CartPole-v1")
    world.unwrapped.gravity = args.gravity
    policy = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=args.lr)
    returns: list[float] = []
    for episode in range(args.episodes):
        state, _ = world.reset(seed=args.seed * 100_000 + episode)
        logs, rewards, over = [], [], False
        while not over:
            choice = torch.distributions.Categorical(logits=policy(torch.from_numpy(state)))
            action = choice.sample()
            logs.append(choice.log_prob(action))
            state, reward, ended, cut, _ = world.step(int(action))
            rewards.append(float(reward))
            over = ended or cut
        returns.append(sum(rewards))
        ahead = torch.tensor(np.cumsum(rewards[::-1])[::-1].copy(), dtype=torch.float32)
        ahead = (ahead - ahead.mean()) / (ahead.std(correction=0) + 1e-6)
        loss = -(torch.stack(logs) * ahead).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 10 == 9:
            print(json.dumps({"step": episode + 1, "return": float(np.mean(returns[-10:]))}), flush=True)
    print(json.dumps({"step": args.episodes, "return": float(np.mean(returns[-50:]))}))


if __name__ == "__main__":
    main()
