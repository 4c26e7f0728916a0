/** What makes a fact agreed, and what is refused beside it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { accepted, joinedBeforeEach, type ProbeDriver } from "../../test/probe-driver.ts";
import type { ScriptedAuthor } from "../testing/committee-driver.ts";
import type { CommitteeCommand } from "./commands.ts";
import { FACT_BYTES_PER_AUTHOR, FACTS_PER_AUTHOR, WINDOW_AHEAD } from "./state.ts";

let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ driver, author } = fresh);
});

describe("facts", () => {
  const saw = (fact: Uint8Array, slot = 10n, topic = "topic"): CommitteeCommand => ({ type: "saw", topic, slot, fact });
  const agreed = (): string[] => driver.told("agreed");
  const [yes, no] = [new Uint8Array([1]), new Uint8Array([2])];

  test("need q members alike, and count once", () => {
    accepted(driver.author(0).say(saw(yes)));
    accepted(driver.author(1).say(saw(no)));
    accepted(driver.author(2).say(saw(yes)));
    assert.deepEqual(agreed(), []);
    accepted(driver.author(3).say(saw(yes)));
    assert.deepEqual(agreed(), ["agreed topic 10 01"]);
    for (const each of driver.authors) accepted(each.say(saw(no, 11n)));
    assert.deepEqual(agreed(), ["agreed topic 10 01", "agreed topic 11 02"]);
  });

  test("twice by one member, alike or not", () => {
    accepted(author.say(saw(yes)));
    driver.refusedCommand(() => author.say(saw(yes)), "DUPLICATE");
    driver.refusedCommand(() => author.say(saw(no)), "DUPLICATE");
    accepted(author.say(saw(no, 10n, "another topic")));
    assert.deepEqual(driver.committee.view(0, 0, () => false).said("topic", 10n), yes);
  });

  test("outside the window", () => {
    driver.refusedCommand(() => author.say(saw(yes, 10n + WINDOW_AHEAD + 1n)), "SLOT_OUT_OF_WINDOW");
    accepted(author.say(saw(yes, 10n + WINDOW_AHEAD)));
  });

  test("of one author fill its own share of a slot and nobody else's", () => {
    for (let index = 0; index < FACTS_PER_AUTHOR; index++) accepted(author.say(saw(yes, 10n, `flood ${index}`)));
    driver.refusedCommand(() => author.say(saw(yes, 10n, "one more")), "MALFORMED");
    for (const index of [1, 2, 3]) accepted(driver.author(index).say(saw(yes)));
    assert.deepEqual(agreed(), ["agreed topic 10 01"]);
  });

  test("of one author are bounded in bytes", () => {
    const large = new Uint8Array(256 * 1024);
    for (let index = 0; index < FACT_BYTES_PER_AUTHOR / large.length; index++) {
      accepted(author.say(saw(large, 10n, `large ${index}`), "bulk"));
    }
    driver.refusedCommand(() => author.say(saw(yes, 10n, "one more")), "TOO_LARGE");
    accepted(driver.author(1).say(saw(large, 10n, "one more"), "bulk"));
    accepted(author.say(saw(yes, 11n, "one more")));
  });
});
