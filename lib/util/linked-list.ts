/**
 * Who is here, in the order of arrival. A linked list through its own entries, and not a Map or a Set: while those are filled
 * and emptied without end, V8 leaves old tables of theirs behind that keep what was in them alive until a full collection.
 * With a Map of the responses in flight half of a busy server's time went there.
 */
export interface Linked<T> {
  previous: T | null
  next: T | null
}

export interface Roll<T> {
  readonly size: number
  readonly first: T | null
  add(entry: T): void
  /** Once for each that was added: the roll does not look. */
  remove(entry: T): void
  /** Those who are here now; who comes or goes meanwhile changes nothing about it. */
  all(): T[]
}

export function createRoll<T extends Linked<T>> (): Roll<T> {
  let first: T | null = null
  let last: T | null = null
  let size = 0
  return {
    get size () { return size },
    get first () { return first },
    add (entry) {
      entry.previous = last
      entry.next = null
      if (last === null) first = entry
      else last.next = entry
      last = entry
      size++
    },
    remove (entry) {
      if (entry.previous === null) first = entry.next
      else entry.previous.next = entry.next
      if (entry.next === null) last = entry.previous
      else entry.next.previous = entry.previous
      entry.previous = entry.next = null
      size--
    },
    all () {
      const all: T[] = []
      for (let entry = first; entry !== null; entry = entry.next) all.push(entry)
      return all
    }
  }
}
