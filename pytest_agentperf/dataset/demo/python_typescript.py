"""Python and TypeScript code for the demo dataset."""

from pytest_agentperf.dataset.demo.languages import Bug, Language

# fmt: off
# The templates are laid out by hand.

PYTHON = Language(
    name="Python",
    source_path="src/@project@/@noun@s.py",
    test_path="tests/test_@noun@s.py",
    sibling_paths=(
        "pyproject.toml",
        "README.md",
        "src/@project@/__init__.py",
        "src/@project@/config.py",
        "src/@project@/storage.py",
        "src/@project@/cli.py",
        "tests/conftest.py",
    ),
    test_command="python -m pytest -q @test_path@",
    header='''"""Keeps the @noun@s of a tenant and decides which of them still count."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from @project@.config import Settings
from @project@.storage import Storage, StorageError

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = @number@


@dataclass(frozen=True)
class @Noun@:
    key: str
    @field@: int
    created: datetime
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return self.@field@ == 0
''',
    footer="",
    functions=(
        '''

def @verb@_@noun@s(items: Iterable[@Noun@], *, limit: int = DEFAULT_LIMIT) -> list[@Noun@]:
    """Return at most `limit` @noun@s, the ones with the largest @field@ first."""
    ordered = sorted(items, key=lambda item: (-item.@field@, item.key))
    if len(ordered) > limit:
        logger.debug("dropping %d @noun@s above the limit", len(ordered) - limit)
    return ordered[:limit]
''',
        """

def @verb@_by_label(items: Iterable[@Noun@], label: str) -> dict[str, list[@Noun@]]:
    groups: dict[str, list[@Noun@]] = {}
    for item in items:
        value = item.labels.get(label)
        if value is None:
            continue
        groups.setdefault(value, []).append(item)
    return {value: groups[value] for value in sorted(groups)}
""",
        '''

class @Verb@@Noun@Job:
    """Runs once per interval and remembers where it stopped."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._batch = settings.batch_size or @number@
        self._position = 0

    def run(self) -> int:
        handled = 0
        for row in self._storage.rows("@noun@", start=self._position, count=self._batch):
            try:
                self._storage.save(replace(row, @field@=row.@field@ + 1))
            except StorageError:
                logger.exception("could not @verb@ @noun@ %s", row.key)
                break
            handled += 1
        self._position += handled
        return handled
''',
        """

def @verb@_window(items: Iterable[@Noun@], now: datetime, hours: int = @small@) -> Iterator[@Noun@]:
    start = now - timedelta(hours=hours)
    for item in items:
        if start <= item.created < now and not item.is_empty:
            yield item
""",
        """

def @verb@_total(items: Iterable[@Noun@]) -> int:
    total = 0
    for item in items:
        if item.@field@ < 0:
            raise ValueError(f"@noun@ {item.key} has a negative @field@: {item.@field@}")
        total += item.@field@
    return total
""",
    ),
    buggy='''

def @verb@_within(items: Iterable[@Noun@], @field@_limit: int) -> list[@Noun@]:
    """Take @noun@s in order while their summed @field@ stays within the limit."""
    taken: list[@Noun@] = []
    used = 0
    for item in items:
@bug@
            break
        used += item.@field@
        taken.append(item)
    return taken
''',
    bugs=(
        Bug(
            "        if used + item.@field@ >= @field@_limit:",
            "        if used + item.@field@ > @field@_limit:",
            "the last @noun@ is left out when the sum reaches the limit exactly",
        ),
        Bug(
            "        if used > @field@_limit:",
            "        if used + item.@field@ > @field@_limit:",
            "one @noun@ too many is taken, so the limit is exceeded",
        ),
    ),
    test_header="""from __future__ import annotations

from datetime import datetime

import pytest

from @project@ import @noun@s
from @project@.@noun@s import @Noun@

CREATED = datetime(2024, 5, 17, 12, 0)


def make(*values: int) -> list[@Noun@]:
    return [@Noun@(key=f"k{n}", @field@=value, created=CREATED) for n, value in enumerate(values)]
""",
    test="""

@pytest.mark.parametrize("limit", [@small@, @number@])
def test_@verb@_keeps_order(limit: int) -> None:
    items = make(3, 1, 2, limit)
    found = @noun@s.@verb@_within(items, limit)
    assert [item.key for item in found] == [item.key for item in items[: len(found)]]
    assert sum(item.@field@ for item in found) <= limit
""",
    failure=""".....F..                                                                 [100%]
=================================== FAILURES ===================================
_________________________ test_@verb@_reaches_the_limit _________________________

    def test_@verb@_reaches_the_limit() -> None:
        items = make(4, 6, @small@, 1)
>       assert len(@noun@s.@verb@_within(items, 10)) == 2
E       AssertionError: assert @wrong_count@ == 2
E        +  where @wrong_count@ = len([@Noun@(key='k0', @field@=4, labels={})])

@test_path@:@test_line@: AssertionError
=========================== short test summary info ============================
FAILED @test_path@::test_@verb@_reaches_the_limit - AssertionError: assert @wrong_count@ == 2
1 failed, 7 passed in 0.@number@s
""",
    trace="""Traceback (most recent call last):
  File "/workspace/@project@/src/@project@/cli.py", line 88, in main
    return command(args)
  File "/workspace/@project@/src/@project@/cli.py", line 52, in run_@verb@
    report = build_report(storage.rows("@noun@"), args.limit)
  File "/workspace/@project@/@source_path@", line @bug_line@, in @verb@_within
    raise LimitMismatch(used, @field@_limit)
@project@.errors.LimitMismatch: @field@ @number@ does not match limit @small@
""",
    passed="""........                                                                 [100%]
8 passed in 0.@number@s
""",
)

