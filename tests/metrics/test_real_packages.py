"""Scripts of well-known packages as their manuals write them: the headline is right at the first command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sweep
from sweep.cli.app import main

LIGHTNING = """
import sys, torch, lightning as L
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
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
logger = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}[sys.argv[3]](sys.argv[2])
trainer = L.Trainer(max_epochs=2, accelerator="cpu", log_every_n_steps=1, logger=logger, enable_checkpointing=False)
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
Trainer(Model(), arguments, train_dataset=data, eval_dataset=data, compute_metrics=score).train()
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
LightningCLI(Model, Data, save_config_callback=None)
"""
)

HYDRA = """
import logging, random, hydra
log = logging.getLogger(__name__)

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    random.seed(cfg.seed)
    for epoch in range(3):
        accuracy = 0.5 + random.random() / 10
        log.info("epoch %d train_loss=%.3f val_acc=%.4f", epoch, 1 / (epoch + 1), accuracy)
    print(accuracy, file=open("truth", "a"))

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
print(model.eval_valid()[0][2], file=open("truth", "a"))
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
print(told.history["val_accuracy"][-1], file=open("truth", "a"))
"""

XGBOOST = (
    BOOSTED
    + """
import xgboost
words = dict(objective="binary:logistic", eval_metric="auc", seed=int(sys.argv[1]), subsample=0.5, nthread=1)
logged = {}
xgboost.train(words, xgboost.DMatrix(a, c), 10, evals=[(xgboost.DMatrix(b, d), "test")], verbose_eval=5,
              evals_result=logged)
print(logged["test"]["auc"][-1], file=open("truth", "a"))
"""
)


def test_lightnings_own_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("jsonargparse")
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(LIGHTNING_CLI)
    trainer = {"default_root_dir": "{dir}", "max_epochs": "2", "accelerator": "cpu", "enable_checkpointing": "false",
               "log_every_n_steps": "1"}  # fmt: skip
    words = ["fit", "--seed_everything", "{seed}", *(f"--trainer.{key}={value}" for key, value in trainer.items())]
    command = ["--", sys.executable, "train.py", *words]
    assert main(["run", "--engine", "inline", "--seeds", "1", "--out", "o", *command]) == 0
    (row,) = sweep.open("o").report.primary_rows
    assert row.metric == "val_acc"
    assert 0.0 <= row.mean <= 1.0


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
print(sum(rewards) / len(rewards), file=open("truth", "a"))
"""


def test_the_monitor_of_stable_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(STABLE_BASELINES)
    command = ["--", sys.executable, "train.py", "{seed}", "{dir}"]
    assert main(["run", "--engine", "inline", "--seeds", "1", "--out", "o", *command]) == 0
    (row,) = sweep.open("o").report.primary_rows
    assert (row.metric, row.goal) == ("reward", "max")
    assert row.mean >= 1


@pytest.mark.walk
@pytest.mark.parametrize(
    ("package", "text", "words", "headline"),
    [
        ("lightning", LIGHTNING, ["{seed}", "{dir}", "csv"], "val_acc"),
        ("lightning", LIGHTNING, ["{seed}", "{dir}", "tensorboard"], "val_acc"),
        ("transformers", TRANSFORMERS, ["{seed}", "{dir}"], "eval_accuracy"),
        ("sklearn", SCIKIT_LEARN, ["{seed}"], "test_accuracy"),
        ("hydra", HYDRA, ["+seed={seed}"], "val_acc"),
        ("hydra", HYDRA, ["+seed={seed}", "hydra.run.dir={dir}"], "val_acc"),
        ("lightgbm", LIGHTGBM, ["{seed}"], "test/auc"),
        ("xgboost", XGBOOST, ["{seed}"], "test-auc"),
        ("keras", KERAS, ["{seed}"], "val_accuracy"),
        ("stable_baselines3", STABLE_BASELINES_TABLE, ["{seed}"], "rollout/ep_rew_mean"),
    ],
    ids=["Lightning's CSV", "Lightning's events", "Transformers", "scikit-learn", "Hydra", "Hydra's folder", "LightGBM",
         "XGBoost", "Keras", "stable-baselines3"],
)  # fmt: skip
def test_the_headline_is_right_at_the_first_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, text: str, words: list[str], headline: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(text)
    command = ["run", "--engine", "inline", "--seeds", "1,2", "--out", "o", "--", sys.executable, "train.py", *words]
    assert main(command) == 0
    (row,) = sweep.open("o").report.primary_rows
    assert (row.metric, row.n, row.goal) == (headline, 2, "max")
    if Path("truth").exists():
        truth = [float(line) for line in Path("truth").read_text().split()]
        assert row.mean == pytest.approx(sum(truth) / 2, rel=5e-3)
    else:
        assert 0.0 <= row.mean <= 1.0
