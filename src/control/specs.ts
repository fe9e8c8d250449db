/**
 * The border where networks and attachments come in: what is wrong with a specification, whatever the databases hold.
 * What comes back is in the one form in which it is written and compared. Pure.
 */
import type { AttachmentSpec, Network, NetworkSpec } from './model.js';

/** Throws `spec-invalid` with `details.property`. Names are as they are, addresses canonical, `dns` and `mtu` set. */
export declare function checkNetworkSpec(
  spec: NetworkSpec,
): NetworkSpec & { readonly dns: readonly string[]; readonly mtu: number };

/** Throws `spec-invalid` with `details.property`. MACs are in lower case. */
export declare function checkAttachmentSpec(spec: AttachmentSpec): AttachmentSpec;

/** Throws `spec-invalid` for an address that a container of that network can't have. */
export declare function checkAddress(address: string, network: Pick<Network, 'name' | 'subnet' | 'gateway'>): void;
