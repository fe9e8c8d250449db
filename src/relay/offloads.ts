/**
 * Which offloads the switch behind a TAP takes. The kernel datapath takes all. The userspace datapath reads TAPs through
 * AF_PACKET: without userspace TSO it drops what is larger than the MTU, and passes a partial checksum on as it is, so
 * that ping works and TCP hangs (facts: tap-and-vsock.md; OVS's Documentation/topics/userspace-tso.rst). Pure.
 */
import type { Offload } from '../native.js';
import type { DatapathFacts } from '../ovs/bridge.js';

/** `uso`: `auto`, and UDP segmentation, which was corrupt in some kernels of the 7.0 and 7.1 series. */
export type OffloadMode = 'auto' | 'off' | 'uso';

const ALL: readonly Offload[] = ['checksum', 'tso4', 'tso6'];

export function offloadsFor(mode: OffloadMode, { datapathType, userspaceTso }: DatapathFacts): readonly Offload[] {
  if (mode === 'off') return [];
  if (datapathType === 'system') return mode === 'uso' ? [...ALL, 'uso'] : ALL;
  return datapathType === 'netdev' && userspaceTso ? ALL : [];
}
