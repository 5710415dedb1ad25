"""Go and Rust code for the demo dataset."""

from pytest_agentperf.dataset.demo.languages import Bug, Language

# fmt: off
# The templates are laid out by hand.

_EXACT = "the last @noun@ is left out when the sum reaches the limit exactly"
_TOO_MANY = "one @noun@ too many is taken, so the limit is exceeded"

GO = Language(
    name="Go",
    source_path="internal/@noun@/@noun@.go",
    test_path="internal/@noun@/@noun@_test.go",
    sibling_paths=(
        "go.mod",
        "go.sum",
        "cmd/@project@/main.go",
        "internal/config/config.go",
        "internal/storage/storage.go",
        "internal/storage/memory.go",
        "Makefile",
    ),
    test_command="go test ./internal/@noun@/...",
    header="""// Package @noun@ keeps the @noun@s of a tenant.
package @noun@

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"example.com/@project@/internal/storage"
)

// DefaultLimit applies where the caller gives none.
const DefaultLimit = @number@

// ErrNegative reports a @noun@ whose @field@ is below zero.
var ErrNegative = errors.New("@noun@: negative @field@")

// @Noun@ is one stored row.
type @Noun@ struct {
	Key     string
	@Field@ int
	Created time.Time
	Labels  map[string]string
}
""",
    footer="",
    functions=(
        """
// @Verb@ returns at most limit @noun@s, the ones with the largest @field@ first.
func @Verb@(items []@Noun@, limit int) []@Noun@ {
	ordered := append([]@Noun@(nil), items...)
	sort.SliceStable(ordered, func(i, j int) bool { return ordered[i].@Field@ > ordered[j].@Field@ })
	if len(ordered) > limit {
		slog.Debug("dropping @noun@s", "count", len(ordered)-limit)
		ordered = ordered[:limit]
	}
	return ordered
}
""",
        """
// @Verb@ByLabel groups the @noun@s that carry the label.
func @Verb@ByLabel(items []@Noun@, label string) map[string][]@Noun@ {
	groups := make(map[string][]@Noun@)
	for _, item := range items {
		if value, ok := item.Labels[label]; ok {
			groups[value] = append(groups[value], item)
		}
	}
	return groups
}
""",
        """
// @Verb@All saves every row and stops at the first error.
func @Verb@All(ctx context.Context, store storage.Store, batch int) (int, error) {
	handled := 0
	rows, err := store.Rows(ctx, "@noun@", batch)
	if err != nil {
		return 0, fmt.Errorf("@verb@: list @noun@s: %w", err)
	}
	for _, row := range rows {
		if err := ctx.Err(); err != nil {
			return handled, err
		}
		if err := store.Save(ctx, row); err != nil {
			return handled, fmt.Errorf("@verb@ %s: %w", row.Key, err)
		}
		handled++
	}
	return handled, nil
}
""",
        """
// @Verb@Since keeps what was created in the last hours.
func @Verb@Since(items []@Noun@, now time.Time, hours int) []@Noun@ {
	start := now.Add(-time.Duration(hours) * time.Hour)
	var found []@Noun@
	for _, item := range items {
		if !item.Created.Before(start) && item.Created.Before(now) {
			found = append(found, item)
		}
	}
	return found
}
""",
    ),
    buggy="""
// @Verb@Within takes @noun@s in order while their summed @field@ stays within the limit.
func @Verb@Within(items []@Noun@, limit int) []@Noun@ {
	var taken []@Noun@
	used := 0
	for _, item := range items {
@bug@
			break
		}
		used += item.@Field@
		taken = append(taken, item)
	}
	return taken
}
""",
    bugs=(
        Bug("\t\tif used+item.@Field@ >= limit {", "\t\tif used+item.@Field@ > limit {", _EXACT),
        Bug("\t\tif used > limit {", "\t\tif used+item.@Field@ > limit {", _TOO_MANY),
    ),
    test_header="""package @noun@

import (
	"fmt"
	"testing"
)

func build(values ...int) []@Noun@ {
	var items []@Noun@
	for n, value := range values {
		items = append(items, @Noun@{Key: fmt.Sprintf("k%d", n), @Field@: value})
	}
	return items
}
""",
    test="""
func Test@Verb@KeepsOrder(t *testing.T) {
	for _, limit := range []int{@small@, @number@} {
		items := build(3, 1, 2, limit)
		for n, item := range @Verb@Within(items, limit) {
			if item.Key != items[n].Key {
				t.Errorf("limit %d: item %d is %s, want %s", limit, n, item.Key, items[n].Key)
			}
		}
	}
}
""",
    failure="""--- FAIL: Test@Verb@ReachesLimit (0.00s)
    @noun@_test.go:@test_line@: @Verb@Within(build(4, 6, @small@, 1), 10): got @wrong_count@ @noun@s, want 2
FAIL
FAIL	example.com/@project@/internal/@noun@	0.0@small@s
FAIL
""",
    trace="""panic: runtime error: index out of range [@small@] with length @wrong_count@

goroutine 34 [running]:
example.com/@project@/internal/@noun@.@Verb@Within({0xc0000b4000, 0x4, 0x4}, 0xa)
	/workspace/@project@/@source_path@:@bug_line@ +0x1d4
example.com/@project@/cmd/@project@.report(0xc000112000)
	/workspace/@project@/cmd/@project@/main.go:97 +0x88
main.main()
	/workspace/@project@/cmd/@project@/main.go:41 +0x2b
exit status 2
""",
    passed="ok  \texample.com/@project@/internal/@noun@\t0.0@small@s\n",
)

