/**
 * The plan: operations and context to step keys.
 *
 * Promises: a key is the same for the same work, whatever machine, folder, time, session or client, whether it
 * is made from what buildx prints or from what passes a node's proxy; it differs where BuildKit would run the
 * step again, extended attributes of files excepted. What cannot be known makes the plan partial, and the
 * plan says so; it never fails a build.
 *
 * A client asks for the operations (`askOperations`), makes the plan (`makePlan`) and compares it with an
 * earlier one (`explain`). A node makes the same keys from what it sees (`keysOfDefinition`).
 */
export { askTargets, type BakeTarget } from './bake-targets.ts'
export {
  askOperations,
  type BuildxCommand,
  contextFolders,
  type OperationsAnswer,
  planFlags,
} from './buildx.ts'
export { type ContentReader, createContentReader, type HashCount } from './content/index.ts'
export { graphOfJson } from './convert-json.ts'
export { type DefinitionKeys, keysOfDefinition } from './definition-keys.ts'
export { type Difference, describeDifference, type Explanation, explain } from './explain.ts'
export { type BuildGraph, graphOfDefinition, type SourceLocation } from './graph.ts'
export { type KeptPlanKey, loadPlan, savePlan } from './keep.ts'
export { type KeyedOperation, keyedOperations } from './keyed-operations.ts'
export { type Folders, makePlan, planOfDefinition } from './make-plan.ts'
export { contentsOfMessage, planMessage } from './message.ts'
export {
  type CacheMount,
  type Operation,
  type OperationKind,
  readOperations,
} from './operations.ts'
export {
  describePartial,
  type Fact,
  type PartialReason,
  type Plan,
  type PlannedStep,
} from './plan.ts'
export { recordDigest } from './record-digests.ts'
