/** A node:test reporter that writes one JSON object: how many tests passed, failed and were skipped, and which failed. */
import type { TestEvent } from "node:test/reporters";

export default async function* countReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let passed = 0;
  let skipped = 0;
  const failures: string[] = [];
  for await (const event of source) {
    if (event.type !== "test:pass" && event.type !== "test:fail") continue;
    const { data } = event;
    // Files and suites are not tests of their own, unless they failed without one.
    if (event.type === "test:pass" && data.details.type === "suite") continue;
    if (data.skip !== undefined) skipped += 1;
    else if (event.type === "test:pass") passed += 1;
    else if (data.details.type !== "suite") failures.push(`${data.file ?? ""}: ${data.name}`);
  }
  yield JSON.stringify({ passed, skipped, failures });
}
