"""Python, TypeScript, JavaScript, Ruby and PHP."""

from pytest_agentperf.dataset.synth.syntax import Syntax, table

PYTHON = Syntax(
    "Python",
    "py",
    "snake",
    "    ",
    table(r'''
path: src/@p@/@a@/@m@.py
test_path: tests/@a@/test_@m@.py
manifest: pyproject.toml
comment: # @x@
doc: """@x@"""
doc_inside: yes
head: """@x@"""\n\nfrom __future__ import annotations\n\nimport logging\nfrom dataclasses import dataclass, field\nfrom typing import Any
import: from @p@.@a@.@m@ import @s@
after_imports: \nlogger = logging.getLogger(__name__)
const: @n@ = @e@
first_items: field(default_factory=list)
first_map: field(default_factory=dict)
class: @dataclass(slots=True)\nclass @c@:
field: \t@n@: @y@ = @z@
after_fields: 
class_end: 
method: def @n@(@q@) -> @r@:
param: @v@: @y@
function: def @n@(@q@) -> @r@:
end: 
let: @v@ = @e@
set: @v@ = @e@
inc: @v@ += @e@
if: if @c@:
else: else:
each: for @v@ in @l@:
while: while @c@:
raise: raise ValueError(f"@x@: {@v@}")
log: logger.debug("@x@: %s", @v@)
ret: return @e@
push: @l@.append(@e@)
has: @k@ in @m@
get: @m@.get(@k@)
put: @m@[@k@] = @e@
size: len(@l@)
own: self.@f@
of: @v@.@f@
call: self.@f@(@x@)
free: @f@(@x@)
try: try:
catch: except (KeyError, ValueError) as error:
not: not @c@
and:  and 
or:  or 
isnull: @v@ is None
null: None
yes: True
no: False
new: @c@(@x@)
interpolate: f"@x@:{@v@}"
empty: []
comprehend: [@v@ for @v@ in @l@ if @c@]
int: int
text: str
bool: bool
items: list[@y@]
map: dict[str, @y@]
test_head: from __future__ import annotations\n\nimport pytest\n\nfrom @p@.@a@.@m@ import @s@
test: def test_@n@() -> None:
equal: assert @a@ == @b@
test_close: 
test_end: 
run_cmd: python -m pytest -q @f@
run_head: ============================= test session starts ==============================\nplatform linux -- Python 3.12.4, pytest-8.2.2, pluggy-1.5.0\nrootdir: @root@\nconfigfile: pyproject.toml\ncollected @k@ items\n
run_ok: @f@::test_@n@ PASSED
run_bad: @f@::test_@n@ FAILED
block: ______________________ test_@n@ ______________________\n\n>       assert @a@ == @b@\nE       AssertionError: assert @got@ == @want@\nE        +  where @got@ = @a@\n\n@f@:@l@: AssertionError
run_sum: =========================== @q@ failed, @good@ passed in @s@.@ms@s ===========================
trace_head: Traceback (most recent call last):
trace:   File "@root@/@f@", line @l@, in @n@\n    @x@
trace_end: ValueError: @x@
build_cmd: mypy src && ruff check src tests
diagnostic: @f@:@l@: @k@: @x@  [@code@]
build_ok: Success: no issues found in @k@ source files
'''),
)

