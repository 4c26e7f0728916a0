/**
 * A node:test reporter that writes one JSON object: how many tests passed, failed and were skipped, which failed, and
 * how many seconds the tests of each file took.
 */
import type { TestEvent } from "node:test/reporters";

export default async function* countReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let passed = 0;
  let skipped = 0;
  const failures: { file: string; test: string }[] = [];
  const seconds: Record<string, number> = {};
  for await (const event of source) {
    if (event.type !== "test:pass" && event.type !== "test:fail") continue;
    const { data } = event;
    const file = data.file ?? "";
    if (data.nesting === 0) seconds[file] = (seconds[file] ?? 0) + data.details.duration_ms / 1000;
    // Files and suites are not tests of their own, unless they failed without one.
    if (event.type === "test:pass" && data.details.type === "suite") continue;
    if (data.skip !== undefined) skipped += 1;
    else if (event.type === "test:pass") passed += 1;
    else if (data.details.type !== "suite") failures.push({ file, test: data.name });
  }
  yield JSON.stringify({ passed, skipped, failures, seconds });
}
