"""What a chat template may cost: steps, time, and the size of what it makes. Templates come with models of strangers.

Jinja's sandbox, in which transformers renders them, keeps a template from everything outside. It doesn't keep one from
looping for ever or from filling the memory (`{{ 'a' * 10**10 }}`), and much of that happens inside a single call of the
interpreter that nothing can interrupt. So costs are counted before they arise:

- A step is spent by each pass of a loop and each call of a macro; calls that count are put into the parsed template.
- Whatever makes text or lists (operators, literals, filters, methods, output) first says how large the result can be.
- Each comparison, test, filter and attribute looks at the clock: chains of `map` and `select` are nothing but these.

That makes the limits the same on every machine, in every thread, without signals, processes or threads of ours. See
docs/decisions/0017-costs-of-a-template-are-counted.md.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.exceptions import TemplateRuntimeError, TemplateSyntaxError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_TEMPLATE_CHARACTERS = 2**18
MAX_STEPS = 200_000
MAX_SECONDS = 5.0
MAX_SIZE = 2**23
"""Characters of one text, or of a list with all that is in it; an entry counts as much as eight, by what it takes."""
MAX_TOTAL = 2**28
"""Of all that is made while one conversation is rendered."""
MAX_COUNT = 100_000
"""Whole numbers that are given to filters and methods, such as a width."""
ENTRY_SIZE = 8
MAX_BITS = 2**16
"""Of a whole number."""
BITS_A_DIGIT = 6
"""Of the largest base of whole numbers in text, 36."""

# Their numbers are values, not sizes.
FREE_FILTERS = frozenset({"abs", "attr", "d", "default", "float", "int", "round", "sum"})
# Each of these makes up to as many copies of its arguments as the text has characters.
MULTIPLYING = frozenset({
    "center", "expandtabs", "format", "format_map", "indent", "join", "ljust", "replace", "rjust", "tojson",
    "translate", "wordwrap", "zfill",
})  # fmt: skip
WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*(\*|\d{5})|\{[^}]*\d{5}")


class TemplateLimitError(TemplateRuntimeError):
    """The template asks for more than rendering one conversation may cost."""


class LimitedTemplate(Template):
    """A template whose every rendering starts with a whole budget."""

    def new_context(self, *arguments: Any, **options: Any) -> Context:
        self.environment.start_budget()  # type: ignore[attr-defined]
        return super().new_context(*arguments, **options)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, in which costs are counted. Made like another one, whose filters and globals it takes over."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})
    template_class = LimitedTemplate

    def __init__(self, other: ImmutableSandboxedEnvironment) -> None:
        super().__init__(
            trim_blocks=other.trim_blocks, lstrip_blocks=other.lstrip_blocks, finalize=self.finish_output,
            extensions=[type(extension) for extension in other.extensions.values()],
        )  # fmt: skip
        self.globals = {name: value for name, value in other.globals.items() if name != "lipsum"}
        self.filters = {name: self.limit_filter(name, f) for name, f in other.filters.items() if name != "urlize"}
        self.filters["sum"] = self.limit_filter("sum", self.add_up)
        self.tests = {name: self.limit_test(cast("Callable[..., Any]", f)) for name, f in other.tests.items()}
        self.start_budget()

    def start_budget(self) -> None:
        """Allow the costs of one conversation."""
        self.steps, self.total = MAX_STEPS, MAX_TOTAL
        self.deadline = time.monotonic() + MAX_SECONDS

    def spend(self) -> None:
        """Count one step."""
        self.steps -= 1
        if self.steps < 0:
            raise TemplateLimitError(f"it takes more than {MAX_STEPS:,} steps for one conversation")
        self.look_at_clock(None)

    def look_at_clock(self, value: Any) -> Any:
        """The value, after a look at the clock."""
        if time.monotonic() > self.deadline:
            raise TemplateLimitError(f"it takes more than {MAX_SECONDS:g} seconds for one conversation")
        return value

    def charge(self, size: int) -> None:
        """Count what is about to be made."""
        self.total -= size
        if self.total < 0 or size > MAX_SIZE:
            raise TemplateLimitError("it makes texts or lists that are too large")

    def weigh(self, value: Any) -> Any:
        """The value, of which it is known that with all that is in it it isn't too large."""
        self.charge(measure(value))
        return value

    finish_output = weigh

    def concat(self, parts: Iterable[str]) -> str:
        """The parts of an output as one text."""
        found, size = [], 0
        for part in parts:
            size += len(part)
            if size > MAX_SIZE:
                break
            found.append(part)
        self.charge(size)
        return "".join(found)

    def join_texts(self, *values: Any) -> str:
        """What `a ~ b` is."""
        self.charge(sum(map(measure, values)))
        return "".join(map(str, values))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            self.check_multiplied("%", left, (right,))
        elif operator == "+":
            self.charge(0 if isinstance(left, int) else measure(left) + measure(right))
        elif operator == "*":
            self.check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_bits(left.bit_length() * abs(right))
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return super().getattr(self.look_at_clock(obj), attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return super().getitem(self.look_at_clock(obj), argument)

    def add_up(self, values: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
        """Jinja's `sum`, which also joins lists: each sum is one more of them."""
        find = None if attribute is None else make_attrgetter(self, attribute)
        for value in values:
            found = value if find is None else find(value)
            self.charge(measure(start) + measure(found))
            start = self.look_at_clock(start) + found
        return start

    def check_product(self, left: Any, right: Any) -> None:
        """Whether a repetition or a product may be made."""
        if isinstance(left, int) and isinstance(right, int):
            check_bits(left.bit_length() + right.bit_length())
            return
        for repeated, count in ((left, right), (right, left)):
            if isinstance(count, int):
                self.charge(max(measure(repeated), 1) * max(count, 0))

    def check_multiplied(self, name: str, value: Any, arguments: Iterable[Any]) -> None:
        """Whether something may be made that holds its arguments once for each character of a text."""
        arguments = tuple(arguments)
        if isinstance(value, str) and name in ("%", "format", "format_map") and WIDE_FORMAT.search(value):
            raise TemplateLimitError("it pads texts to a width that is too large")
        places = value.count("%") + value.count("{") if isinstance(value, str) and "format" in name else measure(value)
        places = value.count("%") if name == "%" else places
        numbers = sum(argument for argument in arguments if isinstance(argument, int) and argument > 0)
        self.charge(measure(value) + (places + 1) * (sum(map(measure, arguments)) + numbers))

    def check_arguments(self, name: str, value: Any, arguments: Iterable[Any]) -> None:
        """Whether a filter or a method may be called."""
        arguments = tuple(arguments)
        if any(isinstance(argument, int) and argument > MAX_COUNT for argument in arguments):
            raise TemplateLimitError(f"it gives {name} a number above {MAX_COUNT:,}")
        if name in MULTIPLYING:
            self.check_multiplied(name, value, arguments)
        else:
            self.charge(measure(value) + sum(map(measure, arguments)))

    def limit_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The filter, which looks at what it is given before it begins."""

        @functools.wraps(function)
        def limited(*arguments: Any, **options: Any) -> Any:
            first = 1 if hasattr(function, "jinja_pass_arg") else 0
            self.look_at_clock(None)
            given = [list(each) if is_lazy(each) else each for each in arguments[first:]]
            if name == "int" and given and isinstance(given[0], str | bytes):
                check_bits(BITS_A_DIGIT * len(given[0]))
            if name not in FREE_FILTERS and given:
                self.check_arguments(name, given[0], (*given[1:], *options.values()))
            return function(*arguments[:first], *given, **options)

        return limited

    def limit_test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The test, which looks at the clock before it begins: `select` and `reject` call it for each value."""

        @functools.wraps(function)
        def limited(*arguments: Any, **options: Any) -> Any:
            self.look_at_clock(None)
            return function(*arguments, **options)

        return limited

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if getattr(__obj, "__self__", None) is __self:  # one of the calls that count
            return __obj(*args)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `str.format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int | float):
            args = tuple(list(each) if is_lazy(each) else each for each in args)
            __self.check_arguments(method.__name__, owner, (*args, *kwargs.values()))
        elif args or kwargs:
            if owner is int:  # its `from_bytes`
                check_bits(8 * sum(map(measure, (*args, *kwargs.values()))))
            __self.charge(sum(map(measure, (*args, *kwargs.values()))))
        return super().call(__context, __obj, *args, **kwargs)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise TemplateSyntaxError(f"more than {MAX_TEMPLATE_CHARACTERS:,} characters", 1)
        tree = super()._parse(source, name, filename)
        counted = _Counter().visit(tree)
        counted.set_environment(self)
        return counted


class _Counter(NodeTransformer):
    """Puts the calls that count costs into a parsed template."""

    def visit(self, node: nodes.Node, *arguments: Any, **options: Any) -> Any:
        self.generic_visit(node)
        match node:
            case nodes.For() | nodes.Macro() | nodes.CallBlock():
                node.body.insert(0, nodes.ExprStmt(make_call("spend", [], node.lineno), lineno=node.lineno))
            case nodes.Concat():
                return make_call("join_texts", node.nodes, node.lineno)
            case nodes.Compare() | nodes.Test():
                return make_call("look_at_clock", [node], node.lineno)
            case nodes.Getitem(arg=nodes.Slice()):
                return make_call("weigh", [node], node.lineno)
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load") if not is_constant(node):
                return make_call("weigh", [node], node.lineno)
        return node


def is_constant(node: nodes.Node) -> bool:
    """Whether a literal holds nothing that is only known later."""
    return all(isinstance(child, nodes.Const) or is_constant_pair(child) for child in node.iter_child_nodes())


def is_constant_pair(node: nodes.Node) -> bool:
    """Whether this is a key with its value in a literal, both known."""
    return isinstance(node, nodes.Pair) and isinstance(node.value, nodes.Const) and isinstance(node.key, nodes.Const)


def make_call(name: str, arguments: list[Any], line: int) -> nodes.Call:
    """A call of the environment, which a template can't reach by any name of its own."""
    return nodes.Call(nodes.EnvironmentAttribute(name, lineno=line), arguments, [], None, None, lineno=line)


def measure(value: Any) -> int:
    """What a value counts, see `MAX_SIZE`; counting stops once it is more than that."""
    if isinstance(value, str | bytes):
        return len(value)
    total, waiting = 0, [value]
    while waiting and total <= MAX_SIZE:
        each = waiting.pop()
        if isinstance(each, str | bytes):
            total += len(each)
        elif isinstance(each, dict):
            total += 2 * ENTRY_SIZE * len(each)
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list | tuple):
            total += ENTRY_SIZE * len(each)
            waiting += each
    return total


def is_lazy(value: Any) -> bool:
    """Whether its entries are only made when they are asked for."""
    return hasattr(value, "__next__")


def check_bits(bits: int) -> None:
    """Whether a whole number may be made."""
    if bits > MAX_BITS:
        raise TemplateLimitError("it makes numbers that are too large")


@functools.cache
def limit_templates() -> Callable[[str], Template]:
    """Make transformers render templates in the limited sandbox, from now on and for all of this process.

    Its function that makes a template of a text is the one place through which all of them go. Gives that function.
    """
    from transformers.utils import chat_template_utils

    compile_theirs = chat_template_utils._compile_jinja_template
    environment_of_theirs = compile_theirs("").environment

    @functools.lru_cache
    def compile_limited(text: str) -> Template:
        # An environment of its own for each, since a budget is one environment's.
        return LimitedEnvironment(environment_of_theirs).from_string(text)

    chat_template_utils._compile_jinja_template = compile_limited
    return cast("Callable[[str], Template]", compile_theirs)
