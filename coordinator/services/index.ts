/** The gRPC services: who may call, within what time. What the calls do is in the rooms beside this one. */
export { type AdminDeps, createAdminService } from './admin-service.ts'
export { type BuildsDeps, createBuildsService } from './builds-service.ts'
export { createMembershipService, type MembershipDeps } from './membership-service.ts'
