"""`slotmux tokenize`: the token ids of a text, as the model's own vocabulary gives them."""

from __future__ import annotations

import json
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slotmux.server.commands.flags import takes_settings
from slotmux.server.commands.options import JsonOpt, ModelArg, argument, option
from slotmux.server.loading.locate import locate
from slotmux.server.settings import Settings


@takes_settings()
def tokenize(
    settings: Settings,
    model: ModelArg,
    text: Annotated[str, argument("TEXT", "Text to tokenize.")],
    special: Annotated[
        bool, option("--special", help="Let TEXT name special tokens, such as <|im_end|>.")
    ] = False,
    bos: Annotated[
        bool, option("--bos/--no-bos", help="Add the tokens that the model adds to every text.")
    ] = True,
    as_json: JsonOpt = False,
) -> None:
    """Print the token ids and pieces of a text."""
    from slotmux.runtime.gguf import open_gguf
    from slotmux.runtime.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_metadata(open_gguf(locate(model, settings)).metadata)
    ids = tokenizer.encode(text, add_special=bos, parse_special=special)
    pieces = [tokenizer.token_bytes(token_id) for token_id in ids]
    if as_json:
        texts = [piece.decode("utf-8", "replace") for piece in pieces]
        print(json.dumps({"tokens": ids, "pieces": texts}))
        return
    table = Table("id", "piece", box=None)
    for token_id, piece in zip(ids, pieces, strict=True):
        table.add_row(str(token_id), Text(_readable(piece)))
    Console().print(table)


def _readable(piece: bytes) -> str:
    """A piece as a Python literal: spaces, newlines and broken characters can be seen."""
    try:
        return repr(piece.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(piece)
