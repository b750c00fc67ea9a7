/** Whether this machine runs programs of another processor: tried, in a root of their own, as a build's steps are. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError } from '../core/errors.ts'
import { nativePlatform } from './native-platform.ts'

const exitCode = 42
const triedMs = 20_000

/** The ELF machine, and machine code that ends the process with the exit code above. */
const processors: Readonly<Record<string, { machine: number; code: readonly number[] }>> = {
  // mov edi, 42; mov eax, 60 (exit); syscall
  'linux/amd64': { machine: 62, code: [0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05] },
  // mov x0, 42; mov x8, 93 (exit); svc 0
  'linux/arm64': {
    machine: 183,
    code: [0x40, 0x05, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
  },
}

const qemuNames: Readonly<Record<string, string>> = {
  'linux/amd64': 'qemu-x86_64',
  'linux/arm64': 'qemu-aarch64',
}

/**
 * The platform that a node builds: its own, unless another one was asked for and this machine runs it.
 * @param folder for the trial; it must allow programs to be run.
 * @throws HearthError `invalid-input` for a platform that no node builds, `environment` when it does not run here.
 */
export async function choosePlatform(wanted: string | undefined, folder: string): Promise<string> {
  const native = nativePlatform()
  if (wanted === undefined || wanted === native) return native
  const processor = processors[wanted]
  if (processor === undefined) {
    const names = Object.keys(processors).join(' or ')
    throw new HearthError('invalid-input', `a node cannot build "${wanted.slice(0, 60)}"`, {
      hint: `nodes build ${names}`,
    })
  }
  if (await runs(elf(processor), folder)) return wanted
  const qemu = qemuNames[wanted]
  throw new HearthError('environment', `this machine does not run programs of ${wanted}`, {
    hint: [
      'install qemu-user-static and binfmt-support, and tell the kernel:',
      `  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable ${qemu}`,
      `/proc/sys/fs/binfmt_misc/${qemu} must then say "enabled" and have the flag F.`,
      'Or run the node on a machine of that platform: it is many times faster',
    ].join('\n'),
  })
}

async function runs(program: Uint8Array, folder: string): Promise<boolean> {
  const root = await mkdtemp(path.join(folder, 'trial-'))
  try {
    await writeFile(path.join(root, 'trial'), program, { mode: 0o755 })
    return await new Promise((resolve) => {
      const options = { timeout: triedMs, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } }
      execFile('chroot', [root, '/trial'], options, (error) => resolve(error?.code === exitCode))
    })
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

/** The smallest static program: one header, one segment (System V ABI, chapters 4 and 5). */
function elf({ machine, code }: { machine: number; code: readonly number[] }): Uint8Array {
  const headerBytes = 64
  const segmentBytes = 56
  const start = headerBytes + segmentBytes
  const loadAt = 0x400000n
  const file = Buffer.alloc(start + code.length)
  file.write('\x7fELF', 'latin1')
  // 64 bits, little-endian, version 1.
  file.set([2, 1, 1], 4)
  file.writeUInt16LE(2, 16)
  file.writeUInt16LE(machine, 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(loadAt + BigInt(start), 24)
  file.writeBigUInt64LE(BigInt(headerBytes), 32)
  file.writeUInt16LE(headerBytes, 52)
  file.writeUInt16LE(segmentBytes, 54)
  file.writeUInt16LE(1, 56)
  // To be loaded, readable and executable.
  file.writeUInt32LE(1, headerBytes)
  file.writeUInt32LE(5, headerBytes + 4)
  file.writeBigUInt64LE(loadAt, headerBytes + 16)
  file.writeBigUInt64LE(loadAt, headerBytes + 24)
  file.writeBigUInt64LE(BigInt(file.length), headerBytes + 32)
  file.writeBigUInt64LE(BigInt(file.length), headerBytes + 40)
  file.writeBigUInt64LE(0x1000n, headerBytes + 48)
  file.set(code, start)
  return file
}
