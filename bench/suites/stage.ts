/** A stage is what stands while a part of a round runs; its tasks run one after the other. */
import type { MeasureInfo, Metrics, SuiteName } from '../model.js';
import type { Histogram } from '../stats.js';

export interface Outcome {
  readonly metrics: Metrics;
  readonly histogram?: Histogram;
}

export interface Task {
  readonly measure: string;
  readonly contender: string;
  run(): Promise<Outcome>;
}

export interface OpenStage {
  readonly tasks: readonly Task[];
  close(): Promise<void>;
}

export interface Stage {
  readonly name: string;
  readonly measures: readonly MeasureInfo[];
  /** Of a stage of links. */
  readonly mtu?: number;
  /** Opened anew in each round. */
  open(): Promise<OpenStage>;
}

/** Whether one of `suites` asks for it. */
export function isWanted(measure: MeasureInfo, suites: readonly SuiteName[]): boolean {
  return measure.suites.some((suite) => suites.includes(suite));
}

/** The same stage with these measures only; undefined: all of them. */
export function onlyMeasures(stage: Stage, ids: readonly string[] | undefined): Stage {
  if (ids === undefined) return stage;
  return {
    ...stage,
    measures: stage.measures.filter(({ id }) => ids.includes(id)),
    async open() {
      const open = await stage.open();
      return { ...open, tasks: open.tasks.filter(({ measure }) => ids.includes(measure)) };
    },
  };
}
