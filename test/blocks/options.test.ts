/** Each block of docs/options.md runs, as in programs.test.ts. They are many, so they have a file of their own. */
import t from 'tap'
import { blocksOfKind } from '../helpers/blocks'
import { runPrograms } from '../helpers/block-runs'

void runPrograms(t, blocksOfKind('program').filter(({ page }) => page === 'docs/options.md'))
