"""Java, C#, Kotlin and Scala."""

from pytest_agentperf.dataset.synth.syntax import Syntax, table

JAVA = Syntax(
    "Java",
    "java",
    "camel",
    "    ",
    table(r"""
path: src/main/java/org/example/@p@/@a@/@t@.java
test_path: src/test/java/org/example/@p@/@a@/@t@Test.java
manifest: pom.xml
comment: // @x@
doc: /** @x@ */
head: package org.example.@p@.@a@;\n\n// @x@\nimport java.time.Instant;\nimport java.util.ArrayList;\nimport java.util.List;\nimport java.util.Map;\nimport java.util.Optional;
import: import org.example.@p@.@a@.@t@; // @s@
after_imports: import org.slf4j.Logger;\nimport org.slf4j.LoggerFactory;
const: static final int @n@ = @e@;
class: public final class @c@ {
field: \tprivate @y@ @n@ = @z@;
after_fields: 
class_end: }
method: public @r@ @n@(@q@) {
param: @y@ @v@
function: static @r@ @n@(@q@) {
end: }
let: var @v@ = @e@;
set: @v@ = @e@;
inc: @v@ += @e@;
if: if (@c@) {
else: } else {
each: for (var @v@ : @l@) {
while: while (@c@) {
raise: throw new IllegalArgumentException("@x@: " + @v@);
log: log.debug("@x@: {}", @v@);
ret: return @e@;
push: @l@.add(@e@);
has: @m@.containsKey(@k@)
get: @m@.get(@k@)
put: @m@.put(@k@, @e@);
size: @l@.size()
own: this.@f@
of: @v@.@f@()
call: @f@(@x@)
free: @f@(@x@)
try: try {
catch: } catch (IllegalStateException e) {
not: !@c@
and:  && 
or:  || 
isnull: @v@ == null
null: null
yes: true
no: false
new: new @c@(@x@)
interpolate: "@x@:" + @v@
empty: new ArrayList<>()
comprehend: @l@.stream().filter(@v@ -> @c@).toList()
int: int
text: String
bool: boolean
items: List<@y@>
map: Map<String, @y@>
test_head: package org.example.@p@.@a@;\n\nimport static org.junit.jupiter.api.Assertions.assertEquals;\n\nimport org.junit.jupiter.api.Test;\n\nclass @t@Test { // @s@
test: @Test\n\tvoid @n@() {
equal: assertEquals(@b@, @a@);
test_close: }
test_end: }
run_cmd: mvn -q -pl . test -Dtest=@t@Test
run_head: [INFO] -------------------------------------------------------\n[INFO]  T E S T S\n[INFO] -------------------------------------------------------\n[INFO] Running org.example.@p@.@a@.@t@Test
run_ok: [INFO] org.example.@p@.@a@.@t@Test.@n@ -- Time elapsed: 0.@ms@ s
run_bad: [ERROR] org.example.@p@.@a@.@t@Test.@n@ -- Time elapsed: 0.@ms@ s <<< FAILURE!
block: org.opentest4j.AssertionFailedError: expected: <@want@> but was: <@got@>\n\tat org.junit.jupiter.api.AssertionUtils.fail(AssertionUtils.java:39)\n\tat org.junit.jupiter.api.Assertions.assertEquals(Assertions.java:150)\n\tat org.example.@p@.@a@.@t@Test.@n@(@t@Test.java:@l@)
run_sum: [ERROR] Tests run: @k@, Failures: @q@, Errors: 0, Skipped: 0, Time elapsed: @s@.@ms@ s
trace_head: Exception in thread "main" java.lang.IllegalStateException
trace: 	at org.example.@p@.@a@.@t@.@n@(@t@.java:@l@)
trace_end: Caused by: java.lang.IllegalArgumentException: @x@
build_cmd: mvn -q -DskipTests package
diagnostic: [@k@] @root@/@f@:[@l@,17] @x@ (@code@)
build_ok: [INFO] BUILD SUCCESS, @k@ source files
"""),
)

