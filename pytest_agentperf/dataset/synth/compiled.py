"""Go, Rust, C, C++ and Swift."""

from pytest_agentperf.dataset.synth.syntax import Syntax, table

GO = Syntax(
    "Go",
    "go",
    "pascal",
    "\t",
    table(r"""
path: internal/@a@/@m@.go
test_path: internal/@a@/@m@_test.go
manifest: go.mod
comment: // @x@
doc: // @x@
head: // Package @a@ @x@\npackage @a@\n\nimport (\n\t"context"\n\t"errors"\n\t"fmt"\n\t"log/slog"\n)
import: import "example.org/@p@/internal/@a@" // @s@
after_imports: 
const: const @n@ = @e@
class: type @c@ struct {
field: \t@n@ @y@ // @z@
after_fields: }
class_end: 
method: func (s *@c@) @n@(@q@) @r@ {
param: @v@ @y@
function: func @n@(@q@) @r@ {
end: }
let: @v@ := @e@
set: @v@ = @e@
inc: @v@ += @e@
if: if @c@ {
else: } else {
each: for _, @v@ := range @l@ {
while: for @c@ {
raise: panic(fmt.Errorf("@x@: %v", @v@))
log: slog.Debug("@x@", "value", @v@)
ret: return @e@
push: @l@ = append(@l@, @e@)
has: contains(@m@, @k@)
get: @m@[@k@]
put: @m@[@k@] = @e@
size: len(@l@)
own: s.@f@
of: @v@.@f@
call: s.@f@(@x@)
free: @f@(@x@)
try: if err := s.lock(ctx); err == nil {
catch: } else if errors.Is(err, context.Canceled) {
not: !@c@
and:  && 
or:  || 
isnull: @v@ == nil
null: nil
yes: true
no: false
new: New@c@(@x@)
interpolate: fmt.Sprintf("@x@:%v", @v@)
empty: nil
comprehend: filter(@l@, func(@v@ Item) bool { return @c@ })
int: int
text: string
bool: bool
items: []@y@
map: map[string]@y@
test_head: package @a@\n\nimport (\n\t"testing"\n\n\t"github.com/google/go-cmp/cmp"\n) // @s@
test: func Test@n_type@(t *testing.T) {
equal: if diff := cmp.Diff(@b@, @a@); diff != "" {\n\t\tt.Errorf("mismatch (-want +got):\n%s", diff)\n\t}
test_close: }
test_end: 
run_cmd: go test ./@d@/... -run . -v
run_head: === RUN   TestMain
run_ok: --- PASS: Test@n_type@ (0.@ms@s)
run_bad: --- FAIL: Test@n_type@ (0.@ms@s)
block:     @m@_test.go:@l@: mismatch (-want +got):\n          int(\n        - \t@want@,\n        + \t@got@,\n          )
run_sum: FAIL\nFAIL	example.org/@p@/internal/@a@	@s@.@ms@s
trace_head: panic: runtime error: index out of range\n\ngoroutine 18 [running]:
trace: example.org/@p@.(*Server).@n@(0xc0000b4000)\n\t@root@/@f@:@l@ +0x1c4
trace_end: exit status 2: @x@
build_cmd: go build ./... && go vet ./...
diagnostic: @f@:@l@:9: @x@ (@code@, @k@)
build_ok: ok  	example.org/@p@/...	@k@ packages
"""),
)

