"""Java and C++ code for the demo dataset."""

from pytest_agentperf.dataset.demo.languages import Bug, Language

# fmt: off
# The templates are laid out by hand.

_EXACT = "the last @noun@ is left out when the sum reaches the limit exactly"
_TOO_MANY = "one @noun@ too many is taken, so the limit is exceeded"

JAVA = Language(
    name="Java",
    source_path="src/main/java/com/example/@project@/@Noun@Service.java",
    test_path="src/test/java/com/example/@project@/@Noun@ServiceTest.java",
    sibling_paths=(
        "pom.xml",
        "src/main/java/com/example/@project@/Settings.java",
        "src/main/java/com/example/@project@/Storage.java",
        "src/main/resources/application.yml",
        "src/main/java/com/example/@project@/Application.java",
    ),
    test_command="mvn -q test -Dtest=@Noun@ServiceTest",
    header="""package com.example.@project@;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Keeps the @noun@s of a tenant. */
public final class @Noun@Service {
    private static final Logger log = LoggerFactory.getLogger(@Noun@Service.class);
    static final int DEFAULT_LIMIT = @number@;

    public record @Noun@(String key, int @field@, Instant created, Map<String, String> labels) {}

    private final Storage storage;

    public @Noun@Service(Storage storage) {
        this.storage = storage;
    }
""",
    footer="}\n",
    functions=(
        """
    /** Returns at most {@code limit} @noun@s, the ones with the largest @field@ first. */
    public List<@Noun@> @verb@(List<@Noun@> items, int limit) {
        List<@Noun@> ordered = new ArrayList<>(items);
        ordered.sort(Comparator.comparingInt(@Noun@::@field@).reversed().thenComparing(@Noun@::key));
        if (ordered.size() > limit) {
            log.debug("dropping {} @noun@s above the limit", ordered.size() - limit);
            return ordered.subList(0, limit);
        }
        return ordered;
    }
""",
        """
    public Map<String, List<@Noun@>> @verb@ByLabel(List<@Noun@> items, String label) {
        Map<String, List<@Noun@>> groups = new TreeMap<>();
        for (@Noun@ item : items) {
            String value = item.labels().get(label);
            if (value != null) {
                groups.computeIfAbsent(value, key -> new ArrayList<>()).add(item);
            }
        }
        return groups;
    }
""",
        """
    public int @verb@All(int batch) throws StorageException {
        int handled = 0;
        for (@Noun@ row : storage.rows("@noun@", batch)) {
            if (Thread.currentThread().isInterrupted()) {
                log.warn("interrupted after {} @noun@s", handled);
                break;
            }
            storage.save(new @Noun@(row.key(), row.@field@() + 1, row.created(), row.labels()));
            handled++;
        }
        return handled;
    }
""",
        """
    boolean @verb@Since(@Noun@ item, Instant now, int hours) {
        Instant start = now.minus(Duration.ofHours(hours));
        return !item.created().isBefore(start) && item.created().isBefore(now) && item.@field@() > 0;
    }
""",
    ),
    buggy="""
    /** Takes @noun@s in order while their summed @field@ stays within the limit. */
    public List<@Noun@> @verb@Within(List<@Noun@> items, int limit) {
        List<@Noun@> taken = new ArrayList<>();
        int used = 0;
        for (@Noun@ item : items) {
@bug@
                break;
            }
            used += item.@field@();
            taken.add(item);
        }
        return taken;
    }
""",
    bugs=(
        Bug(
            "            if (used + item.@field@() >= limit) {",
            "            if (used + item.@field@() > limit) {",
            _EXACT,
        ),
        Bug("            if (used > limit) {", "            if (used + item.@field@() > limit) {", _TOO_MANY),
    ),
    test_header="""package com.example.@project@;

import static org.assertj.core.api.Assertions.assertThat;

import com.example.@project@.@Noun@Service.@Noun@;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class @Noun@ServiceTest {
    private final @Noun@Service service = new @Noun@Service(new MemoryStorage());

    private static List<@Noun@> make(int... values) {
        return IntStream.range(0, values.length)
            .mapToObj(n -> new @Noun@("k" + n, values[n], Instant.EPOCH, Map.of()))
            .toList();
    }
""",
    test="""
    @Test
    void @verb@KeepsOrder() {
        List<@Noun@> items = make(3, 1, 2, @number@);
        List<@Noun@> found = service.@verb@Within(items, @small@);
        assertThat(found).isEqualTo(items.subList(0, found.size()));
    }
""",
    failure="""[ERROR] Tests run: 8, Failures: 1, Errors: 0, Skipped: 0 <<< FAILURE!
[ERROR] @Noun@ServiceTest.@verb@ReachesLimit -- Time elapsed: 0.0@small@ s <<< FAILURE!
java.lang.AssertionError:

Expected size: 2 but was: @wrong_count@ in:
[@Noun@[key=k0, @field@=4, created=1970-01-01T00:00:00Z, labels={}]]
	at com.example.@project@.@Noun@ServiceTest.@verb@ReachesLimit(@Noun@ServiceTest.java:@test_line@)

[ERROR] Failures:
[ERROR]   @Noun@ServiceTest.@verb@ReachesLimit:@test_line@
[ERROR] Tests run: 8, Failures: 1, Errors: 0, Skipped: 0
""",
    trace="""Exception in thread "main" java.lang.IllegalStateException: @field@ exceeds limit @small@
	at com.example.@project@.@Noun@Service.@verb@Within(@Noun@Service.java:@bug_line@)
	at com.example.@project@.ReportBuilder.build(ReportBuilder.java:57)
	at com.example.@project@.Application.run(Application.java:83)
	at com.example.@project@.Application.main(Application.java:31)
""",
    passed="[INFO] Tests run: 8, Failures: 0, Errors: 0, Skipped: 0\n[INFO] BUILD SUCCESS\n",
)