RUST = Language(
    name="Rust",
    source_path="crates/core/src/@noun@.rs",
    test_path="crates/core/tests/@noun@.rs",
    sibling_paths=(
        "Cargo.toml",
        "Cargo.lock",
        "crates/core/Cargo.toml",
        "crates/core/src/lib.rs",
        "crates/core/src/config.rs",
        "crates/core/src/storage.rs",
        "rustfmt.toml",
    ),
    test_command="cargo test -p @project@-core --test @noun@",
    header="""//! Keeps the @noun@s of a tenant.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tracing::{debug, warn};

use crate::storage::{Storage, StorageError};

pub const DEFAULT_LIMIT: usize = @number@;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct @Noun@ {
    pub key: String,
    pub @field@: u64,
    pub created: SystemTime,
    pub labels: BTreeMap<String, String>,
}
""",
    footer="",
    functions=(
        """
/// Returns at most `limit` @noun@s, the ones with the largest @field@ first.
pub fn @verb@_@noun@s(items: &[@Noun@], limit: usize) -> Vec<@Noun@> {
    let mut ordered = items.to_vec();
    ordered.sort_by(|a, b| b.@field@.cmp(&a.@field@).then_with(|| a.key.cmp(&b.key)));
    if ordered.len() > limit {
        debug!(dropped = ordered.len() - limit, "above the limit");
        ordered.truncate(limit);
    }
    ordered
}
""",
        """
pub fn @verb@_by_label<'a>(items: &'a [@Noun@], label: &str) -> BTreeMap<&'a str, Vec<&'a @Noun@>> {
    let mut groups: BTreeMap<&str, Vec<&@Noun@>> = BTreeMap::new();
    for item in items {
        if let Some(value) = item.labels.get(label) {
            groups.entry(value.as_str()).or_default().push(item);
        }
    }
    groups
}
""",
        """
/// Saves every row; stops at the first one that fails.
pub async fn @verb@_all<S: Storage>(storage: &S, batch: usize) -> Result<usize, StorageError> {
    let mut handled = 0;
    for mut row in storage.rows("@noun@", batch).await? {
        row.@field@ = row.@field@.saturating_add(1);
        if let Err(error) = storage.save(&row).await {
            warn!(key = %row.key, %error, "could not @verb@");
            return Err(error);
        }
        handled += 1;
    }
    Ok(handled)
}
""",
        """
impl @Noun@ {
    pub fn @verb@_since(&self, now: SystemTime, hours: u64) -> bool {
        let window = Duration::from_secs(hours * 3_600);
        match now.duration_since(self.created) {
            Ok(age) => age <= window && self.@field@ > 0,
            Err(_) => false,
        }
    }
}
""",
    ),
    buggy="""
/// Takes @noun@s in order while their summed @field@ stays within the limit.
pub fn @verb@_within(items: &[@Noun@], limit: u64) -> Vec<@Noun@> {
    let mut taken = Vec::new();
    let mut used = 0u64;
    for item in items {
@bug@
            break;
        }
        used += item.@field@;
        taken.push(item.clone());
    }
    taken
}
""",
    bugs=(
        Bug("        if used + item.@field@ >= limit {", "        if used + item.@field@ > limit {", _EXACT),
        Bug("        if used > limit {", "        if used + item.@field@ > limit {", _TOO_MANY),
    ),
    test_header="""use std::time::SystemTime;

use @project@_core::@noun@::{@verb@_within, @Noun@};

fn make(values: &[u64]) -> Vec<@Noun@> {
    let row = |(n, value): (usize, &u64)| @Noun@ {
        key: format!("k{n}"),
        @field@: *value,
        created: SystemTime::UNIX_EPOCH,
        labels: Default::default(),
    };
    values.iter().enumerate().map(row).collect()
}
""",
    test="""
#[test]
fn @verb@_keeps_order() {
    for limit in [@small@, @number@] {
        let items = make(&[3, 1, 2, limit]);
        let found = @verb@_within(&items, limit);
        assert_eq!(found, items[..found.len()]);
    }
}
""",
    failure="""running 8 tests
.......F
failures:

---- @verb@_reaches_the_limit stdout ----
thread '@verb@_reaches_the_limit' panicked at @test_path@:@test_line@:5:
assertion `left == right` failed
  left: @wrong_count@
 right: 2
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0@small@s
""",
    trace="""thread 'main' panicked at @source_path@:@bug_line@:18:
attempt to subtract with overflow
stack backtrace:
   2: core::panicking::panic
   3: @project@_core::@noun@::@verb@_within
             at ./@source_path@:@bug_line@:18
   4: @project@::report::build
             at ./crates/cli/src/report.rs:64:21
   5: @project@::main
             at ./crates/cli/src/main.rs:29:5
""",
    passed="""running 8 tests
........
test result: ok. 8 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0@small@s
""",
)