RUST = Syntax(
    "Rust",
    "rs",
    "snake",
    "    ",
    table(r"""
path: crates/@a@/src/@m@.rs
test_path: crates/@a@/tests/@m@.rs
manifest: Cargo.toml
comment: // @x@
doc: /// @x@
head: //! @x@\n\nuse std::collections::HashMap;\nuse std::time::Duration;\n\nuse anyhow::{bail, Context, Result};
import: use crate::@a@::@m@::@s@;
after_imports: use tracing::debug;
const: pub const @n@: u64 = @e@;
class: #[derive(Debug, Clone)]\npub struct @c@ {
field: \tpub @n@: @y@, // @z@
after_fields: }\n\nimpl @c@ {
class_end: }
method: pub fn @n@(&mut self, @q@) -> Result<@r@> {
param: @v@: @y@
function: pub fn @n@(@q@) -> Result<@r@> {
end: }
let: let mut @v@ = @e@;
set: @v@ = @e@;
inc: @v@ += @e@;
if: if @c@ {
else: } else {
each: for @v@ in @l@.iter() {
while: while @c@ {
raise: bail!("@x@: {:?}", @v@);
log: debug!(value = ?@v@, "@x@");
ret: return Ok(@e@);
push: @l@.push(@e@);
has: @m@.contains_key(&@k@)
get: @m@.get(&@k@).copied().unwrap_or_default()
put: @m@.insert(@k@, @e@);
size: @l@.len()
own: self.@f@
of: @v@.@f@
call: self.@f@(@x@)?
free: @f@(@x@)?
try: if let Some(guard) = self.guard.as_ref() {
catch: } else if cfg!(debug_assertions) {
not: !@c@
and:  && 
or:  || 
isnull: @v@.is_none()
null: None
yes: true
no: false
new: @c@::new(@x@)
interpolate: format!("@x@:{}", @v@)
empty: Vec::new()
comprehend: @l@.iter().filter(|@v@| @c@).cloned().collect::<Vec<_>>()
int: u64
text: String
bool: bool
items: Vec<@y@>
map: HashMap<String, @y@>
test_head: use @p@_@a@::@m@::@s@;
test: #[test]\nfn @n@() {
equal: assert_eq!(@a@, @b@);
test_close: }
test_end: 
run_cmd: cargo test -p @a@ --test @m@
run_head:    Compiling @p@-@a@ v0.4.2 (@root@/crates/@a@)\n    Finished `test` profile [unoptimized + debuginfo] target(s) in @s@.@ms@s\n     Running tests/@m@.rs (target/debug/deps/@m@-@h@)\n
run_ok: test @n@ ... ok
run_bad: test @n@ ... FAILED
block: ---- @n@ stdout ----\nthread '@n@' panicked at @f@:@l@:5:\nassertion `left == right` failed\n  left: @got@\n right: @want@\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
run_sum: test result: FAILED. @good@ passed; @q@ failed; 0 ignored; 0 measured; 0 filtered out; finished in @s@.@ms@s
trace_head: thread 'main' panicked:\nstack backtrace:
trace:   @k@: @p@::@m@::@n@\n             at ./@f@:@l@:13
trace_end: Error: @x@
build_cmd: cargo clippy --workspace --all-targets
diagnostic: @k@[E@code@]: @x@\n  --> @f@:@l@:17\n   |
build_ok:     Finished `dev` profile [unoptimized + debuginfo] target(s), @k@ crates checked
"""),
)

