/**
 * A linked list whose entries contain the links, in the order in which they were added.
 *
 * Not a Map or a Set: if entries are added and removed without end, V8 keeps old tables, and the removed entries in
 * them, until a full garbage collection. With a Map of the responses in flight, this took half of the CPU time of a
 * busy server.
 */

/** An entry of a linked list. It may be in one list at a time. */
export interface Linked<T> {
  previous: T | null
  next: T | null
}

/** A linked list. */
export interface LinkedList<T> {
  readonly size: number
  readonly first: T | null
  /** Adds an entry at the end. */
  add(entry: T): void
  /** Removes an entry. It must be in the list; this is not checked. */
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
