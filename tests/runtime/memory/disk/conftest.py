import pytest

from tests.runtime.memory.disk.bench import DiskBench


@pytest.fixture
def serve(tmp_path):
    """Begin a server, on the folder of the test unless another is named; the one before it on that
    folder must have ended."""
    benches = []

    def begin(kind="attention", folder=tmp_path, **options):
        benches.append(DiskBench(kind, folder, **options))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()
