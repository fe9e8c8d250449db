/** ovs-vsctl's three options for `ssl:`, as every program of ours has them. */
import { Option } from 'commander';

export const PRIVATE_KEY = new Option('-p, --private-key <file>', 'for ssl:, with the next two');
export const CERTIFICATE = new Option('-c, --certificate <file>', 'of the private key');
export const CA_CERTIFICATE = new Option('-C, --ca-cert <file>', "of whoever signed the servers' certificates");
