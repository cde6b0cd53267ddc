"""`python -m tools.golden` before it makes anything: names, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.golden import measure, needs
from tools.golden.__main__ import main
from tools.golden.llama_source import LlamaCpp
from tools.golden.measured import DisagreementError
from tools.golden.recipes import RECIPES
from tools.golden.references import llama_cpp


def built(folder: Path) -> LlamaCpp:
    """A folder that looks like a built llama.cpp."""
    files = (
        "src/llama.cpp/convert_hf_to_gguf.py",
        "build/bin/libllama.so",
        "build/bin/llama-quantize",
    )
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return LlamaCpp.at(folder)


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list"])
    assert capsys.readouterr().out.split() == list(RECIPES)


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "name a golden model"), (["llama", "lama"], "no recipe for lama; --list names them")],
)
def test_wrong_names_are_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "FOR_TRANSFORMERS", ("json", "no_such_module"))
    with pytest.raises(SystemExit) as stopped:
        main(["llama", "--llama-cpp", str(tmp_path), "--out", str(tmp_path / "out")])
    said = str(stopped.value)
    assert "no_such_module: pip install -e '.[golden]'" in said
    assert "libllama.so" in said
    assert "python -m tools.golden.llama_source" in said
    assert not (tmp_path / "out").exists()


def test_rwkv_needs_no_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "FOR_TRANSFORMERS", ("no_such_module",))
    llama = built(tmp_path)
    needs.require([RECIPES["rwkv6"]], llama)
    with pytest.raises(needs.MissingError, match="no_such_module"):
        needs.require([RECIPES["rwkv6"], RECIPES["llama"]], llama)


def test_a_checkout_of_llama_cpp_will_do(tmp_path: Path) -> None:
    assert LlamaCpp.at(tmp_path).source == tmp_path
    assert built(tmp_path).source == tmp_path / "src/llama.cpp"
    llama = LlamaCpp.at(tmp_path)
    assert not llama.missing(quantises=True)
    (llama.binaries / "llama-quantize").unlink()
    assert not llama.missing(quantises=False)
    assert llama.missing(quantises=True) == [llama.binaries / "llama-quantize"]


def test_a_golden_model_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "FOR_TRANSFORMERS", ())
    built(tmp_path)
    (tmp_path / "golden/llama").mkdir(parents=True)
    with pytest.raises(SystemExit, match="llama is there; --replace"):
        main(["llama", "--llama-cpp", str(tmp_path), "--out", str(tmp_path / "golden")])


def test_a_disagreement_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object) -> None:
        raise DisagreementError("llama: they differ")

    monkeypatch.setattr(needs, "FOR_TRANSFORMERS", ())
    monkeypatch.setattr(llama_cpp, "Library", lambda _: None)
    monkeypatch.setattr(measure, "measure", differ)
    built(tmp_path)
    with pytest.raises(SystemExit, match=r"^llama: they differ$"):
        main(["llama", "--llama-cpp", str(tmp_path), "--out", str(tmp_path / "golden")])
    assert not (tmp_path / "golden").exists()
