"""The report's numbers: medians, ratios of neighbouring rounds, shares of the limits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.plot import svg
from tests.bench.report import MARK_BEGIN, MARK_END, into_page, is_weak, markdown
from tests.bench.results import Cell, Run, geometric_mean, group_of

LIMITS = {
    "n_threads": 2,
    "isa": "avx2",
    "bytes_per_second": 10e9,
    "int8_ops_per_second": 800e9,
    "f32_ops_per_second": 200e9,
}
TG = Cell("a.Q8_0.gguf", "a", "Q8_0", "tg8", "tg", 1, 100e6, 2e8, [50.0, 40.0, 60.0], [20, 10, 40])
PP = Cell("a.Q8_0.gguf", "a", "Q8_0", "pp8", "pp", 1, 0.0, 2e8, [1000.0], [200.0])


def make_run(*cells: Cell) -> Run:
    return Run({"CPU": "x"}, LIMITS, list(cells), ["gemma*.gguf"])


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    assert TG.speed == 50
    assert TG.peer_speed == 20
    assert TG.ratios == [2.5, 4.0, 1.5]
    assert TG.ratio == 2.5


def test_a_cell_without_a_peer_has_no_ratio() -> None:
    alone = replace(TG, theirs=[])
    assert alone.ratio is None
    assert alone.peer_speed is None
    assert alone.speed == 50


def test_bandwidth_share_is_only_of_generation() -> None:
    run = make_run(TG, PP)
    assert run.bandwidth_share(TG, TG.speed) == pytest.approx(0.5)
    assert run.bandwidth_share(PP, PP.speed) is None
    assert run.bandwidth_share(TG, None) is None


def test_groups() -> None:
    assert [group_of(c) for c in (TG, PP, replace(TG, n_parallel=8))] == [
        "generation",
        "prompt",
        "several sequences together",
    ]
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def table_of(text: str, head: str) -> list[list[str]]:
    """Cells of the rows below the table head that begins so."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_has_every_number() -> None:
    rows = table_of(markdown(make_run(TG, PP)), "| model")
    assert rows[0] == [
        "a",
        "Q8_0",
        "tg8",
        "50.0",
        "20.0",
        "2.50",
        "1.50-4.00",
        "**50**",
        "20",
        "",
        "",
    ]
    assert rows[1] == ["a", "Q8_0", "pp8", "1000", "200", "5.00", "", "", "", "200", "**25**"]


def test_the_summary_names_the_lowest_cell() -> None:
    worse = replace(TG, model="b", ours=[10.0], theirs=[10.0])
    rows = table_of(markdown(make_run(TG, worse)), "|  | cells")
    assert rows == [["generation", "2", "1.75", "1.58", "1.00 (b Q8_0 tg8)"]]


def test_without_a_peer_its_columns_are_left_out() -> None:
    text = markdown(make_run(replace(TG, theirs=[])))
    assert "llama.cpp tok/s" not in text
    assert "lowest" not in text
    assert table_of(text, "| model") == [["a", "Q8_0", "tg8", "50.0", "**50**", "", ""]]


def test_failures_noise_and_missing_files_are_told() -> None:
    failed = replace(TG, theirs=[], errors={"llama.cpp": "unknown architecture"}, n_noisy=1)
    text = markdown(make_run(failed, replace(TG, n_noisy=2)))
    rows = table_of(text, "| model")
    assert rows[0][4] == "failed"
    assert rows[1][5] == "2.50~"
    assert "unknown architecture" in text
    assert "not there: gemma*.gguf" in text


@pytest.mark.parametrize(
    ("kind", "n_parallel", "speed", "weak"),
    [
        ("tg", 1, 86.0, False),
        ("tg", 1, 84.0, True),
        ("tg", 8, 84.0, True),  # 84% of the bandwidth, 2% of the arithmetic
        ("tg", 8, 3500.0, False),  # 88% of the arithmetic
        ("pp", 1, 2300.0, True),  # 57% of the arithmetic
        ("pp", 1, 2500.0, False),
    ],
)
def test_what_is_far_from_its_limit_is_weak(
    kind: str, n_parallel: int, speed: float, weak: bool
) -> None:
    n_bytes = {"tg1": 100e6, "tg8": 100e6 if speed < 100 else 1e3, "pp1": 0.0}[
        f"{kind}{n_parallel}"
    ]
    cell = Cell("a", "a", "Q8_0", "t", kind, n_parallel, n_bytes, 2e8, [speed])
    assert is_weak(make_run(cell), cell) is weak


def test_further_peers_have_a_table_and_what_is_slower_is_bold() -> None:
    beside = replace(
        TG, others={"ov": [100.0, 10.0, 120.0], "ik": [25.0]}, errors={"vllm": "it cannot"}
    )
    text = markdown(make_run(beside, PP))
    rows = table_of(text, "| model | type | test | slotmux tok/s | ")
    assert beside.ratio_to("ov") == 0.5  # of 0.5, 4, 0.5
    assert beside.ratio_to("vllm") is None
    assert table_of(text, "| model | type | test | slotmux tok/s | ov")[0] == [
        *("a", "Q8_0", "tg8", "50.0", "100", "**0.50**", "25.0", "2.00", "failed", ""),
    ]
    assert len(rows) == 2
    assert "Weak cells: 1 of 2 slower than a peer, 2 of 2 far from the limit." in text
    assert "it cannot" in text


def test_noise_is_stated() -> None:
    run = make_run(replace(TG, n_noisy=1), PP)
    run.bandwidths = [9e9, 11e9]
    text = markdown(run)
    assert "memory reads while the suite ran: 9.0 to 11.0 GB/s" in text
    assert "40% of their median apart in the median cell, 40% in the worst; 1 of 4 rounds" in text


def test_a_page_keeps_what_people_wrote() -> None:
    page = f"# Speed\n\n{MARK_BEGIN}\nold\n{MARK_END}\n\n## Notes\n"
    found = into_page(page, "new\n")
    assert found == f"# Speed\n\n{MARK_BEGIN}\n\nnew\n\n{MARK_END}\n\n## Notes\n"
    assert into_page(found, "new\n") == found
    assert into_page("no place", "new\n") == "new\n"


def test_a_run_of_before_there_were_other_peers_can_be_read(tmp_path: Path) -> None:
    run = make_run(TG)
    path = tmp_path / "run.json"
    run.save(path)
    data = json.loads(path.read_text())
    del data["bandwidths"], data["cells"][0]["others"]
    path.write_text(json.dumps(data))
    assert Run.load(path) == run


def test_a_saved_run_is_the_same_run(tmp_path: Path) -> None:
    run = make_run(TG, PP)
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run
    assert run.cell("a.Q8_0.gguf", "pp8") is PP
    assert run.cell("a.Q8_0.gguf", "pp9") is None
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_the_picture_is_xml_with_a_bar_for_each_number() -> None:
    odd = replace(TG, model="<a&b>", theirs=[])
    root = ElementTree.fromstring(svg(make_run(TG, PP, odd)))
    bars = [e for e in root.iter() if e.tag.endswith("rect") and e.get("x") == "300"]
    assert len(bars) == 5
    assert any("<a&b>" in (e.text or "") for e in root.iter())
    widths = [float(bar.get("width") or 0) for bar in bars]
    assert widths[0] == pytest.approx(2.5 * widths[1], abs=0.1)


def test_the_picture_of_nothing_measured_is_still_a_picture() -> None:
    assert ElementTree.fromstring(svg(make_run())).tag.endswith("svg")
