/**
 * A linked list through its own entries, in the order in which they were added.
 *
 * Not a Map or a Set: if these are filled and emptied without end, V8 leaves old tables behind, which keep the removed entries
 * alive until a full collection. With a Map of the responses in flight, half of the time of a busy server went there.
 */

/** An entry of a linked list: it is part of one list at most. */
export interface Linked<T> {
  previous: T | null
  next: T | null
}

export interface LinkedList<T> {
  readonly size: number
  readonly first: T | null
  /** Adds an entry at the end. */
  add(entry: T): void
  /** Removes an entry. It must be in the list: the list does not check. */
  remove(entry: T): void
  /** Returns a copy, which later changes of the list do not affect. */
  toArray(): T[]
}

/** Creates an empty list. */
export function createLinkedList<T extends Linked<T>> (): LinkedList<T> {
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
    toArray () {
      const entries: T[] = []
      for (let entry = first; entry !== null; entry = entry.next) entries.push(entry)
      return entries
    }
  }
}