TYPESCRIPT = Syntax(
    "TypeScript",
    "ts",
    "camel",
    "  ",
    table(r"""
path: packages/@a@/src/@m@.ts
test_path: packages/@a@/test/@m@.test.ts
manifest: package.json
comment: // @x@
doc: /** @x@ */
head: // @x@\nimport { z } from "zod"
import: import { @s@ } from "../../@a@/src/@m@"
after_imports: import { logger } from "../../core/src/logger"
const: export const @n@ = @e@
first_map: new Map()
class: export class @c@ {
field: \tprivate @n@: @y@ = @z@
after_fields: 
class_end: }
method: @n@(@q@): @r@ {
param: @v@: @y@
function: export function @n@(@q@): @r@ {
end: }
let: const @v@ = @e@
set: @v@ = @e@
inc: @v@ += @e@
if: if (@c@) {
else: } else {
each: for (const @v@ of @l@) {
while: while (@c@) {
raise: throw new RangeError(`@x@: ${@v@}`)
log: logger.debug({ value: @v@ }, "@x@")
ret: return @e@
push: @l@.push(@e@)
has: @m@.has(@k@)
get: @m@.get(@k@)
put: @m@.set(@k@, @e@)
size: @l@.length
own: this.@f@
of: @v@.@f@
call: this.@f@(@x@)
free: @f@(@x@)
try: try {
catch: } catch (error) {
not: !@c@
and:  && 
or:  || 
isnull: @v@ === undefined
null: undefined
yes: true
no: false
new: new @c@(@x@)
interpolate: `@x@:${@v@}`
empty: []
comprehend: @l@.filter((@v@) => @c@)
int: number
text: string
bool: boolean
items: @y@[]
map: Map<string, @y@>
test_head: import { describe, expect, it } from "vitest"\n\nimport { @s@ } from "../src/@m@"
test: it("@w@", () => {
equal: expect(@a@).toEqual(@b@)
test_close: })
test_end: 
run_cmd: npx vitest run @f@
run_head:  RUN  v1.6.0 @root@\n
run_ok:    ✓ @w@ @ms@ms
run_bad:    × @w@ @ms@ms
block:  FAIL  @f@ > @w@\nAssertionError: expected @got@ to deeply equal @want@\n\n- Expected\n+ Received\n\n- @want@\n+ @got@\n\n ❯ @f@:@l@:22\n     @l@|   expect(@a@).toEqual(@b@)\n       |                      ^
run_sum:  Test Files  1 failed (1)\n      Tests  @q@ failed | @good@ passed\n   Duration  @s@.@ms@s
trace_head: Error: unhandled rejection
trace:     at @n@ (@root@/@f@:@l@:17)
trace_end: RangeError: @x@
build_cmd: npx tsc --noEmit -p . && npx eslint packages
diagnostic: @f@(@l@,13): @k@ TS@code@: @x@
build_ok: Found 0 errors. Checked @k@ files.
"""),
)

JAVASCRIPT = Syntax(
    "JavaScript",
    "js",
    "camel",
    "  ",
    TYPESCRIPT.rows
    | table(r"""
path: lib/@a@/@m@.js
test_path: test/@a@/@m@.test.js
head: "use strict"\n\n// @x@\nconst assert = require("node:assert")
import: const { @s@ } = require("../@a@/@m@")
after_imports: const debug = require("debug")("@p@:@a@")
const: const @n@ = @e@
class: class @c@ {
field: \t#@n@ = @z@
class_end: }\n\nmodule.exports = { @c@ }
method: @n@(@q@) {
param: @v@
function: function @n@(@q@) {
log: debug("@x@ %o", @v@)
own: this.#@f@
isnull: @v@ == null
test_head: const { test } = require("node:test")\nconst assert = require("node:assert")\n\nconst { @s@ } = require("../../lib/@a@/@m@")
test: test("@w@", () => {
equal: assert.deepStrictEqual(@a@, @b@)
run_cmd: node --test @f@
run_head: TAP version 13\n# Subtest: @f@
run_ok: ok @k@ - @w@\n  ---\n  duration_ms: @s@.@ms@\n  ...
run_bad: not ok @k@ - @w@\n  ---\n  duration_ms: @s@.@ms@\n  failureType: 'testCodeFailure'\n  ...
block:   error: |-\n    Expected values to be strictly deep-equal:\n    + actual - expected\n    \n    + @got@\n    - @want@\n  code: 'ERR_ASSERTION'\n  stack: |-\n    TestContext.<anonymous> (@root@/@f@:@l@:10)\n    Test.runInAsyncScope (node:async_hooks:206:9)
run_sum: # tests @k@\n# fail @q@\n# duration_ms @s@.@ms@
build_cmd: npm run lint
diagnostic: @root@/@f@\n  @l@:7  @k@  @x@  no-@code@
build_ok: @k@ files checked, no problems
"""),
)