CSHARP = Syntax(
    "C#",
    "cs",
    "pascal",
    "    ",
    JAVA.rows
    | table(r"""
path: src/@p_type@.@a_type@/@t@.cs
test_path: tests/@p_type@.@a_type@.Tests/@t@Tests.cs
manifest: Directory.Build.props
doc: /// <summary>@x@</summary>
head: // @x@\nusing System.Collections.Immutable;\nusing Microsoft.Extensions.Logging;
import: using @p_type@.@a_type@; // @s@
after_imports: \nnamespace @p_type@.@a_type@;
const: internal const int @n@ = @e@;
class: public sealed class @c@(ILogger<@c@> logger)\n{
class_end: }
method: public @r@ @n@(@q@)\n\t{
function: internal static @r@ @n@(@q@)\n\t{
each: foreach (var @v@ in @l@) {
raise: throw new ArgumentOutOfRangeException(nameof(@v@), $"@x@");
log: logger.LogDebug("@x@: {Value}", @v@);
push: @l@.Add(@e@);
has: @m@.ContainsKey(@k@)
get: @m@.GetValueOrDefault(@k@)
put: @m@[@k@] = @e@;
size: @l@.Count
own: _@f@
of: @v@.@f@
catch: } catch (InvalidOperationException error) {
isnull: @v@ is null
interpolate: $"@x@:{@v@}"
empty: []
comprehend: @l@.Where(@v@ => @c@).ToList()
text: string
bool: bool
map: Dictionary<string, @y@>
test_head: using Xunit;\n\nnamespace @p_type@.@a_type@.Tests; // @s@\n\npublic class @t@Tests\n{
test: [Fact]\n\tpublic void @n_type@()\n\t{
equal: Assert.Equal(@b@, @a@);
run_cmd: dotnet test tests/@p_type@.@a_type@.Tests --filter @t@Tests
run_head:   Determining projects to restore...\n  @p_type@.@a_type@ -> @root@/bin/Debug/net8.0/@p_type@.@a_type@.dll\nStarting test execution, please wait...
run_ok:   Passed @p_type@.@a_type@.Tests.@t@Tests.@n_type@ [@ms@ ms]
run_bad:   Failed @p_type@.@a_type@.Tests.@t@Tests.@n_type@ [@ms@ ms]
block:   Error Message:\n   Assert.Equal() Failure: Values differ\nExpected: @want@\nActual:   @got@\n  Stack Trace:\n     at @p_type@.@a_type@.Tests.@t@Tests.@n_type@() in @root@/@f@:line @l@
run_sum: Failed!  - Failed: @q@, Passed: @good@, Skipped: 0, Duration: @ms@ ms - @p_type@.@a_type@.Tests.dll (net8.0)
trace_head: Unhandled exception. System.InvalidOperationException: operation is not valid
trace:    at @p_type@.@a_type@.@t@.@n@() in @root@/@f@:line @l@
trace_end:  ---> System.ArgumentOutOfRangeException: @x@
build_cmd: dotnet build -warnaserror
diagnostic: @root@/@f@(@l@,21): @k@ CS@code@: @x@
build_ok: Build succeeded. 0 Warning(s), @k@ project(s)
"""),
)

