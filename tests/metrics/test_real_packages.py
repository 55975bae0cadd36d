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


@pytest.mark.parametrize(
    ("package", "text", "words", "headline"),
    [
        ("lightning", LIGHTNING, ["csv"], "val_acc"),
        ("lightning", LIGHTNING, ["tensorboard"], "val_acc"),
        ("transformers", TRANSFORMERS, [], "eval_accuracy"),
        ("sklearn", SCIKIT_LEARN, [], "test_accuracy"),
    ],
    ids=["Lightning's CSV", "Lightning's events", "Transformers", "scikit-learn"],
)
def test_the_headline_is_right_at_the_first_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, text: str, words: list[str], headline: str
) -> None:
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(text)
    command = ["--", sys.executable, "train.py", "{seed}", "{dir}", *words]
    assert main(["run", "--engine", "inline", "--seeds", "1", "--out", "o", *command]) == 0
    (row,) = sweep.open("o").report.primary_rows
    assert row.metric == headline
    assert 0.0 <= row.mean <= 1.0
    assert row.goal == "max"
