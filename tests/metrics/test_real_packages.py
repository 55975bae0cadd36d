"""Scripts of well-known packages as their manuals write them: the headline is right at the first command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

import sweep
from sweep.cli.app import main

LIGHTNING = """
import sys, torch, lightning as L
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def _step(self, batch, name):
        x, y = batch
        out = self.layer(x)
        loss = torch.nn.functional.cross_entropy(out, y)
        self.log(name + "_loss", loss)
        self.log(name + "_acc", (out.argmax(1) == y).float().mean())
        return loss
    def training_step(self, batch, _):
        return self._step(batch, "train")
    def validation_step(self, batch, _):
        self._step(batch, "val")
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

L.seed_everything(int(sys.argv[1]))
x = torch.randn(64, 4)
data = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 16)
options = dict(accelerator="cpu", log_every_n_steps=1, enable_checkpointing=False)
trainer = L.Trainer(max_epochs=2, logger=CSVLogger(sys.argv[2]), **options)
trainer.fit(Model(), data, data)
"""

TRANSFORMERS = """
import sys, torch
from transformers import Trainer, TrainingArguments, set_seed

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, x, labels):
        out = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(out, labels), "logits": out}

set_seed(int(sys.argv[1]))
data = [{"x": row, "labels": (row.sum() > 0).long()} for row in torch.randn(64, 4)]
arguments = TrainingArguments(
    sys.argv[2] + "/hf", num_train_epochs=2, eval_strategy="epoch", logging_steps=4, save_strategy="no", report_to=[],
    use_cpu=True,
)
score = lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())}
trainer = Trainer(Model(), arguments, train_dataset=data, eval_dataset=data, compute_metrics=score)
trainer.train()
"""

SCIKIT_LEARN = """
import sys
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

x, y = load_iris(return_X_y=True)
a, b, c, d = train_test_split(x, y, random_state=0)
model = RandomForestClassifier(5, random_state=int(sys.argv[1])).fit(a, c)
print({"train_accuracy": model.score(a, c), "test_accuracy": model.score(b, d), "classes": list(model.classes_)})
"""


LIGHTNING_CLI = (
    LIGHTNING.partition("L.seed_everything")[0]
    + """
from lightning.pytorch.cli import LightningCLI
class Data(L.LightningDataModule):
    def train_dataloader(self):
        x = torch.randn(64, 4)
        return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 16)
    val_dataloader = train_dataloader
cli = LightningCLI(Model, Data, save_config_callback=None)
"""
)

HYDRA = """
import logging, random, hydra
log = logging.getLogger(__name__)
seen = []

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    random.seed(cfg.seed)
    for epoch in range(3):
        accuracy = 0.5 + random.random() / 10
        log.info("epoch %d train_loss=%.3f val_acc=%.4f", epoch, 1 / (epoch + 1), accuracy)
        seen.append(accuracy)

main()
"""

HYDRA_FOLDER = """
import json, random, hydra
from pathlib import Path
from hydra.core.hydra_config import HydraConfig
seen = []

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    random.seed(cfg.seed)
    seen.append(cfg.optimizer.lr * random.random())
    results = {"train/loss": 0.1, "test/accuracy": seen[-1]}
    Path(HydraConfig.get().runtime.output_dir, "results.json").write_text(json.dumps(results))

main()
"""

BOOSTED = """
import sys
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
x, y = load_breast_cancer(return_X_y=True)
a, b, c, d = train_test_split(x, y, random_state=0)
"""

LIGHTGBM = (
    BOOSTED
    + """
import lightgbm
words = dict(objective="binary", metric=["auc"], seed=int(sys.argv[1]), bagging_fraction=0.5, bagging_freq=1)
train, test = lightgbm.Dataset(a, c), lightgbm.Dataset(b, d)
words |= {"verbose": -1, "num_threads": 1}
model = lightgbm.train(words, train, 10, valid_sets=[train, test], valid_names=["training", "test"],
                       callbacks=[lightgbm.log_evaluation(5)], keep_training_booster=True)
"""
)

KERAS = """
import sys
import keras
import numpy as np
keras.utils.set_random_seed(int(sys.argv[1]))
x = np.random.rand(64, 4).astype("float32")
model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
told = model.fit(x, x[:, 0] > 0.5, epochs=2, validation_split=0.25)
"""

XGBOOST = (
    BOOSTED
    + """
import xgboost
words = dict(objective="binary:logistic", eval_metric="auc", seed=int(sys.argv[1]), subsample=0.5, nthread=1)
logged = {}
xgboost.train(words, xgboost.DMatrix(a, c), 10, evals=[(xgboost.DMatrix(b, d), "test")], verbose_eval=5,
              evals_result=logged)
"""
)

STABLE_BASELINES = """
import sys
import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
env = Monitor(gymnasium.make("CartPole-v1"), sys.argv[2] + "/run")
PPO("MlpPolicy", env, seed=int(sys.argv[1]), n_steps=64, batch_size=64, n_epochs=1, device="cpu").learn(128)
"""
STABLE_BASELINES_TABLE = """
import sys
from stable_baselines3 import PPO
words = dict(seed=int(sys.argv[1]), n_steps=64, batch_size=64, n_epochs=1, device="cpu", verbose=1)
model = PPO("MlpPolicy", "CartPole-v1", **words).learn(256)  # from the third table on, two have a learning rate
rewards = [episode["r"] for episode in model.ep_info_buffer]
"""

CLEANRL = """
import os, random, time
from dataclasses import dataclass
import gymnasium as gym, numpy as np, torch, tyro
from torch.utils.tensorboard import SummaryWriter

