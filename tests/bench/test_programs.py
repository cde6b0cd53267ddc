"""What is asked of the measured programs, how their answers are read, and who is asked when."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.bench.cases import SpeedTest, find_models, parse_tests, split_name
from tests.bench.programs import LlamaCpp, Program, ProgramError, Slotmux, complaint_of, run
from tests.bench.quiet import Clock, Quiet, busy_seconds, others_share
from tests.bench.results import Cell
from tests.bench.scripts import ScriptPeer, read_plan
from tests.bench.suite import Plan, measure_cell, new_cell
from tests.bench.work import Work

OURS = """Loading weights ...
{"test": "pp64", "n_threads": 2, "n_parallel": 1, "depth": 0, "tokens_per_second": 370.5}
{"test": "tg4", "n_threads": 2, "n_parallel": 2, "depth": 64, "tokens_per_second": 162.7}
"""
BENCH = """{"n_prompt": 64, "n_gen": 0, "n_depth": 0, "avg_ts": 46.2, "samples_ns": [ 1, 2 ]}
{"n_prompt": 0, "n_gen": 4, "n_depth": 4096, "avg_ts": 19.3, "samples_ns": [ 1, 2 ]}
"""
BATCHED = """
{"pp": 1, "tg": 4, "pl": 8, "speed_pp": 5.9, "speed_tg": 9.55}

"""


def test_tests_are_read_and_written_alike() -> None:
    text = "pp512,tg128,tg64x8,tg128@4096,pp16x2@32"
    tests = parse_tests(text)
    assert ",".join(map(str, tests)) == text
    assert tests[4] == SpeedTest("pp", 16, 2, 32)


@pytest.mark.parametrize("text", ["", "pp", "tg0", "512", "tg128x0", "tg128@", "pp512,,tg1"])
def test_what_is_no_test_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no test"):
        parse_tests(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", ("SmolLM2-135M-Instruct", "Q4_1")),
        ("gemma-3-270m-q4_k_m.gguf", ("gemma-3-270m", "Q4_K_M")),
        ("qwen35-0.8b.IQ4_XS.gguf", ("qwen35-0.8b", "IQ4_XS")),
        ("lfm2-350m.BF16.gguf", ("lfm2-350m", "BF16")),
        ("model.gguf", ("model", "?")),
    ],
)
def test_a_name_tells_model_and_type(name: str, expected: tuple[str, str]) -> None:
    assert split_name(Path(name)) == expected


def test_models_come_in_the_order_of_the_patterns(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("b.Q8_0.gguf", "A.Q4_1.gguf", "deeper/c.F16.gguf", "deeper/b.Q8_0.gguf"):
        (tmp_path / name).touch()
    found, missing = find_models(tmp_path, ["c*", "a.q4_1.gguf", "x*", "*.gguf"])
    assert [f.name for f in found] == ["c.F16.gguf", "A.Q4_1.gguf", "b.Q8_0.gguf"]
    assert missing == ["x*"]


def test_answers_are_found_by_their_test() -> None:
    assert Slotmux.read(OURS, SpeedTest("pp", 64)) == 370.5
    assert Slotmux.read(OURS, SpeedTest("tg", 4, 2, 64)) == 162.7
    assert LlamaCpp.read(BENCH, SpeedTest("pp", 64)) == 46.2
    assert LlamaCpp.read(BENCH, SpeedTest("tg", 4, 1, 4096)) == 19.3
    assert LlamaCpp.read_batched(BATCHED, SpeedTest("tg", 4, 8)) == 9.55
    assert LlamaCpp.read_batched(BATCHED, SpeedTest("pp", 1, 8)) == 5.9


@pytest.mark.parametrize("read", [Slotmux.read, LlamaCpp.read, LlamaCpp.read_batched])
def test_an_answer_to_another_test_is_none(read: Callable[[str, SpeedTest], float]) -> None:
    for text in ("", OURS if read is Slotmux.read else BENCH):
        with pytest.raises(ProgramError, match="said nothing about tg5"):
            read(text, SpeedTest("tg", 5))


def test_a_failing_program_tells_why() -> None:
    with pytest.raises(ProgramError, match="exit 3: error: no such model"):
        run(["sh", "-c", "echo error: no such model >&2; echo backtrace >&2; exit 3"])
    with pytest.raises(ProgramError, match="is not there"):
        run(["/no/such/program"])
    with pytest.raises(ProgramError, match="not done after"):
        run(["sleep", "5"], timeout_s=0.05)
    assert complaint_of("one\n\ntwo\n") == "two"
    assert complaint_of("") == ""


def test_a_folder_without_the_tools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="holds no llama-bench"):
        LlamaCpp(tmp_path, [])


def test_commands_ask_for_the_test(tmp_path: Path) -> None:
    for tool in ("llama-bench", "llama-batched-bench"):
        (tmp_path / tool).touch()
    peer = LlamaCpp(tmp_path, ["-fa", "on"])
    bench = " ".join(peer._bench(Path("m.gguf"), SpeedTest("tg", 128, 1, 4096), 2))
    assert bench.endswith("-m m.gguf -p 0 -n 128 -d 4096 -t 2 -r 1 -o jsonl -fa on")
    batched = " ".join(peer._batched(Path("m.gguf"), SpeedTest("tg", 128, 8), 2))
    assert "-npp 1 -ntg 128 -npl 8 -c 2048 -t 2" in batched


class Recorder:
    """A program that answers with a count, or fails."""

    def __init__(self, name: str, log: list[str], *, fails: bool = False) -> None:
        self.name, self._log, self._fails = name, log, fails

    def can(self, model: Path, test: SpeedTest) -> bool:
        return True

    def measure(self, model: Path, test: SpeedTest, n_threads: int) -> float:
        self._log.append(self.name)
        if self._fails:
            raise ProgramError("it cannot")
        return float(len(self._log))


def measured(*, fails: bool = False) -> tuple[Cell, list[str]]:
    log: list[str] = []
    programs: list[Program] = [Recorder("slotmux", log), Recorder("llama.cpp", log, fails=fails)]
    test = SpeedTest("tg", 4)
    plan = Plan([], [test], programs, 3, 0, 1, measure_reads=lambda: 1e9)
    cell = new_cell(Path("a.Q8_0.gguf"), test, Work(1000, 0, 0, 0, 2.0, (), 0))
    measure_cell(cell, plan, Path("a.Q8_0.gguf"), test, Quiet(1))
    return cell, log


def test_programs_take_turns_and_the_first_changes() -> None:
    cell, log = measured()
    assert log == ["slotmux", "llama.cpp", "llama.cpp", "slotmux", "slotmux", "llama.cpp"]
    assert cell.ours == [1.0, 4.0, 5.0]
    assert cell.theirs == [2.0, 3.0, 6.0]


def test_a_program_that_fails_is_not_asked_again() -> None:
    cell, log = measured(fails=True)
    assert log.count("llama.cpp") == 1
    assert log.count("slotmux") == 3
    assert cell.errors == {"llama.cpp": "it cannot"}
    assert cell.ratio is None


SCRIPT = """
import argparse, json, os
p = argparse.ArgumentParser()
p.add_argument("model")
for name in ("--tests", "--threads", "--label", "--more"):
    p.add_argument(name)
