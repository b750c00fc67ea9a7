/**
 * Every gRPC method that BuildKit 0.34.2 serves, and what becomes of a client's call of it. What is not
 * named here is refused, so that a newer BuildKit offers clients nothing that nobody has thought about.
 * The reasons are in docs/decisions/client-calls.md.
 */

export type CallRule =
  /** Says nothing about anybody's build, or only what the caller itself has sent. */
  | { readonly type: 'passed' }
  /** Narrowed in request or reply by what the name says; see client-connection.ts. */
  | { readonly type: NarrowedCall }
  | { readonly type: 'refused'; readonly reason: string; readonly remedy: string }

export type NarrowedCall =
  | 'solve'
  | 'progress'
  | 'session'
  | 'history'
  | 'history update'
  | 'bridge'
  | 'bridge stream'
  | 'content info'
  | 'content read'

const passed: CallRule = { type: 'passed' }

const otherContent: CallRule = {
  type: 'refused',
  reason: 'the content of this BuildKit belongs to every build of the scope',
  remedy: 'only what the history of your own builds names can be read',
}

const control: Record<string, CallRule> = {
  Solve: { type: 'solve' },
  Status: { type: 'progress' },
  Session: { type: 'session' },
  ListWorkers: passed,
  Info: passed,
  ListenBuildHistory: { type: 'history' },
  UpdateBuildHistory: { type: 'history update' },
  DiskUsage: {
    type: 'refused',
    reason: 'measuring this BuildKit can empty the cache mount of a step that is starting',
    remedy: 'use `hearth cache usage`',
  },
  Prune: {
    type: 'refused',
    reason: "this BuildKit's cache belongs to every build of the scope",
    remedy: 'the node prunes by itself; to forget everything use `hearth cache reset`',
  },
}

const bridge: CallRule = { type: 'bridge' }

const llbBridge: Record<string, CallRule> = {
  ResolveImageConfig: bridge,
  ResolveSourceMeta: bridge,
  Solve: bridge,
  ReadFile: bridge,
  ReadDir: bridge,
  StatFile: bridge,
  Evaluate: bridge,
  Ping: bridge,
  Return: bridge,
  Inputs: bridge,
  NewContainer: bridge,
  ReleaseContainer: bridge,
  ExecProcess: { type: 'bridge stream' },
  ReadFileContainer: bridge,
  ReadDirContainer: bridge,
  StatFileContainer: bridge,
  Warn: bridge,
}

const content: Record<string, CallRule> = {
  Info: { type: 'content info' },
  Read: { type: 'content read' },
  Update: otherContent,
  List: otherContent,
  Delete: otherContent,
  Status: otherContent,
  ListStatuses: otherContent,
  Write: otherContent,
  Abort: otherContent,
}

const services: Record<string, Record<string, CallRule>> = {
  'moby.buildkit.v1.Control': control,
  'moby.buildkit.v1.frontend.LLBBridge': llbBridge,
  'containerd.services.content.v1.Content': content,
  // A client's own spans; BuildKit files them under the trace that the client names.
  'opentelemetry.proto.collector.trace.v1.TraceService': { Export: passed },
  'grpc.health.v1.Health': { Check: passed, List: passed, Watch: passed },
  // The API's description, which is public.
  'grpc.reflection.v1.ServerReflection': { ServerReflectionInfo: passed },
  'grpc.reflection.v1alpha.ServerReflection': { ServerReflectionInfo: passed },
}

const rules = new Map<string, CallRule>(
  Object.entries(services).flatMap(([service, methods]) =>
    Object.entries(methods).map(([method, rule]) => [`/${service}/${method}`, rule] as const),
  ),
)

/** @returns undefined for a method that is not known. */
export function ruleOf(path: string): CallRule | undefined {
  return rules.get(path)
}

export function knownMethods(): readonly string[] {
  return [...rules.keys()]
}