@dataclass
class Args:
    exp_name: str = os.path.basename(__file__)[: -len(".py")]
    seed: int = 1
    env_id: str = "CartPole-v1"
    total_timesteps: int = 400
    learning_rate: float = 2.5e-4

args = tyro.cli(Args)
run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"
writer = SummaryWriter(f"runs/{run_name}")
rows = "\\n".join(f"|{key}|{value}|" for key, value in vars(args).items())
writer.add_text("hyperparameters", "|param|value|\\n|-|-|\\n" + rows)
random.seed(args.seed)
np.random.seed(args.seed)
torch.manual_seed(args.seed)
env = gym.wrappers.RecordEpisodeStatistics(gym.make(args.env_id))
policy = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(policy.parameters(), lr=args.learning_rate)
start, seen, chosen = time.time(), [], []
obs, _ = env.reset(seed=args.seed)
for global_step in range(args.total_timesteps):
    drawn = torch.distributions.Categorical(logits=policy(torch.as_tensor(obs)))
    action = drawn.sample()
    chosen.append(drawn.log_prob(action))
    obs, reward, terminations, truncations, infos = env.step(int(action))
    if "episode" in infos:
        print(f"global_step={global_step}, episodic_return={infos['episode']['r']}")
        writer.add_scalar("charts/episodic_return", infos["episode"]["r"], global_step)
        writer.add_scalar("charts/episodic_length", infos["episode"]["l"], global_step)
        loss = -sum(chosen) * infos["episode"]["r"] / 100
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        writer.add_scalar("charts/learning_rate", optimizer.param_groups[0]["lr"], global_step)
        writer.add_scalar("losses/policy_loss", loss.item(), global_step)
        print("SPS:", int(global_step / (time.time() - start)))
        writer.add_scalar("charts/SPS", int(global_step / (time.time() - start)), global_step)
        seen.append(float(infos["episode"]["r"]))
        obs, _ = env.reset()
        chosen = []
env.close()
writer.close()
"""

CLI = (
    "fit --seed_everything {seed} --trainer.default_root_dir {dir} --trainer.max_epochs 2 --trainer.accelerator cpu "
    "--trainer.enable_checkpointing false --trainer.log_every_n_steps 1"
)
EVAL = "[row for row in trainer.state.log_history if 'eval_accuracy' in row][-1]['eval_accuracy']"

SLOW = ("lightning", "jsonargparse", "transformers", "keras", "stable_baselines3", "tyro")  # slow to import


@pytest.mark.walk
@pytest.mark.parametrize(
    ("package", "script", "line", "headline", "truth"),
    [
        ("lightning", LIGHTNING, "{seed} {dir}", "val_acc", "trainer.callback_metrics['val_acc']"),
        ("jsonargparse", LIGHTNING_CLI, CLI, "val_acc", "cli.trainer.callback_metrics['val_acc']"),
        ("transformers", TRANSFORMERS, "{seed} {dir}", "eval_accuracy", EVAL),
        ("sklearn", SCIKIT_LEARN, "{seed}", "test_accuracy", "model.score(b, d)"),
        ("hydra", HYDRA, "+seed={seed}", "val_acc", "seen[-1]"),
        ("hydra", HYDRA, "+seed={seed} hydra.run.dir={dir}", "val_acc", "seen[-1]"),
        ("hydra", HYDRA_FOLDER, "seed={seed} optimizer.lr=0.5 hydra.run.dir={dir}", "test/accuracy", "seen[-1]"),
        ("lightgbm", LIGHTGBM, "{seed}", "test/auc", "model.eval_valid()[0][2]"),
        ("xgboost", XGBOOST, "{seed}", "test-auc", "logged['test']['auc'][-1]"),
        ("keras", KERAS, "{seed}", "val_accuracy", "told.history['val_accuracy'][-1]"),
        ("stable_baselines3", STABLE_BASELINES, "{seed} {dir}", "reward", "env.get_episode_rewards()[-1]"),
        ("stable_baselines3", STABLE_BASELINES_TABLE, "{seed}", "rollout/ep_rew_mean", "sum(rewards) / len(rewards)"),
        ("tyro", CLEANRL, "--seed {seed}", "episodic_return", "seen[-1]"),
        ("tyro", CLEANRL, "--cwd {dir} -- --seed {seed}", "charts/episodic_return", "seen[-1]"),
    ],
    ids=["Lightning's CSV", "LightningCLI's events", "Transformers", "scikit-learn", "Hydra",
         "Hydra's folder", "a file in Hydra's folder", "LightGBM", "XGBoost", "Keras", "stable-baselines3's monitor",
         "stable-baselines3's table", "CleanRL's lines", "CleanRL's events"],
)  # fmt: skip
def test_the_headline_is_right_at_the_first_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, script: str, line: str, headline: str, truth: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUTH", str(tmp_path / "truth"))
    Path("conf").mkdir()
    Path("conf", "config.yaml").write_text("seed: 0\noptimizer: {lr: 1.0}\n")
    Path("train.py").write_text(f"{script}\nimport os\nprint(float({truth}), file=open(os.environ['TRUTH'], 'a'))\n")
    options, _, words = line.rpartition(" -- ")
    seeds = [1] if package in SLOW else [1, 2]
    numbers = ",".join(map(str, seeds))
    command = ["run", "--engine", "inline", "--seeds", numbers, "--out", "o", *shlex.split(options), "--"]
    assert main([*command, sys.executable, "train.py", *shlex.split(words)]) == 0
    (row,) = sweep.open("o").report.primary_rows
    assert (row.metric, row.n, row.goal) == (headline, len(seeds), "max")
    truths = [float(value) for value in Path("truth").read_text().split()]
    assert row.mean == pytest.approx(sum(truths) / len(seeds), rel=5e-3)
