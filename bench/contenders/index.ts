import type { Contender } from './contender.js';
import { openvpn, socat, vde } from './others.js';
import { arca, arcaBusyPoll, arcaPlain, batched, naive, veth } from './ours.js';

/** In the order of a round. The references come first. */
export const CONTENDERS: readonly Contender[] = [
  veth,
  naive,
  batched,
  arcaPlain,
  arca,
  arcaBusyPoll,
  vde,
  openvpn,
  socat,
];