CPP = Syntax(
    "C++",
    "cpp",
    "camel",
    "  ",
    table(r"""
path: src/@a@/@m@.cpp
test_path: tests/@a@/@m@_test.cpp
manifest: CMakeLists.txt
comment: // @x@
doc: /// @x@
head: // @x@\n#include <algorithm>\n#include <optional>\n#include <stdexcept>\n#include <string>\n#include <vector>\n\n#include "@a@/@m@.h"
import: #include "@a@/@m@.h"  // @s@
after_imports: #include "core/logging.h"\n\nnamespace @p@ {
const: constexpr int @n@ = @e@;
class: class @c@ {\n public:
field: \t@y@ @n@_{};  // @z@
after_fields: 
class_end: };
method: @r@ @n@(@q@) {
param: const @y@& @v@
function: @r@ @n@(@q@) {
end: }
let: auto @v@ = @e@;
set: @v@ = @e@;
inc: @v@ += @e@;
if: if (@c@) {
else: } else {
each: for (const auto& @v@ : @l@) {
while: while (@c@) {
raise: throw std::invalid_argument(format("@x@: {}", @v@));
log: LOG_DEBUG("@x@: {}", @v@);
ret: return @e@;
push: @l@.push_back(@e@);
has: @m@.contains(@k@)
get: @m@.at(@k@)
put: @m@[@k@] = @e@;
size: @l@.size()
own: @f@_
of: @v@.@f@
call: @f@(@x@)
free: @f@(@x@)
try: try {
catch: } catch (const std::out_of_range& error) {
not: !@c@
and:  && 
or:  || 
isnull: @v@ == nullptr
null: nullptr
yes: true
no: false
new: std::make_unique<@c@>(@x@)
interpolate: format("@x@:{}", @v@)
empty: {}
comprehend: filtered(@l@, [&](const auto& @v@) { return @c@; })
int: std::size_t
text: std::string
bool: bool
items: std::vector<@y@>
map: std::unordered_map<std::string, @y@>
test_head: #include <gtest/gtest.h>\n\n#include "@a@/@m@.h"  // @s@\n\nnamespace @p@ {
test: TEST(@t@Test, @n_type@) {
equal: EXPECT_EQ(@a@, @b@);
test_close: }
test_end: }  // namespace @p@
run_cmd: cmake --build build -j4 && ctest --test-dir build --output-on-failure -R @m@
run_head: [ 14%] Building CXX object src/CMakeFiles/@p@.dir/@a@/@m@.cpp.o\n[100%] Linking CXX executable @m@_test\n[==========] Running @k@ tests from 1 test suite.
run_ok: [ RUN      ] @t@Test.@n_type@\n[       OK ] @t@Test.@n_type@ (@ms@ ms)
run_bad: [ RUN      ] @t@Test.@n_type@\n[  FAILED  ] @t@Test.@n_type@ (@ms@ ms)
block: @root@/@f@:@l@: Failure\nExpected equality of these values:\n  @a@\n    Which is: @got@\n  @b@\n    Which is: @want@\n
run_sum: [==========] @k@ tests ran. (@ms@ ms total)\n[  FAILED  ] @q@ tests, listed below
trace_head: ==4711==ERROR: AddressSanitizer: heap-buffer-overflow
trace:     #@k@ 0x@h@ in @p@::@n@ @root@/@f@:@l@
trace_end: terminate called after throwing: @x@
build_cmd: cmake --build build -j4
diagnostic: @root@/@f@:@l@:21: @k@: @x@ [-W@code@]
build_ok: [100%] Built target @p@ (@k@ objects)
"""),
)

C = Syntax(
    "C",
    "c",
    "snake",
    "    ",
    CPP.rows
    | table(r"""
path: src/@a@/@m@.c
test_path: tests/@a@/test_@m@.c
manifest: Makefile
comment: /* @x@ */
doc: /* @x@ */
head: /* @x@ */\n#include <errno.h>\n#include <stdbool.h>\n#include <stdlib.h>\n#include <string.h>
import: #include "@a@/@m@.h" /* @s@ */
after_imports: #include "core/log.h"
const: #define @n@ @e@
class: struct @c@ {
field: \t@y@ @n@; /* @z@ */
after_fields: };
class_end: 
method: @r@ @n@(struct @c@ *self, @q@)\n{
param: @y@ @v@
function: static @r@ @n@(@q@)\n{
let: size_t @v@ = @e@;
each: for (struct item *@v@ = @l@.head; @v@ != NULL; @v@ = @v@->next) {
raise: return fail(EINVAL, "@x@: %zu", @v@);
log: log_debug("@x@: %zu", @v@);
push: list_append(&@l@, @e@);
has: map_has(@m@, @k@)
get: map_get(@m@, @k@)
put: map_put(@m@, @k@, @e@);
size: list_size(&@l@)
own: self->@f@
of: @v@->@f@
call: @f@(self, @x@)
try: if (pthread_mutex_trylock(&self->lock) == 0) {
catch: } else if (errno != EBUSY) {
isnull: @v@ == NULL
null: NULL
new: @c@_new(@x@)
interpolate: key_of("@x@", @v@)
empty: {0}
comprehend: list_filter(&@l@, match_@v@, &(@c@))
int: size_t
text: const char *
bool: bool
items: struct list *
map: struct map *
test_head: #include "unity.h"\n\n#include "@a@/@m@.h" /* @s@ */
test: void test_@n@(void)\n{
equal: TEST_ASSERT_EQUAL_size_t(@b@, @a@);
test_end: 
run_cmd: make check TESTS=@m@
run_head: cc -O2 -g -Wall -Wextra -Iinclude -c src/@a@/@m@.c -o build/@a@/@m@.o\ncc -o build/test_@m@ build/test_@m@.o -lunity
run_ok: @f@:@l@:test_@n@:PASS
run_bad: @f@:@l@:test_@n@:FAIL: Expected @want@ Was @got@
block: @f@:@l@: in test_@n@: TEST_ASSERT_EQUAL_size_t(@b@, @a@)\n    expected @want@, was @got@
run_sum: -----------------------\n@k@ Tests @q@ Failures 0 Ignored\nFAIL
trace: #@k@  0x@h@ in @n@ (self=0x@h@) at @f@:@l@
trace_end: Program received signal SIGABRT: @x@
build_cmd: make -j4
build_ok: built @k@ objects
"""),
)

