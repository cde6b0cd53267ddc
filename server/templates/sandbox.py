"""A Jinja environment for templates that nobody has vetted.

It offers what chat templates use and nothing else: listed filters, listed methods of plain
values, a few functions. Every loop turn, call, filter, operator and output spends from the
budget of the rendering (template_limits).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from jinja2 import nodes, pass_context
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from slotmux.server.templates.filters import FILTERS, charged
from slotmux.server.templates.limits import MAX_ITEMS, LimitError, check_operands
from slotmux.server.templates.methods import METHODS, string_method
from slotmux.server.templates.rendering import RenderingEnvironment

MAX_NODES = 50_000
_CHANGES = ("append", "pop")
_TICK, _CONCAT, _CHARGE = "tick!", "concat!", "charge!"  # names that no template can write


class OwnList(list[Any]):
    """A list that a template keeps in a namespace, which it may change: a copy, nobody else's."""

    def append(self, value: Any) -> None:
        """Only plain values: what holds others could hold itself, or grow without bounds."""
        if not isinstance(value, str | int | float | None):
            raise LimitError("only plain values can be appended")
        super().append(value)


class OwnNamespace(Namespace):
    """Jinja's, with lists that can be changed, as some models' templates count their calls."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {k: OwnList(v) if type(v) is list else v for k, v in kwargs.items()}
        super().__init__(*args, **own)


class GenerationTag(Extension):
    """``{% generation %}...{% endgeneration %}`` marks text for training; here it is only text."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateSandbox(RenderingEnvironment):
    """Environment as `transformers` sets it up, with limits. Safe on several threads."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationTag],
            finalize=_finalize,
            optimized=False,  # nothing of a template runs while it is compiled
        )
        self._local = threading.local()
        self.globals = {"range": self._range, "namespace": OwnNamespace, "dict": _dict, **functions}
        self.filters = {name: charged(self, name, filter_) for name, filter_ in FILTERS.items()}
        self.filters |= {_TICK: self._tick, _CONCAT: self._join, _CHARGE: self._charge}
        setattr(self, "concat", self._join)  # noqa: B010  (a plain function in Jinja)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
            raise TemplateSyntaxError("the template is too large", 1)
        checked: nodes.Template = _Instrument(self).visit(tree)
        return checked

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``obj.attribute``: a listed method, a key, or undefined."""
        if isinstance(obj, LoopContext | Namespace | Undefined):
            return super().getattr(obj, attribute)
        if isinstance(obj, str):
            return string_method(self, obj, attribute) or self.undefined(obj=obj, name=attribute)
        if isinstance(obj, OwnList) and attribute in _CHANGES:
            return getattr(obj, attribute)
        for kind, names in METHODS.items():
            if isinstance(obj, kind) and attribute in names:
                return getattr(obj, attribute)
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except LookupError:
                pass
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """``obj[argument]``: an item, else what ``obj.argument`` is."""
        if isinstance(obj, str | list | tuple | Mapping | range | Undefined):
            try:
                item = obj[argument]
            except (AttributeError, TypeError, LookupError):
                pass
            else:
                if isinstance(item, str) and isinstance(obj, str):
                    self.budget.spend(item)
                return item
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_callable(self, obj: Any) -> bool:
        """Macros, this module's own functions, and what ``getattr`` gave."""
        if isinstance(obj, Macro | LoopContext) or obj is OwnNamespace:
            return True
        owner = getattr(obj, "__self__", None)
        if owner is not None and not isinstance(owner, TemplateSandbox):
            return isinstance(owner, (LoopContext, OwnList, *METHODS))
        return callable(obj) and not isinstance(obj, type)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes."""
        __self.budget.tick()
        result = super().call(__context, __obj, *args, **kwargs)
        if not isinstance(__obj, Macro):
            __self.budget.spend(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every arithmetic operator of a template."""
        check_operands(self.budget, operator, left, right)
        result = super().call_binop(context, operator, left, right)
        self.budget.spend(result)
        return self.marker.made_of(result, left, right)

    def _range(self, *bounds: int) -> range:
        found = range(*bounds)
        if len(found) > MAX_ITEMS:
            raise LimitError("a range is too long")
        return found

    def _tick(self, value: Any) -> Any:
        self.budget.tick()
        return value

    def _charge(self, value: Any) -> Any:
        self.budget.spend(value)
        return value

    def _join(self, parts: Iterable[Any]) -> str:
        texts = list(parts)
        self.budget.spend_text(sum(self.budget.text_size(text) for text in texts))
        texts = [str(text) for text in texts]
        return str(self.marker.made_of("".join(texts), *texts))


@pass_context  # so that Jinja does not call it while compiling
def _finalize(context: Context, value: Any) -> Any:
    environment = context.environment
    assert isinstance(environment, TemplateSandbox)
    environment.budget.spend_text(environment.budget.text_size(value))
    return value


def _dict(*pairs: Any, **items: Any) -> dict[Any, Any]:
    return dict(*pairs, **items)


class _Instrument(NodeTransformer):
    """Refuses statements that reach for other templates, and makes loops and the operators
    that Jinja compiles to plain Python spend from the budget."""

    def __init__(self, environment: TemplateSandbox) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise TemplateSyntaxError("recursive loops are not available", node.lineno)
        tick = nodes.ExprStmt(self._filter(nodes.Const(None), _TICK, node))
        node.body.insert(0, tick.set_lineno(node.lineno))
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        parts = nodes.List(node.nodes).set_lineno(node.lineno)
        return self._filter(self.generic_visit(parts), _CONCAT, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        visited = self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return self._filter(visited, _CHARGE, node)
        return visited

    def _refuse(self, node: nodes.Node) -> NoReturn:
        raise TemplateSyntaxError("other templates are not available", node.lineno)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = visit_Block = _refuse

    def _filter(self, value: nodes.Node, name: str, like: nodes.Node) -> nodes.Filter:
        made = nodes.Filter(value, name, [], [], None, None)
        made.set_lineno(like.lineno).set_environment(self._environment)
        return made
