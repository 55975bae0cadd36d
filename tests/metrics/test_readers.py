"""Metrics as programs write them: no value vanishes, none is cut, and what cannot be read is said."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from sweep.config.pattern import expand
from sweep.config.schema import Collect
from sweep.metrics import Found, Left, NotFound, look, metrics


def read(folder: Path, stdout: str = "", stderr: str = "", /, **collect: object) -> Found:
    """What is read of a run that printed this and left its files in `folder`."""
    where = Collect.model_validate(collect) if collect else None
    return metrics(where, Left(folder, {"seed": "1"}, folder.parent, stdout, stderr))


def table(folder: Path, text: str, **collect: object) -> Found:
    (folder / "r.csv").write_text(text, encoding="utf-8")
    return read(folder, csv="r.csv", **collect)


class TestPatterns:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("lr 1e-06", 1e-06),
            ("lr 1,234.5", 1234.5),
            ("lr -0.5", -0.5),
            ("lr 0.25.", 0.25),
            ("lr 3%", 3.0),
            ("lr \N{MINUS SIGN}0.5", -0.5),
            ("lr 0.5,0.7", 0.5),
            ("lr 3, 4", 3.0),
            ("lr 3/4", 3.0),
        ],
    )
    def test_a_number_is_never_cut(self, tmp_path: Path, text: str, value: float) -> None:
        assert read(tmp_path, text, regex=r"lr.*?(?P<a>[0-9.]+)").metrics == {"a": value}
        assert read(tmp_path, text, regex="lr {number}").metrics == {"lr": value}

    def test_what_may_be_one_number_or_two_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="matched only part of a number") as refused:
            read(tmp_path, "losses 1,234", regex="losses (?P<a>[0-9]+)")
        assert "{number}" in str(refused.value)

    @pytest.mark.parametrize(
        "said",
        [
            "1_000",
            "1_000.5",
            "1,5",
            "1.234.567,8",
            "1.2.3",
            "1'234.5",
            "1\u202f234",
            "0x1F",
            "12,34,567",
            "1.#QNAN",
            "1.5k",
            "20M",
            "-3G",
        ],
    )
    @pytest.mark.parametrize("pattern", ["lr {number}", r"lr (?P<lr>\d+)", "lr (?P<lr>[0-9.]+)"])
    def test_a_number_in_another_spelling_is_refused_and_never_cut(
        self, tmp_path: Path, said: str, pattern: str
    ) -> None:
        with pytest.raises(NotFound, match=r"only part of a number|not a number"):
            read(tmp_path, f"lr {said} s", regex=pattern)

    def test_a_unit_that_the_pattern_asks_for_is_no_part_of_the_number(self, tmp_path: Path) -> None:
        assert read(tmp_path, "20M parameters", regex=r"(?P<millions>\d+)M").metrics == {"millions": 20.0}
        assert read(tmp_path, "after 0.5s, 3MB", regex=r"after {number}s, (?P<mb>\d+)").metrics == {
            "after": 0.5,
            "mb": 3,
        }

    def test_two_numbers_with_a_mark_between_them_may_both_be_asked_for(self, tmp_path: Path) -> None:
        assert read(tmp_path, "at 3,4", regex=r"at (?P<a>\d+),(?P<b>\d+)").metrics == {"a": 3.0, "b": 4.0}

    @pytest.mark.parametrize(
        ("said", "value"),
        [("nan", math.nan), ("-inf", -math.inf), ("NaN", math.nan), ("(nan)", math.nan), ("[-inf]", -math.inf)],
    )
    def test_a_value_that_the_pattern_would_skip_counts(self, tmp_path: Path, said: str, value: float) -> None:
        found = read(tmp_path, f"loss=0.5\nloss={said}\n", regex="loss=(?P<loss>[0-9.]+)").metrics["loss"]
        assert found == value or (math.isnan(found) and math.isnan(value))
        short = read(tmp_path, f"loss=0.5\nloss={said}\n", regex="loss={number}").metrics["loss"]
        assert short == value or (math.isnan(short) and math.isnan(value))

    def test_a_sign_that_the_pattern_forgot_counts(self, tmp_path: Path) -> None:
        assert read(tmp_path, "r=0.5\nr=-0.25\n", regex="r=(?P<r>[0-9.]+)").metrics == {"r": -0.25}

    def test_a_bracket_that_begins_with_a_bracket_is_read_as_a_whole(self) -> None:
        assert expand(r"(?P<all>[])](?P<loss>\d+))")[0].fullmatch("]nan")

    def test_the_shorthand_takes_its_name_from_what_stands_before_it(self) -> None:
        assert list(expand("val/acc={number}|loss +{number}")[1].values()) == ["val/acc", "loss"]
        assert list(expand(r"acc=(?P<acc>{number}) of {number}")[1].values()) == ["acc", "of"]

    def test_a_carriage_return_ends_a_line_and_colours_are_no_part_of_it(self, tmp_path: Path) -> None:
        text = "\x1b[32macc=0.1\x1b[0m\racc=0.2\racc=\x1b[1m0.3\x1b[0m"
        assert read(tmp_path, text, regex="^acc={number}$").metrics == {"acc": 0.3}

    def test_stderr_counts_and_stdout_goes_before_it(self, tmp_path: Path) -> None:
        assert read(tmp_path, "", "INFO acc=0.5", regex="acc={number}").metrics == {"acc": 0.5}
        assert read(tmp_path, "acc=0.7", "acc=0.5", regex="acc={number}").metrics == {"acc": 0.7}


class TestObjects:
    @pytest.mark.parametrize(
        "text",
        [
            '{"eval_loss": 0.5}',
            '\ufeff{"eval_loss": 0.5}',
            '{\n  "eval_loss": 0.5,\n  "name": "x"\n}',
            "{'eval_loss': 0.5, 'epoch': 1.0}",
            "{'eval_loss': '0.5', 'epoch': '1'}",
            "{'eval_loss': tensor(0.5, device='cuda:0')}",
            "{'eval_loss': np.float64(0.5),\n 'b': 'text'}",
            'INFO:root:{"eval_loss": 0.5}',
        ],
    )
    def test_json_and_python_in_their_usual_forms(self, tmp_path: Path, text: str) -> None:
        assert read(tmp_path, f"begin\n{text}\nend {{of}} it\n").metrics == {"eval_loss": 0.5}

    def test_nothing_is_evaluated(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            read(tmp_path, "{'a': __import__('os').system('touch evil')}")
        assert not list(tmp_path.iterdir())

    def test_options_that_are_printed_are_no_metrics(self, tmp_path: Path) -> None:
        found = read(tmp_path, '{"lr": 0.1, "epochs": 3}\n{"test/accuracy": 0.9}')
        assert found.metrics == {"test/accuracy": 0.9}
        assert any("epochs, lr" in note for note in found.notes)

    def test_names_of_a_log_are_kept_though_they_are_not_on_the_last_line(self, tmp_path: Path) -> None:
        text = '{"epoch": 1, "odd": 1}\n{"epoch": 2, "odd": 2}\n{"val_loss": 0.5}\n{"done": 1}'
        assert read(tmp_path, text).metrics == {"odd": 2.0, "val_loss": 0.5, "done": 1.0}

    def test_null_after_a_number_or_for_a_usual_metric_is_nan(self, tmp_path: Path) -> None:
        found = read(tmp_path, '{"epoch": 1, "odd": 1}\n{"epoch": 2, "odd": null, "best": null, "test/loss": null}')
        assert math.isnan(found.metrics["odd"])
        assert math.isnan(found.metrics["test/loss"])
        assert "best" not in found.metrics

    def test_steps_that_begin_again_are_counted_on_and_said(self, tmp_path: Path) -> None:
        lines = [f'{{"epoch": {e}, "{phase}/loss": {e}}}' for phase in ("pretrain", "finetune") for e in (1, 2, 3)]
        found = read(tmp_path, "\n".join(lines))
        assert [step for step, _ in found.history] == [1, 2, 3, 4, 5, 6]
        assert found.history[-1][1] == {"finetune/loss": 3.0}
        assert any("start over after step 3" in note for note in found.notes)

    def test_a_row_that_comes_late_joins_its_step(self, tmp_path: Path) -> None:
        steps = (1, 2, 3, 2)
        found = read(tmp_path, "\n".join(f'{{"step": {s}, "m{n}": {s}}}' for n, s in enumerate(steps)))
        assert [step for step, _ in found.history] == [1, 2, 3]
        assert found.history[1][1] == {"m1": 2.0, "m3": 2.0}
        assert not found.notes


class TestTables:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("\n\nepoch,acc\n1,0.5\n2,0.6\n", {"acc": 0.6}),
            ("# made by hand\nepoch,acc\n1,0.5\n", {"acc": 0.5}),
            ("# epoch,acc\n1,0.5\n", {"acc": 0.5}),
            ("epoch;acc\n1;0,93\n", {"acc": 0.93}),
            ('epoch,cost\n1,"1,234.5"\n', {"cost": 1234.5}),
            ('epoch,acc\n1,"0,91"\n2,"0,93"\n', {"acc": 0.93}),
            ('epoch,loss\n1,"1,5"\n2,"1,234"\n', {"loss": 1.234}),
            ("epoch;cost;acc\n1;1.234,5;0,9\n", {"cost": 1234.5, "acc": 0.9}),
            ("\ufeffepoch\tacc\n1\t0.5\n", {"acc": 0.5}),
            ("epoch,acc,\n1,0.5,\n", {"acc": 0.5}),
            ('#{"t_start": 1.5, "env_id": "x"}\nr,l,t\n9.5,200,3.1\n', {"reward": 9.5, "episode_length": 200.0}),
        ],
    )
    def test_as_programs_write_them(self, tmp_path: Path, text: str, found: dict[str, float]) -> None:
        taken = table(tmp_path, text).metrics
        assert {name: taken[name] for name in found} == found

    def test_each_column_ends_with_its_last_value_where_rows_are_sparse(self, tmp_path: Path) -> None:
        found = table(tmp_path, "epoch,step,train_loss,val_acc\n0,9,0.7,\n0,9,,0.81\n1,19,,0.9\n1,19,0.5,\n")
        assert found.metrics == {"train_loss": 0.5, "val_acc": 0.9}
        assert any("val_acc" in note for note in found.notes)

    def test_a_column_that_was_full_and_ends_empty_is_nan(self, tmp_path: Path) -> None:
        assert math.isnan(table(tmp_path, "epoch,loss\n1,0.7\n2,0.5\n3,\n").metrics["loss"])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("1,0.5\n2,0.6\n", "1, 0.5"),
            ("epoch,acc\n1,0.5\nepoch,acc\n1,0.7\n", "row 2 repeats the header"),
            ("epoch,acc,acc\n1,0.5,0.6\n", "'acc' occurs twice"),
            ("epoch,acc\n1,0.5,0.7\n", "1, 0.5, 0.7"),
            ("epoch,acc\n1,50%\n2,91.5%\n", "91.5%"),
            ("epoch,acc\n1,0.5\n2,high\n", "high"),
        ],
    )
    def test_what_cannot_be_read_is_refused_and_quoted(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(NotFound) as refused:
            table(tmp_path, text)
        assert said in str(refused.value)


class TestFiles:
    def test_a_file_written_by_a_slow_clock_is_this_runs(self, tmp_path: Path) -> None:
        folder, path, where = tmp_path / "run", tmp_path / "r1.json", Collect.model_validate({"json": "r{seed}.json"})
        folder.mkdir()
        values = {"seed": "1"}
        path.write_text('{"acc": 0.1}')
        before = look(where, folder, values, tmp_path)
        with pytest.raises(NotFound, match="was there before"):
            metrics(where, Left(folder, values, tmp_path, "", before=before))
        path.write_text('{"acc": 0.2}')
        os.utime(path, (1, 1))
        assert metrics(where, Left(folder, values, tmp_path, "", before=before)).metrics == {"acc": 0.2}

    def test_the_only_file_that_holds_metrics_is_taken_and_said(self, tmp_path: Path) -> None:
        (tmp_path / "logs" / "version_0").mkdir(parents=True)
        (tmp_path / "logs" / "version_0" / "metrics.csv").write_text("epoch,val_loss\n1,0.5\n")
        (tmp_path / "config.json").write_text('{"lr": 0.1}')
        found = read(tmp_path)
        assert found.metrics == {"val_loss": 0.5}
        assert any("logs/version_0/metrics.csv" in note for note in found.notes)
        (tmp_path / "other.json").write_text('{"acc": 0.1}')
        with pytest.raises(NotFound):
            read(tmp_path)


class TestEvents:
    @pytest.fixture(autouse=True)
    def _needs_tensorboard(self) -> None:
        pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")

    def written(self, folder: Path) -> Path:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder)) as writer:
            for step in range(1, 5):
                writer.add_scalar("test/accuracy", step / 8, step)
        return next(folder.glob("*tfevents*"))

    def test_a_flipped_byte_or_a_cut_is_no_earlier_value(self, tmp_path: Path) -> None:
        path = self.written(tmp_path / "tb")
        data = path.read_bytes()
        assert read(tmp_path, tensorboard="tb").metrics == {"test/accuracy": 0.5}, "negative control"
        flipped = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
        whole, at = set(), 0  # where a record ends: a file that was cut there is one that was never longer
        while at < len(data):
            whole.add(at)
            at += 16 + int.from_bytes(data[at : at + 8], "little")
        cuts = [data[:at] for at in range(len(data)) if at not in whole]
        assert len(whole) >= 5
        for spoiled in (*flipped, *cuts):
            path.write_bytes(spoiled)
            with pytest.raises(NotFound, match="at byte"):
                read(tmp_path, tensorboard="tb")

    def test_folders_that_are_named_by_a_clock_give_one_name(self, tmp_path: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(tmp_path / "tb" / "Nov25_19-20-01_host")) as writer:
            writer.add_scalar("loss", 0.25, 1)
            writer.add_hparams({"lr": 0.1}, {"hparam/accuracy": 0.9})
        with SummaryWriter(str(tmp_path / "tb" / "ppo_seed1")) as writer:
            writer.add_scalar("reward", 5, 1)
        with SummaryWriter(str(tmp_path / "tb" / "version_0")) as writer:
            writer.add_scalar("hp_metric", -1, 0)
        found = read(tmp_path, tensorboard="tb").metrics
        assert found == {"loss": 0.25, "hparam/accuracy": pytest.approx(0.9), "ppo/reward": 5.0}
