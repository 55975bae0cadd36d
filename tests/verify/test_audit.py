"""The audit names what the seed does not control, and finds nothing in the built-in recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import planted
import pytest
from asking import here, spec_of

from sweep.cli.app import main
from sweep.verify.audit import audit
from sweep.verify.cost import summed


@pytest.mark.walk
def test_a_careless_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = audit(spec_of("planted:careless"), here())
    text = "\n".join(found.findings)
    assert "torch.manual_seed(0) at planted.py:" in text
    assert "the same for every seed" in text
    assert "the dataset's rng has the same state in 2 loader workers" in text
    assert "another seed gives the same weights, so the seed has no effect" in text
    assert "global generator is the same" not in text  # torch seeds those of loader workers
    assert found.streams["the seed"] == "nothing"


@pytest.mark.walk
def test_functions_that_were_imported_by_their_names_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(audit(spec_of("planted:by_name"), here()).findings)
    assert "numpy.random.default_rng is used without a seed at planted.py:" in text
    assert "random.Random is used without a seed at planted.py:" in text
    assert "random.Random(7) at planted.py:" in text
    assert "torch.manual_seed(0) at planted.py:" in text


@pytest.mark.walk
def test_the_lines_that_draw_are_named_and_no_innocent_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(audit(spec_of("planted:from_the_system"), here()).findings)
    source = Path(planted.__file__).read_text().splitlines()
    lines = {part: 1 + next(i for i, line in enumerate(source) if part in line) for part in ("PCG64()", "qmc.Sobol(1)")}
    assert "two runs of the same seed differ first at" in text
    assert set(re.findall(r"planted\.py:\d+", text)) == {f"planted.py:{line}" for line in lines.values()}
    assert "numpy.random.PCG64 is used without a seed" in text
    assert len(re.findall(r"\w+\.py:\d+", text)) == 2, text  # none of a library's own lines


@pytest.mark.walk
def test_what_a_library_makes_while_it_is_imported_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert audit(spec_of("planted:late_imports"), here()).findings == ()


@pytest.mark.walk
def test_a_package_that_is_found_by_pythonpath_is_not_named_for_the_line_that_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {
        "lib/theirs.py": "import numpy\ndef draw(): return numpy.random.default_rng().normal()\n",
        "mine/m.py": "import theirs\ndef train(run):\n    return {'test/x': theirs.draw()}\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    main(["verify", "train=m:train", "--audit"])
    said, why = capsys.readouterr()
    assert "default_rng is used without a seed at m.py:3" in said, why
    assert "theirs.py" not in said


@pytest.mark.walk
def test_an_audit_that_found_something_sends_to_the_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "train=planted:by_name", "--audit"]) == 3
    (step,) = re.findall("^next: (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert "--audit" not in step


@pytest.mark.slow
def test_a_generator_that_nobody_seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = audit(spec_of("planted:train", {"order": "entropy"}), here())
    assert any(f.startswith("numpy.random.default_rng is used without a seed at planted.py:") for f in found.findings)
    assert any(f.startswith("two runs of the same seed differ first at ") for f in found.findings)


@pytest.mark.walk
def test_the_built_in_recipe_is_clean() -> None:
    found = audit(spec_of(), here())
    assert found.findings == ()
    assert found.streams["stream init"] == "initial weights"
    assert found.streams["stream order"] == "data order (first batch)"
    assert found.streams["stream dropout"] == "weights after step 1"
    assert found.streams["numpy.random"] == "nothing"


def test_cost_is_the_median_of_paired_ratios() -> None:
    pace = {"fast": [1.0, 4.0, 1.0], "deterministic": [1.25, 4.0, 2.0]}  # the second round was disturbed
    cost = summed(spec_of(), pace, "2.13.0")
    assert cost.speed["deterministic"] == (0.5, 0.8, 1.0)
    assert cost.ms["fast"] == 1.0
    assert "0.80 times as fast as fast mode (0.50 to 1.00)" in str(cost)


def test_who_asks_for_a_training_in_another_process_loads_no_torch() -> None:
    code = "import sys; from sweep.verify import audit, cost, prove, reproduce; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