KOTLIN = Syntax(
    "Kotlin",
    "kt",
    "camel",
    "    ",
    JAVA.rows
    | table(r"""
path: app/src/main/kotlin/@p@/@a@/@t@.kt
test_path: app/src/test/kotlin/@p@/@a@/@t@Test.kt
manifest: build.gradle.kts
head: package @p@.@a@\n\n// @x@\nimport java.time.Instant\nimport kotlinx.coroutines.flow.Flow
import: import @p@.@a@.@t@ // @s@
after_imports: import mu.KotlinLogging\n\nprivate val log = KotlinLogging.logger {}
const: const val @n@ = @e@
class: class @c@ {
field: \tprivate var @n@: @y@ = @z@
method: fun @n@(@q@): @r@ {
param: @v@: @y@
function: fun @n@(@q@): @r@ {
let: val @v@ = @e@
set: @v@ = @e@
inc: @v@ += @e@
each: for (@v@ in @l@) {
raise: throw IllegalArgumentException("@x@: $@v@")
log: log.debug { "@x@: $@v@" }
ret: return @e@
push: @l@ += @e@
has: @k@ in @m@
get: @m@[@k@]
put: @m@[@k@] = @e@
size: @l@.size
of: @v@.@f@
catch: } catch (e: IllegalStateException) {
new: @c@(@x@)
interpolate: "@x@:$@v@"
empty: mutableListOf()
comprehend: @l@.filter { @v@ -> @c@ }
int: Int
bool: Boolean
test_head: package @p@.@a@\n\nimport kotlin.test.Test\nimport kotlin.test.assertEquals\n\nclass @t@Test { // @s@
test: @Test\n\tfun `@w@`() {
equal: assertEquals(@b@, @a@)
run_cmd: ./gradlew :app:test --tests '*@t@Test'
run_head: > Task :app:compileKotlin UP-TO-DATE\n> Task :app:compileTestKotlin\n> Task :app:test
run_ok: @t@Test > @w@ PASSED
run_bad: @t@Test > @w@ FAILED
block:     org.opentest4j.AssertionFailedError: expected: <@want@> but was: <@got@>\n        at @p@.@a@.@t@Test.@w@(@t@Test.kt:@l@)
run_sum: @k@ tests completed, @q@ failed\n\nBUILD FAILED in @s@s
build_cmd: ./gradlew assemble detekt
diagnostic: @k@: file://@root@/@f@:@l@:9 @x@ [@code@]
build_ok: BUILD SUCCESSFUL, @k@ actionable tasks
"""),
)

SCALA = Syntax(
    "Scala",
    "scala",
    "camel",
    "  ",
    KOTLIN.rows
    | table(r"""
path: modules/@a@/src/main/scala/@p@/@a@/@t@.scala
test_path: modules/@a@/src/test/scala/@p@/@a@/@t@Spec.scala
manifest: build.sbt
head: package @p@.@a@\n\n// @x@\nimport scala.collection.mutable\nimport scala.concurrent.duration.*
after_imports: import com.typesafe.scalalogging.LazyLogging
const: val @n@ = @e@
class: final class @c@ extends LazyLogging {
method: def @n@(@q@): @r@ = {
function: def @n@(@q@): @r@ = {
each: @l@.foreach { @v@ =>
raise: throw new IllegalArgumentException(s"@x@: $@v@")
log: logger.debug(s"@x@: $@v@")
ret: @e@
has: @m@.contains(@k@)
get: @m@.getOrElse(@k@, 0)
put: @m@.update(@k@, @e@)
catch: } catch { case e: IllegalStateException =>
interpolate: s"@x@:$@v@"
empty: mutable.ListBuffer.empty
items: Seq[@y@]
map: Map[String, @y@]
test_head: package @p@.@a@\n\nimport munit.FunSuite\n\nclass @t@Spec extends FunSuite { // @s@
test: test("@w@") {
equal: assertEquals(@a@, @b@)
run_cmd: sbt "@a@/testOnly *@t@Spec"
run_head: [info] loading settings for project @a@ from build.sbt\n[info] compiling 3 Scala sources to @root@/target/scala-3.4.2/classes
run_ok:   + @w@ 0.@ms@s
run_bad: ==> X @p@.@a@.@t@Spec.@w@  0.@ms@s munit.ComparisonFailException
block: @f@:@l@\n    assertEquals(@a@, @b@)\nvalues are not the same\n=> Obtained\n@got@\n=> Diff (- obtained, + expected)\n-@got@\n+@want@
run_sum: [error] Failed: Total @k@, Failed @q@, Errors 0\n[error] (@a@ / Test / testOnly) sbt.TestsFailedException: Tests unsuccessful
build_cmd: sbt compile scalafmtCheck
diagnostic: [@k@] -- @root@/@f@:@l@:13\n[@k@]    |@x@ (@code@)
build_ok: [success] compiled @k@ sources
"""),
)

MANAGED = (JAVA, CSHARP, KOTLIN, SCALA)
