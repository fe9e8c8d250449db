/** What a look at this host found: about what, on what evidence, and what mends it. `arca doctor` and `arca persistence check` tell it. */

export type Verdict =
  | 'ok'
  /** Worth knowing, and nothing to do. */
  | 'note'
  /** It works, and will not at some time, or not for all. */
  | 'warning'
  /** It does not work. */
  | 'problem'
  /** It could not be looked at; the evidence says why. Never said instead of `ok`. */
  | 'unknown';

export interface Finding {
  /** Of the check that found it: `tun-device`. */
  readonly id: string;
  readonly title: string;
  readonly verdict: Verdict;
  /** What it is about: a file, a daemon, a bridge, a port. */
  readonly subject: string;
  /** What was seen, in a sentence. */
  readonly evidence: string;
  /** The command or step that mends it. */
  readonly mend?: string;
}
