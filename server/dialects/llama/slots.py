"""POST /slots/{id}?action=save|restore|erase: what a slot has computed, kept on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator
from starlette.requests import Request
from starlette.responses import Response

from slotmux.runtime.engine.core import Core
from slotmux.runtime.engine.request import EngineStoppedError
from slotmux.runtime.engine.slot_cache import (
    NoRoomError,
    SlotBusyError,
    SlotEmptyError,
    erase_slot,
    restore_slot,
    save_slot,
)
from slotmux.server.files.slot_file import SlotFileError, is_file_name, read_slot, write_slot
from slotmux.server.http.endpoints import Endpoints
from slotmux.server.http.errors import (
    ApiError,
    invalid,
    json_response,
    not_supported,
    shutting_down,
    unavailable,
)
from slotmux.server.http.json_body import read_json
from slotmux.server.http.shapes import llama_body
from slotmux.server.http.trace import trace_of
from slotmux.server.openapi.llama import SlotAction
from slotmux.server.openapi.operation import Operation
from slotmux.server.process.state import ServerState, state_of
from slotmux.server.schemas.base import StrictModel, fault, validate
from slotmux.server.schemas.parameters import Place

endpoints = Endpoints(llama_body, under="/slots/")
T = TypeVar("T")
_ACTIONS = ("save", "restore", "erase")
_ACTION = {"action": {"enum": [*_ACTIONS]}}


def _file_name(value: str) -> str:
    if not is_file_name(value):
        raise fault("should be a plain file name of letters, digits, '.', '_' and '-'")
    return value


class SlotFileRequest(StrictModel):
    """Body of save and restore."""

    place: ClassVar[Place | None] = None
    filename: Annotated[str, AfterValidator(_file_name)]


@endpoints.post(
    "/slots/{slot_id}",
    told=Operation(SlotAction, SlotFileRequest, query=_ACTION, needs_body=False),
)
async def slot_action(request: Request, slot_id: str) -> Response:
    """Saves, restores or erases what the last request of a slot left in memory."""
    state = state_of(request)
    loaded = state.ready().loaded
    folder = state.settings.slot_save_path
    if folder is None:
        raise not_supported("This server does not save slots (--slot-save-path).")
    action = request.query_params.get("action")
    if action not in _ACTIONS:
        raise invalid("action", "Invalid 'action': should be save, restore or erase.")
    if not (slot_id.isascii() and slot_id.isdecimal() and len(slot_id) < 6):
        raise invalid("id_slot", "Invalid 'id_slot': should be the number of a slot.")
    number = int(slot_id)
    if number >= loaded.info.n_slots:
        raise invalid("id_slot", f"Invalid 'id_slot': the server has {loaded.info.n_slots} slots.")
    owner = f"{trace_of(request).key}/"
    if action == "erase":
        return json_response(await _erase(state, number, owner))
    body = validate(SlotFileRequest, await read_json(request, state.settings.body_timeout))
    act = _save if action == "save" else _restore
    begin = time.monotonic()
    told = await act(state, number, owner, folder / body.filename)
    told["timings"] = {f"{action}_ms": round((time.monotonic() - begin) * 1000, 3)}
    return json_response({"id_slot": number, "filename": body.filename} | told)


async def _save(state: ServerState, slot_id: int, owner: str, path: Path) -> dict[str, Any]:
    saved = await _errand(state, partial(save_slot, slot_id=slot_id, owner=owner))
    try:
        n_bytes = await state.off_loop(write_slot, path, saved, state.ready().loaded.identity)
    except OSError as error:
        raise ApiError(
            500, f"The slot cannot be saved ({type(error).__name__}).", code="slot_not_saved"
        ) from None
    return {"n_saved": len(saved.tokens), "n_written": n_bytes}


async def _restore(state: ServerState, slot_id: int, owner: str, path: Path) -> dict[str, Any]:
    loaded = state.ready().loaded
    n_ctx = loaded.info.n_ctx
    try:
        saved, n_bytes = await state.off_loop(read_slot, path, loaded.identity, max_tokens=n_ctx)
    except OSError as error:
        raise invalid("filename", f"The file cannot be read ({type(error).__name__}).") from None
    except SlotFileError as error:
        raise invalid("filename", f"The file cannot be restored: {error}.") from None
    if not saved.salt.startswith(owner):
        raise ApiError(403, "The file was saved with another API key.", param="filename")
    n = await _errand(state, partial(restore_slot, slot_id=slot_id, saved=saved))
    return {"n_restored": n, "n_read": n_bytes}


async def _erase(state: ServerState, slot_id: int, owner: str) -> dict[str, Any]:
    n = await _errand(state, partial(erase_slot, slot_id=slot_id, owner=owner))
    return {"id_slot": slot_id, "n_erased": n}


async def _errand(state: ServerState, run: Callable[[Core], T]) -> T:
    """Has the engine do it between two steps. Raises ApiError."""
    try:
        return await asyncio.wrap_future(state.ready().loaded.engine.errand(run))
    except SlotBusyError:
        raise unavailable("The slot runs a request.", "slot_busy") from None
    except SlotEmptyError as error:
        raise invalid("id_slot", f"Nothing to save: {error}.") from None
    except NoRoomError:
        raise unavailable("There is no memory for it beside what runs.", "no_memory") from None
    except EngineStoppedError:
        raise shutting_down() from None
