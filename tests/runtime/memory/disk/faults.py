"""A disk that fails when it is told to."""

import errno
import threading

from slotmux.runtime.memory.disk.files import Files


class FaultyFiles(Files):
    """``broken``: the error number of each operation that fails; ``slow``: reads wait for it."""

    def __init__(self):
        self.broken = {}
        self.free = threading.Event()
        self.free.set()
        self.n_written = 0

    def _meet(self, operation):
        if operation in self.broken:
            number = self.broken[operation]
            raise OSError(number, errno.errorcode[number])

    def list(self, folder):
        self._meet("list")
        return super().list(folder)

    def write(self, path, parts, *, is_synced=False):
        self._meet("write")
        self.n_written += 1
        return super().write(path, parts, is_synced=is_synced)

    def read(self, path, most=-1):
        self.free.wait(10)
        self._meet("read")
        return super().read(path, most)

    def touch(self, path, used_ns):
        self._meet("touch")
        super().touch(path, used_ns)

    def remove(self, path):
        self._meet("remove")
        super().remove(path)


def damage(path, at, how):
    """Flip a byte, cut the file off, or make another of it."""
    data = bytearray(path.read_bytes())
    if how == "flip" and data:
        data[at % len(data)] ^= 0x5A
    elif how == "cut":
        del data[at % (len(data) + 1) :]
    elif how == "version":
        data[:16] = b"slotmux memory 0"
    path.write_bytes(bytes(data))
