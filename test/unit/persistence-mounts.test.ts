import { describe, expect, it } from 'vitest';
import { type Mount, mountOf, parseMountinfo, survivalOf } from '../../src/persistence/mounts.js';
import { parseListeners } from '../../src/persistence/server.js';

const TABLE = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
30 27 0:30 / /run rw,nosuid shared:2 master:3 - tmpfs tmpfs rw,size=12k
31 27 0:31 / /srv/a\\040b rw - overlay overlay rw,lowerdir=/l,upperdir=/var/up\\054per\\134,workdir=/w
32 27 8:1 / /mnt/ro ro,relatime - xfs /dev/sdb1 rw
33 27 8:2 / /mnt/broken rw,relatime - ext4 /dev/sdc1 ro,errors=remount-ro
34 27 1:0 / /mnt/ramdisk rw - ext4 /dev/ram0 rw
35 27 0:40 / /mnt/odd rw - oddfs none rw
36 27 0:41 / /mnt/live rw - overlay overlay rw,lowerdir=/l,upperdir=/run/upper,workdir=/run/work
37 27 0:42 / /mnt/readonly rw - overlay overlay ro,lowerdir=/l:/m
38 30 0:43 / /run/over rw - tmpfs hidden rw
39 30 8:3 / /run/over rw - ext4 /dev/sdd1 rw
`;

const mounts = parseMountinfo(TABLE);

function mountAt(path: string): Mount {
  const mount = mountOf(mounts, path);
  if (mount === undefined) throw new Error(`nothing is mounted at ${path}`);
  return mount;
}

function survival(path: string, isSeen = true): boolean | undefined {
  return survivalOf(mounts, mountAt(path), () => isSeen).survives;
}

describe('mountinfo', () => {
  it('reads names with blanks, commas and backslashes, and optional fields', () => {
    expect(mounts).toHaveLength(12);
    expect(mountAt('/srv/a b/conf.db')).toMatchObject({ id: 31, type: 'overlay', upperDir: '/var/up,per\\' });
    expect(mountAt('/run/x')).toMatchObject({ id: 30, type: 'tmpfs', source: 'tmpfs', upperDir: undefined });
  });

  it('leaves out what is no line of it', () => {
    expect(parseMountinfo('\nnonsense\n1 2 3\n')).toEqual([]);
  });

  it('finds the deepest mount, and of two on one place the later one', () => {
    expect(mountAt('/etc/openvswitch/conf.db').id).toBe(27);
    expect(mountAt('/run').id).toBe(30);
    expect(mountAt('/runner/conf.db').id).toBe(27);
    expect(mountAt('/run/over/conf.db').id).toBe(39);
  });

  it('tells a mount and a file system that are read-only', () => {
    const readOnly = mounts.filter(({ isReadOnly }) => isReadOnly).map(({ mountPoint }) => mountPoint);
    expect(readOnly).toEqual(['/mnt/ro', '/mnt/broken', '/mnt/readonly']);
  });
});

describe('what survives a reboot', () => {
  it.each([
    ['/etc/openvswitch', true],
    ['/run/openvswitch', false],
    ['/mnt/ramdisk', false],
    ['/mnt/odd', undefined],
    ['/srv/a b', true],
    ['/mnt/live', false],
    ['/mnt/readonly', false],
  ])('%s: %s', (path, survives) => {
    expect(survival(path)).toBe(survives);
  });

  it('is not known of an overlay whose upper directory can not be seen', () => {
    expect(survival('/srv/a b', false)).toBeUndefined();
  });

  it('is not known of an overlay that seems to write to itself: its upper directory is hidden by it', () => {
    const self = parseMountinfo('1 0 0:1 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/up,workdir=/w\n');
    expect(survivalOf(self, self[0] as Mount, () => true).survives).toBeUndefined();
  });
});

it('listeners are the sockets of /proc/net/unix that accept and have a path', () => {
  const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01  1234 /run/openvswitch/db.sock
0000000000000000: 00000003 00000000 00000000 0001 03  1235 /run/openvswitch/db.sock
0000000000000000: 00000002 00000000 00010000 0001 01 12361 with blank.sock
0000000000000000: 00000002 00000000 00010000 0001 01 1237
`;
  expect(parseListeners(table)).toEqual([
    { inode: '1234', path: '/run/openvswitch/db.sock' },
    { inode: '12361', path: 'with blank.sock' },
  ]);
});
