"""What a model's file says of it, while it is not loaded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from slotmux.runtime.errors import SlotmuxError
from slotmux.runtime.gguf import open_gguf
from slotmux.runtime.models.architectures import check_architecture, pooling_of
from slotmux.runtime.pooling import Pooling
from slotmux.server.process.state import ModelInfo
from slotmux.server.router.fleet.member import Member
from slotmux.server.templates.stored import stored_template

_MAX_AUTO_CTX = 32_768  # as server/loading/plan.py chooses


class Facts:
    """Reads headers of files on a thread, each once as long as the file stays the same."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int], ModelInfo]] = {}

    async def of(self, member: Member) -> ModelInfo:
        """What its process says while it runs, else its file. Little is known of what is not on
        this machine yet, or cannot be read."""
        spec = member.spec
        if member.info:
            told = member.info | {"aliases": tuple(member.info["aliases"])}
            return ModelInfo(**told)
        info = None if spec.path is None else await self._of_file(spec.path)
        settings = spec.settings
        info = info or ModelInfo(spec.name, 0, 0, 0, file_name=spec.model.rpartition("/")[2])
        n_ctx = settings.ctx_size or min(info.n_ctx_train, settings.kv_size or _MAX_AUTO_CTX)
        info = _named(info, spec.names, n_ctx, settings.parallel)
        if info.pooling and settings.pooling_type >= 0:
            info = replace(info, pooling=Pooling(settings.pooling_type).name.lower())
        gives_only_vectors = settings.embeddings or settings.reranking
        return replace(info, can_generate=info.can_generate and not gives_only_vectors)

    async def _of_file(self, path: Path) -> ModelInfo | None:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            kept = self._kept.get(path)
            if kept is None or kept[0] != stamp:
                kept = self._kept[path] = (stamp, await asyncio.to_thread(_read, path))
        except (OSError, SlotmuxError):
            return None
        return kept[1]


def _read(path: Path) -> ModelInfo:
    file = open_gguf(path)
    metadata, arch = file.metadata, file.architecture
    return ModelInfo(
        name="",
        n_ctx=0,
        n_ctx_train=metadata.get_u32(f"{arch}.context_length", 0),
        n_slots=0,
        architecture=arch,
        file_name=path.name,
        n_params=file.n_params,
        n_bytes=file.n_bytes,
        n_embd=metadata.get_u32(f"{arch}.embedding_length", 0),
        vocab_type=metadata.get_str("tokenizer.ggml.model", ""),
        chat_template=stored_template(metadata) or "",
        can_generate=not check_architecture(file).startswith("encoders."),
        pooling=pooling_of(file).name.lower(),
    )


def _named(info: ModelInfo, names: tuple[str, ...], n_ctx: int, n_slots: int) -> ModelInfo:
    return replace(info, name=names[0], aliases=names[1:], n_ctx=n_ctx, n_slots=n_slots)