RUBY = Syntax(
    "Ruby",
    "rb",
    "snake",
    "  ",
    table(r"""
path: lib/@p@/@a@/@m@.rb
test_path: spec/@a@/@m@_spec.rb
manifest: Gemfile
comment: # @x@
doc: # @x@
head: # frozen_string_literal: true\n\n# @x@\nrequire "json"\nrequire "logger"
import: require_relative "../@a@/@m@" # @s@
after_imports: 
const: @n@ = @e@
class: class @c@
field: \tattr_accessor :@n@ # @y@, @z@ at first
after_fields: 
class_end: end
method: def @n@(@q@)
param: @v@
function: def self.@n@(@q@)
end: end
let: @v@ = @e@
set: @v@ = @e@
inc: @v@ += @e@
if: if @c@
else: else
each: @l@.each do |@v@|
while: while @c@
raise: raise ArgumentError, "@x@: #{@v@}"
log: logger.debug { "@x@: #{@v@}" }
ret: return @e@
push: @l@ << @e@
has: @m@.key?(@k@)
get: @m@.fetch(@k@, nil)
put: @m@[@k@] = @e@
size: @l@.size
own: @@f@
of: @v@.@f@
call: @f@(@x@)
free: @f@(@x@)
try: begin
catch: rescue KeyError, ArgumentError => e
not: !@c@
and:  && 
or:  || 
isnull: @v@.nil?
null: nil
yes: true
no: false
new: @c@.new(@x@)
interpolate: "@x@:#{@v@}"
empty: []
comprehend: @l@.select { |@v@| @c@ }
int: Integer
text: String
bool: Boolean
items: Array<@y@>
map: Hash<String, @y@>
test_head: # frozen_string_literal: true\n\nrequire "spec_helper"\nrequire "@p@/@a@/@m@" # @s@
test: it "@w@" do
equal: expect(@a@).to eq(@b@)
test_close: end
test_end: 
run_cmd: bundle exec rspec @f@
run_head: Randomized with seed @k@\n
run_ok:   @w@
run_bad:   @w@ (FAILED - @q@)
block:   @q@) @w@\n     Failure/Error: expect(@a@).to eq(@b@)\n\n       expected: @want@\n            got: @got@\n\n       (compared using ==)\n     # ./@f@:@l@:in `block (3 levels) in <top (required)>'
run_sum: Finished in @s@.@ms@ seconds (files took 0.41 seconds to load)\n@k@ examples, @q@ failures
trace_head: bundler: failed to load command: @p@
trace: @root@/@f@:@l@:in `@n@'
trace_end: ArgumentError: @x@
build_cmd: bundle exec rubocop
diagnostic: @f@:@l@:5: @k@: Style/@code@: @x@
build_ok: @k@ files inspected, no offenses detected
"""),
)

PHP = Syntax(
    "PHP",
    "php",
    "camel",
    "    ",
    table(r"""
path: src/@a_type@/@t@.php
test_path: tests/@a_type@/@t@Test.php
manifest: composer.json
comment: // @x@
doc: /** @x@ */
head: <?php\n\ndeclare(strict_types=1);\n\n// @x@\nnamespace App\@a_type@;
import: use App\@a_type@\@t@; // @s@
after_imports: use Psr\Log\LoggerInterface;
const: const @n@ = @e@;
class: final class @c@\n{
field: \tprivate @y@ $@n@ = @z@;
after_fields: 
class_end: }
method: public function @n@(@q@): @r@ {
param: @y@ $@v@
function: function @n@(@q@): @r@ {
end: }
let: $@v@ = @e@;
set: @v@ = @e@;
inc: @v@ += @e@;
if: if (@c@) {
else: } else {
each: foreach (@l@ as $@v@) {
while: while (@c@) {
raise: throw new \RuntimeException("@x@: {@v@}");
log: $this->logger->debug("@x@", ["value" => @v@]);
ret: return @e@;
push: @l@[] = @e@;
has: isset(@m@[@k@])
get: @m@[@k@] ?? null
put: @m@[@k@] = @e@;
size: count(@l@)
own: $this->@f@
of: @v@->@f@
call: $this->@f@(@x@)
free: @f@(@x@)
try: try {
catch: } catch (\InvalidArgumentException $error) {
not: !@c@
and:  && 
or:  || 
isnull: @v@ === null
null: null
yes: true
no: false
new: new @c@(@x@)
interpolate: "@x@:{@v@}"
empty: []
comprehend: array_filter(@l@, fn ($@v@) => @c@)
int: int
text: string
bool: bool
items: array
map: array
test_head: <?php\n\ndeclare(strict_types=1);\n\nuse App\@a_type@\@t@; // @s@\nuse PHPUnit\Framework\TestCase;\n\nfinal class @t@Test extends TestCase\n{
test: public function test@n_type@(): void {
equal: self::assertSame(@b@, @a@);
test_close: }
test_end: }
run_cmd: vendor/bin/phpunit --testdox @f@
run_head: PHPUnit 11.2.5 by Sebastian Bergmann and contributors.\n\nRuntime: PHP 8.3.8\n
run_ok:  ✔ @w@
run_bad:  ✘ @w@
block: @q@) @t@Test::test@n_type@\nFailed asserting that @got@ is identical to @want@.\n\n@root@/@f@:@l@
run_sum: Time: 00:0@s@.@ms@, Memory: 14.00 MB\n\nTests: @k@, Failures: @q@.
trace_head: PHP Fatal error:  Uncaught RuntimeException
trace: #@k@ @root@/@f@(@l@): @n@()
trace_end: RuntimeException: @x@
build_cmd: vendor/bin/phpstan analyse src
diagnostic:  @l@  @x@ (@k@, @code@) in @f@
build_ok:  [OK] No errors in @k@ files
"""),
)

SCRIPTING = (PYTHON, TYPESCRIPT, JAVASCRIPT, RUBY, PHP)
