/** What lies below a path, as /proc/PID/mountinfo tells it (proc(5)), and whether it is there after a reboot. Pure. */

export interface Mount {
  readonly id: number;
  readonly mountPoint: string;
  /** Of this mount, and of the file system below it: either of them can be read-only. */
  readonly isReadOnly: boolean;
  readonly type: string;
  /** A device, or whatever word the file system has. */
  readonly source: string;
  /** `upperdir` of an overlay that can be written to. */
  readonly upperDir: string | undefined;
}

export type Survival =
  | { readonly survives: true; readonly why: string }
  | { readonly survives: false; readonly why: string }
  /** It can't be told from here. */
  | { readonly survives: undefined; readonly why: string };

/** Gone with the power: by type, or because they lie on a device that is memory. */
const MEMORY_TYPES = ['tmpfs', 'ramfs', 'rootfs', 'devtmpfs', 'hugetlbfs'];
const MEMORY_DEVICE = /^\/dev\/z?ram\d+$/;
const DISK_TYPES =
  /^(ext[234]|xfs|btrfs|bcachefs|zfs|f2fs|jfs|reiserfs|nilfs2|ubifs|jffs2|vfat|nfs4?|cifs|smb3|9p|virtiofs|ceph|glusterfs|gfs2|ocfs2|hostfs|fuse(blk)?(\..+)?)$/;

/** The mounts of a process, the later ones over the earlier ones. A line that is none is left out. */
export function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ', 2);
    const [id, , , , mountPoint, options = ''] = before?.split(' ') ?? [];
    const [type, source, superOptions = ''] = after?.split(' ') ?? [];
    if (id === undefined || mountPoint === undefined || type === undefined || source === undefined) return [];
    const settings = superOptions.split(',');
    const upperDir = settings.find((setting) => setting.startsWith('upperdir='))?.slice('upperdir='.length);
    return [
      {
        id: Number(id),
        mountPoint: unescaped(mountPoint),
        isReadOnly: options.split(',').includes('ro') || settings.includes('ro'),
        type,
        source: unescaped(source),
        upperDir: upperDir === undefined ? undefined : unescaped(upperDir),
      },
    ];
  });
}

/** The kernel writes blanks, commas and backslashes of a name in octal. */
function unescaped(name: string): string {
  return name.replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mount on which an absolute path without symbolic links lies. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    const isAbove = mount.mountPoint === '/' || path === mount.mountPoint || path.startsWith(`${mount.mountPoint}/`);
    if (isAbove && mount.mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}

/**
 * Whether what is written to a mount is there after a reboot. `isSeen` says whether a directory can be seen: the upper
 * one of an overlay may lie in another mount namespace, as a container's does.
 */
export function survivalOf(mounts: readonly Mount[], mount: Mount, isSeen: (directory: string) => boolean): Survival {
  const { type, source, mountPoint, upperDir } = mount;
  const what = `${type} (${source}) on ${mountPoint}`;
  if (MEMORY_TYPES.includes(type)) return { survives: false, why: `${what} is memory` };
  if (MEMORY_DEVICE.test(source)) return { survives: false, why: `${what} lies on a device that is memory` };
  if (DISK_TYPES.test(type)) return { survives: true, why: `${what} is a disk's` };
  if (type !== 'overlay') return { survives: undefined, why: `whether ${what} keeps its files is not known` };
  if (upperDir === undefined) return { survives: false, why: `${what} has no upper directory to write to` };
  const below = isSeen(upperDir) ? mountOf(mounts, upperDir) : undefined;
  if (below === undefined || below.id === mount.id) {
    return { survives: undefined, why: `${what} writes to ${upperDir}, which can not be seen from here` };
  }
  const { survives, why } = survivalOf(mounts, below, isSeen);
  return { survives, why: `${what} writes to ${upperDir}: ${why}` };
}