TYPESCRIPT = Language(
    name="TypeScript",
    source_path="packages/core/src/@noun@s.ts",
    test_path="packages/core/test/@noun@s.test.ts",
    sibling_paths=(
        "package.json",
        "tsconfig.json",
        "packages/core/package.json",
        "packages/core/src/index.ts",
        "packages/core/src/config.ts",
        "packages/core/src/storage.ts",
        "vitest.config.ts",
    ),
    test_command="npx vitest run @test_path@",
    header="""import { z } from "zod"

import type { Settings } from "./config"
import { type Storage, StorageError } from "./storage"
import { logger } from "./logger"

export const DEFAULT_LIMIT = @number@

export const @Noun@Schema = z.object({
  key: z.string().min(1),
  @field@: z.number().int().nonnegative(),
  createdAt: z.coerce.date(),
  labels: z.record(z.string()).default({}),
})

export type @Noun@ = z.infer<typeof @Noun@Schema>
""",
    footer="",
    functions=(
        """
/** Returns at most `limit` @noun@s, the ones with the largest @field@ first. */
export function @verb@@Noun@s(items: readonly @Noun@[], limit = DEFAULT_LIMIT): @Noun@[] {
  const ordered = [...items].sort((a, b) => b.@field@ - a.@field@ || a.key.localeCompare(b.key))
  if (ordered.length > limit) {
    logger.debug(`dropping ${ordered.length - limit} @noun@s above the limit`)
  }
  return ordered.slice(0, limit)
}
""",
        """
export function @verb@ByLabel(items: readonly @Noun@[], label: string): Map<string, @Noun@[]> {
  const groups = new Map<string, @Noun@[]>()
  for (const item of items) {
    const value = item.labels[label]
    if (value === undefined) continue
    const group = groups.get(value) ?? []
    group.push(item)
    groups.set(value, group)
  }
  return groups
}
""",
        """
export class @Verb@@Noun@Job {
  private position = 0

  constructor(
    private readonly storage: Storage,
    private readonly settings: Settings,
  ) {}

  async run(signal?: AbortSignal): Promise<number> {
    let handled = 0
    const rows = this.storage.rows("@noun@", { start: this.position, count: this.settings.batchSize })
    for await (const row of rows) {
      if (signal?.aborted) break
      try {
        await this.storage.save({ ...row, @field@: row.@field@ + 1 })
      } catch (error) {
        if (!(error instanceof StorageError)) throw error
        logger.warn({ key: row.key, error }, "could not @verb@ @noun@")
        break
      }
      handled += 1
    }
    this.position += handled
    return handled
  }
}
""",
        """
export function* @verb@Window(items: Iterable<@Noun@>, now: Date, hours = @small@): Generator<@Noun@> {
  const start = now.getTime() - hours * 3_600_000
  for (const item of items) {
    const created = item.createdAt.getTime()
    if (start <= created && created < now.getTime() && item.@field@ > 0) yield item
  }
}
""",
    ),
    buggy="""
/** Takes @noun@s in order while their summed @field@ stays within the limit. */
export function @verb@Within(items: readonly @Noun@[], @field@Limit: number): @Noun@[] {
  const taken: @Noun@[] = []
  let used = 0
  for (const item of items) {
@bug@
    used += item.@field@
    taken.push(item)
  }
  return taken
}
""",
    bugs=(
        Bug(
            "    if (used + item.@field@ >= @field@Limit) break",
            "    if (used + item.@field@ > @field@Limit) break",
            "the last @noun@ is left out when the sum reaches the limit exactly",
        ),
        Bug(
            "    if (used > (@field@Limit || DEFAULT_LIMIT)) break",
            "    if (used + item.@field@ > @field@Limit) break",
            "a limit of 0 is ignored and the default is used instead",
        ),
    ),
    test_header="""import { describe, expect, it } from "vitest"

import { type @Noun@, @verb@Within } from "../src/@noun@s"

const make = (...values: number[]): @Noun@[] =>
  values.map((value, n) => ({ key: `k${n}`, @field@: value, createdAt: new Date(0), labels: {} }))
""",
    test="""
describe("@verb@", () => {
  it.each([@small@, @number@])("keeps the order up to %d", (limit) => {
    const items = make(3, 1, 2, limit)
    const found = @verb@Within(items, limit)
    expect(found.map((item) => item.key)).toEqual(items.slice(0, found.length).map((item) => item.key))
  })
})
""",
    failure=""" RUN  v1.6.0 /workspace/@project@

 ❯ @test_path@ (8 tests | 1 failed)
   ❯ @verb@Within > reaches the limit
     → expected [ { key: 'k0', @field@: 4 } ] to have a length of 2 but got @wrong_count@

 FAIL  @test_path@ > @verb@Within > reaches the limit
AssertionError: expected [ { key: 'k0', @field@: 4 } ] to have a length of 2 but got @wrong_count@
 ❯ @test_path@:@test_line@:43
     |   const found = @verb@Within(make(4, 6, @small@, 1), 10)
     |   expect(found).toHaveLength(2)
     |                 ^

 Test Files  1 failed (1)
      Tests  1 failed | 7 passed (8)
   Duration  @number@ms
""",
    trace="""RangeError: @field@ @number@ does not match limit @small@
    at @verb@Within (/workspace/@project@/@source_path@:@bug_line@:11)
    at buildReport (/workspace/@project@/packages/core/src/report.ts:41:18)
    at async Command.<anonymous> (/workspace/@project@/packages/cli/src/main.ts:73:5)
    at async run (/workspace/@project@/packages/cli/src/main.ts:120:3)
""",
    passed=""" RUN  v1.6.0 /workspace/@project@

 ✓ @test_path@ (8 tests) 1@small@ms

 Test Files  1 passed (1)
      Tests  8 passed (8)
""",
)