SWIFT = Syntax(
    "Swift",
    "swift",
    "camel",
    "    ",
    CPP.rows
    | table(r"""
path: Sources/@p_type@/@a_type@/@t@.swift
test_path: Tests/@p_type@Tests/@t@Tests.swift
manifest: Package.swift
head: // @x@\nimport Foundation\nimport OSLog
import: import struct @p_type@.@t@ // @s@
after_imports: private let logger = Logger(subsystem: "@p@", category: "@a@")
const: let @n@ = @e@
class: public final class @c@ {
field: \tpublic var @n@: @y@ = @z@
class_end: }
method: public func @n@(@q@) throws -> @r@ {
param: _ @v@: @y@
function: func @n@(@q@) throws -> @r@ {
let: let @v@ = @e@
set: @v@ = @e@
inc: @v@ += @e@
if: if @c@ {
each: for @v@ in @l@ {
while: while @c@ {
raise: throw Failure.invalid("@x@: \(@v@)")
log: logger.debug("@x@: \(@v@)")
ret: return @e@
push: @l@.append(@e@)
has: @m@.keys.contains(@k@)
get: @m@[@k@, default: 0]
put: @m@[@k@] = @e@
size: @l@.count
own: self.@f@
of: @v@.@f@
call: try self.@f@(@x@)
free: try @f@(@x@)
try: do {
catch: } catch let error as DecodingError {
isnull: @v@ == nil
null: nil
new: @c@(@x@)
interpolate: "@x@:\(@v@)"
empty: []
comprehend: @l@.filter { @v@ in @c@ }
int: Int
text: String
bool: Bool
items: [@y@]
map: [String: @y@]
test_head: import XCTest\n\n@testable import @p_type@ // @s@\n\nfinal class @t@Tests: XCTestCase {
test: func test@n_type@() throws {
equal: XCTAssertEqual(@a@, @b@)
test_end: }
run_cmd: swift test --filter @t@Tests
run_head: Building for debugging...\n[14/14] Compiling @p_type@Tests @t@Tests.swift\nBuild complete! (@s@.@ms@s)
run_ok: Test Case '@t@Tests.test@n_type@' passed (0.@ms@ seconds)
run_bad: Test Case '@t@Tests.test@n_type@' failed (0.@ms@ seconds)
block: @root@/@f@:@l@: error: @t@Tests.test@n_type@ : XCTAssertEqual failed: ("@got@") is not equal to ("@want@")
run_sum: Executed @k@ tests, with @q@ failures (0 unexpected) in 0.@ms@ seconds
trace_head: Fatal error: Unexpectedly found nil\nCurrent stack trace:
trace: @k@    @p_type@    0x@h@ @n@ + 412 at @f@:@l@
trace_end: error: Exited with unexpected signal code 5: @x@
build_cmd: swift build
diagnostic: @root@/@f@:@l@:18: @k@: @x@
build_ok: Build complete! @k@ files
"""),
)

COMPILED = (GO, RUST, CPP, C, SWIFT)
