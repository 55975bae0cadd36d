"""Text that programs log: the last value of a name is taken where that is plain, and a wrong number never."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path

import pytest

import sweep
from sweep.cli.app import main
from sweep.goals import primary_of
from sweep.metrics.logged import logged
from sweep.metrics.printed import clean

KERAS = "".join(
    f"Epoch {e}/2\n 1/10 [==>.......] - ETA: 0s - loss: 0.9\r10/10 [=====] - 0s 2ms/step - loss: 0.{5 - e} - "
    f"val_loss: 0.{6 - e} - val_accuracy: 0.8{e}\n"
    for e in (1, 2)
)
TABLE = """
-------------------------------
| rollout/      |             |
|    ep_rew_mean | {reward}   |
| time/         |             |
|    fps        | 1000        |
| train/        |             |
|    loss       | 5.25        |
-------------------------------
"""
LONG_TABLE = """
------------------------------------------
| rollout/                |              |
|    ep_len_mean          | 47.1         |
|    ep_rew_mean          | 47.1         |
| time/                   |              |
|    fps                  | 275          |
|    total_timesteps      | 4096         |
| train/                  |              |
|    approx_kl            | 0.0036836877 |
|    clip_range           | 0.2          |
|    learning_rate        | 0.0003       |
|    loss                 | 43.5         |
|    n_updates            | 70           |
------------------------------------------
"""
SPLITS = "".join(f"Epoch {e}\n  train: loss=0.{5 - e} acc=0.{e}\n  val: loss=0.{6 - e} acc=0.{e}1\n" for e in (1, 2))

PLAIN = {
    "LightGBM": ("[5]\ttraining's auc: 1\tvalid_0's auc: 0.97\n[10]\ttraining's auc: 1\tvalid_0's auc: 0.98\n",
                 "valid_0/auc", 0.98),
    "LightGBM that stops early": ("[5]\tvalid_0's auc: 0.97\n[10]\tvalid_0's auc: 0.96\nEarly stopping, best iteration "
                                  "is:\n[7]\tvalid_0's auc: 0.99\n", "valid_0/auc", 0.99),
    "XGBoost": ("[0]\tvalidation-rmse:0.5\ttrain-rmse:0.4\n[9]\tvalidation-rmse:0.3\ttrain-rmse:0.2\n",
                "validation-rmse", 0.3),
    "logging": ("".join(f"[2026-11-26 06:00:0{e},123][__main__][INFO] - epoch {e} loss=0.{e} val_acc=0.9{e}\n"
                        for e in (1, 2)), "val_acc", 0.92),
    "logging by levels": ("Thu 2026-11-26 INFO val f1: 0.5\nFri 2026-11-27 INFO val f1: 0.6\n", "val_f1", 0.6),
    "options first": ("N(lr=0.1)\nprecision: 16\nepoch 1 val_loss=0.5\nepoch 2 val_loss=0.4\n", "val_loss", 0.4),
    "Keras": (KERAS, "val_accuracy", 0.82),
    "Keras, then a test": (KERAS + "Test loss: 0.33\nTest accuracy: 0.91\n", "Test_accuracy", 0.91),
    "pipes and percents": ("".join(f"Epoch {e}/2 | Train Loss: 0.{e} | Val Acc: 9{e}.25% | {e}2.5s\n" for e in (1, 2)),
                           "Val_Acc", 92.25),
    "a line for each split": (SPLITS, "val/acc", 0.21),
    "two splits on a line": ("".join(f"epoch {e} train loss 0.5 acc 0.9{e} val loss 0.6 acc 0.8{e}\n" for e in (1, 2)),
                             "val/acc", 0.82),
    "a table": (TABLE.format(reward=22.5) + TABLE.format(reward=30.5), "rollout/ep_rew_mean", 30.5),
    "a table with a learning rate": (LONG_TABLE * 2, "rollout/ep_rew_mean", 47.1),
    "a table, then an evaluation": (LONG_TABLE * 2 + "mean_reward=406.40 +/- 95.42\n", "mean_reward", 406.4),
    "the rate of train": ("".join(f"epoch {e} train_lr=0.{e} val_acc=0.9{e}\n" for e in (1, 2)), "val_acc", 0.92),
    "a list of one": ("global_step=55, episodic_return=[22.]\nSPS: 10\nglobal_step=77, episodic_return=[25.]\n",
                      "episodic_return", 25.0),
    "results alone": ("Training...\nMSE: 0.35\nR2: 0.92\nDone in 3.2s, saved to model_1.pt\n", "R2", 0.92),
    "the best beside the last": ("".join(f"epoch {e} val_acc=0.8{3 - e} best_val_acc=0.89\n" for e in (1, 2)),
                                 "val_acc", 0.81),
    "a value before": ("Initial accuracy: 0.10\nepoch 1 val_loss=0.5\nepoch 2 val_loss=0.4\n", "val_loss", 0.4),
    "nan": ("epoch 1 loss=0.5\nepoch 2 loss=nan\n", "loss", math.nan),
    "thousands": ("epoch 1 mse: 1,234.5\nepoch 2 mse: 1,134.5\n", "mse", 1134.5),
    "a mean of folds": ("accuracy: 0.91 ± 0.02\n", "accuracy", 0.91),
    "of so many": ("epoch 1 acc: 91.3% (913/1000)\nepoch 2 acc: 92.3% (923/1000)\n", "acc", 92.3),
}  # fmt: skip

UNCLEAR = {
    "options alone": "lr: 0.1\nbatch_size: 32\nhidden: 128\n",
    "an option that is called as a metric": "lr: 0.1\nprecision: 16\n",
    "options as a call": "Namespace(lr=0.1, target_kl=0.02)\n",
    "times": "epoch 1 took 3.2 s\nepoch 2 took 3.1 s\nelapsed: 6.3\n",
    "learning rates": "epoch 1 lr: 0.1\nepoch 2 lr: 0.01\n",
    "counts": "rows: 100, errors: 3\nrows: 200, errors: 4\nreward: 5\nreward: 6\n",
    "a code": "Error: 404 Not Found\nError: 404 Not Found\n",
    "a progress bar": " 50%|██  | 5/10 [00:01<00:01, 9it/s, loss=0.5]\r100%|██| 9/9 [00:02<00:00, 9it/s, loss=0.4]\n",
    "folds": "fold 1 acc=0.9\nfold 2 acc=0.8\n",
    "folds above": "Fold 1\nacc: 0.9\nFold 2\nacc: 0.8\n",
    "another training": "".join(f"[{i}]\trmse:0.{9 - i}\n" for i in (0, 4, 8, 0, 4, 8)),
    "a scan": "lr=0.1 acc=0.9\nlr=0.01 acc=0.8\n",
    "data sets": "cora acc: 0.81\nciteseer acc: 0.71\n",
    "data sets with numbers": "cifar10 acc: 0.91\ncifar100 acc: 0.71\n",
    "ranks": "".join(f"[rank {r}] epoch {e} loss=0.{r + e}\n" for e in (1, 2) for r in (0, 1)),
    "the best at the end": "epoch 1 val_acc=0.9\nepoch 2 val_acc=0.8\nBest val_acc=0.9\n",
    "a baseline": "Random baseline accuracy: 0.10\nAccuracy: 0.93\n",
    "two numbers": "Loss 6.93 (6.94)\nLoss 6.91 (6.92)\n",
    "a list": "epoch 1 acc=[0.5, 0.6]\nepoch 2 acc=[0.6, 0.7]\n",
    "a change": "val_loss: 0.5 -> 0.4\nval_loss: 0.4 -> 0.3\n",
    "no number at the end": "epoch 1 val_loss=0.5\nepoch 2 val_loss=None\n",
    "the headline in another form": "Test set: Average loss: 0.0345, Accuracy: 9882/10000 (99%)\n" * 2,
    "the headline as a sentence": "loss: 2.19\nloss: 1.8\nAccuracy of the network on 10000 test images: 55 %\n",
    "splits without a metric": "".join(f"Epoch: {e}, Loss: 0.{e}, Val: 0.7{e}, Test: 0.8{e}\n" for e in (1, 2)),
    "a headline that is not known": "".join(f"epoch {e} train_loss=0.{e} hmean=0.4{e}\n" for e in (1, 2)),
    "a table of classes": "      precision  recall  support\n  0     1.00   1.00   13\naccuracy   0.97   38\n",
}


def taken(text: str) -> dict[str, float]:
    last: dict[str, float] = {}
    for row in logged(clean(text)).rows:
        last |= row
    return last


@pytest.mark.parametrize("text, headline, value", PLAIN.values(), ids=PLAIN.keys())  # noqa: PT006
def test_what_is_plain_is_taken(text: str, headline: str, value: float) -> None:
    found = taken(text)
    assert primary_of([*found]) == headline
    assert found[headline] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("text", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_may_be_something_else_is_not_taken(text: str) -> None:
    assert taken(text) == {}


def test_lines_of_which_none_is_like_another_are_no_log() -> None:
    lines = "".join(f"{'ab'[i % 2]}{i} acc: 0.{i}\n" for i in range(6000))
    assert taken(lines) == {}


LOGS = """
import logging, sys
logging.basicConfig(level="INFO")
open("trained", "a").write("x")
print({"lr": 0.1, "precision": 16, "epochs": 2})
for epoch in (1, 2):
    logging.info("epoch %d train_loss=%.2f val_acc=%.2f", epoch, 1 / epoch, 0.5 + epoch / 10 + int(sys.argv[1]) / 100)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("t.py")


