/** Who wants to know what happens. */
import type { ControlEvent } from './model.js';

/** A union's members without a key, each by itself. */
type Without<Union, Key extends PropertyKey> = Union extends unknown ? Omit<Union, Key> : never;

export type NewEvent = Without<ControlEvent, 'at'>;

export interface EventBus {
  /** Calls every listener, with the time put to it. */
  emit(event: NewEvent): void;
  subscribe(listener: (event: ControlEvent) => void): () => void;
}

export function createEventBus(): EventBus {
  const listeners = new Set<(event: ControlEvent) => void>();
  return {
    emit(event) {
      const dated = { at: new Date().toISOString(), ...event } as ControlEvent;
      for (const listener of [...listeners]) listener(dated);
    },
    subscribe(listener) {
      const entry = (event: ControlEvent): void => listener(event);
      listeners.add(entry);
      return () => listeners.delete(entry);
    },
  };
}