a = p.parse_args()
assert (a.threads, a.more) == ("2", "x")
assert a.model == "other.file", "it cannot read that"
row = {"peer": a.label, "model": a.model, "test": a.tests, "tokens_per_second": 3.5}
print("a line of its own")
print(json.dumps(row | {"env": os.environ["GIVEN"]}))
"""


def peers_of(folder: Path, only: Sequence[str] = (), **change: object) -> list[ScriptPeer]:
    (folder / "bench_ov.py").write_text(SCRIPT)
    spec = {"script": "bench_ov.py", "model": "$WHERE.file", "args": ["--more", "x"], **change}
    models = [{"slotmux": "somewhere/a.gguf", "peers": {"ov": spec, "other": spec}}]
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"env": {"GIVEN": "y"}, "models": models}))
    return read_plan(plan, only)


def test_a_script_is_asked_as_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "other")
    ov, other = peers_of(tmp_path)
    assert (ov.name, other.name) == ("ov", "other")
    test = SpeedTest("tg", 4, 8)
    assert ov.can(Path("dir/a.gguf"), test)
    assert not ov.can(Path("b.gguf"), test)
    assert not ov.can(Path("a.gguf"), SpeedTest("tg", 4, 1, 4096))
    assert ov.measure(Path("dir/a.gguf"), test, 2) == 3.5
    monkeypatch.setenv("WHERE", "nowhere")
    (broken, _) = peers_of(tmp_path)
    with pytest.raises(ProgramError, match="it cannot read that"):
        broken.measure(Path("a.gguf"), test, 2)


def test_a_plan_says_which_tests_and_the_caller_which_peers(tmp_path: Path) -> None:
    (other,) = peers_of(tmp_path, ["other"], tests="pp8,tg4x8")
    assert other.can(Path("a.gguf"), SpeedTest("pp", 8))
    assert not other.can(Path("a.gguf"), SpeedTest("tg", 4))
    with pytest.raises(ValueError, match=r"has no vllm; it has ov, other"):
        peers_of(tmp_path, ["vllm"])
    (tmp_path / "odd.json").write_text('{"models": [{}]}')
    with pytest.raises(ValueError, match="no plan of peers"):
        read_plan(tmp_path / "odd.json")


def test_further_peers_are_kept_by_name() -> None:
    log: list[str] = []
    programs: list[Program] = [Recorder(name, log) for name in ("slotmux", "llama.cpp", "ov")]
    test = SpeedTest("tg", 4)
    plan = Plan([], [test], programs, 2, 0, 1, measure_reads=lambda: 1e9)
    cell = new_cell(Path("a.Q8_0.gguf"), test, Work(1000, 0, 0, 0, 2.0, (), 0))
    measure_cell(cell, plan, Path("a.Q8_0.gguf"), test, Quiet(1))
    assert (cell.ours, cell.theirs, cell.others) == ([1.0, 6.0], [2.0, 5.0], {"ov": [3.0, 4.0]})
    assert cell.ratio_to("ov") == pytest.approx((1 / 3 + 6 / 4) / 2)


STAT = """cpu  9 9 9 9 9 9 9 9 9 9
cpu0 100 10 50 1000 20 1 2 3 0 0
cpu1 200 0 0 1000 0 0 0 0 0 0
cpu10 7 0 0 0 0 0 0 0 0 0
"""


def test_busy_time_is_of_our_cpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert busy_seconds(STAT, {0}) == pytest.approx(1.66)
    assert busy_seconds(STAT, {0, 1}) == pytest.approx(3.66)


def test_others_are_what_is_not_ours() -> None:
    before, after = Clock(10.0, 100.0, 50.0), Clock(12.0, 103.0, 52.0)
    assert others_share(before, after, 2) == pytest.approx(0.25)
    assert others_share(before, Clock(12.0, 101.0, 52.0), 2) == 0.0
