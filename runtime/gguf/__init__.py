"""A strict reader of GGUF model files: what it returns has been checked against the file's size.

Names, enumerations and block sizes come from the ``gguf`` package; its reader does not.
"""

from slotmux.runtime.gguf.errors import ModelFileError
from slotmux.runtime.gguf.file import GGUFFile, open_gguf, parse_split_name, split_name
from slotmux.runtime.gguf.mapping import drop_pages
from slotmux.runtime.gguf.metadata import Metadata
from slotmux.runtime.gguf.tensors import TensorInfo

__all__ = [
    "GGUFFile",
    "Metadata",
    "ModelFileError",
    "TensorInfo",
    "drop_pages",
    "open_gguf",
    "parse_split_name",
    "split_name",
]
