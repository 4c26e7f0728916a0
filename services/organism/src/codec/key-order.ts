/** In which order the keys of a map are written. A large state is sorted at every checkpoint, so numbers are sorted where that decides it. */

/** Fewer keys are put in their places one by one: the simulator and most maps have no more. */
const FEW = 16;
/** Bytes of a key that are compared as one number, and how many bits a number has for them and for where the key stands. */
const FIRST_BYTES = 6;
const NUMBER_BITS = 53;

/**
 * The order of keys by their bytes, a shorter one before what it begins; alike ones as they come.
 * @param starts where each key begins in `bytes`, and at last where the last one ends
 * @returns indexes of keys; undefined when they are in order already
 */
export function keyOrder(bytes: Uint8Array, starts: readonly number[]): number[] | undefined {
  const count = starts.length - 1;
  const compare = (a: number, b: number): number =>
    compareRanges(bytes, starts[a] ?? 0, starts[a + 1] ?? 0, starts[b] ?? 0, starts[b + 1] ?? 0);
  let ordered = 1;
  while (ordered < count && compare(ordered - 1, ordered) <= 0) ordered++;
  if (ordered >= count) return undefined;
  if (count <= FEW) {
    const order = Array.from({ length: count }, (_, index) => index);
    insertFrom(order, ordered, 0, count, compare);
    return order;
  }
  return byFirstBytes(bytes, starts, compare);
}

/** Sorted as numbers: of each key the first bytes in which any of them differ, and behind those where it stands. */
function byFirstBytes(
  bytes: Uint8Array,
  starts: readonly number[],
  compare: (a: number, b: number) => number,
): number[] {
  const count = starts.length - 1;
  const shared = sharedBytes(bytes, starts);
  const places = 2 ** Math.ceil(Math.log2(count));
  // What a number has no room for is dropped from the end.
  const dropped = Math.max(1, 2 ** (FIRST_BYTES * 8 - NUMBER_BITS) * places);
  const numbers = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const end = starts[index + 1] ?? 0;
    let at = (starts[index] ?? 0) + shared;
    let first = 0;
    // Where a key ends, zeros follow: it may be taken for another here, never for a later one.
    for (let taken = 0; taken < FIRST_BYTES; taken++, at++) first = first * 256 + (at < end ? (bytes[at] ?? 0) : 0);
    numbers[index] = Math.floor(first / dropped) * places + index;
  }
  numbers.sort();
  const order: number[] = [];
  let runFrom = 0;
  let runOf = -1;
  for (let at = 0; at <= count; at++) {
    const number = numbers[at] ?? Number.POSITIVE_INFINITY;
    const first = Math.floor(number / places);
    if (first !== runOf) {
      if (at - runFrom > 1) sortRun(order, runFrom, at, compare);
      runFrom = at;
      runOf = first;
    }
    if (at < count) order.push(number - first * places);
  }
  return order;
}

/** Keys that are alike as far as was looked. Whoever chooses its keys may choose many such. */
function sortRun(order: number[], from: number, to: number, compare: (a: number, b: number) => number): void {
  if (to - from <= FEW) {
    insertFrom(order, from + 1, from, to, compare);
    return;
  }
  const sorted = order.slice(from, to).sort(compare);
  for (let index = 0; index < sorted.length; index++) order[from + index] = sorted[index] ?? 0;
}

/** Puts what stands from `next` on in its place among what stands in order between `from` and it. */
function insertFrom(
  order: number[],
  next: number,
  from: number,
  to: number,
  compare: (a: number, b: number) => number,
): void {
  for (let index = next; index < to; index++) {
    const moved = order[index] ?? 0;
    let at = index;
    for (; at > from; at--) {
      const before = order[at - 1] ?? 0;
      if (compare(before, moved) <= 0) break;
      order[at] = before;
    }
    order[at] = moved;
  }
}

/** How many bytes all keys begin with. */
function sharedBytes(bytes: Uint8Array, starts: readonly number[]): number {
  const first = starts[0] ?? 0;
  let shared = (starts[1] ?? 0) - first;
  for (let index = 1; index < starts.length - 1 && shared > 0; index++) {
    const start = starts[index] ?? 0;
    const length = Math.min(shared, (starts[index + 1] ?? 0) - start);
    shared = 0;
    while (shared < length && bytes[first + shared] === bytes[start + shared]) shared++;
  }
  return shared;
}

function compareRanges(bytes: Uint8Array, a: number, aEnd: number, b: number, bEnd: number): number {
  const length = Math.min(aEnd - a, bEnd - b);
  for (let at = 0; at < length; at++) {
    const difference = (bytes[a + at] ?? 0) - (bytes[b + at] ?? 0);
    if (difference !== 0) return difference;
  }
  return aEnd - a - (bEnd - b);
}
