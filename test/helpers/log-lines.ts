/**
 * The lines that the plugin can log, read from its source: the texts of log methods, of problems, notes and warnings, and
 * of a forced exit. What is inserted at run time is `…`.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

const lib = join(__dirname, '../../lib')

/** Wings that write to a terminal or to a test, and not to the app's log. */
const elsewhere = /^(?:cli|timeline|testing)[\\/]/

/** Prefix of the line, by the last name in a call. The first text among the arguments is the line. */
const sinks: Readonly<Record<string, string>> = {
  debug: '',
  info: '',
  warn: '',
  error: '', // methods of a log
  onProblem: 'shutdown: ',
  record: 'shutdown: ', // an event of type `problem`
  reportForcedExit: 'shutdown: ',
  onForcedExit: 'shutdown: ',
  push: 'shutdown: ',
  add: '', // `notes.push()`, `warnings.add()`
  writeSync: '' // stderr, if the process cannot end otherwise
}

/** The object of a call, for sinks whose name alone says too little. */
const objects: Readonly<Record<string, RegExp>> = {
  debug: /log$/, info: /log$/, warn: /log$/, error: /log$/, record: /problems$/, push: /notes$/, add: /warnings$/
}

/** Returns the lines, sorted. @param source replaces the text of files, by their path in lib/, for the test of this file */
export function logLines (source: Readonly<Record<string, string>> = {}): string[] {
  const found = new Set<string>()
  const files = readdirSync(lib, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts') && !elsewhere.test(file))
  for (const file of files) for (const line of linesOf(file, source[file] ?? readFileSync(join(lib, file), 'utf8'))) found.add(line)
  return [...found].sort()
}

function linesOf (file: string, text: string): string[] {
  const root = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const lines: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) collectCall(node)
    // `warnings: [text]`, and the list that a function named `warningsOf` returns.
    if (ts.isArrayLiteralExpression(node) && isListOfWarnings(node)) for (const each of node.elements) add('', textOf(each, root))
    // Lines whose text is built before it is logged, such as that of the report.
    if (isText(node) && !ts.isBinaryExpression(node.parent)) {
      const line = textOf(node, root)
      if (line?.startsWith('shutdown: ')) add('', line)
    }
    ts.forEachChild(node, visit)
  }
  visit(root)
  return lines

  function collectCall ({ expression, arguments: args }: ts.CallExpression): void {
    const name = ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText()
    const object = ts.isPropertyAccessExpression(expression) ? expression.expression.getText() : ''
    const prefix = Object.hasOwn(sinks, name) ? sinks[name]! : undefined
    if (prefix === undefined || (Object.hasOwn(objects, name) && !objects[name]!.test(object))) return
    add(prefix, args.map(argument => textOf(argument, root)).find(text => text !== undefined))
  }

  function add (prefix: string, line: string | undefined): void {
    // A line that is only inserted text is collected where the text is written.
    if (line === undefined || /^(?:shutdown: )?[…\s]*$/u.test(line)) return
    lines.push(line.startsWith(prefix) ? line : prefix + line)
  }
}

function isListOfWarnings (node: ts.ArrayLiteralExpression): boolean {
  if (ts.isPropertyAssignment(node.parent)) return node.parent.name.getText() === 'warnings'
  if (!ts.isReturnStatement(node.parent)) return false
  const owner = ts.findAncestor(node, ts.isFunctionDeclaration)
  return /^warningsOf/.test(owner?.name?.text ?? '')
}

function isText (node: ts.Node): node is ts.StringLiteralLike | ts.TemplateExpression {
  return ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)
}

/** Returns the text of an expression, in one line; `undefined` if it has none of its own. */
function textOf (node: ts.Node, root: ts.SourceFile): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text.trim()
  if (ts.isTemplateExpression(node)) {
    // A name in the same file that holds a text is read; anything else is inserted at run time.
    const spans = node.templateSpans.map(span => (constantOf(span.expression, root) ?? '…') + span.literal.text)
    return (node.head.text + spans.join('')).trim()
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    const [left, right] = [textOf(node.left, root), textOf(node.right, root)]
    return left === undefined || right === undefined ? undefined : `${left} ${right}`.replace(/ +/g, ' ')
  }
  return constantOf(node, root)
}

/** Returns the text of a constant of this file. */
function constantOf (node: ts.Node, root: ts.SourceFile): string | undefined {
  if (!ts.isIdentifier(node)) return undefined
  let text: string | undefined
  const visit = (each: ts.Node): void => {
    if (ts.isVariableDeclaration(each) && each.name.getText() === node.text && each.initializer !== undefined) {
      if (isText(each.initializer) || ts.isBinaryExpression(each.initializer)) text ??= textOf(each.initializer, root)
    }
    ts.forEachChild(each, visit)
  }
  visit(root)
  return text
}
