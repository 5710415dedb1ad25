"""Source files of a made-up repository, built from constructs and written in any language's syntax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.synth.phrases import COMMENTS, DOCS, LOGS
from pytest_agentperf.dataset.synth.prose import Gaps, capitalised, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.dataset.synth.draw import Stream
    from pytest_agentperf.dataset.synth.syntax import Syntax


class Symbol(NamedTuple):
    """What other files import: a module's function or class, and where it lives."""

    name: str
    area: str
    module: str


class Outline(NamedTuple):
    """What is known of a file before its text exists: its place and its public names."""

    project: str
    area: str
    module: str
    fields: tuple[tuple[str, str], ...]
    functions: tuple[str, ...]
    imports: tuple[Symbol, ...]

    def gaps(self, syntax: Syntax) -> dict[str, str]:
        """Return the names that path and file templates ask for."""
        return {
            "p": self.project,
            "a": self.area,
            "m": self.module,
            "t": syntax.type_name(self.module),
            "a_type": syntax.type_name(self.area),
            "p_type": syntax.type_name(self.project),
        }


_EMPTY_VALUE = {"int": "0", "text": '""', "bool": "no", "items": "empty", "map": "empty"}
_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")


class CodeWriter:
    """Writes one file, line by line."""

    def __init__(self, syntax: Syntax, outline: Outline, words: Sequence[str], draw: Stream) -> None:
        self.lines: list[str] = []
        self._syntax = syntax
        self._outline = outline
        self._draw = draw
        self._words = words
        self._depth = 0
        self._numbers: list[str] = []
        self._lists: list[str] = []
        self._things: list[str] = []
        self._gaps = Gaps(
            {
                "noun": lambda: draw.pick(words),
                "field": lambda: draw.pick(outline.fields)[0],
                "fn": lambda: draw.pick(outline.functions),
                "n": lambda: str(draw.between(2, 900)),
            }
        )

    def write_file(self) -> list[str]:
        """Return the lines of a source file: imports, constants, a class and functions around it."""
        syntax, outline = self._syntax, self._outline
        self._add("head", x=self._sentence(DOCS), **outline.gaps(syntax))
        for symbol in outline.imports:
            gaps = outline._replace(area=symbol.area, module=symbol.module).gaps(syntax)
            self._add("import", s=syntax.function_name(symbol.name), **gaps)
        self._add("after_imports", **outline.gaps(syntax))
        self._blank()
        for field, kind in outline.fields:
            if kind == "int" and self._draw.chance(40):
                value = self._draw.pick((self._draw.between(1, 64), self._draw.between(1, 60) * 100))
                self._add("const", n=f"MAX_{field.upper()}", e=value)
        inside = len(outline.functions) * self._draw.between(5, 9) // 10
        self._write_class(outline.functions[:inside])
        for name in outline.functions[inside:]:
            self._blank()
            self._function("function", name)
        return self.lines

    def write_tests(self, cases: Sequence[str]) -> list[str]:
        """Return the lines of a test file with one test per case name."""
        syntax, outline = self._syntax, self._outline
        names = outline.gaps(syntax)
        self._add("test_head", s=syntax.type_name(outline.module), **names)
        for case in cases:
            self._blank()
            self._test(case, names)
        self._add("test_end", **names)
        return self.lines

    def _test(self, case: str, names: dict[str, str]) -> None:
        syntax, draw = self._syntax, self._draw
        self._numbers, self._lists, self._things = [], [], []
        self._add("test", n=case, n_type=syntax.type_name(case), w=case.replace("_", " "), **names)
        self._depth += 1
        subject = draw.pick(self._words)
        self._let(
            subject, syntax.write("new", c=syntax.type_name(self._outline.module), x=draw.between(1, 99))
        )
        self._things.append(subject)
        for _ in range(draw.between(1, 4)):
            draw.pick((self._let_number, self._let_call, self._let_list, self._comment))()
        for _ in range(draw.between(1, 3)):
            wanted = draw.pick((str(draw.between(0, 500)), self._number(), f'"{draw.pick(self._words)}"'))
            self._add("equal", a=self._member(), b=wanted)
        self._depth -= 1
        self._add("test_close")

    def write_function(self, name: str) -> list[str]:
        """Return the lines of one more function, as an agent would add it."""
        self._function("function", name)
        return self.lines

    def write_statements(self, count: int, depth: int) -> list[str]:
        """Return some statements, as an agent would insert them at a depth."""
        self._depth = depth
        self._numbers = [self._field("int")]
        self._lists = [self._field("items")]
        self._things = [self._draw.pick(self._words)]
        self._statements(count, 1)
        return self.lines

    def _sentence(self, templates: Sequence[str]) -> str:
        return capitalised(sentence(self._draw.pick(templates), self._draw, self._gaps))

    def _add(self, construct: str, **gaps: str | int) -> None:
        text = self._syntax.write(construct, **gaps)
        indent = self._syntax.indent * self._depth
        self.lines += (indent + line if line else line for line in text.split("\n"))

    def _blank(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def _write_class(self, methods: Sequence[str]) -> None:
        name = self._syntax.type_name(self._outline.module)
        self._blank()
        self._doc(DOCS)
        self._add("class", c=name)
        for field, kind in self._outline.fields:
            empty = f"first_{kind}" if f"first_{kind}" in self._syntax.rows else _EMPTY_VALUE[kind]
            value = self._syntax.write(empty) if empty in self._syntax.rows else empty
            self._add("field", n=self._syntax.variable_name(field), y=self._type(kind), z=value)
        if self._syntax.rows["after_fields"]:
            self._add("after_fields", c=name)
        self._depth += 0 if self._syntax.rows["class_end"] == "" and self._syntax.name != "Python" else 1
        for method in methods:
            self._blank()
            self._function("method", method)
        self._depth = 0
        if self._syntax.rows["class_end"]:
            self._add("class_end", c=name)

    def _doc(self, templates: Sequence[str]) -> None:
        if "doc_inside" not in self._syntax.rows and self._draw.chance(55):
            self._add("doc", x=self._sentence(templates))

    def _type(self, kind: str) -> str:
        inner = self._syntax.type_name(self._draw.pick(self._words))
        return self._syntax.write(kind, y=inner if kind == "items" else self._syntax.write("int"))

    def _function(self, construct: str, name: str) -> None:
        syntax, draw = self._syntax, self._draw
        self._doc(DOCS)
        chosen = draw.sample(self._words, draw.between(1, 3))
        kinds = [draw.pick(("int", "items", "text", "int")) for _ in chosen]
        self._numbers = [w for w, kind in zip(chosen, kinds, strict=True) if kind == "int"]
        self._lists = [w for w, kind in zip(chosen, kinds, strict=True) if kind == "items"]
        self._things = [w for w, kind in zip(chosen, kinds, strict=True) if kind == "text"]
        parameters = ", ".join(
            syntax.write("param", v=syntax.variable_name(w), y=self._type(kind))
            for w, kind in zip(chosen, kinds, strict=True)
        )
        result = draw.pick(("int", "items", "text", "bool"))
        if syntax.name == "Python" and construct == "method":
            parameters = f"self, {parameters}"
        self._add(
            construct,
            n=syntax.function_name(name),
            q=parameters,
            r=self._type(result),
            c=syntax.type_name(self._outline.module),
        )
        self._depth += 1
        if "doc_inside" in syntax.rows and draw.chance(55):
            self._add("doc", x=self._sentence(DOCS))
        self._statements(draw.between(3, 7), 0)
        self._add("ret", e=self._value(result))
        self._depth -= 1
        self._close()

    def _close(self) -> None:
        if self._syntax.rows["end"]:
            self._add("end")

    def _statements(self, count: int, nested: int) -> None:
        kinds: tuple[Callable[[], None], ...] = (
            self._let_number, self._let_call, self._let_list, self._let_get, self._set, self._increment,
            self._push, self._log, self._comment, self._put, self._let_text,
        )  # fmt: skip
        for _ in range(count):
            if nested < 3 and self._draw.chance(42 - 8 * nested):
                kind = self._draw.pick(("guard", "guard", "each", "each", "choice", "while", "try"))
                self._block(kind, nested)
            else:
                self._draw.pick(kinds)()

    def _block(self, kind: str, nested: int) -> None:
        draw = self._draw
        known = list(self._numbers), list(self._lists), list(self._things)
        if kind == "each":
            item = draw.pick(self._words)
            self._add("each", v=self._variable(item), l=self._list())
            self._things.append(item)
        elif kind == "try":
            self._add("try")
        elif kind == "while":
            self._add("while", c=self._condition())
        else:
            self._add("if", c=self._condition())
        self._depth += 1
        if kind == "guard":
            self._guard()
        else:
            self._statements(draw.between(1, 3), nested + 1)
        self._depth -= 1
        if kind in ("choice", "try"):
            self._add("else" if kind == "choice" else "catch")
            self._depth += 1
            self._statements(draw.between(1, 2), nested + 1)
            self._depth -= 1
        self._close()
        # Names made inside the block are not known after it.
        self._numbers, self._lists, self._things = known

    def _guard(self) -> None:
        if self._draw.chance(35):
            self._log()
        if self._draw.chance(50):
            self._add("raise", x=self._sentence(LOGS).lower(), v=self._number())
        else:
            self._add("ret", e=self._value(self._draw.pick(("int", "bool", "null"))))

    # Names and expressions.

    def _variable(self, name: str) -> str:
        written = self._syntax.variable_name(name)
        return f"${written}" if self._syntax.name == "PHP" and not written.startswith("$") else written

    def _field(self, kind: str) -> str:
        fitting = [name for name, its in self._outline.fields if its == kind]
        return self._draw.pick(fitting) if fitting else self._outline.fields[0][0]

    def _own(self, kind: str) -> str:
        return self._syntax.write("own", f=self._syntax.variable_name(self._field(kind)))

    def _list(self) -> str:
        if self._lists and self._draw.chance(60):
            return self._variable(self._draw.pick(self._lists))
        return self._own("items")

    def _member(self) -> str:
        if not self._things:
            return self._own("int")
        thing = self._variable(self._draw.pick(self._things))
        return self._syntax.write("of", v=thing, f=self._syntax.variable_name(self._field("int")))

    def _number(self) -> str:
        kind = self._draw.below(10)
        if kind < 4 and self._numbers:
            return self._variable(self._draw.pick(self._numbers))
        if kind < 6:
            return self._member()
        if kind < 8:
            return self._own("int")
        if kind == 8:
            return self._syntax.write("size", l=self._list())
        return str(self._draw.pick((0, 1, 2, self._draw.between(3, 99), self._draw.between(1, 90) * 100)))

    def _sum(self) -> str:
        if self._draw.chance(45):
            return self._number()
        left = self._number()
        right = self._other_than(left)
        return f"{left} {self._draw.pick('+-*/%+-')} {right}"

    def _other_than(self, number: str) -> str:
        other = self._number()
        return other if other != number else str(self._draw.between(1, 500))

    def _comparison(self) -> str:
        left = self._number()
        right = self._other_than(left)
        return f"{left} {self._draw.pick(_COMPARISONS)} {right}"

    def _condition(self) -> str:
        syntax, draw = self._syntax, self._draw
        kind = draw.below(10)
        if kind < 5:
            return self._comparison()
        if kind == 5:
            return syntax.write("has", k=self._key(), m=self._own("map"))
        if kind == 6:
            return syntax.write("not", c=self._own("bool"))
        if kind == 7:
            return syntax.write("isnull", v=self._member())
        joint = syntax.rows[draw.pick(("and", "or"))]
        return f"{self._comparison()}{joint}{self._own('bool')}"

    def _key(self) -> str:
        if self._draw.chance(50):
            return f'"{self._draw.pick(self._words)}"'
        return self._syntax.write("interpolate", x=self._draw.pick(self._words), v=self._number())

    def _value(self, kind: str) -> str:
        if kind == "int":
            return self._sum()
        if kind == "items":
            return self._list()
        if kind == "text":
            return self._syntax.write("interpolate", x=self._draw.pick(self._words), v=self._number())
        if kind == "bool":
            return self._condition() if self._draw.chance(50) else self._syntax.write("yes")
        return self._syntax.write("null")

    # Statements.

    def _let(self, name: str, expression: str) -> None:
        self._add("let", v=self._syntax.variable_name(name), e=expression)

    def _new_name(self) -> str:
        prefix = self._draw.pick(
            ("", "", "", "next_", "old_", "total_", "current_", "first_", "last_", "max_")
        )
        return prefix + self._draw.pick(self._words)

    def _let_number(self) -> None:
        name = self._new_name()
        self._let(name, self._sum())
        self._numbers.append(name)

    def _let_call(self) -> None:
        name = self._new_name()
        draw, syntax = self._draw, self._syntax
        arguments = ", ".join(self._number() for _ in range(draw.between(1, 2)))
        if self._outline.imports and draw.chance(45):
            called = draw.pick(self._outline.imports).name
            self._let(name, syntax.write("free", f=syntax.function_name(called), x=arguments))
        else:
            called = draw.pick(self._outline.functions)
            self._let(name, syntax.write("call", f=syntax.function_name(called), x=arguments))
        self._things.append(name)

    def _let_list(self) -> None:
        name = self._new_name() + "s"
        item = self._draw.pick(self._words)
        if self._draw.chance(40):
            self._let(name, self._syntax.write("empty"))
        else:
            self._things.append(item)
            condition = self._condition()
            source = self._list()
            self._let(
                name,
                self._syntax.write("comprehend", v=self._syntax.variable_name(item), l=source, c=condition),
            )
            self._things.pop()
        self._lists.append(name)

    def _let_get(self) -> None:
        name = self._new_name()
        self._let(name, self._syntax.write("get", m=self._own("map"), k=self._key()))
        self._numbers.append(name)

    def _let_text(self) -> None:
        name = self._draw.pick(("label", "key", "message", "path", "prefix", "reason"))
        self._let(name, self._value("text"))

    def _set(self) -> None:
        self._add("set", v=self._own("int"), e=self._sum())

    def _increment(self) -> None:
        self._add("inc", v=self._own("int"), e=self._number())

    def _push(self) -> None:
        self._add("push", l=self._list(), e=self._number())

    def _put(self) -> None:
        self._add("put", m=self._own("map"), k=self._key(), e=self._sum())

    def _log(self) -> None:
        self._add("log", x=self._sentence(LOGS).lower(), v=self._number())

    def _comment(self) -> None:
        self._add("comment", x=self._sentence(COMMENTS))
