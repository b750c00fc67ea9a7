/** Steps as this node knows them: what is expected of the builds that come, and what it has of their results. */
export { type BuildPlan, type BuildPlans, createBuildPlans } from './build-plans.ts'
export { mountsToRun } from './mounts-to-run.ts'
export { createStepAdverts, keysInState, type StepAdverts } from './step-adverts.ts'