CPP = Language(
    name="C++",
    source_path="src/@noun@.cpp",
    test_path="tests/@noun@_test.cpp",
    sibling_paths=(
        "CMakeLists.txt",
        "src/@noun@.hpp",
        "src/config.hpp",
        "src/storage.hpp",
        "src/storage.cpp",
        "src/main.cpp",
        "tests/CMakeLists.txt",
    ),
    test_command="ctest --test-dir build -R @noun@ --output-on-failure",
    header="""#include "@noun@.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage.hpp"

namespace @project@ {

namespace {
constexpr std::size_t kDefaultLimit = @number@;
}  // namespace
""",
    footer="\n}  // namespace @project@\n",
    functions=(
        """
// At most `limit` @noun@s, the ones with the largest @field@ first.
std::vector<@Noun@> @verb@_@noun@s(std::vector<@Noun@> items, std::size_t limit) {
  std::stable_sort(items.begin(), items.end(),
                   [](const @Noun@& a, const @Noun@& b) { return a.@field@ > b.@field@; });
  if (items.size() > limit) {
    items.erase(items.begin() + static_cast<std::ptrdiff_t>(limit), items.end());
  }
  return items;
}
""",
        """
std::map<std::string, std::vector<@Noun@>> @verb@_by_label(const std::vector<@Noun@>& items,
                                                           const std::string& label) {
  std::map<std::string, std::vector<@Noun@>> groups;
  for (const auto& item : items) {
    if (const auto found = item.labels.find(label); found != item.labels.end()) {
      groups[found->second].push_back(item);
    }
  }
  return groups;
}
""",
        """
std::size_t @Noun@Job::@verb@(Storage& storage, std::size_t batch) {
  std::size_t handled = 0;
  for (auto& row : storage.rows("@noun@", position_, batch)) {
    row.@field@ += 1;
    if (!storage.save(row)) {
      throw std::runtime_error("could not @verb@ @noun@ " + row.key);
    }
    ++handled;
  }
  position_ += handled;
  return handled;
}
""",
        """
bool @verb@_since(const @Noun@& item, Clock::time_point now, int hours) {
  const auto start = now - std::chrono::hours(hours);
  return item.created >= start && item.created < now && item.@field@ > 0;
}
""",
    ),
    buggy="""
// Takes @noun@s in order while their summed @field@ stays within the limit.
std::vector<@Noun@> @verb@_within(const std::vector<@Noun@>& items, std::int64_t limit) {
  std::vector<@Noun@> taken;
  std::int64_t used = 0;
  for (const auto& item : items) {
@bug@
      break;
    }
    used += item.@field@;
    taken.push_back(item);
  }
  return taken;
}
""",
    bugs=(
        Bug("    if (used + item.@field@ >= limit) {", "    if (used + item.@field@ > limit) {", _EXACT),
        Bug("    if (used > limit) {", "    if (used + item.@field@ > limit) {", _TOO_MANY),
    ),
    test_header="""#include "@noun@.hpp"

#include <gtest/gtest.h>

using @project@::@Noun@;

namespace {
std::vector<@Noun@> make(std::initializer_list<std::int64_t> values) {
  std::vector<@Noun@> items;
  for (const auto value : values) {
    items.push_back({.key = "k" + std::to_string(items.size()), .@field@ = value});
  }
  return items;
}
}  // namespace
""",
    test="""
TEST(@Noun@Test, @Verb@KeepsOrder) {
  const auto items = make({3, 1, 2, @number@});
  const auto found = @project@::@verb@_within(items, @small@);
  for (std::size_t n = 0; n < found.size(); ++n) {
    EXPECT_EQ(found[n].key, items[n].key);
  }
}
""",
    failure="""Test project /workspace/@project@/build
    Start 3: @noun@_test
1/1 Test #3: @noun@_test ......................***Failed    0.0@small@ sec
[ RUN      ] @Noun@Test.@Verb@ReachesLimit
/workspace/@project@/@test_path@:@test_line@: Failure
Expected equality of these values:
  found.size()
    Which is: @wrong_count@
  2
[  FAILED  ] @Noun@Test.@Verb@ReachesLimit (0 ms)

0% tests passed, 1 tests failed out of 1
""",
    trace="""terminate called after throwing an instance of 'std::out_of_range'
  what():  vector::_M_range_check: __n (which is @small@) >= this->size() (which is @wrong_count@)
#4  0x00005581 in @project@::@verb@_within (items=..., limit=10) at @source_path@:@bug_line@
#5  0x00005594 in build_report (storage=...) at src/main.cpp:77
#6  0x000055a1 in main (argc=3, argv=0x7ffd) at src/main.cpp:121
""",
    passed="""Test project /workspace/@project@/build
1/1 Test #3: @noun@_test ......................   Passed    0.0@small@ sec

100% tests passed, 0 tests failed out of 1
""",
)