def sweep_of(script: Path, text: str, *options: str) -> int:
    script.write_text(text)
    words = ["run", "--engine", "inline", "--seeds", "1,2", "--out", "o", *options, "--", sys.executable]
    return main([*words, script.name, "{seed}"])


def test_a_script_that_logs_needs_one_command_and_what_was_taken_is_said(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_of(script, LOGS) == 0
    said = capsys.readouterr()
    assert "read from the text" in " ".join(said.err.split())
    pasted = next(line for line in said.err.splitlines() if line.strip().startswith("sweep collect"))
    frame = sweep.open("o").frame
    assert frame["val_acc"].tolist() == pytest.approx([0.71, 0.72])
    assert not {"lr", "precision"} & set(frame.columns)
    assert sweep.open("o").history["step"].tolist() == [1, 2, 1, 2]
    assert all(any("val_acc" in note for note in m.record.notes) for m in sweep.open("o").store.scan() if m.record)
    assert main(shlex.split(pasted)[1:]) == 0, "the words that choose among what is logged"
    assert sweep.open("o").frame["val_acc"].tolist() == pytest.approx([0.71, 0.72])
    assert Path("trained").read_text() == "xx"


def test_what_is_not_plain_stops_with_its_reason_and_the_words_that_choose(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "for fold in (1, 2): print(f'fold {fold} acc=0.{fold}')\nopen('trained', 'a').write('x')"
    assert sweep_of(script, text) == 1
    said = capsys.readouterr().err
    assert "fold 1 and 2 are logged" in " ".join(said.split())
    pasted = next(line for line in said.splitlines() if line.strip().startswith("sweep resume"))
    resume, *rest = shlex.split(pasted)[1:]
    assert main([resume, "--engine", "inline", *rest]) == 0
    assert Path("trained").read_text() == "xx", "the first seed was read, not trained again"


def test_options_that_are_printed_as_an_object_are_no_results_where_text_follows(script: Path) -> None:
    assert sweep_of(script, "print({'lr': 0.1, 'epochs': 3})\nprint('odd thing: 0.5')") == 1
    assert all(m.record is None or not m.record.metrics for m in sweep.open("o").store.scan())


def test_a_file_that_all_seeds_share_is_named_with_the_way_out_and_counts_are_not_proposed(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import json\njson.dump({'acc': 0.5}, open('results.json', 'w'))\nprint('Total params: 12, lr: 0.1')\n"
    assert sweep_of(script, text) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "results.json was written outside {dir}" in said
    assert "--cwd '{dir}'" in said
    assert "params: {number}" not in said
