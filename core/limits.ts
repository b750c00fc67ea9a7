/** Limits that more than one room must agree on. Each is the reason a wait or a buffer is bounded. */

export const kib = 1024
export const mib = 1024 * kib
export const gib = 1024 * mib

/** BuildKit refuses larger cache configs and manifests without a word (remotecache/import.go). */
export const recordBytesMax = 1 * mib

/** gRPC messages of BuildKit's session protocol (session/grpc.go: 16 MiB). */
export const grpcMessageBytesMax = 16 * mib

/** A lease whose client has not connected by then goes to the next in the queue. */
export const leaseConnectMs = 30_000

/** Client certificates of one build: long enough for the longest build, short enough to be worthless later. */
export const buildCertificateMs = 12 * 60 * 60_000

/** Certificates for the time that the coordinator is away. */
export const standbyCertificateMs = 24 * 60 * 60_000

/** Every unary call between client, coordinator and node, unless it streams. */
export const callTimeoutMs = 10_000
